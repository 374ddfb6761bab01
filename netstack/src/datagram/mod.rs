//! Datagrams that were received, and the queue in which they wait until they are read: what UDP and raw
//! sockets have in common.

mod budget;
mod queue;
mod value;

pub use budget::Budget;
pub use queue::{Gathered, Pushed, ReceiveQueue};
pub use value::{Datagram, Origin};
