//! IP protocol numbers that the stack knows.

/// ICMP for IPv4.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMP for IPv6.
pub const ICMPV6: u8 = 58;
/// Nothing follows an IPv6 header (RFC 8200 §4.7).
pub const NO_NEXT_HEADER: u8 = 59;
