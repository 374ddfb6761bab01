//! The header that a TUN device puts before a packet, and what a stack does with what it says.

use crate::packets::{self, Ends};
use crate::world::{Card, Host, START, address};
use arbitrary::{Result, Unstructured};
use netstack::Config;
use netstack::device::TxPacket;
use netstack::wire::{ChecksumOffload, Flags, Gso, Segment, SeqNum};
use netstack_tun::fuzzing::{HEADER_LEN, decode, encode};

/// A header and a packet for it, in both directions.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    // Input that is too short is no case.
    let _ = case(&mut u);
}

fn case(u: &mut Unstructured<'_>) -> Result<()> {
    let header: [u8; HEADER_LEN] = u.arbitrary()?;
    there_and_back(u)?;
    let mut host = Host::new(0, Card { mtu: 1500, offloads: true }, Config::default());
    let listener = host.listen(START, 80, 4);
    // Segments of a handshake, with data, so that there is something to divide.
    let ends = Ends { src: (address(1, false), 4000), dst: (address(0, false), 80) };
    let (mut seq, mut ack) = (SeqNum::new(u.arbitrary()?), SeqNum::new(0));
    let mut flags = Flags::SYN;
    while !u.is_empty() {
        let len = u.arbitrary::<u8>()?.into();
        let payload = u.bytes(len).unwrap_or_default();
        let payload = if flags == Flags::SYN { &[] } else { payload };
        let segment = Segment { window: 5_000, payload_len: payload.len(), ..Segment::new(flags, seq, ack) };
        let packet = packets::tcp(ends, &segment, payload);
        // Now and then the device claims more than there is.
        let claimed = if u.ratio(1, 16)? { u.arbitrary::<u32>()? as usize } else { packet.len() };
        let meta = decode(&header, claimed);
        assert_eq!(meta.len, claimed);
        assert!(meta.gso_size != Some(0));
        host.receive(START, &packet, meta);
        host.end_batch(START);
        seq = seq + segment.len() as u32;
        for sent in host.take_sent() {
            if let Some(sent) = sent.segment() {
                ack = sent.segment.seq + sent.segment.len() as u32;
                seq = if sent.segment.is_ack() { sent.segment.ack } else { seq };
            }
        }
        flags = Flags::ACK;
    }
    while let Some(cell) = host.accept(START, &listener) {
        let _ = host.read(START, &cell, 4_000);
        host.engine().with_tcp(START, |tcp, turn| tcp.abort(turn, &cell));
    }
    Ok(())
}

/// What one stack says of a packet is what another one hears.
fn there_and_back(u: &mut Unstructured<'_>) -> Result<()> {
    let checksum: Option<(u16, u16)> = u.arbitrary()?;
    let gso: Option<(u16, u16)> = u.arbitrary()?;
    let header: [u8; 40] = u.arbitrary()?;
    let packet = TxPacket {
        header: &header[..u.int_in_range(0..=40)?],
        checksum: checksum.map(|(start, offset)| ChecksumOffload { start, offset }),
        gso: gso.map(|(size, header_len)| Gso { size, header_len }),
        ..TxPacket::default()
    };
    let version = packet.header.first().map(|byte| byte >> 4);
    match encode(&packet) {
        Ok(encoded) => {
            let meta = decode(&encoded, 99);
            assert_eq!((meta.len, meta.checksum_verified), (99, packet.checksum.is_some()));
            assert_eq!(meta.gso_size, packet.gso.map(|gso| gso.size).filter(|size| *size > 0));
        }
        Err(_) => {
            assert!(packet.gso.is_some());
            assert!(packet.checksum.is_none() || !matches!(version, Some(4 | 6)));
        }
    }
    Ok(())
}
