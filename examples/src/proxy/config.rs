//! What a proxy can be set to.

use super::upstream::Outbound;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// The settings of a proxy.
#[derive(Clone, Debug, Default)]
pub struct ProxyConfig {
    /// How connections and datagrams leave.
    pub outbound: Outbound,
    /// What becomes of pings.
    pub ping: PingPolicy,
    /// Who answers DNS.
    pub dns: Dns,
    /// Whether the datagrams of a client leave through one socket, whatever their destinations are, and everybody
    /// may answer. Always so through a SOCKS5 server. Otherwise each destination has a socket of its own, and
    /// refusals are passed on.
    pub full_cone: bool,
    /// Limits.
    pub limits: Limits,
    /// Time-outs.
    pub timeouts: Timeouts,
}

/// What becomes of pings to other hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PingPolicy {
    /// The host is asked, and its answer passed on.
    #[default]
    Forward,
    /// The stack answers.
    Reply,
    /// Nobody answers.
    Ignore,
}

/// Who answers DNS: as long as nothing is set, whom the client asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dns {
    /// Gets all queries, whomever they are for.
    pub server: Option<SocketAddr>,
    /// Names that the proxy answers itself, and their addresses.
    pub hosts: Vec<(String, IpAddr)>,
}

impl Dns {
    /// Whether the proxy takes queries itself.
    pub fn is_own(&self) -> bool {
        self.server.is_some() || !self.hosts.is_empty()
    }
}

/// Limits of what clients may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// TCP connections at a time.
    pub connections: usize,
    /// TCP clients that wait until the proxy has connected.
    pub connecting: usize,
    /// UDP flows, or clients with `full_cone`.
    pub flows: usize,
    /// Pings and DNS queries that wait for an answer, each.
    pub questions: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 16_384, connecting: 4096, flows: 4096, questions: 256 }
    }
}

/// Time-outs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For connecting. Less than a client's own, which is about two minutes.
    pub connect: Duration,
    /// For a connection on which nothing moves (RFC 5382 §5, REQ-5: two hours and four minutes at least).
    pub idle: Duration,
    /// The same once it is closed in one direction (Linux's `nf_conntrack_tcp_timeout_fin_wait`).
    pub half_closed: Duration,
    /// For a flow of UDP (RFC 4787 §4.3, REQ-5).
    pub udp: Duration,
    /// For a ping or a DNS query.
    pub question: Duration,
    /// For what is open when the proxy ends.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(60),
            idle: Duration::from_secs(2 * 3600 + 4 * 60),
            half_closed: Duration::from_secs(120),
            udp: Duration::from_secs(120),
            question: Duration::from_secs(5),
            drain: Duration::from_secs(5),
        }
    }
}
