//! Proportional rate reduction (RFC 6937, with the reduction bound of RFC 9937): how much each
//! acknowledgment in fast recovery lets out.

use crate::tcp::compact::compact;

/// The variables of one recovery, in bytes.
#[derive(Debug, Default)]
pub(super) struct Prr {
    /// Delivered to the peer since recovery began.
    delivered: usize,
    /// Sent since recovery began.
    out: usize,
    /// RecoverFS: the congestion window when it began, as in Linux; what was in flight in the RFC.
    recover_fs: usize,
}

compact!(Prr { delivered, out, recover_fs });

/// What one acknowledgment said.
#[derive(Clone, Copy, Debug)]
pub(super) struct PrrInput {
    /// Newly acknowledged or SACKed bytes.
    pub(super) delivered: usize,
    /// Bytes in the network now.
    pub(super) pipe: usize,
    /// Where the window goes.
    pub(super) ssthresh: usize,
    /// SafeACK: whether SND.UNA advanced and nothing more was found lost.
    pub(super) safe: bool,
    /// Segment size.
    pub(super) mss: usize,
}

impl Prr {
    /// Recovery begins with a window of `cwnd` bytes.
    pub(super) fn start(cwnd: usize) -> Self {
        Self { delivered: 0, out: 0, recover_fs: cwnd.max(1) }
    }

    /// Something was sent.
    pub(super) fn on_sent(&mut self, bytes: usize) {
        self.out += bytes;
    }

    /// The congestion window after an acknowledgment.
    pub(super) fn cwnd(&mut self, ack: PrrInput) -> usize {
        let PrrInput { delivered, pipe, ssthresh, safe, mss } = ack;
        self.delivered += delivered;
        let allowed = if pipe > ssthresh {
            let share = (self.delivered as u128 * ssthresh as u128).div_ceil(self.recover_fs as u128);
            // In whole segments, rounded up as in Linux.
            ((share as usize).div_ceil(mss) * mss).saturating_sub(self.out)
        } else {
            // The slow-start bound while all goes well, the conservative one while losses go on.
            let mut limit = self.delivered.saturating_sub(self.out).max(delivered);
            if safe {
                limit += mss;
            }
            (ssthresh - pipe).min(limit)
        };
        // The fast retransmission itself always leaves.
        let allowed = if self.out == 0 { allowed.max(mss) } else { allowed };
        pipe + allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: usize = 1000;

    fn ack(delivered: usize, pipe: usize, safe: bool) -> PrrInput {
        PrrInput { delivered, pipe, ssthresh: 10 * MSS, safe, mss: MSS }
    }

    #[test]
    fn half_a_window_leaves_one_segment_for_two_delivered() {
        let mut prr = Prr::start(20 * MSS);
        let mut pipe = 19 * MSS;
        let mut sent = 0;
        for _ in 0..8 {
            pipe -= MSS;
            let room = prr.cwnd(ack(MSS, pipe, false)).saturating_sub(pipe) / MSS * MSS;
            prr.on_sent(room);
            pipe += room;
            sent += room;
        }
        assert_eq!(sent, 4 * MSS);
    }

    #[test]
    fn below_the_threshold_it_slow_starts_while_all_goes_well() {
        let mut prr = Prr::start(20 * MSS);
        prr.on_sent(MSS);
        prr.delivered = MSS;
        assert_eq!(prr.cwnd(ack(MSS, 4 * MSS, true)), 6 * MSS);
        assert_eq!(prr.cwnd(ack(MSS, 9_900, true)), 10 * MSS, "never above the threshold");
    }

    #[test]
    fn the_first_retransmission_always_leaves() {
        let mut prr = Prr::start(20 * MSS);
        assert_eq!(prr.cwnd(ack(0, 19 * MSS, false)), 20 * MSS);
    }
}
