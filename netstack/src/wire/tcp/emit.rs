//! TCP headers, written.

#![cfg_attr(
    not(test),
    expect(
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        reason = "a header is written into a buffer that was made for it, and its options are 40 bytes at most"
    )
)]

use super::header::{
    CHECKSUM_OFFSET, FAST_OPEN_MAGIC, MAX_TCP_OPTIONS, TCP_HEADER_LEN, USUAL_TIMESTAMPS, kind, length,
};
use crate::wire::checksum::pseudo_header;
use crate::wire::header::HeaderBuf;
use crate::wire::ip::{IpMeta, emit_ip, ip_header_len};
use crate::wire::{
    AccEcn, ChecksumOffload, FastOpenCookie, FastOpenOption, Options, Segment, Timestamps, protocol,
};

/// Where the TCP checksum is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChecksumMode {
    /// Here, over header and payload.
    Full,
    /// In the device; the field holds the sum of the pseudo-header.
    Offload,
}

/// A segment to send, with all fields of its packet's headers.
#[derive(Clone, Copy, Debug)]
pub struct TcpDatagram<'a> {
    /// The IP header.
    pub ip: &'a IpMeta,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// The TCP header.
    pub segment: &'a Segment,
    /// The payload in pieces.
    pub payload: &'a [&'a [u8]],
}

/// Writes the IP and TCP headers of a segment. The result is for
/// [`TxPacket::checksum`](crate::device::TxPacket::checksum).
///
/// Options are laid out as Linux does. SACK blocks that do not fit are left out, the last first, and
/// so is Fast Open.
///
/// # Panics
/// If the addresses are of different families or the packet is longer than 64 KiB.
pub fn emit_tcp(
    buf: &mut HeaderBuf,
    datagram: &TcpDatagram<'_>,
    checksum: ChecksumMode,
) -> Option<ChecksumOffload> {
    let TcpDatagram { ip, src_port, dst_port, segment, payload } = *datagram;
    let payload_len = segment.payload_len;
    debug_assert_eq!(payload.iter().map(|piece| piece.len()).sum::<usize>(), payload_len);
    let ip_len = ip_header_len(&ip.dst);
    let plain = segment.options.has_only_timestamps();
    let tcp_len = TCP_HEADER_LEN
        + match segment.options.timestamps {
            _ if !plain => options_len(&segment.options),
            Some(_) => 12,
            None => 0,
        };
    let header = buf.reset(ip_len + tcp_len);
    let (ip_header, tcp_header) = header.split_at_mut(ip_len);
    emit_ip(ip_header, ip, protocol::TCP, tcp_len + payload_len);

    let (fixed, options) = tcp_header.split_first_chunk_mut::<TCP_HEADER_LEN>().expect("a whole header");
    let [a, b] = src_port.to_be_bytes();
    let [c, d] = dst_port.to_be_bytes();
    let [high, low] = segment.flags.bits().to_be_bytes();
    let [w, x] = segment.window.to_be_bytes();
    let [u, v] = segment.urgent.to_be_bytes();
    let (seq, ack) = (segment.seq.raw().to_be_bytes(), segment.ack.raw().to_be_bytes());
    // Words: a header is written for each packet.
    let words = [[a, b, c, d], seq, ack, [(tcp_len as u8) << 2 | high, low, w, x], [0, 0, u, v]];
    fixed.copy_from_slice(words.as_flattened());
    match (&segment.options.timestamps, options.first_chunk_mut()) {
        (Some(timestamps), Some(to)) if plain => emit_timestamps(to, timestamps),
        _ => emit_options(options, &segment.options),
    }

    let mut sum = pseudo_header(ip.src, ip.dst, protocol::TCP, tcp_len + payload_len);
    let (field, offload) = match checksum {
        ChecksumMode::Offload => {
            let offload = ChecksumOffload { start: ip_len as u16, offset: CHECKSUM_OFFSET as u16 };
            (sum.partial(), Some(offload))
        }
        ChecksumMode::Full => {
            sum.add(tcp_header);
            payload.iter().for_each(|piece| sum.add(piece));
            (sum.finish(), None)
        }
    };
    tcp_header[CHECKSUM_OFFSET..CHECKSUM_OFFSET + 2].copy_from_slice(&field.to_be_bytes());
    offload
}

/// Writes the option as it stands alone (RFC 7323 appendix A).
#[inline]
fn emit_timestamps(to: &mut [u8; 12], timestamps: &Timestamps) {
    let &Timestamps { tsval, tsecr } = timestamps;
    to[..4].copy_from_slice(&USUAL_TIMESTAMPS);
    to[4..8].copy_from_slice(&tsval.to_be_bytes());
    to[8..].copy_from_slice(&tsecr.to_be_bytes());
}

/// Bytes that the options take in a header, a multiple of four and at most 40.
pub fn options_len(options: &Options) -> usize {
    let front = front_options_len(options);
    // RFC 7413 §4.2.2: without room for it, an ordinary handshake.
    let fast_open = options.fast_open.as_ref().map_or(0, fast_open_len);
    if front + fast_open <= MAX_TCP_OPTIONS { front + fast_open } else { front }
}

/// Bytes of all options but Fast Open, which comes last.
fn front_options_len(options: &Options) -> usize {
    let fixed = fixed_options_len(options);
    match fitting_sack_blocks(options, fixed) {
        0 => fixed,
        blocks => fixed + 4 + blocks * length::SACK_BLOCK,
    }
}

/// Bytes of all options but SACK and Fast Open, in the layout of `emit_options`.
fn fixed_options_len(options: &Options) -> usize {
    let Options { mss, window_scale, sack_permitted, timestamps, sack: _, fast_open: _, acc_ecn } = options;
    let mss = if mss.is_some() { 4 } else { 0 };
    let window_scale = if window_scale.is_some() { 4 } else { 0 };
    // SACK-permitted takes the place of the two NOPs in front of the timestamps.
    let rest = match (timestamps, sack_permitted) {
        (Some(_), _) => 12,
        (None, true) => 4,
        (None, false) => 0,
    };
    mss + window_scale + rest + acc_ecn.as_ref().map_or(0, AccEcn::len_on_wire)
}

fn fitting_sack_blocks(options: &Options, fixed: usize) -> usize {
    options.sack.len().min((MAX_TCP_OPTIONS - fixed - 4) / length::SACK_BLOCK)
}

/// Bytes of the Fast Open option with its padding.
fn fast_open_len(option: &FastOpenOption) -> usize {
    let base = if option.experimental { length::EXPERIMENT } else { length::FAST_OPEN };
    (base + option.cookie.as_ref().map_or(0, |cookie| cookie.as_bytes().len())).next_multiple_of(4)
}

/// Writes the option and its padding over `to`, which is as long as both.
fn emit_fast_open(to: &mut [u8], option: &FastOpenOption) {
    to.fill(kind::NOP);
    let cookie = option.cookie.as_ref().map_or(&[][..], FastOpenCookie::as_bytes);
    let base = if option.experimental { length::EXPERIMENT } else { length::FAST_OPEN };
    to[0] = if option.experimental { kind::EXPERIMENT } else { kind::FAST_OPEN };
    to[1] = (base + cookie.len()) as u8;
    if option.experimental {
        to[2..4].copy_from_slice(&FAST_OPEN_MAGIC);
    }
    to[base..base + cookie.len()].copy_from_slice(cookie);
}

/// Writes the options in the order and with the padding of Linux, every option that holds 32-bit
/// values aligned to them. `to` is exactly as long as they are.
fn emit_options(to: &mut [u8], options: &Options) {
    let (to, behind) = to.split_at_mut(front_options_len(options));
    if let Some(option) = options.fast_open.as_ref().filter(|_| !behind.is_empty()) {
        emit_fast_open(behind, option);
    }
    let mut words = to.as_chunks_mut::<4>().0.iter_mut();
    let mut put = |word: [u8; 4]| *words.next().expect("options_len made room") = word;

    if let Some(mss) = options.mss {
        let [high, low] = mss.to_be_bytes();
        put([kind::MSS, length::MSS, high, low]);
    }
    if let Some(Timestamps { tsval, tsecr }) = options.timestamps {
        let [a, b] = if options.sack_permitted {
            [kind::SACK_PERMITTED, length::SACK_PERMITTED]
        } else {
            [kind::NOP, kind::NOP]
        };
        put([a, b, kind::TIMESTAMPS, length::TIMESTAMPS]);
        put(tsval.to_be_bytes());
        put(tsecr.to_be_bytes());
    }
    if let Some(option) = &options.acc_ecn {
        let AccEcn { ect1_first, fields } = option;
        let mut bytes = [kind::NOP; 12];
        bytes[0] = if *ect1_first { kind::ACC_ECN_1 } else { kind::ACC_ECN_0 };
        bytes[1] = (length::ACC_ECN + length::ACC_ECN_FIELD * fields.len()) as u8;
        for (to, field) in bytes[2..].chunks_mut(length::ACC_ECN_FIELD).zip(fields) {
            to.copy_from_slice(&field.to_be_bytes()[1..]);
        }
        bytes[..option.len_on_wire()].as_chunks::<4>().0.iter().for_each(|word| put(*word));
    }
    if options.sack_permitted && options.timestamps.is_none() {
        put([kind::NOP, kind::NOP, kind::SACK_PERMITTED, length::SACK_PERMITTED]);
    }
    if let Some(shift) = options.window_scale {
        put([kind::NOP, kind::WINDOW_SCALE, length::WINDOW_SCALE, shift]);
    }
    let blocks = fitting_sack_blocks(options, fixed_options_len(options));
    if blocks > 0 {
        let option_len = length::SACK + blocks * length::SACK_BLOCK;
        put([kind::NOP, kind::NOP, kind::SACK, option_len as u8]);
        for block in &options.sack[..blocks] {
            put(block.start.raw().to_be_bytes());
            put(block.end.raw().to_be_bytes());
        }
    }
}
