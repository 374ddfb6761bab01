//! The tools and contenders of netstack's benches.
//!
//! The `README.md` of this crate describes how to run them, and the contenders. A measurement needs
//! a [`server::Server`], which is a process that runs one [`contender::Contender`], and a
//! [`client`], which uses the kernel's TCP.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

pub mod client;
pub mod clock;
pub mod contender;
pub mod counts;
pub mod datagrams;
pub mod forward;
pub mod hostile;
pub mod lane;
pub mod limit;
pub mod pair;
pub mod process;
pub mod serve;
pub mod server;
pub mod services;
pub mod stats;
