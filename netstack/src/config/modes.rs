//! The settings that are one of several modes.

use std::fmt;

/// Which TIME-WAIT entries a new active open may replace (`net.ipv4.tcp_tw_reuse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeWaitReuse {
    /// None: 0 in Linux.
    Off,
    /// Any entry whose timestamps show that it is more than a second old (RFC 6191): 1 in Linux.
    All,
    /// Entries of connections between addresses of this stack: 2, the default of Linux.
    Loopback,
}

/// When listeners use SYN cookies (`net.ipv4.tcp_syncookies`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SynCookieMode {
    /// Never: once the SYN queue is full, SYNs are dropped. 0 in Linux.
    Off,
    /// Once the SYN queue is full: 1, the default of Linux.
    Overflow,
    /// For every SYN: 2 in Linux, for tests.
    Always,
}

/// What becomes of an echo request ("ping") to an address that
/// [`Interface::any_ip`](crate::Interface::any_ip) accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EchoPolicy {
    /// The stack replies, as for its own addresses.
    #[default]
    Reply,
    /// It is dropped.
    Ignore,
    /// It comes out of [`Stack::echo_forwarder`](crate::Stack::echo_forwarder), and the application
    /// decides; it is dropped if there is no such forwarder.
    Forward,
}

/// Which packets are dropped for the interface that they came in on, given where their source is
/// (`net.ipv4.conf.all.rp_filter`; RFC 3704 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ReversePath {
    /// None: who is behind one interface can send with the address of who is behind another.
    #[default]
    Off,
    /// Those that did not come in on the interface that the best route to their source leads through.
    Strict,
    /// Those with a source that no route leads to.
    Loose,
}

/// The uses of Fast Open that are permitted: the bits of `net.ipv4.tcp_fastopen`. Undefined bits
/// are kept, as in Linux.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FastOpenMode(u32);

impl FastOpenMode {
    /// Fast Open is not used.
    pub const OFF: Self = Self(0);
    /// Sockets that enable it, for active opens.
    pub const CLIENT: Self = Self(0x1);
    /// Sockets that enable it, for listening.
    pub const SERVER: Self = Self(0x2);
    /// Data in SYNs to any server, with or without its cookie.
    pub const CLIENT_NO_COOKIE: Self = Self(0x4);
    /// Data in SYNs is accepted without a cookie. A listener can then be made to answer to forged
    /// addresses, so this is for closed networks only.
    pub const SERVER_NO_COOKIE: Self = Self(0x200);
    /// All listeners, whether or not they enable it, with their backlog as the limit.
    pub const SERVER_ALL: Self = Self(0x400);

    /// From the number of `net.ipv4.tcp_fastopen`.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The number.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The union of both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl fmt::Debug for FastOpenMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FastOpenMode({:#x})", self.0)
    }
}

/// How slow start may end before the first loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Hystart {
    /// HyStart as in Linux's CUBIC: slow start ends when the delay increases, or when an ACK train
    /// lasts for half of the minimum round-trip time.
    #[default]
    Linux,
    /// HyStart++ (RFC 9406): when the delay increases, growth slows down for some round trips. Slow
    /// start resumes if the increase proves to be spurious.
    Rfc9406,
    /// Slow start ends only with a loss or an ECN mark.
    Off,
}

/// Path MTU discovery of a socket (`IP_MTU_DISCOVER`, `IPV6_MTU_DISCOVER`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MtuDiscover {
    /// Packets are sent without DF, so that routers fragment them, and ICMP messages are ignored
    /// (`IP_PMTUDISC_DONT`).
    Dont,
    /// Packets are sent with DF, and ICMP messages set the path MTU. If a router reports an MTU
    /// below [`Config::min_pmtu`](super::Config::min_pmtu), packets are sent without DF
    /// (`IP_PMTUDISC_WANT`, the default).
    #[default]
    Want,
    /// Packets are always sent with DF, and ICMP messages set the path MTU (`IP_PMTUDISC_DO`).
    Do,
    /// Packets are sent with DF, and ICMP messages are ignored. This is for tools that probe the
    /// path (`IP_PMTUDISC_PROBE`).
    Probe,
    /// Packets are sent without DF, ICMP messages are ignored, and a datagram that is longer than the MTU
    /// of the interface is refused (`IP_PMTUDISC_INTERFACE`). Forged messages have no effect then.
    Interface,
    /// As `Interface`, but a datagram that is longer than the MTU of the interface is sent in fragments
    /// (`IP_PMTUDISC_OMIT`).
    Omit,
}

impl MtuDiscover {
    /// Whether ICMP messages set the path MTU.
    pub(crate) fn follows_icmp(self) -> bool {
        matches!(self, Self::Want | Self::Do)
    }

    /// Whether a datagram is sent in fragments if it is longer than the MTU.
    pub(crate) fn fragments(self) -> bool {
        matches!(self, Self::Dont | Self::Want | Self::Omit)
    }

    /// Whether the MTU is that of the path; otherwise it is that of the interface.
    pub(crate) fn uses_path(self) -> bool {
        matches!(self, Self::Dont | Self::Want | Self::Do)
    }
}

/// Which explicit congestion notification a connection requests in its SYN, and which it accepts
/// (`net.ipv4.tcp_ecn`). Where AccECN (RFC 9768) is accepted, RFC 3168 is accepted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcnNegotiation {
    /// None: 0 in Linux.
    Off,
    /// RFC 3168, requested and accepted: 1 in Linux.
    Classic,
    /// RFC 3168, accepted: 2, the default of Linux.
    Accept,
    /// AccECN, requested and accepted: 3 in Linux.
    Accurate,
    /// AccECN accepted, RFC 3168 requested: 4 in Linux.
    ClassicAcceptAccurate,
    /// AccECN, accepted: 5 in Linux.
    AcceptAccurate,
}

impl EcnNegotiation {
    /// All modes. The index of a mode is its number in Linux.
    pub const ALL: [Self; 6] = [
        Self::Off,
        Self::Classic,
        Self::Accept,
        Self::Accurate,
        Self::ClassicAcceptAccurate,
        Self::AcceptAccurate,
    ];

    /// Whether AccECN is negotiated if a SYN requests it.
    pub(crate) const fn accepts_accurate(self) -> bool {
        matches!(self, Self::Accurate | Self::ClassicAcceptAccurate | Self::AcceptAccurate)
    }
}

/// When segments carry the AccECN option (`net.ipv4.tcp_ecn_option`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcnOption {
    /// Never: 0 in Linux.
    Never,
    /// When counters have changed, and a few times per round trip: 1 in Linux.
    Minimal,
    /// Whenever it fits: 2, the default of Linux.
    Always,
}

impl EcnOption {
    /// All modes. The index of a mode is its number in Linux.
    pub const ALL: [Self; 3] = [Self::Never, Self::Minimal, Self::Always];
}

/// When packetization-layer path MTU discovery is used (`net.ipv4.tcp_mtu_probing`, RFC 4821).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtuProbing {
    /// Never: 0, the default of Linux.
    Off,
    /// After a black hole was detected, which is when `retries1` is exceeded: 1 in Linux.
    BlackHole,
    /// Always: 2 in Linux.
    Always,
}

impl MtuProbing {
    /// All modes. The index of a mode is its number in Linux.
    pub const ALL: [Self; 3] = [Self::Off, Self::BlackHole, Self::Always];
}
