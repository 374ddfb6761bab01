//! What the stack knows of the way to a peer before a connection begins, and what a connection
//! leaves behind for the next one.

use crate::time::Duration;

/// Bytes of a TCP header without options.
const TCP_HEADER: usize = 20;

/// The way to a peer, as it is known when a connection starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The largest packet that leaves through the interface, in bytes.
    pub mtu: usize,
    /// The largest packet that the whole way takes, as far as it is known; at most `mtu`.
    pub pmtu: usize,
    /// Whether routers have to fragment, because `pmtu` is more than one of them claims to forward.
    pub fragments: bool,
    /// Whether packets are IPv6.
    pub ipv6: bool,
    /// What earlier connections measured.
    pub metrics: PathMetrics,
}

impl Path {
    /// A way of which nothing is known but the interface.
    pub const fn new(mtu: usize, ipv6: bool) -> Self {
        Self { mtu, pmtu: mtu, fragments: false, ipv6, metrics: PathMetrics::NONE }
    }

    /// The payload of the largest segment without options that the interface takes. It is what a SYN
    /// advertises (RFC 9293 MUST-67): the path MTU is of the way there, and the peer's packets may take
    /// another.
    pub(in crate::tcp) fn max_segment(self) -> usize {
        payload_of(self.mtu, self.ipv6).clamp(8, usize::from(u16::MAX))
    }

    /// The MSS of a peer that does not say (RFC 9293 MUST-15).
    pub(in crate::tcp) fn default_mss(self) -> u16 {
        if self.ipv6 { 1220 } else { 536 }
    }
}

/// The MTU of a path that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MtuReport {
    /// Bytes of the largest packet that the whole way takes, as far as it is known.
    pub bytes: usize,
    /// Whether routers have to fragment, because that is more than one of them claims to forward.
    pub fragments: bool,
}

/// Bytes that a packet of `mtu` bytes has for TCP's options and payload.
pub(in crate::tcp) fn payload_of(mtu: usize, ipv6: bool) -> usize {
    let ip_header = if ipv6 { 40 } else { 20 };
    mtu.saturating_sub(ip_header + TCP_HEADER)
}

/// What connections learned of a path, for those to come (`tcp_metrics` in Linux). Windows are in
/// segments, because the next connection's MSS may be another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathMetrics {
    /// Smoothed round-trip time: the largest of late, going down slowly.
    pub rtt: Option<Duration>,
    /// Round-trip time variation.
    pub rttvar: Option<Duration>,
    /// Slow start threshold, in segments; kept only if
    /// [`Config::no_ssthresh_metrics_save`](crate::config::Config::no_ssthresh_metrics_save) is off.
    pub ssthresh: Option<u32>,
    /// Congestion window, in segments. For people to look at: Linux starts no window from it either.
    pub cwnd: Option<u32>,
}

impl PathMetrics {
    const NONE: Self = Self { rtt: None, rttvar: None, ssthresh: None, cwnd: None };
}
