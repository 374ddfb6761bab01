//! S7: TCP Fast Open, in both roles.
//!
//! ```text
//! cargo run -p netstack-examples --example s07_fast_open
//! ```
//!
//! The first connection requests a cookie with an empty option. The second one carries the cookie
//! and the request in its SYN, and the answer arrives after one round trip instead of two. The
//! Linux kernel is the server, and then the client, with `net.ipv4.tcp_fastopen` = 0x403 in the
//! private namespace: 3 for both roles, and 0x400 so that the kernel's listener uses Fast Open
//! without a socket option.
//!
//! Then there are the failures: a cookie of a key that was replaced, and a middlebox that drops
//! SYNs with data. The last scene sends data in a SYN to a server without Fast Open.

use netstack::config::{FastOpenKey, FastOpenKeys, FastOpenMode};
use netstack::net::TcpStream;
use netstack_examples::tour::{self, Listener, Net, Peer, Seg, Side, Tour};
use netstack_tun::netns;
use socket2::{Domain, Socket, Type};
use std::io::{self, Read};
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::AsyncReadExt;

const PORT: u16 = 8888;
const REQUEST: &[u8] = b"GET / HTTP/1.1";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK";
const RTT: Duration = Duration::from_millis(50);
/// `MSG_FASTOPEN` of the kernel's sendto.
const MSG_FASTOPEN: i32 = 0x2000_0000;

fn main() -> ExitCode {
    tour::main("s07_fast_open", "S7: What does TCP Fast Open save?", |tour| {
        three_connections(tour, "linux_server", Peer::Kernel(Side::Right))?;
        three_connections(tour, "linux_client", Peer::Kernel(Side::Left))?;
        replaced_key(tour)?;
        swallowed(tour)?;
        not_asked_for(tour)
    })
}

/// Listens. A listener of netstack enables Fast Open, one of the kernel uses it because of the
/// variable.
fn listen(net: &Net) -> io::Result<Listener> {
    if net.right.is_kernel() || net.left.is_kernel() {
        netns::sysctl("net.ipv4.tcp_fastopen", "0x403")?;
    }
    let listener = net.right.listen(PORT)?;
    if let Some(listener) = listener.netstack() {
        listener.set_tcp_fastopen(16)?;
    }
    Ok(listener)
}

/// Sends the request, with or without Fast Open, and returns the time until the answer.
async fn fetch(net: &Net, fast_open: bool) -> io::Result<Duration> {
    let to = net.right.at(PORT);
    let start = net.wire.now();
    match net.left.stack() {
        Some(stack) => {
            let mut answer = vec![0; ANSWER.len()];
            if fast_open {
                let mut stream = TcpStream::connect_with_data_on(&stack, to, REQUEST).await?;
                stream.read_exact(&mut answer).await?;
            } else {
                let mut stream = net.left.connect(to).await?;
                stream.write(REQUEST).await?;
                answer = stream.read(ANSWER.len()).await?;
            }
            if answer != ANSWER {
                return Err(io::Error::other("another answer"));
            }
            Ok(net.wire.now() - start)
        }
        None => {
            let ask = move || {
                let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
                socket.set_read_timeout(Some(Duration::from_secs(5)))?;
                if fast_open {
                    socket.send_to_with_flags(REQUEST, &to.into(), MSG_FASTOPEN)?;
                } else {
                    socket.connect(&to.into())?;
                    socket.send(REQUEST)?;
                }
                let mut answer = vec![0; ANSWER.len()];
                (&socket).read_exact(&mut answer)
            };
            tokio::task::spawn_blocking(ask).await.map_err(io::Error::other)??;
            Ok(net.wire.now() - start)
        }
    }
}

async fn answer(listener: &Listener) -> io::Result<Vec<u8>> {
    let mut stream = listener.accept().await?;
    let request = stream.read(100).await?;
    stream.write(ANSWER).await?;
    stream.read(1).await?;
    Ok(request)
}

async fn exchange(net: &Net, listener: &Listener, fast_open: bool) -> io::Result<Duration> {
    let (time, request) = tokio::join!(fetch(net, fast_open), answer(listener));
    if request? != REQUEST {
        return Err(io::Error::other("another request"));
    }
    tokio::time::sleep(RTT).await;
    time
}

/// Whether a SYN or SYN-ACK has a cookie, and the length of its data.
fn opening(seg: &Seg) -> (&'static str, usize) {
    let option = seg.header.options.fast_open;
    let what = match option.map(|option| option.cookie) {
        None => "no option",
        Some(None) => "asks for a cookie",
        Some(Some(_)) => "cookie",
    };
    (what, seg.len())
}

fn three_connections(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "Without Fast Open, for a cookie, and with it", peer).delay(RTT / 2);
    let scene = scene.run(async |net| {
        let listener = listen(net)?;
        let ordinary = exchange(net, &listener, false).await?;
        let asking = exchange(net, &listener, true).await?;
        let start = net.wire.now();
        let fast = exchange(net, &listener, true).await?;
        Ok(([ordinary, asking, fast], start))
    })?;
    let ([ordinary, asking, fast], start) = scene.value;
    let syns = scene.segments.filter(|seg| seg.header.is_syn());
    let seen: Vec<_> = syns.iter().map(opening).collect();
    tour.equal(
        "the SYNs and SYN-ACKs: nothing, a request and its cookie, the cookie with the request",
        &seen[..],
        &[
            ("no option", 0),
            ("no option", 0),
            ("asks for a cookie", 0),
            ("cookie", 0),
            ("cookie", REQUEST.len()),
            ("no option", 0),
        ],
    );
    // Of the last connection only: the one before may still be closing.
    let port = syns.iter().rev().find(|seg| seg.is("SYN")).map(|seg| seg.src);
    let last = scene.segments.since(start).filter(|seg| [Some(seg.src), Some(seg.dst)].contains(&port));
    let syn_ack = last.filter(|seg| seg.is("SYN,ACK"));
    let acked = syn_ack.first().map(|seg| seg.ack as usize);
    tour.equal("the SYN-ACK acknowledges SYN and data", &acked, &Some(1 + REQUEST.len()));
    let third = last.filter(|seg| seg.from == Side::Left && seg.header.is_ack());
    let answered = last.filter(|seg| seg.from == Side::Right && !seg.is_empty());
    let before = answered.first().zip(third.first()).is_some_and(|(answer, third)| answer.sent <= third.sent);
    tour.claim("the answer left before the third segment came", before);
    println!("until the answer, over a round trip of {RTT:?}:");
    for (what, time) in [("ordinary", ordinary), ("asking for a cookie", asking), ("Fast Open", fast)] {
        println!("  {what:20} {time:10.3?}  {:.2} round trips", time.as_secs_f64() / RTT.as_secs_f64());
    }
    let saved = ordinary.saturating_sub(fast);
    println!("  saved: {saved:.3?}");
    if scene.is_virtual {
        tour.equal("two round trips, two, and one", &[ordinary, asking, fast], &[2 * RTT, 2 * RTT, RTT]);
    } else {
        // A loaded machine is late, but never early.
        tour.claim("at least two round trips without Fast Open, at least one with it", {
            ordinary >= 2 * RTT && asking >= 2 * RTT && fast >= RTT
        });
        tour.claim("a round trip is saved, give or take a half", saved >= RTT / 2);
    }
    Ok(())
}

/// The server has another key. It accepts the SYN without the data, and sends a new cookie.
fn replaced_key(tour: &mut Tour) -> io::Result<()> {
    let scene =
        tour.scene("replaced_key", "A cookie that is not good any more", Peer::Netstack).delay(RTT / 2);
    let scene = scene.run(async |net| {
        let listener = listen(net)?;
        exchange(net, &listener, true).await?;
        let server = net.right.stack().ok_or_else(|| io::Error::other("netstack is the server"))?;
        server.set_fast_open_keys(FastOpenKeys::new(FastOpenKey::new([7; 16])));
        net.wire.says("the server has a new key");
        let start = net.wire.now();
        let stale = exchange(net, &listener, true).await?;
        let fresh = exchange(net, &listener, true).await?;
        Ok((stale, fresh, start))
    })?;
    let (stale, fresh, start) = scene.value;
    tour.equal("two round trips with the old cookie, one with the new one", &[stale, fresh], &[2 * RTT, RTT]);
    let syn_ack = scene.segments.since(start).filter(|seg| seg.is("SYN,ACK"));
    let answer = syn_ack.first().map(|seg| (seg.ack, opening(seg).0));
    tour.equal("the SYN-ACK acknowledges the SYN alone, and brings a cookie", &answer, &Some((1, "cookie")));
    let again = scene.segments.since(start).filter(|seg| seg.from == Side::Left && !seg.is_empty());
    let first_two: Vec<_> = again.iter().take(2).map(|seg| (seg.flags(), seg.len())).collect();
    let len = REQUEST.len();
    tour.equal("the data goes again", &first_two, &vec![("SYN".to_owned(), len), ("ACK".to_owned(), len)]);
    Ok(())
}

/// A middlebox drops SYNs with data.
fn swallowed(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("swallowed", "Something on the way drops SYNs with data", Peer::Netstack);
    let scene = scene.delay(RTT / 2).run(async |net| {
        let listener = listen(net)?;
        exchange(net, &listener, true).await?;
        net.wire.lose_many(Side::Left, usize::MAX, |seg| seg.is_syn() && seg.payload_len > 0);
        let start = net.wire.now();
        let first = exchange(net, &listener, true).await?;
        let second = exchange(net, &listener, true).await?;
        let third = exchange(net, &listener, true).await?;
        Ok((start, [first, second, third]))
    })?;
    let (start, times) = scene.value;
    let second = Duration::from_secs(1);
    tour.equal(
        "twice a time-out is lost; then Fast Open pauses for this server, and nothing is",
        &times,
        &[second + 2 * RTT, second + 2 * RTT, 2 * RTT],
    );
    let syns = scene.segments.since(start).filter(|seg| seg.is("SYN"));
    let seen: Vec<_> = syns.iter().map(|seg| (opening(seg), seg.lost)).collect();
    let (with, plain) = ((("cookie", REQUEST.len()), true), (("no option", 0), false));
    tour.equal("what is sent again is a plain SYN", &seen, &vec![with, plain, with, plain, plain]);
    Ok(())
}

/// Data in a SYN without Fast Open: RFC 9293 permits it, and the server need not keep it.
fn not_asked_for(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("not_asked_for", "Data in a SYN to a server without Fast Open", Peer::Netstack);
    let scene = scene.delay(RTT / 2).config_of(Side::Left, |config| {
        config.fastopen = FastOpenMode::CLIENT.with(FastOpenMode::CLIENT_NO_COOKIE);
    });
    let scene = scene.run(async |net| {
        let listener = net.right.listen(PORT)?;
        exchange(net, &listener, true).await
    })?;
    tour.equal("two round trips", &scene.value, &(2 * RTT));
    let syn_ack = scene.segments.filter(|seg| seg.is("SYN,ACK"));
    tour.equal("the SYN-ACK acknowledges the SYN alone", &syn_ack.first().map(|seg| seg.ack), &Some(1));
    Ok(())
}
