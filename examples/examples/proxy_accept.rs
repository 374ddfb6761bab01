//! A proxy that connects to its upstream before it answers its client.
//!
//! ```text
//! cargo run -p netstack-examples --example proxy_accept
//! ```
//!
//! A proxy on ordinary sockets is notified of a client after the handshake: the client is connected
//! before the proxy knows whether the server behind it can be reached. If it cannot, the client
//! sees a connection that opens and then fails. A `PendingListener` returns the SYN instead. The
//! proxy connects to its upstream first, and then completes the handshake or refuses the client
//! with the error that it got.
//!
//! With Fast Open the client's SYN carries its first data, which the proxy reads before it decides
//! where to connect to, for example by the server name in a TLS ClientHello, or that it refuses the
//! client.
//!
//! The Linux kernel is the client and the server behind the proxy; the proxy between them runs on
//! netstack. The last scene does the same with an ordinary listener, for comparison.

use netstack::Stack;
use netstack::net::{PendingListener, PendingStream, TcpStream};
use netstack_examples::tour::{self, Net, Peer, Side, Tour, errno};
use netstack_tun::netns;
use socket2::{Domain, Socket, Type};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::{AsyncReadExt, copy_bidirectional};
use tokio::time::{Instant, sleep};

/// Where the proxy listens.
const PROXY: u16 = 8080;
/// Where the server behind it listens.
const SERVER: u16 = 9000;
/// How long a slow upstream takes: longer than the 1 s after which a client retransmits its SYN.
const SLOW: Duration = Duration::from_millis(1500);
const SLACK: Duration = Duration::from_millis(500);
/// `MSG_FASTOPEN` of the kernel's sendto.
const MSG_FASTOPEN: i32 = 0x2000_0000;
/// The requests of the clients. There is no server behind the proxy with the second name.
const WANTED: &[u8] = b"GET http://known.example/";
const UNKNOWN: &[u8] = b"GET http://unknown.example/";
const ANSWER: &[u8] = b"200 OK";

fn main() -> ExitCode {
    tour::main(
        "proxy_accept",
        "How does a proxy answer its client only once its upstream has answered it?",
        |tour| {
            slow_upstream(tour)?;
            refused(tour)?;
            unreachable(tour)?;
            given_up(tour)?;
            named_in_the_syn(tour)?;
            ordinary_listener(tour)
        },
    )
}

fn stack_of(net: &Net) -> io::Result<Stack> {
    net.right.stack().ok_or_else(|| io::Error::other("the proxy runs on netstack"))
}

async fn listen(net: &Net) -> io::Result<(Stack, PendingListener)> {
    let stack = stack_of(net)?;
    let listener = PendingListener::bind_on(&stack, net.right.at(PROXY)).await?;
    Ok((stack, listener))
}

/// What the client's SYN offers.
fn offer(pending: &PendingStream) -> String {
    let options = pending.options();
    let mss = options.mss.map_or("no MSS".to_owned(), |mss| format!("MSS {mss}"));
    let scale = options.window_scale.map_or("no window scale".to_owned(), |n| format!("window scale {n}"));
    format!("{mss}, {scale}")
}

/// Serves one client of the proxy. This is the whole proxy.
async fn proxy(
    net: &Net,
    stack: &Stack,
    listener: &PendingListener,
    upstream: SocketAddr,
) -> io::Result<(u64, u64)> {
    let pending = listener.accept().await?;
    net.right.says(format!("a SYN; {}", offer(&pending)));
    match TcpStream::connect_on(stack, upstream).await {
        Ok(mut upstream) => {
            net.right.says("the upstream is connected");
            let mut client = pending.accept().await?;
            copy_bidirectional(&mut client, &mut upstream).await
        }
        Err(error) => {
            net.right.says(format!("the upstream: {}", errno(&error)));
            pending.refuse_as(&error);
            Err(error)
        }
    }
}

/// The upstream is slow. The client retransmits its SYN in the meantime.
fn slow_upstream(tour: &mut Tour) -> io::Result<()> {
    let scene = tour
        .scene("slow", "The upstream is slow", Peer::Kernel(Side::Left))
        .names("client", "proxy")
        .third("server", SERVER);
    let scene = scene.run(async |net| {
        let (stack, listener) = listen(net).await?;
        let server = net.left.on_third_lifeline().listen(SERVER)?;
        let proxy = async {
            // As long as a busy server may take.
            sleep(SLOW).await;
            proxy(net, &stack, &listener, net.left.at(SERVER)).await
        };
        let client = async {
            let start = Instant::now();
            let mut client = net.left.connect(net.right.at(PROXY)).await?;
            let took = start.elapsed();
            client.write(b"request").await?;
            let answer = client.read(100).await?;
            client.close();
            io::Result::Ok((took, answer))
        };
        let server = async {
            let mut stream = server.accept().await?;
            let request = stream.read(100).await?;
            stream.write(b"answer").await?;
            stream.read(100).await?;
            stream.close();
            io::Result::Ok(request)
        };
        let (proxied, client, server) = tokio::join!(proxy, client, server);
        Ok((proxied?, client?, server?))
    })?;
    let (proxied, (took, answer), request) = scene.value;
    tour.at("the client is connected when the upstream is", took, SLOW, SLACK);
    let of_client = scene.segments.from(Side::Left).filter(|seg| seg.is("SYN"));
    tour.claim("it repeated its SYN meanwhile, which was absorbed", of_client.len() >= 2);
    let answers = scene.segments.from(Side::Right).filter(|seg| seg.is("SYN,ACK"));
    tour.equal("and was answered once", &answers.len(), &1);
    tour.equal("the request arrived", request.as_slice(), b"request");
    tour.equal("and so did the answer", answer.as_slice(), b"answer");
    tour.equal("bytes that the proxy passed on", &proxied, &(7, 6));
    Ok(())
}

/// What the client of a proxy with this upstream sees, and what is on the wire.
fn refusal(
    tour: &mut Tour,
    name: &str,
    title: &str,
    upstream: Option<SocketAddr>,
) -> io::Result<(String, bool)> {
    let scene = tour.scene(name, title, Peer::Kernel(Side::Left)).names("client", "proxy");
    // A server without a route has no lifeline.
    let scene = if upstream.is_none() { scene.third("server", SERVER) } else { scene };
    let scene = scene.run(async |net| {
        let (stack, listener) = listen(net).await?;
        let upstream = upstream.unwrap_or_else(|| net.left.at(SERVER));
        let (proxied, client) =
            tokio::join!(proxy(net, &stack, &listener, upstream), net.left.connect(net.right.at(PROXY)));
        Ok((proxied.err(), client.err()))
    })?;
    let (proxied, client) = scene.value;
    let name = |error: Option<io::Error>| error.as_ref().map(errno).unwrap_or_default();
    let answered = scene.segments.from(Side::Right).iter().any(|seg| seg.is("SYN,ACK"));
    let (proxied, client) = (name(proxied), name(client));
    tour.equal("the client sees what the proxy saw", &client, &proxied);
    Ok((client, answered))
}

fn refused(tour: &mut Tour) -> io::Result<()> {
    let (error, answered) = refusal(tour, "refused", "The upstream refuses", None)?;
    tour.equal("that is", &error, &"ECONNREFUSED".to_owned());
    tour.claim("and was never connected", !answered);
    Ok(())
}

fn unreachable(tour: &mut Tour) -> io::Result<()> {
    // TEST-NET-1 (RFC 5737): the proxy has no route to it.
    let nowhere = SocketAddr::from(([192, 0, 2, 1], SERVER));
    let (error, answered) = refusal(tour, "unreachable", "No route leads to the upstream", Some(nowhere))?;
    tour.equal("that is, by way of ICMP,", &error, &"ENETUNREACH".to_owned());
    tour.claim("and was never connected", !answered);
    Ok(())
}

/// Whatever happens to the proxy's task, no client is left waiting.
fn given_up(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("given_up", "The proxy gives up without a decision", Peer::Kernel(Side::Left));
    let scene = scene.names("client", "proxy").run(async |net| {
        let (_stack, listener) = listen(net).await?;
        let give_up = async { listener.accept().await.map(drop) };
        let (given_up, client) = tokio::join!(give_up, net.left.connect(net.right.at(PROXY)));
        given_up?;
        Ok((client.err(), listener.queues().syn_queue))
    })?;
    let (error, left) = scene.value;
    let error = error.as_ref().map(errno).unwrap_or_default();
    tour.equal("dropping what is pending refuses the client", &error, &"ECONNREFUSED".to_owned());
    tour.equal("and nothing is left of it", &left, &0);
    Ok(())
}

/// A client that sends `request` with its SYN as soon as it has a cookie; the answer.
async fn ask(net: &Net, request: &'static [u8]) -> io::Result<Vec<u8>> {
    let to = net.right.at(PROXY);
    let mut answer = vec![0; ANSWER.len()];
    if let Some(stack) = net.left.stack() {
        let mut stream = TcpStream::connect_with_data_on(&stack, to, request).await?;
        stream.read_exact(&mut answer).await?;
        return Ok(answer);
    }
    let ask = move || {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.send_to_with_flags(request, &to.into(), MSG_FASTOPEN)?;
        (&socket).read_exact(&mut answer).map(|()| answer)
    };
    tokio::task::spawn_blocking(ask).await.map_err(io::Error::other)?
}

/// Decides by the data in the SYN, and returns that data.
async fn proxy_by_name(net: &Net, stack: &Stack, pending: PendingStream) -> io::Result<Vec<u8>> {
    let said = pending.fast_open_data().to_vec();
    net.right.says(format!("a SYN that says {:?}", String::from_utf8_lossy(&said)));
    if said == UNKNOWN {
        pending.refuse();
        return Ok(said);
    }
    // A SYN without data is that of a client without a cookie. The client gets a cookie when it is
    // accepted, and its request comes afterwards. In this scene there is only one upstream.
    let mut upstream = TcpStream::connect_on(stack, net.left.at(SERVER)).await?;
    let mut client = pending.accept().await?;
    copy_bidirectional(&mut client, &mut upstream).await?;
    Ok(said)
}

/// Fast Open: the client sends its request before it is connected.
fn named_in_the_syn(tour: &mut Tour) -> io::Result<()> {
    let scene = tour
        .scene("named", "The SYN says where the client wants to go", Peer::Kernel(Side::Left))
        .names("client", "proxy")
        .third("server", SERVER);
    let scene = scene.run(async |net| {
        if net.left.is_kernel() {
            netns::sysctl("net.ipv4.tcp_fastopen", "0x403")?;
        }
        let (stack, listener) = listen(net).await?;
        listener.set_tcp_fastopen(16)?;
        let server = net.left.on_third_lifeline().listen(SERVER)?;
        let serve = async || {
            let mut stream = server.accept().await?;
            let request = stream.read(100).await?;
            stream.write(ANSWER).await?;
            stream.close();
            io::Result::Ok(request)
        };
        let proxy = async || proxy_by_name(net, &stack, listener.accept().await?).await;
        let (mut said, mut answers, mut requests) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..2 {
            let (answer, heard, request) = tokio::join!(ask(net, WANTED), proxy(), serve());
            said.push(heard?);
            answers.extend(answer?);
            requests.extend(request?);
        }
        let (refused, heard) = tokio::join!(ask(net, UNKNOWN), proxy());
        said.push(heard?);
        Ok((said, answers, requests, refused.err()))
    })?;
    let (said, answers, requests, refused) = scene.value;
    let [first, second, third] = &said[..] else { return Err(io::Error::other("three clients")) };
    tour.claim("a client without a cookie says nothing yet", first.is_empty());
    tour.equal("with its cookie, the SYN says it all", second.as_slice(), WANTED);
    tour.equal("both had their answers", answers.as_slice(), &[ANSWER, ANSWER].concat()[..]);
    tour.equal("and the server the requests, once each", requests.as_slice(), &[WANTED, WANTED].concat()[..]);
    tour.equal("who wants to go nowhere says so", third.as_slice(), UNKNOWN);
    let refused = refused.as_ref().map(errno).unwrap_or_default();
    tour.equal("and was never connected", &refused, &"ECONNREFUSED".to_owned());
    let acked = |seg: &&tour::Seg| seg.ack as usize == 1 + WANTED.len();
    let syn_acks =
        scene.segments.from(Side::Right).filter(|seg| seg.is("SYN,ACK") && seg.src.port() == PROXY);
    tour.equal(
        "SYN-ACKs of the proxy that acknowledge the words, too",
        &syn_acks.iter().filter(acked).count(),
        &1,
    );
    tour.equal("among the SYN-ACKs that it sent", &syn_acks.len(), &2);
    Ok(())
}

/// The same upstream as in `refused`, behind a proxy that is notified after the handshake.
fn ordinary_listener(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("ordinary", "For comparison: an ordinary listener", Peer::Kernel(Side::Left));
    let scene = scene.names("client", "proxy").third("server", SERVER).run(async |net| {
        let stack = stack_of(net)?;
        let listener = net.right.listen(PROXY)?;
        let proxy = async {
            let client = listener.accept().await?;
            let upstream = TcpStream::connect_on(&stack, net.left.at(SERVER)).await;
            client.close();
            upstream.map(drop)
        };
        let (proxied, client) = tokio::join!(proxy, net.left.connect(net.right.at(PROXY)));
        let mut client = client?;
        let read = client.read(1).await?;
        Ok((proxied.err(), read))
    })?;
    let (upstream, read) = scene.value;
    let upstream = upstream.as_ref().map(errno).unwrap_or_default();
    tour.equal("the upstream refuses", &upstream, &"ECONNREFUSED".to_owned());
    tour.claim("and the client was connected, and finds the end of the stream", read.is_empty());
    Ok(())
}
