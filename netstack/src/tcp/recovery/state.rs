//! Where loss recovery stands, in the terms of Linux.

/// Where loss recovery stands (`tcp_ca_state` in Linux, `ca_state` of `TCP_INFO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CongestionState {
    /// Nothing unusual.
    #[default]
    Open,
    /// Something was received out of order; nothing is lost yet.
    Disorder,
    /// The peer reported marks (RFC 3168): the window goes down without a loss.
    Cwr,
    /// Fast recovery.
    Recovery,
    /// After a retransmission time-out.
    Loss,
}
