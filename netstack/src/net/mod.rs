//! Sockets with the API of `tokio::net`, and what drives them on tokio.
//!
//! ```text
//! sockets    a stack's methods that make sockets
//! tcp        the TCP sockets                          options   what sockets have in common
//! stack      Stack, its builder, the current stack    lookup    names and literals
//! driver     where the reactor's tasks run and end    reactor   device queues and deadlines → engine
//! core       what handles, sockets and driver share   wakeups   signals for the reactor's tasks
//! readiness  flags and wakers of one socket           clock     the stack's time
//! error      what sockets say when the stack is over
//! ```
//!
//! A socket's methods call the engine directly, on the application's task; the reactor is only
//! needed for what comes from outside: packets, deadlines, and room in a device that was full.
//!
//! Many methods return a result although they cannot fail, as `tokio::net` and `socket2` have it.
//! Those that can fail say when under "Errors".

mod clock;
mod core;
mod driver;
mod error;
mod lookup;
mod options;
mod reactor;
mod readiness;
mod sockets;
mod stack;
pub mod tcp;
mod wakeups;

pub use driver::Driver;
pub use lookup::{ToSocketAddrs, lookup_host};
pub use stack::Stack;
pub use stack::ambient::{AlreadyInstalled, BindGuard, EnterGuard, Scoped, run};
pub use stack::builder::StackBuilder;
pub use tcp::{PendingListener, PendingStream, SockRef, TcpListener, TcpSocket, TcpStream};
