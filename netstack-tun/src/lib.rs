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
//! All of the above is for Linux, and [`Tun`] for Android with a descriptor of its `VpnService`. With the feature `tun-rs-2`
//! there is `TunRs` on every system: a device of the crate `tun-rs` (macOS, Windows, the BSDs, iOS, Android), which
//! is created and set up with that crate. Without it, the crate is empty there.

#![deny(unsafe_op_in_unsafe_fn)]
#![cfg_attr(not(target_os = "linux"), expect(rustdoc::broken_intra_doc_links, reason = "it is about Linux"))]

#[cfg(target_os = "linux")]
mod attach;
#[cfg(target_os = "linux")]
mod cidr;
#[cfg(target_os = "linux")]
mod config;
#[cfg(all(target_os = "linux", feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
#[cfg(target_os = "linux")]
pub mod interface;
#[cfg(target_os = "linux")]
mod netlink;
#[cfg(target_os = "linux")]
pub mod netns;
#[cfg(target_os = "linux")]
mod sys;
#[cfg(target_os = "linux")]
mod tun;
#[cfg(feature = "tun-rs-2")]
mod tun_rs;
#[cfg(target_os = "linux")]
mod vnet;

/// Gives memory that the process has freed back to the system, where the allocator is that of glibc, which keeps
/// what is free between blocks in use. Returns whether any was given back. For programs of this repository that
/// look at what is resident; no part of the public API.
#[cfg(target_os = "linux")]
#[doc(hidden)]
pub fn trim_heap() -> bool {
    #[cfg(target_env = "gnu")]
    return sys::trim_heap();
    #[cfg(not(target_env = "gnu"))]
    false
}

#[cfg(target_os = "linux")]
pub use cidr::Cidr;
#[cfg(target_os = "linux")]
pub use config::TunConfig;
#[cfg(target_os = "linux")]
pub use tun::Tun;
#[cfg(feature = "tun-rs-2")]
pub use tun_rs::TunRs;

/// The program in the README compiles.
#[cfg(all(doctest, target_os = "linux"))]
#[doc = include_str!("../README.md")]
struct Readme;
