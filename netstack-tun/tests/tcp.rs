//! Super-segments: the kernel's TCP against a minimal hand-written TCP, at MTU 1500.

mod common;

use common::{ACK, FIN, PSH, Packet, SYN, Segment, TCP, Work, receive, send};
use netstack_tun::netns::isolated;
use netstack_tun::{Tun, TunConfig};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// What the peer sends and receives as one segment.
const SUPER_SEGMENT: usize = 60_000;
const MSS: u16 = 1400;
const WINDOW_SCALE: u8 = 7;
const PORT: u16 = 4321;

/// A minimal TCP: one connection, without reordering and loss.
struct Peer<'a> {
    tun: &'a Tun,
    here: (IpAddr, u16),
    there: (IpAddr, u16),
    nxt: u32,
    rcv_nxt: u32,
}

impl Peer<'_> {
    fn send(&mut self, flags: u8, payload: &[u8], work: Work) {
        let mut header = Vec::new();
        header.extend(self.here.1.to_be_bytes());
        header.extend(self.there.1.to_be_bytes());
        header.extend(self.nxt.to_be_bytes());
        header.extend(self.rcv_nxt.to_be_bytes());
        let syn = flags & SYN != 0;
        let words = if syn { 7 } else { 5 };
        header.extend([words << 4, flags]);
        // Window, checksum, urgent pointer.
        header.extend([0xff, 0xff, 0, 0, 0, 0]);
        if syn {
            let [m0, m1] = MSS.to_be_bytes();
            header.extend([2, 4, m0, m1, 1, 3, 3, WINDOW_SCALE]);
        }
        let packet = Packet {
            protocol: TCP,
            from: self.here.0,
            to: self.there.0,
            transport: &header,
            checksum_at: 16,
            payload,
        };
        send(self.tun, 0, &packet, work).unwrap();
        let controls = u32::from(syn) + u32::from(flags & FIN != 0);
        self.nxt = self.nxt.wrapping_add(payload.len() as u32 + controls);
    }

    /// The next segment of the connection, with the size of its segments if it is a super-segment.
    fn receive(&self) -> (Segment, Option<u16>) {
        let packet = receive(self.tun, 0, |packet| packet.ip() == (TCP, self.there.0, self.here.0));
        assert!(packet.meta.checksum_verified);
        (packet.tcp(), packet.meta.gso_size)
    }

    /// Waits until all that was sent is acknowledged.
    fn acknowledged(&self) {
        while self.receive().0.ack != self.nxt {}
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i.wrapping_mul(31) >> 3) as u8).collect()
}

fn families() -> [(IpAddr, IpAddr); 2] {
    [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")]
        .map(|(kernel, stack)| (kernel.parse().unwrap(), stack.parse().unwrap()))
}

fn open() -> Tun {
    Tun::open(&TunConfig::new("tun0").address("10.9.0.1/24").unwrap().address("fd09::1/64").unwrap()).unwrap()
}

#[test]
fn a_super_segment_sent_arrives_byte_for_byte() {
    isolated("a_super_segment_sent_arrives_byte_for_byte", || {
        let tun = open();
        for (kernel, stack) in families() {
            let listener = TcpListener::bind((kernel, 0)).unwrap();
            let there = (kernel, listener.local_addr().unwrap().port());
            let reader = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).unwrap();
                bytes
            });
            let mut peer = Peer { tun: &tun, here: (stack, PORT), there, nxt: 1_000, rcv_nxt: 0 };
            peer.send(SYN, &[], Work::Checksum);
            let (syn_ack, _) = peer.receive();
            assert_eq!((syn_ack.flags, syn_ack.ack), (SYN | ACK, peer.nxt));
            peer.rcv_nxt = syn_ack.seq.wrapping_add(1);
            peer.send(ACK, &[], Work::Checksum);
            let data = pattern(SUPER_SEGMENT);
            peer.send(ACK | PSH, &data, Work::Gso(MSS));
            peer.acknowledged();
            peer.send(ACK | FIN, &[], Work::Done);
            assert!(reader.join().unwrap() == data);
        }
        assert_eq!(tun.refused(), 0);
    });
}

#[test]
fn the_kernel_sends_super_segments() {
    isolated("the_kernel_sends_super_segments", || {
        let tun = open();
        for (kernel, stack) in families() {
            let data = pattern(40 * SUPER_SEGMENT);
            let expected = data.clone();
            let writer = thread::spawn(move || {
                let mut stream = TcpStream::connect((stack, PORT)).unwrap();
                stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
                stream.write_all(&data).unwrap();
            });
            let syn = receive(&tun, 0, |packet| packet.ip() == (TCP, kernel, stack)).tcp();
            let mut peer = Peer {
                tun: &tun,
                here: (stack, PORT),
                there: (kernel, syn.source),
                nxt: 1_000,
                rcv_nxt: syn.seq.wrapping_add(1),
            };
            peer.send(SYN | ACK, &[], Work::Checksum);
            let mut got = Vec::new();
            let mut largest = 0;
            loop {
                let (segment, gso_size) = peer.receive();
                if segment.payload.len() > usize::from(MSS) {
                    assert_eq!(gso_size, Some(MSS));
                } else {
                    assert_eq!(gso_size, None);
                }
                if segment.seq != peer.rcv_nxt {
                    continue;
                }
                largest = largest.max(segment.payload.len());
                got.extend_from_slice(&segment.payload);
                let fin = segment.flags & FIN != 0;
                peer.rcv_nxt = peer.rcv_nxt.wrapping_add(segment.payload.len() as u32 + u32::from(fin));
                peer.send(ACK, &[], Work::Checksum);
                if fin {
                    break;
                }
            }
            writer.join().unwrap();
            assert!(got == expected);
            assert!(largest > 10 * usize::from(MSS), "the largest segment had {largest} bytes");
        }
    });
}

#[test]
fn without_offloads_the_kernel_cuts_and_sums() {
    isolated("without_offloads_the_kernel_cuts_and_sums", || {
        // The interface keeps the offloads of its last user.
        common::persist(&open());
        let tun = Tun::open(&TunConfig::new("tun0").offload(false)).unwrap();
        assert!(!tun.created());
        let (kernel, stack) = families()[0];
        let writer = thread::spawn(move || {
            let mut stream = TcpStream::connect((stack, PORT)).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
            stream.write_all(&pattern(SUPER_SEGMENT)).unwrap();
        });
        let of_flow = |packet: &common::Received| packet.ip() == (TCP, kernel, stack);
        let syn = receive(&tun, 0, of_flow).tcp();
        let there = (kernel, syn.source);
        let mut peer =
            Peer { tun: &tun, here: (stack, PORT), there, nxt: 1_000, rcv_nxt: syn.seq.wrapping_add(1) };
        peer.send(SYN | ACK, &[], Work::Done);
        let mut got = Vec::new();
        while got.len() < SUPER_SEGMENT {
            let packet = receive(&tun, 0, of_flow);
            assert!(!packet.meta.checksum_verified && packet.meta.gso_size.is_none());
            assert!(packet.meta.len <= tun.mtu());
            let segment = packet.tcp();
            if segment.seq == peer.rcv_nxt {
                got.extend_from_slice(&segment.payload);
                peer.rcv_nxt = peer.rcv_nxt.wrapping_add(segment.payload.len() as u32);
                peer.send(ACK, &[], Work::Done);
            }
        }
        writer.join().unwrap();
        assert!(got == pattern(SUPER_SEGMENT));
    });
}
