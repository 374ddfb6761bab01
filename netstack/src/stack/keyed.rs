//! The hashes of tables: a keyed one for keys that peers can choose, and one for ports.

use siphasher::sip::SipHasher13;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};

/// Builds SipHash-1-3 with a secret key: colliding flows cannot be chosen.
#[derive(Clone)]
pub(crate) struct Keyed([u8; 16]);

impl Keyed {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self(key)
    }

    /// The keyed hash of a value.
    pub(crate) fn of(&self, value: &impl Hash) -> u64 {
        self.hash_one(value)
    }

    /// A secret key of its own for `purpose`.
    pub(crate) fn key_for(&self, purpose: &str) -> [u8; 16] {
        let mut key = [0; 16];
        for (n, half) in key.chunks_exact_mut(8).enumerate() {
            half.copy_from_slice(&self.of(&(purpose, n)).to_le_bytes());
        }
        key
    }
}

impl BuildHasher for Keyed {
    type Hasher = SipHasher13;
    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_key(&self.0)
    }
}

impl std::fmt::Debug for Keyed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keyed(secret)")
    }
}

/// Builds the hash of local ports.
pub(crate) type ByPort = BuildHasherDefault<PortHasher>;

/// Hashes local ports, which are nobody's to choose but our own: a multiplication is enough.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PortHasher(u64);

impl Hasher for PortHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u16(u16::from(*byte)));
    }

    fn write_u16(&mut self, port: u16) {
        self.0 = (self.0 ^ u64::from(port)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
