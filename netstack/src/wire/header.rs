//! A buffer for the headers of one packet to send.

use std::fmt;
use std::ops::Deref;

/// More than the longest headers: 40 bytes of IPv6 and 60 of TCP.
const CAPACITY: usize = 128;

/// The headers of one packet, without memory of their own on the heap.
#[derive(Clone)]
pub struct HeaderBuf {
    bytes: [u8; CAPACITY],
    len: u8,
}

impl HeaderBuf {
    /// An empty buffer.
    pub const fn new() -> Self {
        Self { bytes: [0; CAPACITY], len: 0 }
    }

    /// The bytes written.
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The bytes written, to be changed.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..usize::from(self.len)).unwrap_or_default()
    }

    /// Discards the contents and makes room for `len` zeroed bytes.
    ///
    /// # Panics
    /// If `len` is more than 128.
    pub fn reset(&mut self, len: usize) -> &mut [u8] {
        assert!(len <= CAPACITY, "headers of {len} bytes");
        if self.len != 0 {
            self.bytes = [0; CAPACITY];
        }
        self.len = len as u8;
        let (bytes, _) = self.bytes.split_at_mut(len);
        bytes
    }
}

impl Default for HeaderBuf {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for HeaderBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl fmt::Debug for HeaderBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HeaderBuf").field(&self.as_slice()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_that_is_used_again_is_zeroed() {
        let mut buf = HeaderBuf::new();
        buf.reset(60).fill(1);
        buf.reset(20).fill(2);
        assert_eq!(buf.reset(100), [0; 100]);
    }
}
