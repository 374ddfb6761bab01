//! Initial sequence numbers and timestamp offsets that outsiders cannot predict.

use crate::time::Instant;
use crate::wire::SeqNum;
use siphasher::sip::SipHasher13;
use std::hash::{Hash, Hasher};

/// Makes initial sequence numbers (RFC 6528) and timestamp offsets (RFC 7323 §7).
#[derive(Clone)]
pub struct IsnGenerator {
    isn_key: [u8; 16],
    timestamp_key: [u8; 16],
}

impl IsnGenerator {
    /// A generator with a 32-byte secret of cryptographic quality.
    pub fn new(secret: &[u8; 32]) -> Self {
        let (isn_key, timestamp_key) = secret.split_at(16);
        Self {
            isn_key: isn_key.try_into().expect("half of 32 bytes"),
            timestamp_key: timestamp_key.try_into().expect("half of 32 bytes"),
        }
    }

    /// The initial sequence number for a connection between the addresses and ports in `flow`.
    ///
    /// The clock is Linux's, a tick each 64 ns, which satisfies RFC 9293 MUST-8 (at least one each
    /// 4 µs) and still wraps slower than segments live (275 s).
    pub fn isn(&self, now: Instant, flow: &impl Hash) -> SeqNum {
        let clock = (now.as_nanos() >> 6) as u32;
        SeqNum::new(keyed(&self.isn_key, flow) as u32) + clock
    }

    /// The offset of the timestamp clock. It depends on the addresses alone, so that timestamps
    /// grow from one connection to the next and TIME-WAIT can be reused (RFC 6191 §3).
    pub fn timestamp_offset(&self, addresses: &impl Hash) -> u32 {
        keyed(&self.timestamp_key, addresses) as u32
    }
}

impl std::fmt::Debug for IsnGenerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IsnGenerator(secret)")
    }
}

fn keyed(key: &[u8; 16], value: &impl Hash) -> u64 {
    let mut hasher = SipHasher13::new_with_key(key);
    value.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_one_pair_grow_with_the_clock() {
        let isn = IsnGenerator::new(&[7; 32]);
        let flow = ([10u8, 0, 0, 1], 80u16);
        let first = isn.isn(Instant::ZERO, &flow);
        let later = isn.isn(Instant::from_millis(1), &flow);
        assert_eq!(later - first, 1_000_000 / 64);
    }

    #[test]
    fn another_pair_or_secret_gives_an_unrelated_number() {
        let isn = IsnGenerator::new(&[7; 32]);
        let numbers: Vec<_> = (0..1000u16).map(|port| isn.isn(Instant::ZERO, &port).raw()).collect();
        // Each bit of a uniform number is set in about half of 1,000 samples.
        for bit in 0..32 {
            let ones = numbers.iter().filter(|n| *n >> bit & 1 == 1).count();
            assert!((400..600).contains(&ones), "bit {bit} is set {ones} times in 1000");
        }
        let other = IsnGenerator::new(&[8; 32]);
        assert_ne!(other.isn(Instant::ZERO, &1u16), isn.isn(Instant::ZERO, &1u16));
    }
}
