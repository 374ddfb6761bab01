//! Connections between SYN and accept: the SYN queue of a listener, and what segments, time and ICMP
//! do to it (tcp_conn_request, tcp_check_req and reqsk_timer_handler in Linux).

use super::cell::Cell;
use super::deadlines::{Target, Timer};
use super::demux::Keyed;
use super::effects::Effects;
use super::engine::Engine;
use super::fast_open::{FastOpenQueue, FastOpenVerdict};
use super::flow::{FlowKey, QueueId, give_back};
use super::lifecycle::Accepted;
use super::listener::{Listener, State, Tally};
use super::pending::{Arrival, PendingSyn};
use crate::buffer::Chunk;
use crate::config::{Config, SynCookieMode};
use crate::readiness::Events;
use crate::tcp::{Connection, PassiveEnd, SocketOptions, SynEntry, SynParts, SynStep, SynTimeout, TcpError};
use crate::time::Instant;
use crate::wire::{FastOpenOption, Segment, SeqNum};
use std::collections::HashMap;
use std::sync::Arc;

/// The half-open connections of one listener.
#[derive(Debug)]
pub(super) struct SynQueue {
    entries: HashMap<FlowKey, HalfOpen, Keyed>,
    /// Entries whose SYN-ACK has not timed out yet.
    young: usize,
}

/// A connection of which only the SYN is known.
#[derive(Debug)]
pub(super) struct HalfOpen {
    pub(super) entry: SynEntry,
    pub(super) timer: Timer,
    pub(super) queue: QueueId,
    /// Who is told how it ends, if the application decides.
    pub(super) asked: Option<Arc<PendingSyn>>,
}

/// What the last segment of a handshake made.
struct Completed {
    connection: Box<Connection>,
    /// What the segment carried.
    payload: Chunk,
    /// Who waits for the connection; if nobody in particular, it goes to the accept queue.
    asked: Option<Arc<PendingSyn>>,
}

impl SynQueue {
    pub(super) fn new(keyed: Keyed) -> Self {
        Self { entries: HashMap::with_hasher(keyed), young: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn young(&self) -> usize {
        self.young
    }

    /// How often a SYN-ACK is sent again at the moment. Half of the room is kept for young entries:
    /// the more old ones there are, the fewer chances they get (reqsk_timer_handler in Linux).
    pub(super) fn retries(&self, backlog: usize, config: &Config) -> u32 {
        let mut retries = config.synack_retries;
        if 2 * self.len() > backlog.max(8) {
            let mut young = 2 * self.young;
            while retries > 2 && self.len() >= young {
                retries -= 1;
                young *= 2;
            }
        }
        retries
    }

    fn insert(&mut self, key: FlowKey, half_open: HalfOpen) {
        self.young += usize::from(half_open.entry.is_young());
        self.entries.insert(key, half_open);
    }

    fn remove(&mut self, key: &FlowKey) -> Option<HalfOpen> {
        let half_open = self.entries.remove(key)?;
        self.young -= usize::from(half_open.entry.is_young());
        give_back(&mut self.entries);
        Some(half_open)
    }

    /// Empties the queue.
    pub(super) fn drain(&mut self) -> Vec<(FlowKey, HalfOpen)> {
        self.young = 0;
        let entries = self.entries.drain().collect();
        give_back(&mut self.entries);
        entries
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

/// A SYN cookie that came back to the listener that sent it, with the peer's MSS.
pub(super) struct CookieBack {
    listener: Arc<Listener>,
    mss: u16,
}

/// A SYN-ACK with the answer of Fast Open. It is in the first one only (RFC 7413 §4.2.1).
fn with_cookie(mut syn_ack: Segment, option: Option<FastOpenOption>) -> Segment {
    syn_ack.options.fast_open = option;
    if option.is_some() {
        // Both do not fit.
        syn_ack.options.acc_ecn = None;
    }
    syn_ack
}

/// What is to do for a segment once the listener has looked at it.
enum Verdict {
    Done,
    /// Answer as for a segment of no connection (RFC 9293 §3.10.7.2).
    Reset,
}

impl Engine {
    /// A segment for which there is a listener but no connection, not even a half-open one (RFC 9293
    /// §3.10.7.2).
    pub(super) fn on_listener_segment(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        to: &ToListener<'_>,
        payload: Chunk,
        out: &mut Effects,
    ) {
        let segment = to.segment;
        let verdict = if segment.is_rst() {
            Verdict::Done
        } else if segment.is_ack() {
            // What may be a cookie goes to `on_stray_ack` and not here.
            Verdict::Reset
        } else if !segment.is_syn() || segment.is_fin() {
            // Linux drops a SYN with FIN, which only scanners send.
            Verdict::Done
        } else {
            self.on_syn(now, listener, to, payload, out)
        };
        self.conclude(now, verdict, to, out);
    }

    fn conclude(&self, now: Instant, verdict: Verdict, to: &ToListener<'_>, out: &mut Effects) {
        match verdict {
            Verdict::Done => {}
            Verdict::Reset => self.reset_unknown(now, to.queue, &to.key, to.segment, out),
        }
    }

    /// A SYN (tcp_conn_request in Linux).
    fn on_syn(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        to: &ToListener<'_>,
        payload: Chunk,
        out: &mut Effects,
    ) -> Verdict {
        let mut state = listener.lock();
        let state = &mut *state;
        if state.binding.is_none() {
            // Closed meanwhile: the segment belongs to nobody.
            return Verdict::Reset;
        }
        // About a cookie nobody could be asked.
        let mode = if listener.asks() { SynCookieMode::Off } else { self.config().syncookies };
        let stack = self.counters_live();
        // Who takes over a TIME-WAIT entry is known to exist.
        let proven = to.iss.is_some();
        let mut cookie = false;
        if !proven && (mode == SynCookieMode::Always || state.syn_queue_is_full()) {
            if mode == SynCookieMode::Off {
                Tally::SynQueueDrop.count(&mut state.counters, stack);
                Tally::Drop.count(&mut state.counters, stack);
                return Verdict::Done;
            }
            Tally::SynQueueCookie.count(&mut state.counters, stack);
            cookie = true;
        }
        if state.accept_queue_is_full() {
            Tally::Overflow.count(&mut state.counters, stack);
            Tally::Drop.count(&mut state.counters, stack);
            return Verdict::Done;
        }
        // Without cookies the last quarter of max_syn_backlog is for those who are known to exist.
        let limit = self.config().max_syn_backlog as usize;
        let last_quarter = limit.saturating_sub(state.syn_queue.len()) < limit / 4;
        if (mode == SynCookieMode::Off && !proven && last_quarter) || self.is_full() {
            Tally::Drop.count(&mut state.counters, stack);
            return Verdict::Done;
        }
        if cookie {
            self.send_cookie(now, listener, state, to, out);
        } else {
            self.queue_syn(now, listener, state, to, payload, out);
        }
        Verdict::Done
    }

    /// Answers a SYN and remembers it.
    fn queue_syn(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        state: &mut State,
        to: &ToListener<'_>,
        payload: Chunk,
        out: &mut Effects,
    ) {
        let iss = to.iss.unwrap_or_else(|| self.isn(now, &to.key));
        let entry = SynEntry::new(now, to.segment, iss, self.syn_parts(now, to, &state.options));
        let mss = entry.advertised_mss();
        let judged = (&to.key, to.segment, mss);
        let verdict = self.judge_syn(now, listener.fast_open(), &state.options, judged);
        if listener.asks() {
            self.ask(now, listener, state, to, (entry, payload, verdict), out);
            return;
        }
        let option = match verdict {
            FastOpenVerdict::Open(option) => {
                self.open_fast(now, listener, state, to, (entry, payload, option), out);
                return;
            }
            FastOpenVerdict::Ordinary(option) => option,
        };
        // Another thread may have been faster with the same SYN.
        if !self.demux().insert_half_open(to.key, Arc::clone(listener)) {
            return;
        }
        let syn_ack = with_cookie(entry.syn_ack(now), option);
        // If the device is full, the timer sends it again.
        self.send_from_listener(now, state, to.queue, &to.key, &syn_ack, out);
        self.insert_half_open(listener, state, to, (entry, None), out);
    }

    /// Keeps a SYN until the application has decided about it.
    fn ask(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        state: &mut State,
        to: &ToListener<'_>,
        (mut entry, payload, fast_open): (SynEntry, Chunk, FastOpenVerdict),
        out: &mut Effects,
    ) {
        if !self.demux().insert_half_open(to.key, Arc::clone(listener)) {
            return;
        }
        let payload = payload.as_slice();
        let arrival = Arrival { at: now, key: to.key, syn: to.segment, fast_open, payload };
        let asked = PendingSyn::new(listener, &arrival);
        entry.hold(now + self.config().pending_accept_timeout);
        state.asked.push_back(Arc::clone(&asked));
        out.notify_listener(listener, Events::READABLE);
        self.insert_half_open(listener, state, to, (entry, Some(asked)), out);
    }

    fn insert_half_open(
        &self,
        listener: &Arc<Listener>,
        state: &mut State,
        to: &ToListener<'_>,
        (entry, asked): (SynEntry, Option<Arc<PendingSyn>>),
        out: &mut Effects,
    ) {
        let mut half_open = HalfOpen { entry, timer: Timer::default(), queue: to.queue, asked };
        self.arm_half_open(listener, &to.key, &mut half_open, out);
        state.syn_queue.insert(to.key, half_open);
    }

    /// Fast Open: makes a connection of a SYN, and puts it into the accept queue at once (RFC 7413
    /// §4.2.2). The SYN-ACK is the first thing that it sends.
    fn open_fast(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        state: &mut State,
        to: &ToListener<'_>,
        (entry, payload, option): (SynEntry, Chunk, Option<FastOpenOption>),
        out: &mut Effects,
    ) {
        let setup = (&state.options, self.config(), self.pool());
        let connection = entry.establish_fast(now, to.segment, payload, option, setup);
        let queue = Arc::clone(listener.fast_open());
        let Some(cell) = self.child(listener, state, to, connection, Some(Arc::clone(&queue))) else {
            return;
        };
        let counters = self.counters_live();
        queue.enter();
        if self.adopt(now, &cell, None, out) {
            Tally::PassiveOpen.count(&mut state.counters, counters);
            counters.fast_open_passive.bump();
            state.accept_queue.push_back(cell);
            out.notify_listener(listener, Events::READABLE);
        } else {
            queue.leave(now, PassiveEnd::Done);
            counters.fast_open_passive_fails.bump();
        }
    }

    /// Answers a SYN with a cookie and forgets it. Nothing is sent again, either.
    fn send_cookie(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        state: &mut State,
        to: &ToListener<'_>,
        out: &mut Effects,
    ) {
        let parts = self.syn_parts(now, to, &state.options);
        let cookie = SynEntry::cookie_syn_ack(
            now,
            &to.key,
            to.segment,
            self.fresh_cookies(now, &mut out.cookies),
            parts,
        );
        let Some(syn_ack) = cookie else { return };
        listener.overflow().note(now);
        Tally::CookieSent.count(&mut state.counters, self.counters_live());
        self.send_from_listener(now, state, to.queue, &to.key, &syn_ack, out);
    }

    /// Whether an acknowledgment that belongs to no connection and no half-open one brings a SYN cookie back
    /// (cookie_v4_check in Linux). A forged one costs one keyed hash: neither is a listener locked for
    /// it nor anything kept.
    pub(super) fn cookie_back(
        &self,
        now: Instant,
        from: QueueId,
        key: &FlowKey,
        segment: &Segment,
        out: &mut Effects,
    ) -> Option<CookieBack> {
        let listener = self.demux().listener(key, from.interface, &mut out.listeners)?;
        if segment.is_syn() || !listener.overflow().is_recent(now) {
            return None;
        }
        let mss = self.cookies().read(&mut out.cookies).check(now, key, segment, key.is_ipv6());
        let Some(mss) = mss else {
            out.failed_cookies.note(listener, self.counters_live());
            return None;
        };
        Some(CookieBack { listener: Arc::clone(listener), mss })
    }

    /// A cookie came back, and the peer's MSS with it: the handshake is complete.
    pub(super) fn on_cookie(
        &self,
        now: Instant,
        back: CookieBack,
        to: &ToListener<'_>,
        payload: Chunk,
        out: &mut Effects,
    ) {
        let verdict = self.complete_by_cookie(now, &back, to, payload, out);
        self.conclude(now, verdict, to, out);
    }

    fn complete_by_cookie(
        &self,
        now: Instant,
        back: &CookieBack,
        to: &ToListener<'_>,
        payload: Chunk,
        out: &mut Effects,
    ) -> Verdict {
        let CookieBack { listener, mss } = back;
        let mut state = listener.lock();
        let state = &mut *state;
        if state.binding.is_none() {
            return Verdict::Reset;
        }
        let stack = self.counters_live();
        Tally::CookieReceived.count(&mut state.counters, stack);
        if state.accept_queue_is_full() || self.is_full() {
            // The peer believes that it is connected, and its next segment is another chance.
            if state.accept_queue_is_full() {
                Tally::Overflow.count(&mut state.counters, stack);
            }
            Tally::Drop.count(&mut state.counters, stack);
            return Verdict::Done;
        }
        let entry = SynEntry::from_cookie(now, to.segment, *mss, self.syn_parts(now, to, &state.options));
        let connection = entry.establish(now, to.segment, &state.options, self.config(), self.pool());
        self.establish(now, listener, state, to, Completed { connection, payload, asked: None }, out);
        Verdict::Done
    }

    /// A segment for a half-open connection of this listener.
    pub(super) fn on_half_open_segment(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        to: &ToListener<'_>,
        payload: Chunk,
        out: &mut Effects,
    ) {
        let verdict = self.on_syn_received(now, listener, to, payload, out);
        self.conclude(now, verdict, to, out);
    }

    fn on_syn_received(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        to: &ToListener<'_>,
        payload: Chunk,
        out: &mut Effects,
    ) -> Verdict {
        let mut state = listener.lock();
        let state = &mut *state;
        let patience = state.patience(self.config());
        let stack = self.counters_live();
        // Gone meanwhile: whatever it was is sent again.
        let Some(half_open) = state.syn_queue.entries.get_mut(&to.key) else { return Verdict::Done };
        half_open.queue = to.queue;
        match half_open.entry.on_segment(now, to.segment, patience, self.config()) {
            SynStep::Ignore => {}
            SynStep::Skip => stack.syn_received_skips.bump(),
            SynStep::Defer => Tally::DeferAcceptDrop.count(&mut state.counters, stack),
            SynStep::Repeat(syn_ack) => {
                Tally::SynRetransmit.count(&mut state.counters, stack);
                self.arm_half_open(listener, &to.key, half_open, out);
                self.send_from_listener(now, state, to.queue, &to.key, &syn_ack, out);
            }
            SynStep::Acknowledge(ack) => self.send_from_listener(now, state, to.queue, &to.key, &ack, out),
            SynStep::Reset => return Verdict::Reset,
            SynStep::Remove => {
                Tally::EmbryonicReset.count(&mut state.counters, stack);
                stack.attempt_fails.bump();
                self.drop_half_open(state, &to.key, TcpError::Reset, out);
            }
            SynStep::Establish => return self.complete(now, listener, state, to, payload, out),
        }
        Verdict::Done
    }

    /// The third segment of the handshake is there.
    fn complete(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        state: &mut State,
        to: &ToListener<'_>,
        payload: Chunk,
        out: &mut Effects,
    ) -> Verdict {
        if !listener.asks() && state.accept_queue_is_full() {
            let stack = self.counters_live();
            Tally::Overflow.count(&mut state.counters, stack);
            Tally::Drop.count(&mut state.counters, stack);
            // tcp_check_req: by default the client is left to believe that it is connected, and
            // its next segment, or the repeated SYN-ACK, gives it another chance.
            if !self.config().abort_on_overflow {
                if let Some(half_open) = state.syn_queue.entries.get_mut(&to.key) {
                    half_open.entry.postpone();
                }
                return Verdict::Done;
            }
            stack.abort_on_overflow.bump();
            Tally::EmbryonicReset.count(&mut state.counters, stack);
            self.drop_half_open(state, &to.key, TcpError::Reset, out);
            return Verdict::Reset;
        }
        let Some(mut half_open) = state.syn_queue.remove(&to.key) else { return Verdict::Done };
        self.disarm(&mut half_open.timer);
        let connection =
            half_open.entry.establish(now, to.segment, &state.options, self.config(), self.pool());
        let completed = Completed { connection, payload, asked: half_open.asked };
        self.establish(now, listener, state, to, completed, out);
        Verdict::Done
    }

    /// Hands a connection out, or puts it into the accept queue, and gives it the segment that
    /// completed the handshake.
    fn establish(
        &self,
        now: Instant,
        listener: &Arc<Listener>,
        state: &mut State,
        to: &ToListener<'_>,
        completed: Completed,
        out: &mut Effects,
    ) {
        let Completed { connection, payload, asked } = completed;
        let Some(cell) = self.child(listener, state, to, connection, None) else { return };
        if self.adopt(now, &cell, Some((to.segment, payload)), out) {
            Tally::PassiveOpen.count(&mut state.counters, self.counters_live());
            if let Some(asked) = asked {
                asked.established(cell, out);
            } else {
                state.accept_queue.push_back(cell);
                out.notify_listener(listener, Events::READABLE);
            }
        } else if let Some(asked) = asked {
            // Its place in the table was taken.
            asked.over(TcpError::Aborted.into(), out);
        }
    }

    /// The cell of a connection that this listener made; none once it is closed.
    fn child(
        &self,
        listener: &Listener,
        state: &State,
        to: &ToListener<'_>,
        connection: Box<Connection>,
        fast_open: Option<Arc<FastOpenQueue>>,
    ) -> Option<Arc<Cell>> {
        Some(self.accepted_cell(Accepted {
            key: to.key,
            mapped: listener.maps(&to.key),
            queue: to.queue,
            ttl: state.ttl,
            traffic_class: state.traffic_class,
            connection,
            binding: state.binding.as_ref()?.child(to.key.local()),
            options: state.options.clone(),
            fast_open,
        }))
    }

    fn syn_parts<'a>(
        &'a self,
        now: Instant,
        to: &ToListener<'_>,
        options: &'a SocketOptions,
    ) -> SynParts<'a> {
        SynParts {
            ts_offset: self.timestamp_offset(&to.key),
            path: self.path(now, to.queue.interface, to.key.remote()),
            options,
            config: self.config(),
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

    /// Forgets a half-open connection, which ended with `error` for whoever waits for it.
    fn drop_half_open(&self, state: &mut State, key: &FlowKey, error: TcpError, out: &mut Effects) {
        if let Some(asked) = self.take_half_open(state, key).and_then(|half_open| half_open.asked) {
            asked.over(error.into(), out);
        }
    }

    /// Takes a half-open connection out of the SYN queue.
    pub(super) fn take_half_open(&self, state: &mut State, key: &FlowKey) -> Option<HalfOpen> {
        let mut half_open = state.syn_queue.remove(key)?;
        self.disarm(&mut half_open.timer);
        self.demux().remove_half_open(key);
        if let Some(asked) = &half_open.asked {
            state.asked.retain(|other| !Arc::ptr_eq(other, asked));
        }
        Some(half_open)
    }

    /// The application wants the connection: the handshake goes on.
    pub(super) fn release_half_open(
        &self,
        now: Instant,
        (listener, state): (&Arc<Listener>, &mut State),
        pending: &Arc<PendingSyn>,
        out: &mut Effects,
    ) {
        let key = pending.key();
        let Some(half_open) = state.syn_queue.entries.get_mut(key) else { return };
        let syn_ack = with_cookie(half_open.entry.release(now, self.config()), pending.cookie());
        if let Some((syn, option)) = pending.fast_open() {
            self.open_pending(now, (listener, state), pending, (&syn, option), out);
            return;
        }
        let queue = half_open.queue;
        self.arm_half_open(listener, key, half_open, out);
        self.send_from_listener(now, state, queue, key, &syn_ack, out);
    }

    /// Fast Open where the application was asked: makes a connection of the SYN and gives it to who
    /// decided. As in `open_fast`, the SYN-ACK is the first thing that it sends.
    fn open_pending(
        &self,
        now: Instant,
        (listener, state): (&Arc<Listener>, &mut State),
        pending: &Arc<PendingSyn>,
        (syn, option): (&Segment, Option<FastOpenOption>),
        out: &mut Effects,
    ) {
        let Some(mut half_open) = state.syn_queue.remove(pending.key()) else { return };
        self.disarm(&mut half_open.timer);
        let to = ToListener { key: *pending.key(), queue: half_open.queue, segment: syn, iss: None };
        let setup = (&state.options, self.config(), self.pool());
        let payload = Chunk::copy_from(pending.fast_open_data());
        let mut connection = half_open.entry.establish_fast(now, syn, payload, option, setup);
        connection.on_accepted();
        let queue = Arc::clone(listener.fast_open());
        let counters = self.counters_live();
        let cell = self.child(listener, state, &to, connection, Some(queue));
        let Some(cell) = cell.filter(|cell| self.adopt(now, cell, None, out)) else {
            counters.fast_open_passive_fails.bump();
            pending.over(TcpError::Aborted.into(), out);
            return;
        };
        pending.hand_over_place();
        Tally::PassiveOpen.count(&mut state.counters, counters);
        counters.fast_open_passive.bump();
        pending.established(cell, out);
    }

    /// The application does not want the connection and does not say so: the entry absorbs what the
    /// peer repeats until its time is over.
    pub(super) fn silence_half_open(&self, state: &mut State, key: &FlowKey) {
        if let Some(asked) = state.syn_queue.entries.get_mut(key).and_then(|entry| entry.asked.take()) {
            state.asked.retain(|other| !Arc::ptr_eq(other, &asked));
        }
    }

    /// Resets the peer of a half-open connection that was taken out of the SYN queue.
    pub(super) fn reset_half_open(
        &self,
        now: Instant,
        state: &State,
        key: &FlowKey,
        half_open: &HalfOpen,
        out: &mut Effects,
    ) {
        self.counters_live().tcp_out_resets.bump();
        self.send_from_listener(now, state, half_open.queue, key, &half_open.entry.reset(), out);
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
        let mut state = listener.lock();
        let state = &mut *state;
        let patience = state.patience(self.config());
        let Some(half_open) = state.syn_queue.entries.get_mut(key) else { return };
        half_open.timer.fired();
        let was_young = half_open.entry.is_young();
        let step = half_open.entry.on_timeout(now, patience, self.config());
        let (queue, is_young) = (half_open.queue, half_open.entry.is_young());
        if step != SynTimeout::Nothing {
            self.counters_live().syn_timeouts.bump();
        }
        if step == SynTimeout::GiveUp {
            self.drop_half_open(state, key, TcpError::TimedOut, out);
            return;
        }
        self.arm_half_open(listener, key, half_open, out);
        state.syn_queue.young -= usize::from(was_young && !is_young);
        if let SynTimeout::Retransmit(segment) = step {
            Tally::SynRetransmit.count(&mut state.counters, self.counters_live());
            self.send_from_listener(now, state, queue, key, &segment, out);
        }
    }

    /// An ICMP error about a SYN-ACK ends the half-open connection, if it quotes the right number and is
    /// of those that Linux thinks final there (tcp_req_err): a closed port or a filter in IPv4 may be
    /// the doing of someone on the way, and the peer has just shown that it is there.
    pub(super) fn on_half_open_icmp(
        &self,
        listener: &Arc<Listener>,
        key: &FlowKey,
        seq: SeqNum,
        error: TcpError,
        out: &mut Effects,
    ) {
        let mut state = listener.lock();
        let Some(half_open) = state.syn_queue.entries.get(key) else { return };
        if half_open.entry.iss() != seq {
            self.counters_live().icmp_out_of_window.bump();
            return;
        }
        let is_final = match error {
            TcpError::NetworkUnreachable | TcpError::HostUnreachable => !key.is_ipv6(),
            TcpError::Forbidden | TcpError::Refused => key.is_ipv6(),
            TcpError::Protocol => true,
            _ => false,
        };
        if is_final {
            Tally::Drop.count(&mut state.counters, self.counters_live());
            self.drop_half_open(&mut state, key, error, out);
        }
    }
}
