//! Two stacks in one thread, joined in memory: what the protocol costs without the system.

pub mod netstack;
pub mod smoltcp;

/// What a transfer between two stacks takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// MTU in bytes.
    pub mtu: usize,
    /// Whether each end sums what it sends and checks what it receives.
    pub checksums: bool,
}

/// What is written and read at once.
const CHUNK: usize = 64 * 1024;
/// Packets on the way in each direction at most.
const QUEUE: usize = 256;
/// Rounds without a byte moved that are not progress any more but a bug.
const MAX_IDLE_ROUNDS: usize = 100_000;

/// Panics when a transfer stands still, instead of hanging the benches.
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
