//! ICMP errors about TCP segments.

use super::Tcp;
use super::cell::{Cell, Stage};
use super::demux::Flow;
use super::hold::{End, Held};
use super::listening::Listener;
use crate::icmp::{IcmpError, IcmpErrorKind};
use crate::stack::flow::FlowKey;
use crate::stack::paths::IPV6_MIN_MTU;
use crate::stack::turn::Turn;
use crate::tcp::TcpError;
use crate::wire::SeqNum;
use std::sync::Arc;

/// Whom an ICMP error concerns.
enum Concerned {
    Cell(Arc<Cell>),
    HalfOpen(Arc<Listener>),
}

impl Tcp {
    /// An ICMP error quotes a TCP segment.
    pub(in crate::stack) fn on_icmp_error(&self, turn: &mut Turn<'_>, error: &IcmpError) {
        let (Some((local_port, remote_port)), Some(seq)) = (error.quoted.ports, error.quoted.seq) else {
            return;
        };
        // No address on the wire is a mapped one: such a message would be taken for one about IPv4.
        if [error.quoted.src, error.quoted.dst].iter().any(|address| address.to_canonical() != *address) {
            return;
        }
        let key = FlowKey::new(&error.quoted.src, local_port, &error.quoted.dst, remote_port);
        let concerned = self.demux.with_flow(&key, |flow| match flow {
            Some(Flow::Cell(cell)) => Some(Concerned::Cell(Arc::clone(cell))),
            Some(Flow::HalfOpen(listener)) => Some(Concerned::HalfOpen(Arc::clone(listener))),
            Some(Flow::TimeWait(_)) | None => None,
        });
        let Some(concerned) = concerned else { return };
        let claimed = match error.kind {
            IcmpErrorKind::FragmentationNeeded { mtu } => Some(usize::from(mtu)),
            IcmpErrorKind::PacketTooBig { mtu } => Some(usize::try_from(mtu).unwrap_or(usize::MAX)),
            _ => None,
        };
        match (concerned, claimed) {
            (Concerned::Cell(cell), Some(claimed)) => {
                self.hold(turn, &cell, End::Settle, |held| held.on_packet_too_big(seq, claimed));
            }
            // A SYN-ACK fits every path.
            (Concerned::HalfOpen(_), Some(_)) => {}
            (concerned, None) => {
                let Some(error) = meaning(error.kind, key.is_ipv6()) else { return };
                match concerned {
                    Concerned::Cell(cell) => {
                        self.hold(turn, &cell, End::Settle, |held| held.on_icmp_error(seq, error));
                    }
                    Concerned::HalfOpen(listener) => {
                        self.on_half_open_icmp(turn, &listener, &key, seq, error);
                    }
                }
            }
        }
    }
}

impl Held<'_, '_> {
    fn on_icmp_error(&mut self, seq: SeqNum, error: TcpError) {
        let tcp = self.tcp;
        match &mut self.state.stage {
            Stage::Connected(connection) if connection.expects_icmp(seq) => {
                connection.on_icmp_error(seq, error);
            }
            Stage::Connected(_) => tcp.counters.icmp_out_of_window.bump(),
            Stage::Opening(opening) => match opening.on_icmp_error(seq, error) {
                Some(error) => {
                    tcp.on_fast_open_failure(self.turn.now, self.cell.key(), opening);
                    self.fail_opening(error);
                }
                None => tcp.counters.icmp_out_of_window.bump(),
            },
            Stage::Over(_) => {}
        }
    }

    /// A router says that a packet with the sequence number `seq` is longer than the `claimed` bytes
    /// that it can forward (RFC 1191 §3, RFC 8201 §4). Believed only if that packet is in flight.
    fn on_packet_too_big(&mut self, seq: SeqNum, claimed: usize) {
        let (now, core, key) = (self.turn.now, self.turn.core, self.cell.key());
        let connection = match &mut self.state.stage {
            Stage::Connected(connection) => connection,
            // What a handshake sends fits every path, but for a SYN with data. Nothing is learnt
            // from messages about it, which are easy to forge.
            Stage::Opening(opening) => {
                let floor = if key.is_ipv6() { IPV6_MIN_MTU } else { core.config().min_pmtu as usize };
                opening.on_packet_too_big(seq, claimed.max(floor));
                return;
            }
            Stage::Over(_) => return,
        };
        if !connection.is_in_flight(seq) {
            self.tcp.counters.icmp_out_of_window.bump();
            return;
        }
        if !connection.options().mtu_discover.follows_icmp() {
            return;
        }
        let path = self.tcp.path(self.turn, self.cell.queue().interface, key.remote());
        let current = path.pmtu.min(connection.path_mtu());
        // Other connections to the host look the path up before they send again.
        let told = core.paths().on_packet_too_big(now, key.remote(), claimed, current);
        // If another connection was told before, this one hears of it now.
        let pmtu = told.map_or(path.pmtu, |told| told.bytes);
        let fragments = told.map_or(path.fragments, |told| told.locked);
        connection.on_path_mtu(pmtu, fragments, true);
        if let Some(told) = told {
            self.state.path_expires = told.expires;
        }
    }
}

/// What an ICMP error means for a connection (icmp_err_convert in Linux, and its IPv6 twin).
fn meaning(kind: IcmpErrorKind, ipv6: bool) -> Option<TcpError> {
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
