//! Waiting on a thread.

use crate::net::clock;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for `future` on this thread, for at most `limit` of real time. None if that has passed.
pub(crate) fn block_on<F: Future>(future: F, limit: Option<Duration>) -> Option<F::Output> {
    // A task of tokio has a budget, and this one does not return to its runtime to get another.
    let mut future = pin!(tokio::task::unconstrained(future));
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    let end = limit.and_then(|limit| clock::monotonic().checked_add(limit));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return Some(output);
        }
        match end {
            None => std::thread::park(),
            Some(end) => {
                let left = end.saturating_duration_since(clock::monotonic());
                if left.is_zero() {
                    return None;
                }
                std::thread::park_timeout(left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_and_gives_up() {
        assert_eq!(block_on(async { 1 }, None), Some(1));
        assert_eq!(block_on(std::future::pending::<()>(), Some(Duration::from_millis(1))), None);
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(|| block_on(receiver, None));
        sender.send(7).unwrap();
        assert_eq!(thread.join().unwrap(), Some(Ok(7)));
    }
}
