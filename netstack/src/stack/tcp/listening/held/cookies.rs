//! SYN cookies: a SYN is answered and forgotten, and what comes back with the answer's number completes
//! the handshake.

use super::{HeldListener, Received, Third, Verdict};
use crate::buffer::Chunk;
use crate::reasons::{DropReason, ResetReason};
use crate::stack::core::Core;
use crate::stack::tcp::Tcp;
use crate::stack::tcp::listening::listener::{Listener, Tally};
use crate::stack::tcp::scratch::Scratch;
use crate::stack::tcp::stray::Stray;
use crate::stack::turn::Turn;
use crate::sync::Snapshot;
use crate::tcp::{Connection, Setup, SynCookies, SynEntry};
use crate::time::Instant;
use std::sync::Arc;

/// A SYN cookie that came back to the listener that sent it, with the peer's MSS.
#[derive(Debug)]
pub(in crate::stack::tcp) struct CookieBack {
    listener: Arc<Listener>,
    mss: u16,
}

impl Tcp {
    /// Whether an acknowledgment that belongs to no connection and no half-open one brings a SYN cookie back
    /// (cookie_v4_check in Linux). A forged one costs one keyed hash: neither is a listener locked for
    /// it nor anything kept. If it does not, the reason for the reset that answers it.
    pub(in crate::stack::tcp) fn cookie_back(
        &self,
        turn: &Turn<'_>,
        scratch: &mut Scratch,
        stray: &Stray<'_>,
    ) -> Result<CookieBack, ResetReason> {
        let Stray { from, key, segment } = *stray;
        let Some(listener) = self.demux.listener(key, from.interface, &mut scratch.listeners) else {
            return Err(ResetReason::NoSocket);
        };
        if segment.is_syn() || !listener.overflow().is_recent(turn.now) {
            return Err(ResetReason::TcpFlags);
        }
        let mss = self.cookies.read(&mut scratch.cookies).check(turn.now, key, segment, key.is_ipv6());
        let Some(mss) = mss else {
            scratch.failed_cookies.note(listener, &self.counters);
            return Err(ResetReason::TcpFlags);
        };
        Ok(CookieBack { listener: Arc::clone(listener), mss })
    }

    /// A cookie came back, and the peer's MSS with it: the handshake is complete.
    pub(in crate::stack::tcp) fn on_cookie(
        &self,
        turn: &mut Turn<'_>,
        back: &CookieBack,
        received: &Received<'_>,
        payload: Chunk,
    ) -> Verdict {
        HeldListener::new(self, turn, &back.listener).complete_by_cookie(back.mss, received, payload)
    }

    /// The SYN cookies, with a secret to make one with.
    fn fresh_cookies<'a>(
        &self,
        core: &Core,
        now: Instant,
        seen: &'a mut Snapshot<SynCookies>,
    ) -> &'a SynCookies {
        if self.cookies.read(seen).wants_secret(now) {
            let secret = core.secret();
            self.cookies.change(|cookies| {
                // Another queue may have been faster, and what its secret made must stay good.
                if cookies.wants_secret(now) {
                    cookies.set_secret(now, secret);
                }
            });
        }
        self.cookies.read(seen)
    }
}

impl HeldListener<'_, '_> {
    /// Answers a SYN with a cookie and forgets it. Nothing is sent again, either.
    pub(super) fn send_cookie(&mut self, scratch: &mut Scratch, received: &Received<'_>) {
        let (core, now) = (self.turn.core, self.turn.now);
        let cookies = self.tcp.fresh_cookies(core, now, &mut scratch.cookies);
        let parts = self.syn_parts(received);
        let cookie = SynEntry::cookie_syn_ack(now, &received.key, received.segment, cookies, parts);
        let Some(mut syn_ack) = cookie else { return };
        // What comes back says nothing of it: the connection then takes all that might have been offered.
        let allowance = core.memory().allowance();
        syn_ack.window = syn_ack.window.min(u16::try_from(allowance).unwrap_or(u16::MAX));
        self.listener.overflow().note(now);
        self.count(Tally::CookieSent);
        self.send(received.queue, &received.key, &syn_ack);
    }

    fn complete_by_cookie(&mut self, mss: u16, received: &Received<'_>, payload: Chunk) -> Verdict {
        if self.state.place.is_none() {
            return Verdict::Reset(ResetReason::ListenerClosed);
        }
        self.count(Tally::CookieReceived);
        let received = &self.to_answer(received);
        let core = self.turn.core;
        // The peer believes that it is connected, and its next segment is another chance.
        if self.state.accept_queue_is_full() {
            self.count(Tally::Overflow);
            self.count(Tally::Drop);
            return Verdict::Dropped(DropReason::TcpListenOverflow);
        }
        if core.memory().is_full() {
            return self.drop_for_memory();
        }
        if self.tcp.is_full(core) {
            self.count(Tally::Drop);
            return Verdict::Dropped(DropReason::ConnectionLimit);
        }
        let (now, segment) = (self.turn.now, received.segment);
        let entry = SynEntry::from_cookie(now, segment, mss, self.syn_parts(received));
        let setup = Setup { options: &self.state.options, config: core.config(), pool: core.pool() };
        let connection = Connection::accept(now, &entry, segment, setup);
        let Some(cell) = self.child(received.key, received.queue, connection, None) else {
            return Verdict::Dropped(DropReason::ListenerClosed);
        };
        if !self.adopt(&cell, Some(Third { segment, payload })) {
            return Verdict::Dropped(DropReason::Raced);
        }
        self.count(Tally::PassiveOpen);
        self.enqueue(cell);
        Verdict::Done
    }
}
