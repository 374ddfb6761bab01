//! The end of a datagram's way in: the queue of a socket.

use super::Udp;
use super::cell::{Membership, UdpCell};
use crate::datagram::{Datagram, Origin, Pushed};
use crate::readiness::Events;
use crate::reasons::DropReason;
use crate::stack::turn::Turn;
use crate::trace::About;
use std::net::SocketAddr;
use std::sync::Arc;

impl Udp {
    /// Puts what `take` gives into the queue of a socket. False if the socket is closed, or does not want it: one for
    /// a group is only for members of it, or for who wants all of them.
    pub(super) fn enqueue(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<UdpCell>,
        take: impl FnOnce() -> Option<Datagram>,
        member: Option<Membership>,
    ) -> bool {
        let now = turn.now;
        let pushed = cell.hold(|state| {
            let wanted = member
                .is_none_or(|group| state.options().multicast_all || state.memberships().contains(&group));
            if !state.is_open() || !wanted {
                return None;
            }
            let datagram = take()?;
            if let Some(flow) = state.flow_mut() {
                flow.on_received(now);
            }
            let Origin { source, destination, .. } = datagram.origin;
            Some((source, destination, state.received.push(datagram)))
        });
        let Some((source, destination, pushed)) = pushed else { return false };
        match pushed {
            Pushed::Queued { first, half_full } => {
                self.counters.udp_in_datagrams.bump();
                turn.out.crowded |= half_full;
                // Who reads goes on until nothing is left, and is told of the next one after that.
                if first {
                    turn.out.notify(Arc::clone(cell) as _, Events::READABLE);
                }
            }
            Pushed::Dropped => {
                self.counters.udp_in_errors.bump();
                self.counters.udp_rcvbuf_errors.bump();
                let about = || About::ends(SocketAddr::new(destination, cell.local_addr().port()), source);
                turn.dropped(DropReason::SocketRcvbuff, about);
            }
            Pushed::NoMemory => {
                self.counters.udp_in_errors.bump();
                self.counters.udp_mem_errors.bump();
                turn.dropped(DropReason::ProtoMem, || About::hosts(destination, source.ip()));
            }
        }
        true
    }
}
