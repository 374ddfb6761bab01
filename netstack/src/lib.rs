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
//! The [`guide`] says which stack a socket takes, how to write a device, how to find out why a connection does what it
//! does, and how to come here from other stacks.
//!
//! # Features
//! - `net` (default): [`Stack`], the sockets of [`net`] and the reactor that drives them on tokio.
//!   Without it the crate is the stack without I/O, [`stack::Engine`], and depends on no runtime.
//! - `macros` (default): [`macro@test`] and [`macro@main`].
//! - `axum-0_8`, `hickory-0_26`, `hyper-util-0_1`, `quinn-0_11`, `tokio-util-0_7`, `tonic-0_14`: what these crates need to
//!   take sockets of a stack, for the version in the name: modules of [`net`] that are called as the crates are.
//!   `hickory` is for names by DNS over the sockets of a stack, with `StackBuilder::dns`.
//! - `sim`: [`sim`](https://docs.rs/netstack/latest/netstack/sim/index.html), many hosts in one process, in virtual time. It turns on
//!   the feature `test-util` of tokio.
//! - `tracing`: `trace::Tracing`, which hands the events of a stack on to the crate `tracing`.
//!
//! # Stability
//! Until 1.0, a release with a new minor number (0.2, 0.3) may change any name; the changelog lists each
//! change.
//!
//! - **Stable in intent:** [`net`] and what it names: [`Stack`], [`StackBuilder`], [`Driver`], the socket
//!   types and their options. The sockets follow `tokio::net` and `socket2`: names, signatures, errors and
//!   cancel safety change only when theirs do. The same holds for [`Interface`], [`Config`], the trait
//!   [`device::Device`], the devices of [`device`], and [`tcp::CongestionControl`]. [`Config`] gains
//!   settings in any release; their defaults follow Linux and the RFCs, and a default may change with them.
//! - **For drivers, simulations and tests:** [`stack::Engine`] and the rest of [`stack`], [`tcp`], [`udp`],
//!   [`datagram`], [`ip`], [`icmp`], [`wire`], [`buffer`], [`time`] and [`sync`]. They are public so that the stack can be driven
//!   without I/O, and they change when the stack needs it, in a minor release.
//! - **Not promised:** the exact segments on the wire and their timing, beyond what the RFCs in
//!   CONFORMANCE.md require; the text of error messages and of `Debug`; the set of reasons and counters.
//!
//! The minimum supported Rust version is the `rust-version` of Cargo.toml and rises only in a minor
//! release. Features are additive: none changes the behaviour of what is there without it.
#![forbid(unsafe_code)]

pub mod buffer;
pub mod memory;
pub mod time;

pub mod config;
mod error;
pub mod readiness;
pub mod reasons;
pub mod sync;
pub mod trace;

pub mod device;
pub mod wire;

pub mod datagram;
pub mod icmp;
pub mod ip;
pub mod tcp;
pub mod udp;

pub mod stack;

#[cfg(feature = "net")]
pub mod net;

#[cfg(feature = "sim")]
pub mod sim;

#[cfg(feature = "net")]
#[doc = include_str!("guide.md")]
pub mod guide {}

pub use config::Config;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub use net::attributes as __attributes;
#[cfg(feature = "net")]
pub use net::tcp::TcpKeepalive;
#[cfg(feature = "net")]
pub use net::{Driver, SockRef, Stack, StackBuilder, blocking, bridge, run};
#[cfg(feature = "macros")]
pub use netstack_macros::{main, test};
pub use stack::{Interface, IpRoute};
