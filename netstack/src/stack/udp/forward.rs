//! The calls of applications that forward: flows, and datagrams with any addresses.

use super::Udp;
use super::cell::UdpCell;
use super::flow::Quote;
use super::flows::parts_of;
use super::forwarder::{UdpForwarderCell, UdpForwarding};
use super::routing::way_between;
use super::transmission::Transmission;
use crate::datagram::ReceiveQueue;
use crate::icmp::{Undelivered, Unreachable};
use crate::stack::core::Core;
use crate::stack::egress::send_unreachable_about;
use crate::stack::flow::{Family, WayBack};
use crate::stack::hooks::Observer;
use crate::stack::icmp_limit::Cause;
use crate::stack::turn::Turn;
use crate::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Udp {
    /// Starts to forward what there is no socket for. The observer is told of new flows.
    ///
    /// # Errors
    /// `EADDRINUSE` if there is another forwarder for the same interface; the error of a stack that is over.
    pub fn forward(
        &self,
        core: &Core,
        settings: UdpForwarding,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Arc<UdpForwarderCell>> {
        core.check_alive()?;
        let sender = |observer| {
            let cell = UdpCell::new(parts_of(core, Family::V6, settings.interface, ReceiveQueue::new(0)));
            cell.observe(observer);
            cell
        };
        let forwarder = Arc::new(UdpForwarderCell::new(settings, observer, sender));
        self.forwarders.enter(Arc::clone(&forwarder))?;
        Ok(forwarder)
    }

    /// Stops to forward. Flows that wait to be accepted end; the others stay.
    pub fn close_forwarder(&self, turn: &mut Turn<'_>, forwarder: &Arc<UdpForwarderCell>) {
        self.forwarders.leave(forwarder);
        let pending = {
            let mut flows = forwarder.flows.lock();
            flows.is_open = false;
            std::mem::take(&mut flows.pending)
        };
        for cell in pending {
            self.close(turn, &cell);
        }
        // It is in no table. What it sent and waits for a device is still sent.
        forwarder.sender.hold(|state| state.close());
    }

    /// Takes the flow that has waited longest, with what came of it so far. The observer is told of what
    /// comes later.
    ///
    /// # Errors
    /// `WouldBlock` if none waits; the error of the device, if every interface of the forwarder is gone.
    pub fn accept_flow(
        &self,
        core: &Core,
        forwarder: &UdpForwarderCell,
        observer: Arc<dyn Observer>,
    ) -> io::Result<Arc<UdpCell>> {
        core.check_alive()?;
        let mut spent = Vec::new();
        let accepted = {
            let mut flows = forwarder.flows.lock();
            loop {
                let Some(cell) = flows.pending.pop_front() else { break None };
                let (open, may_be_evicted) = cell.hold(|state| {
                    state.flow_mut().into_iter().for_each(|flow| flow.accept());
                    (state.is_open(), state.may_be_evicted())
                });
                if !open {
                    forwarder.count.forget_ended();
                    continue;
                }
                cell.observe(observer);
                if may_be_evicted {
                    let open = forwarder.count.open.load(Ordering::Relaxed);
                    flows.enter_young(&cell, open, &mut spent);
                }
                break Some(cell);
            }
        };
        drop(spent);
        accepted.ok_or_else(|| nothing_waits(core, forwarder))
    }

    /// Reads one datagram of the flows that wait to be accepted into `to`, and ends a flow that has no other:
    /// for who wants datagrams and no flows. The flows take turns. Gives the sender, the receiver and the
    /// bytes read. What does not fit is lost.
    ///
    /// # Errors
    /// As [`Udp::accept_flow`].
    pub fn recv_from_to(
        &self,
        turn: &mut Turn<'_>,
        forwarder: &UdpForwarderCell,
        to: &mut [u8],
    ) -> io::Result<(SocketAddr, SocketAddr, usize)> {
        turn.core.check_alive()?;
        let mut flows = forwarder.flows.lock();
        while let Some(cell) = flows.pending.pop_front() {
            let read = cell.hold(|state| {
                let local = state.flow()?.local;
                let (origin, len) = state.is_open().then(|| state.received.read(to)).flatten()?;
                // While it is held: no other datagram comes to a flow that is about to end.
                let closed = state.received.is_empty().then(|| self.close_held(&cell, state));
                Some((origin.source, local, len, closed))
            });
            let Some((source, local, len, closed)) = read else {
                forwarder.count.forget_ended();
                continue;
            };
            if closed.is_none() {
                flows.pending.push_back(cell);
            }
            drop(flows);
            drop(closed);
            return Ok((source, local, len));
        }
        drop(flows);
        Err(nothing_waits(turn.core, forwarder))
    }

    /// Sends a datagram from any address to any.
    ///
    /// # Errors
    /// As [`Udp::send`], and `EINVAL` if an address or port is none that a host could have, or the addresses are
    /// of two families; `EACCES` for a group or a broadcast address.
    pub fn send_from_to(
        &self,
        turn: &mut Turn<'_>,
        forwarder: &UdpForwarderCell,
        contents: &[u8],
        from: SocketAddr,
        to: SocketAddr,
    ) -> io::Result<usize> {
        let way = way_between(turn.core, forwarder.settings.interface, from, to)?;
        self.send_on(turn, &forwarder.sender, &way, from.port(), &Transmission::new(contents))
    }

    /// Ends a flow and tells its client why, by an ICMP error about its first datagram within the limit for
    /// those.
    pub fn refuse_flow(&self, turn: &mut Turn<'_>, cell: &Arc<UdpCell>, reason: Unreachable) {
        let about = cell.hold(|state| {
            let flow = state.flow().filter(|_| state.is_open())?;
            let Quote { header, bytes } = flow.quote();
            Some((flow.from, state.ip().interface(), header.clone(), bytes.clone()))
        });
        self.close(turn, cell);
        let Some((from, bound, header, bytes)) = about else { return };
        let way = WayBack { local: header.dst, remote: header.src, bound, spread: 0 };
        let queue = turn.core.way_back(from, &way);
        let packet = Undelivered { header: &header, bytes: &bytes, cast: Quote::CAST };
        send_unreachable_about(turn, queue, reason, &packet, Cause::Application);
    }

    /// Sets for how long a flow lives on which nothing is sent or received.
    pub fn set_idle_timeout(&self, turn: &mut Turn<'_>, cell: &Arc<UdpCell>, timeout: Duration) {
        cell.hold(|state| {
            if let Some(flow) = state.flow_mut() {
                flow.idle_timeout = timeout;
            }
            if state.is_open() {
                self.arm(turn, cell, state);
            }
        });
    }
}

/// Why there is nothing to take.
fn nothing_waits(core: &Core, forwarder: &UdpForwarderCell) -> io::Error {
    forwarder.cut_off(core).map_or_else(|| io::ErrorKind::WouldBlock.into(), io::Error::from)
}
