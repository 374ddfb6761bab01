//! What the examples of netstack share: payloads that can be checked, the small services of inetd,
//! transfers that notice a stall, command lines, and the guided tour's experiments.

pub mod checksum;
pub mod cli;
pub mod flood;
pub mod kernel;
pub mod pattern;
pub mod relay;
pub mod services;
pub mod tour;
pub mod transfer;

/// The README, whose code is tested with the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
