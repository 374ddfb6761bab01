//! How the last connections ended.

use super::cell::{Cell, SocketState, Stage};
use crate::reasons::EndReason;
use crate::sync::{Mutex, Rank};
use crate::time::{Duration, Instant};
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

/// Ends that are remembered.
const KEPT: usize = 256;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionEnd {
    /// The number of the connection, [`Cell::id`](crate::stack::Cell::id).
    pub connection: u64,
    /// The local address and port.
    pub local: SocketAddr,
    /// The peer.
    pub remote: SocketAddr,
    /// When this side began it, or the peer had completed its handshake, by the stack's clock.
    pub began: Instant,
    /// When it ended. A TIME-WAIT state that follows does not count.
    pub ended: Instant,
    /// Why it ended.
    pub reason: EndReason,
    /// Segments sent; a super-segment counts once, and a handshake not at all.
    pub segs_out: u64,
    /// Segments received, counted in the same way.
    pub segs_in: u64,
    /// Bytes sent, retransmissions included.
    pub bytes_sent: u64,
    /// Bytes of those that the peer acknowledged, each once.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Segments sent again.
    pub retransmits: u64,
    /// Smoothed round-trip time; zero if none was measured.
    pub rtt: Duration,
}

impl ConnectionEnd {
    /// The end of a connection.
    pub(super) fn of(cell: &Cell, state: &SocketState, ended: Instant, reason: EndReason) -> Self {
        let end = Self {
            connection: cell.id(),
            local: cell.local_addr(),
            remote: cell.remote_addr(),
            began: state.began,
            ended,
            reason,
            segs_out: 0,
            segs_in: 0,
            bytes_sent: 0,
            bytes_acked: 0,
            bytes_received: 0,
            retransmits: 0,
            rtt: Duration::ZERO,
        };
        let Stage::Connected(connection) = &state.stage else { return end };
        let info = connection.info(ended);
        Self {
            segs_out: info.segs_out,
            segs_in: info.segs_in,
            bytes_sent: info.bytes_sent,
            bytes_acked: info.bytes_acked,
            bytes_received: info.bytes_received,
            retransmits: info.total_retrans,
            rtt: info.rtt,
            ..end
        }
    }
}

impl fmt::Display for ConnectionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local, remote, reason, bytes_acked, bytes_received, retransmits, .. } = self;
        let lived = (self.ended - self.began).as_secs_f64();
        write!(f, "{local} -> {remote} after {lived:.3} s: {reason}")?;
        write!(f, " ({bytes_acked} bytes acked, {bytes_received} received, {retransmits} retransmits)")
    }
}

/// The last ends, the latest last.
#[derive(Debug)]
pub(super) struct RecentEnds(Mutex<VecDeque<ConnectionEnd>>);

impl RecentEnds {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Rank::Leaf, VecDeque::new()))
    }

    /// Remembers one, and forgets the oldest if there are too many.
    pub(super) fn push(&self, end: ConnectionEnd) {
        let mut ends = self.0.lock();
        if ends.len() >= KEPT {
            ends.pop_front();
        }
        ends.push_back(end);
    }

    pub(super) fn all(&self) -> Vec<ConnectionEnd> {
        self.0.lock().iter().copied().collect()
    }
}
