//! Errors of the stack as [`io::Error`], with the error numbers of Linux.

use std::io;

/// The error with the number `errno` of the operating system, such as `libc::EADDRINUSE`.
pub(crate) fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// An error that can be reported more than once, which [`io::Error`] cannot: it is not [`Clone`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
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

impl From<&Failure> for io::Error {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Os(errno) => os(*errno),
            Failure::Text(kind, text) => Self::new(*kind, text.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
