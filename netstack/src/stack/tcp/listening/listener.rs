//! A listening socket: its address, its options, and its two queues. The processing of segments for
//! the SYN queue is in [`half_open`](super::half_open).

use super::half_open::SynQueue;
use super::overflow::Overflow;
use super::pending_syn::PendingSyn;
use crate::config::Config;
use crate::error::Failure;
use crate::ip::{AddressKind, Cidr};
use crate::memory::Memory;
use crate::readiness::Events;
use crate::stack::core::Core;
use crate::stack::counters::{Counter, TcpCounters};
use crate::stack::crowd::{Bound, Member};
use crate::stack::flow::{FlowKey, present};
use crate::stack::hooks::{Observer, Subject};
use crate::stack::ports::Binding;
use crate::stack::tcp::cell::Cell;
use crate::stack::tcp::fast_open_queue::FastOpenQueue;
use crate::stack::tcp::send::Marks;
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::tcp::{SocketOptions, SynRetries};
use crate::time::Instant;
use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A listening socket.
pub struct Listener {
    id: u64,
    address: IpAddr,
    port: u16,
    /// `::` without `IPV6_V6ONLY`.
    dual_stack: bool,
    /// An IPv6 socket bound to an IPv4 address.
    mapped: bool,
    /// `SO_BINDTODEVICE`.
    interface: Option<u16>,
    syn_policy: SynPolicy,
    is_forwarder: bool,
    observer: Arc<dyn Observer>,
    overflow: Arc<Overflow>,
    /// Connections that Fast Open made and whose handshake is not over.
    fast_open: Arc<FastOpenQueue>,
    /// `SyncookiesFailed`, which is counted without the lock.
    cookies_failed: AtomicU64,
    state: Mutex<ListenerState>,
}

/// The state of the socket: what the lock guards.
#[derive(Debug)]
pub(super) struct ListenerState {
    pub(super) options: SocketOptions,
    pub(super) ttl: u8,
    pub(super) traffic_class: u8,
    /// Limit of both queues, `listen(2)`'s argument bounded by `somaxconn`.
    pub(super) backlog: usize,
    pub(super) syn_queue: SynQueue,
    pub(super) accept_queue: VecDeque<Arc<Cell>>,
    /// SYNs that nobody has taken to decide about; each is in the SYN queue too.
    pub(super) pending: VecDeque<Arc<PendingSyn>>,
    /// None once closed.
    pub(super) place: Option<Place>,
    /// What accept reports for ever, once the interface or the stack is gone.
    pub(super) failure: Option<Failure>,
    pub(super) counters: ListenerCounters,
    /// When something was last done to a half-open connection.
    pub(super) latest: Instant,
}

impl ListenerState {
    /// Whether the accept queue takes no more (sk_acceptq_is_full in Linux: `backlog + 1` fit).
    pub(super) fn accept_queue_is_full(&self) -> bool {
        self.accept_queue.len() > self.backlog
    }

    /// Whether the SYN queue takes no more, unless the peer is known to exist.
    pub(super) fn syn_queue_is_full(&self) -> bool {
        self.syn_queue.len() > self.backlog
    }

    /// What the IP headers of the listener's segments say.
    pub(super) fn marks(&self) -> Marks {
        Marks { ttl: self.ttl, traffic_class: self.traffic_class }
    }

    /// How often SYN-ACKs are repeated at the moment.
    pub(super) fn retries(&self, config: &Config) -> SynRetries {
        SynRetries {
            limit: self.syn_queue.retries(self.backlog, config),
            defer_accept: self.options.defer_accept,
        }
    }
}

/// A snapshot of the queues of a listener, as `ss -lnt` shows them, and its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerQueues {
    /// Connections that wait for `accept` (Recv-Q).
    pub accept_queue: usize,
    /// The backlog (Send-Q). The accept queue and the SYN queue each have room for one connection
    /// more than this.
    pub backlog: usize,
    /// Half-open connections.
    pub syn_queue: usize,
    /// Those of them whose SYN-ACK has not timed out yet.
    pub syn_queue_young: usize,
    /// The counters of the listener.
    pub counters: ListenerCounters,
}

/// The counters of one listener, with the names of `netstat -s`.
/// [`Counters`](crate::stack::Counters) has the sums for the stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ListenerCounters {
    /// Connections that completed.
    pub passive_opens: u64,
    /// SYNs and connections that found the accept queue full.
    pub listen_overflows: u64,
    /// SYNs and connections dropped for any reason.
    pub listen_drops: u64,
    /// SYNs dropped because the SYN queue was full: TCPReqQFullDrop.
    pub syn_queue_drops: u64,
    /// SYNs that were answered with a cookie because the SYN queue was full: TCPReqQFullDoCookies.
    pub syn_queue_cookies: u64,
    /// SYN cookies sent.
    pub syncookies_sent: u64,
    /// Valid SYN cookies that were received: SyncookiesRecv.
    pub syncookies_received: u64,
    /// Acknowledgments without a valid SYN cookie.
    pub syncookies_failed: u64,
    /// Retransmitted SYN-ACKs: TCPSynRetrans.
    pub syn_retransmits: u64,
    /// Acknowledgments without data that were ignored because of `TCP_DEFER_ACCEPT`.
    pub defer_accept_drops: u64,
    /// Half-open connections that ended with a reset: EmbryonicRsts.
    pub embryonic_resets: u64,
}

/// What is counted for a listener and for its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tally {
    PassiveOpen,
    Overflow,
    Drop,
    SynQueueDrop,
    SynQueueCookie,
    CookieSent,
    CookieReceived,
    SynRetransmit,
    DeferAcceptDrop,
    EmbryonicReset,
}

impl Tally {
    /// Counts one.
    pub(super) fn count(self, listener: &mut ListenerCounters, stack: &TcpCounters) {
        let (own, all): (&mut u64, &Counter) = match self {
            Self::PassiveOpen => (&mut listener.passive_opens, &stack.passive_opens),
            Self::Overflow => (&mut listener.listen_overflows, &stack.listen_overflows),
            Self::Drop => (&mut listener.listen_drops, &stack.listen_drops),
            Self::SynQueueDrop => (&mut listener.syn_queue_drops, &stack.syn_queue_drops),
            Self::SynQueueCookie => (&mut listener.syn_queue_cookies, &stack.syn_queue_cookies),
            Self::CookieSent => (&mut listener.syncookies_sent, &stack.syncookies_sent),
            Self::CookieReceived => (&mut listener.syncookies_received, &stack.syncookies_received),
            Self::SynRetransmit => (&mut listener.syn_retransmits, &stack.syn_retransmits),
            Self::DeferAcceptDrop => (&mut listener.defer_accept_drops, &stack.defer_accept_drops),
            Self::EmbryonicReset => (&mut listener.embryonic_resets, &stack.embryonic_resets),
        };
        *own += 1;
        all.bump();
    }
}

/// What a listener accepts.
#[derive(Debug)]
pub(crate) enum Place {
    /// Connections to a port.
    Port(Binding),
    /// Those that no listener accepts, to all addresses and ports: it claims none of them. It may be
    /// limited to an interface.
    Forwarder { interface: Option<u16> },
}

impl Place {
    /// Address, port, whether the address means both families, and interface.
    fn accepts(&self) -> (IpAddr, u16, bool, Option<u16>) {
        match self {
            Self::Port(binding) => {
                let claim = binding.claim();
                (claim.address, binding.port(), claim.dual_stack, claim.interface)
            }
            Self::Forwarder { interface } => (Ipv6Addr::UNSPECIFIED.into(), 0, true, *interface),
        }
    }

    /// The claim of a connection that was accepted at `address`.
    pub(super) fn child(&self, address: IpAddr) -> Option<Binding> {
        match self {
            Self::Port(binding) => Some(binding.child(address)),
            Self::Forwarder { .. } => None,
        }
    }
}

/// Who answers a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SynPolicy {
    /// The stack, at once.
    Answer,
    /// The application decides; until then the SYN is held.
    Hold,
}

/// What a new listener is made of.
pub(crate) struct ListenerParts {
    pub(crate) id: u64,
    pub(crate) mapped: bool,
    pub(crate) options: SocketOptions,
    pub(crate) ttl: u8,
    pub(crate) traffic_class: u8,
    pub(crate) backlog: usize,
    pub(crate) syn_policy: SynPolicy,
    pub(crate) place: Place,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) overflow: Arc<Overflow>,
}

impl Listener {
    pub(crate) fn new(parts: ListenerParts) -> Arc<Self> {
        let ListenerParts { id, mapped, options, ttl, traffic_class, backlog, .. } = parts;
        let ListenerParts { syn_policy, place, observer, memory, overflow, .. } = parts;
        let (address, port, dual_stack, interface) = place.accepts();
        let is_forwarder = matches!(place, Place::Forwarder { .. });
        let state = ListenerState {
            options,
            ttl,
            traffic_class,
            backlog,
            syn_queue: SynQueue::new(&memory),
            accept_queue: VecDeque::new(),
            pending: VecDeque::new(),
            place: Some(place),
            failure: None,
            counters: ListenerCounters::default(),
            latest: Instant::ZERO,
        };
        Arc::new(Self {
            id,
            address,
            port,
            dual_stack,
            mapped,
            interface,
            is_forwarder,
            syn_policy,
            observer,
            overflow,
            fast_open: FastOpenQueue::new(),
            cookies_failed: AtomicU64::new(0),
            state: Mutex::new(Rank::Listener, state),
        })
    }

    /// The address that it listens on, which can be the unspecified address.
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(present(self.address, self.mapped), self.port)
    }

    /// The current readiness, as poll(2) reports it: readable if a connection waits.
    pub fn readiness(&self) -> Events {
        let state = self.state.lock();
        match (&state.failure, state.accept_queue.is_empty() && state.pending.is_empty()) {
            (Some(_), _) => Events::READABLE | Events::ERROR,
            (None, false) => Events::READABLE,
            (None, true) => Events::NONE,
        }
    }

    /// The number of connections that wait for `accept`.
    pub fn accept_queue_len(&self) -> usize {
        self.state.lock().accept_queue.len()
    }

    /// Half-open connections.
    pub fn syn_queue_len(&self) -> usize {
        self.state.lock().syn_queue.len()
    }

    /// A snapshot of both queues, and the counters of the listener.
    pub fn queues(&self) -> ListenerQueues {
        let state = self.state.lock();
        ListenerQueues {
            accept_queue: state.accept_queue.len(),
            backlog: state.backlog,
            syn_queue: state.syn_queue.len(),
            syn_queue_young: state.syn_queue.young(),
            counters: ListenerCounters {
                syncookies_failed: self.cookies_failed.load(Ordering::Relaxed),
                ..state.counters
            },
        }
    }

    /// The number of Fast Open connections that wait for the third segment of their handshake,
    /// including those that were reset before it arrived, which count for a while (RFC 7413 §5.1).
    pub fn fast_open_queue_len(&self) -> usize {
        self.fast_open.len()
    }

    /// The options that connections start with.
    pub fn options(&self) -> SocketOptions {
        self.state.lock().options.clone()
    }

    /// Changes the options that later connections start with.
    pub fn with_options<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> R {
        change(&mut self.state.lock().options)
    }

    /// `IP_TTL`, or the hop limit.
    pub fn ttl(&self) -> u8 {
        self.state.lock().ttl
    }

    /// Sets the time to live; later connections inherit it.
    pub fn set_ttl(&self, ttl: u8) {
        self.state.lock().ttl = ttl;
    }

    /// `IP_TOS` or `IPV6_TCLASS`.
    pub fn traffic_class(&self) -> u8 {
        self.state.lock().traffic_class
    }

    /// Sets the traffic class; later connections inherit it.
    pub fn set_traffic_class(&self, class: u8) {
        self.state.lock().traffic_class = class & !3;
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ListenerState> {
        self.state.lock()
    }

    /// Counts acknowledgments that were no cookies.
    pub(in crate::stack::tcp) fn cookies_failed(&self, count: u64) {
        self.cookies_failed.fetch_add(count, Ordering::Relaxed);
    }

    /// Whether the application decides about each SYN.
    pub(super) fn holds_syns(&self) -> bool {
        self.syn_policy == SynPolicy::Hold
    }

    /// Whether it accepts what no listener does.
    pub(in crate::stack::tcp) fn is_forwarder(&self) -> bool {
        self.is_forwarder
    }

    pub(super) fn fast_open(&self) -> &Arc<FastOpenQueue> {
        &self.fast_open
    }

    pub(in crate::stack::tcp) fn overflow(&self) -> &Arc<Overflow> {
        &self.overflow
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Connections that can be accepted although the listener has ended.
    pub(in crate::stack::tcp) fn keep(&self, cells: impl Iterator<Item = Arc<Cell>>) {
        self.lock().accept_queue.extend(cells);
    }

    /// The interface that it is limited to.
    pub(in crate::stack::tcp) fn interface(&self) -> Option<u16> {
        self.interface
    }

    /// Why nobody from outside reaches it any more: every interface that leads to it is gone. The loopback
    /// interface does not count for a listener at all addresses, which waits for others.
    pub(in crate::stack::tcp) fn cut_off<'c>(&self, core: &'c Core) -> Option<&'c Failure> {
        let everywhere = self.interface.is_none() && self.address.is_unspecified();
        let leads_here = |interface: u16| match self.interface {
            Some(bound) => bound == interface,
            None if everywhere && core.is_loopback(interface) => false,
            None => {
                let leads = |cidr: &Cidr| self.takes(cidr.address(), interface);
                core.routes().any_address(interface, leads) || self.takes_any_ip_of(core, interface)
            }
        };
        // One that was removed counts only for who is limited to it: others may be added.
        if let Some(bound) = self.interface.filter(|bound| core.is_removed(*bound)) {
            return core.interface_failure(bound);
        }
        let mut cause = None;
        for interface in core.interfaces().numbers().filter(|interface| leads_here(*interface)) {
            cause = Some(core.interface_failure(interface)?);
        }
        cause
    }

    /// Whether connections to addresses that `interface` accepts by any-IP can come to it.
    fn takes_any_ip_of(&self, core: &Core, interface: u16) -> bool {
        let addresses = core.addresses();
        if !self.address.is_unspecified() {
            return addresses.classify(self.address, Some(interface)) == AddressKind::AnyIp;
        }
        addresses.accepts_any_ip(interface, self.address)
            || self.dual_stack && addresses.accepts_any_ip(interface, Ipv4Addr::UNSPECIFIED.into())
    }

    /// Whether the listener takes a segment to `local` that came in on `interface`.
    #[inline]
    pub(crate) fn takes(&self, local: IpAddr, interface: u16) -> bool {
        let any = || {
            self.address.is_unspecified() && (self.address.is_ipv4() == local.is_ipv4() || self.dual_stack)
        };
        self.interface.is_none_or(|bound| bound == interface) && (self.address == local || any())
    }

    /// Whether connections to it are IPv4 in the eyes of an IPv6 socket.
    pub(in crate::stack::tcp) fn maps(&self, key: &FlowKey) -> bool {
        !key.is_ipv6() && !self.is_forwarder && (self.mapped || self.address.is_ipv6())
    }
}

impl Member for Arc<Listener> {
    fn bound(&self) -> Bound {
        Bound { address: self.address, peer: None, interface: self.interface }
    }

    fn dual_stack(&self) -> bool {
        self.dual_stack
    }

    /// Nothing else lets two of them listen at one place.
    fn reuse_port(&self) -> bool {
        true
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("local", &self.local_addr()).finish_non_exhaustive()
    }
}

impl Subject for Listener {
    fn observer(&self) -> Option<&dyn Observer> {
        Some(&*self.observer)
    }
}
