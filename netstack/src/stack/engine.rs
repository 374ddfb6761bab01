//! The stack without I/O: its construction, and the calls of the driver.

use super::admission::Admission;
use super::core::Core;
use super::counters::Counters;
use super::echo;
use super::echo_queue::{EchoQueue, HeldEcho};
use super::effects::Effects;
use super::egress::send_unreachable;
use super::flow::QueueId;
use super::guest::{Guest, Rotation};
use super::hooks::Observer;
use super::iface::Interface;
use super::ingress;
use super::raw::Raw;
use super::tcp::{ConnectionEnd, Destination, FastOpenCache, Scratch, Tcp};
use super::turn::{Arrival, Turn};
use super::udp::Udp;
use crate::buffer::{PacketBuf, Pool};
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

/// A TCP/IP stack without I/O, clock or threads. Each call has the time as an argument.
///
/// A driver passes packets to [`Engine::on_packet`], ends each batch with [`Engine::end_batch`],
/// calls [`Engine::on_timer`] at [`Engine::next_deadline`] and [`Engine::on_writable`] when a full
/// device has room again, and calls [`Batch::deliver`] after each. Applications call the protocols,
/// by [`Engine::with_tcp`] and its kin, from any thread; those calls transmit inline.
pub struct Engine {
    core: Core,
    tcp: Tcp,
    udp: Udp,
    raw: Raw,
    rotation: Rotation,
}

/// The parameters of a stack in addition to its settings and interfaces.
#[derive(Clone, Default)]
pub struct EngineSetup {
    /// The cache of Fast Open cookies, which other stacks can share. Default none: the stack has
    /// its own cache.
    pub fast_open_cache: Option<Arc<FastOpenCache>>,
    /// The congestion controls that sockets and [`Config::congestion`] can select. Default the
    /// built-in ones.
    pub congestion: CongestionRegistry,
    /// The hook that receives all trace events. Default none, which costs nothing.
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

/// The state that a driver of a queue keeps between calls: the work that the calls have left, and
/// the memory for it.
#[derive(Default)]
pub struct Batch {
    effects: Effects,
    admission: Admission,
    tcp: Scratch,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// A buffer for the next packet: that of the last one, if it is not in use any more, or one from `pool`.
    #[inline]
    pub fn next_buffer(&mut self, pool: &Arc<Pool>) -> PacketBuf {
        self.effects.next_buffer(pool)
    }

    /// Takes a buffer back into which no packet was received.
    #[inline]
    pub fn keep_buffer(&mut self, unused: PacketBuf) {
        self.effects.recycle(unused);
    }

    /// The buffer of the last packet, if it is not in use any more.
    #[inline]
    pub fn take_spare(&mut self) -> Option<PacketBuf> {
        self.effects.take_spare()
    }

    /// Whether the batch should end, since it has filled more than half of a queue of datagrams. To receive
    /// more before their reader had a turn may lose some; packets that wait in the device instead hold back
    /// a sender on the same machine.
    pub fn is_crowded(&self) -> bool {
        self.effects.crowded
    }

    /// As [`Batch::is_crowded`], and forgets it.
    pub fn take_crowded(&mut self) -> bool {
        std::mem::take(&mut self.effects.crowded)
    }

    /// Whether packets were transmitted since the last [`Batch::deliver`].
    pub fn has_transmitted(&self) -> bool {
        self.effects.has_transmitted()
    }

    /// From now on the acknowledgment of a small request on a young connection, which is due at once, waits for the end
    /// of the next batch: where each packet is a system call, the application's answer carries it if that comes at once.
    /// The driver lets the applications have a turn, and ends another batch, whether or not a packet has come
    /// ([`Batch::has_held_back`]).
    pub fn let_answers_go_first(&mut self) {
        self.tcp.answers_first = true;
    }

    /// Whether acknowledgments wait for the end of the next batch.
    pub fn has_held_back(&self) -> bool {
        self.tcp.has_held_back()
    }

    /// Whether a packet that came in on `from` is one of the flow of the last segment, with nothing unusual about it.
    #[cfg(test)]
    pub(super) fn knows(&self, engine: &Engine, from: QueueId, packet: &PacketBuf, meta: &RxMeta) -> bool {
        self.tcp.next_of_flow(&engine.core, &self.admission, from, packet, meta).is_some()
    }

    /// Does the remaining work: flushes devices, notifies the driver, and calls observers, in this
    /// order. It must be called with no lock held.
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
    /// An error of kind `InvalidInput` if a setting or an address is invalid; any error of the
    /// operating system's random source.
    pub fn new(config: Config, interfaces: Vec<Interface>) -> io::Result<Arc<Self>> {
        Self::with_setup(config, interfaces, EngineSetup::default())
    }

    /// As [`Engine::new`], with the parameters of `setup`.
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
        let udp = Udp::new(&core);
        let raw = Raw::new(&core);
        Ok(Arc::new(Self { core, tcp, udp, raw, rotation: Rotation::default() }))
    }

    /// The shared state of the protocols: settings, interfaces, buffers.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// TCP, for calls that need no turn.
    pub fn tcp(&self) -> &Tcp {
        &self.tcp
    }

    /// Calls `f` with TCP and a turn at `now`, and does the work that it leaves. It must be called
    /// with no lock held.
    #[inline]
    pub fn with_tcp<R>(&self, now: Instant, f: impl FnOnce(&Tcp, &mut Turn<'_>) -> R) -> R {
        let mut effects = Effects::default();
        let result = f(&self.tcp, &mut Turn::new(&self.core, now, &mut effects));
        self.deliver(&mut effects);
        result
    }

    /// UDP, for calls that need no turn.
    pub fn udp(&self) -> &Udp {
        &self.udp
    }

    /// As [`Engine::with_tcp`], with UDP.
    #[inline]
    pub fn with_udp<R>(&self, now: Instant, f: impl FnOnce(&Udp, &mut Turn<'_>) -> R) -> R {
        let mut effects = Effects::default();
        let result = f(&self.udp, &mut Turn::new(&self.core, now, &mut effects));
        self.deliver(&mut effects);
        result
    }

    /// Ping and raw sockets, for calls that need no turn.
    pub fn raw(&self) -> &Raw {
        &self.raw
    }

    /// As [`Engine::with_tcp`], with ping and raw sockets.
    #[inline]
    pub fn with_raw<R>(&self, now: Instant, f: impl FnOnce(&Raw, &mut Turn<'_>) -> R) -> R {
        let mut effects = Effects::default();
        let result = f(&self.raw, &mut Turn::new(&self.core, now, &mut effects));
        self.deliver(&mut effects);
        result
    }

    /// Processes a packet that arrived on the queue `from`. The packet is always consumed.
    ///
    /// Connections send their answers in [`Engine::end_batch`], except for those that must not
    /// wait.
    pub fn on_packet(&self, now: Instant, from: QueueId, packet: PacketBuf, meta: RxMeta, batch: &mut Batch) {
        let Batch { effects, admission, tcp } = batch;
        let mut turn = Turn::new(&self.core, now, effects);
        if let Some(next) = tcp.next_of_flow(&self.core, admission, from, &packet, &meta) {
            turn.out.in_packets += 1;
            return self.tcp.on_next_of_flow(&mut turn, tcp, &next, packet);
        }
        let packet = ingress::Packet { from, buf: packet, meta };
        self.on_other_packet(&mut turn, admission, tcp, packet);
    }

    /// Processes a packet of which nothing is known.
    // Apart from the packets of one flow: those do not need its frame.
    #[inline(never)]
    fn on_other_packet(
        &self,
        turn: &mut Turn<'_>,
        admission: &mut Admission,
        scratch: &mut Scratch,
        packet: ingress::Packet,
    ) {
        ingress::receive(turn, admission, packet, |turn, arrival| {
            self.on_datagram(turn, scratch, arrival);
        });
    }

    /// Hands a datagram to its protocol.
    #[inline]
    fn on_datagram(&self, turn: &mut Turn<'_>, scratch: &mut Scratch, arrival: Arrival<'_>) {
        match arrival.header.protocol {
            // TCP is spoken between two hosts (RFC 9293 §3.10.7, MUST-57).
            protocol::TCP if arrival.cast == Cast::Unicast => self.tcp.on_segment(turn, scratch, arrival),
            protocol::TCP => drop_datagram(turn, &arrival, DropReason::NotUnicast),
            protocol::ICMP if arrival.header.src.is_ipv4() => self.on_icmp(turn, scratch, &arrival),
            protocol::ICMPV6 if arrival.header.src.is_ipv6() => self.on_icmp(turn, scratch, &arrival),
            protocol::UDP => {
                self.raw.on_packet(turn, &arrival);
                self.udp.on_datagram(turn, arrival);
            }
            _ if self.raw.on_packet(turn, &arrival) => {}
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

    fn on_icmp(&self, turn: &mut Turn<'_>, scratch: &mut Scratch, arrival: &Arrival<'_>) {
        self.tcp.release_joined(turn, scratch);
        self.raw.on_packet(turn, arrival);
        if self.raw.on_echo_reply(turn, arrival) {
            self.core.counters().icmp_in.bump();
            return;
        }
        let Some(error) = ingress::on_icmp(turn, arrival) else { return };
        let interface = arrival.from.interface;
        match error.quoted.protocol {
            protocol::TCP => self.tcp.on_icmp_error(turn, &error),
            protocol::UDP => self.udp.on_icmp_error(turn, interface, &error),
            protocol::ICMP | protocol::ICMPV6 => self.raw.on_icmp_error(turn, interface, &error),
            _ => drop_datagram(turn, arrival, DropReason::IcmpUnhandled),
        }
    }

    /// Ends a batch of packets: connections send their answers, and [`Batch::deliver`] notifies
    /// waiting sockets.
    #[inline]
    pub fn end_batch(&self, now: Instant, batch: &mut Batch) {
        let Batch { effects, tcp, .. } = batch;
        self.tcp.end_batch(&mut Turn::new(&self.core, now, effects), tcp);
    }

    /// Processes what is due at `now`. It may be called early or late.
    pub fn on_timer(&self, now: Instant, batch: &mut Batch) {
        let mut turn = Turn::new(&self.core, now, &mut batch.effects);
        self.guests().into_iter().for_each(|guest| guest.on_timer(&mut turn));
        let expired = self.core.reassembly().lock().expire(now);
        if expired > 0 {
            ingress::drop_incomplete(&mut turn, DropReason::FragReasmTimeout, expired);
        }
    }

    /// The earliest deadline of the stack itself. The driver has to check those of devices.
    pub fn next_deadline(&self) -> Option<Instant> {
        let fragments = self.core.reassembly().lock().next_deadline();
        self.guests().into_iter().filter_map(Guest::next_deadline).chain(fragments).min()
    }

    /// The device has room in `queue` again: sockets that wait for it send. Says whether it still
    /// takes some after that.
    pub fn on_writable(&self, now: Instant, queue: QueueId, batch: &mut Batch) -> bool {
        let mut turn = Turn::new(&self.core, now, &mut batch.effects);
        let number = self.core.queue_number(queue);
        // Who waits longest comes first within a protocol, and the protocols take turns.
        let takes = self.rotation.of(self.guests()).all(|guest| guest.on_writable(&mut turn, number));
        // To tell the driver would be to wake it for its own attempt, and so without end. Where one bit stands
        // for two queues, it is told.
        if self.core.interfaces().queue_count() <= 64 {
            batch.effects.served(number);
        }
        takes
    }

    /// Whether sockets wait for room in `queue`.
    pub fn has_waiting(&self, queue: QueueId) -> bool {
        let number = self.core.queue_number(queue);
        // Asked in each turn of a driver, so not through a table of methods.
        let Self { tcp, udp, raw, .. } = self;
        tcp.has_waiting(number) || udp.has_waiting(number) || raw.has_waiting(number)
    }

    /// Takes one more interface into use while the stack runs, and gives its number. Its queues have to be served
    /// from then on.
    ///
    /// # Errors
    /// `EEXIST` if there is an interface of this name or with one of its addresses; `ENOSPC` if the stack had some
    /// four thousand interfaces in its life; of kind `InvalidInput` as [`Engine::new`].
    pub fn add_interface(&self, interface: Interface) -> io::Result<u16> {
        self.core.check_alive()?;
        self.core.add_interface(interface, |queues| {
            self.guests().into_iter().for_each(|guest| guest.add_queues(queues));
        })
    }

    /// Takes an interface out of use, for good. Its connections and the sockets that are limited to it fail with
    /// `ENODEV`. Its number is not given to another.
    ///
    /// # Errors
    /// `EOPNOTSUPP` for the loopback interface; `ENODEV` if it was removed before.
    pub fn remove_interface(&self, now: Instant, interface: u16) -> io::Result<()> {
        let cause = Failure::os(libc::ENODEV);
        self.core.remove_interface(interface, &cause)?;
        let mut effects = Effects::default();
        let mut turn = Turn::new(&self.core, now, &mut effects);
        self.guests().into_iter().for_each(|guest| guest.remove_interface(&mut turn, interface, &cause));
        self.deliver(&mut effects);
        // Whoever still transmits does so before this, and nobody does after it.
        drop(self.core.interfaces().detach(interface));
        Ok(())
    }

    /// The device is unusable: every socket of its interface fails with `error`.
    pub fn on_device_error(&self, now: Instant, queue: QueueId, error: &io::Error, batch: &mut Batch) {
        self.fail_interface(now, queue.interface, &Failure::from(error), &mut batch.effects);
    }

    fn fail_interface(&self, now: Instant, interface: u16, cause: &Failure, effects: &mut Effects) {
        if self.core.fail_interface(interface, cause) {
            let mut turn = Turn::new(&self.core, now, effects);
            self.guests().into_iter().for_each(|guest| guest.fail_interface(&mut turn, interface, cause));
            effects.interface_failed(interface);
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

    /// Whether all data that was written on any socket has been sent and acknowledged.
    pub fn is_drained(&self) -> bool {
        self.guests().into_iter().all(Guest::is_drained)
    }

    /// The protocols.
    fn guests(&self) -> [&dyn Guest; 3] {
        [&self.tcp, &self.udp, &self.raw]
    }

    /// Starts to take the echo requests to addresses that an interface accepts for others, which
    /// [`Config::any_ip_echo`] leaves to the application. The observer is told when one is there.
    ///
    /// # Errors
    /// `EADDRINUSE` if somebody takes them already; of kind `InvalidInput` if the policy is another.
    pub fn forward_echo(&self, observer: Arc<dyn Observer>) -> io::Result<Arc<EchoQueue>> {
        echo::open(&self.core, observer)
    }

    /// Stops to take echo requests. Those that wait are dropped.
    pub fn close_echo(&self, queue: &Arc<EchoQueue>) {
        echo::close(&self.core, queue);
    }

    /// Answers an echo request: with the reply, or with an ICMP error, within the stack's limit for
    /// those.
    pub fn answer_echo(&self, now: Instant, request: &HeldEcho, error: Option<Unreachable>) {
        let mut effects = Effects::default();
        echo::answer(&mut Turn::new(&self.core, now, &mut effects), request, error);
        self.deliver(&mut effects);
    }

    /// What the stack holds at `now`, when everything that can be done has been done.
    ///
    /// # Errors
    /// What of its state is not consistent.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub fn inspect(&self, now: Instant) -> Result<super::Inspection, String> {
        let found = self.tcp.inspect(&self.core, now)?;
        Ok(super::Inspection { buffers: self.core.pool().in_use(), ..found })
    }

    /// What the stack holds for datagrams, when everything that can be done has been done.
    ///
    /// # Errors
    /// What of its state is not consistent.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub fn inspect_datagrams(&self) -> Result<super::UdpInspection, String> {
        self.udp.inspect(&self.core)
    }

    /// What each connection takes for received by its peer: its addresses, the peer's last, and ranges of
    /// sequence numbers.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    #[expect(clippy::type_complexity, reason = "one test reads it, in one place")]
    pub fn sacked(&self) -> Vec<(std::net::SocketAddr, std::net::SocketAddr, Vec<(u32, u32)>)> {
        self.tcp.sacked()
    }

    /// The histories of all connections in the table.
    #[cfg(feature = "simulation")]
    #[doc(hidden)]
    pub fn histories(&self) -> Vec<crate::trace::History> {
        self.tcp.histories()
    }

    /// Gives buffers back that nothing needs any more.
    #[cfg(feature = "net")]
    pub(crate) fn trim_if_idle(&self) {
        if self.udp.sockets() + self.raw.sockets() == 0 {
            self.tcp.trim_if_idle(&self.core);
        }
    }

    /// How the last 256 connections ended, the latest last.
    pub fn recent_ends(&self) -> Vec<ConnectionEnd> {
        self.tcp.recent_ends()
    }

    /// The counters since the stack was built.
    pub fn counters(&self) -> Counters {
        let mut counters = Counters::of(self.core.counters(), self.udp.counters(), self.tcp.counters());
        counters.memory_pressures = self.core.memory().pressures();
        counters
    }

    /// The metrics of the hosts that the stack has communicated with, in the order of their
    /// addresses: `ip tcp_metrics show` and the path MTUs of `ip route get`.
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

    /// The metrics of one host.
    pub fn destination(&self, now: Instant, address: IpAddr) -> Option<Destination> {
        self.destinations(now).into_iter().find(|known| known.address == address)
    }

    /// Clears the metrics and the MTUs of all paths. Open connections keep theirs until they
    /// expire.
    pub fn forget_destinations(&self) {
        self.core.forget_paths();
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
