//! Datagrams: as flows with a socket each, or with one socket or relay for each client.

use super::batch::Pair;
use super::log::{Value, text};
use super::run::Shared;
use super::upstream::Cone;
use crate::kernel;
use netstack::icmp::Unreachable;
use netstack::net::{UdpFlow, UdpForwarder};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// A DNS query has one answer: its flow need not last.
const DNS: u16 = 53;
const DNS_IDLE: Duration = Duration::from_secs(10);

/// Datagrams of one client that wait for its association.
const WAITING: usize = 64;

/// Serves the flows of a forwarder, each with a socket of its own.
pub(super) async fn serve_flows(shared: Arc<Shared>, forwarder: UdpForwarder) -> io::Result<()> {
    loop {
        let flow = forwarder.accept().await?;
        shared.others.spawn(serve_flow(Arc::clone(&shared), flow));
    }
}

async fn serve_flow(shared: Arc<Shared>, flow: UdpFlow) {
    let (client, to) = (flow.peer_addr(), flow.local_addr());
    if to.port() == DNS && DNS_IDLE < shared.config.timeouts.udp {
        let _ = flow.set_idle_timeout(DNS_IDLE);
    }
    let (mut up, mut down) = (0, 0);
    let outcome = match shared.config.outbound.connected_udp(to).await {
        Ok(upstream) => relay(&shared, &flow, &upstream, &mut up, &mut down).await,
        Err(error) => error,
    };
    shared.counts.udp_done.fetch_add(1, Ordering::Relaxed);
    let mut fields = vec![
        ("client", text(client)),
        ("to", text(to)),
        ("up", Value::Number(up)),
        ("down", Value::Number(down)),
    ];
    match outcome.kind() {
        // It is over, or had to make room.
        io::ErrorKind::TimedOut | io::ErrorKind::ConnectionAborted => {}
        kind => {
            fields.push(("error", text(&outcome)));
            match kind {
                io::ErrorKind::ConnectionRefused => flow.refuse(),
                io::ErrorKind::NetworkUnreachable => flow.unreachable(Unreachable::Network),
                io::ErrorKind::PermissionDenied => flow.unreachable(Unreachable::Prohibited),
                io::ErrorKind::HostUnreachable => flow.unreachable(Unreachable::Host),
                _ => {}
            }
        }
    }
    shared.log.event("udp", &fields);
}

/// Copies datagrams until the flow or the upstream fails, and gives the error.
async fn relay(
    shared: &Shared,
    flow: &UdpFlow,
    upstream: &UdpSocket,
    up: &mut u64,
    down: &mut u64,
) -> io::Error {
    let pair = Pair::new(flow, upstream);
    loop {
        let outcome = tokio::select! {
            ready = flow.as_ref().readable() => ready.map(|()| true),
            ready = kernel::readable(upstream) => ready.map(|()| false),
        };
        let moved = match outcome {
            Ok(true) => pair.up(&mut shared.buffers.take()).await.map(|bytes| *up += bytes),
            Ok(false) => pair.down(&shared.buffers).await.map(|bytes| *down += bytes),
            Err(error) => Err(error),
        };
        if let Err(error) = moved {
            return error;
        }
    }
}

/// Serves the datagrams of a forwarder: those of one client leave through one socket or relay.
pub(super) async fn serve_clients(shared: Arc<Shared>, forwarder: UdpForwarder) -> io::Result<()> {
    let forwarder = Arc::new(forwarder);
    let mut clients = HashMap::<SocketAddr, mpsc::Sender<(Vec<u8>, SocketAddr)>>::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (len, client, to) = forwarder.recv_from_to(&mut buffer).await?;
        let datagram = (buffer[..len].to_vec(), to);
        let datagram = match clients.get(&client).map(|known| known.try_send(datagram)) {
            Some(Ok(())) => continue,
            // Its association is slower than the client.
            Some(Err(mpsc::error::TrySendError::Full(_))) => {
                shared.counts.udp_lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            Some(Err(mpsc::error::TrySendError::Closed(datagram))) => datagram,
            None => (buffer[..len].to_vec(), to),
        };
        if clients.len() >= shared.config.limits.flows {
            clients.retain(|_, known| !known.is_closed());
        }
        if clients.len() >= shared.config.limits.flows {
            shared.counts.udp_lost.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let (sender, receiver) = mpsc::channel(WAITING);
        // It has room for one.
        let _ = sender.try_send(datagram);
        clients.insert(client, sender);
        shared.others.spawn(serve_client(Arc::clone(&shared), Arc::clone(&forwarder), client, receiver));
    }
}

async fn serve_client(
    shared: Arc<Shared>,
    forwarder: Arc<UdpForwarder>,
    client: SocketAddr,
    mut datagrams: mpsc::Receiver<(Vec<u8>, SocketAddr)>,
) {
    let (mut up, mut down) = (0, 0);
    let outcome = async {
        let connect = shared.config.outbound.associate(client);
        let cone = tokio::time::timeout(shared.config.timeouts.connect, connect).await??;
        relay_client(&shared, &forwarder, client, &cone, &mut datagrams, (&mut up, &mut down)).await
    };
    let outcome: io::Result<()> = outcome.await;
    shared.counts.udp_done.fetch_add(1, Ordering::Relaxed);
    let mut fields = vec![("client", text(client)), ("up", Value::Number(up)), ("down", Value::Number(down))];
    if let Err(error) = outcome {
        fields.push(("error", text(error)));
    }
    shared.log.event("udp-client", &fields);
}

/// Copies datagrams until the client is idle.
async fn relay_client(
    shared: &Shared,
    forwarder: &UdpForwarder,
    client: SocketAddr,
    cone: &Cone,
    datagrams: &mut mpsc::Receiver<(Vec<u8>, SocketAddr)>,
    (up, down): (&mut u64, &mut u64),
) -> io::Result<()> {
    let mut buffer = shared.buffers.take();
    loop {
        tokio::select! {
            datagram = datagrams.recv() => {
                let Some((payload, to)) = datagram else { return Ok(()) };
                *up += payload.len() as u64;
                // What cannot be sent to one host says nothing about the others.
                if cone.send_to(&payload, to).await.is_err() {
                    shared.counts.udp_lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            received = cone.recv_from(&mut buffer) => {
                let (payload, from) = received?;
                *down += payload.len() as u64;
                if forwarder.send_from_to(&buffer[payload], from, client).await.is_err() {
                    shared.counts.udp_lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            () = tokio::time::sleep(shared.config.timeouts.udp) => return Ok(()),
        }
    }
}
