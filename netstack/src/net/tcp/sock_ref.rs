//! [`SockRef`].

use super::{TcpListener, TcpSocket, TcpStream};
use crate::config::Config;
use crate::error::os;
use crate::net::options::tcp::{HasTcpOptions, tcp_options};
use crate::stack::Family;
use crate::tcp::SocketOptions;
use std::io;
use std::net::Shutdown;

/// The options of any TCP socket, with the names of `socket2::SockRef`.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// use netstack::net::SockRef;
///
/// let socket = stack.tcp_socket_v4()?;
/// SockRef::from(&socket).set_tcp_nodelay(true)?;
/// assert!(socket.nodelay()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SockRef<'a>(Socket<'a>);

#[derive(Debug)]
enum Socket<'a> {
    Stream(&'a TcpStream),
    Listener(&'a TcpListener),
    Unconnected(&'a TcpSocket),
}

impl<'a> From<&'a TcpStream> for SockRef<'a> {
    fn from(stream: &'a TcpStream) -> Self {
        Self(Socket::Stream(stream))
    }
}

impl<'a> From<&'a TcpListener> for SockRef<'a> {
    fn from(listener: &'a TcpListener) -> Self {
        Self(Socket::Listener(listener))
    }
}

impl<'a> From<&'a TcpSocket> for SockRef<'a> {
    fn from(socket: &'a TcpSocket) -> Self {
        Self(Socket::Unconnected(socket))
    }
}

impl SockRef<'_> {
    /// Shuts down one direction of a connection, or both, as shutdown(2) does. Nothing is sent for
    /// [`Shutdown::Read`].
    ///
    /// # Errors
    /// `ENOTCONN` if there is no connection.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match &self.0 {
            Socket::Stream(stream) => stream.shutdown_directions(how),
            Socket::Listener(_) | Socket::Unconnected(_) => Err(os(libc::ENOTCONN)),
        }
    }
}

impl HasTcpOptions for SockRef<'_> {
    fn config(&self) -> &Config {
        match &self.0 {
            Socket::Stream(socket) => socket.config(),
            Socket::Listener(socket) => socket.config(),
            Socket::Unconnected(socket) => socket.config(),
        }
    }

    fn family(&self) -> Family {
        match &self.0 {
            Socket::Stream(socket) => socket.family(),
            Socket::Listener(socket) => socket.family(),
            Socket::Unconnected(socket) => socket.family(),
        }
    }

    fn options(&self) -> SocketOptions {
        match &self.0 {
            Socket::Stream(socket) => socket.options(),
            Socket::Listener(socket) => socket.options(),
            Socket::Unconnected(socket) => socket.options(),
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> R {
        match &self.0 {
            Socket::Stream(socket) => socket.change(change),
            Socket::Listener(socket) => socket.change(change),
            Socket::Unconnected(socket) => socket.change(change),
        }
    }

    fn push(&self) {
        if let Socket::Stream(stream) = &self.0 {
            stream.push();
        }
    }
}

tcp_options!(SockRef<'_>);
