//! What holds of a send buffer at any time, for tests and simulations.

use super::SendBuffer;
use crate::tcp::seq::Seq;

impl SendBuffer {
    /// Checks that blocks and records cover everything that is held without gaps, and that what was sent
    /// is counted: everything before `nxt` was.
    pub(in crate::tcp::send) fn check(&self, nxt: Seq) -> Result<(), String> {
        let mut at = None;
        for block in &self.blocks {
            if at.is_some_and(|at| at != block.start) {
                return Err(format!("the send buffer's block at {:?} should begin at {at:?}", block.start));
            }
            at = Some(block.start + block.data.len());
        }
        let first = self.blocks.front().map_or(self.end, |block| block.start);
        if first > self.start || at.unwrap_or(self.end) != self.end {
            return Err(format!(
                "the send buffer's blocks are {first:?} to {at:?}, for {:?} to {:?}",
                self.start, self.end
            ));
        }
        if self.records.iter().zip(self.records.iter().skip(1)).any(|(one, next)| one.end > next.end)
            || self.records.back().map_or(self.start, |record| record.end) != self.end
        {
            return Err(format!("the send buffer's records do not end at {:?}: {self:?}", self.end));
        }
        let sealed = self.records.iter().filter(|record| record.sealed).count();
        let sent = self.sent.checked_sub(1).map_or(self.start, |last| self.records[last].end);
        if sealed != self.sealed || sent > nxt {
            return Err(format!("the send buffer has sent up to {sent:?}, and SND.NXT is {nxt:?}"));
        }
        Ok(())
    }
}
