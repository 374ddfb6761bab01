//! Pending accept: a SYN that the application decides about before anything answers it.
//!
//! A listener in this mode puts each new SYN into its SYN queue as usual, but holds the answer back
//! and hands out a [`PendingSyn`]. What the peer repeats meanwhile is absorbed. Once the application
//! has decided, the handshake goes on, or is refused with a reset or an ICMP message. The SYN queue's
//! limit bounds how many wait, and [`Config::pending_accept_timeout`] for how long. There are no SYN
//! cookies in this mode, which could not be asked about.
//!
//! Fast Open is judged when the SYN arrives: the application sees the data behind a good cookie
//! before it decides, and its yes opens the connection at once (RFC 7413 §4.2.2). Such a SYN counts
//! against the listener's Fast Open limit for as long as somebody holds it, so the limit bounds the
//! memory, too: one segment's payload each, copied out of its packet buffer.
//!
//! [`Config::pending_accept_timeout`]: crate::config::Config::pending_accept_timeout

use super::cell::Cell;
use super::effects::{Effects, Observer};
use super::egress::icmp_meta;
use super::engine::Engine;
use super::fast_open::FastOpenVerdict;
use super::flow::{FlowKey, QueueId};
use super::listener::{Listener, State, Tally};
use crate::error::Failure;
use crate::icmp::{Undelivered, Unreachable, emit_unreachable};
use crate::ip::Cast;
use crate::readiness::Events;
use crate::sync::{Mutex, Rank};
use crate::tcp::{PassiveEnd, TcpError};
use crate::time::Instant;
use crate::wire::{ChecksumMode, HeaderBuf, emit_tcp, parse_ip};
use crate::wire::{FastOpenOption, Options, Segment};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

/// A SYN that waits for a decision, or the handshake after it.
pub struct PendingSyn {
    listener: Arc<Listener>,
    key: FlowKey,
    syn: Segment,
    arrived: Instant,
    fast_open: FastOpenVerdict,
    /// What the SYN carried, if its cookie is good.
    data: Box<[u8]>,
    /// Whether it counts against the listener's Fast Open limit.
    counts: AtomicBool,
    progress: Mutex<Progress>,
    observer: OnceLock<Arc<dyn Observer>>,
}

/// How far a pending connection is.
#[derive(Debug)]
enum Progress {
    /// Nobody has decided.
    Asked,
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
pub(super) struct Arrival<'a> {
    pub(super) at: Instant,
    pub(super) key: FlowKey,
    pub(super) syn: &'a Segment,
    pub(super) fast_open: FastOpenVerdict,
    /// What it carried.
    pub(super) payload: &'a [u8],
}

impl PendingSyn {
    pub(super) fn new(listener: &Arc<Listener>, arrival: &Arrival<'_>) -> Arc<Self> {
        let Arrival { at, key, syn, fast_open, payload } = *arrival;
        let opens = matches!(fast_open, FastOpenVerdict::Open(_));
        if opens {
            listener.fast_open().enter();
        }
        Arc::new(Self {
            listener: Arc::clone(listener),
            key,
            // What it carried is not quoted.
            syn: Segment { payload_len: 0, ..syn.clone() },
            arrived: at,
            fast_open,
            // Without a cookie anybody may have sent it: the peer repeats it after the handshake.
            data: if opens { payload.into() } else { Box::default() },
            counts: AtomicBool::new(opens),
            progress: Mutex::new(Rank::Leaf, Progress::Asked),
            observer: OnceLock::new(),
        })
    }

    /// The address that the peer connects to.
    pub fn local_addr(&self) -> SocketAddr {
        self.key.local_addr(self.listener.maps(&self.key))
    }

    /// The peer.
    pub fn remote_addr(&self) -> SocketAddr {
        self.key.remote_addr(self.listener.maps(&self.key))
    }

    pub(super) fn key(&self) -> &FlowKey {
        &self.key
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
        matches!(*self.progress.lock(), Progress::Over(_))
    }

    /// Says who is told when the handshake completes or fails ([`Events::READABLE`]). The first one
    /// stays.
    pub fn set_observer(&self, observer: Arc<dyn Observer>) {
        let _ = self.observer.set(observer);
    }

    pub(super) fn observer(&self) -> Option<&dyn Observer> {
        self.observer.get().map(|observer| &**observer)
    }

    pub(super) fn established(self: &Arc<Self>, cell: Arc<Cell>, out: &mut Effects) {
        self.turn(Progress::Established(cell), out);
    }

    pub(super) fn over(self: &Arc<Self>, failure: Failure, out: &mut Effects) {
        self.turn(Progress::Over(failure), out);
    }

    fn turn(self: &Arc<Self>, progress: Progress, out: &mut Effects) {
        let before = std::mem::replace(&mut *self.progress.lock(), progress);
        drop(before);
        out.notify_pending(self, Events::READABLE);
    }
}

impl Drop for PendingSyn {
    /// Its data is gone only now, whatever became of the SYN: who resets before the application has
    /// looked must not make room for the next one.
    fn drop(&mut self) {
        if *self.counts.get_mut() {
            self.listener.fast_open().leave(Instant::ZERO, PassiveEnd::Done);
        }
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

impl Engine {
    /// Takes the SYN that has waited longest for a decision.
    ///
    /// # Errors
    /// `WouldBlock` if none waits; what the interface or the stack failed with.
    pub fn accept_pending(&self, listener: &Listener) -> io::Result<Arc<PendingSyn>> {
        let mut state = listener.lock();
        if let Some(failure) = &state.failure {
            return Err(failure.into());
        }
        state.asked.pop_front().ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// Decides for the peer: the SYN-ACK is sent, and the handshake takes its course. With Fast Open
    /// the connection is there at once. Only the first decision counts.
    pub fn answer_pending(&self, now: Instant, pending: &Arc<PendingSyn>) {
        let mut out = Effects::new();
        {
            let mut state = pending.listener.lock();
            let mut progress = pending.progress.lock();
            if matches!(*progress, Progress::Asked) {
                *progress = Progress::Answered;
                drop(progress);
                self.release_half_open(now, (&pending.listener, &mut state), pending, &mut out);
            }
        }
        out.deliver(self);
    }

    /// What became of the handshake; none while it goes on. A connection is given away once.
    pub fn pending_result(&self, pending: &PendingSyn) -> Option<io::Result<Arc<Cell>>> {
        let mut progress = pending.progress.lock();
        match &*progress {
            Progress::Asked | Progress::Answered => None,
            Progress::Over(failure) => Some(Err(failure.into())),
            Progress::Established(_) => {
                let taken = Progress::Over(TcpError::Aborted.into());
                match std::mem::replace(&mut *progress, taken) {
                    Progress::Established(cell) => Some(Ok(cell)),
                    _ => None,
                }
            }
        }
    }

    /// Decides against the peer. If the handshake is complete already, the connection is reset.
    pub fn reject_pending(&self, now: Instant, pending: &PendingSyn, how: Rejection) {
        let mut out = Effects::new();
        let cell = {
            let mut state = pending.listener.lock();
            let before =
                std::mem::replace(&mut *pending.progress.lock(), Progress::Over(TcpError::Aborted.into()));
            match before {
                Progress::Established(cell) => Some(cell),
                Progress::Over(failure) => {
                    *pending.progress.lock() = Progress::Over(failure);
                    None
                }
                Progress::Asked | Progress::Answered => {
                    self.turn_away(now, &mut state, pending, how, &mut out);
                    None
                }
            }
        };
        if let Some(cell) = cell {
            self.abort(now, &cell);
        }
        out.deliver(self);
    }

    fn turn_away(
        &self,
        now: Instant,
        state: &mut State,
        pending: &PendingSyn,
        how: Rejection,
        out: &mut Effects,
    ) {
        let key = &pending.key;
        if how == Rejection::Silence {
            self.silence_half_open(state, key);
            return;
        }
        let Some(half_open) = self.take_half_open(state, key) else { return };
        Tally::EmbryonicReset.count(&mut state.counters, self.counters_live());
        match how {
            Rejection::Unreachable(reason) => {
                self.send_unreachable(now, half_open.queue, pending, reason, out);
            }
            Rejection::Reset | Rejection::Silence => self.reset_half_open(now, state, key, &half_open, out),
        }
    }

    /// An ICMP error about a SYN. It quotes what an error must: addresses, ports and sequence number
    /// (RFC 792, RFC 4443 §3.1).
    fn send_unreachable(
        &self,
        now: Instant,
        queue: QueueId,
        pending: &PendingSyn,
        reason: Unreachable,
        out: &mut Effects,
    ) {
        let FlowKey { local_port, remote_port, .. } = pending.key;
        let (local, remote) = (pending.key.local(), pending.key.remote());
        let hop_limit = self.config().default_ttl;
        let mut packet = HeaderBuf::new();
        let ip = icmp_meta(remote, local, hop_limit);
        let full = ChecksumMode::Full;
        emit_tcp(&mut packet, &ip, remote_port, local_port, &pending.syn, &[], full);
        let Ok(header) = parse_ip(&packet) else { return };
        let mut message = Vec::new();
        let ip = icmp_meta(local, remote, hop_limit);
        let undelivered = Undelivered { header: &header, bytes: &packet, cast: Cast::Unicast };
        if !emit_unreachable(&mut message, reason, &undelivered, self.addresses(), &ip) {
            return;
        }
        if self.icmp_limit().lock().allow(now) {
            self.send_icmp(now, queue, &message, out);
        } else {
            self.counters_live().icmp_rate_limited.bump();
        }
    }
}
