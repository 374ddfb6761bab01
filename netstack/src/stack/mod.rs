//! The stack: what lies between devices below, TCP beside, and sockets above.
//!
//! [`Engine`] is the whole of it, without I/O. A segment comes in through `ingress`, finds its
//! connection in `demux`, and is processed under the lock of its `cell`; what the connection then
//! has to send leaves through `egress`. Applications take the same lock from above, through `connect`
//! and `calls`, and transmit inline. `lifecycle` is what happens around each use of a connection.
//!
//! Nothing here calls a waker or flushes a device under a lock: that is gathered in [`Effects`] and
//! done by [`Effects::deliver`].

mod calls;
mod cell;
mod connect;
mod counters;
mod deadlines;
mod demux;
mod destinations;
mod effects;
mod egress;
mod engine;
mod fast_open;
mod fast_open_cache;
mod flow;
mod half_open;
mod iface;
mod ingress;
mod lifecycle;
mod listener;
mod pending;
mod ports;
mod routes;
mod socket;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use cell::Cell;
pub use counters::Counters;
pub use destinations::{Destination, PathMtu};
pub use effects::{DriverHook, Effects, Observer};
pub use engine::{Engine, EngineSetup};
pub use fast_open_cache::{FastOpenCache, FastOpenEntry};
#[cfg(feature = "net")]
pub(crate) use flow::give_back;
pub use flow::{Family, QueueId};
pub use iface::Interface;
pub use listener::{Listener, ListenerCounters, ListenerQueues};
pub use pending::{PendingSyn, Rejection};
pub use socket::Unconnected;
