//! What is received under memory pressure.

use super::Receiver;

/// What was given up, or made smaller, for want of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::tcp) struct Pruned {
    /// Bytes out of order that were dropped.
    pub(in crate::tcp) out_of_order: usize,
    /// Buffers that were replaced by smaller ones.
    pub(in crate::tcp) collapsed: usize,
}

impl Receiver {
    /// So much memory may be held from now on, in bytes. What is there already stays, and so does what the peer
    /// was offered. Says whether the window must be announced, since it has grown by much.
    pub(in crate::tcp) fn set_allowance(&mut self, allowance: usize) -> bool {
        self.space.set_allowance(allowance) && self.announces_more()
    }

    /// Acknowledges at once, to announce the window.
    pub(in crate::tcp) fn announce(&mut self) {
        self.ack.now();
    }

    /// Memory for data out of order, in bytes.
    #[inline]
    pub(super) fn out_of_order_room(&self) -> usize {
        self.space.allowance().saturating_sub(self.buffer.memory())
    }

    /// Drops data out of order that there is no memory for, which nobody was promised, and copies what uses
    /// little of its buffers (`tcp_prune_queue` in Linux).
    pub(in crate::tcp) fn prune(&mut self) -> Pruned {
        let collapsed = self.buffer.compact();
        let room = self.out_of_order_room();
        Pruned { out_of_order: self.assembler.prune(room), collapsed }
    }
}
