//! The memory of a connection, and what it gives up when there is little.

use super::Connection;
use crate::memory::block;
use crate::tcp::ecn::EcnState;
use crate::tcp::handshake::PassiveOpen;
use crate::tcp::receive::RecvPlaces;
use crate::tcp::recovery::BoardPlaces;
use crate::tcp::send::SendPlaces;

/// What a connection has given up, or made smaller, for want of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Bytes out of order that were dropped: the peer has them.
    pub out_of_order: usize,
    /// Buffers of received data that were replaced by smaller ones.
    pub received: usize,
    /// Buffers of data to send that were.
    pub sent: usize,
}

/// The memory of a connection's queues, in which nothing is: for one that begins to use its own.
#[derive(Debug, Default)]
pub(super) struct Places {
    snd: SendPlaces,
    rcv: RecvPlaces,
    recovery: BoardPlaces,
}

impl Connection {
    /// Memory of its queues and tables, in bytes. Buffers count in their pool, and what does not change is in
    /// [`Connection::fixed_memory`].
    #[inline]
    pub fn queue_memory(&self) -> usize {
        self.rcv.places() + self.snd.places() + self.recovery.board().places()
    }

    /// Each direction may hold `allowance` bytes of memory from now on; [`usize::MAX`] if the stack has enough.
    ///
    /// What is there already stays, and so does what the peer was offered: the window closes as it is used. If
    /// there is more than before, the peer and a waiting writer are told.
    pub fn set_allowance(&mut self, allowance: usize) {
        self.snd.set_allowance(allowance);
        if self.rcv.set_allowance(allowance) && self.state.can_receive() {
            self.rcv.announce();
        }
    }

    /// So many bytes may wait to be sent from now on, as if that were `TCP_NOTSENT_LOWAT`, unless `SO_SNDBUF` was set.
    /// [`usize::MAX`] for no limit. What is queued stays.
    pub fn set_unsent_share(&mut self, share: usize) {
        self.snd.set_unsent_share(share);
    }

    /// Gives up what was promised to nobody and is more than the allowance, and holds the rest in as little memory
    /// as it needs.
    pub fn prune(&mut self) -> Pruned {
        let received = self.rcv.prune();
        Pruned { out_of_order: received.out_of_order, received: received.collapsed, sent: self.snd.compact() }
    }

    /// Gives the memory of its queues back, where they are empty. In the middle of a transfer they would be filled
    /// again at once: to be called now and then.
    pub fn trim(&mut self) {
        drop(self.take_places());
    }

    /// Takes the memory of its queues, where they are empty.
    pub(super) fn take_places(&mut self) -> Places {
        Places {
            snd: self.snd.take_places(),
            rcv: self.rcv.take_places(),
            recovery: self.recovery.take_places(),
        }
    }

    /// Uses the memory of another connection's queues, of one that has none.
    pub(super) fn use_places(&mut self, places: Places) {
        let Places { snd, rcv, recovery } = places;
        self.snd.use_places(snd);
        self.rcv.use_places(rcv);
        self.recovery.use_places(recovery);
    }

    /// Memory of the connection itself, in bytes.
    pub fn fixed_memory(&self) -> usize {
        let ecn = if self.ecn.is_some() { block(size_of::<EcnState>()) } else { 0 };
        let passive = if self.passive.is_some() { block(size_of::<PassiveOpen>()) } else { 0 };
        block(size_of::<Self>()) + self.path.memory() + ecn + passive
    }
}
