//! ipstack, as its example `tun`.

use super::device::Device;
use crate::services::Handler;
use ::ipstack::{IpStack, IpStackConfig, IpStackStream, IpStackUdpStream, TcpConfig, TcpOptions};
use netstack_tun::Tun;
use std::io;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

/// What its example announces, whatever the MTU is. It has no smaller packets than that.
const SEGMENT: u16 = 1460;

/// Serves the connections of all addresses, and passes their datagrams on. Calls `ready` when it does.
///
/// # Errors
/// Those of the device and the stack.
pub(crate) async fn serve(
    tun: Tun,
    handler: impl Handler,
    ready: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let mut config = IpStackConfig::default();
    config.mtu(u16::try_from(tun.mtu()).unwrap_or(u16::MAX)).map_err(io::Error::other)?;
    let mut tcp = TcpConfig::default();
    tcp.options = Some(vec![TcpOptions::MaximumSegmentSize(SEGMENT)]);
    tcp.max_unacked_bytes = 256 * 1024;
    config.with_tcp_config(tcp);
    let mut stack = IpStack::new(config, Device::new(&tun)?);
    ready()?;
    loop {
        // Its local address is the client's.
        match stack.accept().await.map_err(io::Error::other)? {
            IpStackStream::Tcp(client) => {
                let (to, handler) = (client.peer_addr(), handler.clone());
                tokio::spawn(async move { handler.connection(client, to).await });
            }
            IpStackStream::Udp(client) => {
                tokio::spawn(datagrams(client));
            }
            IpStackStream::UnknownTransport(_) | IpStackStream::UnknownNetwork(_) => {}
        }
    }
}

async fn datagrams(client: IpStackUdpStream) -> io::Result<()> {
    let upstream = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    upstream.connect(client.peer_addr()).await?;
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut there, mut back) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let up = async {
        loop {
            let len = from_client.read(&mut there).await?;
            // What cannot be passed on is lost, as on the way.
            let _ = upstream.send(&there[..len]).await;
        }
    };
    let down = async {
        loop {
            // An ICMP error says that the server has ended.
            let Ok(len) = upstream.recv(&mut back).await else { continue };
            to_client.write_all(&back[..len]).await?;
        }
    };
    tokio::select! { ended = up => ended, ended = down => ended }
}
