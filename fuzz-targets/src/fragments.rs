//! Fragments in any order, overlapping or not, against a naive model of reassembly.

use crate::world::{START, address, span};
use arbitrary::{Result, Unstructured};
use netstack::buffer::Pool;
use netstack::ip::{Reassembly, ReassemblyConfig};
use netstack::reasons::DropReason;
use netstack::time::{Duration, Instant};
use netstack::wire::{Fragment, IpError, IpHeader, IpMeta, emit_ip, ip_header_len, parse_ip, protocol};
use std::net::IpAddr;

/// Fragments of a few datagrams, with time between them.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    // Input that is too short is no case.
    let _ = case(&mut u);
}

fn case(u: &mut Unstructured<'_>) -> Result<()> {
    let small = ReassemblyConfig { memory: 4_000, ..ReassemblyConfig::default() };
    let pool = Pool::new();
    let mut store = Reassembly::new(ReassemblyConfig::default(), &pool);
    let mut tight = Reassembly::new(small, &pool);
    let mut model = Model::default();
    let mut now = START;
    while !u.is_empty() {
        if u.ratio(1, 16)? {
            now += span(u.arbitrary()?);
        }
        let packet = packet(u)?;
        let Ok(header) = parse_ip(&packet) else { continue };
        if header.fragment.is_none() {
            continue;
        }
        let expected = model.insert(now, &header, &packet);
        let inserted = store.insert(now, &header, &packet);
        assert_eq!(inserted.evicted, 0, "there is memory for all of these");
        let outcome = inserted.outcome.map(|whole| whole.map(|whole| whole.bytes().to_vec()));
        match (outcome, expected) {
            (Ok(Some(whole)), Ok(Some(payload))) => {
                // What was divided may begin with an extension header, and a broken one.
                match parse_ip(&whole) {
                    Ok(whole) => {
                        assert!(whole.fragment.is_none());
                        assert_eq!((whole.src, whole.dst), (header.src, header.dst));
                    }
                    Err(error) => {
                        assert!(header.src.is_ipv6() && error == IpError::ExtensionHeader, "{error}")
                    }
                }
                assert_eq!(whole.len() - ip_header_len(&header.dst), payload.len());
                assert_eq!(whole[ip_header_len(&header.dst)..], payload);
            }
            (outcome, expected) => assert_eq!(outcome, expected),
        }
        assert_eq!(store.next_deadline(), model.datagrams.iter().map(|datagram| datagram.deadline).min());
        // Where memory is short it is kept within its bounds, whatever is lost by that.
        let _ = tight.insert(now, &header, &packet);
        assert!(tight.memory() <= small.memory);
        assert!(tight.next_deadline().is_none_or(|at| at > now));
    }
    for store in [&mut store, &mut tight] {
        store.expire(now + Duration::from_secs(60));
        assert_eq!((store.memory(), store.next_deadline()), (0, None));
    }
    Ok(())
}

/// A fragment of one of a few datagrams: as a packet, so that its header is read as any other.
fn packet(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let [what, id, at]: [u8; 3] = u.arbitrary()?;
    let (v6, more) = (what & 1 != 0, what & 2 != 0);
    let transport = [protocol::UDP, protocol::TCP, protocol::ICMP, 60][usize::from(what >> 2 & 3)];
    let ecn = what >> 4 & 3;
    let offset = if what & 0x80 == 0 { u16::from(at % 32) } else { u.int_in_range(0..=0x1fff)? };
    let len = match id >> 4 {
        n @ 0..=9 => 8 * usize::from(n),
        10 => 1480,
        11 => 65_000,
        n => usize::from(n),
    };
    // Most of what is sent is what the datagram holds there, so that datagrams become whole.
    let fill = if what & 0x40 == 0 { 0 } else { u.arbitrary::<u8>()? };
    let payload: Vec<u8> = (0..len).map(|i| (8 * usize::from(offset) + i) as u8 ^ (id & 3) ^ fill).collect();
    let (src, dst) = (address(1, v6), address(0, v6));
    let meta = IpMeta {
        traffic_class: ecn,
        dont_fragment: false,
        ident: u16::from(id & 3),
        ..IpMeta::new(src, dst, 64)
    };
    let mut packet = vec![0; ip_header_len(&dst)];
    if v6 {
        let field = offset << 3 | u16::from(more);
        let [high, low] = field.to_be_bytes();
        // The second byte is reserved: it is ignored.
        let extension = [transport, what, high, low, 0, 0, 0, id & 3];
        emit_ip(&mut packet, &meta, 44, extension.len() + len);
        packet.extend_from_slice(&extension);
    } else {
        emit_ip(&mut packet, &meta, transport, len);
        let field = u16::from(more) << 13 | offset;
        packet[6..8].copy_from_slice(&field.to_be_bytes());
        crate::packets::mend_ip_header(&mut packet);
    }
    packet.extend_from_slice(&payload);
    if !v6 {
        crate::packets::mend_ip_header(&mut packet);
    }
    Ok(packet)
}

/// Reassembly as the RFCs have it, with lists.
#[derive(Default)]
struct Model {
    datagrams: Vec<Datagram>,
}

struct Datagram {
    key: (IpAddr, IpAddr, u32, Option<u8>),
    deadline: Instant,
    /// Offset, bytes, whether more follow, ECN field.
    pieces: Vec<(usize, Vec<u8>, bool, u8)>,
    poisoned: bool,
}

impl Model {
    /// The payload of the datagram that is whole now, if it is, or why the fragment is dropped.
    fn insert(
        &mut self,
        now: Instant,
        header: &IpHeader,
        packet: &[u8],
    ) -> std::result::Result<Option<Vec<u8>>, DropReason> {
        self.datagrams.retain(|datagram| datagram.deadline > now);
        let Fragment { id, offset, more } = header.fragment.expect("only fragments are inserted");
        let bytes = packet[header.payload.clone()].to_vec();
        let (start, end) = (usize::from(offset), usize::from(offset) + bytes.len());
        // The length field of IPv6 does not count the header.
        let longest = if header.src.is_ipv4() { 65_535 - 20 } else { 65_535 };
        if bytes.is_empty()
            || end > longest
            || (more && !bytes.len().is_multiple_of(8))
            || (header.protocol == protocol::TCP && start == 0 && bytes.len() < 20)
        {
            return Err(DropReason::FragInvalid);
        }
        let v4 = header.src.is_ipv4();
        let key = (header.src, header.dst, id, v4.then_some(header.protocol));
        let at = self.datagrams.iter().position(|datagram| datagram.key == key).unwrap_or_else(|| {
            let deadline = now + Duration::from_secs(if v4 { 30 } else { 60 });
            self.datagrams.push(Datagram { key, deadline, pieces: Vec::new(), poisoned: false });
            self.datagrams.len() - 1
        });
        let datagram = &mut self.datagrams[at];
        if datagram.poisoned {
            return Err(DropReason::FragOverlap);
        }
        let overlapping: Vec<_> =
            datagram.pieces.iter().filter(|(at, piece, ..)| *at < end && at + piece.len() > start).collect();
        if let [(at, piece, ..)] = overlapping[..]
            && (*at, piece) == (start, &bytes)
        {
            return Err(DropReason::DupFrag);
        }
        let ends =
            datagram.pieces.iter().filter(|(.., more, _)| !more).map(|(at, piece, ..)| at + piece.len());
        let known_end = ends.max();
        let furthest = datagram.pieces.iter().map(|(at, piece, ..)| at + piece.len()).max();
        let impossible = if more {
            known_end.is_some_and(|known| end > known)
        } else {
            known_end.is_some() || furthest.is_some_and(|furthest| furthest > end)
        };
        if !overlapping.is_empty() || impossible {
            datagram.poisoned = true;
            datagram.pieces.clear();
            return Err(DropReason::FragOverlap);
        }
        datagram.pieces.push((start, bytes, more, header.ecn()));
        datagram.pieces.sort();
        let mut payload = Vec::new();
        for (at, piece, ..) in &datagram.pieces {
            if *at != payload.len() {
                return Ok(None);
            }
            payload.extend_from_slice(piece);
        }
        if datagram.pieces.iter().all(|(.., more, _)| *more) {
            return Ok(None);
        }
        let datagram = self.datagrams.remove(at);
        let seen = |ecn: u8| datagram.pieces.iter().any(|piece| piece.3 == ecn);
        if seen(3) && seen(0) { Err(DropReason::FragInvalid) } else { Ok(Some(payload)) }
    }
}
