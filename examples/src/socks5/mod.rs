//! SOCKS version 5 (RFC 1928) with names and passwords (RFC 1929): a client, and a server for tests.
//!
//! Over kernel sockets. The commands are CONNECT and UDP ASSOCIATE; addresses are never names, since a proxy
//! behind a TUN device sees none.

mod client;
mod server;
mod wire;

pub use client::{Association, Socks5};
pub use server::Server;
