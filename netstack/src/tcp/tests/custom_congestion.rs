//! Algorithms from outside: that they control what is in flight, and when which of their methods is called.

use super::pair::{Pair, Wire, pattern};
use crate::sync::{Mutex, Rank};
use crate::tcp::{AckSample, CongestionControl, CongestionRegistry, CongestionStart, LossSample};
use crate::time::{Duration, Instant};
use std::sync::Arc;

const MSS: usize = 1448;
const WINDOW: usize = 20 * MSS;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// The names of the methods that were called, in their order.
type Calls = Arc<Mutex<Vec<&'static str>>>;

/// A window of 20 segments, or of what recovery from a time-out has left of it, that notes its calls.
#[derive(Debug)]
struct Fixed {
    cwnd: usize,
    controls_window: bool,
    calls: Calls,
}

impl Fixed {
    fn note(&self, call: &'static str) {
        self.calls.lock().push(call);
    }
}

impl CongestionControl for Fixed {
    fn cwnd(&self) -> usize {
        self.cwnd
    }

    fn ssthresh(&self) -> usize {
        WINDOW
    }

    fn set_cwnd(&mut self, bytes: usize) {
        self.note("set_cwnd");
        self.cwnd = bytes.clamp(MSS, WINDOW);
    }

    fn on_send(&mut self, _now: Instant, in_flight: usize, _app_limited: bool) {
        assert!(in_flight < self.cwnd, "{in_flight} of {} bytes", self.cwnd);
        self.note("on_send");
    }

    fn on_ack(&mut self, ack: &AckSample) {
        self.note("on_ack");
        self.cwnd = (self.cwnd + ack.delivered).min(WINDOW);
    }

    fn on_loss(&mut self, _now: Instant, loss: &LossSample) {
        assert!(loss.bytes > 0 && loss.lost >= loss.bytes as u64);
        self.note("on_loss");
    }

    fn on_recovered(&mut self) {
        self.note("on_recovered");
    }

    fn on_congestion(&mut self, _now: Instant) {
        self.note("on_congestion");
    }

    fn on_ecn(&mut self, _now: Instant) {
        self.note("on_ecn");
    }

    fn on_undo(&mut self) {
        self.note("on_undo");
    }

    fn on_timeout(&mut self, _now: Instant, first: bool) {
        self.note(if first { "on_timeout" } else { "on_timeout again" });
    }

    fn on_mss_change(&mut self, _mss: usize) {
        self.note("on_mss_change");
    }

    fn controls_window(&self) -> bool {
        self.controls_window
    }
}

/// A connection of which the first end is under [`Fixed`].
fn fixed(wire: Wire, controls_window: bool) -> (Pair, Calls) {
    let calls: Calls = Arc::new(Mutex::new(Rank::Leaf, Vec::new()));
    let mut registry = CongestionRegistry::default();
    let noted = Arc::clone(&calls);
    let factory = move |start: &CongestionStart| -> Box<dyn CongestionControl> {
        assert_eq!((start.mss, start.cwnd, start.ssthresh), (MSS, 10 * MSS, usize::MAX));
        assert!(start.sack && start.srtt > Duration::ZERO);
        Box::new(Fixed { cwnd: WINDOW, controls_window, calls: Arc::clone(&noted) })
    };
    registry.register("fixed", factory).unwrap();
    let mut pair = Pair::connect(wire, 1);
    let now = pair.now;
    let mut options = pair.conn(0).options().clone();
    options.congestion = registry.choose("fixed").unwrap();
    pair.conn(0).set_options(now, options);
    (pair, calls)
}

/// What was called, each run of equal calls once, without `on_send`.
fn outline(calls: &Calls) -> Vec<&'static str> {
    let mut calls = calls.lock().clone();
    calls.retain(|call| *call != "on_send");
    calls.dedup();
    calls
}

#[test]
fn the_window_of_an_algorithm_is_what_is_in_flight() {
    let (mut pair, calls) = fixed(Wire::default(), false);
    let start = pair.now;
    let sent = pattern(100 * WINDOW);
    assert!(pair.transfer(0, &sent, Duration::from_secs(10)) == sent);
    // One window in each round trip of 20 ms, the last one half a round trip before it is acknowledged.
    assert_eq!(pair.now - start, 99 * ms(20) + ms(10));
    assert_eq!(pair.conn(0).info(start).snd_cwnd, WINDOW);
    pair.run_for(ms(100));
    assert_eq!(outline(&calls), ["on_ack"]);
    let sends = calls.lock().iter().filter(|call| **call == "on_send").count();
    assert_eq!(sends, sent.len() / MSS);
}

#[test]
fn recovery_moves_the_window_and_acknowledgments_do_not() {
    let (mut pair, calls) = fixed(Wire::default(), false);
    pair.drop_nth[0] = vec![pair.ends[0].log.len() + 50];
    pair.transfer(0, &pattern(10 * WINDOW), Duration::from_secs(10));
    pair.run_for(ms(100));
    let expected = ["on_ack", "on_congestion", "on_loss", "set_cwnd", "on_recovered", "set_cwnd", "on_ack"];
    assert_eq!(outline(&calls), expected);
}

#[test]
fn an_algorithm_that_controls_its_window_gets_every_acknowledgment() {
    let (mut pair, calls) = fixed(Wire::default(), true);
    pair.drop_nth[0] = vec![pair.ends[0].log.len() + 50];
    pair.transfer(0, &pattern(10 * WINDOW), Duration::from_secs(10));
    pair.run_for(ms(100));
    let expected = ["on_ack", "on_congestion", "on_loss", "on_ack", "on_recovered", "on_ack"];
    assert_eq!(outline(&calls), expected);
}

#[test]
fn after_a_timeout_the_window_is_set_and_acknowledgments_let_it_grow() {
    for controls_window in [false, true] {
        let (mut pair, calls) = fixed(Wire::default(), controls_window);
        pair.transfer(0, &pattern(WINDOW), Duration::from_secs(1));
        pair.run_for(ms(100));
        calls.lock().clear();
        pair.cut[1] = true;
        pair.write(0, &pattern(WINDOW));
        pair.run_for(ms(1_000));
        pair.cut[1] = false;
        pair.run_for(Duration::from_secs(5));
        assert_eq!(pair.discard(1), WINDOW);
        let calls = outline(&calls);
        let again = calls.iter().filter(|call| **call == "on_timeout again").count();
        assert!(again > 0, "{calls:?}");
        let again = ["on_loss", "on_timeout again", "set_cwnd"].repeat(again);
        let expected =
            [&["on_loss", "on_timeout", "set_cwnd"], &again[..], &["on_ack", "on_recovered", "on_ack"]];
        assert_eq!(calls, expected.concat());
        assert_eq!(pair.ends[0].conn.info(pair.now).snd_cwnd, WINDOW);
    }
}

#[test]
fn what_was_late_and_not_lost_is_undone() {
    // One packet in fifty comes after those that left within a round trip after it.
    let (mut pair, calls) = fixed(Wire { reorder: 0.02, ..Wire::default() }, false);
    pair.transfer(0, &pattern(20 * WINDOW), Duration::from_secs(10));
    let calls = outline(&calls);
    let of = |name: &str| calls.iter().filter(|call| **call == name).count();
    assert!(of("on_undo") > 0 && of("on_congestion") > 0, "{calls:?}");
}
