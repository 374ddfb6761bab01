//! Pending accept: a SYN that the application decides about before anything answers it.
//!
//! A listener in this mode puts each new SYN into its SYN queue as usual, but holds the answer back
//! and hands out a [`PendingSyn`]. What the peer repeats meanwhile is absorbed. Once the application
//! has decided, the handshake goes on, or is refused with a reset or an ICMP message. The SYN queue's
//! limit bounds how many wait, and [`Config::pending_accept_timeout`] for how long. There are no SYN
//! cookies in this mode: nothing could be decided about them.
//!
//! Fast Open is judged when the SYN arrives: the application sees the data behind a good cookie
//! before it decides, and its yes opens the connection at once (RFC 7413 §4.2.2). Such a SYN counts
//! against the listener's Fast Open limit for as long as somebody holds it, so the limit bounds the
//! memory, too: one segment's payload each, copied out of its packet buffer.
//!
//! [`Config::pending_accept_timeout`]: crate::config::Config::pending_accept_timeout

use crate::error::Failure;
use crate::icmp::Unreachable;
use crate::readiness::Events;
use crate::stack::effects::Effects;
use crate::stack::flow::FlowKey;
use crate::stack::hooks::{Observer, Subject};
use crate::stack::tcp::cell::Cell;
use crate::stack::tcp::fast_open_queue::{FastOpenQueue, FastOpenVerdict};
use crate::sync::{Mutex, MutexGuard, Rank};
use crate::tcp::PassiveEnd;
use crate::time::Instant;
use crate::wire::{FastOpenOption, Options, Segment};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// A SYN that waits for a decision, or the handshake after it.
pub struct PendingSyn {
    key: FlowKey,
    /// An IPv6 socket with IPv4 addresses.
    mapped: bool,
    syn: Segment,
    arrived: Instant,
    fast_open: FastOpenVerdict,
    /// What the SYN carried, if its cookie is good.
    data: Box<[u8]>,
    /// The connections that count against the listener's Fast Open limit, and whether this one does.
    fast_open_queue: Arc<FastOpenQueue>,
    counts: AtomicBool,
    progress: Mutex<PendingState>,
    observer: OnceLock<Arc<dyn Observer>>,
}

/// How far a pending connection is.
#[derive(Debug)]
pub(super) enum PendingState {
    /// Nobody has decided.
    Undecided,
    /// The SYN-ACK is on its way, again and again if need be.
    Answered,
    /// The handshake is complete.
    Established(Arc<Cell>),
    /// The peer, the time or the application ended it.
    Over(Failure),
}

/// How to turn a peer away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// With a reset: the port is closed, to the peer's eyes.
    Reset,
    /// With an ICMP error, within the stack's limit for those.
    Unreachable(Unreachable),
    /// With silence: what the peer repeats is absorbed until the entry's time is over.
    Silence,
}

/// A SYN that a [`PendingSyn`] is made of.
pub(super) struct HeldSyn<'a> {
    pub(super) at: Instant,
    pub(super) key: FlowKey,
    pub(super) mapped: bool,
    pub(super) fast_open_queue: &'a Arc<FastOpenQueue>,
    pub(super) syn: &'a Segment,
    pub(super) fast_open: FastOpenVerdict,
    /// What it carried.
    pub(super) payload: &'a [u8],
}

impl PendingSyn {
    pub(super) fn new(held: &HeldSyn<'_>) -> Arc<Self> {
        let HeldSyn { at, key, mapped, fast_open_queue, syn, fast_open, payload } = *held;
        let opens = matches!(fast_open, FastOpenVerdict::Open(_));
        if opens {
            fast_open_queue.enter();
        }
        Arc::new(Self {
            key,
            mapped,
            // What it carried is not quoted.
            syn: Segment { payload_len: 0, ..syn.clone() },
            arrived: at,
            fast_open,
            // Without a cookie anybody may have sent it: the peer repeats it after the handshake.
            data: if opens { payload.into() } else { Box::default() },
            fast_open_queue: Arc::clone(fast_open_queue),
            counts: AtomicBool::new(opens),
            progress: Mutex::new(Rank::Leaf, PendingState::Undecided),
            observer: OnceLock::new(),
        })
    }

    /// The address that the peer connects to.
    pub fn local_addr(&self) -> SocketAddr {
        self.key.local_addr(self.mapped)
    }

    /// The peer.
    pub fn remote_addr(&self) -> SocketAddr {
        self.key.remote_addr(self.mapped)
    }

    pub(super) fn key(&self) -> &FlowKey {
        &self.key
    }

    /// The SYN, without what it carried.
    pub(super) fn syn(&self) -> &Segment {
        &self.syn
    }

    /// How far it is.
    pub(super) fn progress(&self) -> MutexGuard<'_, PendingState> {
        self.progress.lock()
    }

    /// The options of the SYN.
    pub fn options(&self) -> &Options {
        &self.syn.options
    }

    /// The window of the SYN, in bytes.
    pub fn window(&self) -> usize {
        self.syn.window.into()
    }

    /// What the SYN carried, if Fast Open takes it: its cookie is good, or none is asked for. Empty
    /// otherwise. The connection's first bytes will be the same ones.
    pub fn fast_open_data(&self) -> &[u8] {
        &self.data
    }

    /// The SYN with its data, and the cookie for the SYN-ACK; none for an ordinary handshake.
    pub(super) fn fast_open(&self) -> Option<(Segment, Option<FastOpenOption>)> {
        let FastOpenVerdict::Open(option) = self.fast_open else { return None };
        Some((Segment { payload_len: self.data.len(), ..self.syn.clone() }, option))
    }

    /// The option for the first SYN-ACK of an ordinary handshake.
    pub(super) fn cookie(&self) -> Option<FastOpenOption> {
        match self.fast_open {
            FastOpenVerdict::Ordinary(option) => option,
            FastOpenVerdict::Open(_) => None,
        }
    }

    /// The connection counts from now on, and this does not any more.
    pub(super) fn hand_over_place(&self) {
        self.counts.store(false, Ordering::Relaxed);
    }

    /// When the SYN arrived.
    pub fn arrived(&self) -> Instant {
        self.arrived
    }

    /// Whether the peer has gone or the time is over: nothing can be decided any more.
    pub fn is_over(&self) -> bool {
        matches!(*self.progress.lock(), PendingState::Over(_))
    }

    /// Sets who is notified when the handshake completes or fails ([`Events::READABLE`]). The first one
    /// stays.
    pub fn set_observer(&self, observer: Arc<dyn Observer>) {
        let _ = self.observer.set(observer);
    }

    pub(super) fn established(self: &Arc<Self>, cell: Arc<Cell>, out: &mut Effects) {
        self.turn(PendingState::Established(cell), out);
    }

    pub(super) fn over(self: &Arc<Self>, failure: Failure, out: &mut Effects) {
        self.turn(PendingState::Over(failure), out);
    }

    fn turn(self: &Arc<Self>, progress: PendingState, out: &mut Effects) {
        let before = std::mem::replace(&mut *self.progress.lock(), progress);
        drop(before);
        let subject = Arc::clone(self);
        out.notify(subject, Events::READABLE);
    }
}

impl Drop for PendingSyn {
    /// Its data is gone only now, whatever became of the SYN: who resets before the application has
    /// looked must not make room for the next one.
    fn drop(&mut self) {
        if *self.counts.get_mut() {
            self.fast_open_queue.leave(Instant::ZERO, PassiveEnd::Done);
        }
    }
}

impl Subject for PendingSyn {
    fn observer(&self) -> Option<&dyn Observer> {
        self.observer.get().map(|observer| &**observer)
    }
}

impl fmt::Debug for PendingSyn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingSyn")
            .field("local", &self.local_addr())
            .field("remote", &self.remote_addr())
            .finish_non_exhaustive()
    }
}
