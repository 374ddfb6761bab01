//! What memory pressure does to a held connection.

use super::Held;
use crate::stack::tcp::cell::Stage;
use crate::tcp::Pruned;

impl Held<'_, '_> {
    /// Tells the connection how much it may hold, if that is less than anything, or was until now.
    #[inline]
    pub(in crate::stack::tcp) fn follow_memory(&mut self) {
        if self.turn.core.memory().is_pressed() || self.state.pressed {
            self.follow_pressure();
        }
    }

    #[cold]
    fn follow_pressure(&mut self) {
        let allowance = self.turn.core.memory().allowance();
        self.state.pressed = allowance != usize::MAX;
        if self.state.pressed {
            self.tcp.begin_sweep(self.turn);
        }
        if let Stage::Connected(connection) = &mut self.state.stage {
            connection.set_allowance(allowance);
        }
    }

    /// Under memory pressure: gives up what was promised to nobody. That is all of a connection that no
    /// application holds, and that has more than its share or is one too many.
    pub(in crate::stack::tcp) fn make_room(&mut self) {
        if !self.state.pressed {
            return;
        }
        let (tcp, memory, now) = (self.tcp, self.turn.core.memory(), self.turn.now);
        let given_up = self.state.orphan && self.state.attached;
        let connection = match &mut self.state.stage {
            Stage::Connected(connection) => connection,
            Stage::Over(over) => {
                if let Some(connection) = &mut over.unread {
                    connection.prune();
                }
                return;
            }
            Stage::Opening(_) => return,
        };
        let queued = connection.queued();
        if given_up && (queued > memory.share() || memory.is_full()) {
            tcp.give_up_orphan(now, connection);
            return;
        }
        let pruned = connection.prune();
        if pruned != Pruned::default() {
            let counters = &tcp.counters;
            counters.prune_called.bump();
            counters.ofo_pruned.add(u64::from(pruned.out_of_order > 0));
            counters.ofo_bytes_pruned.add(pruned.out_of_order as u64);
            counters.rcv_collapsed.add(pruned.received as u64);
            counters.snd_collapsed.add(pruned.sent as u64);
        }
    }
}
