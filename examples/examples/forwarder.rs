//! A transparent proxy in memory: clients connect to any address and port, and the proxy decides.
//!
//! ```text
//! cargo run -p netstack-examples --example forwarder
//! ```
//!
//! Three stacks in virtual time: clients, a proxy, and a server behind it. The interface of the proxy that the
//! clients are behind accepts packets for any address (`Interface::any_ip`), and `Stack::tcp_forwarder`
//! returns each of their SYNs with the address that it is for. The proxy connects there first, and then
//! accepts the client or refuses it with the error that it got. DNS it answers itself, with an ordinary
//! listener on port 53. The server takes all addresses of 203.0.113.0/24 and listens on port 80.
//!
//! The example fails if a client does not see what it should.

use netstack::device::{Link, LinkConfig};
use netstack::net::{PendingStream, TcpForwarder, TcpForwarderConfig, TcpListener, TcpStream};
use netstack::time::Duration;
use netstack::{Interface, Stack};
use netstack_examples::cli;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::time::Instant;

/// How many clients there are at a time, each of which wants another address.
const CLIENTS: u8 = 200;
const PATH: &str = "delay=10ms,rate=100mbit";

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let outcome = runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(run()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

type Outcome = Result<(), Box<dyn std::error::Error>>;

async fn run() -> Outcome {
    let (clients, proxy, server) = stacks()?;
    let web = TcpListener::bind_on(&server, "0.0.0.0:80").await?;
    tokio::spawn(serve(web, "the server"));
    let dns = TcpListener::bind_on(&proxy, "0.0.0.0:53").await?;
    tokio::spawn(serve(dns, "the proxy"));
    let forwarder = proxy.tcp_forwarder(TcpForwarderConfig::default().interface("clients"))?;
    tokio::spawn(forward(proxy.clone(), forwarder));

    let begin = Instant::now();
    let mut asked = tokio::task::JoinSet::new();
    for n in 1..=CLIENTS {
        let clients = clients.clone();
        asked.spawn(async move { ask(&clients, &format!("203.0.113.{n}:80")).await });
    }
    let mut answers = 0;
    while let Some(answer) = asked.join_next().await {
        let answer = answer??;
        expect(answer.starts_with("the server at 203.0.113."), &answer)?;
        answers += 1;
    }
    println!("{answers} clients were served at {answers} addresses within {:?}", begin.elapsed());

    let answer = ask(&clients, "198.51.100.53:53").await?;
    println!("DNS at 198.51.100.53 was answered by {answer}");
    expect(answer == "the proxy at 198.51.100.53:53", &answer)?;

    for (to, expected) in [
        ("203.0.113.1:81", io::ErrorKind::ConnectionRefused),
        ("192.0.2.1:80", io::ErrorKind::HostUnreachable),
    ] {
        let error = clients.connect(to).await.err().ok_or("it was accepted")?;
        println!("{to}: {error}");
        expect(error.kind() == expected, &error.to_string())?;
    }
    Ok(())
}

fn expect(holds: bool, found: &str) -> Outcome {
    if holds { Ok(()) } else { Err(format!("not what was expected: {found}").into()) }
}

/// The clients' stack, the proxy's and the server's.
fn stacks() -> Result<(Stack, Stack, Stack), Box<dyn std::error::Error>> {
    let path: LinkConfig = PATH.parse()?;
    let link = || {
        let (near, far) = Link::pair(path.clone(), path.clone());
        (Interface::new(Arc::new(near)), Interface::new(Arc::new(far)))
    };
    let ((client, inside), (outside, server)) = (link(), link());
    let build = |name: &str, interfaces: Vec<Interface>| {
        let builder = Stack::builder().name(name);
        interfaces.into_iter().fold(builder, |builder, interface| builder.interface(interface)).build()
    };
    let client = client.address("10.0.0.2/24").gateway("10.0.0.1");
    let inside = inside.name("clients").address("10.0.0.1/24").any_ip("0.0.0.0/0");
    // Behind the proxy there is one network, and no way to any other.
    let outside = outside.name("upstream").address("203.0.113.254/24");
    let server = server.address("203.0.113.253/24").any_ip("203.0.113.0/24");
    Ok((
        build("clients", vec![client])?,
        build("proxy", vec![inside, outside])?,
        build("server", vec![server])?,
    ))
}

/// The proxy.
async fn forward(stack: Stack, forwarder: TcpForwarder) -> io::Result<()> {
    loop {
        let pending = forwarder.accept().await?;
        tokio::spawn(relay(stack.clone(), pending));
    }
}

/// Serves one client.
async fn relay(stack: Stack, pending: PendingStream) -> io::Result<(u64, u64)> {
    match tokio::time::timeout(Duration::from_secs(10), stack.connect(pending.local_addr())).await {
        Ok(Ok(mut upstream)) => {
            let mut client = pending.accept().await?;
            copy_bidirectional(&mut client, &mut upstream).await
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::NetworkUnreachable => {
            pending.refuse_as(&io::ErrorKind::HostUnreachable.into());
            Err(error)
        }
        Ok(Err(error)) => {
            pending.refuse_as(&error);
            Err(error)
        }
        Err(late) => {
            pending.ignore();
            Err(late.into())
        }
    }
}

/// Says at which address it was reached, once the client has said all.
async fn serve(listener: TcpListener, name: &'static str) -> io::Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            stream.read_to_end(&mut Vec::new()).await?;
            stream.write_all(format!("{name} at {}", stream.local_addr()?).as_bytes()).await?;
            stream.shutdown().await
        });
    }
}

/// Asks who is at an address, by a connection that is closed in one direction first.
async fn ask(stack: &Stack, address: &str) -> io::Result<String> {
    let mut stream: TcpStream = stack.connect(address).await?;
    stream.write_all(b"who is there?").await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
