//! Why an operation on a connection failed.

use std::fmt;

/// The errors of the core. Each stands for one error number of Linux; the conversion into
/// [`std::io::Error`] is in the crate's error module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpError {
    /// Nothing to do now, try later (`EAGAIN`).
    WouldBlock,
    /// A reset answered the SYN (`ECONNREFUSED`).
    Refused,
    /// The peer reset the connection (`ECONNRESET`).
    Reset,
    /// The peer stopped answering (`ETIMEDOUT`).
    TimedOut,
    /// Writing after the own FIN, or to a peer that is gone (`EPIPE`).
    BrokenPipe,
    /// There is no connection (`ENOTCONN`).
    NotConnected,
    /// The connection was given up on this side (`ECONNABORTED`).
    Aborted,
    /// No route to the network (`ENETUNREACH`).
    NetworkUnreachable,
    /// No way to the host (`EHOSTUNREACH`).
    HostUnreachable,
    /// The peer does not speak TCP (`ENOPROTOOPT`).
    ProtocolUnreachable,
    /// A router could not parse the header (`EPROTO`).
    Protocol,
    /// Forbidden by policy on the way (`EACCES`).
    Forbidden,
    /// The packet was too big for the path (`EMSGSIZE`).
    MessageSize,
    /// The network device is gone (`ENETDOWN`).
    NetworkDown,
}

impl fmt::Display for TcpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WouldBlock => "operation would block",
            Self::Refused => "connection refused",
            Self::Reset => "connection reset by peer",
            Self::TimedOut => "connection timed out",
            Self::BrokenPipe => "broken pipe",
            Self::NotConnected => "not connected",
            Self::Aborted => "connection aborted",
            Self::NetworkUnreachable => "network is unreachable",
            Self::HostUnreachable => "no route to host",
            Self::ProtocolUnreachable => "protocol not available at the peer",
            Self::Protocol => "protocol error",
            Self::Forbidden => "administratively prohibited",
            Self::MessageSize => "message too long",
            Self::NetworkDown => "network is down",
        })
    }
}

impl std::error::Error for TcpError {}
