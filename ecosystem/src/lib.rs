//! What the examples and tests of other crates on netstack have in common.

pub mod daemon;
pub mod greeter;
pub mod http;
pub mod page;
pub mod place;
pub mod tls;
