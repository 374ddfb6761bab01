//! UDP (RFC 768), without sockets, clock or I/O: which socket a datagram is for, and what a socket can be set
//! to.

// What peers send is kept here: nothing of it panics, by construction. Tests may.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

mod filter;
mod options;

pub use filter::{Ends, Filter};
pub use options::UdpOptions;
