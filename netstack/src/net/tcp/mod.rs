//! TCP sockets.
//!
//! The types are those of `tokio::net`, with the same methods, errors and cancel safety. There are
//! no conversions from and to file descriptors, because there are no file descriptors. There are
//! additional constructors that take a stack, and the options that `socket2` has.
//!
#![doc = include_str!("closing.md")]

mod forwarder;
mod listener;
mod pending;
mod sock_ref;
mod socket;
mod stream;

pub use crate::net::options::tcp::TcpKeepalive;
pub use crate::stack::{ListenerCounters, ListenerQueues};
pub use crate::tcp::SendFlags;
pub use forwarder::{TcpForwarder, TcpForwarderConfig};
pub use listener::TcpListener;
pub use listener::incoming::{Incoming, TcpListenerStream};
pub use pending::{PendingListener, PendingStream};
pub use sock_ref::SockRef;
pub use socket::TcpSocket;
pub use stream::TcpStream;
pub use stream::split::{ReadHalf, WriteHalf};
pub use stream::split_owned::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
