//! Stacks and connections for the tests of the facade.

use netstack::device::{Link, LinkConfig};
use netstack::net::{TcpListener, TcpStream};
use netstack::{Interface, Stack};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A stack with its loopback.
pub(crate) fn stack() -> Stack {
    Stack::builder().build().expect("a stack in a runtime")
}

/// A connection over the loopback of a new stack: the client's end and the server's.
pub(crate) async fn connected() -> (Stack, TcpStream, TcpStream) {
    let stack = stack();
    let (client, server) = connect(&stack).await;
    (stack, client, server)
}

/// A connection over the loopback of `stack`.
pub(crate) async fn connect(stack: &Stack) -> (TcpStream, TcpStream) {
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    join(stack, &listener).await
}

/// A connection from `stack` to `listener`: the client's end and the server's.
pub(crate) async fn join(stack: &Stack, listener: &TcpListener) -> (TcpStream, TcpStream) {
    let addr = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(stack.connect(addr), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

/// Two stacks, 10.0.0.1 and 10.0.0.2, joined by a link.
pub(crate) fn linked(link: &str) -> (Stack, Stack) {
    let config: LinkConfig = link.parse().expect("a link");
    let (left, right) = Link::pair(config.clone(), config);
    let build = |name: &str, link, address| {
        let interface = Interface::new(Arc::new(link)).address(address);
        Stack::builder().name(name).interface(interface).build().expect("a stack in a runtime")
    };
    (build("left", left, "10.0.0.1/24"), build("right", right, "10.0.0.2/24"))
}

/// A task for `future`, and what completes when the task has begun to wait.
pub(crate) fn spawn_waiting<F>(handle: &Handle, future: F) -> (JoinHandle<F::Output>, oneshot::Receiver<()>)
where
    F: Future<Output: Send> + Send + 'static,
{
    let (waits, is_waiting) = oneshot::channel();
    let (mut future, mut waits) = (Box::pin(future), Some(waits));
    let task = handle.spawn(poll_fn(move |cx| {
        let outcome = future.as_mut().poll(cx);
        if outcome.is_pending()
            && let Some(waits) = waits.take()
        {
            waits.send(()).expect("the test expects it to wait");
        }
        outcome
    }));
    (task, is_waiting)
}

/// Polls once, with a waker that does nothing.
pub(crate) fn poll_once<R>(poll: impl FnOnce(&mut Context<'_>) -> Poll<R>) -> Poll<R> {
    poll(&mut Context::from_waker(std::task::Waker::noop()))
}
