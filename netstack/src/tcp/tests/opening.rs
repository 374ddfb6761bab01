//! Handshakes that are unusual and allowed, and what forgers try.

use super::pair::config;
use super::table::segment;
use crate::buffer::{Chunk, Pool};
use crate::tcp::{
    Connection, Opening, OpeningStep, Path, Setup, SocketOptions, State, SynEntry, SynParts, SynRetries,
    SynStep, TcpError,
};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Segment, SeqNum};
use std::io::{IoSlice, IoSliceMut};

const PATH: Path = Path::new(1500, false);

fn at(ms: u64) -> Instant {
    Instant::from_millis(1_000 + ms)
}

fn opening(iss: u32) -> Opening {
    let config = config();
    Opening::new(
        at(0),
        SeqNum::new(iss),
        0,
        PATH,
        Setup { options: &SocketOptions::new(&config), config: &config, pool: &Pool::new() },
    )
}

/// What an opening sends now.
fn sent(opening: &mut Opening, now: Instant) -> Segment {
    let segment = opening.poll_transmit(now).expect("something to send");
    opening.on_transmitted();
    segment
}

fn take(opening: &mut Opening, now: Instant, segment: &Segment, payload: &[u8]) -> Option<Box<Connection>> {
    match opening.on_segment(now, segment, Chunk::copy_from(payload)) {
        OpeningStep::Stay => None,
        OpeningStep::Established(connection, _) => Some(connection),
        other => panic!("{other:?}"),
    }
}

/// Moves what each end has to say to the other, without a delay, until both are silent.
fn exchange(now: Instant, ends: [&mut Connection; 2]) {
    let [a, b] = ends;
    for _ in 0..20 {
        for forth in [true, false] {
            let (from, to) = if forth { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
            while let Some(t) = from.poll_transmit(now, 0) {
                let mut pieces = arrayvec::ArrayVec::new();
                from.payload(&t, &mut pieces);
                let bytes = pieces.concat();
                drop(pieces);
                from.on_transmitted(now, &t);
                to.on_segment(now, &t.segment, Chunk::copy_from(&bytes));
            }
        }
    }
}

fn read(conn: &mut Connection, now: Instant) -> Vec<u8> {
    let mut to = vec![0; 100];
    let n = conn.read(now, &mut [IoSliceMut::new(&mut to)]).unwrap();
    to.truncate(n);
    to
}

#[test]
fn tcp_syncnt_is_the_time_of_as_many_retransmissions_that_back_off() {
    // Seen on Linux 6.18: when the time-outs are, the last of which ends the attempt.
    for (retries, expected) in [
        (1, vec![1, 2, 3]),
        (2, vec![1, 2, 3, 4, 5, 7]),
        (3, vec![1, 2, 3, 4, 5, 7, 11, 19]),
        (6, vec![1, 2, 3, 4, 5, 7, 11, 19, 35, 67, 131]),
    ] {
        let mut opening = opening(1000);
        opening.options_mut().syn_retries = retries;
        sent(&mut opening, at(0));
        let mut timeouts: Vec<u64> = Vec::new();
        loop {
            let now = opening.poll_timeout().expect("a time-out");
            timeouts.push((now - at(0)).as_secs());
            if opening.on_timeout(now).is_some() {
                break;
            }
            sent(&mut opening, now);
        }
        assert_eq!(timeouts, expected, "{retries}");
    }
}

#[test]
fn an_acknowledgment_of_something_old_is_reset_and_the_syn_soon_repeated_once() {
    let mut opening = opening(1000);
    sent(&mut opening, at(0));
    let old = Segment { ack: SeqNum::new(500), ..segment(Flags::ACK, 7, 0, 0) };
    for (now, next) in [(at(10), at(12)), (at(13), at(1_012))] {
        let OpeningStep::Reset(crate::tcp::Reset { segment: reset, .. }) =
            opening.on_segment(now, &old, Chunk::empty())
        else {
            panic!("a reset was expected");
        };
        assert_eq!((reset.flags, reset.seq), (Flags::RST, SeqNum::new(500)));
        // The second time there is no hurry.
        assert_eq!(opening.poll_timeout(), Some(next));
        if now == at(10) {
            assert_eq!(opening.on_timeout(next), None);
            assert_eq!(sent(&mut opening, next).seq, SeqNum::new(1000));
        }
    }
}

#[test]
fn icmp_ends_an_opening_only_if_it_quotes_our_syn() {
    let mut opening = opening(77);
    for forged in [0, 76, 78, 1 << 31] {
        assert_eq!(opening.on_icmp_error(SeqNum::new(forged), TcpError::Refused), None);
    }
    let error = opening.on_icmp_error(SeqNum::new(77), TcpError::HostUnreachable);
    assert_eq!(error, Some(TcpError::HostUnreachable));
}

#[test]
fn syns_that_cross_make_one_connection() {
    // With a SYN-ACK lost in neither, one, or the other direction: then the ACK stands in for it.
    for lost in [None, Some(0), Some(1)] {
        let (mut a, mut b) = (opening(u32::MAX), opening(500));
        let (syn_a, syn_b) = (sent(&mut a, at(0)), sent(&mut b, at(0)));
        assert!(take(&mut a, at(10), &syn_b, &[]).is_none() && take(&mut b, at(10), &syn_a, &[]).is_none());
        assert_eq!([a.state(), b.state()], [State::SynReceived; 2]);
        let (ack_a, ack_b) = (sent(&mut a, at(10)), sent(&mut b, at(10)));
        assert_eq!(ack_a.flags, Flags::SYN.with(Flags::ACK));
        let mut conns = [None, None];
        if lost != Some(1) {
            conns[0] = take(&mut a, at(20), &ack_b, &[]);
        }
        if lost != Some(0) {
            conns[1] = take(&mut b, at(20), &ack_a, &[]);
        }
        if let Some(lost) = lost {
            let stands = conns[lost].as_mut().expect("the other SYN-ACK arrived");
            let ack = stands.poll_transmit(at(20), 0).expect("an acknowledgment");
            stands.on_transmitted(at(20), &ack);
            conns[1 - lost] = take(if lost == 0 { &mut b } else { &mut a }, at(30), &ack.segment, &[]);
        }
        let [Some(a), Some(b)] = &mut conns else { panic!("lost {lost:?}: not established") };
        a.write(at(40), &[IoSlice::new(b"hello")], false).unwrap();
        b.write(at(40), &[IoSlice::new(b"and you")], false).unwrap();
        exchange(at(40), [a, b]);
        assert_eq!((read(a, at(50)), read(b, at(50))), (b"and you".to_vec(), b"hello".to_vec()));
    }
}

#[test]
fn the_third_segment_may_carry_data_and_a_fin() {
    let config = config();
    let options = SocketOptions::new(&config);
    let mut opening = opening(9);
    let syn = sent(&mut opening, at(0));
    let mut entry = SynEntry::new(
        at(10),
        &syn,
        SeqNum::new(u32::MAX),
        SynParts { ts_offset: 0, path: PATH, options: &options, config: &config },
    );
    let mut active = take(&mut opening, at(20), &entry.syn_ack(at(10)), &[]).expect("a SYN-ACK");
    active.write(at(20), &[IoSlice::new(b"all")], false).unwrap();
    active.close(at(20));
    let third = active.poll_transmit(at(20), 0).expect("data and FIN");
    active.on_transmitted(at(20), &third);
    assert_eq!(third.segment.flags, Flags::ACK.with(Flags::PSH).with(Flags::FIN));
    assert_eq!(
        entry.on_segment(at(30), &third.segment, SynRetries::new(&config), &config),
        SynStep::Establish
    );
    let mut passive = Connection::accept(
        at(30),
        &entry,
        &third.segment,
        Setup { options: &options, config: &config, pool: &Pool::new() },
    );
    passive.on_segment(at(30), &third.segment, Chunk::copy_from(b"all"));
    assert_eq!(passive.state(), State::CloseWait);
    assert_eq!(read(&mut passive, at(30)), b"all");
    passive.close(at(30));
    exchange(at(30) + Duration::from_millis(1), [&mut active, &mut passive]);
    assert_eq!([active.state(), passive.state()], [State::TimeWait, State::Closed]);
}

#[test]
fn the_window_starts_from_one_segment_where_the_syn_was_lost_twice() {
    for (lost, window) in [(0, 10), (1, 10), (2, 1)] {
        let mut a = opening(100);
        let mut syn = sent(&mut a, at(0));
        let mut now = at(0);
        for _ in 0..lost {
            now = a.poll_timeout().expect("the SYN waits");
            a.on_timeout(now);
            syn = sent(&mut a, now);
        }
        let config = config();
        let options = SocketOptions::new(&config);
        let parts = SynParts { ts_offset: 0, path: PATH, options: &options, config: &config };
        let entry = SynEntry::new(now, &syn, SeqNum::new(7), parts);
        let answer = entry.syn_ack(now);
        let conn = take(&mut a, now, &answer, &[]).expect("established");
        let info = conn.info(now);
        assert_eq!(info.snd_cwnd / info.snd_mss, window, "after {lost} losses");
    }
}
