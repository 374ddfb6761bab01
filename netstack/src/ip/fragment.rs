//! Cutting a datagram into fragments.

use crate::wire::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, checksum};

/// Bytes of the fragment header of IPv6 (RFC 8200 §4.5).
const FRAGMENT_HEADER_LEN: usize = 8;
/// Its number as the next header.
const FRAGMENT_HEADER: u8 = 44;

/// Cuts `packet`, a whole datagram without options or extension headers, into fragments of at most `mtu`
/// bytes with the identification `id`, and hands each to `send` (RFC 791 §3.2, RFC 8200 §4.5). Nothing is
/// sent if not even eight bytes of data fit.
#[cfg_attr(
    not(test),
    expect(clippy::indexing_slicing, reason = "it changes a header that it has copied whole")
)]
pub fn fragment(packet: &[u8], mtu: usize, id: u32, mut send: impl FnMut(&[u8])) {
    let v4 = packet.first().is_some_and(|first| first >> 4 == 4);
    let (fixed, headers) = if v4 {
        (IPV4_HEADER_LEN, IPV4_HEADER_LEN)
    } else {
        (IPV6_HEADER_LEN, IPV6_HEADER_LEN + FRAGMENT_HEADER_LEN)
    };
    let Some((header, payload)) = packet.split_at_checked(fixed) else { return };
    // All but the last carry a multiple of eight bytes.
    let room = mtu.saturating_sub(headers) & !7;
    if room == 0 {
        return;
    }
    let mut fragment = Vec::with_capacity(mtu);
    for (index, data) in payload.chunks(room).enumerate() {
        let offset = index * room;
        let more = offset + data.len() < payload.len();
        fragment.clear();
        fragment.extend_from_slice(header);
        if v4 {
            let field = (offset / 8) as u16 | u16::from(more) << 13;
            fragment[2..4].copy_from_slice(&((headers + data.len()) as u16).to_be_bytes());
            fragment[4..6].copy_from_slice(&(id as u16).to_be_bytes());
            // Without DF: who fragments may be fragmented further.
            fragment[6..8].copy_from_slice(&field.to_be_bytes());
            fragment[10..12].fill(0);
            let sum = checksum(&fragment);
            fragment[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            let [high, low] = (offset as u16 | u16::from(more)).to_be_bytes();
            let [a, b, c, d] = id.to_be_bytes();
            let next = std::mem::replace(&mut fragment[6], FRAGMENT_HEADER);
            let length = (FRAGMENT_HEADER_LEN + data.len()) as u16;
            fragment[4..6].copy_from_slice(&length.to_be_bytes());
            fragment.extend([next, 0, high, low, a, b, c, d]);
        }
        fragment.extend_from_slice(data);
        send(&fragment);
    }
}
