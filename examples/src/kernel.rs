//! Kernel sockets, for comparison and as the other end.

use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// The congestion control of a kernel socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Congestion {
    /// Its name.
    pub name: String,
    /// Why it is not CUBIC, if that was refused.
    pub refused: Option<String>,
}

/// Selects CUBIC for `socket` if this process may.
///
/// Unprivileged processes may select only what `net.ipv4.tcp_allowed_congestion_control` lists, and
/// the default that a new namespace inherits may be another one.
///
/// # Errors
/// If the socket does not report what it uses.
pub fn prefer_cubic(socket: SockRef<'_>) -> io::Result<Congestion> {
    let refused = socket.set_tcp_congestion(b"cubic").err().map(|error| error.to_string());
    let name = socket.tcp_congestion()?;
    // The option is a C string in a buffer of 16 bytes.
    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
    Ok(Congestion { name: String::from_utf8_lossy(name).into_owned(), refused })
}

/// Waits until a UDP socket has a datagram or an error, and gives the error. tokio does not count an error alone as
/// readable, so that `recv` would not return one until a datagram comes.
///
/// # Errors
/// Those that the socket had to report, such as `ECONNREFUSED`.
///
/// # Cancel safety
/// Cancel safe.
pub async fn readable(socket: &UdpSocket) -> io::Result<()> {
    let ready = socket.ready(Interest::READABLE | Interest::ERROR).await?;
    if ready.is_error() {
        // The next wait is for the next error.
        let forgotten =
            socket.try_io(Interest::ERROR, || io::Result::<()>::Err(io::ErrorKind::WouldBlock.into()));
        drop(forgotten);
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
    }
    Ok(())
}

/// Receives a datagram, or the error of an earlier one.
///
/// # Errors
/// Those of the socket.
pub async fn recv(socket: &UdpSocket, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        readable(socket).await?;
        match socket.try_recv(buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return result,
        }
    }
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

/// Connects a kernel socket, with CUBIC if possible and without Nagle's algorithm.
///
/// # Errors
/// Those of the kernel.
pub async fn connect(address: SocketAddr) -> io::Result<(TcpStream, Congestion)> {
    let socket = socket(address)?;
    let congestion = prefer_cubic(SockRef::from(&socket))?;
    socket.set_nodelay(true)?;
    Ok((socket.connect(address).await?, congestion))
}

/// Listens with a kernel socket whose connections use CUBIC if possible.
///
/// # Errors
/// Those of the kernel.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    prefer_cubic(SockRef::from(&socket))?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
