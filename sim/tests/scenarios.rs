//! Individual properties of transfers over impaired paths, with numeric limits.

#![forbid(unsafe_code)]

use netstack::config::CongestionName;
use netstack::time::{Duration, Instant};
use netstack_sim::cell::{Cell, MSS};
use netstack_sim::net::{FlowId, Net};

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
