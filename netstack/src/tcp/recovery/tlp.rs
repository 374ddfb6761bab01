//! The tail loss probe (RFC 8985 §7): when the last segments of a flight are lost, no acknowledgment
//! shows it. A segment sent after two round trips of silence makes the peer answer, long before the
//! retransmission timer would.

use super::rtt::RttEstimator;
use crate::config::Config;
use crate::tcp::compact::compact;
use crate::tcp::seq::Seq;
use crate::time::Duration;

/// Added to the probe time-out where several segments are out: two ticks of a kernel's clock, as in
/// Linux, so that timers that are a little early do not probe what is answered in time.
const SLACK: Duration = Duration::from_millis(2);

/// The probe that is out.
#[derive(Clone, Copy, Debug)]
struct Probe {
    /// TLP.end_seq: SND.NXT when it was sent.
    end: Seq,
    /// TLP.is_retrans: whether it repeated something.
    retransmission: bool,
}

compact!(Probe { end, retransmission });

/// The state of RFC 8985 §7.1.
#[derive(Debug, Default)]
pub(super) struct TailProbe {
    probe: Option<Probe>,
}

compact!(TailProbe { probe });

/// What an acknowledgment says of a probe.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeAnswer {
    pub(super) una: Seq,
    /// Whether a DSACK reports the probe itself.
    pub(super) dsacked: bool,
    /// Whether it only repeats what the one before said.
    pub(super) pure_duplicate: bool,
}

impl TailProbe {
    /// PTO: how long to wait for an acknowledgment (RFC 8985 §7.2).
    pub(super) fn timeout(rtt: &RttEstimator, one_segment: bool, config: &Config) -> Duration {
        match rtt.srtt() {
            // A lone segment's acknowledgment may be delayed (TLP.max_ack_delay).
            Some(srtt) => srtt + srtt + if one_segment { config.rto_min } else { SLACK },
            None => config.rto_initial,
        }
    }

    /// Whether a probe is out: one in a tail's episode is enough.
    pub(super) fn is_out(&self) -> bool {
        self.probe.is_some()
    }

    /// Whether a probe is out that repeated something.
    pub(super) fn is_retransmission_out(&self) -> bool {
        self.probe.is_some_and(|probe| probe.retransmission)
    }

    /// A probe left.
    pub(super) fn on_sent(&mut self, snd_nxt: Seq, retransmission: bool) {
        self.probe = Some(Probe { end: snd_nxt, retransmission });
    }

    /// Recovery began: what was lost will be found by other means.
    pub(super) fn forget(&mut self) {
        self.probe = None;
    }

    /// Whether a DSACK up to `end` is about the probe.
    pub(super) fn ends_at(&self, end: Seq) -> bool {
        self.probe.is_some_and(|probe| probe.end == end)
    }

    /// RFC 8985 §7.4.2: whether the probe repaired a loss, for which the window must be reduced as
    /// for any other.
    pub(super) fn repaired_a_loss(&mut self, answer: ProbeAnswer) -> bool {
        let Some(probe) = self.probe.filter(|probe| answer.una >= probe.end) else { return false };
        // New data that arrived, or an original that arrived beside its copy: nothing was lost.
        if !probe.retransmission || answer.dsacked {
            self.probe = None;
            return false;
        }
        // More than the probe's episode is acknowledged, and no duplicate of it was reported.
        if answer.una > probe.end {
            self.probe = None;
            return true;
        }
        if answer.pure_duplicate {
            self.probe = None;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::SeqNum;

    fn seq(n: usize) -> Seq {
        Seq::initial(SeqNum::new(1)) + n
    }

    fn answer(una: usize) -> ProbeAnswer {
        ProbeAnswer { una: seq(una), dsacked: false, pure_duplicate: false }
    }

    fn after(retransmission: bool) -> TailProbe {
        let mut tlp = TailProbe::default();
        tlp.on_sent(seq(100), retransmission);
        tlp
    }

    #[test]
    fn a_probe_of_new_data_says_nothing_of_losses() {
        let mut tlp = after(false);
        assert!(!tlp.repaired_a_loss(answer(90)) && tlp.is_out());
        assert!(!tlp.repaired_a_loss(answer(100)) && !tlp.is_out());
    }

    #[test]
    fn a_copy_that_is_not_reported_as_a_duplicate_was_needed() {
        let mut tlp = after(true);
        assert!(!tlp.repaired_a_loss(answer(100)) && tlp.is_out(), "the duplicate may still be reported");
        assert!(tlp.repaired_a_loss(answer(101)) && !tlp.is_out());
    }

    #[test]
    fn a_copy_that_comes_back_as_a_duplicate_was_not() {
        let mut tlp = after(true);
        assert!(!tlp.repaired_a_loss(ProbeAnswer { dsacked: true, ..answer(100) }) && !tlp.is_out());
        let mut tlp = after(true);
        assert!(!tlp.repaired_a_loss(answer(100)));
        assert!(!tlp.repaired_a_loss(ProbeAnswer { pure_duplicate: true, ..answer(100) }) && !tlp.is_out());
    }

    #[test]
    fn the_probe_waits_two_round_trips_and_longer_for_a_lone_segment() {
        let config = Config::default();
        let mut rtt = RttEstimator::new(&config);
        assert_eq!(TailProbe::timeout(&rtt, true, &config), Duration::from_secs(1));
        rtt.on_sample(crate::time::Instant::ZERO, Duration::from_millis(30), 1);
        assert_eq!(TailProbe::timeout(&rtt, false, &config), Duration::from_millis(62));
        assert_eq!(TailProbe::timeout(&rtt, true, &config), Duration::from_millis(260));
    }
}
