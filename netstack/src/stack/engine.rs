//! The stack without I/O: construction, and what the driver calls.

use super::core::Core;
use super::counters::Counters;
use super::effects::Effects;
use super::egress::send_unreachable;
use super::flow::QueueId;
use super::guest::{Guest, Rotation};
use super::iface::Interface;
use super::ingress;
use super::tcp::{ConnectionEnd, Destination, FastOpenCache, Scratch, Tcp};
use super::turn::{Arrival, Turn};
use crate::buffer::PacketBuf;
use crate::config::Config;
use crate::device::RxMeta;
use crate::error::Failure;
use crate::icmp::Unreachable;
use crate::ip::Cast;
use crate::reasons::DropReason;
use crate::tcp::CongestionRegistry;
use crate::time::Instant;
use crate::trace::{About, Trace};
use crate::wire::protocol;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// A TCP/IP stack without I/O, clock or threads: it is told the time with each call.
///
/// A driver hands packets to [`Engine::on_packet`], ends each batch with [`Engine::end_batch`],
/// calls [`Engine::on_timer`] at [`Engine::next_deadline`] and [`Engine::on_writable`] when a device
/// that was full takes packets again, and lets [`Batch::deliver`] do what is left after each.
/// Applications call the protocols, by [`Engine::with_tcp`], from any thread; those calls transmit
/// inline.
pub struct Engine {
    core: Core,
    tcp: Tcp,
    rotation: Rotation,
}

/// What a stack is given beside its settings and interfaces.
#[derive(Clone, Default)]
pub struct EngineSetup {
    /// Where the stack looks for Fast Open cookies, which other stacks may use too. Default none: it has
    /// a cache of its own.
    pub fast_open_cache: Option<Arc<FastOpenCache>>,
    /// The congestion controls that sockets can choose from, and [`Config::congestion`] can name.
    /// Default the built-in ones.
    pub congestion: CongestionRegistry,
    /// Who is told of everything that happens. Default none, which costs nothing.
    pub trace: Option<Arc<dyn Trace>>,
}

impl fmt::Debug for EngineSetup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineSetup")
            .field("fast_open_cache", &self.fast_open_cache)
            .field("congestion", &self.congestion)
            .field("trace", &self.trace.is_some())
            .finish()
    }
}

/// What a driver of a queue keeps from call to call: what the calls leave to do, and the memory for it.
#[derive(Default)]
pub struct Batch {
    effects: Effects,
    tcp: Scratch,
}

impl Batch {
    /// Nothing to do.
    pub fn new() -> Self {
        Self::default()
    }

    /// The buffer of the last packet, if nobody holds on to it.
    pub fn take_spare(&mut self) -> Option<PacketBuf> {
        self.effects.take_spare()
    }

    /// Whether packets were transmitted since the last [`Batch::deliver`].
    pub fn has_transmitted(&self) -> bool {
        self.effects.has_transmitted()
    }

    /// Does what is left to do: flushes devices, notifies the driver, calls observers, in this order.
    /// Call it with no lock held.
    pub fn deliver(&mut self, engine: &Engine) {
        self.tcp.release(&engine.core, engine.tcp.counters());
        engine.deliver(&mut self.effects);
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("effects", &self.effects).finish_non_exhaustive()
    }
}

impl Engine {
    /// A stack with these interfaces, and a loopback interface after them unless the configuration
    /// says otherwise. One with the name `lo` is that loopback interface.
    ///
    /// # Errors
    /// Of kind `InvalidInput` if a setting or an address makes no sense; any error of the operating
    /// system's random source.
    pub fn new(config: Config, interfaces: Vec<Interface>) -> io::Result<Arc<Self>> {
        Self::with_setup(config, interfaces, EngineSetup::default())
    }

    /// As [`Engine::new`], with what `setup` says.
    ///
    /// # Errors
    /// As [`Engine::new`]; of kind `InvalidInput`, too, if [`Config::congestion`] is not in the registry.
    pub fn with_setup(
        config: Config,
        interfaces: Vec<Interface>,
        setup: EngineSetup,
    ) -> io::Result<Arc<Self>> {
        let EngineSetup { fast_open_cache, congestion, trace } = setup;
        let core = Core::new(config, interfaces, trace)?;
        let tcp = Tcp::new(&core, fast_open_cache, &congestion)?;
        Ok(Arc::new(Self { core, tcp, rotation: Rotation::default() }))
    }

    /// What the protocols share: settings, interfaces, buffers.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// TCP, for what needs no turn.
    pub fn tcp(&self) -> &Tcp {
        &self.tcp
    }

    /// Calls `f` with TCP and a turn at `now`, and delivers what it leaves to do. Not to be called under
    /// a lock.
    #[inline]
    pub fn with_tcp<R>(&self, now: Instant, f: impl FnOnce(&Tcp, &mut Turn<'_>) -> R) -> R {
        let mut effects = Effects::default();
        let result = f(&self.tcp, &mut Turn::new(&self.core, now, &mut effects));
        self.deliver(&mut effects);
        result
    }

    /// A packet arrived on the queue `from`. Whatever it is, it is consumed.
    ///
    /// What connections answer waits for [`Engine::end_batch`], unless it must not.
    pub fn on_packet(&self, now: Instant, from: QueueId, packet: PacketBuf, meta: RxMeta, batch: &mut Batch) {
        let Batch { effects, tcp } = batch;
        let mut turn = Turn::new(&self.core, now, effects);
        ingress::receive(&mut turn, from, packet, meta, |turn, arrival| {
            self.on_datagram(turn, tcp, arrival);
        });
    }

    /// Hands a datagram to its protocol.
    #[inline]
    fn on_datagram(&self, turn: &mut Turn<'_>, scratch: &mut Scratch, arrival: Arrival<'_>) {
        match arrival.header.protocol {
            // TCP is spoken between two hosts (RFC 9293 §3.10.7, MUST-57).
            protocol::TCP if arrival.cast == Cast::Unicast => self.tcp.on_segment(turn, scratch, arrival),
            protocol::TCP => drop_datagram(turn, &arrival, DropReason::NotUnicast),
            protocol::ICMP if arrival.header.src.is_ipv4() => self.on_icmp(turn, &arrival),
            protocol::ICMPV6 if arrival.header.src.is_ipv6() => self.on_icmp(turn, &arrival),
            protocol::UDP => {
                self.core.counters().udp_no_ports.bump();
                drop_datagram(turn, &arrival, DropReason::NoSocket);
                send_unreachable(turn, &arrival, Unreachable::Port);
            }
            // RFC 8200 §4.7: nothing follows, and nobody is told.
            protocol::NO_NEXT_HEADER if arrival.header.src.is_ipv6() => {
                drop_datagram(turn, &arrival, DropReason::IpNoproto);
            }
            _ => {
                self.core.counters().in_unknown_protocols.bump();
                drop_datagram(turn, &arrival, DropReason::IpNoproto);
                send_unreachable(turn, &arrival, Unreachable::Protocol);
            }
        }
    }

    fn on_icmp(&self, turn: &mut Turn<'_>, arrival: &Arrival<'_>) {
        let Some(error) = ingress::on_icmp(turn, arrival) else { return };
        if error.quoted.protocol == protocol::TCP {
            self.tcp.on_icmp_error(turn, &error);
        } else {
            drop_datagram(turn, arrival, DropReason::IcmpUnhandled);
        }
    }

    /// All packets that there were are delivered: connections answer now, and those who wait are
    /// notified by [`Batch::deliver`].
    pub fn end_batch(&self, now: Instant, batch: &mut Batch) {
        let Batch { effects, tcp } = batch;
        self.tcp.end_batch(&mut Turn::new(&self.core, now, effects), tcp);
    }

    /// Does what is due at `now`. May be called early or late.
    pub fn on_timer(&self, now: Instant, batch: &mut Batch) {
        let mut turn = Turn::new(&self.core, now, &mut batch.effects);
        self.guests().into_iter().for_each(|guest| guest.on_timer(&mut turn));
        let expired = self.core.reassembly().lock().expire(now);
        if expired > 0 {
            ingress::drop_incomplete(&mut turn, DropReason::FragReasmTimeout, expired);
        }
    }

    /// The earliest deadline of the stack's own. Those of devices are the driver's to ask for.
    pub fn next_deadline(&self) -> Option<Instant> {
        let fragments = self.core.reassembly().lock().next_deadline();
        self.guests().into_iter().filter_map(Guest::next_deadline).chain(fragments).min()
    }

    /// The device takes packets of `queue` again: the sockets that wait for it send. Says whether it still
    /// takes some after that.
    pub fn on_writable(&self, now: Instant, queue: QueueId, batch: &mut Batch) -> bool {
        let mut turn = Turn::new(&self.core, now, &mut batch.effects);
        let number = self.core.queue_number(queue);
        // Who waits longest comes first within a protocol, and the protocols take turns.
        let takes = self.rotation.of(self.guests()).all(|guest| guest.on_writable(&mut turn, number));
        // To tell the driver would be to wake it for its own attempt, and so without end. Where one bit stands
        // for two queues, it is told.
        if self.core.queues().len() <= 64 {
            batch.effects.served(number);
        }
        takes
    }

    /// Whether sockets wait until `queue` takes packets.
    pub fn has_waiting(&self, queue: QueueId) -> bool {
        let number = self.core.queue_number(queue);
        self.guests().into_iter().any(|guest| guest.has_waiting(number))
    }

    /// The device is unusable: every socket of its interface fails with `error`.
    pub fn on_device_error(&self, now: Instant, queue: QueueId, error: &io::Error, batch: &mut Batch) {
        self.fail_interface(now, queue.interface, &Failure::from(error), &mut batch.effects);
    }

    fn fail_interface(&self, now: Instant, interface: u16, cause: &Failure, effects: &mut Effects) {
        if self.core.fail_interface(interface, cause) {
            let mut turn = Turn::new(&self.core, now, effects);
            self.guests().into_iter().for_each(|guest| guest.fail_interface(&mut turn, interface, cause));
            effects.interface_failed();
        }
    }

    /// Shuts the stack down: every connection is reset, and every call from now on fails with
    /// `error`.
    pub fn fail_all(&self, now: Instant, error: &io::Error) {
        let cause = Failure::from(error);
        if self.core.shut_down(&cause) {
            let mut effects = Effects::default();
            let mut turn = Turn::new(&self.core, now, &mut effects);
            self.guests().into_iter().for_each(|guest| guest.fail_all(&mut turn, &cause));
            self.deliver(&mut effects);
        }
    }

    /// Does what a call left to do.
    fn deliver(&self, effects: &mut Effects) {
        if let Some(failed) = effects.take_failed() {
            self.fail_interface(failed.at, failed.interface, &failed.cause, effects);
        }
        effects
            .deliver(&self.core, |number| self.guests().into_iter().any(|guest| guest.has_waiting(number)));
    }

    /// Whether nothing that was written on any socket is still unsent or unacknowledged.
    pub fn is_drained(&self) -> bool {
        self.guests().into_iter().all(Guest::is_drained)
    }

    /// The protocols.
    fn guests(&self) -> [&dyn Guest; 1] {
        [&self.tcp]
    }

    /// Gives buffers back that nothing needs any more.
    #[cfg(feature = "net")]
    pub(crate) fn trim_if_idle(&self) {
        self.tcp.trim_if_idle(&self.core);
    }

    /// How the last 256 connections ended, the latest last.
    pub fn recent_ends(&self) -> Vec<ConnectionEnd> {
        self.tcp.recent_ends()
    }

    /// What went on since the stack was built.
    pub fn counters(&self) -> Counters {
        Counters::of(self.core.counters(), self.tcp.counters())
    }

    /// What the stack remembers of the hosts that it talked to, in the order of their addresses: `ip
    /// tcp_metrics show` and the path MTUs of `ip route get`.
    pub fn destinations(&self, now: Instant) -> Vec<Destination> {
        let mut all = BTreeMap::<IpAddr, Destination>::new();
        for (address, mtu, used) in self.core.paths().all(now) {
            all.insert(address, Destination { mtu: Some(mtu), ..Destination::new(address, used) });
        }
        for (address, metrics, used) in self.tcp.metrics().all(now) {
            let known = all.entry(address).or_insert_with(|| Destination::new(address, used));
            (known.metrics, known.used) = (metrics, known.used.max(used));
        }
        all.into_values().collect()
    }

    /// What the stack remembers of one host.
    pub fn destination(&self, now: Instant, address: IpAddr) -> Option<Destination> {
        self.destinations(now).into_iter().find(|known| known.address == address)
    }

    /// Forgets what connections measured and the MTUs of all paths. Running connections keep theirs
    /// until they expire.
    pub fn forget_destinations(&self) {
        self.core.paths().clear();
        self.tcp.metrics().clear();
    }
}

fn drop_datagram(turn: &mut Turn<'_>, arrival: &Arrival<'_>, reason: DropReason) {
    let header = arrival.header;
    turn.dropped(reason, || About::hosts(header.dst, header.src));
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("core", &self.core).field("tcp", &self.tcp).finish_non_exhaustive()
    }
}
