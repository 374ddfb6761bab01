//! A listening socket: its half-open connections and those that wait for accept.

use super::cell::Cell;
use super::deadlines::{Target, Timer};
use super::demux::Keyed;
use super::effects::{Effects, Observer};
use super::engine::Engine;
use super::flow::{FlowKey, QueueId, give_back, present};
use super::lifecycle::Accepted;
use super::ports::Binding;
use crate::buffer::Chunk;
use crate::error::Failure;
use crate::sync::{Mutex, Rank};
use crate::tcp::{Events, Segment, SeqNum, SocketOptions, SynEntry, SynStep, SynTimeout};
use crate::time::Instant;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

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
    observer: Arc<dyn Observer>,
    state: Mutex<State>,
}

/// What the lock guards.
#[derive(Debug)]
struct State {
    options: SocketOptions,
    ttl: u8,
    traffic_class: u8,
    /// Limit of both queues, `listen(2)`'s argument bounded by `somaxconn`.
    backlog: usize,
    half_open: HashMap<FlowKey, HalfOpen, Keyed>,
    accept_queue: VecDeque<Arc<Cell>>,
    /// None once closed.
    binding: Option<Binding>,
    /// What accept reports for ever, once the interface or the stack is gone.
    failure: Option<Failure>,
}

/// A connection of which only the SYN is known.
#[derive(Debug)]
struct HalfOpen {
    entry: SynEntry,
    iss: SeqNum,
    timer: Timer,
    queue: QueueId,
}

/// What a new listener is made of.
pub(crate) struct ListenerParts {
    pub(crate) id: u64,
    pub(crate) mapped: bool,
    pub(crate) options: SocketOptions,
    pub(crate) ttl: u8,
    pub(crate) traffic_class: u8,
    pub(crate) backlog: usize,
    pub(crate) binding: Binding,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) keyed: Keyed,
}

/// What is to do for a segment once the listener has looked at it.
enum Verdict {
    Done,
    /// The listener is closed: the segment belongs to nobody.
    Closed,
    /// Answer with a reset (RFC 9293 §3.10.7.2).
    Reset,
}

impl Listener {
    pub(crate) fn new(parts: ListenerParts) -> Arc<Self> {
        let ListenerParts { id, mapped, options, ttl, traffic_class, backlog, binding, observer, keyed } =
            parts;
        let claim = *binding.claim();
        let port = binding.port();
        let state = State {
            options,
            ttl,
            traffic_class,
            backlog,
            half_open: HashMap::with_hasher(keyed),
            accept_queue: VecDeque::new(),
            binding: Some(binding),
            failure: None,
        };
        Arc::new(Self {
            id,
            address: claim.address,
            port,
            dual_stack: claim.dual_stack,
            mapped,
            interface: claim.interface,
            observer,
            state: Mutex::new(Rank::Listener, state),
        })
    }

    /// The address that it listens on; the unspecified address stays what it is.
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(present(self.address, self.mapped), self.port)
    }

    /// What poll(2) would say now: readable if a connection waits.
    pub fn readiness(&self) -> Events {
        let state = self.state.lock();
        match (&state.failure, state.accept_queue.is_empty()) {
            (Some(_), _) => Events::READABLE | Events::ERROR,
            (None, false) => Events::READABLE,
            (None, true) => Events::NONE,
        }
    }

    /// Connections that wait for accept.
    pub fn accept_queue_len(&self) -> usize {
        self.state.lock().accept_queue.len()
    }

    /// Half-open connections.
    pub fn syn_queue_len(&self) -> usize {
        self.state.lock().half_open.len()
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

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn address(&self) -> IpAddr {
        self.address
    }

    pub(crate) fn observer(&self) -> Option<&dyn Observer> {
        Some(&*self.observer)
    }

    /// How well the listener fits a segment to `local` that came in on `interface`; none if not.
    pub(crate) fn score(&self, local: IpAddr, interface: u16) -> Option<u8> {
        if self.interface.is_some_and(|bound| bound != interface) {
            return None;
        }
        let device = u8::from(self.interface.is_some());
        let address = if self.address == local {
            2
        } else if !self.address.is_unspecified() {
            return None;
        } else if self.address.is_ipv4() == local.is_ipv4() {
            1
        } else if self.dual_stack {
            0
        } else {
            return None;
        };
        // A binding to the device weighs less than one to the address (compute_score in Linux).
        Some(address * 2 + device)
    }

    /// Whether connections to it are IPv4 in the eyes of an IPv6 socket.
    fn maps(&self, key: &FlowKey) -> bool {
        !key.is_ipv6() && (self.mapped || self.address.is_ipv6())
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("local", &self.local_addr()).finish_non_exhaustive()
    }
}

/// A segment for a listener, with where it came from.
pub(crate) struct ToListener<'a> {
    pub(crate) key: FlowKey,
    pub(crate) queue: QueueId,
    pub(crate) segment: &'a Segment,
    /// The initial sequence number to use, if the SYN took over a TIME-WAIT entry.
    pub(crate) iss: Option<SeqNum>,
}

impl Engine {
    /// A segment for which there is a listener but no connection (RFC 9293 §3.10.7.2).
    pub(super) fn on_listener_segment(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        to: &ToListener<'_>,
        payload: Chunk,
        out: &mut Effects,
    ) {
        let verdict = {
            let mut state = listener.state.lock();
            if state.binding.is_none() {
                Verdict::Closed
            } else if state.half_open.contains_key(&to.key) {
                self.on_half_open_segment(now, listener, &mut state, to, payload, out)
            } else {
                self.on_first_segment(now, listener, &mut state, to, out)
            }
        };
        match verdict {
            Verdict::Done => {}
            Verdict::Closed | Verdict::Reset => self.reset_unknown(now, to.queue, &to.key, to.segment, out),
        }
    }

    fn on_first_segment(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        state: &mut State,
        to: &ToListener<'_>,
        out: &mut Effects,
    ) -> Verdict {
        let segment = to.segment;
        if segment.is_rst() {
            return Verdict::Done;
        }
        if segment.is_ack() {
            return Verdict::Reset;
        }
        // Linux drops a SYN with FIN, which only scanners send.
        if !segment.is_syn() || segment.is_fin() {
            return Verdict::Done;
        }
        let counters = self.counters_live();
        if state.accept_queue.len() > state.backlog {
            counters.listen_overflows.bump();
            counters.listen_drops.bump();
            return Verdict::Done;
        }
        // The last quarter of max_syn_backlog stays free for peers known to exist, which are not
        // known here yet (tcp_conn_request without SYN cookies).
        let limit = self.config().max_syn_backlog as usize;
        if state.half_open.len() > state.backlog || state.half_open.len() >= limit - limit / 4 {
            counters.syn_queue_drops.bump();
            counters.listen_drops.bump();
            return Verdict::Done;
        }
        if self.is_full() {
            counters.listen_drops.bump();
            return Verdict::Done;
        }
        let iss = to.iss.unwrap_or_else(|| self.isn(now, &to.key));
        let path = self.path(now, to.queue.interface, to.key.remote);
        let ts_offset = self.timestamp_offset(&to.key);
        let entry = SynEntry::new(now, segment, iss, ts_offset, path, &state.options, self.config());
        let syn_ack = entry.syn_ack(now);
        self.send_from_listener(now, state, to.queue, &to.key, &syn_ack, out);
        let mut half_open = HalfOpen { entry, iss, timer: Timer::default(), queue: to.queue };
        self.arm_half_open(listener, &to.key, &mut half_open, out);
        state.half_open.insert(to.key, half_open);
        Verdict::Done
    }

    fn on_half_open_segment(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        state: &mut State,
        to: &ToListener<'_>,
        payload: Chunk,
        out: &mut Effects,
    ) -> Verdict {
        let Some(half_open) = state.half_open.get_mut(&to.key) else { return Verdict::Done };
        half_open.queue = to.queue;
        match half_open.entry.on_segment(now, to.segment, self.config()) {
            SynStep::Ignore => {}
            SynStep::Reply(reply) => {
                self.arm_half_open(listener, &to.key, half_open, out);
                self.send_from_listener(now, state, to.queue, &to.key, &reply, out);
            }
            SynStep::Remove => self.drop_half_open(state, &to.key),
            SynStep::Establish if state.accept_queue.len() > state.backlog => {
                let counters = self.counters_live();
                counters.listen_overflows.bump();
                counters.listen_drops.bump();
                // tcp_check_req: by default the client is left to believe that it is connected, and
                // its next segment, or the repeated SYN-ACK, gives it another chance.
                if self.config().abort_on_overflow {
                    counters.abort_on_overflow.bump();
                    self.drop_half_open(state, &to.key);
                    return Verdict::Reset;
                }
            }
            SynStep::Establish => self.establish(now, listener, state, to, payload, out),
        }
        Verdict::Done
    }

    /// The third segment of the handshake is there: makes a connection and puts it into the accept
    /// queue.
    fn establish(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        state: &mut State,
        to: &ToListener<'_>,
        payload: Chunk,
        out: &mut Effects,
    ) {
        let Some(mut half_open) = state.half_open.remove(&to.key) else { return };
        give_back(&mut state.half_open);
        self.disarm(&mut half_open.timer);
        let Some(binding) = state.binding.as_ref().map(|binding| binding.child(to.key.local)) else { return };
        let connection =
            half_open.entry.establish(now, to.segment, &state.options, self.config(), self.pool());
        let cell = self.accepted_cell(Accepted {
            key: to.key,
            mapped: listener.maps(&to.key),
            queue: to.queue,
            ttl: state.ttl,
            traffic_class: state.traffic_class,
            connection,
            binding,
            options: state.options.clone(),
        });
        if self.adopt(now, &cell, to.segment, payload, out) {
            self.counters_live().passive_opens.bump();
            state.accept_queue.push_back(cell);
            out.notify_listener(listener, Events::READABLE);
        }
    }

    fn arm_half_open(
        &self,
        listener: &Arc<Listener>,
        key: &FlowKey,
        half_open: &mut HalfOpen,
        out: &mut Effects,
    ) {
        let target = || Target::HalfOpen(Arc::downgrade(listener), *key);
        out.deadline_moved(self.deadlines().arm(&mut half_open.timer, half_open.entry.deadline(), target));
    }

    fn drop_half_open(&self, state: &mut State, key: &FlowKey) {
        if let Some(mut half_open) = state.half_open.remove(key) {
            give_back(&mut state.half_open);
            self.disarm(&mut half_open.timer);
        }
    }

    fn send_from_listener(
        &self,
        now: Instant,
        state: &State,
        queue: QueueId,
        key: &FlowKey,
        segment: &Segment,
        out: &mut Effects,
    ) {
        self.send_segment(now, queue, key, (state.ttl, state.traffic_class), segment, out);
    }

    /// The deadline of a half-open connection.
    pub(super) fn on_half_open_deadline(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        key: &FlowKey,
        out: &mut Effects,
    ) {
        let mut state = listener.state.lock();
        let Some(half_open) = state.half_open.get_mut(key) else { return };
        half_open.timer.fired();
        let step = if half_open.entry.deadline() <= now {
            half_open.entry.on_timeout(now, self.config())
        } else {
            SynTimeout::Nothing
        };
        if matches!(step, SynTimeout::GiveUp) {
            self.counters_live().syn_timeouts.bump();
            self.drop_half_open(&mut state, key);
            return;
        }
        self.arm_half_open(listener, key, half_open, out);
        if let SynTimeout::Retransmit(segment) = step {
            let queue = half_open.queue;
            self.send_from_listener(now, &state, queue, key, &segment, out);
        }
    }

    /// An ICMP error about a SYN-ACK ends the half-open connection, if it quotes the right number
    /// (tcp_req_err in Linux).
    pub(super) fn on_half_open_icmp(&self, listener: &Arc<Listener>, key: &FlowKey, seq: SeqNum) {
        let mut state = listener.state.lock();
        if state.half_open.get(key).is_some_and(|half_open| half_open.iss == seq) {
            self.counters_live().listen_drops.bump();
            self.drop_half_open(&mut state, key);
        }
    }

    /// Takes the connection that has waited longest.
    pub(super) fn pop_accept_queue(&self, listener: &Listener) -> Result<Option<Arc<Cell>>, Failure> {
        let mut state = listener.state.lock();
        match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => {
                let first = state.accept_queue.pop_front();
                if state.accept_queue.is_empty() {
                    state.accept_queue.shrink_to(16);
                }
                Ok(first)
            }
        }
    }

    /// Ends a listener: frees the port, forgets half-open connections, and returns those that wait
    /// for accept, to be reset.
    pub(super) fn empty_listener(
        &self,
        listener: &Arc<Listener>,
        failure: Option<Failure>,
    ) -> VecDeque<Arc<Cell>> {
        self.demux().remove_listener(listener);
        let mut state = listener.state.lock();
        state.binding = None;
        state.failure = failure;
        for (_, mut half_open) in state.half_open.drain() {
            self.deadlines().disarm(&mut half_open.timer);
        }
        std::mem::take(&mut state.accept_queue)
    }
}
