//! S6: why does a connection wait in TIME-WAIT, and what may take its place?
//!
//! ```text
//! cargo run -p netstack-examples --example s06_time_wait
//! ```
//!
//! The side that closes first keeps the pair of addresses for a minute, so that old segments that
//! are still on the network cannot reach a new connection, and so that its last acknowledgment can
//! be repeated. `tcp_tw_reuse` lets `connect` reuse the pair earlier: 0 never; 1 if timestamps
//! distinguish old segments from new ones and the connection has been quiet for a second; 2 the
//! same, on loopback only. 2 is the default of Linux and of netstack (`Config::tw_reuse`). The
//! setting applies only where the stack selects the port: for a socket that was bound to the port,
//! timestamps are sufficient, in Linux and here.
//!
//! What can go wrong then, and what prevents it:
//! - Old data fails the check of timestamps (PAWS, RFC 7323 §5) and is dropped.
//! - An old RST is not subject to PAWS, but it resets the connection only at exactly RCV.NXT;
//!   anywhere else in the window it is answered with a challenge ACK (RFC 5961 §3). So an old RST
//!   ends the new connection only if it has one particular number out of four billion. Here it is
//!   crafted.
//! - The peer may still wait for the last acknowledgment of the old connection. Its challenge ACK,
//!   or its FIN, reaches a socket in SYN-SENT, which answers with RST. That ends the old
//!   connection, and the retransmitted SYN opens the new one. Both stacks retransmit it at once
//!   instead of after a second.
//!
//! The Linux kernel is the client that reconnects, the server that is still in LAST-ACK, and the
//! target of the forged segments.

use netstack::config::TimeWaitReuse;
use netstack::wire::{Flags, Timestamps};
use netstack_examples::tour::{self, Forgery, Net, Peer, Seg, Side, Stream, Tour, errno};
use netstack_tun::netns;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

const PORT: u16 = 80;
/// Where the client connects from, both times.
const CLIENT_PORT: u16 = 45_000;
const A_LITTLE: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let question = "S6: Why does a connection wait in TIME-WAIT, and what may take its place?";
    tour::main("s06_time_wait", question, |tour| {
        sixty_seconds(tour)?;
        who_may_reuse(tour)?;
        linux_reuses(tour)?;
        bound_port(tour, "bound_port", Peer::Netstack)?;
        bound_port(tour, "bound_port_linux", Peer::Kernel(Side::Left))?;
        old_segments(tour, "old_segments", Peer::Netstack)?;
        old_segments(tour, "old_segments_linux", Peer::Kernel(Side::Right))?;
        for (what, syn_is_lost) in [("challenge", false), ("fin", true)] {
            last_ack(tour, &format!("last_ack_{what}_linux_server"), Peer::Kernel(Side::Right), syn_is_lost)?;
            last_ack(tour, &format!("last_ack_{what}_linux_client"), Peer::Kernel(Side::Left), syn_is_lost)?;
        }
        Ok(())
    })
}

/// A connection that the client closes first.
async fn used_up(
    connect: impl Future<Output = io::Result<Stream>>,
    listener: &tour::Listener,
) -> io::Result<()> {
    let (mut client, mut server) = tokio::try_join!(connect, listener.accept())?;
    client.write(b"first").await?;
    server.read(10).await?;
    client.close();
    server.read(10).await?;
    server.close();
    sleep(A_LITTLE).await;
    Ok(())
}

/// A connection from the client's port.
async fn pair(net: &Net, listener: &tour::Listener) -> io::Result<(Stream, Stream)> {
    tokio::try_join!(from_the_port(net), listener.accept())
}

/// Connects from the client's port, bound.
async fn from_the_port(net: &Net) -> io::Result<Stream> {
    let socket = net.left.socket()?;
    socket.set_reuseaddr()?;
    socket.bind(CLIENT_PORT)?;
    socket.connect(net.right.at(PORT)).await
}

/// Connects from the only port that the stack can select.
async fn from_the_only_port(net: &Net) -> io::Result<Stream> {
    net.left.connect(net.right.at(PORT)).await
}

/// The pair cannot be reused for a minute.
fn sixty_seconds(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("sixty_seconds", "A minute in TIME-WAIT, tw_reuse = 0", Peer::Netstack);
    let scene = scene.config(|config| {
        config.tw_reuse = TimeWaitReuse::Off;
        config.port_range = CLIENT_PORT..=CLIENT_PORT;
    });
    let scene = scene.run(async |net| {
        let stack = net.left.stack().ok_or_else(|| io::Error::other("no stack"))?;
        let listener = net.right.listen(PORT)?;
        used_up(from_the_only_port(net), &listener).await?;
        let last = net.wire.segments().last().map_or(Duration::ZERO, |ack| ack.sent);
        sleep(last + Duration::from_millis(59_990) - net.wire.now()).await;
        let refused = from_the_only_port(net).await.err().map(|error| errno(&error));
        let early = (stack.time_waits(), refused);
        sleep(Duration::from_millis(20)).await;
        let left = stack.time_waits();
        let again = from_the_only_port(net).await.is_ok();
        net.wire.cut();
        Ok((early, left, again))
    })?;
    let ((waiting, refused), left, again) = scene.value;
    tour.equal("the client has one connection in TIME-WAIT after 59.99 s", &waiting, &1);
    tour.equal("which no connect may replace", &refused.as_deref(), &Some("EADDRNOTAVAIL"));
    tour.equal("and none after 60.01 s", &left, &0);
    tour.claim("then the same pair of addresses is free", again);
    Ok(())
}

/// The settings, tried after half a second and after one and a half.
fn who_may_reuse(tour: &mut Tour) -> io::Result<()> {
    let cases = [
        ("reuse_0", TimeWaitReuse::Off, true, Peer::Netstack, [false, false]),
        ("reuse_1", TimeWaitReuse::All, true, Peer::Netstack, [false, true]),
        ("reuse_1_no_timestamps", TimeWaitReuse::All, false, Peer::Netstack, [false, false]),
        ("reuse_2", TimeWaitReuse::Loopback, true, Peer::Netstack, [false, false]),
        ("reuse_2_loopback", TimeWaitReuse::Loopback, true, Peer::Itself, [false, true]),
    ];
    tour.says(format!("netstack's default is {:?}", netstack::Config::default().tw_reuse));
    for (name, reuse, timestamps, peer, expected) in cases {
        let title = format!(
            "tw_reuse = {}, timestamps {}{}",
            reuse_number(reuse),
            if timestamps { "on" } else { "off" },
            if peer == Peer::Itself { ", on loopback" } else { "" }
        );
        let scene = tour.scene(name, &title, peer).config(|config| {
            config.tw_reuse = reuse;
            config.timestamps = timestamps;
            config.port_range = CLIENT_PORT..=CLIENT_PORT;
        });
        let scene = scene.run(reuse_in_time).map(|scene| scene.value)?;
        tour.equal("reused after 0.5 s, and after 1.5 s", &scene, &expected);
    }
    Ok(())
}

fn reuse_number(reuse: TimeWaitReuse) -> u8 {
    match reuse {
        TimeWaitReuse::Off => 0,
        TimeWaitReuse::All => 1,
        TimeWaitReuse::Loopback => 2,
    }
}

/// Whether the pair can be used again after half a second, and after one and a half.
async fn reuse_in_time(net: &Net) -> io::Result<[bool; 2]> {
    let listener = net.right.listen(PORT)?;
    used_up(from_the_only_port(net), &listener).await?;
    sleep(Duration::from_millis(200)).await;
    let early = from_the_only_port(net).await.is_ok();
    sleep(Duration::from_secs(1)).await;
    let late = from_the_only_port(net).await.is_ok();
    net.wire.cut();
    Ok([early, late])
}

/// The kernel as the client that reconnects.
fn linux_reuses(tour: &mut Tour) -> io::Result<()> {
    if tour.has_kernel() {
        netns::sysctl("net.ipv4.ip_local_port_range", "45000 45000")?;
    }
    for (number, reuse, expected) in
        [("0", TimeWaitReuse::Off, [false, false]), ("1", TimeWaitReuse::All, [false, true])]
    {
        if tour.has_kernel() {
            netns::sysctl("net.ipv4.tcp_tw_reuse", number)?;
        }
        let title = format!("tw_reuse = {number} in Linux");
        let scene = tour.scene(&format!("linux_reuse_{number}"), &title, Peer::Kernel(Side::Left));
        let scene = scene.config(|config| {
            config.tw_reuse = reuse;
            config.port_range = CLIENT_PORT..=CLIENT_PORT;
        });
        let scene = scene.run(reuse_in_time)?;
        tour.equal("reused after 0.5 s, and after 1.5 s", &scene.value, &expected);
    }
    Ok(())
}

/// A port that was bound does not depend on the setting.
fn bound_port(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    if tour.has_kernel() {
        netns::sysctl("net.ipv4.tcp_tw_reuse", "0")?;
    }
    let title = "tw_reuse = 0, and the client binds the port";
    let scene = tour.scene(name, title, peer).config(|config| config.tw_reuse = TimeWaitReuse::Off);
    let scene = scene.run(async |net| {
        let listener = net.right.listen(PORT)?;
        used_up(from_the_port(net), &listener).await?;
        let again = pair(net, &listener).await.is_ok();
        net.wire.cut();
        Ok(again)
    })?;
    tour.claim("with timestamps it takes the place after 0.3 s", scene.value);
    Ok(())
}

/// Old data, an old RST in the window, an old RST at exactly RCV.NXT.
fn old_segments(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let title = "What is left of an old connection meets the new one";
    let scene = tour.scene(name, title, peer).config(|config| config.tw_reuse = TimeWaitReuse::All);
    let scene = scene.run(async |net| {
        let listener = net.right.listen(PORT)?;
        used_up(from_the_port(net), &listener).await?;
        sleep(Duration::from_secs(1)).await;
        let (mut client, mut server) = pair(net, &listener).await?;
        client.write(b"second").await?;
        server.read(10).await?;
        sleep(A_LITTLE).await;
        let old = old_forgery(net);
        let answers = async |text: &str, forgery: Forgery| {
            net.wire.says(text);
            let mark = net.wire.segments().len();
            net.wire.forge(Side::Left, &forgery)?;
            // Challenge ACKs are limited to one in half a second.
            sleep(Duration::from_millis(700)).await;
            io::Result::Ok(net.wire.segments().since_index(mark).from(Side::Right).numbers())
        };
        let data = Forgery { payload: b"old!".to_vec(), ..old.clone() };
        let data = answers("old data at RCV.NXT, with its old timestamp", data).await?;
        let near = Forgery { flags: Flags::RST, seq: old.seq + 1000, ..old.clone() };
        let near = answers("an old RST in the window, 1,000 bytes further on", near).await?;
        client.write(b", alive").await?;
        let alive = server.read(20).await?;
        sleep(A_LITTLE).await;
        let exact = Forgery { flags: Flags::RST, ..old_forgery(net) };
        let exact = answers("the same RST, crafted to be at RCV.NXT", exact).await?;
        let killed = server.read(20).await.err().map(|error| errno(&error));
        net.wire.cut();
        Ok((data, near, alive, exact, killed))
    })?;
    let (data, near, alive, exact, killed) = scene.value;
    let ack = vec!["< ACK 1/7".to_owned()];
    tour.equal("PAWS: the data is acknowledged with the old number, and thrown away", &data, &ack);
    tour.equal("the RST in the window is answered with a challenge ACK", &near, &ack);
    tour.equal(
        "the connection lives: the reader gets what was written, and nothing old",
        &alive,
        &b", alive".to_vec(),
    );
    tour.equal("the RST at RCV.NXT is answered with nothing", &exact, &Vec::new());
    tour.equal("and kills the connection, whatever its timestamp", &killed.as_deref(), &Some("ECONNRESET"));
    Ok(())
}

/// A segment from the client with the next number that the server expects, and a timestamp of the
/// first connection.
fn old_forgery(net: &Net) -> Forgery {
    let segments = net.wire.segments();
    let sent = segments.from(Side::Left);
    let last = sent.last().expect("the client has sent something");
    let oldest = sent.iter().find_map(|seg| seg.header.options.timestamps);
    let timestamps = oldest.map(|ts| Timestamps { tsval: ts.tsval, tsecr: 0 });
    let next = last.header.seq + last.header.len() as u32;
    Forgery { timestamps, ..Forgery::new(last.src, last.dst, Flags::ACK, next, last.header.ack) }
}

/// The last acknowledgment is lost, and the client reconnects while the server waits for it.
fn last_ack(tour: &mut Tour, name: &str, peer: Peer, syn_is_lost: bool) -> io::Result<()> {
    if tour.has_kernel() {
        netns::sysctl("net.ipv4.tcp_tw_reuse", "1")?;
    }
    let title = if syn_is_lost { "A repeated FIN meets SYN-SENT" } else { "A SYN meets LAST-ACK" };
    let scene = tour.scene(name, title, peer).config(|config| config.tw_reuse = TimeWaitReuse::All);
    let scene = scene.run(async |net| {
        let listener = net.right.listen(PORT)?;
        let (client, mut server) = pair(net, &listener).await?;
        client.close();
        server.read(10).await?;
        // The acknowledgment of the FIN by itself, and then the FIN of the server, whose answer is lost.
        sleep(A_LITTLE).await;
        net.wire.lose(Side::Left, |segment| segment.is_ack() && !segment.is_fin());
        server.close();
        sleep(Duration::from_millis(50)).await;
        let away = Arc::new(AtomicBool::new(true));
        let lost = Arc::clone(&away);
        net.wire.lose_many(Side::Right, usize::MAX, move |segment| {
            segment.is_fin() && lost.load(Ordering::Relaxed)
        });
        sleep(Duration::from_millis(1_100)).await;
        net.wire.says("the client comes back");
        let back = net.wire.segments().len();
        if syn_is_lost {
            net.wire.lose(Side::Left, |segment| segment.is_syn());
            away.store(false, Ordering::Relaxed);
        }
        let (mut client, mut server) = pair(net, &listener).await?;
        client.write(b"new").await?;
        let read = server.read(10).await?;
        net.wire.cut();
        Ok((back, read))
    })?;
    let (back, read) = scene.value;
    let after = scene.segments.since_index(back);
    let find = |from: usize, wanted: &dyn Fn(&Seg) -> bool| {
        after.iter().skip(from).position(wanted).map(|index| from + index)
    };
    let syn = find(0, &|seg| seg.is("SYN"));
    let old = syn.and_then(|at| {
        find(at, &|seg| {
            seg.from == Side::Right && if syn_is_lost { seg.header.is_fin() } else { seg.is("ACK") }
        })
    });
    let what = if syn_is_lost { "its FIN again" } else { "a challenge ACK" };
    tour.claim(format!("the server, in LAST-ACK, sends {what}"), old.is_some());
    let reset = old.and_then(|at| find(at, &|seg| seg.from == Side::Left && seg.is("RST")));
    let number = |at: Option<usize>| at.map(|at| after[at].header.clone());
    let named = matches!((number(old), number(reset)), (Some(old), Some(reset)) if reset.seq == old.ack);
    tour.claim("the client, in SYN-SENT, answers RST with the number that this acknowledged", named);
    let again = reset.and_then(|at| find(at, &|seg| seg.is("SYN")));
    let waited = |(first, second): (usize, usize)| after[second].sent - after[first].sent;
    let waited = syn.zip(again).map_or(Duration::ZERO, waited);
    if syn_is_lost {
        tour.claim("the SYN is repeated within a second", waited <= Duration::from_millis(1_050));
    } else {
        tour.claim("the SYN is repeated at once", waited < Duration::from_millis(200));
    }
    tour.equal("and opens the new connection", &read, &b"new".to_vec());
    Ok(())
}
