//! The calls of applications that receive.

use super::Udp;
use super::cell::{State, UdpCell, present_to};
use crate::buffer::Chunk;
use crate::datagram::{Datagram, Gathered, Origin};
use crate::readiness::Events;
use crate::stack::core::Core;
use crate::stack::flow::Family;
use crate::stack::turn::Turn;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

/// What was read into one buffer.
#[derive(Clone, Copy, Debug)]
pub struct UdpReceived {
    /// Where it came from.
    pub origin: Origin,
    /// The datagrams.
    pub gathered: Gathered,
    /// The type of service or traffic class, if the socket asks for it (`IP_RECVTOS`, `IPV6_RECVTCLASS`).
    pub traffic_class: Option<u8>,
}

impl Udp {
    /// Reads one datagram into `to`. What does not fit is lost. Gives the sender and the bytes read.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; the pending error of the socket, once.
    pub fn recv(&self, core: &Core, cell: &UdpCell, to: &mut [u8]) -> io::Result<(SocketAddr, usize)> {
        receiving(core, cell, |state| {
            let (origin, len) = state.received.read(to)?;
            Some((state.presented(origin.source), len))
        })
    }

    /// Takes one datagram, with its sender as the socket shows it.
    ///
    /// # Errors
    /// As [`Udp::recv`].
    pub fn take(&self, core: &Core, cell: &UdpCell) -> io::Result<(SocketAddr, Datagram)> {
        receiving(core, cell, |state| {
            let datagram = state.received.pop()?;
            Some((state.presented(datagram.origin.source), datagram))
        })
    }

    /// Takes what came as one: a datagram, or several of one length.
    ///
    /// # Errors
    /// As [`Udp::recv`].
    pub fn take_whole(&self, core: &Core, cell: &UdpCell) -> io::Result<(UdpReceived, Chunk)> {
        receiving(core, cell, |state| {
            let datagram = state.received.pop_whole()?;
            let gathered = Gathered { len: datagram.payload.len(), stride: datagram.first_len() };
            Some((told(state, datagram.origin, gathered), datagram.payload))
        })
    }

    /// As [`Udp::recv`], without taking the datagram.
    ///
    /// # Errors
    /// As [`Udp::recv`].
    pub fn peek(&self, core: &Core, cell: &UdpCell, to: &mut [u8]) -> io::Result<(SocketAddr, usize)> {
        receiving(core, cell, |state| {
            let front = state.received.front()?;
            let len = front.first_len().min(to.len());
            to[..len].copy_from_slice(&front.payload.as_slice()[..len]);
            Some((state.presented(front.origin.source), len))
        })
    }

    /// Reads datagrams into `bufs`: into each as many of one sender as fit and are alike, one behind the other.
    /// Calls `each` for each buffer that is in use, and gives their number.
    ///
    /// # Errors
    /// As [`Udp::recv`].
    pub fn gather(
        &self,
        core: &Core,
        cell: &UdpCell,
        bufs: &mut [IoSliceMut<'_>],
        mut each: impl FnMut(usize, UdpReceived),
    ) -> io::Result<usize> {
        receiving(core, cell, |state| {
            let mut used = 0;
            for buf in bufs {
                let Some((origin, gathered)) = state.received.gather(buf) else { break };
                each(used, told(state, origin, gathered));
                used += 1;
            }
            (used > 0).then_some(used)
        })
    }

    /// `IP_MTU`: the MTU of the path to the peer, in bytes; none if the socket is not connected.
    pub fn path_mtu(&self, turn: &Turn<'_>, cell: &UdpCell) -> Option<usize> {
        let peer = cell.hold(|state| state.peer().copied())?;
        let link = turn.core.mtu(peer.interface);
        let known = turn.core.paths().mtu(turn.now, peer.address.ip());
        Some(known.map_or(link, |known| known.bytes.min(link)))
    }

    /// What poll(2) reports.
    pub fn readiness(&self, cell: &UdpCell) -> Events {
        cell.hold(|state| {
            let mut events = Events::NONE;
            if !state.received.is_empty() {
                events |= Events::READABLE;
            }
            let unsent = state.rare().map_or(0, |rare| rare.unsent.bytes());
            if unsent <= state.send_buffer() / 2 {
                events |= Events::WRITABLE;
            }
            events
        })
    }
}

/// What a socket tells of what it received.
fn told(state: &State, origin: Origin, gathered: Gathered) -> UdpReceived {
    let options = state.options();
    let told = match origin.source.ip().to_canonical() {
        IpAddr::V4(_) => options.recv_tos,
        IpAddr::V6(_) => options.recv_tclass,
    };
    let traffic_class = told.then_some(origin.traffic_class);
    UdpReceived { origin: presented(state.ip().family(), origin), gathered, traffic_class }
}

/// An origin as a socket of this family shows it.
fn presented(family: Family, origin: Origin) -> Origin {
    let show = |ip| present_to(family, SocketAddr::new(ip, 0)).ip();
    Origin { source: present_to(family, origin.source), destination: show(origin.destination), ..origin }
}

/// Calls `f`, which gives none if there is nothing to receive. Errors come first.
fn receiving<R>(core: &Core, cell: &UdpCell, f: impl FnOnce(&mut State) -> Option<R>) -> io::Result<R> {
    core.check_alive()?;
    cell.hold(|state| {
        if let Some(error) = state.take_error() {
            return Err(error);
        }
        if !state.is_open() {
            return Err(state.closed());
        }
        f(state).ok_or_else(|| {
            state.trim();
            io::ErrorKind::WouldBlock.into()
        })
    })
}
