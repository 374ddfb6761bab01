//! The applications that use datagrams: clients, servers, and the forwarder of a host.

use super::{Context, address, flaky, place_of};
use crate::chats::Way;
use crate::plan::{Chat, Door};
use crate::rng::Rng;
use netstack::net::{UdpFlow, UdpForwarder, UdpForwarderConfig, UdpSocket};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

/// How long a client waits for the last answers.
const AFTERWARDS: Duration = Duration::from_secs(3);

/// Longer than any datagram of a chat.
const BUFFER: usize = 10_000;

impl Context {
    /// An operation of a chat failed.
    fn chat_failed(&self, chat: &Chat, what: &str, error: &io::Error) {
        // An ICMP error that a datagram was too long for its way.
        let too_long = error.raw_os_error() == Some(libc::EMSGSIZE);
        if self.ledger.chats.excuse(chat.number).is_none() && !too_long {
            let number = chat.number;
            self.ledger.violation(format!("chat {number}: host {} cannot {what}: {error}", self.host));
        }
    }

    /// Somebody received `bytes`. Which datagram it is, if it is one that was said.
    fn chat_received(&self, bytes: &[u8]) -> Option<(usize, u32, Way)> {
        self.ledger.chats.received(bytes).map_err(|what| self.ledger.violation(what)).ok()
    }
}

fn server_of(chat: &Chat) -> SocketAddr {
    SocketAddr::new(place_of(chat.server, chat.door, (chat.number, 0), chat.v6), chat.port())
}

fn unspecified(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

/// The client of a chat.
pub(super) async fn client(context: Context, chat: Chat) {
    context.sleep(Duration::from_millis(chat.start)).await;
    let mut rng = Rng::new(context.plan.seed, 8_000 + chat.number as u64);
    let to = server_of(&chat);
    let opened = async {
        let socket = UdpSocket::bind_on(&context.stack, (unspecified(chat.v6), 0)).await?;
        if chat.connected {
            socket.connect(to).await?;
        }
        io::Result::Ok(socket)
    };
    let socket = match opened.await {
        Ok(socket) => socket,
        Err(error) => {
            context.chat_failed(&chat, "open a socket", &error);
            context.ledger.chats.over(chat.number);
            return;
        }
    };
    let mut reading = Rng::new(rng.next(), 0);
    let listening = listen(&context, &chat, &socket, &mut reading);
    let saying = async {
        for number in 0..chat.datagrams {
            let bytes = context.ledger.chats.datagram(&chat, number, Way::There);
            let sent = match chat.connected {
                true => flaky!(context, rng, chat.cancel, socket.send(&bytes)),
                false => flaky!(context, rng, chat.cancel, socket.send_to(&bytes, to)),
            };
            match sent {
                Ok(len) if len == bytes.len() => context.ledger.chats.said((chat.number, number, Way::There)),
                Ok(len) => context.ledger.violation(format!("{len} of {} bytes were sent", bytes.len())),
                Err(error) => context.chat_failed(&chat, "send", &error),
            }
            context.sleep(Duration::from_micros(chat.gap)).await;
        }
        context.sleep(AFTERWARDS).await;
        context.ledger.chats.over(chat.number);
    };
    // Answers are received up to the end of all.
    tokio::join!(saying, context.ledger.unless_closing(listening));
}

async fn listen(context: &Context, chat: &Chat, socket: &UdpSocket, rng: &mut Rng) {
    let mut bytes = vec![0; BUFFER];
    loop {
        let (len, from) = match flaky!(context, rng, chat.cancel, socket.recv_from(&mut bytes)) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return,
            Err(error) => {
                context.chat_failed(chat, "receive", &error);
                if context.plan.is_gone(context.host) {
                    return;
                }
                continue;
            }
        };
        let id = context.chat_received(&bytes[..len]);
        if from != server_of(chat) || id.is_some_and(|id| (id.0, id.2) != (chat.number, Way::Back)) {
            context.ledger.violation(format!("chat {}: got {id:?} from {from}", chat.number));
        }
    }
}

/// The server of a chat that has a socket.
pub(super) async fn serve(context: Context, chat: Chat) {
    let mut rng = Rng::new(context.plan.seed, 8_500 + chat.number as u64);
    let everywhere = chat.door == Door::Own && rng.chance(500);
    let at = if everywhere { unspecified(chat.v6) } else { server_of(&chat).ip() };
    let socket = match UdpSocket::bind_on(&context.stack, (at, chat.port())).await {
        Ok(socket) => socket,
        Err(error) => {
            context.chat_failed(&chat, "bind a socket", &error);
            return;
        }
    };
    let work = async {
        let mut bytes = vec![0; BUFFER];
        loop {
            match flaky!(context, rng, chat.cancel, socket.recv_from(&mut bytes)) {
                Ok((len, from)) => {
                    let Some(id) = context.chat_received(&bytes[..len]) else { return };
                    if (id.0, id.2) != (chat.number, Way::There) {
                        context.ledger.violation(format!("chat {}: the server got {id:?}", chat.number));
                    }
                    let answer = context.ledger.chats.datagram(&chat, id.1, Way::Back);
                    match flaky!(context, rng, chat.cancel, socket.send_to(&answer, from)) {
                        Ok(_) => context.ledger.chats.said((chat.number, id.1, Way::Back)),
                        Err(error) => context.chat_failed(&chat, "answer", &error),
                    }
                }
                Err(error) => {
                    context.chat_failed(&chat, "receive a question", &error);
                    if context.plan.is_gone(context.host) {
                        return;
                    }
                }
            }
        }
    };
    let _ = context.ledger.unless_closing(work).await;
}

/// Takes the datagrams that nobody on this host has a socket for.
pub(super) async fn forward(context: Context) {
    let host = &context.plan.hosts[context.host];
    let config = UdpForwarderConfig::default().idle_timeout(Duration::from_millis(host.idle_flows));
    let forwarder = match UdpForwarder::start_on(&context.stack, config) {
        Ok(forwarder) => forwarder,
        Err(_) if context.plan.is_gone(context.host) => return,
        Err(error) => {
            context.ledger.violation(format!("host {} cannot forward datagrams: {error}", context.host));
            return;
        }
    };
    let work = async {
        if host.singly {
            return forward_singly(&context, &forwarder).await;
        }
        loop {
            let flow = forwarder.accept().await?;
            tokio::spawn(serve_flow(context.clone(), flow));
        }
    };
    if let Some(Err(error)) = context.ledger.unless_closing::<_>(work).await
        && !context.plan.is_gone(context.host)
    {
        let error: io::Error = error;
        context.ledger.violation(format!("host {} cannot forward any more: {error}", context.host));
    }
}

/// The chat of a datagram that a forwarder got from `from` for `to`, and its number.
fn forwarded(context: &Context, bytes: &[u8], from: SocketAddr, to: SocketAddr) -> Option<(Chat, u32)> {
    let id = context.chat_received(bytes)?;
    let chat = context.plan.chats.iter().find(|chat| chat.number == id.0)?.clone();
    if to.ip() == address(context.host, to.is_ipv6()) {
        // It was for a socket that went with the host when that was switched off.
        return None;
    }
    if to != server_of(&chat) || id.2 != Way::There || chat.door != Door::Forwarder {
        context
            .ledger
            .violation(format!("the forwarder of host {} got {id:?} for {to} from {from}", context.host));
    }
    Some((chat, id.1))
}

async fn forward_singly(context: &Context, forwarder: &UdpForwarder) -> io::Result<()> {
    let mut bytes = vec![0; BUFFER];
    loop {
        let (len, from, to) = forwarder.recv_from_to(&mut bytes).await?;
        let Some((chat, number)) = forwarded(context, &bytes[..len], from, to) else { continue };
        let answer = context.ledger.chats.datagram(&chat, number, Way::Back);
        match forwarder.send_from_to(&answer, to, from).await {
            Ok(_) => context.ledger.chats.said((chat.number, number, Way::Back)),
            Err(error) => context.chat_failed(&chat, "answer for another", &error),
        }
    }
}

/// Answers what is sent on a flow, until it has been idle for too long.
async fn serve_flow(context: Context, flow: UdpFlow) {
    let (from, to) = (flow.peer_addr(), flow.local_addr());
    let work = async {
        let mut bytes = vec![0; BUFFER];
        let mut last = None;
        loop {
            match flow.recv(&mut bytes).await {
                Ok(len) => {
                    let Some((chat, number)) = forwarded(&context, &bytes[..len], from, to) else { continue };
                    let answer = context.ledger.chats.datagram(&chat, number, Way::Back);
                    match flow.send(&answer).await {
                        Ok(_) => context.ledger.chats.said((chat.number, number, Way::Back)),
                        Err(error) => context.chat_failed(&chat, "answer on a flow", &error),
                    }
                    last = Some(chat);
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return,
                Err(error) => {
                    if let Some(chat) = &last {
                        context.chat_failed(chat, "receive on a flow", &error);
                    }
                    if context.plan.is_gone(context.host) {
                        return;
                    }
                }
            }
        }
    };
    let _ = context.ledger.unless_closing(work).await;
}
