//! Waits that must end: writers that are notified, windows that open again, timers that run.

use super::table::{Table, segment};
use crate::readiness::Events;
use crate::tcp::{SocketOptions, State, TcpError};
use crate::time::Duration;
use crate::wire::Flags;
use std::io::IoSlice;

fn write(t: &mut Table, len: usize) -> Result<usize, TcpError> {
    t.conn.write(t.now, &[IoSlice::new(&vec![7; len])], false)
}

fn set(t: &mut Table, change: impl FnOnce(&mut SocketOptions)) {
    let mut options = t.conn.options().clone();
    change(&mut options);
    t.conn.set_options(t.now, options);
}

fn writable(t: &mut Table) -> bool {
    t.conn.take_events().contains(Events::WRITABLE)
}

/// Writes until there is no room.
fn fill(t: &mut Table) -> usize {
    let mut written = 0;
    while let Ok(n) = write(t, 1_000) {
        written += n;
    }
    written
}

#[test]
fn a_writer_held_by_the_low_water_mark_is_told_when_its_bytes_are_sent() {
    let mut t = Table::established();
    t.conn.take_events();
    set(&mut t, |options| options.notsent_lowat = Some(20_000));
    assert!(fill(&mut t) > 20_000, "a record that was begun is filled");
    t.output();
    assert!(!writable(&mut t));
    let mut acked = 1;
    while t.conn.unsent() > 0 {
        acked += 2_000;
        // The acknowledgment of two segments lets out more of those that were unsent.
        let before = t.conn.unsent();
        t.conn.on_segment(t.now, &segment(Flags::ACK, 1, acked, 0), crate::buffer::Chunk::empty());
        assert!(!writable(&mut t), "not before they are sent");
        t.output();
        assert_eq!(writable(&mut t), before >= 10_000 && t.conn.unsent() < 10_000, "below half of it");
    }
}

#[test]
fn a_small_write_that_fits_does_not_unsubscribe_a_writer_that_waits() {
    let mut t = Table::established();
    set(&mut t, |options| options.send_buffer_size = Some(9_000));
    let written = write(&mut t, 100_000).unwrap();
    assert_eq!(write(&mut t, 1), Err(TcpError::WouldBlock));
    t.output();
    t.conn.take_events();
    t.input(segment(Flags::ACK, 1, 1_001, 0));
    assert!(!writable(&mut t), "a third must be free");
    // There is room for another record before poll says so.
    while write(&mut t, 1) != Ok(1) {
        assert!(!writable(&mut t));
        let acked = 1 + (written - t.conn.unacked()) as i64 + 1_000;
        t.input(segment(Flags::ACK, 1, acked, 0));
    }
    while t.conn.unacked() > 0 {
        let sent = 2 + (written - t.conn.unsent()) as i64;
        t.input(segment(Flags::ACK, 1, sent, 0));
    }
    assert!(writable(&mut t));
}

#[test]
fn a_larger_send_buffer_is_told_to_the_writer() {
    let mut t = Table::established();
    set(&mut t, |options| options.send_buffer_size = Some(9_000));
    assert!(write(&mut t, 100_000).unwrap() < 100_000);
    t.conn.take_events();
    set(&mut t, |options| options.send_buffer_size = Some(90_000));
    assert!(writable(&mut t));
}

#[test]
fn a_probe_does_not_swallow_an_acknowledgment_that_is_owed() {
    let mut t = Table::established();
    t.input(segment(Flags::ACK, 1, 1, 10));
    t.conn.set_quickack(false);
    let mut data = segment(Flags::ACK, 11, 1, 10);
    data.window = 0;
    assert!(t.input(data).is_empty());
    assert!(t.write(1_000).is_empty());
    assert_eq!(t.wait(Duration::from_secs(2)), ["ACK 0/21 0", "ACK 1/21 0"], "the peer drops the first");
}

#[test]
fn the_window_that_a_probe_offers_stays_offered() {
    let mut t = Table::established();
    t.input(segment(Flags::ACK, 1, 1, 10_000));
    let mut closed = segment(Flags::ACK, 10_001, 1, 0);
    closed.window = 0;
    t.input(closed);
    t.conn.read(t.now, &mut [std::io::IoSliceMut::new(&mut [0; 10_000])]).unwrap();
    assert!(t.write(1_000).is_empty());
    t.now += Duration::from_secs(2);
    t.conn.on_timeout(t.now);
    let probe = t.conn.poll_transmit(t.now, 0).expect("a probe");
    t.conn.on_transmitted(t.now, &probe);
    assert!(usize::from(probe.segment.window) > 64_240 - 10_000, "more than before");
    set(&mut t, |options| options.recv_buffer_size = Some(2_304));
    assert_eq!(t.conn.receiver().window_field(), probe.segment.window);
}

#[test]
fn a_fin_at_a_closed_window_asks_when_it_opens() {
    let mut t = Table::established();
    let mut closed = segment(Flags::ACK, 1, 1, 0);
    closed.window = 0;
    t.input(closed);
    t.shutdown();
    assert_eq!(t.conn.state(), State::FinWait1);
    assert_eq!(t.wait(Duration::from_secs(2)), ["ACK 0/1 0"], "the window update may have been lost");
    assert_eq!(t.input(segment(Flags::ACK, 1, 1, 0)), ["FIN,ACK 1/1 0"]);
}
