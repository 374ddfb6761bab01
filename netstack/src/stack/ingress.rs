//! What arrives: from a packet to the connection, listener or answer.

use super::cell::{BACKLOG, Cell, Inner, Over, Phase};
use super::demux::Flow;
use super::effects::Effects;
use super::egress::icmp_meta;
use super::engine::Engine;
use super::flow::{FlowKey, QueueId};
use super::half_open::ToListener;
use super::listener::Listener;
use crate::buffer::{Chunk, PacketBuf};
use crate::device::RxMeta;
use crate::error::Failure;
use crate::icmp::{
    IcmpErrorKind, Undelivered, Unreachable, emit_echo_reply, emit_unreachable, parse_echo_request,
    parse_error,
};
use crate::ip::{Cast, Origin, validate};
use crate::readiness::Events;
use crate::tcp::{OpeningStep, TcpError, TimeWaitStep};
use crate::time::Instant;
use crate::wire::{Ecn, Segment, SeqNum};
use crate::wire::{IpHeader, parse_ip, parse_tcp, protocol, tcp_checksum_ok};
use std::sync::Arc;

/// What the table of flows has for a segment.
enum Found {
    Cell(Arc<Cell>),
    HalfOpen(Arc<Listener>),
    TimeWait,
    Nothing,
}

impl Engine {
    /// A packet arrived on the queue `from`. Whatever it is, it is consumed.
    ///
    /// What connections answer waits for [`Engine::end_batch`], unless it must not.
    pub fn on_packet(&self, now: Instant, from: QueueId, packet: PacketBuf, meta: RxMeta, out: &mut Effects) {
        out.in_packets += 1;
        let Some(bytes) = packet.bytes().get(..meta.len) else {
            self.counters_live().in_header_errors.bump();
            return;
        };
        let parsed = parse_ip(bytes);
        let Ok(header) = &parsed else {
            self.counters_live().in_header_errors.bump();
            return;
        };
        let inside = self.is_loopback(from.interface);
        let origin = if inside { Origin::Loopback } else { Origin::Outside };
        // RFC 1122 §3.2.1.3.
        let Ok(cast) = validate(header, origin, self.addresses()) else {
            self.counters_live().in_address_errors.bump();
            return;
        };
        if header.fragment.is_none() {
            self.on_datagram(now, from, header, cast, packet, meta, out);
            return;
        }
        let Some(whole) = self.reassembly().lock().insert(now, header, bytes) else { return };
        // What the device says of one fragment does not hold for the datagram.
        let meta = RxMeta { len: whole.capacity(), ..RxMeta::default() };
        let Ok(header) = parse_ip(whole.bytes()) else { return };
        self.counters_live().reassembled.bump();
        self.on_datagram(now, from, &header, cast, whole, meta, out);
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one packet; a struct would be made to be taken apart"
    )]
    fn on_datagram(
        &self,
        now: Instant,
        from: QueueId,
        header: &IpHeader,
        cast: Cast,
        packet: PacketBuf,
        meta: RxMeta,
        out: &mut Effects,
    ) {
        match header.protocol {
            // TCP is spoken between two hosts (RFC 9293 §3.10.7, MUST-57).
            protocol::TCP if cast == Cast::Unicast => self.on_tcp(now, from, header, packet, meta, out),
            protocol::TCP => {}
            protocol::ICMP if header.src.is_ipv4() => self.on_icmp(now, from, header, cast, &packet, out),
            protocol::ICMPV6 if header.src.is_ipv6() => self.on_icmp(now, from, header, cast, &packet, out),
            protocol::UDP => {
                self.counters_live().udp_no_ports.bump();
                self.unreachable(now, from, Unreachable::Port, header, cast, &packet, out);
            }
            _ => {
                self.counters_live().in_unknown_protocols.bump();
                self.unreachable(now, from, Unreachable::Protocol, header, cast, &packet, out);
            }
        }
    }

    fn on_tcp(
        &self,
        now: Instant,
        from: QueueId,
        header: &IpHeader,
        packet: PacketBuf,
        meta: RxMeta,
        out: &mut Effects,
    ) {
        out.in_segments += 1;
        let bytes = &packet.bytes()[header.payload.clone()];
        if !meta.checksum_verified && !tcp_checksum_ok(header.src, header.dst, bytes) {
            self.counters_live().tcp_in_errors.bump();
            return;
        }
        // Looked at where it was put: a segment is too large to be moved for nothing.
        let mut parsed = parse_tcp(bytes);
        let Ok((segment, data_offset)) = &mut parsed else {
            self.counters_live().tcp_in_errors.bump();
            return;
        };
        let (local_port, remote_port) =
            (u16::from_be_bytes([bytes[2], bytes[3]]), u16::from_be_bytes([bytes[0], bytes[1]]));
        let key = FlowKey::new(&header.dst, local_port, &header.src, remote_port);
        segment.gso_size = meta.gso_size;
        segment.ecn = Ecn::from_bits(header.ecn());
        let payload = if segment.payload_len == 0 {
            out.recycle(packet);
            None
        } else {
            Some(packet.into_chunk(header.payload.start + *data_offset, header.payload.end))
        };
        self.on_segment(now, from, &key, segment, payload, out);
    }

    fn on_segment(
        &self,
        now: Instant,
        from: QueueId,
        key: &FlowKey,
        segment: &Segment,
        payload: Option<Chunk>,
        out: &mut Effects,
    ) {
        let payload = || payload.unwrap_or_else(Chunk::empty);
        let found = self.demux().with_flow(key, |flow| match flow {
            Some(Flow::Cell(cell)) => Found::Cell(Arc::clone(cell)),
            Some(Flow::HalfOpen(listener)) => Found::HalfOpen(Arc::clone(listener)),
            Some(Flow::TimeWait(_)) => Found::TimeWait,
            None => Found::Nothing,
        });
        let iss = match found {
            Found::Cell(cell) => {
                cell.arrived_on(from);
                self.on_cell_segment(now, &cell, segment, payload(), out);
                return;
            }
            Found::HalfOpen(listener) => {
                let to = ToListener { key: *key, queue: from, segment, iss: None };
                self.on_half_open_segment(now, &listener, &to, payload(), out);
                return;
            }
            Found::TimeWait => match self.on_time_wait_segment(now, from, key, segment, out) {
                Some(iss) => Some(iss),
                None => return,
            },
            Found::Nothing if segment.is_ack() && !segment.is_rst() => {
                match self.cookie_back(now, from, key, segment, out) {
                    Some(back) => {
                        let to = ToListener { key: *key, queue: from, segment, iss: None };
                        self.on_cookie(now, back, &to, payload(), out);
                    }
                    None => self.reset_unknown(now, from, key, segment, out),
                }
                return;
            }
            Found::Nothing => None,
        };
        let listener = self.demux().listener(key, from.interface, &mut out.listeners);
        match listener.map(Arc::clone) {
            Some(listener) => {
                let to = ToListener { key: *key, queue: from, segment, iss };
                self.on_listener_segment(now, &listener, &to, payload(), out);
            }
            None => self.reset_unknown(now, from, key, segment, out),
        }
    }

    /// Gives a segment to a connection, now or, if the application has it locked, when it lets go.
    fn on_cell_segment(
        &self,
        now: Instant,
        cell: &Arc<Cell>,
        segment: &Segment,
        payload: Chunk,
        out: &mut Effects,
    ) {
        match cell.try_lock() {
            Some(mut inner) => {
                self.drain_backlog(now, cell, &mut inner, out);
                self.process(now, cell, &mut inner, segment, payload, out);
            }
            None if cell.push_backlog(segment.clone(), payload) => self.counters_live().backlog_queued.bump(),
            None => self.counters_live().backlog_drops.bump(),
        }
        if cell.mark_dirty() {
            out.dirty.push(Arc::clone(cell));
        }
    }

    /// Processes the segments that came while the cell was locked; if they come faster than that,
    /// the rest waits for the end of the batch.
    pub(super) fn drain_backlog(&self, now: Instant, cell: &Arc<Cell>, inner: &mut Inner, out: &mut Effects) {
        for _ in 0..BACKLOG {
            let Some((segment, payload)) = cell.pop_backlog() else { return };
            self.process(now, cell, inner, &segment, payload, out);
        }
    }

    /// Gives a segment to the locked connection.
    pub(super) fn process(
        &self,
        now: Instant,
        cell: &Arc<Cell>,
        inner: &mut Inner,
        segment: &Segment,
        payload: Chunk,
        out: &mut Effects,
    ) {
        // The connection left the table while the segment was on its way here. If it still matters
        // to anyone, it comes again.
        if !inner.attached {
            return;
        }
        match &mut inner.phase {
            Phase::Connected(connection) => {
                connection.on_segment(now, segment, payload);
                if connection.ack_urgent() {
                    let _ = self.transmit(now, cell, inner, out);
                }
            }
            Phase::Opening(opening) => match opening.on_segment(now, segment, payload) {
                // What it owes, a SYN-ACK if the SYNs crossed, follows at the end of the batch.
                OpeningStep::Stay => {}
                OpeningStep::Reply(reply) => {
                    self.send_for(now, cell, &reply, out);
                }
                OpeningStep::Failed(error) => self.fail_opening(cell, inner, error, out),
                OpeningStep::Established(connection, report) => {
                    if let Some(report) = report {
                        self.on_fast_open_report(now, cell.key(), &report);
                    }
                    inner.phase = Phase::Connected(connection);
                    out.notify(cell, Events::WRITABLE);
                }
            },
            Phase::Over(_) => {}
        }
    }

    /// Connecting failed.
    pub(super) fn fail_opening(
        &self,
        cell: &Arc<Cell>,
        inner: &mut Inner,
        error: TcpError,
        out: &mut Effects,
    ) {
        self.counters_live().attempt_fails.bump();
        let over = Over::new(Failure::from(error), false);
        self.cut_off(cell, inner, Phase::Over(over), out);
    }

    /// Ends a connection in another way than TCP's: nothing is sent. Returns what it was.
    pub(super) fn cut_off(
        &self,
        cell: &Arc<Cell>,
        inner: &mut Inner,
        over: Phase,
        out: &mut Effects,
    ) -> Phase {
        self.retire(cell, inner);
        let all = Events::READABLE
            | Events::WRITABLE
            | Events::READ_CLOSED
            | Events::WRITE_CLOSED
            | Events::ERROR
            | Events::HANGUP;
        out.notify(cell, all);
        std::mem::replace(&mut inner.phase, over)
    }

    /// A segment for a TIME-WAIT entry. If it opens a new connection, gives the initial sequence
    /// number for it; the entry is gone then.
    fn on_time_wait_segment(
        &self,
        now: Instant,
        from: QueueId,
        key: &FlowKey,
        segment: &Segment,
        out: &mut Effects,
    ) -> Option<SeqNum> {
        let step = self.demux().with_time_wait(key, |parked| {
            parked.queue = from;
            parked.record.on_segment(now, segment)
        })?;
        match step {
            TimeWaitStep::Ignore => None,
            TimeWaitStep::Reply(reply) => {
                self.send_segment(now, from, key, (self.config().default_ttl, 0), &reply, out);
                // The FIN that FIN-WAIT-2 waited for may have brought the end nearer.
                self.rearm_time_wait(key, out);
                None
            }
            TimeWaitStep::Remove => {
                self.end_time_wait(key);
                None
            }
            TimeWaitStep::ReplyAndRemove(reply) => {
                self.end_time_wait(key);
                self.send_segment(now, from, key, (self.config().default_ttl, 0), &reply, out);
                None
            }
            // RFC 9293 §3.6.1: only a listener accepts it. Without one the SYN is refused, and the
            // entry keeps its time.
            TimeWaitStep::Reopen { iss } => {
                if self.demux().listener(key, from.interface, &mut out.listeners).is_some() {
                    self.end_time_wait(key);
                    return Some(iss);
                }
                self.reset_unknown(now, from, key, segment, out);
                None
            }
        }
    }

    fn on_icmp(
        &self,
        now: Instant,
        from: QueueId,
        header: &IpHeader,
        cast: Cast,
        packet: &PacketBuf,
        out: &mut Effects,
    ) {
        self.counters_live().icmp_in.bump();
        let bytes = &packet.bytes()[..header.payload.end];
        if let Some(request) = parse_echo_request(header, bytes) {
            // RFC 1122 §3.2.2.6 lets a host ignore requests to groups, as Linux does.
            if cast == Cast::Unicast {
                let mut reply = Vec::new();
                emit_echo_reply(
                    &mut reply,
                    &request,
                    &icmp_meta(header.dst, header.src, self.config().default_ttl),
                );
                self.send_icmp(now, from, &reply, out);
            }
            return;
        }
        let Some(error) = parse_error(header, bytes) else { return };
        let (Some((local_port, remote_port)), Some(seq)) = (error.quoted.ports, error.quoted.seq) else {
            return;
        };
        if error.quoted.protocol != protocol::TCP {
            return;
        }
        // No address on the wire is a mapped one: such a message would be taken for one about IPv4.
        if [error.quoted.src, error.quoted.dst].iter().any(|address| address.to_canonical() != *address) {
            return;
        }
        let key = FlowKey::new(&error.quoted.src, local_port, &error.quoted.dst, remote_port);
        let claimed = match error.kind {
            IcmpErrorKind::FragmentationNeeded { mtu } => Some(usize::from(mtu)),
            IcmpErrorKind::PacketTooBig { mtu } => Some(usize::try_from(mtu).unwrap_or(usize::MAX)),
            _ => None,
        };
        if let Some(claimed) = claimed {
            self.on_packet_too_big(now, &key, seq, claimed, out);
        } else if let Some(error) = tcp_error(error.kind, header.src.is_ipv6()) {
            self.on_icmp_error(now, &key, seq, error, out);
        }
    }

    fn on_icmp_error(&self, now: Instant, key: &FlowKey, seq: SeqNum, error: TcpError, out: &mut Effects) {
        let found = self.demux().with_flow(key, |flow| match flow {
            Some(Flow::Cell(cell)) => Found::Cell(Arc::clone(cell)),
            Some(Flow::HalfOpen(listener)) => Found::HalfOpen(Arc::clone(listener)),
            Some(Flow::TimeWait(_)) | None => Found::Nothing,
        });
        let cell = match found {
            Found::Cell(cell) => cell,
            Found::HalfOpen(listener) => return self.on_half_open_icmp(&listener, key, seq, error, out),
            Found::TimeWait | Found::Nothing => return,
        };
        self.with_cell(now, &cell, out, |inner, out| match &mut inner.phase {
            Phase::Connected(connection) if connection.expects_icmp(seq) => {
                connection.on_icmp_error(seq, error);
            }
            Phase::Connected(_) => self.counters_live().icmp_out_of_window.bump(),
            Phase::Opening(opening) => match opening.on_icmp_error(seq, error) {
                Some(error) => {
                    self.on_fast_open_failure(now, cell.key(), opening);
                    self.fail_opening(&cell, inner, error, out);
                }
                None => self.counters_live().icmp_out_of_window.bump(),
            },
            Phase::Over(_) => {}
        });
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one packet; a struct would be made to be taken apart"
    )]
    fn unreachable(
        &self,
        now: Instant,
        from: QueueId,
        reason: Unreachable,
        header: &IpHeader,
        cast: Cast,
        packet: &PacketBuf,
        out: &mut Effects,
    ) {
        let mut message = Vec::new();
        let ip = icmp_meta(header.dst, header.src, self.config().default_ttl);
        let bytes = &packet.bytes()[..header.payload.end];
        let undelivered = Undelivered { header, bytes, cast };
        if !emit_unreachable(&mut message, reason, &undelivered, self.addresses(), &ip) {
            return;
        }
        if self.icmp_limit().lock().allow(now) {
            self.send_icmp(now, from, &message, out);
        } else {
            self.counters_live().icmp_rate_limited.bump();
        }
    }
}

/// What an ICMP error means for a connection (icmp_err_convert in Linux, and its IPv6 twin).
fn tcp_error(kind: IcmpErrorKind, ipv6: bool) -> Option<TcpError> {
    Some(match kind {
        IcmpErrorKind::DestinationUnreachable { code } if ipv6 => match code {
            0 => TcpError::NetworkUnreachable,
            1 | 5 | 6 => TcpError::Forbidden,
            2 | 3 => TcpError::HostUnreachable,
            4 => TcpError::Refused,
            _ => return None,
        },
        IcmpErrorKind::DestinationUnreachable { code } => match code {
            0 | 6 | 9 | 11 => TcpError::NetworkUnreachable,
            2 => TcpError::ProtocolUnreachable,
            3 => TcpError::Refused,
            1 | 5 | 7 | 8 | 10 | 12..=15 => TcpError::HostUnreachable,
            _ => return None,
        },
        IcmpErrorKind::TimeExceeded { .. } => TcpError::HostUnreachable,
        IcmpErrorKind::ParameterProblem { .. } => TcpError::Protocol,
        // Not errors: the connection sends smaller packets.
        IcmpErrorKind::FragmentationNeeded { .. } | IcmpErrorKind::PacketTooBig { .. } => return None,
    })
}
