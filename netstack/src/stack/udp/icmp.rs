//! ICMP errors about UDP datagrams.

use super::Udp;
use crate::config::MtuDiscover;
use crate::error::Failure;
use crate::icmp::{IcmpError, IcmpErrorKind};
use crate::readiness::Events;
use crate::reasons::DropReason;
use crate::stack::turn::Turn;
use crate::trace::About;
use crate::udp::Ends;
use std::net::SocketAddr;
use std::sync::Arc;

impl Udp {
    /// An ICMP error that came in on an interface quotes a UDP datagram.
    ///
    /// It is for the socket that an answer would be for. A connected socket gets the error if it is final; one
    /// that is not connected would not know which of its datagrams it is about (`__udp4_lib_err` in Linux).
    pub(in crate::stack) fn on_icmp_error(&self, turn: &mut Turn<'_>, interface: u16, error: &IcmpError) {
        let quoted = &error.quoted;
        let about = || About::hosts(quoted.src, quoted.dst);
        let Some((local_port, remote_port)) = quoted.ports else {
            return turn.dropped(DropReason::IcmpUnhandled, about);
        };
        // No address on the wire is a mapped one: such a message would be taken for one about IPv4.
        if [quoted.src, quoted.dst].iter().any(|address| address.to_canonical() != *address) {
            return turn.dropped(DropReason::MappedAddress, about);
        }
        let local = SocketAddr::new(quoted.src, local_port);
        let remote = SocketAddr::new(quoted.dst, remote_port);
        let Some(cell) = self.table.find(&Ends { local, remote, interface }) else {
            self.counters.udp_icmp_unmatched.bump();
            return turn.dropped(DropReason::NoSocket, about);
        };
        let mode = cell.options().mtu_discover;
        let claimed = match error.kind {
            IcmpErrorKind::FragmentationNeeded { mtu } => Some(usize::from(mtu)),
            IcmpErrorKind::PacketTooBig { mtu } => Some(usize::try_from(mtu).unwrap_or(usize::MAX)),
            _ => None,
        };
        if let Some(claimed) = claimed.filter(|_| mode.uses_path() || mode == MtuDiscover::Probe) {
            self.on_packet_too_big(turn, remote, claimed);
        }
        let reported = match claimed {
            Some(_) => (mode != MtuDiscover::Dont).then_some(libc::EMSGSIZE),
            None => error.kind.final_errno(quoted.src.is_ipv6()),
        };
        let Some(errno) = reported else { return };
        let told = cell.hold(|state| {
            let told = state.is_open() && state.peer().is_some();
            if told {
                state.fail(Failure::os(errno));
            }
            told
        });
        if told {
            turn.out.notify(Arc::clone(&cell) as _, Events::ERROR);
        }
    }

    /// Only smaller packets pass on the way to `remote`: what the stack knows of the path is for all
    /// protocols.
    fn on_packet_too_big(&self, turn: &Turn<'_>, remote: SocketAddr, claimed: usize) {
        let core = turn.core;
        let Some(route) = core.routes().lookup(core.addresses(), remote.ip(), None, None) else { return };
        let link = core.mtu(route.interface);
        let current = core.paths().mtu(turn.now, remote.ip()).map_or(link, |known| known.bytes.min(link));
        core.paths().on_packet_too_big(turn.now, remote.ip(), claimed, current);
    }
}
