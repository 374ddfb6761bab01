//! What the benches of netstack measure with and against.
//!
//! `README.md` beside this crate says how to run them and what each contender is. A measurement takes
//! a [`server::Server`], a process that is one [`contender::Contender`], and a [`client`], which is the
//! kernel's TCP.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

pub mod client;
pub mod clock;
pub mod contender;
pub mod lane;
pub mod limit;
pub mod pair;
pub mod serve;
pub mod server;
pub mod services;
pub mod stats;
