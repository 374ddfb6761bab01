//! The same proxy on kernel sockets alone: what the kernel's TCP between client and proxy is worth.

use super::lab::{GATEWAY, SERVER};
use super::nat::{Nat, Replies};
use crate::client::CONGESTION_CONTROL;
use crate::datagrams::Mode;
use crate::serve::kernel_listener;
use crate::services::Service;
use netstack_examples::proxy::{Activity, Buffers, copy};
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Serves clients at the ports of the services. Calls `ready` when it does.
///
/// # Errors
/// Those of the sockets.
pub(super) async fn serve(ready: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let buffers = Buffers::default();
    for port in Service::ALL.map(Service::port) {
        let to = SocketAddr::from((SERVER, port));
        tokio::spawn(accept(kernel_listener(port)?, to, buffers.clone()));
    }
    for port in [Service::Sink, Service::Source].map(|service| Mode::Single.port(service.port())) {
        let socket = UdpSocket::bind((GATEWAY, port)).await?;
        tokio::spawn(datagrams(Arc::new(socket), (SERVER, port).into()));
    }
    ready()?;
    std::future::pending().await
}

async fn accept(listener: TcpListener, to: SocketAddr, buffers: Buffers) {
    loop {
        // One that was reset before it was accepted.
        let Ok((client, _)) = listener.accept().await else { continue };
        let buffers = buffers.clone();
        tokio::spawn(async move {
            // The clients judge how a connection ends.
            if let Ok(upstream) = connect(to).await {
                let _ = client.set_nodelay(true);
                let _ = relay(client, upstream, &buffers).await;
            }
        });
    }
}

/// A connection from a proxy to a server.
pub(super) async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    // Without the right to select it, the namespace's default is used, which the command reports.
    let _ = SockRef::from(&socket).set_tcp_congestion(CONGESTION_CONTROL);
    socket.set_nodelay(true)?;
    socket.connect(to).await
}

/// As the proxy on netstack does it.
async fn relay(client: TcpStream, upstream: TcpStream, buffers: &Buffers) -> io::Result<()> {
    let activity = Activity::new();
    let (client_read, mut client_write) = client.into_split();
    let (upstream_read, mut upstream_write) = upstream.into_split();
    let up = copy(&client_read, &mut upstream_write, buffers, &activity, activity.up());
    let down = copy(&upstream_read, &mut client_write, buffers, &activity, activity.down());
    tokio::try_join!(up, down).map(drop)
}

/// The datagrams of all clients of one port.
async fn datagrams(socket: Arc<UdpSocket>, to: SocketAddr) {
    let mut nat = Nat::new(Arc::clone(&socket));
    let mut buf = vec![0; 1 << 16];
    loop {
        // An ICMP error says that a client has ended.
        let Ok(()) = socket.readable().await else { continue };
        while let Ok((len, client)) = socket.try_recv_from(&mut buf) {
            nat.send(client, to, &buf[..len]).await;
        }
    }
}

impl Replies for Arc<UdpSocket> {
    async fn reply(&self, _from: SocketAddr, client: SocketAddr, payload: &[u8]) {
        // A client that has ended.
        let _ = self.send_to(payload, client).await;
    }
}
