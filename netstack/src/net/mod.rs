//! Sockets with the API of `tokio::net`, and what drives them on tokio.
//!
//! ```text
//! stack      Stack, its builder, its end              ambient   which stack a constructor uses
//! driver     where the reactor's tasks run and end    clock     the stack's time
//! reactor    device queues and deadlines → engine     readiness flags and wakers of one socket
//! tcp        the TCP sockets                          lookup    names and literals
//! ```
//!
//! A socket's methods call the engine directly, on the application's task; the reactor is only
//! needed for what comes from outside: packets, deadlines, and room in a device that was full.

mod ambient;
mod clock;
mod driver;
mod lookup;
mod reactor;
mod readiness;
mod stack;
pub mod tcp;

pub use ambient::{AlreadyInstalled, BindGuard, EnterGuard, Scoped, run};
pub use lookup::{ToSocketAddrs, lookup_host};
pub use stack::{Driver, Stack, StackBuilder};
pub use tcp::{PendingListener, PendingStream, SockRef, TcpListener, TcpSocket, TcpStream};
