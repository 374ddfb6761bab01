//! A checksum that other programs can compute too (`zlib.adler32` in Python), for reports.

/// The largest prime below 2^16 (RFC 1950 §8.2).
const BASE: u32 = 65_521;

/// Bytes that can be summed before the sums must be reduced, so that 32 bits do not overflow.
const NMAX: usize = 5_552;

/// Adler-32 of bytes that are added piece by piece (RFC 1950 §8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adler32 {
    a: u32,
    b: u32,
}

impl Default for Adler32 {
    fn default() -> Self {
        Self { a: 1, b: 0 }
    }
}

impl Adler32 {
    /// Adds `bytes`.
    pub fn update(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(NMAX) {
            for &byte in piece {
                self.a += u32::from(byte);
                self.b += self.a;
            }
            self.a %= BASE;
            self.b %= BASE;
        }
    }

    /// The checksum of all bytes so far.
    pub fn value(&self) -> u32 {
        self.b << 16 | self.a
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values() {
        let of = |pieces: &[&[u8]]| {
            let mut sum = Adler32::default();
            pieces.iter().for_each(|piece| sum.update(piece));
            sum.value()
        };
        assert_eq!(of(&[]), 1);
        assert_eq!(of(&[b"Wikipedia"]), 0x11e6_0398);
        assert_eq!(of(&[b"Wiki", b"pedia"]), 0x11e6_0398);
        // The largest sums that there can be, over more than one reduction.
        assert_eq!(of(&[&[0xff; 20_000]]), of(&[&[0xff; 1], &[0xff; 19_999]]));
    }
}
