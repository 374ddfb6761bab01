//! Sending segments that have no payload, outside any stream.

use super::Tcp;
use crate::device::TxPacket;
use crate::ip::PacketOptions;
use crate::stack::core::Core;
use crate::stack::egress::{Sent, checksum_mode, send_packet};
use crate::stack::flow::{FlowKey, QueueId};
use crate::stack::turn::Turn;
use crate::trace::EventKind;
use crate::wire::{HeaderBuf, Segment, TcpDatagram, emit_tcp};

/// The options of packets that belong to no socket.
pub(super) fn packets_of_nobody(core: &Core) -> PacketOptions {
    PacketOptions::new(core.config().default_ttl)
}

/// The options of the packets of a TIME-WAIT entry, whose connection had `own`. In Linux it keeps the type of service,
/// the mark and the priority (`tw_tos`, `tw_mark`, `tw_priority`).
pub(super) fn packets_of_time_wait(core: &Core, own: PacketOptions) -> PacketOptions {
    let PacketOptions { tos, tclass, mark, priority, .. } = own;
    PacketOptions { tos, tclass, mark, priority, ..packets_of_nobody(core) }
}

impl Tcp {
    /// Sends a segment without payload. Answers that the device does not take are lost, as they
    /// might be on the way.
    pub(super) fn send_segment(
        &self,
        turn: &mut Turn<'_>,
        queue: QueueId,
        key: &FlowKey,
        packets: PacketOptions,
        segment: &Segment,
    ) -> Sent {
        turn.trace(|| key.about(), || EventKind::SegmentOut(segment.into()));
        let mut header = HeaderBuf::new();
        let mode = checksum_mode(turn.core, queue.interface);
        let (from, to) = (key.local_port, key.remote_port);
        let checksum = emit_tcp(
            &mut header,
            &TcpDatagram {
                ip: &packets.header(key.local(), key.remote()),
                src_port: from,
                dst_port: to,
                segment,
                payload: &[],
            },
            mode,
        );
        let PacketOptions { mark, priority, .. } = packets;
        let packet = TxPacket { header: &header, payload: &[], checksum, gso: None, mark, priority };
        send_packet(turn, queue, &packet)
    }
}
