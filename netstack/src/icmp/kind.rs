//! Message types that the stack reads or writes.

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
