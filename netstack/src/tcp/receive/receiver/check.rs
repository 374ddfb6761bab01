//! What holds of a receiver at any time, for tests and simulations.

use super::Receiver;

/// What a connection holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Bytes that were written and are not acknowledged.
    pub queued: usize,
    /// Bytes that were received and not read, those beyond a hole included.
    pub unread: usize,
    /// Memory that received bytes keep, in bytes.
    pub receive_memory: usize,
    /// What the window and the memory behind it are bounded by: bytes of payload that may be unread.
    pub receive_limit: usize,
}

impl Receiver {
    /// Checks the window and the queues.
    pub(in crate::tcp) fn check(&self) -> Result<Holdings, String> {
        if self.right_edge < self.rcv_nxt {
            return Err(format!("the window ends at {:?}, before {:?}", self.right_edge, self.rcv_nxt));
        }
        if self.fin.is_some_and(|fin| fin.start > fin.at) {
            return Err(format!("the peer's FIN is malformed: {:?}", self.fin));
        }
        self.assembler.check(self.rcv_nxt, self.right_edge)?;
        self.buffer.check()?;
        Ok(Holdings {
            queued: 0,
            unread: self.buffer.len() + self.assembler.len(),
            receive_memory: self.buffer.memory() + self.assembler.truesize(),
            receive_limit: self.space.limit(),
        })
    }
}
