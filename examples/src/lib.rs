//! What the examples of netstack share: payloads that can be checked, the small services of inetd,
//! transfers that notice a stall, and command lines.

pub mod checksum;
pub mod cli;
pub mod kernel;
pub mod pattern;
pub mod services;
pub mod transfer;
