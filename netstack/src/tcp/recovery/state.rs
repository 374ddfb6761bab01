//! The phases of loss recovery, with the names of Linux.

use crate::tcp::compact::compact;

/// The phase of loss recovery (`tcp_ca_state` in Linux, `ca_state` of `TCP_INFO`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CongestionState {
    /// Nothing unusual.
    #[default]
    Open,
    /// Something was received out of order; nothing is lost yet.
    Disorder,
    /// The peer reported marks (RFC 3168): the window is reduced without a loss.
    Cwr,
    /// Fast recovery.
    Recovery,
    /// After a retransmission timeout.
    Loss,
}

compact!(
    enum CongestionState {
        Open,
        Disorder,
        Cwr,
        Recovery,
        Loss,
    }
);
