//! Code that the examples of netstack share: payloads that can be checked, the simple services of
//! inetd, transfers that detect a stall, command lines, and the experiments of the guided tour.

pub mod checksum;
pub mod cli;
pub mod flood;
pub mod kernel;
pub mod pattern;
pub mod proxy;
pub mod relay;
pub mod selftest;
pub mod services;
pub mod socks5;
#[cfg(feature = "tour")]
pub mod tour;
pub mod transfer;

/// The README, whose code is tested with the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
