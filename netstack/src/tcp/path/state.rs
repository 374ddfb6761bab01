//! What a connection finds out about its path, and what follows for how much it may send.

mod metrics;
mod rate;
mod rest;

pub(in crate::tcp) use rate::Departure;

use super::known::Path;
use super::pacing::Pacer;
use super::packet_size::PacketSize;
use crate::config::Config;
use crate::memory::block;
use crate::tcp::congestion::{CongestionControl, CongestionStart};
use crate::tcp::options::SocketOptions;
use crate::tcp::recovery::RttEstimator;
use crate::time::{Duration, Instant};
use std::sync::Arc;

/// The path as one connection knows it.
#[derive(Debug)]
pub(in crate::tcp) struct PathState {
    config: Arc<Config>,
    rtt: RttEstimator,
    /// How much may be in flight.
    cc: Box<dyn CongestionControl>,
    pacer: Pacer,
    /// Until when a window that opened at once is spread over a round trip.
    spread_until: Option<Instant>,
    /// `SO_MAX_PACING_RATE` in bytes a second.
    max_rate: Option<u64>,
    size: PacketSize,
}

/// What a connection knows of its path when it begins.
#[derive(Debug)]
pub(in crate::tcp) struct PathSetup {
    pub(in crate::tcp) path: Path,
    /// The MSS that both ends agreed on, options not counted.
    pub(in crate::tcp) max_segment: usize,
    /// Bytes of the options that every segment carries.
    pub(in crate::tcp) options_len: usize,
    /// The handshake's round-trip time, if Karn's rule lets us use it.
    pub(in crate::tcp) rtt: Option<Duration>,
    /// How often our SYN or SYN-ACK had to be sent again.
    pub(in crate::tcp) syn_timeouts: u32,
    /// Whether the peer reports what it received out of order (SACK).
    pub(in crate::tcp) sack: bool,
    /// Where congestion control takes chance from.
    pub(in crate::tcp) seed: u64,
}

impl PathState {
    /// The settings were changed.
    pub(in crate::tcp) fn set_config(&mut self, config: Arc<Config>) {
        self.config = config;
    }

    pub(in crate::tcp) fn new(
        now: Instant,
        setup: &PathSetup,
        options: &SocketOptions,
        config: &Arc<Config>,
    ) -> Self {
        let &PathSetup { path, max_segment, options_len, rtt: measured, syn_timeouts, sack, seed } = setup;
        // A socket that does not follow ICMP does not follow what others learned from it either.
        let pmtu = if options.mtu_discover.follows_icmp() { path.pmtu } else { path.mtu };
        let size = PacketSize::new(now, Path { pmtu, ..path }, max_segment, options_len, config);
        let mss = size.mss();
        let mut rtt = RttEstimator::new(config);
        if let Some(sample) = measured {
            rtt.on_sample(now, sample, 1);
        } else if syn_timeouts > 0 {
            rtt.after_syn_timeout();
        }
        if let Some(known) = path.metrics.rtt {
            rtt.seed(known);
        }
        // RFC 6928 §2; after a loss RFC 5681 §3.1 starts with one segment, Linux too once the SYN
        // was lost more than once, and leaves a single loss unpunished.
        let start = CongestionStart {
            now,
            mss,
            cwnd: if syn_timeouts > 1 { mss } else { config.initial_window as usize * mss },
            // Where earlier connections to the host had to slow down (`tcp_init_metrics` in Linux).
            ssthresh: path.metrics.ssthresh.map_or(usize::MAX, |segments| segments as usize * mss),
            hystart: config.hystart,
            srtt: rtt.srtt().unwrap_or_default(),
            sack,
            seed,
        };
        Self {
            config: Arc::clone(config),
            rtt,
            cc: options.congestion.start(&start),
            pacer: Pacer::new(now),
            spread_until: None,
            max_rate: options.max_pacing_rate,
            size,
        }
    }

    /// The round-trip time, and the time-out that follows from it.
    pub(in crate::tcp) fn rtt(&self) -> &RttEstimator {
        &self.rtt
    }

    /// The retransmission time-out, backed off.
    pub(in crate::tcp) fn rto(&self) -> Duration {
        self.rtt.rto()
    }

    /// The smoothed round-trip time.
    pub(in crate::tcp) fn srtt(&self) -> Option<Duration> {
        self.rtt.srtt()
    }

    /// The congestion window in bytes.
    pub(in crate::tcp) fn cwnd(&self) -> usize {
        self.cc.cwnd()
    }

    /// The slow start threshold in bytes.
    pub(in crate::tcp) fn ssthresh(&self) -> usize {
        self.cc.ssthresh()
    }

    /// How large packets may be.
    pub(in crate::tcp) fn size(&self) -> &PacketSize {
        &self.size
    }

    /// How large packets may be, for events that change it.
    pub(in crate::tcp) fn size_mut(&mut self) -> &mut PacketSize {
        &mut self.size
    }

    /// The answer to our SYN-ACK came: `sample` is how long it took, if that is known.
    pub(in crate::tcp) fn on_handshake(&mut self, now: Instant, sample: Option<Duration>) {
        match sample {
            Some(sample) => self.rtt.on_sample(now, sample, 1),
            None => self.rtt.after_syn_timeout(),
        }
    }

    /// A timer expired: the next time-out is twice as long (RFC 6298 §5.5).
    pub(in crate::tcp) fn back_off(&mut self) {
        self.rtt.back_off();
    }

    /// The peer's window opened: what was waited for it says nothing of the path.
    pub(in crate::tcp) fn reset_backoff(&mut self) {
        self.rtt.reset_backoff();
    }

    /// Memory beside its own, in bytes.
    pub(in crate::tcp) fn memory(&self) -> usize {
        block(size_of_val(&*self.cc))
    }

    /// What recovery writes to as it learns what arrived and what did not.
    pub(in crate::tcp) fn for_recovery(&mut self) -> (&mut RttEstimator, &mut dyn CongestionControl) {
        (&mut self.rtt, self.cc.as_mut())
    }

    /// Data is about to be sent while `in_flight` bytes are in the network.
    pub(in crate::tcp) fn on_send(&mut self, now: Instant, in_flight: usize, app_limited: bool) {
        self.cc.on_send(now, in_flight, app_limited);
    }

    /// The slow start threshold below which half of the window in use is enough for it to grow. Slow
    /// start is for those whose window others move.
    pub(in crate::tcp) fn slow_start_until(&self) -> usize {
        if self.cc.controls_window() { 0 } else { self.cc.ssthresh() }
    }

    /// The sender chose to use no more than `used` bytes of the window for an RTO (RFC 7661 §4.4).
    pub(in crate::tcp) fn on_window_unused(&mut self, used: usize, mss: usize) {
        if self.shrinks_when_idle() {
            self.cc.on_unused(used.max(self.initial_window(mss)));
        }
    }

    /// Nothing was sent for `idle`, although it might have been. If that is longer than the RTO the
    /// window says nothing of the path any more, and starts anew (RFC 5681 §4.1). Whether it does.
    pub(in crate::tcp) fn on_pause(&mut self, idle: Duration, mss: usize) -> bool {
        let rto = self.rtt.rto();
        let restarts = idle > rto && self.shrinks_when_idle();
        if restarts {
            let restart = self.initial_window(mss);
            self.cc.on_idle(idle, rto, restart);
        }
        restarts
    }

    /// Takes over the MSS that the packet sizes allow, `old` being the present one. Returns it.
    pub(in crate::tcp) fn follow_size(&mut self, old: usize) -> usize {
        let new = self.size.mss();
        if new != old {
            // RFC 4821 §4: a larger MSS does not make the window larger, in bytes. With a smaller one
            // it keeps its number of segments, and shrinks (RFC 5681 §3.1).
            let cwnd = self.cc.cwnd();
            self.cc.on_mss_change(new);
            if new > old {
                self.cc.set_cwnd(cwnd.max(new));
            }
        }
        new
    }

    /// Data was sent again for longer than `retries1` stands for and nothing came back.
    pub(in crate::tcp) fn on_black_hole(&mut self, now: Instant) {
        self.size.on_black_hole(now, &self.config);
    }

    /// Payload bytes of the next probe of the path's MTU, see [`PacketSize::next_probe`].
    pub(in crate::tcp) fn next_mtu_probe(&mut self, now: Instant, overhead: usize) -> Option<usize> {
        self.size.next_probe(now, overhead, &self.config)
    }

    /// Another algorithm takes over the window and the threshold as they are. `seed` is where it takes
    /// chance from.
    pub(in crate::tcp) fn change_congestion(
        &mut self,
        now: Instant,
        options: &SocketOptions,
        mss: usize,
        sack: bool,
        seed: u64,
    ) {
        let start = CongestionStart {
            now,
            mss,
            cwnd: self.cc.cwnd(),
            ssthresh: self.cc.ssthresh(),
            hystart: self.config.hystart,
            srtt: self.rtt.srtt().unwrap_or_default(),
            sack,
            seed,
        };
        self.cc = options.congestion.start(&start);
    }

    fn shrinks_when_idle(&self) -> bool {
        self.config.slow_start_after_idle && !self.cc.controls_window()
    }

    /// The initial window in bytes (RFC 6928).
    fn initial_window(&self, mss: usize) -> usize {
        self.config.initial_window as usize * mss
    }
}
