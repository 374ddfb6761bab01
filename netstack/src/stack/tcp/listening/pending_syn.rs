//! Pending accept: the application decides about a SYN before it is answered.
//!
//! A listener in this mode puts each new SYN into its SYN queue as usual, but does not answer it
//! and returns a [`PendingSyn`]. Retransmissions of the peer are ignored in the meantime. After the
//! decision of the application the handshake continues, or is refused with a reset or an ICMP
//! message. The limit of the SYN queue bounds the number of SYNs that wait, and
//! [`Config::pending_accept_timeout`] the time. There are no SYN cookies in this mode, because they
//! leave no SYN to decide about.
//!
//! A Fast Open cookie is checked when the SYN arrives: with a valid cookie, the application sees
//! the data before it decides, and accepting opens the connection at once (RFC 7413 §4.2.2). Such a
//! SYN counts against the listener's Fast Open limit for as long as it is held, so the limit bounds
//! the memory, too: the payload of one segment each, copied out of its packet buffer.
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

/// How to reject a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// With a reset, as for a closed port.
    Reset,
    /// With an ICMP error, within the stack's limit for those.
    Unreachable(Unreachable),
    /// Without an answer: retransmissions of the peer are ignored until the entry expires.
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

    /// The address of the peer.
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

    /// The data of the SYN, if the Fast Open cookie is valid or not required; otherwise empty. The
    /// stream of the connection begins with the same bytes.
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

    /// Whether the peer is gone or the time has passed, so that no decision is possible any more.
    pub fn is_over(&self) -> bool {
        matches!(*self.progress.lock(), PendingState::Over(_))
    }

    /// Sets the observer, which is notified when the handshake completes or fails
    /// ([`Events::READABLE`]). Only the first call has an effect.
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
