//! The expected goodput of a transfer: that of an ideal sender, computed round by round.
//!
//! A sender with a window of W packets over a path of B packets (the bandwidth-delay product) sends
//! W in each round. The round takes the round-trip time of the path, plus the queueing delay if W
//! exceeds B. A loss reduces the window by the law of the congestion control, one round is spent on
//! the repair, and the window grows again. The model has no bursts, no timers, no delayed
//! acknowledgments and no reordering. With random losses alone this gives the response functions in
//! the literature (a test compares them): 1.22 / sqrt(p) packets for Reno (RFC 5348 §3.1 without
//! its timeouts) and 1.054 (RTT / p)^(3/4) for CUBIC (RFC 9438 §5.1). In addition it includes the
//! link, its queue, the receive window, and slow start in short cells.

use crate::cell::{BUFFER, BYTES, Cell, EPOCHS, MSS, PACKET};
use netstack::config::CongestionName;
use std::ops::RangeInclusive;

/// How a congestion control changes its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Law {
    /// Half after a loss, then a packet more in each round (RFC 5681).
    Reno,
    /// Seven tenths after a loss, then the cubic of the time, or Reno if that is faster (RFC 9438).
    Cubic,
    /// Twice the bandwidth-delay product, regardless of losses as long as these are few
    /// (draft-ietf-ccwg-bbr).
    Bbr,
}

/// Share of packets that a path may lose without BBR interpreting that as congestion.
const BBR_LOSS: f64 = 0.02;

/// Packets of the first flight (RFC 6928).
const FIRST_FLIGHT: f64 = 10.0;

/// Windows smaller than this cannot be halved.
const SMALLEST: f64 = 2.0;

/// The constant C of CUBIC, in packets per second cubed.
const CUBIC_C: f64 = 0.4;

/// Minimum time until the retransmission timer expires, in addition to the round trip.
const RTO_MIN: f64 = 0.2;

/// On shorter round trips super-segments are as long as they can be, whatever the rate (as in Linux).
const NEAR: f64 = 512e-6;

/// Maximum number of rounds: more than any cell has.
const ROUNDS: u32 = 10_000_000;

/// Effects that the model ignores may make a transfer slower or faster by this factor.
const SLACK: RangeInclusive<f64> = 0.6..=1.5;

/// The outcome of random events. The window that slow start reaches before the first loss can
/// determine the result of a cell, and so can a timeout on a path of 0.1 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Luck {
    /// Losses occur at even distances, and all are repaired within a round.
    Even,
    /// The first loss occurs early, and a lost retransmission takes a timeout.
    Bad,
    /// The first loss occurs late.
    Good,
}

/// The goodput of a sender under `law` in a cell, in kbit/s of payload.
pub fn goodput_kbit(cell: &Cell, law: Law, luck: Luck) -> f64 {
    let sender = transfer(cell, law, luck);
    sender.delivered * MSS as f64 * 8e-3 / sender.time
}

/// The approximate number of packets of a cell.
pub fn packets(cell: &Cell, law: Law) -> u64 {
    transfer(cell, law, Luck::Even).delivered as u64
}

fn transfer(cell: &Cell, law: Law, luck: Luck) -> Sender {
    let mut sender = Sender::new(cell, law, luck);
    if luck != Luck::Even && law != Law::Bbr {
        // The number of losses in a cell is random: two standard deviations.
        let spread = 2.0 / f64::from(transfer(cell, law, Luck::Even).epochs.max(1)).sqrt();
        sender.loss *= if luck == Luck::Bad { 1.0 + spread } else { (1.0 - spread).max(0.0) };
    }
    let time = cell.time().as_secs_f64();
    for _ in 0..ROUNDS {
        let bytes = sender.delivered * MSS as f64;
        if sender.time >= time || sender.epochs >= EPOCHS || bytes >= BYTES as f64 {
            break;
        }
        sender.round();
    }
    sender
}

/// The range of goodputs, in kbit/s, that a correct sender under `law` reaches in a cell.
pub fn bounds_kbit(cell: &Cell, law: Law) -> RangeInclusive<u64> {
    let least = goodput_kbit(cell, law, Luck::Bad) * SLACK.start();
    let most = match law {
        // A loss by itself has no cost for BBR, so that only the link bounds its luck.
        Law::Bbr => f64::INFINITY,
        Law::Reno | Law::Cubic => goodput_kbit(cell, law, Luck::Good) * SLACK.end(),
    };
    least as u64..=most.min(link_kbit(cell)) as u64
}

/// The maximum rate of a link, in kbit/s of payload.
pub fn link_kbit(cell: &Cell) -> f64 {
    cell.rate_kbit as f64 * MSS as f64 / PACKET as f64
}

/// The ideal sender. Windows are in packets, times in seconds.
struct Sender {
    law: Law,
    /// Round-trip time without queueing.
    rtt: f64,
    /// Packets per second that the link carries.
    rate: f64,
    /// Packets that the queue holds.
    queue: f64,
    /// Packets that the path and its queue hold.
    room: f64,
    /// Share of packets with which a loss begins.
    loss: f64,
    /// Share of packets that are lost.
    lost_share: f64,
    /// Probability that a packet after a loss is lost, too.
    again: f64,
    /// Share of packets that overtake those in transit.
    reordered: f64,
    luck: Luck,
    /// The receive window.
    most: f64,
    window: f64,
    ssthresh: f64,
    /// Expected losses that have accumulated since the last one.
    due: f64,
    cubic: Cubic,
    time: f64,
    delivered: f64,
    epochs: u32,
}

/// The state of CUBIC.
#[derive(Default)]
struct Cubic {
    w_max: f64,
    /// The window of Reno with CUBIC's decrease.
    w_est: f64,
    /// When the epoch began; none in slow start.
    since: Option<f64>,
    /// The window that it began with.
    start: f64,
}

impl Law {
    /// The law of an algorithm.
    ///
    /// # Panics
    /// If it is not one of those that are built in.
    pub fn of(congestion: CongestionName) -> Self {
        match congestion {
            CongestionName::RENO => Self::Reno,
            CongestionName::CUBIC => Self::Cubic,
            CongestionName::BBR => Self::Bbr,
            other => panic!("there is no model of `{other}`"),
        }
    }
}

impl Sender {
    fn new(cell: &Cell, law: Law, luck: Luck) -> Self {
        let rtt = cell.rtt_us as f64 * 1e-6;
        let rate = cell.rate_kbit as f64 * 1e3 / (PACKET as f64 * 8.0);
        let lost_share = cell.loss_bp as f64 * 1e-4;
        Self {
            law,
            rtt,
            rate,
            queue: cell.queue() as f64 / PACKET as f64,
            room: rate * rtt + cell.queue() as f64 / PACKET as f64,
            loss: lost_share / cell.burst as f64,
            lost_share,
            again: lost_share.max(1.0 - 1.0 / cell.burst as f64),
            reordered: cell.reorder_percent as f64 / 100.0,
            luck,
            most: (BUFFER / 2) as f64 / MSS as f64,
            window: FIRST_FLIGHT,
            ssthresh: f64::INFINITY,
            due: match luck {
                Luck::Even => 0.0,
                Luck::Bad => 0.9,
                // As in one cell of some thousands.
                Luck::Good => -7.0,
            },
            cubic: Cubic::default(),
            // The handshake.
            time: rtt,
            delivered: 0.0,
            epochs: 0,
        }
    }

    fn round(&mut self) {
        let window = self.window.min(self.most);
        let duration = self.duration(window);
        self.time += duration;
        self.due += window * self.loss;
        // Packets that do not fit are dropped and have to be retransmitted.
        self.delivered += window.min(self.room) * (1.0 - self.lost_share);
        // Slow start sends two packets for each that left the link, so half of a round's packets
        // are in the queue before the path is full: without pacing, a short queue ends it.
        let slow_start = self.window < self.ssthresh && self.law != Law::Bbr;
        // And a super-segment within the machine room carries a third of the window.
        let near = self.rtt < NEAR && window / 3.0 > self.queue;
        let bursts = self.luck == Luck::Bad && (near || slow_start && window / 2.0 > self.queue);
        if window > self.room || bursts || self.due >= 1.0 {
            self.due = self.due.fract();
            // It grows for a round more until the loss is known, from twice what the queue holds.
            let reached = if bursts && slow_start { window.max(4.0 * self.queue) } else { window };
            self.on_loss(reached.min(self.room), bursts);
        } else {
            self.grow(window, duration);
        }
    }

    fn duration(&self, window: f64) -> f64 {
        self.rtt.max(window.min(self.room) / self.rate).max(1.0 / self.rate)
    }

    fn on_loss(&mut self, window: f64, bursts: bool) {
        self.epochs += 1;
        // A retransmission that overtakes half a window makes the receiver drop that half, because
        // of its older timestamps (RFC 7323 §5.3), so all of it has to be retransmitted.
        let overtaken = if self.luck == Luck::Bad { self.reordered * window / 2.0 } else { 0.0 };
        self.delivered -= overtaken.min(self.delivered);
        let beta = match self.law {
            Law::Reno => 0.5,
            Law::Bbr if !bursts && self.lost_share * (1.0 + overtaken) <= BBR_LOSS => 1.0,
            Law::Cubic | Law::Bbr => 0.7,
        };
        // RFC 9438 §4.7: a flow with a loss before it has reached its former window releases
        // bandwidth.
        let fast = window < self.cubic.w_max;
        self.cubic.w_max = if fast { window * (1.0 + beta) / 2.0 } else { window };
        self.cubic.since = Some(self.time);
        self.ssthresh = (window * beta).max(SMALLEST);
        self.cubic.start = self.ssthresh;
        self.cubic.w_est = self.ssthresh;
        if self.luck == Luck::Bad {
            // Of fifty recoveries, three times as many as on average.
            self.time += (3.0 * self.again).min(1.0) * (self.rtt + RTO_MIN);
        }
        self.window = self.ssthresh;
        // The round of repair, with the window that is left.
        self.time += self.duration(self.window);
        self.delivered += self.window * (1.0 - self.lost_share);
        self.due += self.window * self.loss;
    }

    fn grow(&mut self, window: f64, duration: f64) {
        if window < self.window {
            // The receive window is the limit.
            return;
        }
        if window < self.ssthresh {
            self.window = (2.0 * window).min(self.ssthresh);
            return;
        }
        match self.law {
            Law::Reno => self.window += 1.0,
            Law::Bbr => self.window = (2.0 * window).min(2.0 * self.rate * self.rtt).max(window),
            Law::Cubic => {
                let since = *self.cubic.since.get_or_insert(self.time);
                let k = ((self.cubic.w_max - self.cubic.start).max(0.0) / CUBIC_C).cbrt();
                let target = CUBIC_C * (self.time - since + duration - k).powi(3) + self.cubic.w_max;
                // RFC 9438 §4.3: as fast as Reno on average, with 0.7 for its half.
                let alpha = if self.cubic.w_est < self.cubic.w_max { 9.0 / 17.0 } else { 1.0 };
                self.cubic.w_est += alpha;
                self.window = target.clamp(window, 1.5 * window).max(self.cubic.w_est);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path on which nothing but random losses limits.
    fn cell(loss_bp: u64, rtt_us: u64) -> Cell {
        Cell { rate_kbit: 10_000_000, rtt_us, buffer_percent: 100, reorder_percent: 0, loss_bp, burst: 1 }
    }

    /// In the long run: slow start before the first loss leaves a window that takes many losses to
    /// forget.
    fn packets_per_round(cell: &Cell, law: Law) -> f64 {
        let mut sender = Sender::new(cell, law, Luck::Even);
        let mut run = |epochs| {
            while sender.epochs < epochs {
                sender.round();
            }
            (sender.delivered, sender.time)
        };
        let (begin, end) = (run(100), run(1_000));
        (end.0 - begin.0) / (end.1 - begin.1) * cell.rtt_us as f64 * 1e-6
    }

    #[test]
    fn reno_follows_its_response_function() {
        for (loss_bp, rtt_us) in [(1, 10_000), (10, 50_000), (100, 100_000)] {
            let p = loss_bp as f64 * 1e-4;
            let ratio = packets_per_round(&cell(loss_bp, rtt_us), Law::Reno) / (1.5 / p).sqrt();
            assert!((0.85..1.25).contains(&ratio), "{loss_bp} {rtt_us}: {ratio}");
        }
    }

    #[test]
    fn cubic_follows_its_response_function() {
        for (loss_bp, rtt_us) in [(1, 50_000), (1, 300_000), (10, 300_000)] {
            let p = loss_bp as f64 * 1e-4;
            let cubic = 1.054 * (rtt_us as f64 * 1e-6 / p).powf(0.75);
            // In its Reno-friendly region it is as fast as that.
            let expected = cubic.max((1.5 / p).sqrt());
            let ratio = packets_per_round(&cell(loss_bp, rtt_us), Law::Cubic) / expected;
            assert!((0.8..1.3).contains(&ratio), "{loss_bp} {rtt_us}: {ratio}");
        }
    }

    #[test]
    fn a_short_queue_ends_slow_start_before_the_path_is_full() {
        let reached = |buffer_percent, law| {
            let mut sender = Sender::new(
                &Cell { rate_kbit: 1_000_000, buffer_percent, ..cell(0, 20_000) },
                law,
                Luck::Bad,
            );
            while sender.epochs == 0 {
                sender.round();
            }
            sender.window
        };
        // A path of 1,667 packets: the queue is of a tenth of that, or of all of it.
        let path = 1_667.0;
        assert!(reached(10, Law::Reno) < path / 4.0, "{}", reached(10, Law::Reno));
        assert!(reached(100, Law::Reno) > path / 2.0, "{}", reached(100, Law::Reno));
        assert!(reached(10, Law::Bbr) > path / 2.0, "BBR paces");
    }

    #[test]
    fn a_retransmission_that_overtakes_costs_more_the_larger_the_window() {
        let share = |reorder_percent, rate_kbit| {
            let cell = Cell { rate_kbit, reorder_percent, ..cell(100, 50_000) };
            let even = goodput_kbit(&cell, Law::Bbr, Luck::Even);
            goodput_kbit(&cell, Law::Bbr, Luck::Bad) / even
        };
        assert!(share(30, 100_000) < share(0, 100_000) / 2.0, "{} {}", share(30, 100_000), share(0, 100_000));
        assert!(
            share(30, 1_000) > share(0, 1_000) / 2.0,
            "few packets are on the way: {} {}",
            share(30, 1_000),
            share(0, 1_000)
        );
    }

    #[test]
    fn nothing_exceeds_the_link_or_the_window() {
        for law in [Law::Reno, Law::Cubic] {
            let clean = Cell { rate_kbit: 100_000, ..cell(0, 20_000) };
            let link = link_kbit(&clean);
            let goodput = goodput_kbit(&clean, law, Luck::Even);
            assert!(goodput <= link && goodput > 0.95 * link, "{goodput} of {link}");
            let far = cell(0, 300_000);
            let window = (BUFFER / 2) as f64 * 8e-3 / 0.3;
            assert!((0.8..=1.0).contains(&(goodput_kbit(&far, law, Luck::Even) / window)), "{law:?}");
        }
    }
}
