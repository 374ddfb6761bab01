//! When a path is first seen to reorder.

use super::AckSample;
use crate::tcp::compact::compact;

/// Notices the first acknowledgment after the path was seen to reorder. The smallest round-trip time that
/// was measured before is then probably that of a packet that overtook others, and not that of the path.
#[derive(Debug, Default)]
pub(super) struct ReorderingOnset {
    seen: bool,
}

compact!(ReorderingOnset { seen });

impl ReorderingOnset {
    /// Whether `ack` is that acknowledgment.
    pub(super) fn begins(&mut self, ack: &AckSample) -> bool {
        ack.reorders && !std::mem::replace(&mut self.seen, ack.reorders)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Instant;

    #[test]
    fn it_begins_once() {
        let mut onset = ReorderingOnset::default();
        let ack = |reorders| AckSample { reorders, ..AckSample::new(Instant::ZERO, 1) };
        let began = [false, true, true, false, true].map(|reorders| onset.begins(&ack(reorders)));
        assert_eq!(began, [false, true, false, false, false]);
    }
}
