//! What a write becomes: records, segments, PSH. As packetdrill's scripts have it of Linux.

use super::pair::config;
use super::table::{Table, segment};
use crate::tcp::{SendFlags, SocketOptions};
use crate::time::Duration;
use crate::wire::{Flags, SeqNum};
use std::io::IoSlice;

fn set(t: &mut Table, change: impl FnOnce(&mut SocketOptions)) {
    let mut options = t.conn.options().clone();
    change(&mut options);
    t.conn.set_options(t.now, options);
}

/// Writes as the stack does it: what a record takes is sent before the next is begun. Segments as
/// `first-end flags`, super-segments whole.
fn send(t: &mut Table, len: usize, flags: SendFlags) -> (usize, Vec<String>) {
    let (bytes, mut lines, mut done) = (vec![7; len], Vec::new(), 0);
    while let Ok(written) = t.conn.write_record(t.now, &[IoSlice::new(&bytes)], done, flags) {
        done += written.bytes;
        lines.extend(output(t));
        if !written.go_on {
            break;
        }
    }
    (done, lines)
}

fn output(t: &mut Table) -> Vec<String> {
    let mut lines = Vec::new();
    while let Some(out) = t.conn.poll_transmit(t.now, 65_435) {
        let start = out.segment.seq - SeqNum::new(super::table::ISS);
        let push = if out.segment.flags.contains(Flags::PSH) { " P" } else { "" };
        lines.push(format!("{start}-{}{push}", start as usize + out.segment.payload_len));
        t.conn.on_transmitted(t.now, &out);
    }
    lines
}

/// An acknowledgment `after` a while.
fn ack(t: &mut Table, after: Duration, ack: i64, window: u16) -> Vec<String> {
    t.now += after;
    let mut seg = segment(Flags::ACK, 1, ack, 0);
    seg.window = window;
    t.conn.on_segment(t.now, &seg, crate::buffer::Chunk::empty());
    output(t)
}

const MS: Duration = Duration::from_millis(1);

#[test]
fn half_of_the_window_leaves_at_once_and_every_super_segment_is_pushed() {
    let mut t = Table::established();
    // A record is half of the peer's window. Ten segments may leave, in two super-segments; the
    // acknowledgment lets out what was begun, and the next record waits to be worth its call.
    assert_eq!(send(&mut t, 40_000, SendFlags::NONE).1, ["1-5001 P", "5001-10001 P"]);
    assert_eq!(ack(&mut t, MS, 10_001, 30_000), ["10001-20001 P", "20001-25001 P", "25001-30001 P"]);
}

#[test]
fn a_large_write_is_sent_while_it_goes_on() {
    let mut t = Table::established();
    set(&mut t, |options| options.notsent_lowat = Some(4_000));
    // 15,000 fill a record, of which ten leave, so that it takes ten more. Then 15,000 are unsent.
    assert_eq!(send(&mut t, 60_000, SendFlags::NONE).0, 25_000);
    assert_eq!(t.conn.unsent(), 15_000);
}

#[test]
fn the_send_buffer_pays_for_what_surrounds_the_data() {
    let mut t = Table::established();
    set(&mut t, |options| options.send_buffer_size = Some(20_000));
    // Twice 20,000. After 25,000, two parts of 5,000 sent and the rest, another record is begun, and filled.
    assert_eq!(send(&mut t, 100_000, SendFlags::NONE).0, 40_000);
    assert_eq!(t.conn.send_queue_cost(), 40_000 + 4 * 1_280);
    let mut t = Table::established();
    set(&mut t, |options| options.send_buffer_size = Some(20_000));
    set(&mut t, |options| options.nodelay = true);
    let mut small = 0;
    while send(&mut t, 1, SendFlags::END_OF_RECORD).0 == 1 {
        small += 1;
    }
    assert_eq!(small, 40_000 / 1_281 + 1, "each counts for a buffer of its own");
}

#[test]
fn the_end_of_a_write_is_pushed_and_its_middle_is_not() {
    let mut t = Table::established();
    assert_eq!(send(&mut t, 15_000, SendFlags::NONE).1.len(), 2);
    let one_by_one: Vec<_> = (10..15).flat_map(|n| ack(&mut t, 300 * MS, n * 1_000 + 1, 1_000)).collect();
    let segments = ["10001-11001", "11001-12001", "12001-13001", "13001-14001", "14001-15001 P"];
    assert_eq!(one_by_one, segments);
}

#[test]
fn what_more_follows_carries_no_push_until_the_next_acknowledgment_or_write() {
    let mut t = Table::established();
    set(&mut t, |options| options.nodelay = true);
    assert!(send(&mut t, 40, SendFlags::MORE).1.is_empty());
    assert_eq!(t.conn.poll_timeout().map(|at| at - t.now), Some(201 * MS), "not for longer than this");
    assert_eq!(send(&mut t, 160, SendFlags::NONE).1, ["1-201 P"]);
    assert_eq!(ack(&mut t, MS, 201, 30_000), [""; 0]);
    assert_eq!(send(&mut t, 1_050, SendFlags::MORE).1, ["201-1201"]);
    assert_eq!(ack(&mut t, MS, 1_201, 30_000), ["1201-1251"], "the flag was about that write");
}

#[test]
fn what_was_held_for_200_ms_is_pushed() {
    let mut t = Table::established();
    assert!(send(&mut t, 40, SendFlags::MORE).1.is_empty());
    t.now += 201 * MS;
    t.conn.on_timeout(t.now);
    assert_eq!(output(&mut t), ["1-41 P"]);
}

#[test]
fn nodelay_pushes_each_time_that_it_is_set() {
    let mut t = Table::established();
    set(&mut t, |options| options.cork = true);
    assert!(send(&mut t, 40, SendFlags::NONE).1.is_empty());
    set(&mut t, |options| options.nodelay = true);
    assert_eq!(output(&mut t), ["1-41 P"]);
    assert!(send(&mut t, 40, SendFlags::MORE).1.is_empty());
    t.conn.push();
    assert_eq!(output(&mut t), ["41-81"], "MSG_MORE said that it is not the end");
}

#[test]
fn records_are_kept_apart_when_they_are_sent_and_sent_again() {
    let mut t = Table::established();
    set(&mut t, |options| options.nodelay = true);
    assert_eq!(send(&mut t, 10_400, SendFlags::NONE).1, ["1-5001 P", "5001-10001 P"]);
    for _ in 0..3 {
        assert!(send(&mut t, 400, SendFlags::END_OF_RECORD).1.is_empty());
    }
    send(&mut t, 3_000, SendFlags::NONE);
    // The first joined what was not sent of the write before it.
    let records = ["10001-10801 P", "10801-11201 P", "11201-11601 P", "11601-14601 P"];
    assert_eq!(ack(&mut t, MS, 10_001, 30_000), records);
    // All is lost.
    let mut again = Vec::new();
    for acked in [10_801, 11_201, 11_601] {
        t.now += Duration::from_secs(3);
        t.conn.on_timeout(t.now);
        again.extend(output(&mut t));
        again.extend(ack(&mut t, MS, acked, 30_000));
    }
    assert_eq!(again[..3], records[..3]);
}

#[test]
fn a_record_that_is_sealed_does_not_wait_for_company() {
    let mut t = Table::established();
    assert_eq!(send(&mut t, 100, SendFlags::NONE).1, ["1-101 P"]);
    assert!(send(&mut t, 100, SendFlags::END_OF_RECORD).1.is_empty(), "Nagle's algorithm");
    // Nothing can join it, so there is nothing to wait for once something follows.
    assert_eq!(send(&mut t, 100, SendFlags::NONE).1, ["101-201 P"]);
}

#[test]
fn time_is_told_by_what_held_the_sender_back() {
    let mut t = Table::established();
    let info = |t: &Table| {
        let info = t.conn.info(t.now);
        [info.busy_time, info.rwnd_limited, info.sndbuf_limited].map(|time| time.as_millis())
    };
    assert!(ack(&mut t, MS, 1, 0).is_empty());
    t.now += 10 * MS;
    assert!(send(&mut t, 1_000, SendFlags::NONE).1.is_empty());
    t.now += 40 * MS;
    assert_eq!(info(&t), [40, 40, 0]);
    assert_eq!(ack(&mut t, 10 * MS, 1, 30_000), ["1-1001 P"]);
    assert!(ack(&mut t, 30 * MS, 1_001, 30_000).is_empty());
    t.now += 100 * MS;
    assert_eq!(info(&t), [80, 50, 0], "idle time does not count");
    set(&mut t, |options| options.send_buffer_size = Some(2_304));
    assert!(send(&mut t, 100_000, SendFlags::NONE).0 < 30_000);
    // All that may be written is sent, with window to spare.
    assert!(!ack(&mut t, 10 * MS, 11_001, 30_000).is_empty() && t.conn.unsent() == 0);
    t.conn.take_events();
    t.now += 20 * MS;
    assert_eq!(info(&t), [110, 50, 20]);
    let sent = 1_001 + 10_000 + t.conn.unacked() as i64;
    ack(&mut t, 10 * MS, sent, 30_000);
    t.conn.take_events();
    t.now += 10 * MS;
    assert_eq!(info(&t), [120, 50, 30]);
    assert_eq!(config().min_tso_segs, 2, "which the numbers above stand on");
}
