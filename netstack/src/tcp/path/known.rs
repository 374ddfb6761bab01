//! What the stack knows of the path to a peer before a connection is opened, and what a connection
//! saves for the next one.

use crate::time::Duration;

/// Bytes of a TCP header without options.
const TCP_HEADER: usize = 20;

/// The path to a peer, as it is known when a connection is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The MTU of the interface in bytes.
    pub mtu: usize,
    /// The known path MTU in bytes; at most `mtu`.
    pub pmtu: usize,
    /// Whether routers have to fragment, because `pmtu` is larger than the MTU that one of them
    /// reported.
    pub fragments: bool,
    /// Whether packets are IPv6.
    pub ipv6: bool,
    /// The measurements of earlier connections.
    pub metrics: PathMetrics,
}

impl Path {
    /// A path of which only the interface is known.
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
    /// The known path MTU in bytes.
    pub bytes: usize,
    /// Whether routers have to fragment, because that is larger than the MTU that one of them
    /// reported.
    pub fragments: bool,
}

/// Bytes that a packet of `mtu` bytes has for TCP's options and payload.
pub(in crate::tcp) fn payload_of(mtu: usize, ipv6: bool) -> usize {
    let ip_header = if ipv6 { 40 } else { 20 };
    mtu.saturating_sub(ip_header + TCP_HEADER)
}

/// The metrics of a path that connections save for later ones (`tcp_metrics` in Linux). Windows are
/// in segments, because the MSS of the next connection may differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PathMetrics {
    /// Smoothed round-trip time: the recent maximum, which decays slowly.
    pub rtt: Option<Duration>,
    /// Round-trip time variation.
    pub rttvar: Option<Duration>,
    /// Slow start threshold, in segments; kept only if
    /// [`Config::no_ssthresh_metrics_save`](crate::config::Config::no_ssthresh_metrics_save) is off.
    pub ssthresh: Option<u32>,
    /// Congestion window, in segments. For information only: as in Linux, no window starts from it.
    pub cwnd: Option<u32>,
}

impl PathMetrics {
    const NONE: Self = Self { rtt: None, rttvar: None, ssthresh: None, cwnd: None };
}
