//! The end of connections.

use super::pair::{Pair, Wire, pattern};
use crate::tcp::{Completion, SocketOptions, State, TcpError};
use crate::time::Duration;
use std::net::Shutdown;

fn states(pair: &Pair) -> [State; 2] {
    [pair.ends[0].conn.state(), pair.ends[1].conn.state()]
}

fn shutdown(pair: &mut Pair, end: usize) {
    pair.conn(end).shutdown(Shutdown::Write).unwrap();
    pair.pump();
}

fn read(pair: &mut Pair, end: usize) -> Result<usize, TcpError> {
    let now = pair.now;
    let mut to = [0; 10];
    pair.conn(end).read(now, &mut [std::io::IoSliceMut::new(&mut to)])
}

fn write(pair: &mut Pair, end: usize) -> Result<usize, TcpError> {
    let now = pair.now;
    let result = pair.conn(end).write(now, &[std::io::IoSlice::new(b"late")], false);
    pair.pump();
    result
}

#[test]
fn four_segments_with_the_numbers_of_the_formulas() {
    let mut pair = Pair::connect(Wire::default(), 1);
    pair.write(0, &pattern(10));
    pair.run_for(Duration::from_millis(100));
    pair.read(1, 100);
    let from = [pair.ends[0].log.len(), pair.ends[1].log.len()];
    shutdown(&mut pair, 0);
    assert_eq!(states(&pair)[0], State::FinWait1);
    pair.run_for(Duration::from_millis(200));
    assert_eq!(states(&pair), [State::FinWait2, State::CloseWait]);
    shutdown(&mut pair, 1);
    pair.run_for(Duration::from_millis(200));
    assert_eq!(states(&pair), [State::TimeWait, State::Closed]);
    assert_eq!(pair.sent(0, from[0]), ["FIN,ACK 11/1 len 0", "ACK 12/2 len 0"]);
    assert_eq!(pair.sent(1, from[1]), ["ACK 1/12 len 0", "FIN,ACK 1/12 len 0"]);
    assert!(pair.conn(0).completion() == Completion::TimeWait);
}

#[test]
fn an_answering_close_makes_it_three_segments() {
    let mut pair = Pair::connect(Wire::default(), 1);
    // Leave quick-ACK mode first.
    for _ in 0..20 {
        pair.write(0, b"x");
        pair.run_for(Duration::from_secs(1));
        pair.read(1, 10);
    }
    let from = pair.ends[1].log.len();
    shutdown(&mut pair, 0);
    pair.run_for(Duration::from_millis(15));
    shutdown(&mut pair, 1);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(pair.sent(1, from), ["FIN,ACK 1/22 len 0"]);
    assert_eq!(states(&pair), [State::TimeWait, State::Closed]);
}

#[test]
fn closes_that_cross() {
    let mut pair = Pair::connect(Wire::default(), 1);
    shutdown(&mut pair, 0);
    shutdown(&mut pair, 1);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(states(&pair), [State::TimeWait, State::TimeWait]);
}

#[test]
fn a_fin_waits_behind_data_and_survives_loss() {
    for seed in 0..40 {
        let mut pair = Pair::connect(Wire { loss: 0.2, ..Wire::default() }, seed);
        let bytes = pattern(20_000);
        let n = pair.write(0, &bytes);
        let now = pair.now;
        pair.conn(0).close(now);
        let mut got = Vec::new();
        while pair.ends[1].conn.state() == State::Established {
            assert!(pair.step(), "seed {seed}");
            got.extend(pair.read(1, 100_000));
        }
        got.extend(pair.read(1, 100_000));
        assert!(got == bytes[..n], "seed {seed}: {} of {n}", got.len());
        assert_eq!(read(&mut pair, 1), Ok(0));
    }
}

#[test]
fn closing_with_unread_data_resets_at_once() {
    let mut pair = Pair::connect(Wire::default(), 1);
    pair.write(0, b"unread");
    pair.run_for(Duration::from_millis(100));
    let now = pair.now;
    let from = pair.ends[1].log.len();
    pair.conn(1).close(now);
    pair.pump();
    assert_eq!(pair.sent(1, from), ["RST,ACK 1/7 len 0"]);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(read(&mut pair, 0), Err(TcpError::Reset));
    assert_eq!(read(&mut pair, 0), Ok(0), "once only");
    assert_eq!(write(&mut pair, 0), Err(TcpError::BrokenPipe));
}

#[test]
fn closing_with_linger_zero_resets_and_drops_what_is_unsent() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let now = pair.now;
    let options = SocketOptions { linger: Some(Duration::ZERO), ..pair.conn(0).options().clone() };
    pair.conn(0).set_options(now, options);
    pair.conn(0).close(now);
    let from = pair.ends[0].log.len();
    pair.pump();
    assert_eq!(pair.sent(0, from), ["RST,ACK 1/1 len 0"]);
    assert_eq!(states(&pair)[0], State::Closed);
}

#[test]
fn data_for_an_orphan_is_answered_with_a_reset() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let now = pair.now;
    pair.conn(0).close(now);
    pair.run_for(Duration::from_millis(15));
    // The other end has the FIN and writes: nobody will read it.
    let from = pair.ends[0].log.len();
    assert_eq!(write(&mut pair, 1), Ok(4));
    pair.run_for(Duration::from_millis(100));
    assert!(pair.sent(0, from).iter().any(|line| line.starts_with("RST")), "{:?}", pair.sent(0, from));
    // The peer had closed before it reset: EOF for the reader, EPIPE for the writer.
    assert_eq!(write(&mut pair, 1), Err(TcpError::BrokenPipe));
    assert_eq!(read(&mut pair, 1), Ok(0));
}

#[test]
fn after_the_peers_fin_a_reset_is_for_the_writer_and_not_for_the_reader() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let now = pair.now;
    pair.conn(0).close(now);
    pair.run_for(Duration::from_millis(15));
    assert_eq!(write(&mut pair, 1), Ok(4));
    pair.run_for(Duration::from_millis(100));
    assert_eq!(states(&pair)[1], State::Closed);
    assert_eq!(read(&mut pair, 1), Ok(0));
    assert_eq!(write(&mut pair, 1), Err(TcpError::BrokenPipe));
}

#[test]
fn a_reset_without_a_fin_is_reported_once_by_write_too() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let now = pair.now;
    pair.conn(0).abort(now);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(write(&mut pair, 1), Err(TcpError::Reset));
    assert_eq!(write(&mut pair, 1), Err(TcpError::BrokenPipe));
    assert_eq!(read(&mut pair, 1), Ok(0));
}

#[test]
fn queued_data_is_read_before_the_reset_is_reported() {
    let mut pair = Pair::connect(Wire::default(), 1);
    pair.write(0, b"data");
    pair.run_for(Duration::from_millis(100));
    let now = pair.now;
    pair.conn(0).abort(now);
    pair.run_for(Duration::from_millis(100));
    assert_eq!(read(&mut pair, 1), Ok(4));
    assert_eq!(read(&mut pair, 1), Err(TcpError::Reset));
    assert_eq!(read(&mut pair, 1), Ok(0));
}

#[test]
fn shutting_reading_down_sends_nothing_and_reads_end() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let from = pair.ends[1].log.len();
    pair.conn(1).shutdown(Shutdown::Read).unwrap();
    pair.pump();
    assert_eq!(pair.ends[1].log.len(), from);
    assert_eq!(read(&mut pair, 1), Ok(0));
    pair.write(0, b"still");
    pair.run_for(Duration::from_millis(100));
    assert_eq!(read(&mut pair, 1), Ok(5), "what comes later can be read, as in Linux");
    assert_eq!(states(&pair), [State::Established; 2]);
}

#[test]
fn an_orphan_in_fin_wait_2_becomes_a_record() {
    let mut pair = Pair::connect(Wire::default(), 1);
    let now = pair.now;
    pair.conn(0).close(now);
    pair.run_for(Duration::from_millis(100));
    assert!(pair.conn(0).completion() == Completion::TimeWait);
    let now = pair.now;
    let record = pair.ends[0].conn.time_wait(now);
    assert_eq!(record.state(), State::FinWait2);
    assert_eq!(record.deadline() - now, Duration::from_secs(60));
}
