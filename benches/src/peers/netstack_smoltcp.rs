//! netstack-smoltcp, as its examples `forward` and `forward-offload-linux`.

use super::device::Device;
use crate::forward::nat::{Nat, Replies};
use crate::services::Handler;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use netstack_smoltcp::{Stack, StackBuilder, TcpListener, UdpSocket};
use netstack_tun::Tun;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::sync::Mutex;
use tun_rs::{AsyncDevice, DeviceBuilder, IDEAL_BATCH_SIZE, SyncDevice, VIRTIO_NET_HDR_LEN};

type Packet = Vec<u8>;
type ToStack = SplitSink<Stack, Packet>;
type FromStack = SplitStream<Stack>;

/// Bytes of a packet for its stack, which has an MTU of 1,504 as a default.
const PACKET: usize = 1600;

/// On a descriptor without a virtio header.
pub(crate) async fn serve(
    tun: Tun,
    handler: impl Handler,
    ready: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let mtu = tun.mtu();
    let (mut to_stack, mut from_stack) = start(StackBuilder::default().mtu(mtu), handler)?;
    let device = Arc::new(Device::new(&tun)?);
    let receiving = Arc::clone(&device);
    tokio::spawn(async move {
        let mut buf = vec![0; mtu];
        loop {
            let len = receiving.receive(&mut buf).await?;
            to_stack.send(buf[..len].to_vec()).await?;
        }
        #[expect(unreachable_code, reason = "it gives the type")]
        io::Result::Ok(())
    });
    ready()?;
    while let Some(packet) = from_stack.next().await {
        device.send(&packet?).await?;
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// The device of its example with offloads, in the network namespace of this thread.
///
/// # Errors
/// Those of the device.
pub(crate) fn offload_device(name: &str, address: Ipv4Addr, mtu: u32) -> io::Result<SyncDevice> {
    let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
    DeviceBuilder::new().name(name).ipv4(address, 24, None).mtu(mtu).offload(true).build_sync()
}

/// With offloads: super-segments of the device are divided, and every packet to it is sent as it is.
pub(crate) async fn serve_offload(
    device: SyncDevice,
    handler: impl Handler,
    ready: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let device = Arc::new(AsyncDevice::new(device)?);
    let (mut to_stack, mut from_stack) = start(StackBuilder::default(), handler)?;
    let receiving = Arc::clone(&device);
    tokio::spawn(async move {
        let mut whole = vec![0; VIRTIO_NET_HDR_LEN + 65_535];
        let (mut bufs, mut sizes) = (vec![vec![0; PACKET]; IDEAL_BATCH_SIZE], vec![0; IDEAL_BATCH_SIZE]);
        while let Ok(count) = receiving.recv_multiple(&mut whole, &mut bufs, &mut sizes, 0).await {
            for (buf, &len) in bufs.iter().zip(&sizes).take(count) {
                if to_stack.send(buf[..len].to_vec()).await.is_err() {
                    return;
                }
            }
        }
    });
    ready()?;
    while let Some(packet) = from_stack.next().await {
        let packet = packet?;
        let mut framed = vec![0; VIRTIO_NET_HDR_LEN + packet.len()];
        framed[VIRTIO_NET_HDR_LEN..].copy_from_slice(&packet);
        device.send(&framed).await?;
    }
    Err(io::ErrorKind::UnexpectedEof.into())
}

/// Starts the stack and its services. Gives its two ends for a device.
fn start(builder: StackBuilder, handler: impl Handler) -> io::Result<(ToStack, FromStack)> {
    let (stack, runner, udp, tcp) = builder.enable_tcp(true).enable_udp(true).enable_icmp(true).build()?;
    let missing = || io::Error::other("it has not built what was enabled");
    tokio::spawn(runner.ok_or_else(missing)?);
    tokio::spawn(streams(tcp.ok_or_else(missing)?, handler));
    tokio::spawn(datagrams(udp.ok_or_else(missing)?));
    Ok(stack.split())
}

async fn streams(mut listener: TcpListener, handler: impl Handler) {
    while let Some((client, _, to)) = listener.next().await {
        let handler = handler.clone();
        tokio::spawn(async move { handler.connection(client, to).await });
    }
}

async fn datagrams(socket: UdpSocket) {
    let (mut from_clients, to_clients) = socket.split();
    let mut nat = Nat::new(ToClients(Arc::new(Mutex::new(to_clients))));
    while let Some((payload, client, to)) = from_clients.next().await {
        nat.send(client, to, &payload).await;
    }
}

/// The way back, of which there is one for all.
#[derive(Clone)]
struct ToClients(Arc<Mutex<netstack_smoltcp::udp::WriteHalf>>);

impl Replies for ToClients {
    async fn reply(&self, from: SocketAddr, client: SocketAddr, payload: &[u8]) {
        // A client that has ended.
        let _ = self.0.lock().await.send((payload.to_vec(), from, client)).await;
    }
}
