//! S9: defects that are attributed to TCP, each with a small demonstration.
//!
//! ```text
//! cargo run -p netstack-examples --example s09_defects
//! ```
//!
//! - Hard to upgrade, because it is part of the kernel: not if the stack is a library.
//! - Slow to connect: Fast Open saves the round trip (more in `s07_fast_open` and `s08_tls_fast_open`).
//! - Easy to reset: a forged segment needs the exact sequence number (RFC 5961), and the initial
//!   one cannot be guessed (RFC 6528).
//! - Head-of-line blocking: remains. Data after a lost segment waits for it.
//! - A connection is bound to its addresses: remains. From a new address its segments are unknown,
//!   and answered with RST.

use netstack::net::TcpStream;
use netstack::wire::Flags;
use netstack_examples::tour::{self, Forgery, Net, Peer, Seg, Side, Stream, Tour};
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::time::{sleep, timeout};

const PORT: u16 = 8888;
const RTT: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    tour::main("s09_defects", "S9: TCP's own defects, and what remains of them", |tour| {
        upgrade(tour)?;
        latency(tour)?;
        forged_resets(tour)?;
        head_of_line(tour)?;
        migration(tour)
    })
}

fn missing(what: &str) -> io::Error {
    io::Error::other(format!("there is no {what}"))
}

/// A connection over a wire with a round-trip time of 50 ms: both ends.
async fn connected(net: &Net) -> io::Result<(Stream, Stream)> {
    let listener = net.right.listen(PORT)?;
    let (client, server) = tokio::join!(net.left.connect(net.right.at(PORT)), listener.accept());
    Ok((client?, server?))
}

/// Two connections of one process with two algorithms. No kernel was touched.
fn upgrade(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("upgrade", "Another congestion control for one socket", Peer::Netstack).undrawn();
    let scene = scene.run(async |net| {
        let (client, server) = connected(net).await?;
        let own = |stream: &Stream| stream.netstack().is_some();
        let (Some(one), Some(other)) = (client.netstack(), server.netstack()) else {
            return Err(missing(if own(&client) { "server" } else { "client" }));
        };
        one.set_tcp_congestion(b"reno")?;
        let name = |name: Vec<u8>| String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned();
        Ok([name(one.tcp_congestion()?), name(other.tcp_congestion()?)])
    })?;
    tour.equal("one uses NewReno, its peer CUBIC", &scene.value, &["reno".to_owned(), "cubic".to_owned()]);
    Ok(())
}

/// The time until the answer to a request, without Fast Open and with it.
fn latency(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("latency", "A request and its answer, twice", Peer::Netstack).delay(RTT / 2);
    let scene = scene.run(async |net| {
        let listener = net.right.listen(PORT)?;
        listener.netstack().ok_or_else(|| missing("listener"))?.set_tcp_fastopen(4)?;
        let stack = net.left.stack().ok_or_else(|| missing("client"))?;
        let mut times = Vec::new();
        for _ in 0..2 {
            let start = net.wire.now();
            let ask = async {
                let mut stream = TcpStream::connect_with_data_on(&stack, net.right.at(PORT), b"ping").await?;
                stream.read_exact(&mut [0; 4]).await?;
                io::Result::Ok(net.wire.now() - start)
            };
            let answer = async {
                let mut stream = listener.accept().await?;
                stream.read(4).await?;
                stream.write(b"pong").await?;
                stream.read(1).await
            };
            let (time, answered) = tokio::join!(ask, answer);
            answered?;
            times.push(time?);
        }
        Ok(times)
    })?;
    tour.equal("two round trips, and one with Fast Open", &scene.value, &vec![2 * RTT, RTT]);
    Ok(())
}

/// Resets by an attacker who knows addresses and ports, and guesses the sequence number.
fn forged_resets(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("forged_resets", "Forged resets", Peer::Netstack);
    let scene = scene.run(async |net| {
        let (mut client, mut server) = connected(net).await?;
        client.write(b"hello").await?;
        server.read(5).await?;
        sleep(RTT).await;
        let segments = net.wire.segments();
        let last = segments.iter().rfind(|seg| seg.from == Side::Left).ok_or_else(|| missing("segment"))?;
        let next = last.header.seq + last.header.len() as u32;
        let reset = |seq| Forgery::new(last.src, last.dst, Flags::RST, seq, last.header.ack);
        let mut lived = Vec::new();
        // Far outside the window, inside it, and the exact number.
        for offset in [1 << 20, 1000, 0] {
            sleep(Duration::from_secs(1)).await;
            net.wire.forge(Side::Left, &reset(next + offset))?;
            sleep(RTT).await;
            lived.push(server.peer_addr().is_ok());
        }
        Ok(lived)
    })?;
    tour.equal("only the exact number resets", &scene.value, &vec![true, true, false]);
    let challenges = scene.segments.filter(|seg| seg.from == Side::Right && seg.is("ACK") && seg.is_empty());
    let after = scene.segments.iter().filter(|seg| seg.forged).nth(1).map(|seg| seg.sent);
    let challenged = after.is_some_and(|after| challenges.iter().any(|seg| seg.sent >= after));
    tour.claim("one in the window is answered with a challenge ACK (RFC 5961)", challenged);

    let scene = tour.scene("isn", "Where connections begin", Peer::Netstack).undrawn();
    let scene = scene.run(async |net| {
        let listener = net.right.listen(PORT)?;
        for _ in 0..16 {
            let (client, server) = tokio::join!(net.left.connect(net.right.at(PORT)), listener.accept());
            drop((client?, server?));
        }
        Ok(())
    })?;
    let syns = scene.segments.filter(|seg| seg.is("SYN"));
    let mut steps: Vec<u32> =
        syns.windows(2).map(|pair| (pair[1].header.seq - pair[0].header.seq) >> 20).collect();
    steps.sort_unstable();
    steps.dedup();
    tour.claim("16 connections begin at numbers with no rule between them (RFC 6528)", steps.len() >= 14);
    Ok(())
}

/// One of three segments is lost. The two after it have arrived, and wait.
fn head_of_line(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("head_of_line", "One segment of three is lost", Peer::Netstack).delay(RTT / 2);
    let scene = scene.run(async |net| {
        let (mut client, mut server) = connected(net).await?;
        client.set_nodelay()?;
        net.wire.lose(Side::Left, |seg| seg.payload_len == 3);
        for part in [&b"one"[..], b"second", b"the third"] {
            client.write(part).await?;
        }
        // All segments that were not lost have arrived by now.
        let early = timeout(RTT * 3 / 4, server.read(100)).await;
        let waited = early.is_err();
        let read = server.read(100).await?;
        Ok((waited, read))
    })?;
    let (waited, read) = scene.value;
    let arrived = scene.segments.filter(|seg| seg.from == Side::Left && seg.len() > 3 && !seg.lost).len();
    tour.claim("the second and the third segment arrived", arrived >= 2);
    tour.claim("the reader got nothing of them while the first was missing", waited);
    tour.equal("and all at once when it came", &read.as_slice(), &&b"onesecondthe third"[..]);
    let lost = scene.segments.iter().position(|seg| seg.lost);
    let again = |seg: &Seg| seg.from == Side::Left && seg.len() == 3 && !seg.lost;
    tour.claim("by a retransmission", lost.is_some() && scene.segments.iter().any(again));
    Ok(())
}

/// The client continues from another port, as after a NAT has lost its mapping.
fn migration(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("migration", "The client's address changes", Peer::Netstack);
    let scene = scene.run(async |net| {
        let (mut client, mut server) = connected(net).await?;
        client.write(b"hello").await?;
        server.read(5).await?;
        sleep(RTT).await;
        let segments = net.wire.segments();
        let last = segments.iter().rfind(|seg| seg.from == Side::Left).ok_or_else(|| missing("segment"))?;
        let next = last.header.seq + last.header.len() as u32;
        let mut moved = last.src;
        moved.set_port(moved.port() ^ 1);
        let mut data = Forgery::new(moved, last.dst, Flags::ACK, next, last.header.ack);
        data.payload = b"it is me".to_vec();
        net.wire.forge(Side::Left, &data)?;
        sleep(RTT).await;
        Ok((moved, server.peer_addr().is_ok()))
    })?;
    let (moved, lives) = scene.value;
    let answer = scene.segments.filter(|seg| seg.dst == moved && !seg.lost);
    tour.equal("the answer is a reset", &answer.first().map(Seg::flags), &Some("RST".to_owned()));
    tour.claim("the connection itself knows nothing of it", lives);
    Ok(())
}
