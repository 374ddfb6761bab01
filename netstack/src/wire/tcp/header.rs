//! TCP headers.

use crate::wire::checksum::{pseudo_header, transport_checksum_ok};
use crate::wire::header::HeaderBuf;
use crate::wire::ip::{IpMeta, emit_ip, ip_header_len};
use crate::wire::{
    AccEcn, ChecksumOffload, FastOpenCookie, FastOpenOption, Flags, MAX_SACK_BLOCKS, Options, SackBlock,
    Segment, SeqNum, Timestamps, protocol,
};
use smoltcp::wire::{TcpPacket, TcpSeqNumber};
use std::fmt;
use std::net::IpAddr;

/// Bytes of a TCP header without options.
pub const TCP_HEADER_LEN: usize = 20;
/// Bytes of options that a TCP header has room for.
pub const MAX_TCP_OPTIONS: usize = 40;
/// Where in the TCP header the checksum is.
pub(in crate::wire) const CHECKSUM_OFFSET: usize = 16;

/// Option kinds (RFC 9293 §3.1, RFC 2018, RFC 7323).
mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const SACK: u8 = 5;
    pub(super) const TIMESTAMPS: u8 = 8;
    /// RFC 7413 §4.1.1.
    pub(super) const FAST_OPEN: u8 = 34;
    /// Shared by experiments, which a magic number tells apart (RFC 6994).
    pub(super) const EXPERIMENT: u8 = 254;
    /// ECT(0) first (RFC 9768 §3.2.3).
    pub(super) const ACC_ECN_0: u8 = 172;
    /// ECT(1) first.
    pub(super) const ACC_ECN_1: u8 = 174;
}

/// The experiment that became Fast Open.
const FAST_OPEN_MAGIC: [u8; 2] = [0xf9, 0x89];

/// Option lengths that go with them.
mod length {
    pub(super) const MSS: u8 = 4;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 2;
    /// Without its blocks.
    pub(super) const SACK: usize = 2;
    pub(super) const SACK_BLOCK: usize = 8;
    pub(super) const TIMESTAMPS: u8 = 10;
    /// Without its cookie.
    pub(super) const FAST_OPEN: usize = 2;
    /// Without its cookie, with the magic number.
    pub(super) const EXPERIMENT: usize = 4;
    /// Without its counters.
    pub(super) const ACC_ECN: usize = 2;
    pub(super) const ACC_ECN_FIELD: usize = 3;
}

/// Why bytes are not a TCP segment. Such packets are dropped silently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TcpHeaderError {
    /// Fewer than 20 bytes.
    Truncated,
    /// A data offset under 5 or past the end.
    DataOffset,
}

impl fmt::Display for TcpHeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "segment shorter than a TCP header",
            Self::DataOffset => "bad TCP data offset",
        })
    }
}

impl std::error::Error for TcpHeaderError {}

/// The source and destination ports at the front of a TCP or UDP header, also of one that an ICMP
/// error quotes in part; none if there are fewer than four bytes.
pub fn parse_ports(bytes: &[u8]) -> Option<(u16, u16)> {
    let &[a, b, c, d] = bytes.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// Whether the checksum of a TCP segment, header and payload, is correct.
#[inline]
pub fn tcp_checksum_ok(src: IpAddr, dst: IpAddr, bytes: &[u8]) -> bool {
    transport_checksum_ok(src, dst, protocol::TCP, bytes)
}

/// Reads a TCP header and returns it with the offset of the payload. The checksum is not verified.
///
/// # Errors
/// If the header is incomplete. Invalid options are not an error: the options before them are used.
pub fn parse_tcp(bytes: &[u8]) -> Result<(Segment, usize), TcpHeaderError> {
    if bytes.len() < TCP_HEADER_LEN {
        return Err(TcpHeaderError::Truncated);
    }
    let tcp = TcpPacket::new_unchecked(bytes);
    let data = usize::from(tcp.header_len());
    if data < TCP_HEADER_LEN || data > bytes.len() {
        return Err(TcpHeaderError::DataOffset);
    }
    let flags = Flags::from_bits(u16::from_be_bytes([bytes[12], bytes[13]]));
    let segment = Segment {
        seq: SeqNum::new(tcp.seq_number().0 as u32),
        ack: SeqNum::new(tcp.ack_number().0 as u32),
        flags,
        window: tcp.window_len(),
        urgent: tcp.urgent_at(),
        options: parse_options(&bytes[TCP_HEADER_LEN..data], flags),
        ecn: crate::wire::Ecn::NotEct,
        payload_len: bytes.len() - data,
        gso_size: None,
    };
    Ok((segment, data))
}

fn parse_options(bytes: &[u8], flags: Flags) -> Options {
    let mut options = Options::default();
    // RFC 7323 appendix A: what nearly every segment carries.
    if let [kind::NOP, kind::NOP, kind::TIMESTAMPS, length::TIMESTAMPS, body @ ..] = bytes
        && body.len() == 8
    {
        options.timestamps = parse_timestamps(body);
        return options;
    }
    let mut rest = bytes;
    while let Some((&kind, after)) = rest.split_first() {
        // RFC 9293 §3.2, MUST-68: all options but these two have a length.
        match kind {
            kind::END => break,
            kind::NOP => {
                rest = after;
                continue;
            }
            _ => {}
        }
        // MUST-7: a length that cannot be. Linux forgets the options from there on.
        let Some(&option_len) = after.first() else { break };
        if option_len < 2 || usize::from(option_len) > rest.len() {
            break;
        }
        let (option, next) = rest.split_at(usize::from(option_len));
        apply_option(&mut options, flags, kind, &option[2..]);
        rest = next;
    }
    options
}

/// Takes one option into account. MUST-6: one that is unknown, has a length that is not its own, or
/// is out of place counts as not there; of two of a kind the last counts (as in Linux).
fn apply_option(options: &mut Options, flags: Flags, kind: u8, body: &[u8]) {
    let syn = flags.contains(Flags::SYN);
    match (kind, body) {
        // Linux takes a size of zero for no option.
        (kind::MSS, &[high, low]) if syn && (high, low) != (0, 0) => {
            options.mss = Some(u16::from_be_bytes([high, low]));
        }
        // RFC 7323 §2.2: in a segment without SYN it MUST be ignored.
        (kind::WINDOW_SCALE, &[shift]) if syn => options.window_scale = Some(shift),
        (kind::SACK_PERMITTED, []) if syn => options.sack_permitted = true,
        (kind::TIMESTAMPS, body) if body.len() == 8 => options.timestamps = parse_timestamps(body),
        (kind::SACK, body) if !body.is_empty() => {
            if let (blocks, []) = body.as_chunks::<{ length::SACK_BLOCK }>() {
                options.sack = blocks
                    .iter()
                    .take(MAX_SACK_BLOCKS)
                    .map(|&[a, b, c, d, e, f, g, h]| SackBlock {
                        start: SeqNum::new(u32::from_be_bytes([a, b, c, d])),
                        end: SeqNum::new(u32::from_be_bytes([e, f, g, h])),
                    })
                    .collect();
            }
        }
        (kind::FAST_OPEN, cookie) if syn => options.fast_open = parse_fast_open(cookie, false),
        (kind::EXPERIMENT, body) if syn => {
            if let Some(cookie) = body.strip_prefix(&FAST_OPEN_MAGIC) {
                options.fast_open = parse_fast_open(cookie, true);
            }
        }
        // RFC 9768 §3.2.3: of another length than its own, the whole fields count and the rest is padding.
        (kind::ACC_ECN_0 | kind::ACC_ECN_1, body) => {
            let (fields, _padding) = body.as_chunks::<{ length::ACC_ECN_FIELD }>();
            let fields = fields.iter().take(3).map(|&[a, b, c]| u32::from_be_bytes([0, a, b, c])).collect();
            options.acc_ecn = Some(AccEcn { ect1_first: kind == kind::ACC_ECN_1, fields });
        }
        _ => {}
    }
}

/// RFC 7413 §4.1.1: without a cookie it asks for one; with a length that no cookie has it counts as
/// not there.
fn parse_fast_open(cookie: &[u8], experimental: bool) -> Option<FastOpenOption> {
    if cookie.is_empty() {
        return Some(FastOpenOption { cookie: None, experimental });
    }
    FastOpenCookie::new(cookie).map(|cookie| FastOpenOption { cookie: Some(cookie), experimental })
}

fn parse_timestamps(body: &[u8]) -> Option<Timestamps> {
    let &[a, b, c, d, e, f, g, h] = body.first_chunk()?;
    Some(Timestamps { tsval: u32::from_be_bytes([a, b, c, d]), tsecr: u32::from_be_bytes([e, f, g, h]) })
}

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
    let payload_len: usize = payload.iter().map(|piece| piece.len()).sum();
    debug_assert_eq!(payload_len, segment.payload_len, "payload and segment differ");
    let ip_len = ip_header_len(&ip.dst);
    let tcp_len = TCP_HEADER_LEN + options_len(&segment.options);
    let header = buf.reset(ip_len + tcp_len);
    let (ip_header, tcp_header) = header.split_at_mut(ip_len);
    emit_ip(ip_header, ip, protocol::TCP, tcp_len + payload_len);

    let mut tcp = TcpPacket::new_unchecked(&mut *tcp_header);
    tcp.set_src_port(src_port);
    tcp.set_dst_port(dst_port);
    tcp.set_seq_number(TcpSeqNumber(segment.seq.raw() as i32));
    tcp.set_ack_number(TcpSeqNumber(segment.ack.raw() as i32));
    tcp.set_header_len(tcp_len as u8);
    tcp.set_window_len(segment.window);
    tcp.set_urgent_at(segment.urgent);
    let [high, low] = segment.flags.bits().to_be_bytes();
    tcp_header[12] |= high;
    tcp_header[13] = low;
    emit_options(&mut tcp_header[TCP_HEADER_LEN..], &segment.options);

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
