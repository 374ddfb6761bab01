//! Why did this connection die? Ten deaths, and the answer of one call.
//!
//! ```text
//! cargo run --release -p netstack-examples --example why -- --history
//! ```
//!
//! Two stacks in virtual time, connected by a link in memory, are made for each ending. An application
//! that holds the `TcpStream` asks `end_reason()`; after it has dropped the stream, `Stack::recent_ends`
//! has the answer. The example fails if an answer is not the expected one.

use clap::Parser;
use netstack::device::{Link, LinkConfig};
use netstack::net::tcp::TcpKeepalive;
use netstack::net::{TcpListener, TcpStream};
use netstack::reasons::{EndReason, ResetReason};
use netstack::time::Duration;
use netstack::{Config, Interface, Stack};
use netstack_examples::cli;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PATH: &str = "delay=10ms,rate=100mbit";
const SECOND: Duration = Duration::from_secs(1);
/// In virtual time. The longest agony is that of a retransmission, with a quarter of an hour.
const LIMIT: Duration = Duration::from_secs(3600);

/// Lets ten connections die in different ways and asks why, in virtual time.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Show what each connection remembers of its last moments.
    #[arg(long)]
    history: bool,
}

#[derive(Clone, Copy, Debug)]
enum Death {
    Refused,
    ResetByPeer,
    UnreadData,
    Retransmission,
    Keepalive,
    UserTimeout,
    OrphanLimit,
    DeviceGone,
    StackShutDown,
    LingerZero,
}

impl Death {
    /// How it comes about, and what the stack is to say of it.
    fn expected(self) -> (&'static str, EndReason) {
        match self {
            Self::Refused => ("nobody listens", EndReason::Refused),
            Self::ResetByPeer => ("the peer resets it", EndReason::ResetByPeer),
            Self::UnreadData => ("closed with unread data", EndReason::Reset(ResetReason::TcpAbortOnClose)),
            Self::Retransmission => ("the cable is cut, data waits", EndReason::RetransmissionTimeout),
            Self::Keepalive => ("the cable is cut, keep-alive is on", EndReason::KeepaliveTimeout),
            Self::UserTimeout => ("the cable is cut, TCP_USER_TIMEOUT is set", EndReason::UserTimeout),
            Self::OrphanLimit => ("one orphan too many", EndReason::Reset(ResetReason::TcpAbortOnMemory)),
            Self::DeviceGone => ("the device is removed", EndReason::DeviceGone),
            Self::StackShutDown => ("the stack is shut down", EndReason::StackShutDown),
            Self::LingerZero => {
                ("closed with SO_LINGER zero", EndReason::Reset(ResetReason::TcpAbortOnLinger))
            }
        }
    }

    /// Lets the client of `net` die. The stream is returned if the application still holds it.
    async fn bring_about(self, net: &mut Net) -> io::Result<Option<TcpStream>> {
        if let Self::Refused = self {
            let error = net.left.connect("10.0.0.2:9").await.map(drop).unwrap_err();
            ensure(error.kind() == io::ErrorKind::ConnectionRefused, || error.to_string())?;
            return Ok(None);
        }
        let (mut client, mut server) = net.connect().await?;
        match self {
            Self::Refused => {}
            Self::ResetByPeer => server.set_zero_linger()?,
            Self::UnreadData => {
                server.write_all(b"never read").await?;
                client.readable().await?;
                drop(client);
                return Ok(None);
            }
            Self::Retransmission | Self::Keepalive | Self::UserTimeout => {
                let keepalive = TcpKeepalive::new().with_time(SECOND).with_interval(SECOND).with_retries(3);
                match self {
                    Self::Keepalive => client.set_tcp_keepalive(&keepalive)?,
                    Self::UserTimeout => client.set_tcp_user_timeout(Some(10 * SECOND))?,
                    _ => {}
                }
                net.cable.set_egress(LinkConfig { down: true, ..path() });
                net.cable.set_ingress(LinkConfig { down: true, ..path() });
                if !matches!(self, Self::Keepalive) {
                    client.write_all(b"lost").await?;
                }
                let failed = client.read(&mut [0; 1]).await.map(drop).unwrap_err();
                ensure(failed.kind() == io::ErrorKind::TimedOut, || failed.to_string())?;
            }
            Self::OrphanLimit => {
                drop(client);
                return Ok(None);
            }
            Self::DeviceGone => {
                drop((server, net.listener.take(), net.right.take()));
                return Ok(Some(client));
            }
            Self::StackShutDown => net.left.shutdown(Duration::ZERO).await,
            Self::LingerZero => {
                client.set_zero_linger()?;
                drop(client);
                return Ok(None);
            }
        }
        drop(server);
        Ok(Some(client))
    }
}

/// Two stacks and the link between them, as the left one sees it.
struct Net {
    left: Stack,
    right: Option<Stack>,
    listener: Option<TcpListener>,
    cable: Arc<Link>,
}

impl Net {
    async fn new(death: Death) -> io::Result<Self> {
        let (near, far) = Link::pair(path(), path());
        let cable = Arc::new(near);
        let left = Interface::new(Arc::clone(&cable) as _).address("10.0.0.1/24");
        let left = Stack::builder().name("left").interface(left).config(Config::default().with(|config| {
            config.seed = Some(1);
            config.history = 64;
            if let Death::OrphanLimit = death {
                config.max_orphans = 0;
            }
        }));
        let right = Interface::new(Arc::new(far)).address("10.0.0.2/24");
        let right = Stack::builder().name("right").interface(right);
        let right = right.config(Config::default().with(|config| config.seed = Some(2))).build()?;
        let listener = right.listen("10.0.0.2:7").await?;
        Ok(Self { left: left.build()?, right: Some(right), listener: Some(listener), cable })
    }

    /// A connection: the client's end and the server's.
    async fn connect(&self) -> io::Result<(TcpStream, TcpStream)> {
        let listener = self.listener.as_ref().expect("it listens");
        let (client, server) = tokio::try_join!(self.left.connect("10.0.0.2:7"), listener.accept())?;
        Ok((client, server.0))
    }
}

fn path() -> LinkConfig {
    PATH.parse().expect("a path")
}

fn main() -> ExitCode {
    let args: Args = cli::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    match runtime.and_then(|runtime| runtime.block_on(all(args.history))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

async fn all(history: bool) -> io::Result<()> {
    for death in [
        Death::Refused,
        Death::ResetByPeer,
        Death::UnreadData,
        Death::Retransmission,
        Death::Keepalive,
        Death::UserTimeout,
        Death::OrphanLimit,
        Death::DeviceGone,
        Death::StackShutDown,
        Death::LingerZero,
    ] {
        let death = tokio::time::timeout(LIMIT, tell(death, history)).await;
        death.map_err(|_| io::Error::other("it does not die"))??;
    }
    Ok(())
}

/// Lets a connection die, and shows and checks why it did.
async fn tell(death: Death, history: bool) -> io::Result<()> {
    let (how, expected) = death.expected();
    let mut net = Net::new(death).await?;
    let client = death.bring_about(&mut net).await?;
    let end = loop {
        if let Some(end) = net.left.recent_ends().last() {
            break *end;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let lived = (end.ended - end.began).as_secs_f64();
    println!("{how:<42} {lived:8.3} s   {}", end.reason);
    ensure(end.reason == expected, || format!("{death:?} ended as {:?}", end.reason))?;
    if let Some(client) = client {
        let reason = client.end_reason();
        ensure(reason == Some(expected), || format!("{death:?}: its stream says {reason:?}"))?;
        let events = client.history();
        ensure(!events.events.is_empty(), || "it has no history".to_owned())?;
        if history {
            let text = events.to_string();
            let lines: Vec<_> = text.lines().collect();
            lines.iter().skip(lines.len().saturating_sub(8)).for_each(|line| println!("    {line}"));
        }
    }
    Ok(())
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> io::Result<()> {
    if holds { Ok(()) } else { Err(io::Error::other(otherwise())) }
}
