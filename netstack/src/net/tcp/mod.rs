//! TCP sockets.
//!
//! The types are those of `tokio::net`, with the same methods, errors and cancel safety. What is
//! left out are the conversions from and to file descriptors: there are none. What is added are
//! constructors that name their stack, and the options that `socket2` knows.
//!
#![doc = include_str!("closing.md")]

mod fast_open;
mod listener;
mod options;
mod pending;
mod socket;
mod split;
mod split_owned;
mod stream;

pub use crate::stack::{ListenerCounters, ListenerQueues};
pub use listener::TcpListener;
pub use options::{SockRef, TcpKeepalive};
pub use pending::{PendingListener, PendingStream};
pub use socket::TcpSocket;
pub use split::{ReadHalf, WriteHalf};
pub use split_owned::{OwnedReadHalf, OwnedWriteHalf, ReuniteError};
pub use stream::TcpStream;

pub use crate::tcp::SendFlags;
