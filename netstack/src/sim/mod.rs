//! Many hosts in one process, in virtual time, for tests of distributed systems.
//!
//! Each host of a [`Net`] has a [`Stack`](crate::Stack) and a tokio runtime of its own, of one thread, whose time is
//! virtual. Its software is real application code on the sockets of [`net`](crate::net), with `tokio::spawn` and
//! `tokio::time`; between the hosts is a real TCP, over paths that delay, lose and reorder packets. The net lets
//! time pass: it goes to the earliest deadline of all hosts and paths, to the nanosecond, and lets those run that have
//! something to do then. A minute of a quiet net takes less than a second.
//!
//! The words are those of the crate turmoil, where it has them: [`Net::host`], [`Net::client`], [`Net::run`],
//! [`Net::step`], [`partition`](Links::partition), [`repair`](Links::repair), [`hold`](Links::hold),
//! [`release`](Links::release), [`Net::crash`], [`Net::bounce`].
//!
//! # Examples
//! ```
//! use netstack::net::{TcpListener, TcpStream};
//! use netstack::sim::Net;
//! use std::time::Duration;
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # fn main() -> netstack::sim::Result {
//! let mut net = Net::builder().seed(7).link("delay=5ms,loss=1%".parse()?).build()?;
//! net.host("server", "10.0.0.1", || async {
//!     let listener = TcpListener::bind("0.0.0.0:80").await?;
//!     loop {
//!         let (mut stream, _) = listener.accept().await?;
//!         tokio::spawn(async move {
//!             let (mut read, mut write) = stream.split();
//!             tokio::io::copy(&mut read, &mut write).await
//!         });
//!     }
//! })?;
//! net.client("client", "10.0.0.2", async {
//!     let mut stream = TcpStream::connect("server:80").await?;
//!     stream.write_all(b"hello").await?;
//!     stream.shutdown().await?;
//!     let mut echoed = String::new();
//!     stream.read_to_string(&mut echoed).await?;
//!     assert_eq!(echoed, "hello");
//!     Ok(())
//! })?;
//! net.run()?;
//! assert!(net.elapsed() < Duration::from_secs(2));
//! # Ok(())
//! # }
//! ```
//!
//! # What a seed determines
//! The same seed and the same software give the same packets at the same times, on every machine and in every process:
//! a [capture](NetBuilder::capture) is the same byte for byte. The seed is that of everything that the net, its paths
//! and its stacks leave to chance. What the software itself leaves to chance is its own: give it the seed of
//! [`Net::seed_of`]. Two things are easily overlooked: `tokio::select!` chooses among branches that are ready by chance,
//! unless it begins with `biased;`, and a `HashMap` is not iterated in the same order in two processes.
//!
//! # What a host does not see
//! The sockets of the kernel, its files and other threads are where they were, and do not know the time of the net. Code
//! that waits for them waits in real time.
//!
//! # Precision
//! Packets, and deadlines of stacks, are exact to the nanosecond. The timers of tokio are as fine as a millisecond.

mod host;
mod links;
mod names;
mod net;
mod nic;
mod seed;
mod sink;

pub use links::Links;
pub use net::{Net, NetBuilder};

/// What the software of a host ends with.
pub type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;
