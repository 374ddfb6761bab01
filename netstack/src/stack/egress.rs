//! What leaves: a connection's segments, and answers that belong to no connection.

use super::cell::{Cell, Inner, Phase};
use super::effects::Effects;
use super::engine::Engine;
use super::flow::{FlowKey, QueueId};
use crate::buffer::MAX_PIECES;
use crate::device::TxPacket;
use crate::error::Failure;
use crate::tcp::Connection;
use crate::time::Instant;
use crate::wire::Gso;
use crate::wire::Segment;
use crate::wire::{
    ChecksumMode, HeaderBuf, IpMeta, MAX_TCP_OPTIONS, TCP_HEADER_LEN, emit_tcp, ip_header_len,
};
use arrayvec::ArrayVec;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Bytes that leave in one hold of a cell's lock: four super-segments, so that a reader or the
/// reactor waits for four system calls at most. What is left follows from the pending list.
const HOLD_BYTES: usize = 4 * 65_536;

/// Bytes sent in one hold after which a partial segment waits for its turn on the pending list, which
/// comes as soon as the reactor runs: a writer of large blocks has then written the next one, and
/// each block does not end in a segment of a few bytes that costs as much as one of 64 KiB. (Linux's
/// autocorking has the same purpose.) Small writes are never held back.
const TAIL_WAITS_AFTER: usize = 32 * 1024;

/// One hold of a cell's lock, as far as sending goes.
struct Hold<'a> {
    /// Bytes that were sent in it.
    sent: &'a mut usize,
    /// Whether a partial segment may wait for its turn on the pending list.
    keeps_tail: bool,
}

/// How far a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is left that may be sent now.
    Done,
    /// The bound on one hold of the lock was reached.
    More,
    /// The device is full.
    Full,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Yes,
    /// The queue is full; the device says when it is not.
    Full,
    /// The device is gone.
    Failed,
}

/// A segment of a connection, with its payload in pieces.
struct Parts<'a> {
    segment: &'a Segment,
    pieces: &'a [&'a [u8]],
    /// The size of the segments to cut it into.
    gso_size: Option<u16>,
    dont_fragment: bool,
}

impl Engine {
    /// Sends what the connection has to send, as far as its windows, the device and the bound on
    /// one hold of the lock allow.
    pub(super) fn transmit(
        &self,
        now: Instant,
        cell: &Arc<Cell>,
        inner: &mut Inner,
        out: &mut Effects,
    ) -> Progress {
        if !inner.attached {
            return Progress::Done;
        }
        let progress = match &mut inner.phase {
            Phase::Opening(opening) => match opening.poll_transmit(now) {
                Some(syn) => {
                    let pieces = &[opening.payload()];
                    let parts = Parts { segment: &syn, pieces, gso_size: None, dont_fragment: true };
                    let sent = self.send_parts(now, cell, parts, out);
                    if sent == Sent::Full {
                        Progress::Full
                    } else {
                        opening.on_transmitted();
                        Progress::Done
                    }
                }
                None => Progress::Done,
            },
            Phase::Connected(connection) => {
                let changes = self.path_changes().load(Ordering::Relaxed);
                if inner.path_seen != changes || inner.path_expires <= now {
                    inner.path_seen = changes;
                    inner.path_expires = self.refresh_path(now, cell, connection, inner.path_expires);
                }
                let hold = Hold { sent: &mut inner.sent_in_hold, keeps_tail: !inner.served };
                self.transmit_connection(now, cell, connection, hold, out)
            }
            Phase::Over(_) => Progress::Done,
        };
        if progress != Progress::Done {
            self.join_pending(cell, inner, out);
        }
        progress
    }

    fn transmit_connection(
        &self,
        now: Instant,
        cell: &Arc<Cell>,
        connection: &mut Connection,
        hold: Hold<'_>,
        out: &mut Effects,
    ) -> Progress {
        let queue = cell.queue();
        let max_payload = if self.capabilities(queue.interface).segmentation_offload {
            usize::from(u16::MAX) - ip_header_len(&cell.key().remote()) - TCP_HEADER_LEN - MAX_TCP_OPTIONS
        } else {
            0
        };
        let Hold { sent: done, keeps_tail } = hold;
        while let Some(transmit) = connection.poll_transmit(now, max_payload) {
            let tail = keeps_tail && *done >= TAIL_WAITS_AFTER && transmit.is_tail();
            if *done >= HOLD_BYTES || tail {
                return Progress::More;
            }
            let sent = {
                let mut pieces = ArrayVec::<&[u8], MAX_PIECES>::new();
                connection.payload(&transmit, &mut pieces);
                let (segment, gso_size) = (&transmit.segment, transmit.gso_size);
                let parts =
                    Parts { segment, pieces: &pieces, gso_size, dont_fragment: connection.dont_fragment() };
                self.send_parts(now, cell, parts, out)
            };
            match sent {
                Sent::Yes => {}
                Sent::Full => return Progress::Full,
                // The connection is about to be told; nothing to wait for.
                Sent::Failed => return Progress::Done,
            }
            // Segments without payload count too, so the loop ends whatever the core does.
            *done += transmit.segment.payload_len.max(64);
            connection.on_transmitted(now, &transmit);
        }
        Progress::Done
    }

    /// Sends a segment of a connection with its payload, which may be cut into segments of a size.
    fn send_parts(&self, now: Instant, cell: &Cell, parts: Parts<'_>, out: &mut Effects) -> Sent {
        let Parts { segment, pieces, gso_size, dont_fragment } = parts;
        let (key, queue) = (cell.key(), cell.queue());
        let flow_label = cell.flow_label();
        let mut ip = IpMeta { flow_label, dont_fragment, ..ip_meta(key, cell.ttl(), cell.traffic_class()) };
        ip.traffic_class |= segment.ecn.bits();
        if !dont_fragment && !key.is_ipv6() {
            let size = gso_size.map_or(usize::MAX, usize::from);
            let packets = segment.payload_len.div_ceil(size).max(1);
            ip.ident = cell.take_ident(packets as u16);
        }
        let mut header = HeaderBuf::new();
        let mode = self.checksum_mode(queue.interface);
        let checksum = emit_tcp(&mut header, &ip, key.local_port, key.remote_port, segment, pieces, mode);
        let gso = gso_size.map(|size| Gso { size, header_len: header.len() as u16 });
        let packet = TxPacket { header: &header, payload: pieces, checksum, gso };
        self.send_packet(now, queue, &packet, out)
    }

    /// Sends a segment without payload for a connection, outside its stream.
    pub(super) fn send_for(&self, now: Instant, cell: &Cell, segment: &Segment, out: &mut Effects) -> Sent {
        let marks = (cell.ttl(), cell.traffic_class());
        self.send_segment(now, cell.queue(), cell.key(), marks, segment, out)
    }

    /// Sends a segment without payload. Answers that the device does not take are lost, as they
    /// might be on the way.
    pub(super) fn send_segment(
        &self,
        now: Instant,
        queue: QueueId,
        key: &FlowKey,
        (ttl, traffic_class): (u8, u8),
        segment: &Segment,
        out: &mut Effects,
    ) -> Sent {
        let ip = ip_meta(key, ttl, traffic_class);
        let mut header = HeaderBuf::new();
        let mode = self.checksum_mode(queue.interface);
        let checksum = emit_tcp(&mut header, &ip, key.local_port, key.remote_port, segment, &[], mode);
        let packet = TxPacket { header: &header, payload: &[], checksum, gso: None };
        self.send_packet(now, queue, &packet, out)
    }

    /// Answers a segment that belongs to no connection with a reset (RFC 9293 §3.10.7.1), within the
    /// limit that keeps a flood from being answered by one.
    #[inline]
    pub(super) fn reset_unknown(
        &self,
        now: Instant,
        queue: QueueId,
        key: &FlowKey,
        segment: &Segment,
        out: &mut Effects,
    ) {
        if segment.is_rst() {
            return;
        }
        if !self.is_loopback(queue.interface) && !self.may_reset(now) {
            out.resets_limited += 1;
            return;
        }
        self.send_reset(now, queue, key, segment, out);
    }

    #[inline(never)]
    fn send_reset(&self, now: Instant, queue: QueueId, key: &FlowKey, segment: &Segment, out: &mut Effects) {
        if let Some(reset) = segment.reset_for_unknown() {
            self.counters_live().tcp_out_resets.bump();
            self.send_segment(now, queue, key, (self.config().default_ttl, 0), &reset, out);
        }
    }

    /// Sends an ICMP message, a whole packet.
    pub(super) fn send_icmp(&self, now: Instant, queue: QueueId, packet: &[u8], out: &mut Effects) {
        self.counters_live().icmp_out.bump();
        let packet = TxPacket { header: packet, payload: &[], checksum: None, gso: None };
        self.send_packet(now, queue, &packet, out);
    }

    fn send_packet(&self, now: Instant, queue: QueueId, packet: &TxPacket<'_>, out: &mut Effects) -> Sent {
        match self.device(queue.interface).transmit(now, queue.queue.into(), packet) {
            Ok(()) => {
                out.transmitted(self.queue_number(queue));
                Sent::Yes
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.counters_live().device_full.bump();
                Sent::Full
            }
            Err(error) => {
                out.device_failed(queue, Failure::from(&error));
                Sent::Failed
            }
        }
    }

    /// Puts the cell on the list of those that wait for their device.
    fn join_pending(&self, cell: &Arc<Cell>, inner: &mut Inner, out: &mut Effects) {
        if inner.pending {
            return;
        }
        inner.pending = true;
        let number = self.queue_number(cell.queue());
        self.pending(number).lock().push_back(Arc::clone(cell));
        out.joined_pending(number);
    }

    fn checksum_mode(&self, interface: u16) -> ChecksumMode {
        if self.capabilities(interface).checksum_offload { ChecksumMode::Offload } else { ChecksumMode::Full }
    }
}

/// The IP header of a packet from the local to the remote end.
fn ip_meta(key: &FlowKey, hop_limit: u8, traffic_class: u8) -> IpMeta {
    IpMeta { traffic_class, ..icmp_meta(key.local(), key.remote(), hop_limit) }
}

/// The IP header of an answer that ICMP writes; it knows the addresses.
pub(super) fn icmp_meta(src: IpAddr, dst: IpAddr, hop_limit: u8) -> IpMeta {
    IpMeta { src, dst, hop_limit, traffic_class: 0, dont_fragment: true, ident: 0, flow_label: 0 }
}
