//! The Internet checksum (RFC 1071).

#![cfg_attr(
    not(test),
    expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "sums of 32-bit words in 64 bits, of at most 64 KiB; and four lanes, which the compiler counts"
    )
)]

use std::net::IpAddr;

/// A checksum left for the device: the 16 bits at `start + offset` hold the sum of the
/// pseudo-header, and the device replaces them with the checksum of everything from `start` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumOffload {
    /// Where summing begins: the length of the IP header.
    pub start: u16,
    /// Where the checksum is, from `start`: 16 for TCP, 6 for UDP.
    pub offset: u16,
}

impl ChecksumOffload {
    /// Whether the packet is one of UDP.
    pub const fn is_udp(&self) -> bool {
        self.offset == 6
    }
}

/// The checksum of `bytes`: the complement of their ones' complement sum.
pub fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = Checksum::new();
    sum.add(bytes);
    sum.finish()
}

/// The checksum of an IPv4 header without options, as [`checksum`].
#[inline(always)]
pub(super) fn ipv4_checksum(header: &[u8; 20]) -> u16 {
    // Of a length that the compiler knows, so that nothing is left of the loops.
    !u16::from_be(fold(small_sum(header)))
}

/// Whether the checksum that a TCP or ICMPv6 message (or a UDP datagram that has one) carries is
/// correct. `bytes` is the whole message.
#[inline]
pub fn transport_checksum_ok(src: IpAddr, dst: IpAddr, protocol: u8, bytes: &[u8]) -> bool {
    let mut sum = pseudo_header(src, dst, protocol, bytes.len());
    sum.add(bytes);
    sum.finish() == 0
}

/// The sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1) of a message of `len` bytes.
#[inline]
pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Checksum {
    // IPv4 has 16 bits of length where IPv6 has 32; as sums they are the same.
    let mut sum = Checksum::new();
    for address in [src, dst] {
        match address {
            IpAddr::V4(address) => sum.sum += small_sum(&address.octets()),
            IpAddr::V6(address) => sum.sum += small_sum(&address.octets()),
        }
    }
    sum.sum += small_sum(&(len as u32).to_be_bytes()) + small_sum(&[0, 0, 0, protocol]);
    sum
}

/// A checksum over bytes that come in pieces of any length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    /// Sum of 16-bit words in the order of this machine's memory.
    sum: u64,
    /// Whether the next byte is the second one of its word.
    odd: bool,
}

impl Checksum {
    /// The sum of nothing.
    pub const fn new() -> Self {
        Self { sum: 0, odd: false }
    }

    /// Adds the bytes that follow those added before.
    pub fn add(&mut self, bytes: &[u8]) {
        let piece = fold(sum_words(bytes));
        // RFC 1071 §2: swapping the bytes of every word swaps the bytes of the sum.
        let piece = if self.odd { piece.swap_bytes() } else { piece };
        self.sum += u64::from(piece);
        self.odd ^= bytes.len() % 2 == 1;
    }

    /// Adds a field of 16 bits, which stands at an even place.
    #[inline]
    pub(super) fn add_field(&mut self, field: u16) {
        self.sum += u64::from(field.to_be());
    }

    /// The sum itself, as a checksum field holds it whose completion is left to a device.
    pub fn partial(self) -> u16 {
        u16::from_be(fold(self.sum))
    }

    /// The checksum. Over bytes that contain their correct checksum it is zero.
    pub fn finish(self) -> u16 {
        !self.partial()
    }
}

/// The sum of an IPv4 header without options, whose checksum field is zero.
pub(super) fn ipv4_sum(header: &[u8; 20]) -> Checksum {
    Checksum { sum: small_sum(header), odd: false }
}

/// Sums whole 32-bit words: as ones' complement sums they are those of their halves.
#[inline]
fn small_sum(bytes: &[u8]) -> u64 {
    let (words, _) = bytes.as_chunks::<4>();
    words.iter().fold(0, |sum, word| sum + u64::from(u32::from_ne_bytes(*word)))
}

/// Sums the 16-bit words of `bytes`, the last byte padded with zero, in the order of this machine's
/// memory. Not folded.
fn sum_words(bytes: &[u8]) -> u64 {
    /// Below, setting up the lanes costs more than they save. Headers are shorter.
    const LANES_PAY: usize = 128;
    let (body, rest) =
        if bytes.len() < LANES_PAY { (&[][..], bytes) } else { bytes.split_at(bytes.len() & !31) };
    let large = if body.is_empty() { 0 } else { large_sum(body) };
    let (words, tail) = rest.split_at(rest.len() & !3);
    let tail = match *tail {
        [a] => [a, 0, 0, 0],
        [a, b] => [a, b, 0, 0],
        [a, b, c] => [a, b, c, 0],
        _ => [0; 4],
    };
    large + small_sum(words) + u64::from(u32::from_ne_bytes(tail))
}

/// The same for blocks of 32 bytes.
fn large_sum(bytes: &[u8]) -> u64 {
    // Halves of 64-bit words are summed apart, so that no carry is ever lost or looked at and the
    // compiler keeps the lanes in vector registers. They could overflow after 16 GiB.
    let (blocks, _) = bytes.as_chunks::<32>();
    let mut low = [0u64; 4];
    let mut high = [0u64; 4];
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in words.iter().enumerate() {
            let word = u64::from_ne_bytes(*word);
            low[lane] += word & 0xffff_ffff;
            high[lane] += word >> 32;
        }
    }
    low.iter().sum::<u64>() + high.iter().sum::<u64>()
}

/// The ones' complement sum of the 16-bit words of `sum`.
///
/// Added to itself with its halves exchanged, a number has their sum in its upper half, and the carry of
/// the lower half is the one that goes around.
const fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn folding_is_the_remainder_by_ones_complement(sum: u64) {
            let folded = u64::from(fold(sum));
            prop_assert_eq!(folded % 0xffff, sum % 0xffff);
            prop_assert_eq!(folded == 0, sum == 0, "negative zero stays what it is");
        }
    }

    fn naive(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071() {
        // §3: the sum of these is ddf2.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn ones_carry_around_and_a_large_sum_does_not_overflow() {
        for len in [2, 31, 32, 33, 65_535] {
            assert_eq!(checksum(&vec![0xff; len]), naive(&vec![0xff; len]), "{len}");
        }
    }

    proptest! {
        #[test]
        fn equals_the_naive_sum(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(checksum(&bytes), naive(&bytes));
        }

        #[test]
        fn pieces_sum_like_the_whole(pieces in prop::collection::vec(
            prop::collection::vec(any::<u8>(), 0..70), 0..8)) {
            let mut sum = Checksum::new();
            for piece in &pieces {
                sum.add(piece);
            }
            prop_assert_eq!(sum.finish(), naive(&pieces.concat()));
        }
    }
}
