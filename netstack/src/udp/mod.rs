//! UDP (RFC 768), without sockets, clock or I/O: which socket a datagram is for, the queue that it waits
//! in until it is read, and what a socket can be set to.

mod datagram;
mod filter;
mod options;
mod queue;

pub use datagram::{Datagram, Origin};
pub use filter::{Ends, Filter, Score};
pub use options::UdpOptions;
pub use queue::{Gathered, Pushed, ReceiveQueue};
