//! A segment on its way in: from its bytes to the connection, TIME-WAIT entry or listener that it is
//! for; and time.

use super::Tcp;
use super::cell::Cell;
use super::coalesce::Joined;
use super::deadline::Deadline;
use super::demux::Flow;
use super::listening::{Listener, Received, Verdict};
use super::next::{Next, Plain};
use super::scratch::Scratch;
use super::stray::Stray;
use crate::buffer::{Chunk, PacketBuf};
use crate::reasons::{DropReason, ResetReason};
use crate::stack::flow::QueueId;
use crate::stack::turn::{Arrival, Turn};
use crate::tcp::QuietAck;
use crate::trace::{About, EventKind};
use crate::wire::{Ecn, IpHeader, PlainSegment, parse_ports, parse_tcp, tcp_checksum_ok};
use std::sync::Arc;

/// Deadlines served in one call. The rest is due at once again; packets get their turn in between.
const DUE_AT_ONCE: usize = 1024;

/// What the table of flows has for a segment.
enum Found {
    Cell(Arc<Cell>),
    HalfOpen(Arc<Listener>),
    TimeWait,
    Nothing,
}

/// Whether others may be joined to a segment with this payload.
#[inline]
fn joins(turn: &Turn<'_>, segment: &PlainSegment, payload: &Chunk) -> bool {
    Joined::may_begin_with(segment) && payload.spare() >= segment.payload_len && turn.core.config().gro
}

impl Tcp {
    /// A TCP segment arrived. What connections answer waits for [`Tcp::end_batch`], unless it must not.
    // One caller: inlined, the arrival is taken apart where it was made.
    #[inline(always)]
    pub(in crate::stack) fn on_segment(
        &self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        arrival: Arrival<'_>,
    ) {
        scratch.in_segments += 1;
        let Arrival { from, header, hosts, bytes: packet, meta, .. } = arrival;
        let bytes = packet.bytes().get(header.payload.clone()).unwrap_or_default();
        if !meta.checksum_verified && !tcp_checksum_ok(header.src, header.dst, bytes) {
            return self.drop_broken(turn, header, DropReason::TcpCsum);
        }
        // Looked at where it was put: a segment is too large to be moved for nothing.
        let mut parsed = parse_tcp(bytes);
        let (Ok((segment, data_offset)), Some((remote_port, local_port))) = (&mut parsed, parse_ports(bytes))
        else {
            return self.drop_broken(turn, header, DropReason::PktTooSmall);
        };
        let key = hosts.with_ports(local_port, remote_port);
        segment.gso_size = meta.gso_size;
        segment.ecn = Ecn::from_bits(header.ecn());
        let stray = Stray { from, key: &key, segment };
        self.release_joined(turn, scratch);
        if segment.payload_len == 0 {
            turn.out.recycle(packet);
            return self.find_receiver(turn, scratch, &stray, None);
        }
        let payload = packet.into_chunk(header.payload.start + *data_offset, header.payload.end);
        let begins = PlainSegment::of(segment).filter(|plain| joins(turn, plain, &payload));
        if let Some(plain) = begins {
            scratch.turn_to(&key);
            scratch.joined = Some(Joined::new(from, &plain, header.into(), payload));
        } else {
            self.find_receiver(turn, scratch, &stray, Some(payload));
        }
    }

    /// A segment arrived that is of the same flow as the one before ([`Scratch::next_of_flow`]).
    pub(in crate::stack) fn on_next_of_flow(
        &self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        next: &Next,
        packet: PacketBuf,
    ) {
        scratch.in_segments += 1;
        let Next { from, ip, ref segment, len } = *next;
        let text = len - segment.payload_len..len;
        if let Some(joined) = &mut scratch.joined {
            match joined.append(next, packet.bytes().get(text.clone()).unwrap_or_default()) {
                Some(true) => return turn.out.recycle(packet),
                Some(false) => {
                    turn.out.recycle(packet);
                    return self.release_joined(turn, scratch);
                }
                None => self.release_joined(turn, scratch),
            }
        }
        if segment.payload_len == 0 {
            turn.out.recycle(packet);
            if !self.on_quiet_again(turn, scratch, from, segment) {
                self.on_plain_segment(turn, scratch, &Plain { from, segment }, Chunk::empty());
            }
            return;
        }
        let payload = packet.into_chunk(text.start, text.end);
        if joins(turn, segment, &payload) {
            scratch.joined = Some(Joined::new(from, segment, ip, payload));
        } else {
            self.on_plain_segment(turn, scratch, &Plain { from, segment }, payload);
        }
    }

    /// Keeps an acknowledgment back that says nothing new, again. Says whether it did.
    #[inline]
    fn on_quiet_again(
        &self,
        turn: &mut Turn<'_>,
        scratch: &Scratch,
        from: QueueId,
        segment: &PlainSegment,
    ) -> bool {
        let Some(ack) = QuietAck::of(segment) else { return false };
        scratch
            .latest_cell()
            .is_some_and(|cell| cell.takes_from(from.interface) && self.keeps_quiet(turn, &cell, from, &ack))
    }

    /// A segment of the flow of the last one, which nobody joins to others.
    fn on_plain_segment(
        &self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        plain: &Plain<'_>,
        mut payload: Chunk,
    ) {
        let Plain { from, segment } = *plain;
        let Some(key) = scratch.flow() else { return };
        match scratch.latest_cell() {
            Some(cell) if cell.takes_from(from.interface) => {
                if self.on_cell_expected(turn, scratch, &cell, plain, &mut payload) {
                    turn.out.recycle_copied(payload);
                } else {
                    let segment = segment.to_segment();
                    let stray = Stray { from, key: &key, segment: &segment };
                    self.on_cell_unexpected(turn, scratch, &cell, &stray, payload);
                }
            }
            _ => {
                let segment = segment.to_segment();
                let stray = Stray { from, key: &key, segment: &segment };
                self.find_receiver(turn, scratch, &stray, Some(payload));
            }
        }
    }

    /// Nothing more is joined to the segments that wait for it. A connection takes them as one where they are the
    /// next in order and nothing else is to be said of them; all others get them as they came.
    #[inline]
    pub(in crate::stack) fn release_joined(&self, turn: &mut Turn<'_>, scratch: &mut Scratch) {
        if scratch.joined.is_some() {
            self.release(turn, scratch);
        }
    }

    fn release(&self, turn: &mut Turn<'_>, scratch: &mut Scratch) {
        let Some(mut joined) = scratch.joined.take() else { return };
        let Joined { from, segment, .. } = joined;
        let Some(key) = scratch.flow() else { return };
        if joined.is_single() {
            return self.on_plain_segment(turn, scratch, &Plain { from, segment: &segment }, joined.payload);
        }
        let cell = scratch.latest_cell().or_else(|| {
            let found = self.demux.with_flow(&key, |flow| flow.and_then(Flow::cell).map(Arc::clone))?;
            scratch.found(&key, &found);
            Some(found)
        });
        let cell = cell.filter(|cell| cell.takes_from(from.interface));
        let left = match cell {
            Some(cell) => {
                if self.on_cell_expected(
                    turn,
                    scratch,
                    &cell,
                    &Plain { from, segment: &segment },
                    &mut joined.payload,
                ) {
                    return;
                }
                self.on_cell_joined(turn, scratch, &cell, joined)
            }
            None => Some(joined),
        };
        for (segment, payload) in left.into_iter().flat_map(Joined::into_segments) {
            self.on_plain_segment(turn, scratch, &Plain { from, segment: &segment }, payload);
        }
    }

    /// All packets of a batch were delivered: connections that got segments answer now, but for acknowledgments that
    /// may wait for the next batch.
    pub(in crate::stack) fn end_batch(&self, turn: &mut Turn<'_>, scratch: &mut Scratch) {
        self.release_joined(turn, scratch);
        // Who was to answer has had a turn.
        scratch.drain_held_back(|cell| {
            self.settle_after_batch(turn, cell);
        });
        if scratch.has_marked() {
            turn.out.answers_first = scratch.answers_first;
            scratch.drain(|cell| self.settle_after_batch(turn, cell));
            turn.out.answers_first = false;
        }
    }

    /// A segment that cannot be read.
    #[cold]
    fn drop_broken(&self, turn: &mut Turn<'_>, header: &IpHeader, reason: DropReason) {
        self.counters.tcp_in_errors.bump();
        turn.dropped(reason, || About::hosts(header.dst, header.src));
    }

    /// Finds who a segment is for.
    fn find_receiver(
        &self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        stray: &Stray<'_>,
        payload: Option<Chunk>,
    ) {
        let Stray { from, key, segment } = *stray;
        let payload = || payload.unwrap_or_else(Chunk::empty);
        if let Some(cell) = scratch.same_again(key)
            && cell.takes_from(from.interface)
        {
            return self.on_cell_segment(turn, scratch, &cell, stray, payload());
        }
        let found = self.demux.with_flow(key, |flow| match flow {
            Some(Flow::Cell(cell)) if !cell.takes_from(from.interface) => Found::Nothing,
            Some(Flow::Cell(cell)) => Found::Cell(Arc::clone(cell)),
            Some(Flow::HalfOpen(listener, _)) => Found::HalfOpen(Arc::clone(listener)),
            Some(Flow::TimeWait(_)) => Found::TimeWait,
            None => Found::Nothing,
        });
        if !matches!(found, Found::Cell(_)) {
            turn.trace(|| key.about(), || EventKind::SegmentIn(segment.into()));
        }
        let half_open = matches!(found, Found::HalfOpen(_));
        let received = |iss| Received { key: *key, queue: from, segment, iss };
        let verdict = match found {
            Found::Cell(cell) => {
                scratch.found(key, &cell);
                self.on_cell_segment(turn, scratch, &cell, stray, payload());
                return;
            }
            Found::HalfOpen(listener) => {
                self.on_half_open_segment(turn, &listener, &received(None), payload())
            }
            Found::TimeWait => match self.on_time_wait_segment(turn, scratch, stray) {
                Some(iss) => self.on_new_flow(turn, scratch, &received(Some(iss)), payload()),
                None => return,
            },
            Found::Nothing if segment.is_ack() && !segment.is_rst() => {
                match self.cookie_back(turn, scratch, stray) {
                    Ok(back) => self.on_cookie(turn, &back, &received(None), payload()),
                    Err(reason) => Verdict::Reset(reason),
                }
            }
            Found::Nothing => self.on_new_flow(turn, scratch, &received(None), payload()),
        };
        match verdict {
            Verdict::Done => {}
            Verdict::Dropped(reason) => {
                if half_open {
                    self.charge_out_of_place(turn, from.interface, segment);
                }
                turn.dropped(reason, || key.about());
            }
            Verdict::Reset(reason) => self.reset_stray(turn, scratch, stray, reason),
        }
    }

    /// A segment of no flow, which may open one.
    fn on_new_flow(
        &self,
        turn: &mut Turn<'_>,
        scratch: &mut Scratch,
        received: &Received<'_>,
        payload: Chunk,
    ) -> Verdict {
        let interface = received.queue.interface;
        match self.demux.listener(&received.key, interface, &mut scratch.listeners).map(Arc::clone) {
            Some(listener) => self.on_listener_segment(turn, scratch, &listener, received, payload),
            None => Verdict::Reset(ResetReason::NoSocket),
        }
    }

    /// Does what is due now. May be called early or late.
    pub(super) fn serve_deadlines(&self, turn: &mut Turn<'_>) {
        self.deadlines.serve_due(turn.now, DUE_AT_ONCE, |deadline| match deadline {
            Deadline::Cell(cell) => {
                if let Some(cell) = cell.upgrade() {
                    self.on_cell_deadline(turn, &cell);
                }
            }
            Deadline::HalfOpen(listener, place) => {
                if let Some(listener) = listener.upgrade() {
                    self.on_half_open_deadline(turn, &listener, place);
                }
            }
            Deadline::Sweep => self.on_sweep(turn),
            Deadline::TimeWait(key) => self.on_time_wait_deadline(turn, &key),
        });
    }
}
