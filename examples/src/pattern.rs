//! A payload that is computed from the position of each byte, so that neither side has to store it.

use std::fmt;
use std::io;

/// The golden ratio in 64 bits. Odd, so that its multiples repeat only after 2^64 words.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// Bytes of a word, the unit in which the pattern is computed.
const WORD: usize = 8;

/// An endless sequence of bytes that depends on a seed.
///
/// Every word of 8 bytes occurs once in 2^64 words, so a byte lost, added, changed or moved shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    seed: u64,
}

/// The first byte that differs from the pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Its position in the sequence.
    pub offset: u64,
    /// The byte of the pattern.
    pub expected: u8,
    /// The byte that was found.
    pub found: u8,
}

impl Pattern {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { seed: seed.wrapping_mul(0xd6e8_feb8_6659_fd93) }
    }

    /// Writes the part of the sequence that begins at `offset` to `buf`.
    pub fn fill(&self, offset: u64, buf: &mut [u8]) {
        let (head, body) = buf.split_at_mut(unaligned(offset, buf.len()));
        self.each_byte(offset, head.len(), |at, byte| head[at] = byte);
        let offset = offset + head.len() as u64;
        let mut raw = self.raw(offset / WORD as u64);
        let mut words = body.chunks_exact_mut(WORD);
        for chunk in &mut words {
            chunk.copy_from_slice(&mix(raw).to_le_bytes());
            raw = raw.wrapping_add(STEP);
        }
        for (byte, value) in words.into_remainder().iter_mut().zip(mix(raw).to_le_bytes()) {
            *byte = value;
        }
    }

    /// Compares `buf` with the part of the sequence that begins at `offset`.
    ///
    /// # Errors
    /// The first difference.
    pub fn check(&self, offset: u64, buf: &[u8]) -> Result<(), Mismatch> {
        let (head, body) = buf.split_at(unaligned(offset, buf.len()));
        let mut wrong = 0;
        self.each_byte(offset, head.len(), |at, byte| wrong |= u64::from(head[at] ^ byte));
        let mut raw = self.raw((offset + head.len() as u64) / WORD as u64);
        let (words, tail) = body.as_chunks::<WORD>();
        for word in words {
            wrong |= u64::from_le_bytes(*word) ^ mix(raw);
            raw = raw.wrapping_add(STEP);
        }
        for (byte, value) in tail.iter().zip(mix(raw).to_le_bytes()) {
            wrong |= u64::from(byte ^ value);
        }
        if wrong == 0 { Ok(()) } else { Err(self.first_mismatch(offset, buf)) }
    }

    /// The byte at `offset`.
    pub fn byte(&self, offset: u64) -> u8 {
        mix(self.raw(offset / WORD as u64)).to_le_bytes()[(offset % WORD as u64) as usize]
    }

    /// The word at `index`, before [`mix`].
    fn raw(&self, index: u64) -> u64 {
        self.seed.wrapping_add(index.wrapping_mul(STEP))
    }

    fn each_byte(&self, offset: u64, len: usize, mut with: impl FnMut(usize, u8)) {
        for at in 0..len {
            with(at, self.byte(offset + at as u64));
        }
    }

    fn first_mismatch(&self, offset: u64, buf: &[u8]) -> Mismatch {
        let differences = buf.iter().enumerate().map(|(at, &found)| {
            let offset = offset + at as u64;
            Mismatch { offset, expected: self.byte(offset), found }
        });
        let first = { differences }.find(|at| at.expected != at.found);
        first.expect("the comparison by words found a difference")
    }
}

/// Mixes the high bits, which are well distributed in a multiple of [`STEP`], into the low ones. A
/// bijection.
fn mix(raw: u64) -> u64 {
    raw ^ (raw >> 32)
}

/// Bytes of `len` that come before the first whole word at or after `offset`.
fn unaligned(offset: u64, len: usize) -> usize {
    let into_word = (offset % WORD as u64) as usize;
    ((WORD - into_word) % WORD).min(len)
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, expected, found } = self;
        write!(f, "byte {offset} is {found:#04x} and should be {expected:#04x}")
    }
}

impl std::error::Error for Mismatch {}

impl From<Mismatch> for io::Error {
    fn from(mismatch: Mismatch) -> Self {
        Self::new(io::ErrorKind::InvalidData, mismatch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_a_part_of_the_same_sequence() {
        let pattern = Pattern::new(7);
        let mut whole = vec![0; 200];
        pattern.fill(0, &mut whole);
        for start in 0..40 {
            for len in 0..60 {
                let mut piece = vec![0; len];
                pattern.fill(start as u64, &mut piece);
                assert_eq!(piece, whole[start..start + len], "{len} bytes from {start}");
                assert_eq!(pattern.check(start as u64, &piece), Ok(()));
            }
        }
        assert!(whole.iter().enumerate().all(|(at, &byte)| pattern.byte(at as u64) == byte));
        assert_ne!(pattern.byte(0), Pattern::new(8).byte(0));
    }

    #[test]
    fn any_changed_byte_is_found() {
        let pattern = Pattern::new(1);
        let mut bytes = vec![0; 50];
        pattern.fill(1_000_003, &mut bytes);
        for at in 0..bytes.len() {
            bytes[at] ^= 0x10;
            let found = bytes[at];
            let offset = 1_000_003 + at as u64;
            let mismatch = Mismatch { offset, expected: found ^ 0x10, found };
            assert_eq!(pattern.check(1_000_003, &bytes), Err(mismatch));
            bytes[at] ^= 0x10;
        }
    }

    #[test]
    fn a_moved_piece_is_found() {
        let pattern = Pattern::new(1);
        let mut bytes = vec![0; 1448];
        pattern.fill(1448, &mut bytes);
        assert!(pattern.check(0, &bytes).is_err());
        assert!(pattern.check(1449, &bytes).is_err());
    }
}
