//! Who began a connection.

/// How a connection was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// From here.
    Actively,
    /// By a peer's SYN.
    Passively,
    /// By a peer's SYN, with Fast Open.
    ByFastOpen,
}
