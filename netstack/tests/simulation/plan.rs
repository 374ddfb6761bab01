//! What a seed stands for, as values: hosts, paths, talks between applications, and faults. A plan is
//! drawn whole, and then parts of it may be left out without a change of the others.

mod draw;
mod without;

pub(crate) use without::{Part, parts};

use netstack::Config;

/// Everything that happens.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) hosts: Vec<HostPlan>,
    /// By the sending host, then by the receiving one.
    pub(crate) paths: Vec<Vec<PathPlan>>,
    pub(crate) talks: Vec<Talk>,
    pub(crate) chats: Vec<Chat>,
    pub(crate) faults: Vec<Fault>,
    /// What was left out.
    pub(crate) without: Vec<Part>,
}

#[derive(Clone, Debug)]
pub(crate) struct HostPlan {
    pub(crate) config: Config,
    /// The device completes checksums and cuts super-segments.
    pub(crate) offloads: bool,
    pub(crate) mtu: usize,
    /// Packets that the device holds before it is full.
    pub(crate) ring: usize,
    /// Packets that wait to be received before the device drops more.
    pub(crate) receive_ring: usize,
    /// Bytes per second that leave the device. None: no limit.
    pub(crate) rate: Option<u64>,
    /// In so many of a thousand cases a packet comes while its connection is locked.
    pub(crate) ambush: u64,
    /// Datagrams that nobody has a socket for are taken one by one, and not as flows.
    pub(crate) singly: bool,
    /// Milliseconds after which a flow without datagrams ends.
    pub(crate) idle_flows: u64,
}

/// One direction between two hosts. Shares are in parts per million.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathPlan {
    /// Nanoseconds.
    pub(crate) delay: u64,
    /// Nanoseconds that come on top at most.
    pub(crate) jitter: u64,
    pub(crate) loss: u64,
    pub(crate) duplicate: u64,
    /// Packets that are sent behind those that come up to 20 ms later.
    pub(crate) reorder: u64,
    pub(crate) corrupt: u64,
    /// ECN-capable packets that are marked.
    pub(crate) mark: u64,
    /// Super-segments are carried whole, as between virtual machines.
    pub(crate) whole: bool,
}

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Connections from one host to another, one after the other or at once, that do the same.
#[derive(Clone, Debug)]
pub(crate) struct Talk {
    /// Its number in the whole plan; the port of its server follows from it.
    pub(crate) number: usize,
    pub(crate) client: usize,
    pub(crate) server: usize,
    pub(crate) v6: bool,
    pub(crate) door: Door,
    /// When it starts, in milliseconds.
    pub(crate) start: u64,
    pub(crate) connections: usize,
    /// Milliseconds between the starts of two connections.
    pub(crate) gap: u64,
    pub(crate) kind: Kind,
    /// Bytes from the client and from the server.
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// The most that is written and read at once.
    pub(crate) write_size: u64,
    pub(crate) read_size: u64,
    /// In so many of a thousand cases an application waits before it reads or writes, for up to so many
    /// milliseconds.
    pub(crate) slow: u64,
    pub(crate) slow_for: u64,
    /// In so many of a thousand cases the future of an operation is dropped and made again.
    pub(crate) cancel: u64,
    /// How the streams are used.
    pub(crate) style: Style,
    pub(crate) ending: Ending,
    pub(crate) sockets: Sockets,
}

/// Where a client finds its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// At its host's own address.
    Own,
    /// At an address that its host accepts packets for.
    AnyIp,
    /// Nobody listens at such an address, and the host's forwarder takes what comes.
    Forwarder,
}

/// Datagrams from one host to another, of which each is answered.
#[derive(Clone, Debug)]
pub(crate) struct Chat {
    /// Its number in the whole plan; the port of its server follows from it.
    pub(crate) number: usize,
    pub(crate) client: usize,
    pub(crate) server: usize,
    pub(crate) v6: bool,
    pub(crate) door: Door,
    /// When it starts, in milliseconds.
    pub(crate) start: u64,
    pub(crate) datagrams: u32,
    /// Microseconds between two of them.
    pub(crate) gap: u64,
    /// The most bytes of a datagram.
    pub(crate) size: u64,
    /// The client's socket is connected.
    pub(crate) connected: bool,
    /// In so many of a thousand cases the future of an operation is dropped and made again.
    pub(crate) cancel: u64,
}

/// The options of a talk's sockets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sockets {
    pub(crate) backlog: u32,
    /// The application decides on each SYN, after so many milliseconds.
    pub(crate) pending: Option<u64>,
    pub(crate) fast_open: bool,
    pub(crate) nodelay: bool,
    pub(crate) keepalive: bool,
    pub(crate) linger: bool,
    pub(crate) send_buffer: Option<u32>,
    pub(crate) receive_buffer: Option<u32>,
    pub(crate) notsent_lowat: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Both write all and read all at the same time.
    Duplex,
    /// The server answers once it has read the end of the stream.
    HalfClose,
    /// So many requests and answers in turn.
    Rounds(u64),
    /// The server writes what it reads.
    Echo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// `AsyncRead` and `AsyncWrite` on borrowed halves, in one task.
    Borrowed,
    /// The same on owned halves, in two tasks.
    Owned,
    /// `readable` and `try_read`, `writable` and `try_write`.
    Ready,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything is written and read.
    Graceful,
    /// One end drops the stream after so many bytes written and read, with a reset or without.
    Abrupt { by: Side, after: u64, reset: bool },
}

/// Something that goes wrong, from one time to another, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) number: usize,
    pub(crate) at: u64,
    pub(crate) until: u64,
    pub(crate) kind: FaultKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// No packet passes between two hosts.
    Outage { a: usize, b: usize },
    /// A path is worse than it was.
    Storm { from: usize, to: usize, path: PathPlan },
    /// A router between two hosts passes no longer packets, and says so.
    Mtu { a: usize, b: usize, mtu: usize },
    /// The host is switched off and on again.
    Reboot { host: usize },
    /// The host does not run. Its clock stands still meanwhile, or jumps when it goes on.
    Pause { host: usize, clock_stands: bool },
    /// The host's clock jumps forward.
    ClockJump { host: usize },
    /// The device takes no packets.
    Full { host: usize },
    /// The device says again and again that it takes packets, and takes none.
    Fickle { host: usize },
    /// The device loses packets that it is given, and says so.
    Lossy { host: usize },
    /// Receiving is interrupted by signals.
    Interrupted { host: usize },
    /// The device is gone for good.
    Gone { host: usize },
    /// Something else takes most of the memory of the host's stack, or more than all of it.
    Squeeze { host: usize, full: bool },
    /// The interface is taken down.
    Down { host: usize },
    /// The interface does not have its address of a family.
    Unaddressed { host: usize, v6: bool },
    /// The interface accepts no packets for addresses that are not its own.
    Closed { host: usize },
    /// The interface has a smaller MTU than its device.
    SmallMtu { host: usize, mtu: usize },
}

impl FaultKind {
    /// The host that it concerns alone, if it does.
    pub(crate) fn host(&self) -> Option<usize> {
        match *self {
            Self::Outage { .. } | Self::Storm { .. } | Self::Mtu { .. } => None,
            Self::Reboot { host }
            | Self::Pause { host, .. }
            | Self::ClockJump { host }
            | Self::Full { host }
            | Self::Fickle { host }
            | Self::Lossy { host }
            | Self::Interrupted { host }
            | Self::Gone { host }
            | Self::Squeeze { host, .. }
            | Self::Down { host }
            | Self::Unaddressed { host, .. }
            | Self::Closed { host }
            | Self::SmallMtu { host, .. } => Some(host),
        }
    }
}

impl Talk {
    /// The port that the server listens on.
    pub(crate) fn port(&self) -> u16 {
        1000 + self.number as u16
    }

    /// Bytes that flow from one end to the other.
    pub(crate) fn bytes(&self, from: Side) -> u64 {
        match (from, self.kind) {
            (Side::Server, Kind::Echo) | (Side::Client, _) => self.up,
            (Side::Server, _) => self.down,
        }
    }
}

impl Chat {
    /// The port that the server has, or a forwarder in its place.
    pub(crate) fn port(&self) -> u16 {
        2000 + self.number as u16
    }
}

impl Plan {
    /// Whether the device of a host is gone at some time.
    pub(crate) fn is_gone(&self, host: usize) -> bool {
        self.faults.iter().any(|fault| fault.kind == FaultKind::Gone { host })
    }

    /// Whether packets of a host are lost before they leave it at some time.
    pub(crate) fn is_lossy(&self, host: usize) -> bool {
        self.faults.iter().any(|fault| {
            let loses = matches!(
                fault.kind,
                FaultKind::Lossy { .. } | FaultKind::Down { .. } | FaultKind::Unaddressed { .. }
            );
            loses && fault.kind.host() == Some(host)
        })
    }
}
