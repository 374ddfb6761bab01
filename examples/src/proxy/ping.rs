//! Pings, which the hosts behind the proxy answer.
//!
//! They are asked by ICMP sockets for echo requests (`SOCK_DGRAM`), for which a process needs no privilege if its
//! group is in `net.ipv4.ping_group_range`.

use super::log::text;
use super::run::Shared;
use crate::kernel;
use netstack::icmp::Unreachable;
use netstack::net::{EchoForwarder, PendingEcho};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Answers echo requests with what their receivers answer.
pub(super) async fn serve(shared: Arc<Shared>, forwarder: EchoForwarder) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(shared.config.limits.questions));
    loop {
        let ping = forwarder.recv().await?;
        // Above the limit nobody answers.
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            shared.others.spawn(ask(Arc::clone(&shared), ping, place));
        }
    }
}

async fn ask(shared: Arc<Shared>, ping: PendingEcho, _place: OwnedSemaphorePermit) {
    let (client, to) = (ping.src(), ping.dst());
    let outcome = tokio::time::timeout(shared.config.timeouts.question, exchange(&shared, &ping)).await;
    match outcome {
        Ok(Ok(())) => {
            shared.counts.pings.fetch_add(1, Ordering::Relaxed);
            ping.reply();
        }
        Ok(Err(error)) => {
            shared.log.event("ping", &[("client", text(client)), ("to", text(to)), ("error", text(&error))]);
            match error.kind() {
                io::ErrorKind::NetworkUnreachable => ping.unreachable(Unreachable::Network),
                io::ErrorKind::HostUnreachable => ping.unreachable(Unreachable::Host),
                _ => {}
            }
        }
        // Nobody answers, and so does the proxy.
        Err(_) => {}
    }
}

/// Sends the same request to the same host, and waits for the reply.
async fn exchange(shared: &Shared, ping: &PendingEcho) -> io::Result<()> {
    let to = ping.dst();
    let (domain, protocol, request, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(protocol))?;
    shared.config.outbound.bind_device(SockRef::from(&socket))?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    // It is a socket of datagrams, as those of UDP are.
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))?;
    let [high, low] = ping.sequence().to_be_bytes();
    // The kernel fills in the checksum and the identifier.
    let message = [&[request, 0, 0, 0, 0, 0, high, low], ping.data()].concat();
    socket.send(&message).await?;
    let mut answer = shared.buffers.take();
    loop {
        let len = kernel::recv(&socket, &mut answer).await?;
        let [kind, _, _, _, _, _, s1, s0, data @ ..] = &answer[..len] else { continue };
        if (*kind, [*s1, *s0]) == (reply, [high, low]) && data == ping.data() {
            return Ok(());
        }
    }
}
