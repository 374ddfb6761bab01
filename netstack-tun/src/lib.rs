//! Linux TUN devices for netstack, and network namespaces without root.
//!
//! A [`Tun`] connects a stack to the kernel of its machine: packets that the kernel routes to the
//! interface arrive at the stack, and the other way round. With its offloads (a virtio-net header
//! on each packet) TCP super-segments of up to 64 KiB cross in one system call in either direction,
//! and no checksum over their payload is computed.
//!
//! ```no_run
//! use netstack::buffer::Pool;
//! use netstack::device::Device;
//! use netstack::time::Instant;
//! use netstack_tun::{Tun, TunConfig, netns};
//!
//! fn main() -> std::io::Result<()> {
//!     // Without root: a private network, in which this process may do as it likes.
//!     netns::enter_private()?;
//!
//!     // The kernel is 10.9.0.1, and routes the rest of 10.9.0.0/24 to us.
//!     let tun = Tun::open(&TunConfig::new("tun0").address("10.9.0.1/24")?)?;
//!
//!     // A stack does the following by itself.
//!     let mut buf = Pool::new().take();
//!     match tun.receive(Instant::ZERO, 0, &mut buf) {
//!         Ok(meta) => println!("{:02x?}", &buf.bytes()[..meta.len]),
//!         Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => println!("nothing yet"),
//!         Err(err) => return Err(err),
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # What is here
//! - [`Tun`] and [`TunConfig`]: create a device or attach to one, with one queue or many.
//! - [`interface`]: sets up the kernel's side (addresses, routes, veth pairs) without the `ip`
//!   command.
//! - [`netns`]: private network namespaces for programs and for tests, with and without root.
//!
//! # Privileges
//! Opening a device requires access to `/dev/net/tun` (mode 666 on most distributions) and, unless
//! the device exists and is owned by the user, CAP_NET_ADMIN over the network namespace. A process
//! has that in a namespace that it has created: [`netns::enter_private`].
//!
//! # Other systems
//! This crate is empty except on Linux.

#![cfg(target_os = "linux")]
#![deny(unsafe_op_in_unsafe_fn)]

mod attach;
mod cidr;
mod config;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod interface;
mod netlink;
pub mod netns;
mod sys;
mod tun;
mod vnet;

/// Gives memory that the process has freed back to the system, where the allocator is that of glibc, which keeps
/// what is free between blocks in use. Returns whether any was given back. For programs of this repository that
/// look at what is resident; no part of the public API.
#[doc(hidden)]
pub fn trim_heap() -> bool {
    #[cfg(target_env = "gnu")]
    return sys::trim_heap();
    #[cfg(not(target_env = "gnu"))]
    false
}

pub use cidr::Cidr;
pub use config::TunConfig;
pub use tun::Tun;
