//! BBR over an ideal path: one bottleneck with an endless queue, each packet acknowledged by itself.

use super::super::testing;
use super::*;
use crate::tcp::delivery_rate::{DeliveryRate, Stamp};
use std::collections::VecDeque;

const MSS: usize = testing::MSS;

/// A packet on its way, with the time at which its fate is known.
struct Packet {
    due: Instant,
    sent_at: Instant,
    stamp: Stamp,
    lost: bool,
}

struct Play {
    bbr: Bbr,
    rate: DeliveryRate,
    now: Instant,
    /// Bytes a second.
    link: u64,
    rtt: Duration,
    busy_until: Instant,
    next_send: Instant,
    flight: VecDeque<Packet>,
    sent: u64,
    /// One of so many packets is lost; 0: none.
    loss_one_of: u64,
    /// States, without repetitions, and when each began.
    states: Vec<(State, Instant)>,
    delivered: u64,
}

impl Play {
    /// `link` in bytes a second.
    fn new(link: u64, rtt: Duration) -> Self {
        let now = Instant::from_millis(1_000);
        let start = CongestionStart { now, srtt: rtt, ..testing::start(10 * MSS) };
        Self {
            bbr: Bbr::new(&start),
            rate: DeliveryRate::default(),
            now,
            link,
            rtt,
            busy_until: now,
            next_send: now,
            flight: VecDeque::new(),
            sent: 0,
            loss_one_of: 0,
            states: vec![(State::Startup, now)],
            delivered: 0,
        }
    }

    fn time_of(&self, bytes: usize, rate: u64) -> Duration {
        Duration::from_nanos(bytes as u64 * 1_000_000_000 / rate)
    }

    fn in_flight(&self) -> usize {
        self.flight.len() * MSS
    }

    fn send(&mut self) {
        let in_flight = self.in_flight();
        self.bbr.on_send(self.now, in_flight, self.rate.is_app_limited());
        let stamp = self.rate.stamp(self.now, in_flight, in_flight + MSS);
        self.busy_until = self.busy_until.max(self.now) + self.time_of(MSS, self.link);
        self.sent += 1;
        let lost = self.loss_one_of > 0 && self.sent.is_multiple_of(self.loss_one_of);
        self.flight.push_back(Packet { due: self.busy_until + self.rtt, sent_at: self.now, stamp, lost });
        self.next_send = self.now + self.time_of(MSS, self.bbr.pacing_rate);
    }

    fn acknowledge(&mut self, packet: &Packet) {
        if packet.lost {
            let loss = self.rate.on_lost(MSS, &packet.stamp);
            self.bbr.on_loss(self.now, &loss);
            return;
        }
        self.delivered += MSS as u64;
        let rate = self.rate.sample(self.now, MSS, Some((packet.sent_at, packet.stamp)), self.rtt);
        let ack = AckSample {
            rtt: Some(self.now - packet.sent_at),
            srtt: self.rtt,
            in_flight: self.in_flight(),
            total_delivered: self.rate.delivered(),
            rate,
            cwnd_limited: self.in_flight() + 2 * MSS > self.bbr.cwnd(),
            ..AckSample::new(self.now, MSS)
        };
        self.bbr.on_ack(&ack);
        if self.bbr.holds_back() {
            self.rate.mark_app_limited(self.in_flight());
        }
    }

    /// An application that always has something to send, for `time`.
    fn run(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        loop {
            let room = self.in_flight() + MSS <= self.bbr.cwnd();
            let send = room.then_some(self.next_send.max(self.now));
            let ack = self.flight.front().map(|packet| packet.due);
            let next = send.into_iter().chain(ack).min().expect("something happens");
            if next > end {
                self.now = end;
                return self;
            }
            self.now = self.now.max(next);
            if ack == Some(next) {
                let packet = self.flight.pop_front().expect("it is due");
                self.acknowledge(&packet);
            } else {
                self.send();
            }
            if self.states.last().is_none_or(|(state, _)| *state != self.bbr.state) {
                self.states.push((self.bbr.state, self.now));
            }
        }
    }

    /// An application that has nothing to send for `time`.
    fn pause(&mut self, time: Duration) -> &mut Self {
        self.rate.mark_app_limited(self.in_flight());
        let end = self.now + time;
        while let Some(packet) = self.flight.pop_front() {
            self.now = self.now.max(packet.due);
            self.acknowledge(&packet);
        }
        self.now = self.now.max(end);
        self
    }

    fn goodput(&mut self, time: Duration) -> u64 {
        let before = self.delivered;
        self.run(time);
        ((self.delivered - before) as u128 * 1_000_000_000 / time.as_nanos()) as u64
    }

    fn order(&self) -> Vec<State> {
        self.states.iter().map(|(state, _)| *state).collect()
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const LINK: u64 = 2_000_000;

#[test]
fn the_states_follow_each_other() {
    let mut play = Play::new(LINK, ms(40));
    play.run(ms(4_900));
    use State::*;
    let order = play.order();
    // Behind Drain there is no queue left for DOWN to take away.
    let cycle = [ProbeBwCruise, ProbeBwRefill, ProbeBwUp, ProbeBwDown, ProbeBwCruise];
    assert!(order.starts_with(&[Startup, Drain]) && order[2..].starts_with(&cycle), "{order:?}");
    play.run(ms(1_000));
    assert!(play.order().contains(&ProbeRtt), "five seconds without a round trip as short");
}

#[test]
fn the_model_finds_the_rate_and_the_round_trip() {
    for (link, rtt) in [(LINK, ms(40)), (100_000, ms(10)), (20_000_000, ms(5)), (1_000_000, ms(300))] {
        let mut play = Play::new(link, rtt);
        play.run(ms(3_000) + 20 * rtt);
        let bw = play.bbr.model.max_bw.get();
        assert!((link * 97 / 100..=link * 103 / 100).contains(&bw), "{link} {rtt:?}: {bw}");
        let min_rtt = play.bbr.min_rtt.min_rtt().unwrap();
        assert!(min_rtt >= rtt && min_rtt <= rtt + play.time_of(MSS, link), "{min_rtt:?}");
        let goodput = play.goodput(ms(10_000));
        assert!(goodput > link * 93 / 100, "{link} {rtt:?}: {goodput}");
    }
}

#[test]
fn startup_leaves_a_queue_that_drain_takes_away() {
    let mut play = Play::new(LINK, ms(40));
    let bdp = (LINK / 25) as usize;
    while play.bbr.state == State::Startup {
        play.run(ms(1));
    }
    assert!(play.in_flight() > bdp * 3 / 2, "{}", play.in_flight());
    let began = play.now;
    while play.bbr.state == State::Drain {
        play.run(ms(1));
    }
    assert!(play.in_flight() <= bdp + 6 * MSS, "{}", play.in_flight());
    assert!(play.now - began < 4 * ms(40), "{:?}", play.now - began);
}

#[test]
fn probe_rtt_takes_little_time_and_gives_the_window_back() {
    let mut play = Play::new(LINK, ms(40));
    play.run(ms(4_000));
    let mut least = usize::MAX;
    let before = play.bbr.cwnd();
    for _ in 0..3_000 {
        play.run(ms(1));
        if play.bbr.state == State::ProbeRtt {
            least = least.min(play.in_flight());
        }
    }
    assert!(least <= (LINK / 25 / 2) as usize + MSS, "{least}");
    let at = play.states.iter().position(|(state, _)| *state == State::ProbeRtt).unwrap();
    let took = play.states[at + 1].1 - play.states[at].1;
    assert!(took >= ms(200) && took < ms(400), "{took:?}");
    play.run(ms(500));
    assert!(play.bbr.cwnd() * 10 > before * 9, "{} of {before}", play.bbr.cwnd());
}

#[test]
fn a_faster_link_is_found_and_a_slower_one_is_followed() {
    let mut play = Play::new(LINK, ms(40));
    play.run(ms(4_000));
    play.link = 10 * LINK;
    play.run(ms(12_000));
    assert!(play.bbr.model.max_bw.get() > 9 * LINK, "{}", play.bbr.model.max_bw.get());
    play.link = LINK;
    play.run(ms(15_000));
    assert!(play.bbr.model.max_bw.get() < LINK * 11 / 10, "{}", play.bbr.model.max_bw.get());
    let queue = play.in_flight() as u64;
    assert!(queue < LINK / 25 * 3, "{queue} in flight");
}

#[test]
fn a_path_that_loses_one_in_a_hundred_keeps_its_rate() {
    let mut play = Play::new(LINK, ms(40));
    play.loss_one_of = 100;
    play.run(ms(3_000));
    let goodput = play.goodput(ms(10_000));
    assert!(goodput > LINK * 92 / 100, "{goodput}");
    assert_eq!(play.bbr.model.bw_shortterm, INFINITE);
}

#[test]
fn a_path_that_loses_one_in_ten_is_taken_for_congested() {
    let mut play = Play::new(LINK, ms(40));
    play.run(ms(2_000));
    play.loss_one_of = 10;
    play.run(ms(500));
    assert!(play.bbr.model.bw_shortterm < LINK, "{:?}", play.bbr.model);
    assert!(play.bbr.model.inflight_shortterm < INFINITE);
}

#[test]
fn a_mark_ends_startup_and_bounds_the_model() {
    let mut play = Play::new(LINK, ms(40));
    play.run(ms(150));
    assert_eq!(play.bbr.state, State::Startup);
    play.bbr.on_ecn(play.now);
    play.run(ms(60));
    assert_ne!(play.bbr.state, State::Startup);
    assert!(play.bbr.model.inflight_longterm < INFINITE);
}

#[test]
fn a_spurious_recovery_goes_back_to_startup() {
    let mut play = Play::new(LINK, ms(40));
    play.run(ms(150));
    let cwnd = play.bbr.cwnd();
    play.bbr.on_congestion(play.now);
    play.bbr.startup_is_too_fast();
    play.run(ms(50));
    assert_ne!(play.bbr.state, State::Startup);
    play.bbr.on_undo();
    assert_eq!(play.bbr.state, State::Startup);
    assert_eq!(play.bbr.model.inflight_longterm, INFINITE);
    assert!(play.bbr.cwnd() >= cwnd);
}

#[test]
fn what_a_spurious_recovery_did_in_its_first_rounds_is_undone_too() {
    let mut play = Play::new(LINK, ms(40));
    play.run(ms(2_000));
    let cwnd = play.bbr.cwnd();
    play.bbr.on_congestion(play.now);
    for _ in 0..3 {
        let (tx_in_flight, delivered) = (play.in_flight(), play.bbr.delivered);
        let loss = LossSample { bytes: tx_in_flight, tx_in_flight, lost: 99, app_limited: false, delivered };
        play.bbr.on_loss(play.now, &loss);
        play.run(ms(60));
    }
    assert!(play.bbr.model.inflight_shortterm < INFINITE);
    play.bbr.on_undo();
    let model = &play.bbr.model;
    assert_eq!((model.bw_shortterm, model.inflight_shortterm), (INFINITE, INFINITE));
    assert!(!play.bbr.in_recovery && play.bbr.cwnd() >= cwnd);
}

#[test]
fn what_overtakes_the_rest_ends_no_round() {
    let mut play = Play::new(LINK, ms(40));
    play.run(ms(2_000));
    let rounds = play.bbr.round.count;
    // Something that was sent after the round began, and is here too soon.
    for _ in 0..10 {
        let sent_at = play.now;
        let stamp = play.rate.stamp(sent_at, play.in_flight(), play.in_flight());
        play.now += ms(20);
        let rate = play.rate.sample(play.now, MSS, Some((sent_at, stamp)), ms(20));
        assert!(rate.is_some());
        let total_delivered = play.rate.delivered();
        let ack = AckSample { rate, srtt: ms(40), total_delivered, ..AckSample::new(play.now, MSS) };
        play.bbr.on_ack(&ack);
    }
    assert_eq!(play.bbr.round.count - rounds, 5, "200 ms in rounds of 40");
}

#[test]
fn the_round_trip_of_what_overtook_the_rest_is_forgotten_once_the_path_is_seen_to_reorder() {
    let mut play = Play::new(LINK, ms(40));
    play.run(ms(2_000));
    let ack = AckSample { rtt: Some(ms(20)), srtt: ms(40), ..AckSample::new(play.now, MSS) };
    play.bbr.on_ack(&ack);
    assert_eq!(play.bbr.min_rtt.min_rtt(), Some(ms(20)));
    play.bbr.on_ack(&AckSample { rtt: None, reorders: true, ..ack });
    assert_eq!(play.bbr.min_rtt.min_rtt(), Some(ms(40)));
}

#[test]
fn a_timeout_starts_from_what_is_in_flight_and_comes_back() {
    let mut play = Play::new(LINK, ms(40));
    play.run(ms(2_000));
    let before = play.bbr.cwnd();
    play.bbr.on_timeout(play.now, true);
    play.bbr.set_cwnd(MSS);
    assert_eq!(play.bbr.cwnd(), MSS);
    play.bbr.on_recovered();
    assert_eq!(play.bbr.cwnd(), before);
}

#[test]
fn a_pause_changes_nothing_in_the_model() {
    let mut play = Play::new(LINK, ms(40));
    play.run(ms(3_000));
    let (bw, cwnd) = (play.bbr.model.max_bw.get(), play.bbr.cwnd());
    play.pause(ms(3_000)).run(ms(200));
    assert_eq!(play.bbr.model.max_bw.get(), bw);
    assert!(play.bbr.cwnd() * 10 >= cwnd * 9);
    let goodput = play.goodput(ms(2_000));
    assert!(goodput > LINK * 93 / 100, "{goodput}");
}

#[test]
fn probes_are_spread_by_the_seed_alone() {
    let waits = |seed| {
        let start = CongestionStart { seed, ..testing::start(10 * MSS) };
        let mut bbr = Bbr::new(&start);
        [(); 8].map(|()| bbr.probing.random_below(1_000))
    };
    assert_eq!(waits(1), waits(1));
    assert_ne!(waits(1), waits(2));
}

#[test]
fn losses_count_up_to_where_they_were_too_many() {
    let loss = |bytes, tx_in_flight, lost| LossSample {
        bytes,
        tx_in_flight,
        lost,
        app_limited: false,
        delivered: 0,
    };
    // 2 % of 100 segments: the third lost one is too many, and two fit.
    assert_eq!(response::inflight_at_loss(&loss(1000, 100_000, 3_000)), 99_000);
    // A burst of 50 lost segments behind 50 delivered ones: one of the 51st was still in order.
    assert_eq!(response::inflight_at_loss(&loss(50_000, 100_000, 50_000)), 51_020);
    response::inflight_at_loss(&loss(usize::MAX, usize::MAX, u64::MAX));
}
