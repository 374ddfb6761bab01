//! The calls of applications that receive, and connecting.

use super::Raw;
use super::cell::{RawCell, State};
use crate::buffer::Chunk;
use crate::error::os;
use crate::stack::core::Core;
use crate::stack::flow::Family;
use std::io;
use std::net::SocketAddr;

impl Raw {
    /// Reads one message or packet into `to`; what does not fit is lost. Gives the sender and the bytes read.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; the pending error of the socket, once.
    pub fn recv(&self, core: &Core, cell: &RawCell, to: &mut [u8]) -> io::Result<(SocketAddr, usize)> {
        receiving(core, cell, |state| {
            let (origin, len) = state.received.read(to)?;
            Some((origin.source, len))
        })
    }

    /// Takes one message or packet.
    ///
    /// # Errors
    /// As [`Raw::recv`].
    pub fn take(&self, core: &Core, cell: &RawCell) -> io::Result<(SocketAddr, Chunk)> {
        receiving(core, cell, |state| {
            let datagram = state.received.pop()?;
            Some((datagram.origin.source, datagram.payload))
        })
    }

    /// Connects a socket: from now on it gets only what the peer sends, and ICMP errors about what is sent to
    /// it.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` for an address of the other family.
    pub fn connect(&self, core: &Core, cell: &RawCell, peer: SocketAddr) -> io::Result<()> {
        core.check_alive()?;
        cell.hold(|state| {
            if peer.is_ipv4() != (state.ip.family() == Family::V4) {
                return Err(os(libc::EAFNOSUPPORT));
            }
            state.peer = Some(peer);
            Ok(())
        })
    }
}

/// Calls `f`, which gives none if there is nothing to receive. Errors come first.
fn receiving<R>(core: &Core, cell: &RawCell, f: impl FnOnce(&mut State) -> Option<R>) -> io::Result<R> {
    core.check_alive()?;
    cell.hold(|state| {
        if let Some(error) = state.take_error() {
            return Err(error);
        }
        if !state.is_open {
            return Err(os(libc::EBADF));
        }
        f(state).ok_or_else(|| {
            state.received.trim();
            io::ErrorKind::WouldBlock.into()
        })
    })
}
