//! Flows: made of datagrams that there is no socket for, and ended when they are idle or have to make room.

use super::Udp;
use super::cell::{Parts, Peer, State, UdpCell};
use super::flow::{FlowEnd, FlowPart, NewFlow, Quote};
use super::forwarder::{Flows, UdpForwarderCell, UdpForwarding};
use crate::datagram::{Datagram, Pushed, ReceiveQueue};
use crate::readiness::Events;
use crate::reasons::DropReason;
use crate::stack::core::Core;
use crate::stack::flow::{Family, QueueId, WayBack};
use crate::stack::socket::IpSocket;
use crate::stack::turn::Turn;
use crate::trace::About;
use crate::udp::{Ends, UdpOptions};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Flows that end in one turn at most, so that a rush of them does not hold up the packets.
const ENDED_PER_TURN: usize = 256;

/// There is no room for another flow.
struct NoRoom;

/// The first datagram of a flow.
pub(super) struct First {
    pub(super) from: QueueId,
    pub(super) quote: Quote,
    pub(super) datagram: Datagram,
}

impl Udp {
    /// The forwarder of a datagram that there is no socket for.
    pub(super) fn forwarder_of(&self, core: &Core, ends: &Ends) -> Option<Arc<UdpForwarderCell>> {
        // From port 0 no answer is wanted, and to it nothing can be sent.
        let has_ports = ends.local.port() != 0 && ends.remote.port() != 0;
        has_ports.then(|| self.forwarders.of(core, ends.interface)).flatten()
    }

    /// Makes a flow of a datagram that there is no socket for, or gives it to one that the driver of another queue
    /// has made meanwhile.
    pub(super) fn take_unclaimed(
        &self,
        turn: &mut Turn<'_>,
        forwarder: &Arc<UdpForwarderCell>,
        ends: &Ends,
        first: First,
    ) {
        let mut flows = forwarder.flows.lock();
        let mut first = Some(first);
        if let Some(cell) = self.table.find(ends) {
            let take = || first.take().map(|first| first.datagram);
            if self.enqueue(turn, &cell, take, None) {
                return;
            }
        }
        let Some(first) = first else { return };
        let mut spent = Vec::new();
        let evicted = self.make_room(forwarder, &mut flows, &mut spent);
        let made = match evicted {
            Ok(_) if flows.is_open => self.make_flow(turn, forwarder, ends, first),
            Ok(_) | Err(NoRoom) => None,
        };
        let news = made.is_some() && flows.pending.is_empty();
        let is_made = made.is_some();
        flows.pending.extend(made);
        drop(flows);
        drop(spent);
        if let Ok(Some(evicted)) = evicted {
            turn.out.notify(evicted, Events::ERROR);
        }
        if is_made {
            self.counters.udp_in_datagrams.bump();
        } else {
            forwarder.count.dropped.fetch_add(1, Ordering::Relaxed);
            turn.dropped(DropReason::UdpFlowsFull, || About::ends(ends.local, ends.remote));
        }
        if news {
            turn.out.notify(Arc::clone(forwarder) as _, Events::READABLE);
        }
    }

    /// Makes room for one flow more. Gives the flow that had to go, if one had to.
    fn make_room(
        &self,
        forwarder: &UdpForwarderCell,
        flows: &mut Flows,
        spent: &mut Vec<Arc<UdpCell>>,
    ) -> Result<Option<Arc<UdpCell>>, NoRoom> {
        let UdpForwarding { max_flows, max_pending, .. } = forwarder.settings;
        let count = &forwarder.count;
        if flows.pending.len() >= max_pending && count.ended_pending.swap(0, Ordering::Relaxed) > 0 {
            flows.pending.retain(|cell| cell.hold(|state| state.is_open()));
        }
        if flows.pending.len() >= max_pending {
            return Err(NoRoom);
        }
        if count.open.load(Ordering::Relaxed) < max_flows {
            return Ok(None);
        }
        let oldest = flows.next_to_evict(spent).ok_or(NoRoom)?;
        self.end_flow(&oldest, FlowEnd::Evicted);
        Ok(Some(oldest))
    }

    /// A flow with its first datagram; none if there is no memory for that.
    fn make_flow(
        &self,
        turn: &mut Turn<'_>,
        forwarder: &UdpForwarderCell,
        ends: &Ends,
        first: First,
    ) -> Option<Arc<UdpCell>> {
        let First { from, quote, datagram } = first;
        let UdpForwarding { interface: bound, flow_buffer, idle_timeout, .. } = forwarder.settings;
        let mut received = ReceiveQueue::within(flow_buffer, Arc::clone(&forwarder.budget));
        if matches!(received.push(datagram), Pushed::Dropped | Pushed::NoMemory) {
            return None;
        }
        let family = if ends.local.is_ipv4() { Family::V4 } else { Family::V6 };
        let way = WayBack { local: ends.local.ip(), remote: ends.remote.ip(), bound, spread: 0 };
        let interface = turn.core.way_back(from, &way).interface;
        let new = NewFlow { local: ends.local, from, quote, idle_timeout };
        let part = FlowPart::new(turn.now, new, &forwarder.count);
        let parts = parts_of(turn.core, family, bound, received);
        let cell = Arc::new(UdpCell::new(Parts { flow: Some(Box::new(part)), ..parts }));
        cell.hold(|state| {
            let peer = Peer { address: ends.remote, interface, source: ends.local.ip() };
            state.set_peer(peer);
            self.table.enter(&cell, state.place());
            self.arm(turn, &cell, state);
        });
        Some(cell)
    }

    /// Arms the deadline of a flow.
    pub(super) fn arm(&self, turn: &mut Turn<'_>, cell: &Arc<UdpCell>, state: &mut State) {
        let Some(flow) = state.flow_mut() else { return };
        let at = flow.deadline();
        turn.out.deadline_moved(self.deadlines.arm(&mut flow.timer, at, || Arc::clone(cell)));
    }

    /// Ends flows that have been idle for too long.
    pub(super) fn end_idle_flows(&self, turn: &mut Turn<'_>) {
        let now = turn.now;
        self.deadlines.serve_due(now, ENDED_PER_TURN, |cell| {
            let is_idle = cell.hold(|state| {
                let Some(flow) = state.flow_mut() else { return false };
                flow.timer.fired();
                let is_idle = flow.deadline() <= now;
                if state.is_open() && !is_idle {
                    self.arm(turn, &cell, state);
                }
                state.is_open() && is_idle
            });
            if is_idle && self.end_flow(&cell, FlowEnd::Idle) {
                turn.out.notify(cell, Events::ERROR);
            }
        });
    }

    /// Ends a flow. False if it was closed before.
    fn end_flow(&self, cell: &Arc<UdpCell>, end: FlowEnd) -> bool {
        let closed = cell.hold(|state| {
            let place = state.end_flow(end)?;
            self.leave(cell, state, &place);
            Some(state.take_all())
        });
        closed.is_some()
    }
}

/// A socket with the default options, which claims no port.
pub(super) fn parts_of(core: &Core, family: Family, interface: Option<u16>, received: ReceiveQueue) -> Parts {
    let mut ip = IpSocket::new(core, family);
    ip.limit_to(interface);
    let config = core.config();
    let options = UdpOptions::new(config);
    Parts { id: core.new_id(), ip, options, received, send_buffer: config.datagram_send_buffer, flow: None }
}
