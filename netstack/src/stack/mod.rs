//! The stack, between devices below and sockets above.
//!
//! [`Engine`] is the whole stack without I/O. It consists of a [`Core`], which does not depend on
//! any protocol, and of the protocols, which depend on the core and not on each other. `ingress`
//! turns packets into datagrams, the engine passes each to its protocol, and packets are sent
//! through `egress`. Functions pass on a [`Turn`]: the core, the time, and the work to do when no
//! lock is held.
//!
//! Nothing here calls a waker or flushes a device under a lock. Such work is collected in `Effects`
//! and done when no lock is held.

mod admission;
mod core;
mod counters;
mod crowd;
mod deadlines;
mod echo;
mod echo_queue;
mod effects;
mod egress;
mod engine;
mod flow;
mod groups;
mod guest;
mod hooks;
mod hosts;
mod icmp_limit;
mod iface;
#[cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]
mod ingress;
mod interfaces;
mod ip_route;
mod keyed;
mod paths;
mod ports;
mod raw;
mod routes;
mod socket;
mod socket_info;
mod tcp;
mod turn;
mod udp;
mod unsent;
mod waiting;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use core::Core;
pub use core::change::{InterfaceInfo, RouteInfo};
pub use counters::Counters;
pub use echo_queue::{EchoQueue, HeldEcho};
pub use engine::{Batch, Engine, EngineSetup};
#[cfg(feature = "net")]
pub(crate) use flow::give_back;
pub use flow::{Family, QueueId};
pub use hooks::{DriverHook, Observer};
pub use iface::Interface;
pub use ip_route::IpRoute;
pub use paths::PathMtu;
pub use raw::{Raw, RawCell, RawKind};
pub use socket::{IpOptions, IpSocket};
pub use socket_info::{SocketInfo, SocketTimer, TransferInfo};
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub use tcp::Inspection;
pub use tcp::{
    Cell, ConnectionEnd, Destination, FastOpenCache, FastOpenEntry, Listener, ListenerCounters,
    ListenerQueues, PendingSyn, Rejection, Tcp, Unconnected,
};
pub use turn::Turn;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub use udp::UdpInspection;
pub use udp::{
    Transmission, Udp, UdpCell, UdpForwarderCell, UdpForwarderStats, UdpForwarding, UdpReceived, UnboundUdp,
};
