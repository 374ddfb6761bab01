//! What holds of an assembler at any time, for tests and simulations.

use super::Assembler;
use crate::tcp::receive::recv_buffer::CHUNK_OVERHEAD;
use crate::tcp::seq::Seq;
use std::collections::BTreeMap;

impl Assembler {
    /// Checks that everything is beyond a hole at `next` and before `edge`, that chunks do not overlap,
    /// that the runs are what the chunks make up, and that the sums agree.
    pub(in crate::tcp::receive) fn check(&self, next: Seq, edge: Seq) -> Result<(), String> {
        let mut runs: BTreeMap<Seq, Seq> = BTreeMap::new();
        let (mut len, mut truesize) = (0, 0);
        for (&start, chunk) in &self.data {
            let end = start + chunk.len();
            if chunk.is_empty() || start <= next || end > edge {
                return Err(format!("{start:?} to {end:?} is queued, of {next:?} to {edge:?}"));
            }
            len += chunk.len();
            truesize += chunk.capacity() + CHUNK_OVERHEAD;
            match runs.last_entry() {
                Some(last) if *last.get() > start => {
                    return Err(format!("the queued chunk at {start:?} overlaps the one before it"));
                }
                Some(mut last) if *last.get() == start => *last.get_mut() = end,
                _ => drop(runs.insert(start, end)),
            }
        }
        if runs != self.runs {
            return Err(format!("the assembler's runs are {:?} and should be {runs:?}", self.runs));
        }
        if (self.len, self.truesize) != (len, truesize) {
            let sums = (self.len, self.truesize);
            return Err(format!("the assembler's sums are {sums:?} and should be {:?}", (len, truesize)));
        }
        Ok(())
    }
}
