//! What segments, time and ICMP do to half-open connections (tcp_check_req and reqsk_timer_handler in
//! Linux).

use super::{HeldListener, Received, Third, Verdict, arm};
use crate::buffer::Chunk;
use crate::reasons::{DropReason, ResetReason};
use crate::stack::flow::FlowKey;
use crate::stack::tcp::Tcp;
use crate::stack::tcp::listening::half_open::Place;
use crate::stack::tcp::listening::listener::{Listener, Tally};
use crate::stack::turn::Turn;
use crate::tcp::{Connection, Setup, SynStep, SynTimeout, TcpError};
use crate::wire::SeqNum;
use std::sync::Arc;

impl Tcp {
    /// A segment for a half-open connection of this listener.
    pub(in crate::stack::tcp) fn on_half_open_segment(
        &self,
        turn: &mut Turn<'_>,
        listener: &Arc<Listener>,
        received: &Received<'_>,
        payload: Chunk,
    ) -> Verdict {
        HeldListener::new(self, turn, listener).on_syn_received(received, payload)
    }

    /// The deadline of a half-open connection.
    pub(in crate::stack::tcp) fn on_half_open_deadline(
        &self,
        turn: &mut Turn<'_>,
        listener: &Arc<Listener>,
        place: Place,
    ) {
        HeldListener::new(self, turn, listener).on_deadline(place);
    }

    /// An ICMP error about a SYN-ACK ends the half-open connection, if it quotes the right number and is
    /// of those that Linux thinks final there (tcp_req_err): a closed port or a filter in IPv4 may be
    /// the doing of someone on the way, and the peer has just shown that it is there.
    pub(in crate::stack::tcp) fn on_half_open_icmp(
        &self,
        turn: &mut Turn<'_>,
        listener: &Arc<Listener>,
        key: &FlowKey,
        seq: SeqNum,
        error: TcpError,
    ) {
        let mut held = HeldListener::new(self, turn, listener);
        let place = held.place_of(key);
        let Some(half_open) = place.and_then(|place| held.state.syn_queue.get_mut(place)) else {
            return held.turn.dropped(DropReason::Raced, || key.about());
        };
        if half_open.entry.iss() != seq {
            self.counters.icmp_out_of_window.bump();
            held.turn.dropped(DropReason::IcmpOutOfWindow, || key.about());
            return;
        }
        let is_final = match error {
            TcpError::NetworkUnreachable | TcpError::HostUnreachable => !key.is_ipv6(),
            TcpError::Forbidden | TcpError::Refused => key.is_ipv6(),
            TcpError::Protocol => true,
            _ => false,
        };
        if is_final {
            held.count(Tally::Drop);
            held.drop_half_open(key, error);
        }
    }
}

impl HeldListener<'_, '_> {
    fn on_syn_received(&mut self, received: &Received<'_>, payload: Chunk) -> Verdict {
        let (now, core) = (self.turn.now, self.turn.core);
        let retries = self.state.retries(core.config());
        let Received { key, queue: from, segment, .. } = *received;
        // Gone meanwhile: whatever it was is sent again.
        let Some(place) = self.place_of(&key) else { return Verdict::Dropped(DropReason::Raced) };
        let Some(half_open) = self.state.syn_queue.get_mut(place) else {
            return Verdict::Dropped(DropReason::Raced);
        };
        let step = half_open.entry.on_segment(now, segment, retries, core.config());
        // As a connection: it stays with its interface (`Cell::arrived_on`).
        if matches!(step, SynStep::Repeat(_) | SynStep::Establish)
            && from.interface == half_open.queue.interface
        {
            half_open.queue = from;
        }
        let queue = half_open.queue;
        match step {
            SynStep::Ignore(reason) => return Verdict::Dropped(reason),
            SynStep::Skip => {
                self.tcp.counters.syn_received_skips.bump();
                return Verdict::Dropped(DropReason::AckRatelimit);
            }
            SynStep::Defer => {
                self.count(Tally::DeferAcceptDrop);
                return Verdict::Dropped(DropReason::TcpDeferAccept);
            }
            SynStep::Repeat(syn_ack) => {
                arm(self.tcp, self.turn, self.listener, place, half_open);
                self.count(Tally::SynRetransmit);
                self.send(queue, &key, &syn_ack);
            }
            SynStep::Acknowledge(ack, reason) => {
                self.send(queue, &key, &ack);
                return Verdict::Dropped(reason);
            }
            SynStep::Reset => return Verdict::Reset(ResetReason::TcpInvalidAckSequence),
            SynStep::Abort => {
                self.count(Tally::EmbryonicReset);
                self.tcp.counters.attempt_fails.bump();
                self.drop_half_open(&key, TcpError::Reset);
                return Verdict::Reset(ResetReason::TcpInvalidSyn);
            }
            SynStep::Remove => {
                self.count(Tally::EmbryonicReset);
                self.tcp.counters.attempt_fails.bump();
                self.drop_half_open(&key, TcpError::Reset);
            }
            SynStep::Establish => return self.complete(received, place, payload),
        }
        Verdict::Done
    }

    /// The third segment of the handshake is there.
    fn complete(&mut self, received: &Received<'_>, place: Place, payload: Chunk) -> Verdict {
        let Received { key, segment, .. } = *received;
        let core = self.turn.core;
        if !self.listener.holds_syns() && self.state.accept_queue_is_full() {
            self.count(Tally::Overflow);
            self.count(Tally::Drop);
            // tcp_check_req: by default the client is left to believe that it is connected, and
            // its next segment, or the repeated SYN-ACK, gives it another chance.
            if !core.config().abort_on_overflow {
                if let Some(half_open) = self.state.syn_queue.get_mut(place) {
                    half_open.entry.postpone();
                }
                return Verdict::Dropped(DropReason::TcpListenOverflow);
            }
            self.tcp.counters.abort_on_overflow.bump();
            self.count(Tally::EmbryonicReset);
            self.drop_half_open(&key, TcpError::Reset);
            return Verdict::Reset(ResetReason::TcpAbortOnOverflow);
        }
        if core.memory().is_full() {
            if let Some(half_open) = self.state.syn_queue.get_mut(place) {
                half_open.entry.postpone();
            }
            return self.drop_for_memory();
        }
        let Some(mut half_open) = self.state.syn_queue.remove(place) else {
            return Verdict::Dropped(DropReason::Raced);
        };
        self.tcp.deadlines.disarm(&mut half_open.timer);
        let setup = Setup { options: &self.state.options, config: core.config(), pool: core.pool() };
        let connection = Connection::accept(self.turn.now, &half_open.entry, segment, setup);
        let Some(cell) = self.child(key, half_open.queue, connection, None) else {
            return Verdict::Dropped(DropReason::ListenerClosed);
        };
        if self.adopt(&cell, Some(Third { segment, payload })) {
            self.count(Tally::PassiveOpen);
            match half_open.pending {
                Some(pending) => pending.established(cell, self.turn.out),
                None => self.enqueue(cell),
            }
            return Verdict::Done;
        }
        if let Some(pending) = half_open.pending {
            // Its place in the table was taken.
            pending.over(TcpError::Aborted.into(), self.turn.out);
        }
        Verdict::Dropped(DropReason::Raced)
    }

    fn on_deadline(&mut self, place: Place) {
        let (now, core) = (self.turn.now, self.turn.core);
        let retries = self.state.retries(core.config());
        let Some(half_open) = self.state.syn_queue.get_mut(place) else { return };
        // What the deadline was of may be gone, and another may have its place.
        if half_open.timer.misses(now) {
            return;
        }
        half_open.timer.fired();
        let key = half_open.key;
        let was_young = half_open.entry.is_young();
        let step = half_open.entry.on_timeout(now, retries, core.config());
        let (queue, is_young) = (half_open.queue, half_open.entry.is_young());
        if step != SynTimeout::Nothing {
            self.tcp.counters.syn_timeouts.bump();
        }
        if step == SynTimeout::GiveUp {
            self.drop_half_open(&key, TcpError::TimedOut);
            return;
        }
        arm(self.tcp, self.turn, self.listener, place, half_open);
        self.state.syn_queue.young -= usize::from(was_young && !is_young);
        if let SynTimeout::Retransmit(segment) = step {
            self.count(Tally::SynRetransmit);
            self.send(queue, &key, &segment);
        }
    }
}
