//! Why an operation on a connection failed.

use crate::error::{Failure, os};
use crate::reasons::EndReason;
use std::fmt;
use std::io;

/// The errors of the core. Each corresponds to an error number of Linux, which the conversion to
/// [`io::Error`] uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TcpError {
    /// The operation would block (`EAGAIN`).
    WouldBlock,
    /// A reset answered the SYN (`ECONNREFUSED`).
    Refused,
    /// The peer reset the connection (`ECONNRESET`).
    Reset,
    /// The peer stopped answering (`ETIMEDOUT`).
    TimedOut,
    /// A write after `shutdown`, or after the connection has ended (`EPIPE`).
    BrokenPipe,
    /// There is no connection (`ENOTCONN`).
    NotConnected,
    /// The connection was aborted on this side (`ECONNABORTED`).
    Aborted,
    /// No route to the network (`ENETUNREACH`).
    NetworkUnreachable,
    /// No route to the host (`EHOSTUNREACH`).
    HostUnreachable,
    /// The peer does not support TCP (`ENOPROTOOPT`).
    ProtocolUnreachable,
    /// A router could not parse the header (`EPROTO`).
    Protocol,
    /// A policy on the path prohibits it (`EACCES`).
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

/// The error number of Linux that stands for `error`, or none for [`TcpError::WouldBlock`], which
/// tokio reports without one.
const fn errno(error: TcpError) -> Option<i32> {
    Some(match error {
        TcpError::WouldBlock => return None,
        TcpError::Refused => libc::ECONNREFUSED,
        TcpError::Reset => libc::ECONNRESET,
        TcpError::TimedOut => libc::ETIMEDOUT,
        TcpError::BrokenPipe => libc::EPIPE,
        TcpError::NotConnected => libc::ENOTCONN,
        TcpError::Aborted => libc::ECONNABORTED,
        TcpError::NetworkUnreachable => libc::ENETUNREACH,
        TcpError::HostUnreachable => libc::EHOSTUNREACH,
        TcpError::ProtocolUnreachable => libc::ENOPROTOOPT,
        TcpError::Protocol => libc::EPROTO,
        TcpError::Forbidden => libc::EACCES,
        TcpError::MessageSize => libc::EMSGSIZE,
        TcpError::NetworkDown => libc::ENETDOWN,
    })
}

impl TcpError {
    /// How a connection ends that an ICMP error of this meaning ends.
    pub(crate) fn as_end(self) -> EndReason {
        EndReason::Icmp { errno: errno(self).unwrap_or(libc::EAGAIN) }
    }
}

impl From<TcpError> for io::Error {
    fn from(error: TcpError) -> Self {
        errno(error).map_or_else(|| io::ErrorKind::WouldBlock.into(), os)
    }
}

impl From<TcpError> for Failure {
    fn from(error: TcpError) -> Self {
        errno(error).map_or_else(|| Self::from(&io::ErrorKind::WouldBlock.into()), Self::os)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_kind_and_the_number_that_applications_match() {
        for (error, kind, number) in [
            (TcpError::WouldBlock, io::ErrorKind::WouldBlock, None),
            (TcpError::Refused, io::ErrorKind::ConnectionRefused, Some(libc::ECONNREFUSED)),
            (TcpError::Reset, io::ErrorKind::ConnectionReset, Some(libc::ECONNRESET)),
            (TcpError::TimedOut, io::ErrorKind::TimedOut, Some(libc::ETIMEDOUT)),
            (TcpError::BrokenPipe, io::ErrorKind::BrokenPipe, Some(libc::EPIPE)),
            (TcpError::NotConnected, io::ErrorKind::NotConnected, Some(libc::ENOTCONN)),
            (TcpError::HostUnreachable, io::ErrorKind::HostUnreachable, Some(libc::EHOSTUNREACH)),
        ] {
            let error = io::Error::from(error);
            assert_eq!((error.kind(), error.raw_os_error()), (kind, number));
        }
    }
}
