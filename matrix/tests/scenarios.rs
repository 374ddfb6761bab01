//! Individual properties of transfers over impaired paths, with numeric limits.

#![forbid(unsafe_code)]

use netstack::Config;
use netstack::config::CongestionName;
use netstack::tcp::CongestionState;
use netstack::time::{Duration, Instant};
use netstack_matrix::cell::{Cell, MSS};
use netstack_matrix::net::{FlowId, Net};

/// 20 ms and a queue of one BDP.
const CLEAN: Cell =
    Cell { rate_kbit: 20_000, rtt_us: 20_000, buffer_percent: 100, reorder_percent: 0, loss_bp: 0, burst: 1 };

/// Lets virtual time pass until `at`.
fn run_until(net: &mut Net, at: Instant) {
    while net.step(at).unwrap() {}
}

/// Spurious retransmissions so far: segments that were retransmitted although they were not lost.
fn spurious(net: &Net, flow: FlowId) -> u64 {
    let stats = net.forward_stats();
    net.info(flow).unwrap().total_retrans.saturating_sub(stats.lost + stats.queue_drops)
}

/// Jain's index of fairness.
fn jain(values: &[u64]) -> f64 {
    let sum: f64 = values.iter().map(|&value| value as f64).sum();
    let squares: f64 = values.iter().map(|&value| (value as f64).powi(2)).sum();
    sum * sum / (values.len() as f64 * squares)
}

/// 20 Mbit/s, so that it takes seconds; `netstack-bench recovery --fairness` does it at 100.
#[test]
fn two_flows_of_a_kind_share_a_link() {
    for congestion in CongestionName::BUILT_IN {
        let mut net = CLEAN.net().unwrap();
        let start = net.now();
        let flows = [congestion; 2].map(|congestion| net.start(congestion, u64::MAX).unwrap());
        run_until(&mut net, start + Duration::from_secs(10));
        let before = flows.map(|flow| net.received(flow));
        run_until(&mut net, start + Duration::from_secs(60));
        let shares = [0, 1].map(|at| net.received(flows[at]) - before[at]);
        assert!(jain(&shares) >= 0.95, "{congestion}: {shares:?}");
        let all = shares.iter().sum::<u64>() * 8 / 50_000;
        assert!(all > CLEAN.rate_kbit * 9 / 10, "{congestion}: {all} kbit/s together");
    }
}

/// `Config::recv_buffer_max` is what Linux has as `tcp_rmem[2]`, 32 MiB: its window, some 25 MB, is a round trip's
/// worth here. The kernel as receiver gives 1,294 Mbit/s on such a path; with the 6 MiB of before it was 243.
#[test]
fn a_receive_buffer_of_the_default_size_fills_a_long_path() {
    let cell = Cell { rate_kbit: 2_000_000, rtt_us: 100_000, ..CLEAN };
    let config = Cell::config().with(|config| config.recv_buffer_max = Config::default().recv_buffer_max);
    let mut net = Net::new(&cell.path(), &config, 1).unwrap();
    let start = net.now();
    let flow = net.start(CongestionName::CUBIC, u64::MAX).unwrap();
    run_until(&mut net, start + Duration::from_secs(4));
    let before = net.received(flow);
    run_until(&mut net, start + Duration::from_secs(8));
    let mbit = (net.received(flow) - before) * 8 / 4_000_000;
    assert!(mbit > 1_294, "{mbit} Mbit/s");
}

#[test]
fn heavy_reordering_is_not_taken_for_loss_once_it_is_known() {
    let cell = Cell { reorder_percent: 30, rtt_us: 50_000, ..CLEAN };
    for congestion in CongestionName::BUILT_IN {
        let mut net = cell.net().unwrap();
        let start = net.now();
        let flow = net.start(congestion, u64::MAX).unwrap();
        run_until(&mut net, start + Duration::from_secs(2));
        let (learnt, received) = (spurious(&net, flow), net.received(flow));
        run_until(&mut net, start + Duration::from_secs(22));
        let unneeded = spurious(&net, flow) - learnt;
        let segments = (net.received(flow) - received) / MSS;
        assert!(segments > 10_000, "{congestion}: {segments} segments");
        assert!(unneeded * 100 < segments * 2, "{congestion}: {unneeded} of {segments} spurious");
    }
}

/// With buffers of the default size the peer's window is used up behind the first hole. When that is filled,
/// nothing is in the network, and the whole congestion window is free at once: more than the queue holds.
#[test]
fn a_window_that_opens_at_once_in_a_recovery_or_at_its_end_is_spread_over_a_round_trip() {
    let cell = Cell { rate_kbit: 100_000, rtt_us: 100_000, reorder_percent: 5, ..CLEAN };
    for (congestion, seed) in
        (1..=6).flat_map(|seed| [CongestionName::RENO, CongestionName::CUBIC].map(|name| (name, seed)))
    {
        let mut path = cell.path();
        path.forward.seed = seed;
        path.back.seed = seed;
        let mut net = Net::new(&path, &Config::default(), seed).unwrap();
        let start = net.now();
        let flow = net.start(congestion, u64::MAX).unwrap();
        let (mut in_recovery, mut recoveries, mut sent, mut largest) = (false, 0, 0, 0);
        while net.step(start + Duration::from_secs(4)).unwrap() {
            let packets = net.forward_stats().packets;
            let recovers = net.info(flow).is_some_and(|info| info.ca_state == CongestionState::Recovery);
            if in_recovery {
                recoveries += u32::from(!recovers);
                largest = largest.max(packets - sent);
            }
            (in_recovery, sent) = (recovers, packets);
        }
        assert!(recoveries > 0, "{congestion}: nothing was lost");
        assert!(largest <= 64, "{congestion}, seed {seed}: {largest} packets left at once");
    }
}

/// A packet that overtakes when nothing is missing in front of it arrives in order, and its round trip is
/// half of the others'. Beside it the others must not look like a queue that grows.
#[test]
fn slow_start_does_not_end_early_where_packets_overtake() {
    let cell = Cell { rate_kbit: 1_000_000, reorder_percent: 30, ..CLEAN };
    for seed in 14..=17 {
        let mut path = cell.path();
        path.forward.seed = seed;
        path.back.seed = seed;
        let config = Config::default().with(|config| {
            config.recv_buffer_max = 64 << 20;
            config.send_buffer_max = 64 << 20;
        });
        let mut net = Net::new(&path, &config, seed).unwrap();
        let start = net.now();
        let flow = net.start(CongestionName::CUBIC, u64::MAX).unwrap();
        run_until(&mut net, start + Duration::from_millis(400));
        let kbit = net.received(flow) * 8 / 400;
        assert!(kbit > cell.rate_kbit / 3, "seed {seed}: {kbit} kbit/s");
    }
}

/// The round trip is a tenth of the timestamp clock's tick, and what is overtaken is sent again before it
/// arrives: only the duplicates that the receiver reports show that the path reorders.
#[test]
fn duplicates_show_that_a_short_path_reorders() {
    let cell: Cell = "10000000,100,400,30,100,1".parse().unwrap();
    let outcome = cell.run(CongestionName::BBR).unwrap();
    assert!(outcome.spurious() * 50 < outcome.sent, "{outcome:?}");
}

/// The link is restored while the sender waits for its next retransmission. The transfer must
/// continue with that retransmission, and not later.
#[test]
fn after_an_outage_the_next_retransmission_that_was_due_resumes() {
    for congestion in CongestionName::BUILT_IN {
        let mut net = CLEAN.net().unwrap();
        let start = net.now();
        let flow = net.start(congestion, u64::MAX).unwrap();
        run_until(&mut net, start + Duration::from_secs(5));
        net.set_down(true);
        let mut retransmitted = Vec::new();
        let mut count = net.info(flow).unwrap().total_retrans;
        let back = net.now() + Duration::from_secs(3);
        while net.step(back).unwrap() {
            let now = net.info(flow).unwrap().total_retrans;
            if now > count {
                retransmitted.push(net.now());
                count = now;
            }
        }
        net.set_down(false);
        // Each timeout is at most twice as long as the one before.
        let [.., before, last] = retransmitted[..] else { panic!("{congestion}: {retransmitted:?}") };
        let due = last + 2 * (last - before) + Duration::from_millis(1);
        let received = net.received(flow);
        // The retransmitted data may have arrived before, if only its acknowledgment was lost; then
        // the data after it is new. The echoed timestamp even makes the timeout look spurious (RFC
        // 4015), and only the next tail loss probe shows that it was not.
        run_until(&mut net, due + 8 * CLEAN.rtt());
        assert!(
            net.received(flow) > received,
            "{congestion}: retransmitted at {retransmitted:?}, back at {back:?}"
        );
        // The goodput soon reaches its former value.
        run_until(&mut net, due + Duration::from_secs(5));
        let kbit = (net.received(flow) - received) * 8 / 5_000;
        assert!(kbit > CLEAN.rate_kbit * 6 / 10, "{congestion}: {kbit} kbit/s");
    }
}
