//! The attributes of the crate `netstack`, which re-exports them: do not depend on this crate.

mod arguments;
mod function;

use proc_macro::TokenStream;

/// Runs an async test in a tokio runtime, with a stack of its own.
///
/// The stack is bound to the runtime ([`bind_runtime`]), so that `netstack::net::TcpStream::connect` and its kin use
/// it. It has nothing but its loopback, 127.0.0.0/8 and ::1: tests that run at the same time share no ports. A test
/// that takes an argument is given the stack.
///
/// [`bind_runtime`]: https://docs.rs/netstack/latest/netstack/struct.Stack.html#method.bind_runtime
///
/// # Arguments
/// Those of `tokio::test`, which mean the same:
/// - `flavor = "current_thread"` (the default) or `"multi_thread"`;
/// - `worker_threads = 2`, for `multi_thread`;
/// - `start_paused = true`, for `current_thread`: the time of the runtime is virtual. It takes tokio's feature
///   `test-util`. Unlike with `tokio::test`, the deadlines of stacks are kept to the nanosecond: a delay of 100 µs takes
///   100 µs;
/// - `crate = "path"`: where the crate netstack is, if it is called otherwise.
///
/// And one more:
/// - `link = "delay=20ms,loss=1%"`: impairs all packets on the stack's loopback, whose MTU is 1,500 bytes then. The text
///   is that of `netstack::device::LinkConfig`; the test panics if it is none.
///
/// # Examples
/// ```
/// use netstack::Stack;
/// use netstack::net::{TcpListener, TcpStream};
/// use std::time::Duration;
/// use tokio::time::Instant;
///
/// #[netstack::test(start_paused = true, link = "delay=20ms")]
/// async fn connecting_takes_a_round_trip(stack: Stack) -> std::io::Result<()> {
///     let listener = TcpListener::bind("127.0.0.1:80").await?;
///     let begin = Instant::now();
///     let stream = TcpStream::connect("127.0.0.1:80").await?;
///     assert_eq!(begin.elapsed(), Duration::from_millis(40));
///     assert_eq!(stack.connections(), 2);
///     # drop((listener, stream));
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(arguments.into(), item.into(), function::Kind::Test).into()
}

/// Runs `main` in a tokio runtime, with a stack that has nothing but its loopback. What was written is delivered
/// before it ends (`netstack::run`).
///
/// The arguments are those of [`macro@test`]; the default flavor is `multi_thread`. A program whose stack has
/// interfaces builds it itself, and uses `#[tokio::main]` and `netstack::run`.
///
/// # Examples
/// ```
/// use netstack::net::{TcpListener, TcpStream};
///
/// #[netstack::main]
/// async fn main() -> std::io::Result<()> {
///     let listener = TcpListener::bind("127.0.0.1:0").await?;
///     let client = TcpStream::connect(listener.local_addr()?).await?;
///     let (server, peer) = listener.accept().await?;
///     assert_eq!(peer, client.local_addr()?);
///     # drop(server);
///     Ok(())
/// }
/// ```
#[proc_macro_attribute]
pub fn main(arguments: TokenStream, item: TokenStream) -> TokenStream {
    function::expand(arguments.into(), item.into(), function::Kind::Main).into()
}
