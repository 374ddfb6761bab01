//! A SYN for a listener (tcp_conn_request in Linux).

use super::{HeldListener, Received, Verdict, with_cookie};
use crate::buffer::Chunk;
use crate::config::SynCookieMode;
use crate::reasons::{DropReason, ResetReason};
use crate::stack::deadlines::Timer;
use crate::stack::tcp::Tcp;
use crate::stack::tcp::fast_open::SynOffer;
use crate::stack::tcp::fast_open_queue::FastOpenVerdict;
use crate::stack::tcp::listening::half_open::HalfOpen;
use crate::stack::tcp::listening::listener::{Listener, Tally};
use crate::stack::tcp::listening::pending_syn::{HeldSyn, PendingSyn};
use crate::stack::tcp::scratch::Scratch;
use crate::stack::turn::Turn;
use crate::tcp::{Connection, FastOpenSyn, PassiveEnd, Setup, SynEntry};
use crate::wire::FastOpenOption;
use std::sync::Arc;

impl Tcp {
    /// A segment for which there is a listener but no connection, not even a half-open one (RFC 9293
    /// §3.10.7.2).
    pub(in crate::stack::tcp) fn on_listener_segment(
        &self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        listener: &Arc<Listener>,
        received: &Received<'_>,
        payload: Chunk,
    ) -> Verdict {
        let segment = received.segment;
        if segment.is_rst() {
            Verdict::Dropped(DropReason::TcpReset)
        } else if segment.is_ack() {
            // What may be a cookie goes to `cookie_back` and not here.
            Verdict::Reset(ResetReason::TcpFlags)
        } else if !segment.is_syn() || segment.is_fin() {
            // Linux drops a SYN with FIN, which only scanners send.
            Verdict::Dropped(DropReason::TcpFlags)
        } else {
            HeldListener::new(self, turn, listener).on_syn(scratch, received, payload)
        }
    }
}

impl HeldListener<'_, '_> {
    fn on_syn(&mut self, scratch: &mut Scratch, received: &Received<'_>, payload: Chunk) -> Verdict {
        if self.state.place.is_none() {
            // Closed meanwhile: the segment belongs to nobody.
            return Verdict::Reset(ResetReason::ListenerClosed);
        }
        let received = &self.to_answer(received);
        let config = self.turn.core.config();
        // Nothing could be decided about a cookie.
        let mode = if self.listener.holds_syns() { SynCookieMode::Off } else { config.syncookies };
        // Who takes over a TIME-WAIT entry is known to exist.
        let proven = received.iss.is_some();
        let mut cookie = false;
        if !proven && (mode == SynCookieMode::Always || self.state.syn_queue_is_full()) {
            if mode == SynCookieMode::Off {
                self.count(Tally::SynQueueDrop);
                self.count(Tally::Drop);
                return Verdict::Dropped(DropReason::SynQueueFull);
            }
            self.count(Tally::SynQueueCookie);
            cookie = true;
        }
        if self.turn.core.memory().is_full() {
            return self.drop_for_memory();
        }
        if self.state.accept_queue_is_full() {
            self.count(Tally::Overflow);
            self.count(Tally::Drop);
            return Verdict::Dropped(DropReason::TcpListenOverflow);
        }
        // Without cookies the last quarter of max_syn_backlog is for those who are known to exist. A forwarder
        // has a limit of its own, all of which counts.
        let limit = config.max_syn_backlog as usize;
        let last_quarter = limit.saturating_sub(self.state.syn_queue.len()) < limit / 4;
        if mode == SynCookieMode::Off && !proven && last_quarter && !self.listener.is_forwarder() {
            self.count(Tally::Drop);
            return Verdict::Dropped(DropReason::SynQueueFull);
        }
        if self.tcp.is_full(self.turn.core) {
            self.count(Tally::Drop);
            return Verdict::Dropped(DropReason::ConnectionLimit);
        }
        if cookie {
            self.send_cookie(scratch, received);
            return Verdict::Done;
        }
        self.queue(received, payload)
    }

    /// Answers a SYN and remembers it.
    fn queue(&mut self, received: &Received<'_>, payload: Chunk) -> Verdict {
        let now = self.turn.now;
        let iss = received.iss.unwrap_or_else(|| self.tcp.isn.isn(now, &received.key));
        let mut entry = SynEntry::new(now, received.segment, iss, self.syn_parts(received));
        entry.limit_window(self.turn.core.memory().allowance());
        let offer = SynOffer { key: &received.key, syn: received.segment, mss: entry.advertised_mss() };
        let queue = self.listener.fast_open();
        let verdict = self.tcp.judge_syn(self.turn, queue, &self.state.options, &offer);
        if self.listener.holds_syns() {
            return self.hold_syn(received, entry, &payload, verdict);
        }
        let option = match verdict {
            FastOpenVerdict::Open(option) => {
                return self.open_fast(received, entry, payload, option);
            }
            FastOpenVerdict::Ordinary(option) => option,
        };
        // Another thread may have been faster with the same SYN.
        if !self.note_half_open(received) {
            return Verdict::Dropped(DropReason::Raced);
        }
        let syn_ack = with_cookie(entry.syn_ack(now), option);
        // If the device is full, the timer sends it again.
        self.send(received.queue, &received.key, &syn_ack);
        self.remember(received, entry, None);
        Verdict::Done
    }

    /// Keeps a SYN until the application has decided about it.
    fn hold_syn(
        &mut self,
        received: &Received<'_>,
        mut entry: SynEntry,
        payload: &Chunk,
        fast_open: FastOpenVerdict,
    ) -> Verdict {
        if !self.note_half_open(received) {
            return Verdict::Dropped(DropReason::Raced);
        }
        let now = self.turn.now;
        let pending = PendingSyn::new(&HeldSyn {
            at: now,
            key: received.key,
            mapped: self.listener.maps(&received.key),
            fast_open_queue: self.listener.fast_open(),
            syn: received.segment,
            fast_open,
            payload: payload.as_slice(),
        });
        entry.hold(now + self.turn.core.config().pending_accept_timeout);
        self.state.pending.push_back(Arc::clone(&pending));
        self.notify();
        self.remember(received, entry, Some(pending));
        Verdict::Done
    }

    fn remember(&mut self, received: &Received<'_>, entry: SynEntry, pending: Option<Arc<PendingSyn>>) {
        let timer = Timer::default();
        self.insert_half_open(HalfOpen { key: received.key, entry, timer, queue: received.queue, pending });
    }

    /// Has the table of flows lead to the place that the SYN is about to get. False if it leads elsewhere.
    fn note_half_open(&self, received: &Received<'_>) -> bool {
        let place = self.state.syn_queue.next_place();
        self.tcp.demux.insert_half_open(received.key, Arc::clone(self.listener), place)
    }

    /// Fast Open: makes a connection of a SYN, and puts it into the accept queue at once (RFC 7413
    /// §4.2.2). The SYN-ACK is the first thing that it sends.
    fn open_fast(
        &mut self,
        received: &Received<'_>,
        entry: SynEntry,
        payload: Chunk,
        option: Option<FastOpenOption>,
    ) -> Verdict {
        let core = self.turn.core;
        let setup = Setup { options: &self.state.options, config: core.config(), pool: core.pool() };
        let syn = FastOpenSyn { segment: received.segment, payload, cookie: option };
        let connection = Connection::accept_fast_open(self.turn.now, entry, syn, setup);
        let queue = Arc::clone(self.listener.fast_open());
        let child = self.child(received.key, received.queue, connection, Some(Arc::clone(&queue)));
        let Some(cell) = child else { return Verdict::Dropped(DropReason::ListenerClosed) };
        queue.enter();
        if self.adopt(&cell, None) {
            self.count(Tally::PassiveOpen);
            self.tcp.counters.fast_open_passive.bump();
            self.enqueue(cell);
            Verdict::Done
        } else {
            queue.leave(self.turn.now, PassiveEnd::Done);
            self.tcp.counters.fast_open_passive_fails.bump();
            Verdict::Dropped(DropReason::Raced)
        }
    }
}
