//! The errors that a stack's end gives to its sockets.

use std::io;

/// Why a stack is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The runtime of its driver ended.
    RuntimeEnded,
    /// The application shut it down, or dropped everything that belongs to it.
    ShutDown,
}

impl Cause {
    /// The error of every operation on a socket whose stack is over.
    ///
    /// Where the runtime is gone, its text is the one that tokio's sockets give then, so that
    /// [`tokio::runtime::is_rt_shutdown_err`] recognises it.
    pub(crate) fn error(self) -> io::Error {
        io::Error::other(match self {
            Self::RuntimeEnded => "A Tokio 1.x context was found, but it is being shutdown.",
            Self::ShutDown => "the network stack was shut down",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::runtime::is_rt_shutdown_err;

    #[test]
    fn tokio_recognises_the_end_of_the_runtime_only() {
        assert!(is_rt_shutdown_err(&Cause::RuntimeEnded.error()));
        assert!(!is_rt_shutdown_err(&Cause::ShutDown.error()));
    }
}
