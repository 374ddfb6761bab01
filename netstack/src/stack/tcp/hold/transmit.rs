//! What a held connection sends.

use super::{Held, Progress};
use crate::buffer::MAX_PIECES;
use crate::device::TxPacket;
use crate::ip::PacketOptions;
use crate::stack::counters::TcpCounters;
use crate::stack::egress::{Sent, checksum_mode, send_packet};
use crate::stack::flow::QueueId;
use crate::stack::tcp::cell::{Cell, Stage, Tail};
use crate::stack::tcp::watch::Watch;
use crate::stack::turn::Turn;
use crate::tcp::{Connection, MtuReport, Transmit};
use crate::time::Instant;
use crate::trace::{EventKind, SegmentInfo};
use crate::wire::{
    Burst, Gso, HeaderBuf, IpMeta, MAX_TCP_OPTIONS, Segment, TCP_HEADER_LEN, TcpDatagram, emit_tcp,
    ip_header_len,
};
use arrayvec::ArrayVec;
use std::sync::Arc;

/// Bytes that leave in one hold of a cell's lock: four super-segments, so that a reader or the
/// reactor waits for four system calls at most. What is left follows when the queue's waiting cells have
/// their turn.
const HOLD_BYTES: usize = 4 * 65_536;

/// Bytes sent in one hold after which the end of what was written waits for its turn among the cells that wait
/// for the device, which comes as soon as the reactor runs, if it is less than the device takes at once: a writer
/// of large blocks has then written the next one, and each block does not end in a packet of a few bytes that costs
/// as much as one of 64 KiB. (Linux's autocorking has the same purpose.) Small writes are never held back.
const TAIL_WAITS_AFTER: usize = 32 * 1024;

/// A segment of a connection, with its payload in pieces.
struct Parts<'a> {
    segment: &'a Segment,
    pieces: &'a [&'a [u8]],
    /// The size of the segments to cut it into.
    gso_size: Option<u16>,
    dont_fragment: bool,
}

/// One hold of a cell's lock, as far as sending goes.
struct Budget<'a> {
    /// Bytes that were sent in it.
    sent: &'a mut usize,
    /// Bytes sent after which the end of what was written waits for its turn.
    tail_waits_after: usize,
    counters: &'a TcpCounters,
    watch: &'a mut Watch,
}

impl Held<'_, '_> {
    /// Sends what the connection has to send, as far as its windows, the device and the bound on
    /// one hold of the lock allow.
    pub(in crate::stack::tcp) fn transmit(&mut self) -> Progress {
        let state = &mut *self.state;
        if !state.attached {
            return Progress::Done;
        }
        let progress = match &mut state.stage {
            Stage::Opening(opening) => match opening.poll_transmit(self.turn.now) {
                Some(syn) => {
                    let pieces = &[opening.payload()][usize::from(syn.payload_len == 0)..];
                    let parts = Parts { segment: &syn, pieces, gso_size: None, dont_fragment: true };
                    if send_parts(self.turn, self.cell, &parts).1 == Sent::Full {
                        Progress::Full
                    } else {
                        opening.on_transmitted();
                        if state.watch.is_on() {
                            let kind = EventKind::SegmentOut(SegmentInfo::from(&syn));
                            state.watch.note(self.turn, || self.cell.about(), kind);
                        }
                        Progress::Done
                    }
                }
                None => Progress::Done,
            },
            Stage::Connected(connection) => {
                let changes = self.turn.core.paths().changes();
                let path = &mut state.path;
                if path.is_out_of_date(changes, self.turn.now) {
                    path.seen = changes;
                    path.expires = refresh_path(self.turn, self.cell, connection, path.expires);
                }
                if connection.has_nothing_to_send() {
                    return Progress::Done;
                }
                // The call that reads the request does not send it either.
                if self.turn.out.answers_first | state.held_back {
                    state.held_back = connection.may_answer();
                    if state.held_back {
                        self.turn.out.held_back = true;
                        return Progress::Done;
                    }
                }
                self.cell.begin_sending();
                let tail_waits_after = match state.tail {
                    Tail::Leaves => usize::MAX,
                    Tail::Stays => 0,
                    // On the list it has a turn in a moment anyway.
                    Tail::Waits if state.waiting.is_some() => 0,
                    Tail::Waits => TAIL_WAITS_AFTER,
                };
                let (counters, watch) = (&self.tcp.counters, &mut state.watch);
                let budget = Budget { sent: &mut state.sent_in_hold, tail_waits_after, counters, watch };
                transmit_connection(self.turn, self.cell, connection, budget)
            }
            Stage::Over(_) => Progress::Done,
        };
        if progress != Progress::Done {
            self.wait_for_queue();
        }
        progress
    }

    /// Puts the cell on the list of those that wait for their device.
    pub(super) fn wait_for_queue(&mut self) {
        if self.state.waiting.is_some() {
            return;
        }
        let number = self.turn.core.queue_number(self.cell.queue());
        self.state.waiting = Some(self.tcp.waiting.join(number, Arc::clone(self.cell)));
        self.turn.out.waits(number);
    }

    /// Takes the cell off that list. A device that is full for good would otherwise keep every connection that
    /// ends while it waits, and so would one that is gone.
    pub(super) fn stop_waiting(&mut self) {
        if let Some(place) = self.state.waiting.take() {
            self.tcp.waiting.leave(place);
        }
    }
}

fn transmit_connection(
    turn: &mut Turn<'_>,
    cell: &Cell,
    connection: &mut Connection,
    budget: Budget<'_>,
) -> Progress {
    let headers = ip_header_len(&cell.key().remote()) + TCP_HEADER_LEN + MAX_TCP_OPTIONS;
    let cuts = turn.core.capabilities(cell.queue().interface).segmentation_offload;
    // Where it saves no call to the device, a burst is no good to who wants the segments at a rate.
    let max_payload = if cuts || !connection.is_paced() { usize::from(u16::MAX) - headers } else { 0 };
    let whole = if cuts { max_payload } else { 0 };
    let Budget { sent: done, tail_waits_after, counters, watch } = budget;
    let now = turn.now;
    loop {
        // Seen before the segment is made.
        if *done >= tail_waits_after && connection.has_only_tail(now) {
            return Progress::More;
        }
        let Some(transmit) = connection.poll_transmit(now, max_payload) else { return Progress::Done };
        let waits = *done >= tail_waits_after && connection.is_tail(&transmit, whole);
        if *done >= HOLD_BYTES || waits {
            return Progress::More;
        }
        let sent = {
            let mut pieces = ArrayVec::<&[u8], MAX_PIECES>::new();
            connection.payload(&transmit, &mut pieces);
            let (segment, gso_size) = (&transmit.segment, transmit.gso_size);
            let dont_fragment = connection.dont_fragment();
            send_parts(turn, cell, &Parts { segment, pieces: &pieces, gso_size, dont_fragment })
        };
        let (taken, sent) = sent;
        if taken > 0 && sent == Sent::Full {
            let first = transmit.first(taken);
            if watch.is_on() {
                note_transmit(turn, cell, watch, &first);
            }
            connection.on_transmitted(now, &first);
        }
        match sent {
            Sent::Yes => {}
            Sent::Full => return Progress::Full,
            // The connection is about to fail; nothing to wait for.
            Sent::Failed => return Progress::Done,
        }
        if let Some(reason) = transmit.reset_reason() {
            counters.count_reset(reason);
        }
        if watch.is_on() {
            note_transmit(turn, cell, watch, &transmit);
        }
        // Segments without payload count too, so the loop ends whatever the core does.
        *done += transmit.segment.payload_len.max(64);
        connection.on_transmitted(now, &transmit);
    }
}

/// Notes a segment that was sent.
#[cold]
fn note_transmit(turn: &mut Turn<'_>, cell: &Cell, watch: &mut Watch, transmit: &Transmit) {
    if let Some(reason) = transmit.reset_reason() {
        watch.note(turn, || cell.about(), EventKind::Reset(reason));
    }
    let segment = SegmentInfo::from(&transmit.segment);
    let kind =
        if transmit.is_again() { EventKind::Retransmitted(segment) } else { EventKind::SegmentOut(segment) };
    watch.note(turn, || cell.about(), kind);
}

/// Sends a segment of a connection with its payload. A super-segment is cut here if the device does not cut:
/// then the number says how many segments the device took.
fn send_parts(turn: &mut Turn<'_>, cell: &Cell, parts: &Parts<'_>) -> (usize, Sent) {
    let Parts { segment, pieces, gso_size, dont_fragment } = *parts;
    let (key, queue) = (cell.key(), cell.queue());
    let flow_label = cell.flow_label();
    let options = cell.packets();
    let mut ip = IpMeta { flow_label, dont_fragment, ..options.header(key.local(), key.remote()) };
    ip.traffic_class |= segment.ecn.bits();
    if !dont_fragment && !key.is_ipv6() {
        let size = gso_size.map_or(usize::MAX, usize::from);
        let packets = segment.payload_len.div_ceil(size).max(1);
        ip.ident = cell.take_ident(packets as u16);
    }
    let mode = checksum_mode(turn.core, queue.interface);
    let datagram = TcpDatagram {
        ip: &ip,
        src_port: key.local_port,
        dst_port: key.remote_port,
        segment,
        payload: pieces,
    };
    let cuts = turn.core.capabilities(queue.interface).segmentation_offload;
    if let Some(size) = gso_size.filter(|_| !cuts) {
        return send_burst(turn, queue, Burst::new(&datagram, size.into(), mode), pieces, &options);
    }
    let mut header = HeaderBuf::new();
    let checksum = emit_tcp(&mut header, &datagram, mode);
    let gso = gso_size.map(|size| Gso { size, header_len: header.len() as u16 });
    let PacketOptions { mark, priority, .. } = options;
    let packet = TxPacket { header: &header, payload: pieces, checksum, gso, mark, priority };
    let sent = send_packet(turn, queue, &packet);
    (usize::from(sent == Sent::Yes), sent)
}

/// Sends a burst segment by segment, as far as the device takes them.
fn send_burst(
    turn: &mut Turn<'_>,
    queue: QueueId,
    mut burst: Burst,
    pieces: &[&[u8]],
    options: &PacketOptions,
) -> (usize, Sent) {
    let &PacketOptions { mark, priority, .. } = options;
    let count = burst.count();
    let mut rest = pieces.iter().copied();
    let mut piece: &[u8] = &[];
    for n in 0..count {
        let mut payload = ArrayVec::<&[u8], MAX_PIECES>::new();
        let mut left = burst.payload_len(n);
        while left > 0 {
            if piece.is_empty() {
                let Some(next) = rest.next() else { break };
                piece = next;
            }
            let (front, back) = piece.split_at(left.min(piece.len()));
            payload.push(front);
            (left, piece) = (left - front.len(), back);
        }
        let (header, checksum) = burst.segment(n, &payload);
        let packet = TxPacket { header, payload: &payload, checksum, gso: None, mark, priority };
        match send_packet(turn, queue, &packet) {
            Sent::Yes => {}
            sent => return (n, sent),
        }
    }
    (count, Sent::Yes)
}

/// Tells a connection what is known of its path, and says when to ask again at the latest. What it
/// was told itself counts until `expires`, also if the table had no room to remember it.
fn refresh_path(turn: &Turn<'_>, cell: &Cell, connection: &mut Connection, expires: Instant) -> Instant {
    let mtu = turn.core.mtu(cell.queue().interface);
    match turn.core.paths().mtu(turn.now, cell.key().remote()) {
        Some(known) => {
            let bytes = known.bytes.min(mtu);
            connection.on_path_mtu(MtuReport { bytes, fragments: known.locked });
            if connection.path_mtu() > mtu {
                connection.on_interface_mtu(mtu);
            }
            known.expires
        }
        // It was told of a smaller one.
        None if expires > turn.now && connection.path_mtu() <= mtu && expires < Instant::FAR_FUTURE => {
            expires
        }
        None => {
            connection.on_interface_mtu(mtu);
            Instant::FAR_FUTURE
        }
    }
}
