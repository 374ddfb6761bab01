//! The settings that are one of several modes.

use std::fmt;

/// Which TIME-WAIT entries a new active open may take over (`net.ipv4.tcp_tw_reuse`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeWaitReuse {
    /// None: 0 in Linux.
    Off,
    /// Any, if its timestamps prove that it is over a second old (RFC 6191): 1 in Linux.
    All,
    /// Those between addresses of this stack: 2, the default of Linux.
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

/// What Fast Open may be used for: the bits of `net.ipv4.tcp_fastopen`. Bits that mean nothing are
/// kept, as in Linux.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FastOpenMode(u32);

impl FastOpenMode {
    /// Nothing.
    pub const OFF: Self = Self(0);
    /// Active opens that ask for it.
    pub const CLIENT: Self = Self(0x1);
    /// Listeners that ask for it.
    pub const SERVER: Self = Self(0x2);
    /// Data in SYNs to any server, with or without its cookie.
    pub const CLIENT_NO_COOKIE: Self = Self(0x4);
    /// Data in SYNs is accepted without a cookie. Anybody can then make a listener answer forged
    /// addresses: for closed networks.
    pub const SERVER_NO_COOKIE: Self = Self(0x200);
    /// All listeners, with their backlog as the limit, whether they ask for it or not.
    pub const SERVER_ALL: Self = Self(0x400);

    /// From the number that `net.ipv4.tcp_fastopen` takes.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The number.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in here.
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
    /// As Linux's CUBIC: at a longer delay, or when a train of acknowledgments lasts for half of the
    /// smallest round trip.
    #[default]
    Linux,
    /// HyStart++ (RFC 9406): a longer delay leads to a slower growth for some round trips, and back
    /// if it turns out to have been noise.
    Rfc9406,
    /// Only a loss, or an ECN mark, ends it.
    Off,
}

/// What a socket does about the MTU of its path (`IP_MTU_DISCOVER`, `IPV6_MTU_DISCOVER`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MtuDiscover {
    /// Sends without DF and does not follow ICMP: routers fragment (`IP_PMTUDISC_DONT`).
    Dont,
    /// Sends with DF and follows ICMP; without DF where a router claims an MTU below
    /// [`Config::min_pmtu`](super::Config::min_pmtu) (`IP_PMTUDISC_WANT`, the default).
    #[default]
    Want,
    /// Sends with DF always, and follows ICMP (`IP_PMTUDISC_DO`).
    Do,
    /// Sends with DF and does not follow ICMP, for tools that probe the path
    /// (`IP_PMTUDISC_PROBE`).
    Probe,
}

impl MtuDiscover {
    /// Whether the sizes that ICMP tells count.
    pub(crate) fn follows_icmp(self) -> bool {
        matches!(self, Self::Want | Self::Do)
    }
}

/// Which explicit congestion notification a connection asks for in its SYN, and which it accepts
/// (`net.ipv4.tcp_ecn`). Whoever accepts AccECN (RFC 9768) also accepts RFC 3168.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcnNegotiation {
    /// None: 0 in Linux.
    Off,
    /// RFC 3168, asked for and accepted: 1 in Linux.
    Classic,
    /// RFC 3168, accepted: 2, the default of Linux.
    Accept,
    /// AccECN, asked for and accepted: 3 in Linux.
    Accurate,
    /// AccECN accepted, RFC 3168 asked for: 4 in Linux.
    ClassicAcceptAccurate,
    /// AccECN accepted: 5 in Linux.
    AcceptAccurate,
}

impl EcnNegotiation {
    /// All of them: Linux's numbers are the indices.
    pub const ALL: [Self; 6] = [
        Self::Off,
        Self::Classic,
        Self::Accept,
        Self::Accurate,
        Self::ClassicAcceptAccurate,
        Self::AcceptAccurate,
    ];

    /// Whether a SYN that asks for AccECN is granted it.
    pub(crate) const fn accepts_accurate(self) -> bool {
        matches!(self, Self::Accurate | Self::ClassicAcceptAccurate | Self::AcceptAccurate)
    }
}

/// When segments carry the AccECN option (`net.ipv4.tcp_ecn_option`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EcnOption {
    /// Never: 0 in Linux.
    Never,
    /// When counters changed, and a few times a round trip: 1 in Linux.
    Minimal,
    /// Wherever it fits: 2, the default of Linux.
    Always,
}

impl EcnOption {
    /// All of them: Linux's numbers are the indices.
    pub const ALL: [Self; 3] = [Self::Never, Self::Minimal, Self::Always];
}

/// When packetisation-layer path MTU discovery is used (`net.ipv4.tcp_mtu_probing`, RFC 4821).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MtuProbing {
    /// Never: 0, the default of Linux.
    Off,
    /// Once a black hole was found, which is when `retries1` is exceeded: 1 in Linux.
    BlackHole,
    /// Always: 2 in Linux.
    Always,
}

impl MtuProbing {
    /// All of them: Linux's numbers are the indices.
    pub const ALL: [Self; 3] = [Self::Off, Self::BlackHole, Self::Always];
}
