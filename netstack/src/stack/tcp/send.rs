//! Sending segments that have no payload, outside any stream.

use super::Tcp;
use crate::device::TxPacket;
use crate::stack::core::Core;
use crate::stack::egress::{Sent, checksum_mode, send_packet};
use crate::stack::flow::{FlowKey, QueueId};
use crate::stack::turn::Turn;
use crate::trace::EventKind;
use crate::wire::{HeaderBuf, IpMeta, Segment, TcpDatagram, emit_tcp};

/// What the IP header of a socket's packets says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// `IP_TTL`, or the hop limit.
    pub(super) ttl: u8,
    /// `IP_TOS` or `IPV6_TCLASS`.
    pub(super) traffic_class: u8,
}

impl Marks {
    /// Those of packets that belong to no socket.
    pub(super) fn default_of(core: &Core) -> Self {
        Self { ttl: core.config().default_ttl, traffic_class: 0 }
    }

    /// The IP header of a packet from the local to the remote end.
    pub(super) fn ip(self, key: &FlowKey) -> IpMeta {
        IpMeta { traffic_class: self.traffic_class, ..IpMeta::new(key.local(), key.remote(), self.ttl) }
    }
}

impl Tcp {
    /// Sends a segment without payload. Answers that the device does not take are lost, as they
    /// might be on the way.
    pub(super) fn send_segment(
        &self,
        turn: &mut Turn<'_>,
        queue: QueueId,
        key: &FlowKey,
        marks: Marks,
        segment: &Segment,
    ) -> Sent {
        turn.trace(|| key.about(), || EventKind::SegmentOut(segment.into()));
        let mut header = HeaderBuf::new();
        let mode = checksum_mode(turn.core, queue.interface);
        let (from, to) = (key.local_port, key.remote_port);
        let checksum = emit_tcp(
            &mut header,
            &TcpDatagram { ip: &marks.ip(key), src_port: from, dst_port: to, segment, payload: &[] },
            mode,
        );
        send_packet(turn, queue, &TxPacket { header: &header, payload: &[], checksum, gso: None })
    }
}
