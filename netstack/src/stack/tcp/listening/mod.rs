//! Listening: a listener and its two queues, and connections from the SYN to `accept`.

mod half_open;
mod held;
mod listen;
mod listener;
mod overflow;
mod pending_syn;

pub(super) use half_open::Place;
pub(super) use held::{Received, Verdict};
pub use listener::{Listener, ListenerCounters, ListenerQueues};
pub(super) use overflow::Overflow;
pub use pending_syn::{PendingSyn, Rejection};
