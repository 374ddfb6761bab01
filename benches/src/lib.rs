//! What the benches of netstack measure with and against.
//!
//! `README.md` beside this crate says how to run them and what each contender is.

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

pub mod clock;
pub mod limit;
