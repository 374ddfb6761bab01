//! The applications: clients and servers of each talk, on the sockets of `netstack::net`.

mod datagrams;
mod script;

use crate::host::MS;
use crate::ledger::{Id, Ledger, Party};
use crate::plan::{Door, Plan, Side, Talk};
use crate::rng::{Rng, mix};
use netstack::net::{
    PendingListener, PendingStream, TcpForwarder, TcpForwarderConfig, TcpListener, TcpSocket, TcpStream,
};
use netstack::{SockRef, Stack};
use script::End;
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

/// Awaits an operation that loses nothing if its future is dropped; in so many of a thousand cases it is,
/// and made again.
macro_rules! flaky {
    ($context:expr, $rng:expr, $chance:expr, $operation:expr) => {
        loop {
            if !$rng.chance($chance) {
                break $operation.await;
            }
            let limit = std::time::Duration::from_micros($rng.scale(1..=50_000));
            if let Some(outcome) = $context.timeout(limit, $operation).await {
                break outcome;
            }
        }
    };
}
pub(crate) use flaky;

/// When the applications of a host want to be woken, by the nanoseconds of its clock.
#[derive(Default)]
pub(crate) struct Timers(Mutex<BTreeSet<u64>>);

impl Timers {
    fn add(&self, at: u64) {
        self.0.lock().expect("no panic under this lock").insert(at);
    }

    /// The first after `now`.
    pub(crate) fn next(&self, now: u64) -> Option<u64> {
        let mut all = self.0.lock().expect("no panic under this lock");
        *all = all.split_off(&now.saturating_add(1));
        all.first().copied()
    }
}

/// What an application knows of where it runs.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) host: usize,
    pub(crate) stack: Stack,
    pub(crate) plan: Arc<Plan>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) timers: Arc<Timers>,
    /// When the clock of the host was zero.
    pub(crate) origin: Instant,
    /// Histories are wanted.
    pub(crate) reports: bool,
}

/// The address of a host.
pub(crate) fn address(host: usize, v6: bool) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, host as u16 + 1).into()
    } else {
        Ipv4Addr::new(10, 0, 0, host as u8 + 1).into()
    }
}

/// The prefix of addresses that a host accepts packets for.
pub(crate) fn any_prefix(host: usize, v6: bool) -> String {
    if v6 { format!("fd01:0:0:{}::/64", host + 1) } else { format!("10.1.{}.0/24", host + 1) }
}

/// An address of that prefix, another one for each connection.
fn any_address(host: usize, id: Id, v6: bool) -> IpAddr {
    let number = (id.0 * 40 + id.1 % 40) as u16 % 250 + 1;
    if v6 {
        Ipv6Addr::new(0xfd01, 0, 0, host as u16 + 1, 0, 0, 0, number).into()
    } else {
        Ipv4Addr::new(10, 1, host as u8 + 1, number as u8).into()
    }
}

/// Where the server of a connection or chat is found.
pub(crate) fn place_of(host: usize, door: Door, id: Id, v6: bool) -> IpAddr {
    match door {
        Door::Own => address(host, v6),
        Door::AnyIp | Door::Forwarder => any_address(host, id, v6),
    }
}

/// The host that gets packets for an address.
pub(crate) fn host_of(to: IpAddr) -> Option<usize> {
    let number = match to {
        IpAddr::V4(to) => match to.octets() {
            [10, 0, 0, host] | [10, 1, host, _] => host.into(),
            _ => return None,
        },
        IpAddr::V6(to) => match to.segments() {
            [0xfd00, 0, 0, 0, 0, 0, 0, host] | [0xfd01, 0, 0, host, ..] => host,
            _ => return None,
        },
    };
    usize::from(number).checked_sub(1)
}

impl Context {
    pub(crate) async fn sleep(&self, time: Duration) {
        tokio::time::sleep_until(self.wake_after(time)).await;
    }

    pub(crate) async fn timeout<F: Future>(&self, limit: Duration, work: F) -> Option<F::Output> {
        tokio::time::timeout_at(self.wake_after(limit), work).await.ok()
    }

    fn wake_after(&self, time: Duration) -> Instant {
        let at = Instant::now() + time;
        // The timers of the runtime round up.
        let ms = (at - self.origin).as_nanos().div_ceil(u128::from(MS)) as u64;
        self.timers.add(ms * MS);
        at
    }

    fn rng(&self, id: Id, side: Side) -> Rng {
        Rng::new(self.plan.seed, mix((id.0 * 1_000 + id.1) as u64) ^ side as u64)
    }

    /// Starts the servers of this host, and its clients if it has just been built.
    pub(crate) fn start(&self, with_clients: bool) {
        let forwards = |server, door| server == self.host && door == Door::Forwarder;
        if self.plan.talks.iter().any(|talk| forwards(talk.server, talk.door)) {
            tokio::spawn(forward(self.clone()));
        }
        if self.plan.chats.iter().any(|chat| forwards(chat.server, chat.door)) {
            tokio::spawn(datagrams::forward(self.clone()));
        }
        for chat in self.plan.chats.clone() {
            if chat.server == self.host && chat.door != Door::Forwarder {
                tokio::spawn(datagrams::serve(self.clone(), chat.clone()));
            }
            if chat.client == self.host && with_clients {
                tokio::spawn(datagrams::client(self.clone(), chat));
            }
        }
        for talk in self.plan.talks.clone() {
            if talk.server == self.host && talk.door != Door::Forwarder {
                tokio::spawn(serve(self.clone(), talk.clone()));
            }
            if talk.client == self.host && with_clients {
                tokio::spawn(clients(self.clone(), talk));
            }
        }
    }
}

/// The clients of a talk.
async fn clients(context: Context, talk: Talk) {
    context.sleep(Duration::from_millis(talk.start)).await;
    for connection in 0..talk.connections {
        let id = (talk.number, connection);
        context.ledger.start(id);
        tokio::spawn(client(context.clone(), talk.clone(), id));
        context.sleep(Duration::from_millis(talk.gap)).await;
    }
}

async fn client(context: Context, talk: Talk, id: Id) {
    let work = async {
        let mut rng = context.rng(id, Side::Client);
        match connect(&context, &talk, id, &mut rng).await {
            Ok((stream, to)) => {
                // A stream whose SYN waits for data does not say who its peer is (ENOTCONN).
                if let Ok(local) = stream.local_addr() {
                    context.ledger.connected(id, local, to);
                }
                talk_to(&context, &talk, id, stream, rng).await;
            }
            Err(error) => context.ledger.failed(id, Party::Client, "connect", &error),
        }
    };
    let _ = context.ledger.unless_given_up(id, work).await;
    context.ledger.done(id, Party::Client);
}

/// A connection, and the address that it leads to.
async fn connect(
    context: &Context,
    talk: &Talk,
    id: Id,
    rng: &mut Rng,
) -> io::Result<(TcpStream, SocketAddr)> {
    let to = if talk.client == talk.server && rng.chance(500) {
        if talk.v6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() }
    } else {
        place_of(talk.server, talk.door, id, talk.v6)
    };
    let to = SocketAddr::new(to, talk.port());
    let attempt = || async {
        let socket = socket(&context.stack, talk)?;
        if talk.sockets.fast_open {
            socket.set_tcp_fastopen_connect(true)?;
        }
        Ok((socket.connect(to).await?, to))
    };
    flaky!(context, rng, talk.cancel, attempt())
}

fn socket(stack: &Stack, talk: &Talk) -> io::Result<TcpSocket> {
    let socket = if talk.v6 { TcpSocket::new_v6_on(stack) } else { TcpSocket::new_v4_on(stack) }?;
    if let Some(size) = talk.sockets.send_buffer {
        socket.set_send_buffer_size(size)?;
    }
    if let Some(size) = talk.sockets.receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    if talk.sockets.fast_open {
        // For listeners.
        socket.set_tcp_fastopen(16)?;
    }
    Ok(socket)
}

fn set_options(stream: &TcpStream, talk: &Talk) -> io::Result<()> {
    stream.set_nodelay(talk.sockets.nodelay)?;
    stream.set_keepalive(talk.sockets.keepalive)?;
    if talk.sockets.linger {
        SockRef::from(stream).set_linger(Some(Duration::from_secs(600)))?;
    }
    if let Some(bytes) = talk.sockets.notsent_lowat {
        stream.set_tcp_notsent_lowat(bytes)?;
    }
    Ok(())
}

/// The client's end of a connection.
async fn talk_to(context: &Context, talk: &Talk, id: Id, mut stream: TcpStream, rng: Rng) {
    let opened = async {
        set_options(&stream, talk)?;
        // Which one it is.
        stream.write_all(&(id.1 as u32).to_be_bytes()).await
    };
    if let Err(error) = opened.await {
        context.ledger.failed(id, Party::Client, "say who it is", &error);
        return;
    }
    End { context, talk, id, party: Party::Client }.run(stream, rng).await;
}

enum Listening {
    Open(TcpListener),
    Pending(PendingListener, Duration),
}

/// The server of a talk.
async fn serve(context: Context, talk: Talk) {
    let mut rng = Rng::new(context.plan.seed, 5_000 + talk.number as u64);
    let door = match open(&context, &talk, &mut rng) {
        Ok(door) => door,
        // The device is gone.
        Err(_) if context.plan.is_gone(context.host) => return,
        Err(error) => {
            context.ledger.violation(format!("talk {}: the server cannot listen: {error}", talk.number));
            return;
        }
    };
    loop {
        let next = async {
            match &door {
                Listening::Open(listener) => {
                    let (stream, _) = flaky!(context, rng, talk.cancel, listener.accept())?;
                    tokio::spawn(serve_connection(context.clone(), talk.clone(), stream));
                }
                Listening::Pending(listener, wait) => {
                    let pending = flaky!(context, rng, talk.cancel, listener.accept())?;
                    tokio::spawn(decide(context.clone(), talk.clone(), pending, *wait));
                }
            }
            io::Result::Ok(())
        };
        match context.ledger.unless_closing(next).await {
            None => return,
            Some(Ok(())) => {}
            // The device is gone.
            Some(Err(_)) if context.plan.is_gone(context.host) => return,
            Some(Err(error)) => {
                let number = talk.number;
                context.ledger.violation(format!("talk {number}: the server cannot accept: {error}"));
                return;
            }
        }
    }
}

/// Accepts a connection after a while.
async fn decide(context: Context, talk: Talk, pending: PendingStream, wait: Duration) {
    let accept = async {
        context.sleep(wait).await;
        pending.accept().await
    };
    // The client may have left meanwhile.
    if let Some(Ok(stream)) = context.ledger.unless_closing(accept).await {
        serve_connection(context, talk, stream).await;
    }
}

fn open(context: &Context, talk: &Talk, rng: &mut Rng) -> io::Result<Listening> {
    let socket = socket(&context.stack, talk)?;
    let everywhere = talk.client == talk.server || rng.chance(500) || talk.door == Door::AnyIp;
    let at: IpAddr = match (everywhere, talk.v6) {
        (true, true) => Ipv6Addr::UNSPECIFIED.into(),
        (true, false) => Ipv4Addr::UNSPECIFIED.into(),
        (false, v6) => address(context.host, v6),
    };
    socket.bind(SocketAddr::new(at, talk.port()))?;
    match talk.sockets.pending {
        Some(wait) => {
            Ok(Listening::Pending(socket.listen_pending(talk.sockets.backlog)?, Duration::from_millis(wait)))
        }
        None => Ok(Listening::Open(socket.listen(talk.sockets.backlog)?)),
    }
}

/// Takes the connections that nobody on this host listens for.
async fn forward(context: Context) {
    let forwarder = match TcpForwarder::start_on(&context.stack, TcpForwarderConfig::default()) {
        Ok(forwarder) => forwarder,
        Err(_) if context.plan.is_gone(context.host) => return,
        Err(error) => {
            context.ledger.violation(format!("host {} cannot forward: {error}", context.host));
            return;
        }
    };
    let work = async {
        loop {
            let pending = forwarder.accept().await?;
            let local = pending.local_addr();
            let talks = context.plan.talks.iter();
            let talk = talks.clone().find(|talk| talk.port() == local.port() && talk.server == context.host);
            match talk {
                Some(talk) if talk.door == Door::Forwarder => {
                    let wait = Duration::from_millis(talk.sockets.pending.unwrap_or(0));
                    tokio::spawn(decide(context.clone(), talk.clone(), pending, wait));
                }
                // Somebody asks for what went with the host when that was switched off.
                _ if local.ip() == address(context.host, local.is_ipv6()) => pending.refuse(),
                _ => {
                    let what = format!("the forwarder of host {} got a SYN for {local}", context.host);
                    context.ledger.violation(what);
                    pending.refuse();
                }
            }
        }
    };
    let outcome: Option<io::Result<()>> = context.ledger.unless_closing(work).await;
    if let Some(Err(error)) = outcome
        && !context.plan.is_gone(context.host)
    {
        context.ledger.violation(format!("host {} cannot forward any more: {error}", context.host));
    }
}

/// The server's end of a connection.
async fn serve_connection(context: Context, talk: Talk, mut stream: TcpStream) {
    let mut which = [0; 4];
    // A client that gave up may not have said who it is.
    let told = context.ledger.unless_closing(stream.read_exact(&mut which)).await;
    let id = (talk.number, u32::from_be_bytes(which) as usize);
    match told {
        Some(Ok(_)) if context.ledger.is_known(id) => {
            let party = context.ledger.begin_serving(id);
            let wanted = place_of(context.host, talk.door, id, talk.v6);
            if stream.local_addr().is_ok_and(|local| talk.door != Door::Own && local.ip() != wanted) {
                let local = stream.local_addr();
                context.ledger.violation(format!("connection {id:?} is at {local:?}, and not at {wanted}"));
            }
            let work = async {
                let rng = context.rng(id, Side::Server);
                if let Err(error) = set_options(&stream, &talk) {
                    context.ledger.failed(id, party, "set options", &error);
                }
                End { context: &context, talk: &talk, id, party }.run(stream, rng).await;
            };
            let _ = context.ledger.unless_given_up(id, work).await;
            context.ledger.done(id, party);
        }
        Some(Ok(_)) => {
            context.ledger.violation(format!("talk {}: a client says that it is {id:?}", talk.number));
        }
        _ => {}
    }
}
