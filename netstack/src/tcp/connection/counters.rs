//! What happened so far, for `TCP_INFO`.

use crate::tcp::compact::compact;
use crate::time::Instant;

#[derive(Clone, Copy, Debug)]
pub(super) struct Counters {
    /// When the handshake was completed.
    pub(super) created: Instant,
    pub(super) segs_in: u64,
    pub(super) segs_out: u64,
    pub(super) data_segs_in: u64,
    pub(super) paws_drops: u64,
    pub(super) data_segs_out: u64,
    pub(super) bytes_acked: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
}

compact!(Counters {
    created,
    segs_in,
    segs_out,
    data_segs_in,
    paws_drops,
    data_segs_out,
    bytes_acked,
    bytes_received,
    bytes_sent,
});

impl Counters {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            created: now,
            segs_in: 0,
            segs_out: 0,
            data_segs_in: 0,
            paws_drops: 0,
            data_segs_out: 0,
            bytes_acked: 0,
            bytes_received: 0,
            bytes_sent: 0,
        }
    }

    /// A segment with `bytes` of payload, or our FIN, was sent, as `segments` on the wire.
    pub(super) fn on_data_sent(&mut self, bytes: usize, segments: usize) {
        self.data_segs_out += segments as u64;
        self.bytes_sent += bytes as u64;
    }
}
