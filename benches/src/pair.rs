//! Two stacks in one thread, connected in memory: the cost of the protocol without the system.

pub mod netstack;
pub mod smoltcp;

/// The link between two stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// MTU in bytes.
    pub mtu: usize,
    /// Whether each end computes the checksums of sent packets and checks those of received ones.
    pub checksums: bool,
}

/// Bytes of one read or write.
const CHUNK: usize = 64 * 1024;
/// Maximum number of packets in transit in each direction.
const QUEUE: usize = 256;
/// Rounds without progress after which the transfer is considered stuck, which is a bug.
const MAX_IDLE_ROUNDS: usize = 100_000;

/// Panics when a transfer is stuck, instead of hanging the benches.
#[derive(Debug, Default)]
struct Watch {
    idle_rounds: usize,
}

impl Watch {
    fn round(&mut self, moved: usize) {
        self.idle_rounds = if moved > 0 { 0 } else { self.idle_rounds + 1 };
        assert!(self.idle_rounds < MAX_IDLE_ROUNDS, "the transfer stands still");
    }
}
