//! The stack: what lies between devices below, the protocols beside, and sockets above.
//!
//! [`Engine`] is the whole of it, without I/O. It has a [`Core`], which knows no protocol, and the
//! protocols, which know the core and not each other. `ingress` makes datagrams of packets, the engine
//! hands each to its protocol, and what leaves goes through `egress`. A [`Turn`] is what functions pass on
//! to one another: the core, the time, and what is left to do.
//!
//! Nothing here calls a waker or flushes a device under a lock: that is gathered in `Effects` and done
//! once no lock is held.

mod core;
mod counters;
mod deadlines;
mod effects;
mod egress;
mod engine;
mod flow;
mod guest;
mod hooks;
mod hosts;
mod iface;
mod ingress;
mod interfaces;
mod keyed;
mod paths;
mod ports;
mod routes;
mod socket;
mod tcp;
mod turn;
mod waiting;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use core::Core;
pub use counters::Counters;
pub use engine::{Batch, Engine, EngineSetup};
#[cfg(feature = "net")]
pub(crate) use flow::give_back;
pub use flow::{Family, QueueId};
pub use hooks::{DriverHook, Observer};
pub use iface::Interface;
pub use paths::PathMtu;
pub use socket::IpSocket;
pub use tcp::{
    Cell, Destination, FastOpenCache, FastOpenEntry, Listener, ListenerCounters, ListenerQueues, PendingSyn,
    Rejection, Tcp, Unconnected,
};
pub use turn::Turn;
