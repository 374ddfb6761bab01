//! A bounded queue of packets between two ends in memory.

use super::{RxMeta, TxPacket};
use crate::buffer::{PacketBuf, Pool};
use crate::sync::{Mutex, Rank};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Packets up to this length are copied once more when they are received. Longer ones are kept in buffers from a
/// pool, which are handed on.
const COPIED: usize = 8 * 1024;

/// Room for small packets that an empty queue keeps.
const KEPT: usize = 128 * 1024;

/// Packets on their way from one end to the other.
#[derive(Debug)]
pub(super) struct PacketQueue {
    limit: usize,
    pool: Arc<Pool>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A buffer of its own for each long packet.
    packets: VecDeque<(RxMeta, Option<PacketBuf>)>,
    /// The bytes of the others, one packet after the other: a packet is no allocation.
    small: VecDeque<u8>,
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
        let state = Mutex::new(Rank::InnerDevice, State::default());
        Self { limit: limit.max(1), pool: Pool::new(), state }
    }

    /// Appends a copy of `packet`. Several threads that do so at once may exceed the limit by one
    /// packet each.
    pub(super) fn push(&self, packet: &TxPacket<'_>) -> io::Result<()> {
        let meta = RxMeta {
            len: packet.len(),
            // A checksum that was left to the device needs no verification: the packet has not left
            // this machine.
            checksum_verified: packet.checksum.is_some(),
            gso_size: packet.gso.map(|gso| gso.size),
        };
        let mut state = self.state.lock();
        if state.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if state.packets.len() >= self.limit {
            state.refused = true;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if meta.len > COPIED {
            drop(state);
            // Copied without the lock.
            let buf = store(&self.pool, meta.len, packet.pieces());
            self.state.lock().packets.push_back((meta, Some(buf)));
        } else {
            packet.pieces().for_each(|piece| state.small.extend(piece));
            state.packets.push_back((meta, None));
        }
        Ok(())
    }

    /// Moves the first packet to the front of `to`.
    pub(super) fn pop(&self, to: &mut PacketBuf) -> io::Result<Popped> {
        let mut state = self.state.lock();
        let Some((meta, long)) = state.packets.pop_front() else {
            let kind = if state.closed { io::ErrorKind::NotConnected } else { io::ErrorKind::WouldBlock };
            return Err(kind.into());
        };
        // The sender is woken when the queue is half empty, and not for each packet.
        let raise_writable = state.refused && state.packets.len() <= self.limit / 2;
        state.refused &= !raise_writable;
        match long {
            Some(packet) => {
                drop(state);
                hand_over(packet, meta.len, to);
            }
            None => state.take_small(meta.len, to),
        }
        Ok(Popped { meta, raise_writable })
    }

    /// Takes no more packets; those that are there can still be received.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
    }
}

impl State {
    /// Moves the first `len` bytes of the small packets to the front of `to`.
    fn take_small(&mut self, len: usize, to: &mut PacketBuf) {
        if to.bytes().len() < len {
            *to = PacketBuf::unpooled(vec![0; len].into_boxed_slice());
        }
        let (front, back) = self.small.as_slices();
        let (from_front, from_back) = to.bytes_mut()[..len].split_at_mut(len.min(front.len()));
        from_front.copy_from_slice(&front[..from_front.len()]);
        from_back.copy_from_slice(&back[..from_back.len()]);
        self.small.drain(..len);
        if self.small.is_empty() && self.small.capacity() > KEPT {
            self.small = VecDeque::new();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &PacketQueue, len: usize, byte: u8) {
        let payload = vec![byte; len - 2];
        let packet = TxPacket { header: &[byte; 2], payload: &[&payload], ..TxPacket::default() };
        queue.push(&packet).unwrap();
    }

    fn pop(queue: &PacketQueue, to: &mut PacketBuf) -> (usize, u8) {
        let len = queue.pop(to).unwrap().meta.len;
        let bytes = &to.bytes()[..len];
        assert!(bytes.iter().all(|byte| *byte == bytes[0]), "of one packet");
        (len, bytes[0])
    }

    #[test]
    fn long_and_short_packets_stay_in_order() {
        let queue = PacketQueue::new(8);
        let mut to = Pool::new().take();
        let lens = [2, 1500, COPIED, COPIED + 1, 60_000, 40];
        for round in 0..200_u8 {
            lens.iter().for_each(|len| push(&queue, *len, round));
            // Some stay, so that the short ones go round.
            push(&queue, 700, round);
            if round > 0 {
                assert_eq!(pop(&queue, &mut to), (700, round - 1));
            }
            lens.iter().for_each(|len| assert_eq!(pop(&queue, &mut to), (*len, round)));
        }
        assert!(queue.state.lock().small.capacity() <= 2 * (lens[..3].iter().sum::<usize>() + 1440));
    }

    #[test]
    fn a_buffer_that_is_too_small_is_replaced() {
        let queue = PacketQueue::new(1);
        push(&queue, 100, 7);
        let mut to = PacketBuf::copy_from(&[0; 99]);
        assert_eq!(pop(&queue, &mut to), (100, 7));
    }

    #[test]
    fn an_empty_queue_keeps_little_room() {
        let queue = PacketQueue::new(1000);
        let mut to = Pool::new().take();
        for len in [1500, 100] {
            (0..500).for_each(|_| push(&queue, len, 1));
            (0..500).for_each(|_| assert_eq!(pop(&queue, &mut to), (len, 1)));
            assert!(queue.state.lock().small.capacity() <= KEPT);
        }
        assert!(queue.state.lock().small.capacity() >= 500 * 100, "and some, for the next ones");
    }
}
