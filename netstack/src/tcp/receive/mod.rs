//! The receiving half of a connection: the window, what waits for the reader or for a hole to be
//! filled, and the acknowledgments that are owed.

// What peers send is kept here: nothing of it panics, by construction. Tests may.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

mod ack;
mod assembler;
mod receiver;
mod recv_buffer;
mod right_sizing;
mod space;

pub(super) use ack::Due;
#[cfg(any(test, feature = "simulation"))]
pub use receiver::Holdings;
pub(super) use receiver::{Echo, FirstAck, Received, Receiver, ReceiverSetup, TextMeta};
pub(super) use recv_buffer::RecvPlaces;
pub(super) use space::window_limit;
