//! The error that a stack's end gives to its sockets.

use std::io;

/// The error of every operation on a socket whose stack is over.
///
/// Its text is the one that tokio's sockets give when their runtime is gone, so that
/// [`tokio::runtime::is_rt_shutdown_err`] recognises it.
pub(crate) fn stack_over() -> io::Error {
    io::Error::other("A Tokio 1.x context was found, but it is being shutdown.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokio_recognises_the_error() {
        assert!(tokio::runtime::is_rt_shutdown_err(&stack_over()));
    }
}
