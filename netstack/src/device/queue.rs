//! A bounded queue of packets between two ends in memory.

use super::{RxMeta, TxPacket};
use crate::buffer::{PacketBuf, Pool};
use crate::sync::{Mutex, Rank};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Packets up to this length are kept in buffers of their own size, and copied once more when they
/// are received. Longer ones are kept in buffers from a pool, which are handed on.
const COPIED: usize = 8 * 1024;

/// Packets on their way from one end to the other.
#[derive(Debug)]
pub(super) struct PacketQueue {
    limit: usize,
    pool: Arc<Pool>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    packets: VecDeque<(PacketBuf, RxMeta)>,
    /// A sender found the queue full, and waits until there is room.
    refused: bool,
    closed: bool,
}

/// The result of [`PacketQueue::pop`].
pub(super) struct Popped {
    pub(super) meta: RxMeta,
    /// Whether the sender has to be woken, because there is room again.
    pub(super) raise_writable: bool,
}

impl PacketQueue {
    /// An empty queue for `limit` packets.
    pub(super) fn new(limit: usize) -> Self {
        let state = State { packets: VecDeque::new(), refused: false, closed: false };
        Self { limit: limit.max(1), pool: Pool::new(), state: Mutex::new(Rank::InnerDevice, state) }
    }

    /// Appends a copy of `packet`. Several threads that do so at once may exceed the limit by one
    /// packet each.
    pub(super) fn push(&self, packet: &TxPacket<'_>) -> io::Result<()> {
        {
            let mut state = self.state.lock();
            if state.closed {
                return Err(io::ErrorKind::NotConnected.into());
            }
            if state.packets.len() >= self.limit {
                state.refused = true;
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        // Copied without the lock.
        let len = packet.len();
        let buf = store(&self.pool, len, packet.pieces());
        let meta = RxMeta {
            len,
            // A checksum that was left to the device needs no verification: the packet has not left
            // this machine.
            checksum_verified: packet.checksum.is_some(),
            gso_size: packet.gso.map(|gso| gso.size),
        };
        self.state.lock().packets.push_back((buf, meta));
        Ok(())
    }

    /// Moves the first packet to the front of `to`.
    pub(super) fn pop(&self, to: &mut PacketBuf) -> io::Result<Popped> {
        let (packet, meta, raise_writable) = {
            let mut state = self.state.lock();
            let Some((packet, meta)) = state.packets.pop_front() else {
                let kind = if state.closed { io::ErrorKind::NotConnected } else { io::ErrorKind::WouldBlock };
                return Err(kind.into());
            };
            // The sender is woken when the queue is half empty, and not for each packet.
            let raise = state.refused && state.packets.len() <= self.limit / 2;
            state.refused &= !raise;
            (packet, meta, raise)
        };
        hand_over(packet, meta.len, to);
        Ok(Popped { meta, raise_writable })
    }

    /// Takes no more packets; those that are there can still be received.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
    }
}

/// A copy of `pieces`, which have `len` bytes: a large one in a buffer from the pool, a small one in
/// a buffer of that length.
#[expect(single_use_lifetimes, reason = "an elided one is unstable in `impl Trait`")]
pub(super) fn store<'a>(pool: &Arc<Pool>, len: usize, pieces: impl Iterator<Item = &'a [u8]>) -> PacketBuf {
    if len <= COPIED {
        let mut bytes = Vec::with_capacity(len);
        pieces.for_each(|piece| bytes.extend_from_slice(piece));
        return PacketBuf::unpooled(bytes.into_boxed_slice());
    }
    let mut buf = pool.take();
    let mut free = buf.bytes_mut();
    for piece in pieces {
        let (to, rest) = free.split_at_mut(piece.len());
        to.copy_from_slice(piece);
        free = rest;
    }
    buf
}

/// Puts the `len` bytes of `packet` to the front of `to`: by exchanging the buffers where that
/// leaves the receiver with no smaller one, or else by copying.
pub(super) fn hand_over(mut packet: PacketBuf, len: usize, to: &mut PacketBuf) {
    if packet.capacity() >= to.capacity() {
        packet.exchange(to);
    } else {
        to.bytes_mut()[..len].copy_from_slice(&packet.bytes()[..len]);
    }
}
