//! How connections and datagrams leave: through sockets of the kernel.

use crate::socks5::{Association, Socks5};
use socket2::SockRef;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

/// Bytes of the receive buffer of a UDP socket: what comes in while its task waits for a processor would be lost.
const RECV_BUFFER: usize = 1 << 20;

/// Where connections and datagrams go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Upstream {
    /// To where the client sends them.
    #[default]
    Direct,
    /// To a SOCKS5 server.
    Socks5(Socks5),
}

/// How connections and datagrams leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// Where they go.
    pub upstream: Upstream,
    /// The interface that they leave through (`SO_BINDTODEVICE`): without it, what is routed into the TUN device
    /// would come back.
    pub interface: Option<String>,
    /// The congestion control of TCP connections, instead of the namespace's default.
    pub congestion: Option<String>,
}

impl Outbound {
    /// Connects to `to`.
    ///
    /// # Errors
    /// Those of connecting, or those that the SOCKS5 server had.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        match &self.upstream {
            Upstream::Direct => self.tcp(to).await,
            Upstream::Socks5(socks) => socks.connect(self.tcp(socks.server).await?, to).await,
        }
    }

    async fn tcp(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        self.bind_device(SockRef::from(&socket))?;
        if let Some(name) = &self.congestion {
            SockRef::from(&socket).set_tcp_congestion(name.as_bytes())?;
        }
        socket.set_nodelay(true)?;
        socket.connect(to).await
    }

    /// A socket for one destination, whose refusals it reports.
    ///
    /// # Errors
    /// Those of the kernel.
    pub(super) async fn connected_udp(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let socket = self.udp(to).await?;
        socket.connect(to).await?;
        Ok(socket)
    }

    /// A socket that can send to `to` and others of its family.
    async fn udp(&self, to: SocketAddr) -> io::Result<UdpSocket> {
        let any = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
        self.bind_device(SockRef::from(&socket))?;
        // The kernel gives twice as much or, if that is more than it permits, the most that it permits.
        let _ = SockRef::from(&socket).set_recv_buffer_size(RECV_BUFFER);
        Ok(socket)
    }

    /// What the datagrams of one client leave through, which sends to hosts of the family of `to`.
    ///
    /// # Errors
    /// Those of the kernel and of the SOCKS5 server.
    pub(super) async fn associate(&self, to: SocketAddr) -> io::Result<Cone> {
        match &self.upstream {
            Upstream::Direct => self.udp(to).await.map(Cone::Direct),
            Upstream::Socks5(socks) => {
                let (control, socket) = (self.tcp(socks.server).await?, self.udp(socks.server).await?);
                socks.associate(control, socket).await.map(Cone::Socks5)
            }
        }
    }

    pub(super) fn bind_device(&self, socket: SockRef<'_>) -> io::Result<()> {
        self.interface.as_ref().map_or(Ok(()), |name| socket.bind_device(Some(name.as_bytes())))
    }
}

/// What the datagrams of one client leave through, whatever their destinations are.
#[derive(Debug)]
pub(super) enum Cone {
    Direct(UdpSocket),
    Socks5(Association),
}

impl Cone {
    pub(super) async fn send_to(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        match self {
            Self::Direct(socket) => socket.send_to(payload, to).await.map(drop),
            Self::Socks5(association) => association.send_to(payload, to).await,
        }
    }

    /// Gives the place of the payload in `buf`, and its sender.
    pub(super) async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(Range<usize>, SocketAddr)> {
        match self {
            Self::Direct(socket) => socket.recv_from(buf).await.map(|(len, from)| (0..len, from)),
            Self::Socks5(association) => association.recv_from(buf).await,
        }
    }
}
