//! What holds of a scoreboard at any time, for tests and simulations.

use super::{Fate, Scoreboard};
use crate::tcp::seq::Seq;

impl Scoreboard {
    /// How many ranges are told apart.
    pub(in crate::tcp) fn records(&self) -> usize {
        self.count()
    }

    /// The ranges that the peer has reported as received.
    pub(in crate::tcp) fn sacked_ranges(&self) -> impl Iterator<Item = (Seq, Seq)> {
        let sacked = self.filed().records.iter().filter(|(_, record)| record.fate == Fate::Sacked);
        sacked.map(|(start, record)| (*start, record.end))
    }

    /// Checks that the records cover `una..nxt` without gaps, and that the indices and sums agree with
    /// them.
    pub(in crate::tcp) fn check(&self, una: Seq, nxt: Seq) -> Result<(), String> {
        let (mut at, mut outstanding) = (una, 0);
        let (mut sacked, mut lost, mut repaired) = (0, 0, 0);
        let filed = self.filed().records.len();
        for (n, (start, record)) in self.all().enumerate() {
            if start != at {
                return Err(format!("the scoreboard's record at {start:?} should begin at {at:?}"));
            }
            if record.end <= start || record.mss == 0 || record.base > start {
                return Err(format!("the scoreboard's record at {start:?} is malformed: {record:?}"));
            }
            let len = record.end.since(start);
            outstanding += len;
            let (timed, listed) =
                (self.filed().by_time.contains(&(record.sent_at, start)), self.filed().lost.contains(&start));
            let fresh = n >= filed;
            if fresh && (record.fate, record.retransmissions) != (Fate::InFlight, 0) {
                return Err(format!("the scoreboard's record at {start:?} is not fresh: {record:?}"));
            }
            let expected = (!fresh && record.fate == Fate::InFlight, record.fate == Fate::Lost);
            if (timed, listed) != expected {
                return Err(format!("the scoreboard's record at {start:?} is indexed wrongly: {record:?}"));
            }
            match record.fate {
                Fate::InFlight if record.repair => repaired += len,
                Fate::InFlight => {}
                Fate::Sacked => sacked += len,
                Fate::Lost => lost += len,
            }
            at = record.end;
        }
        if at != nxt {
            return Err(format!("the scoreboard covers {una:?} to {at:?}, and SND.NXT is {nxt:?}"));
        }
        let indexed = self.filed().by_time.len() + self.filed().lost.len();
        let unsacked = self.filed().records.values().filter(|record| record.fate != Fate::Sacked).count();
        if indexed != unsacked {
            return Err(format!("the scoreboard has indexed {indexed} records of {unsacked}"));
        }
        let sums = (self.outstanding, self.sacked, self.lost_bytes, self.retransmitted);
        if sums != (outstanding, sacked, lost, repaired) {
            return Err(format!(
                "the scoreboard's sums are {sums:?} and should be {:?} (outstanding, SACKed, lost, retransmitted)",
                (outstanding, sacked, lost, repaired)
            ));
        }
        Ok(())
    }
}
