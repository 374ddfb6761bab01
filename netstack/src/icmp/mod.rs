//! ICMP for IPv4 (RFC 792) and IPv6 (RFC 4443), without I/O: echo replies, received errors, errors
//! to send, and limits on their rate.

mod echo;
mod error;
mod kind;
mod rate_limit;
mod unreachable;

pub use crate::wire::Quoted;
pub use echo::{EchoRequest, emit_echo_reply, is_echo_reply, is_echo_request, parse_echo_request};
pub use error::{IcmpError, IcmpErrorKind, parse_error};
pub use rate_limit::{HostLimit, RateLimit};
pub use unreachable::{Undelivered, Unreachable, emit_parameter_problem, emit_unreachable};

#[cfg(test)]
mod tests;
