//! The receiving half of a connection: the window, what waits for the reader or for a hole to be
//! filled, and the acknowledgments that are owed.

mod ack;
mod assembler;
mod receiver;
mod recv_buffer;
mod right_sizing;

pub(super) use ack::{AckPolicy, Due};
pub(super) use receiver::{Received, Receiver, ReceiverSetup, window_limit};
