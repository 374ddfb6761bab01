//! ICMP errors about TCP segments.

use super::Tcp;
use super::cell::Cell;
use super::demux::Flow;
use super::hold::End;
use super::listening::Listener;
use crate::icmp::{IcmpError, IcmpErrorKind};
use crate::reasons::DropReason;
use crate::stack::flow::FlowKey;
use crate::stack::turn::Turn;
use crate::tcp::TcpError;
use crate::trace::About;
use std::sync::Arc;

/// Whom an ICMP error concerns.
enum Concerned {
    Cell(Arc<Cell>),
    HalfOpen(Arc<Listener>),
}

impl Tcp {
    /// An ICMP error quotes a TCP segment.
    pub(in crate::stack) fn on_icmp_error(&self, turn: &mut Turn<'_>, error: &IcmpError) {
        let ignore = |turn: &mut Turn<'_>, reason| {
            turn.dropped(reason, || About::hosts(error.quoted.src, error.quoted.dst));
        };
        let (Some((local_port, remote_port)), Some(seq)) = (error.quoted.ports, error.quoted.seq) else {
            return ignore(turn, DropReason::IcmpUnhandled);
        };
        // No address on the wire is a mapped one: such a message would be taken for one about IPv4.
        if [error.quoted.src, error.quoted.dst].iter().any(|address| address.to_canonical() != *address) {
            return ignore(turn, DropReason::MappedAddress);
        }
        let key = FlowKey::new(&error.quoted.src, local_port, &error.quoted.dst, remote_port);
        let concerned = self.demux.with_flow(&key, |flow| match flow {
            Some(Flow::Cell(cell)) => Some(Concerned::Cell(Arc::clone(cell))),
            Some(Flow::HalfOpen(listener, _)) => Some(Concerned::HalfOpen(Arc::clone(listener))),
            Some(Flow::TimeWait(_)) | None => None,
        });
        let Some(concerned) = concerned else { return ignore(turn, DropReason::NoSocket) };
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
            (Concerned::HalfOpen(_), Some(_)) => ignore(turn, DropReason::IcmpUnhandled),
            (concerned, None) => {
                let Some(error) = meaning(error.kind, key.is_ipv6()) else {
                    return ignore(turn, DropReason::IcmpUnhandled);
                };
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
