//! Errors of the stack as [`io::Error`], with the error numbers of Linux.

use crate::tcp::TcpError;
use std::io;

/// The error with the number `errno` of the operating system, such as `libc::EADDRINUSE`.
pub(crate) fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// The error number of Linux that stands for `error`, or none for [`TcpError::WouldBlock`], which
/// tokio reports without one.
pub(crate) fn errno(error: TcpError) -> Option<i32> {
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

impl From<TcpError> for io::Error {
    fn from(error: TcpError) -> Self {
        errno(error).map_or_else(|| io::ErrorKind::WouldBlock.into(), os)
    }
}

/// An error that can be reported more than once, which [`io::Error`] cannot: it is not [`Clone`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// One of the core's.
    Tcp(TcpError),
    /// One of the operating system, of a device for example.
    Os(i32),
    /// One with a text of its own.
    Text(io::ErrorKind, String),
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::Os(errno),
            None => Self::Text(error.kind(), error.to_string()),
        }
    }
}

impl From<TcpError> for Failure {
    fn from(error: TcpError) -> Self {
        Self::Tcp(error)
    }
}

impl From<&Failure> for io::Error {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Tcp(error) => (*error).into(),
            Failure::Os(errno) => os(*errno),
            Failure::Text(kind, text) => Self::new(*kind, text.clone()),
        }
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

    #[test]
    fn a_failure_is_reported_alike_each_time() {
        let own = io::Error::new(io::ErrorKind::NotConnected, "the device is gone");
        let failure = Failure::from(&own);
        for _ in 0..2 {
            let again = io::Error::from(&failure);
            assert_eq!((again.kind(), again.to_string()), (own.kind(), own.to_string()));
        }
        assert_eq!(io::Error::from(&Failure::from(&os(libc::ENODEV))).raw_os_error(), Some(libc::ENODEV));
    }
}
