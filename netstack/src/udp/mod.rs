//! UDP (RFC 768), without sockets, clock or I/O: which socket a datagram is for, and what a socket can be set
//! to.

mod filter;
mod options;

pub use filter::{Ends, Filter};
pub use options::UdpOptions;
