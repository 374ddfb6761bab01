//! ICMP for IPv4 (RFC 792) and IPv6 (RFC 4443), without I/O: echo replies, received errors, errors
//! to send, and limits on their rate.

mod echo;
mod error;
mod rate_limit;
mod unreachable;

pub use crate::wire::Quoted;
pub use echo::{EchoRequest, emit_echo_reply, parse_echo_request};
pub use error::{IcmpError, IcmpErrorKind, parse_error};
pub use rate_limit::RateLimit;
pub use unreachable::{Undelivered, Unreachable, emit_parameter_problem, emit_unreachable};

/// Message types that the stack reads or writes.
mod kind {
    pub(super) mod v4 {
        pub(in crate::icmp) const ECHO_REPLY: u8 = 0;
        pub(in crate::icmp) const UNREACHABLE: u8 = 3;
        pub(in crate::icmp) const SOURCE_QUENCH: u8 = 4;
        pub(in crate::icmp) const REDIRECT: u8 = 5;
        pub(in crate::icmp) const ECHO_REQUEST: u8 = 8;
        pub(in crate::icmp) const TIME_EXCEEDED: u8 = 11;
        pub(in crate::icmp) const PARAMETER_PROBLEM: u8 = 12;
    }
    pub(super) mod v6 {
        pub(in crate::icmp) const UNREACHABLE: u8 = 1;
        pub(in crate::icmp) const PACKET_TOO_BIG: u8 = 2;
        pub(in crate::icmp) const TIME_EXCEEDED: u8 = 3;
        pub(in crate::icmp) const PARAMETER_PROBLEM: u8 = 4;
        pub(in crate::icmp) const ECHO_REQUEST: u8 = 128;
        pub(in crate::icmp) const ECHO_REPLY: u8 = 129;
        pub(in crate::icmp) const REDIRECT: u8 = 137;
    }
}

#[cfg(test)]
mod tests;
