//! Sockets with the API of `tokio::net`, and their driver on tokio.
//!
//! ```text
//! sockets    a stack's methods that make sockets    sock_ref   the options of any of them
//! tcp, udp, icmp  the sockets                         options   what sockets have in common
//! echo       pings that the application answers     interface  handles to interfaces, and events of them
//! stack      Stack, its builder, the current stack    lookup    names and literals
//! blocking   sockets that block, as those of std     bridge     to sockets of the kernel and back
//! idle       a runtime with nothing left to do      exact      paused time to the nanosecond
//! attributes `#[netstack::test]` and `main`, at run time
//! park       waiting on a thread
//! ecosystem  what other crates need, behind features
//! driver     where the reactor's tasks run and end    reactor   device queues and deadlines → engine
//! core       what handles, sockets and driver share   wakeups   signals for the reactor's tasks
//! readiness  flags and wakers of one socket           clock     the stack's time
//! error      what sockets say when the stack is over  resolver  who turns names into addresses
//! ```
//!
//! The methods of a socket call the engine directly, in the application's task. The reactor is only
//! needed for external events: packets, deadlines, and room in a device that was full.
//!
//! Many methods return a result although they cannot fail, because those of `tokio::net` and
//! `socket2` do. Methods that can fail have a section "Errors".

mod alarm;
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod attributes;
pub mod blocking;
pub mod bridge;
mod clock;
mod core;
mod driver;
mod echo;
mod ecosystem;
mod error;
mod event;
#[cfg(feature = "macros")]
mod exact;
mod handover;
pub mod icmp;
#[cfg(any(feature = "macros", feature = "sim"))]
pub(crate) mod idle;
mod interface;
mod lookup;
mod options;
mod park;
mod polling;
mod reactor;
mod readiness;
mod resolver;
#[cfg(all(test, netstack_shuttle))]
mod schedules;
mod sock_ref;
mod sockets;
mod stack;
mod standby;
pub mod tcp;
mod timer;
pub mod udp;
mod wakeups;

#[cfg(feature = "sim")]
pub(crate) use core::Lifecycle;
pub use driver::Driver;
pub use echo::{EchoForwarder, PendingEcho};
#[cfg(feature = "axum-0_8")]
pub use ecosystem::axum;
#[cfg(feature = "hickory-0_26")]
pub use ecosystem::hickory;
#[cfg(feature = "hyper-util-0_1")]
pub use ecosystem::hyper;
#[cfg(feature = "quinn-0_11")]
pub use ecosystem::quinn;
#[cfg(feature = "tokio-util-0_7")]
pub use ecosystem::tokio_util;
#[cfg(feature = "tonic-0_14")]
pub use ecosystem::tonic;
pub use event::NetworkEvent;
pub use icmp::{PingSocket, RawSocket};
pub use interface::{InterfaceHandle, Monitor};
pub use lookup::{ToSocketAddrs, lookup_host};
pub use resolver::{Resolve, Resolver};
pub use sock_ref::SockRef;
pub use stack::ambient::{AlreadyInstalled, BindGuard, EnterGuard, Scoped, run};
pub use stack::builder::StackBuilder;
pub use stack::{InterfaceFailure, Stack};
pub use tcp::{
    Incoming, PendingListener, PendingStream, TcpForwarder, TcpForwarderConfig, TcpListener,
    TcpListenerStream, TcpSocket, TcpStream,
};
pub use udp::{UdpFlow, UdpForwarder, UdpForwarderConfig, UdpSocket};
