//! A datagram that was received.

use crate::buffer::Chunk;
use std::net::{IpAddr, SocketAddr};

/// The memory that a datagram needs besides its payload: its place in a queue, and what an allocator adds.
const OVERHEAD: usize = size_of::<Datagram>() + 32;

/// A payload that fills less than this fraction of its buffer is copied out of it.
const KEPT_FRACTION: usize = 4;

/// Where a datagram is from, and what its headers say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The sender, as on the wire: never an IPv4-mapped address.
    pub source: SocketAddr,
    /// The address that it was sent to, as on the wire: one of the stack, a group, or a broadcast address.
    pub destination: IpAddr,
    /// The index of the interface that it came in on.
    pub interface: u16,
    /// The traffic class of its IP header: DSCP in the upper six bits, ECN in the lower two.
    pub traffic_class: u8,
    /// The hop limit or time to live of its IP header.
    pub hop_limit: u8,
}

impl Origin {
    /// Whether one description fits both, so that they can be read together.
    pub fn is_alike(&self, other: &Self) -> bool {
        self.source == other.source
            && self.destination == other.destination
            && self.interface == other.interface
            && self.traffic_class == other.traffic_class
    }
}

/// A datagram that was received, or several of the same length that came as one.
#[derive(Debug)]
pub struct Datagram {
    /// Where it is from.
    pub origin: Origin,
    /// Set if the payload is that of several datagrams, which came as one: bytes of each but the last.
    pub segment_size: Option<u16>,
    /// The payload.
    pub payload: Chunk,
}

impl Datagram {
    /// The memory that it keeps in use, in bytes.
    pub fn memory(&self) -> usize {
        OVERHEAD + self.payload.capacity()
    }

    /// Bytes of the first datagram of those that came as one.
    pub fn first_len(&self) -> usize {
        self.segment_size.map_or(self.payload.len(), |size| self.payload.len().min(size.into()))
    }

    /// Lets go of the buffer that it came in, unless the payload fills much of it: so a byte never keeps
    /// 64 KiB in use.
    #[must_use]
    pub fn compact(self) -> Self {
        if self.payload.len() * KEPT_FRACTION >= self.payload.capacity() {
            return self;
        }
        Self { payload: self.payload.compacted(), ..self }
    }

    /// A copy for another socket.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self { payload: self.payload.compacted(), ..*self }
    }

    /// Takes the first datagram off several that came as one; none if it is the only one.
    pub(super) fn split_first(&mut self) -> Option<Self> {
        let first = self.first_len();
        if first >= self.payload.len() {
            return None;
        }
        let payload = self.payload.copy_of(&self.payload.as_slice()[..first]);
        self.payload.advance(first);
        Some(Self { payload, segment_size: None, ..*self })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::buffer::{BUFFER_SIZE, Pool};

    /// A datagram from port `port` with this payload.
    pub(in crate::datagram) fn datagram(port: u16, payload: &[u8]) -> Datagram {
        let origin = Origin {
            source: SocketAddr::from(([10, 0, 0, 1], port)),
            destination: IpAddr::from([10, 0, 0, 2]),
            interface: 0,
            traffic_class: 0,
            hop_limit: 64,
        };
        Datagram { origin, segment_size: None, payload: Chunk::copy_from(payload) }
    }

    #[test]
    fn a_small_payload_lets_go_of_its_buffer_and_a_large_one_keeps_it() {
        for (len, kept) in [(0, false), (1, false), (16_399, false), (16_400, true), (65_507, true)] {
            let payload = Pool::new().take().into_chunk(28, 28 + len);
            let compacted = Datagram { payload, ..datagram(1, b"") }.compact();
            assert_eq!(compacted.payload.len(), len);
            assert_eq!(compacted.payload.capacity() == BUFFER_SIZE, kept, "{len}");
            assert!(compacted.memory() >= len + OVERHEAD);
        }
    }

    #[test]
    fn datagrams_that_came_as_one_are_taken_off_one_by_one() {
        let mut several = Datagram { segment_size: Some(3), ..datagram(1, b"abcdefgh") };
        let mut parts = Vec::new();
        while let Some(first) = several.split_first() {
            assert_eq!(first.segment_size, None);
            parts.push(first.payload.as_slice().to_vec());
        }
        parts.push(several.payload.as_slice().to_vec());
        assert_eq!(parts, [&b"abc"[..], b"def", b"gh"]);
    }
}
