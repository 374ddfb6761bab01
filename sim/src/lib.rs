//! Transfers over bad paths in virtual time, and what they should be like.
//!
//! [`net`] joins two whole stacks by a [`Link`](netstack::device::Link) under a clock that jumps to
//! the next thing that happens: a minute at 100 Mbit/s takes a second or so, and the same seed gives
//! the same packets. [`cell`] is one transfer over one path; [`matrix`] is all of them, with their
//! snapshots; [`ideal`] says what a cell is worth, so that a snapshot of a bad result cannot pass;
//! [`check`] compares with both, and knows which cells are known to fail.

#![forbid(unsafe_code)]

pub mod cell;
pub mod check;
pub mod ideal;
pub mod matrix;
pub mod net;
pub mod trace;
