//! A system under test: a host with sockets, to which packets are given and whose packets are taken.
//!
//! [`Kernel`](crate::kernel::Kernel) and [`Ours`](crate::ours::Ours) are the two. Nothing here is about TCP
//! segments; what to inject is for the scripts, and what to make of the answers for the comparison.

use std::net::SocketAddr;
use std::time::Duration;

/// How the host is set up for one script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// IPv6 and not IPv4.
    pub(crate) ipv6: bool,
    /// `tcp_timestamps`.
    pub(crate) timestamps: bool,
    /// `tcp_sack`.
    pub(crate) sack: bool,
    /// `tcp_window_scaling`.
    pub(crate) window_scaling: bool,
    /// `tcp_ecn`: 0 to 2.
    pub(crate) ecn: u8,
    /// `tcp_syncookies`: 2 and not 1.
    pub(crate) cookies: bool,
    /// `tcp_invalid_ratelimit`: 500 ms and not 0.
    pub(crate) limited: bool,
    /// `SO_RCVBUF` in bytes.
    pub(crate) receive_buffer: Option<usize>,
}

/// The addresses of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    /// The host's.
    pub(crate) host: SocketAddr,
    /// That of the peer whom the test plays.
    pub(crate) peer: SocketAddr,
}

/// A call of the application. There is one socket, and perhaps a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Bind to the host's address and listen.
    Listen,
    /// Bind, and start to connect to the peer.
    Connect,
    /// Take a connection from the listener: it becomes the socket.
    Accept,
    /// Write so many bytes of the stream; the result is how many were taken.
    Write(usize),
    /// Shut the writing direction down.
    ShutdownWrite,
    /// Close the socket.
    Close,
}

/// What the application finds at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Observation {
    /// Whether there is a socket.
    pub(crate) socket: Option<SocketView>,
}

/// What can be learnt of a socket, in the order in which it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SocketView {
    /// The name of the state. TIME-WAIT is no state of a socket in Linux: both say CLOSE.
    pub(crate) state: &'static str,
    /// Of `IN OUT RDHUP HUP ERR`.
    pub(crate) poll: String,
    /// `SIOCINQ`.
    pub(crate) unread: usize,
    /// `SIOCOUTQ`; none once the connection is over.
    pub(crate) unacked: Option<usize>,
    /// All that could be read.
    pub(crate) data: Vec<u8>,
    /// What the last read said: `end`, or an error number.
    pub(crate) read_end: Result<(), i32>,
    /// `SO_ERROR` after that.
    pub(crate) error: Option<i32>,
}

/// A host under test.
pub(crate) trait System {
    /// A new script: everything of the last one is gone.
    fn begin(&mut self, settings: &Settings) -> Flow;

    /// A call of the application.
    ///
    /// # Errors
    /// The error number.
    fn call(&mut self, call: Call) -> Result<usize, i32>;

    /// A packet arrives.
    fn inject(&mut self, packet: &[u8]);

    /// The packets that the host has sent to the peer.
    fn take_sent(&mut self) -> Vec<Vec<u8>>;

    /// What the application finds.
    fn observe(&mut self) -> Observation;

    /// How long the script has taken on a clock that drives the host's timers.
    fn elapsed(&self) -> Duration;
}

/// Byte number `at` of what the application writes.
pub(crate) fn written(at: usize) -> u8 {
    (at % 251) as u8 ^ 0x55
}

/// The names of the states, in the order of Linux's numbers.
pub(crate) const STATES: [&str; 13] = [
    "?",
    "ESTABLISHED",
    "SYN-SENT",
    "SYN-RECEIVED",
    "FIN-WAIT-1",
    "FIN-WAIT-2",
    "CLOSE",
    "CLOSE",
    "CLOSE-WAIT",
    "LAST-ACK",
    "LISTEN",
    "CLOSING",
    "SYN-RECEIVED",
];
