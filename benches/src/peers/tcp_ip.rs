//! tcp_ip, as its examples `tcp_proxy` and `udp`.

use super::device::Device;
use crate::forward::nat::{Nat, Replies};
use crate::services::Handler;
use ::tcp_ip::tcp::TcpListener;
use ::tcp_ip::udp::UdpSocket;
use ::tcp_ip::{IpStackConfig, IpStackRecv, IpStackSend, ip_stack};
use netstack_tun::Tun;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

/// Packets that are taken from the stack at once.
const BATCH: usize = 128;

/// Serves the connections of all addresses, and passes their datagrams on. Calls `ready` when it does.
///
/// # Errors
/// Those of the device and the stack.
pub(crate) async fn serve(
    tun: Tun,
    handler: impl Handler,
    ready: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let mtu = u16::try_from(tun.mtu()).unwrap_or(u16::MAX);
    let (stack, to_stack, from_stack) = ip_stack(IpStackConfig::builder().ipv4_mtu(mtu).build())?;
    let mut listener = TcpListener::bind_all(stack.clone()).await?;
    let socket = Arc::new(UdpSocket::bind_all(stack).await?);
    let device = Arc::new(Device::new(&tun)?);
    tokio::spawn(receive(Arc::clone(&device), to_stack, mtu.into()));
    tokio::spawn(send(device, from_stack, mtu.into()));
    tokio::spawn(datagrams(socket));
    ready()?;
    loop {
        let (client, _) = listener.accept().await?;
        let (to, handler) = (client.local_addr()?, handler.clone());
        tokio::spawn(async move { handler.connection(client, to).await });
    }
}

async fn receive(device: Arc<Device>, stack: IpStackSend, mtu: usize) -> io::Result<()> {
    let mut buf = vec![0; mtu];
    loop {
        let len = device.receive(&mut buf).await?;
        // A packet that it does not want.
        let _ = stack.send_ip_packet(&buf[..len]).await;
    }
}

async fn send(device: Arc<Device>, mut stack: IpStackRecv, mtu: usize) -> io::Result<()> {
    let (mut bufs, mut sizes) = (vec![vec![0; mtu]; BATCH], vec![0; BATCH]);
    loop {
        let count = stack.recv_ip_packet(&mut bufs, &mut sizes).await?;
        for (buf, &len) in bufs.iter().zip(&sizes).take(count) {
            device.send(&buf[..len]).await?;
        }
    }
}

async fn datagrams(socket: Arc<UdpSocket>) -> io::Result<()> {
    let mut nat = Nat::new(Arc::clone(&socket));
    let mut buf = vec![0; 1 << 16];
    loop {
        let (len, client, to) = socket.recv_from_to(&mut buf).await?;
        nat.send(client, to, &buf[..len]).await;
    }
}

impl Replies for Arc<UdpSocket> {
    async fn reply(&self, from: SocketAddr, client: SocketAddr, payload: &[u8]) {
        // A client that has ended.
        let _ = self.send_from_to(payload, from, client).await;
    }
}
