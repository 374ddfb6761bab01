//! A TCP/IP stack in user space with the API of `tokio::net`.
//!
//! Replace `use tokio::net::…` with `use netstack::net::…`, build a [`Stack`], and connections are
//! carried by a TCP that runs inside the process: over a TUN device, an in-memory link or a
//! simulated network.
//!
//! ```
//! use netstack::Stack;
//! use netstack::net::{TcpListener, TcpStream};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! #[tokio::main]
//! async fn main() -> std::io::Result<()> {
//!     // With no interface of its own, the stack has its loopback.
//!     let stack = Stack::builder().build()?;
//!     let _bound = stack.bind_runtime(&tokio::runtime::Handle::current())?;
//!
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let addr = listener.local_addr()?;
//!     tokio::spawn(async move {
//!         let (mut stream, _) = listener.accept().await?;
//!         let (mut read, mut write) = stream.split();
//!         tokio::io::copy(&mut read, &mut write).await
//!     });
//!
//!     let mut stream = TcpStream::connect(addr).await?;
//!     stream.write_all(b"hello").await?;
//!     stream.shutdown().await?;
//!     let mut echoed = String::new();
//!     stream.read_to_string(&mut echoed).await?;
//!     assert_eq!(echoed, "hello");
//!     Ok(())
//! }
//! ```
//!
//! # Features
//! - `net` (default): [`Stack`], the sockets of [`net`] and the reactor that drives them on tokio.
//!   Without it the crate is the stack without I/O, [`stack::Engine`], and depends on no runtime.
//! - `tracing`: `trace::Tracing`, which hands the events of a stack on to the crate `tracing`.
#![forbid(unsafe_code)]

pub mod buffer;
pub mod time;

pub mod config;
mod error;
pub mod readiness;
pub mod reasons;
pub mod sync;
pub mod trace;

pub mod device;
pub mod wire;

pub mod icmp;
pub mod ip;
pub mod tcp;

pub mod stack;

#[cfg(feature = "net")]
pub mod net;

pub use config::Config;
#[cfg(feature = "net")]
pub use net::{Driver, SockRef, Stack, StackBuilder, run};
pub use stack::Interface;
