//! What a handshake found out.

use super::fast_open::FastOpenNotes;
use super::offer::Negotiated;
use crate::tcp::ecn::EcnState;
use crate::tcp::path::Path;
use crate::time::Duration;
use crate::wire::SeqNum;

/// Everything that a connection starts from.
#[derive(Debug)]
pub(in crate::tcp) struct Established {
    /// Our initial sequence number.
    pub(in crate::tcp) iss: SeqNum,
    /// The peer's.
    pub(in crate::tcp) irs: SeqNum,
    /// The way to the peer.
    pub(in crate::tcp) path: Path,
    pub(in crate::tcp) negotiated: Negotiated,
    /// The window that the peer's last handshake segment offers, in bytes.
    pub(in crate::tcp) snd_wnd: usize,
    /// The window that we offered, in bytes.
    pub(in crate::tcp) offered: usize,
    /// The handshake's round-trip time, if Karn's rule lets us use it.
    pub(in crate::tcp) rtt: Option<Duration>,
    /// How often our SYN or SYN-ACK had to be sent again.
    pub(in crate::tcp) syn_timeouts: u32,
    /// ECN, if both ends agreed on it.
    pub(in crate::tcp) ecn: Option<Box<EcnState>>,
    /// What is known of Fast Open.
    pub(in crate::tcp) fast_open: FastOpenNotes,
}
