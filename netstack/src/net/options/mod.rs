//! Socket options, with the names of tokio and of socket2.
//!
//! ```text
//! ip         of the IP layer          tcp        of TCP          fast_open  of a TCP server, for Fast Open
//! ```
//!
//! A type gets a group of options by implementing the group's trait, through which its options are
//! read and changed, and naming the group's macro, which declares the methods: inherent methods
//! cannot be shared in another way. The values of options are checked here, once for all types.

pub(crate) mod fast_open;
pub(crate) mod ip;
pub(crate) mod tcp;
