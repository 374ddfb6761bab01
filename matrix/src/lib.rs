//! Transfers over impaired paths in virtual time, and their expected results.
//!
//! [`net`] connects two complete stacks by a [`Link`](netstack::device::Link) under a clock that
//! jumps to the next event: a minute at 100 Mbit/s takes about a second, and the same seed gives
//! the same packets. [`cell`] is one transfer over one path; [`matrix`] is all of them, with their
//! snapshots; [`ideal`] computes the expected result of a cell, so that a snapshot of a bad result
//! cannot pass; [`check`] compares with both, and has the list of known failures.

#![forbid(unsafe_code)]

pub mod cell;
pub mod check;
pub mod ideal;
pub mod matrix;
pub mod net;
pub mod trace;
