//! Segments that are out of place, for an established connection.

use crate::lab::{Lab, Numbers, Peer, SECOND};
use netstack::tcp::State;
use netstack::time::Duration;
use netstack::wire::{Flags, Options, SackBlock, Segment, SeqNum, Timestamps};
use std::net::Ipv4Addr;
use std::sync::Arc;

type Connected = (Lab, Arc<netstack::stack::Listener>, Peer, Arc<netstack::stack::Cell>);

fn connected(offer: Options) -> Connected {
    let mut lab = Lab::new(|_| ());
    let listener = lab.listen(80, 64);
    let (peer, cell) = Peer::hostile(80).offering(offer).established(&mut lab, &listener);
    (lab, listener, peer, cell)
}

fn plain() -> Options {
    Options { mss: Some(1460), ..Options::default() }
}

fn with_sack(mss: u16) -> Options {
    Options { mss: Some(mss), sack_permitted: true, window_scale: Some(7), ..Options::default() }
}

fn stamped(tsval: u32) -> Options {
    Options { timestamps: Some(Timestamps { tsval, tsecr: 0 }), ..with_sack(1460) }
}

#[test]
fn r03_resets_and_syns_in_the_window_are_challenged_on_each_connection() {
    let (mut lab, listener, mut peer, cell) = connected(plain());
    let other = Peer::new((Ipv4Addr::new(10, 67, 0, 1), 7777), 80, SeqNum::new(1));
    let (mut other, other_cell) = other.established(&mut lab, &listener);
    let challenge = |answers: &[Segment], ack| {
        assert_eq!(answers.len(), 1);
        assert!(answers[0].flags == Flags::ACK && answers[0].ack == ack, "{answers:?}");
    };
    // Guard removed: without RFC 5961 the first of these ends the connection.
    challenge(&peer.probe(&mut lab, Flags::RST, |segment| segment.seq = segment.seq + 100), peer.snd_nxt);
    // Within the interval nothing more; and the other connection has an answer of its own (CVE-2016-5696).
    for _ in 0..50 {
        assert!(peer.probe(&mut lab, Flags::SYN, |_| ()).is_empty());
    }
    challenge(&other.probe(&mut lab, Flags::SYN, |_| ()), other.snd_nxt);
    lab.pass(SECOND);
    challenge(&peer.probe(&mut lab, Flags::SYN, |segment| segment.seq = segment.seq + 9999), peer.snd_nxt);
    lab.pass(SECOND);
    let far = |segment: &mut Segment| segment.ack = segment.ack + (1 << 30);
    challenge(&peer.probe(&mut lab, Flags::ACK, far), peer.snd_nxt);
    // Outside of the window a reset is not even answered.
    lab.pass(SECOND);
    assert!(peer.probe(&mut lab, Flags::RST, |segment| segment.seq = segment.seq + (1 << 30)).is_empty());
    peer.assert_alive(&mut lab, &cell);
    other.assert_alive(&mut lab, &other_cell);
    lab.legit_echo(&listener);
}

#[test]
fn r04_data_of_others_never_reaches_the_application() {
    let (mut lab, listener, mut peer, cell) = connected(plain());
    peer.say(&mut lab, b"first");
    assert_eq!(lab.read(&cell), b"first");
    let mut numbers = Numbers(4);
    // Guard removed: without `Connection::check_ack` what lies in the window is read.
    for _ in 0..2_000 {
        let away = 100_000 + numbers.below((1 << 31) - 200_000) as u32;
        peer.say_at(&mut lab, peer.snd_nxt + away, b"beyond the window");
        peer.say_at(&mut lab, peer.snd_nxt + away.wrapping_neg(), b"old");
        // In the window, with an acknowledgment that makes no sense.
        let seq = peer.snd_nxt;
        let blind = Peer { rcv_nxt: peer.rcv_nxt + away, ..peer.clone() };
        blind.say_at(&mut lab, seq, b"blind");
        lab.pass(Duration::from_millis(1));
    }
    let duplicate = peer.snd_nxt + 5u32.wrapping_neg();
    peer.say_at(&mut lab, duplicate, b"FIRST");
    assert_eq!(lab.read(&cell), b"");
    lab.sent();
    peer.assert_alive(&mut lab, &cell);
    lab.legit_echo(&listener);
}

/// Writes as long as bytes are taken, and takes the segments for received, up to `bytes`.
fn fill(lab: &mut Lab, peer: &mut Peer, cell: &Arc<netstack::stack::Cell>, bytes: usize) -> SeqNum {
    let una = peer.rcv_nxt;
    for _ in 0..200 {
        while lab.write(cell, &[7; 16 << 10]).is_ok() {}
        lab.set_full(false);
        let before = peer.rcv_nxt;
        let end = lab.segments().last().map(|segment| segment.seq + segment.payload_len as u32);
        let Some(end) = end else { break };
        if (end - before) as usize >= bytes {
            return end;
        }
        peer.rcv_nxt = end;
        lab.pass(Duration::from_millis(5));
        lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    }
    panic!("{} bytes is all that leaves at once", peer.rcv_nxt - una);
}

#[test]
fn r05_sack_at_the_smallest_mss_is_bounded_and_lies_do_no_harm() {
    let mut lab = Lab::new(|config| {
        config.initial_window = 1024;
        (config.send_buffer_initial, config.send_buffer_max) = (8 << 20, 8 << 20);
    });
    let listener = lab.listen(80, 64);
    let (mut peer, cell) = Peer::hostile(80).offering(with_sack(48)).established(&mut lab, &listener);
    let end = fill(&mut lab, &mut peer, &cell, 100_000);
    lab.pass(Duration::from_millis(5));
    let una = peer.rcv_nxt;
    let flight = end - una;
    let ack = |peer: &Peer, blocks: &[(u32, u32)]| {
        let mut segment = peer.segment(Flags::ACK);
        segment.options.sack =
            blocks.iter().map(|(start, end)| SackBlock { start: una + *start, end: una + *end }).collect();
        peer.packet(&segment, &[])
    };
    for n in 0..flight / 96 {
        let start = 96 * n + 48;
        lab.give(&ack(&peer, &[(start, start + 48), (start / 2, start / 2 + 48)]));
        lab.sent();
    }
    let records = lab.engine.inspect(lab.now).expect("a consistent stack").records;
    // Guard removed: without the limit of `Scoreboard::is_shredded` it has 2,000 records and more.
    assert!(records <= 1_200, "{records} records for {flight} bytes");
    let mut numbers = Numbers(5);
    for _ in 0..5_000 {
        let mut any = || match numbers.below(4) {
            0 => numbers.below(u64::from(flight)) as u32,
            1 => (numbers.below(200) as u32).wrapping_neg(),
            2 => flight + numbers.below(1 << 20) as u32,
            _ => numbers.next() as u32,
        };
        let blocks = [(any(), any()), (any(), any()), (any(), any()), (any(), any())];
        lab.give(&ack(&peer, &blocks));
        let out = lab.sent().len() as u32;
        assert!(out <= 4 * flight / 48, "{out}: one acknowledgment lets out a window at most");
        lab.pass(Duration::from_micros(50));
        lab.engine.inspect(lab.now).expect("a consistent stack");
    }
    assert_eq!(cell.state(), State::Established);
    lab.legit_echo(&listener);
    // Once the peer acknowledges what there is, it goes on.
    peer.rcv_nxt = end;
    lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    assert!(!lab.segments().is_empty());
    // The floor of the MSS: a peer that asks for one byte gets segments of 48 (`tcp_min_snd_mss`).
    let mut tiny = Peer::new((Ipv4Addr::new(10, 67, 0, 2), 9), 80, SeqNum::new(1)).offering(with_sack(1));
    tiny.handshake(&mut lab);
    let cell = lab.accept(&listener).expect("it is established");
    lab.sent();
    lab.write(&cell, &[7; 480]).expect("a write");
    let lens: Vec<_> = lab.segments().iter().map(|segment| segment.payload_len).collect();
    // Guard removed: without the floor 480 segments leave.
    assert_eq!(lens, vec![48; 10]);
}

#[test]
fn r06_out_of_order_bytes_are_bounded_by_their_memory_and_the_first_copy_wins() {
    let (mut lab, listener, mut peer, cell) = connected(with_sack(1460));
    // Every second byte, one in a segment, as long as there is room; then again with other contents.
    for (round, value) in [1u8, 2].into_iter().enumerate() {
        for n in 0..30_000 {
            let packet =
                peer.packet(&Segment { seq: peer.snd_nxt + 1 + 2 * n, ..peer.segment(Flags::ACK) }, &[value]);
            lab.give_in_batch(&packet);
        }
        lab.end_batch();
        lab.sent();
        let found = lab.engine.inspect(lab.now).expect("a consistent stack");
        // Guard removed: bounded by the payload alone, 30,000 bytes hold 6 MB.
        assert!(
            found.receive_memory <= 4 * (256 << 10),
            "{} bytes held after round {round}",
            found.receive_memory
        );
    }
    lab.legit_echo(&listener);
    // What was kept of the first copies stays; the rest is filled in.
    peer.say(&mut lab, &[3; 1_000]);
    let read = lab.read(&cell);
    // Guard removed: an assembler in which the last copy wins gives twos or threes here.
    assert_eq!(read.len(), 1_000);
    assert!(read.iter().enumerate().all(|(n, byte)| *byte == if n % 2 == 0 { 3 } else { 1 }), "{read:?}");
    lab.sent();
    lab.legit_echo(&listener);
}

#[test]
fn r07_windows_that_stay_shut_are_probed_ever_more_seldom_and_bounded_by_the_user() {
    let (mut lab, listener, mut peer, cell) = connected(plain());
    peer.window = 0;
    lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    lab.write(&cell, &[7; 5_000]).expect("a write");
    let mut probes = 0;
    for _ in 0..3_600 {
        lab.pass(SECOND);
        let sent = lab.segments();
        probes += sent.len();
        assert!(sent.iter().all(|segment| segment.payload_len <= 1), "nothing beyond a shut window");
        for _ in 0..sent.len() {
            lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
        }
        lab.sent();
    }
    // Guard removed: probes without back-off are 18,000 in an hour.
    assert!((30..80).contains(&probes), "{probes} probes in an hour");
    assert_eq!(cell.state(), State::Established, "while they are answered");
    // Windows of one byte are not used byte by byte (silly window syndrome).
    peer.window = 1;
    lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    lab.pass(Duration::from_millis(100));
    assert!(lab.segments().len() <= 1);
    lab.legit_echo(&listener);
    lab.engine.with_tcp(lab.now, |tcp, turn| {
        tcp.with_options(turn, &cell, |options| options.user_timeout = Some(10 * SECOND));
    });
    for _ in 0..200 {
        lab.pass(SECOND);
        lab.sent();
        lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    }
    assert_eq!(cell.state(), State::Closed, "TCP_USER_TIMEOUT bounds it");
    // A window that shrinks below what is in flight loses nothing.
    let (mut lab, _listener, mut peer, cell) = connected(plain());
    lab.write(&cell, &[9; 4_000]).expect("a write");
    let sent = lab.segments();
    peer.window = 100;
    lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    lab.pass(10 * SECOND);
    lab.sent();
    peer.window = u16::MAX;
    sent.iter().for_each(|segment| peer.hear(segment));
    lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    peer.assert_alive(&mut lab, &cell);
}

#[test]
fn r08_the_window_grows_by_bytes_that_were_acknowledged() {
    // What cwnd becomes, in bytes, when ten segments are acknowledged in `acks` pieces.
    let grown = |acks: u32| {
        let (mut lab, _listener, mut peer, cell) = connected(plain());
        lab.write(&cell, &[7; 200_000]).expect("a write");
        let first: u32 = lab.segments().iter().map(|segment| segment.payload_len as u32).sum();
        let before = lab.info(&cell).snd_cwnd;
        let una = peer.rcv_nxt;
        lab.pass(Duration::from_millis(10));
        for n in 1..=acks {
            peer.rcv_nxt = una + (u64::from(first) * u64::from(n) / u64::from(acks)) as u32;
            lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
        }
        lab.info(&cell).snd_cwnd - before
    };
    // Guard removed: a window that grows by a segment for each acknowledgment is ten times as large (RFC 3465).
    assert!(grown(1_000) <= grown(10) + 1, "{} against {}", grown(1_000), grown(10));
    // Acknowledgments of what was never sent, and duplicates without end.
    let (mut lab, listener, mut peer, cell) = connected(plain());
    lab.write(&cell, &[7; 200_000]).expect("a write");
    let sent = lab.segments();
    let end = sent.last().map(|segment| segment.seq + segment.payload_len as u32).expect("some");
    let before = lab.info(&cell).snd_cwnd;
    for n in 1..200 {
        let optimistic = peer.probe(&mut lab, Flags::ACK, |segment| segment.ack = end + 1_460 * n);
        assert!(optimistic.iter().all(|segment| segment.payload_len == 0), "{optimistic:?}");
    }
    assert_eq!(lab.info(&cell).snd_cwnd, before);
    let mut out = 0;
    for _ in 0..2_000 {
        out += peer.probe(&mut lab, Flags::ACK, |_| ()).len();
    }
    // Guard removed: without a bound on duplicates each lets out another segment.
    assert!(out <= 200, "{out} segments for 2000 duplicates");
    lab.legit_echo(&listener);
    peer.rcv_nxt = end;
    lab.give(&peer.packet(&peer.segment(Flags::ACK), &[]));
    assert_eq!(cell.state(), State::Established);
}

#[test]
fn r09_no_header_makes_it_panic() {
    let mut lab = Lab::new(|_| ());
    let listener = lab.listen(80, 64);
    let mut numbers = Numbers(9);
    for bits in 0..512u16 {
        let source = (Ipv4Addr::new(10, 68, 0, 1), 1_000 + bits);
        let (peer, cell) = Peer::new(source, 80, SeqNum::new(1)).established(&mut lab, &listener);
        for urgent in [0, 1, u16::MAX] {
            for payload in [&b""[..], b"text"] {
                let mut segment = peer.segment(Flags::from_bits(bits));
                segment.urgent = urgent;
                lab.give(&peer.packet(&segment, payload));
            }
        }
        lab.close(&cell);
        peer.reset(&mut lab);
        lab.sent();
    }
    // Options of length 0, 1 and past the header; data offsets under 5 and past the segment; reserved bits.
    let (peer, cell) = Peer::hostile(80).established(&mut lab, &listener);
    let sound = peer.packet(&peer.segment(Flags::ACK), b"0123456789");
    for _ in 0..20_000 {
        let mut packet = sound.clone();
        packet[32] = numbers.next() as u8;
        packet[33] = numbers.next() as u8 & 0x10 | numbers.next() as u8 & 0x0f;
        for byte in &mut packet[40..] {
            *byte = *numbers.below(8).checked_sub(2).map_or(&2, |_| &0) + numbers.below(36) as u8;
        }
        mend(&mut packet);
        lab.give(&packet);
        lab.read(&cell);
    }
    lab.sent();
    lab.close(&cell);
    lab.legit_echo(&listener);
}

/// Makes the TCP checksum of an IPv4 packet right.
fn mend(packet: &mut [u8]) {
    packet[36..38].fill(0);
    let mut sum: u32 =
        packet[12..20].chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    sum += 6 + packet.len() as u32 - 20;
    for pair in packet[20..].chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[36..38].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[test]
fn r10_sequence_numbers_and_timestamps_wrap_without_a_byte_lost() {
    for before in [1u32, 2, 5, 1_000, 1_459, 1_460, 30_000] {
        let mut lab = Lab::new(|_| ());
        let listener = lab.listen(80, 64);
        let isn = SeqNum::new(before.wrapping_neg());
        let peer = Peer::new((Ipv4Addr::new(10, 69, 0, 1), 5), 80, isn).offering(stamped(u32::MAX - 3));
        let (mut peer, cell) = peer.established(&mut lab, &listener);
        let mut sent = Vec::new();
        let mut got = Vec::new();
        for n in 0..60u8 {
            let piece = vec![n; 1_000];
            // The second half of each piece overtakes the first.
            let middle = Peer { snd_nxt: peer.snd_nxt + 500, ..peer.clone() };
            middle.clone().say(&mut lab, &piece[500..]);
            peer.say(&mut lab, &piece);
            sent.extend(piece);
            got.extend(lab.read(&cell));
            let ts = peer.ts.as_mut().expect("timestamps were negotiated");
            ts.tsval = ts.tsval.wrapping_add(1);
            lab.sent();
            lab.pass(Duration::from_millis(1));
        }
        assert!(got == sent, "{before} bytes before the wrap");
        // PAWS: an old timestamp with new data is dropped.
        let old = peer.ts.map(|ts| Timestamps { tsval: ts.tsval.wrapping_sub(1_000), ..ts });
        Peer { ts: old, ..peer.clone() }.say(&mut lab, b"old");
        // Guard removed: without `check_paws` it is read.
        assert_eq!(lab.read(&cell), b"");
        lab.sent();
        peer.assert_alive(&mut lab, &cell);
    }
}
