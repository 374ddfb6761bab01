//! Entry points of the fuzz targets. Not a part of the public API.

use crate::vnet;
use netstack::device::{RxMeta, TxPacket};
use std::io;

/// Bytes of the header that [`encode`] writes and [`decode`] reads.
pub const HEADER_LEN: usize = vnet::HEADER_LEN;

/// The virtio-net header of a packet to send.
///
/// # Errors
/// As `Tun::transmit` fails for a packet that no header describes.
pub fn encode(packet: &TxPacket<'_>) -> io::Result<[u8; HEADER_LEN]> {
    vnet::encode(packet)
}

/// What the virtio-net header says of a received packet of `len` bytes.
pub fn decode(header: &[u8; HEADER_LEN], len: usize) -> RxMeta {
    vnet::decode(header, len)
}
