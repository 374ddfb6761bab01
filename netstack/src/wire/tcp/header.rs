//! TCP headers, read.

use crate::wire::checksum::transport_checksum_ok;
use crate::wire::{
    AccEcn, FastOpenCookie, FastOpenOption, Flags, MAX_SACK_BLOCKS, Options, SackBlock, Segment, SeqNum,
    Timestamps, protocol,
};
use smoltcp::wire::TcpPacket;
use std::fmt;
use std::net::IpAddr;

/// Bytes of a TCP header without options.
pub const TCP_HEADER_LEN: usize = 20;
/// Bytes of options that a TCP header has room for.
pub const MAX_TCP_OPTIONS: usize = 40;
/// Where in the TCP header the checksum is.
pub(in crate::wire) const CHECKSUM_OFFSET: usize = 16;

/// Option kinds (RFC 9293 §3.1, RFC 2018, RFC 7323).
pub(super) mod kind {
    pub(in crate::wire::tcp) const END: u8 = 0;
    pub(in crate::wire::tcp) const NOP: u8 = 1;
    pub(in crate::wire::tcp) const MSS: u8 = 2;
    pub(in crate::wire::tcp) const WINDOW_SCALE: u8 = 3;
    pub(in crate::wire::tcp) const SACK_PERMITTED: u8 = 4;
    pub(in crate::wire::tcp) const SACK: u8 = 5;
    pub(in crate::wire::tcp) const TIMESTAMPS: u8 = 8;
    /// RFC 7413 §4.1.1.
    pub(in crate::wire::tcp) const FAST_OPEN: u8 = 34;
    /// Shared by experiments, which a magic number tells apart (RFC 6994).
    pub(in crate::wire::tcp) const EXPERIMENT: u8 = 254;
    /// ECT(0) first (RFC 9768 §3.2.3).
    pub(in crate::wire::tcp) const ACC_ECN_0: u8 = 172;
    /// ECT(1) first.
    pub(in crate::wire::tcp) const ACC_ECN_1: u8 = 174;
}

/// The experiment that became Fast Open.
pub(super) const FAST_OPEN_MAGIC: [u8; 2] = [0xf9, 0x89];

/// Option lengths that go with them.
pub(super) mod length {
    pub(in crate::wire::tcp) const MSS: u8 = 4;
    pub(in crate::wire::tcp) const WINDOW_SCALE: u8 = 3;
    pub(in crate::wire::tcp) const SACK_PERMITTED: u8 = 2;
    /// Without its blocks.
    pub(in crate::wire::tcp) const SACK: usize = 2;
    pub(in crate::wire::tcp) const SACK_BLOCK: usize = 8;
    pub(in crate::wire::tcp) const TIMESTAMPS: u8 = 10;
    /// Without its cookie.
    pub(in crate::wire::tcp) const FAST_OPEN: usize = 2;
    /// Without its cookie, with the magic number.
    pub(in crate::wire::tcp) const EXPERIMENT: usize = 4;
    /// Without its counters.
    pub(in crate::wire::tcp) const ACC_ECN: usize = 2;
    pub(in crate::wire::tcp) const ACC_ECN_FIELD: usize = 3;
}

/// What is in front of the values of the timestamps where they stand alone (RFC 7323 appendix A).
pub(super) const USUAL_TIMESTAMPS: [u8; 4] = [kind::NOP, kind::NOP, kind::TIMESTAMPS, length::TIMESTAMPS];

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
    let fixed: &[u8; TCP_HEADER_LEN] = bytes.first_chunk().ok_or(TcpHeaderError::Truncated)?;
    // The accessors check the length that they are given: here that of an array.
    let tcp = TcpPacket::new_unchecked(fixed);
    let data = usize::from(tcp.header_len());
    let (Some(options), Some(payload)) = (bytes.get(TCP_HEADER_LEN..data), bytes.get(data..)) else {
        return Err(TcpHeaderError::DataOffset);
    };
    let flags = Flags::from_bits(u16::from_be_bytes([fixed[12], fixed[13]]));
    let segment = |options| Segment {
        seq: SeqNum::new(tcp.seq_number().0 as u32),
        ack: SeqNum::new(tcp.ack_number().0 as u32),
        flags,
        window: tcp.window_len(),
        urgent: tcp.urgent_at(),
        options,
        ecn: crate::wire::Ecn::NotEct,
        payload_len: payload.len(),
        gso_size: None,
    };
    // RFC 7323 appendix A: what nearly every segment carries. Made where it is returned: a segment is too large to
    // be moved for nothing.
    if let [kind::NOP, kind::NOP, kind::TIMESTAMPS, length::TIMESTAMPS, body @ ..] = options
        && body.len() == 8
    {
        return Ok((segment(Options { timestamps: parse_timestamps(body), ..Options::default() }), data));
    }
    Ok((segment(parse_options(options, flags)), data))
}

fn parse_options(bytes: &[u8], flags: Flags) -> Options {
    let mut options = Options::default();
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
        let Some((option, next)) = rest.split_at_checked(usize::from(option_len)) else { break };
        let Some(body) = option.get(2..) else { break };
        apply_option(&mut options, flags, kind, body);
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
