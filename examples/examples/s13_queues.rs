//! S13: the two queues of a listener: their limits, what happens above them, and a SYN flood.
//!
//! ```text
//! cargo run -p netstack-examples --example s13_queues
//! ```
//!
//! A SYN creates a half-open connection, which waits in the SYN queue for the third segment. Then
//! it waits in the accept queue for the application. The backlog limits both. The program fills one
//! queue and the other and shows what the peers see and how the counters change, which are those of
//! `ss -lnt` and `netstat -s` on Linux. The Linux kernel is the client where the outcome depends on
//! the behaviour of the client.
//!
//! Then nonexistent hosts send more SYNs than the queue holds. Without SYN cookies no other client
//! can connect; with them, all can, and the queue does not grow. A cookie is the initial sequence
//! number of the SYN-ACK: it encodes the state of the connection, which returns in the third
//! segment and is not stored.

use netstack::Config;
use netstack::config::SynCookieMode;
use netstack::net::tcp::ListenerQueues;
use netstack::wire::{Flags, SeqNum};
use netstack_examples::flood::Flood;
use netstack_examples::tour::{self, Forgery, Listener, Net, Peer, Side, Stream, Tour, errno};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::{sleep, timeout};

const PORT: u16 = 8013;
/// Long enough for everything in flight to arrive.
const A_LITTLE: Duration = Duration::from_millis(300);
/// SYNs of the flood: more than ten times what the queue holds.
const FLOOD: u32 = 200;
/// The backlog of the listener that is flooded.
const FLOODED: u32 = 16;

fn main() -> ExitCode {
    tour::main(
        "s13_queues",
        "S13: What do the two queues of a listener hold, and what happens beyond?",
        |tour| {
            accept_queue(tour)?;
            third_segment(tour, false)?;
            third_segment(tour, true)?;
            forgotten(tour)?;
            flood(tour, SynCookieMode::Off)?;
            flood(tour, SynCookieMode::Overflow)?;
            flood(tour, SynCookieMode::Always)?;
            forged(tour)
        },
    )
}

fn listen(net: &Net, backlog: u32) -> io::Result<Listener> {
    let socket = net.right.socket()?;
    socket.bind(PORT)?;
    socket.listen(backlog)
}

/// The current queues, which are also written next to the listener's lifeline.
fn look(net: &Net, listener: &Listener) -> ListenerQueues {
    let queues = listener.netstack().expect("the listener is netstack's").queues();
    net.right.says(format!(
        "Recv-Q {} Send-Q {}, SYN queue {}",
        queues.accept_queue, queues.backlog, queues.syn_queue
    ));
    queues
}

/// Prints the changes, with the names of Linux.
fn show_changes(tour: &Tour, when: &str, before: &ListenerQueues, after: &ListenerQueues) {
    let changes: Vec<String> = counted(before)
        .into_iter()
        .zip(counted(after))
        .filter(|(before, after)| before.1 != after.1)
        .map(|((name, before), (_, after))| format!("{name} {before} -> {after}"))
        .collect();
    let text = if changes.is_empty() { "no counter changed".to_owned() } else { changes.join(", ") };
    tour.says(format!(
        "  {when}: Recv-Q {}, Send-Q {}, SYN queue {}; {text}",
        after.accept_queue, after.backlog, after.syn_queue
    ));
}

fn counted(queues: &ListenerQueues) -> [(&'static str, u64); 10] {
    let counters = &queues.counters;
    [
        ("PassiveOpens", counters.passive_opens),
        ("ListenOverflows", counters.listen_overflows),
        ("ListenDrops", counters.listen_drops),
        ("TCPReqQFullDrop", counters.syn_queue_drops),
        ("TCPReqQFullDoCookies", counters.syn_queue_cookies),
        ("SyncookiesSent", counters.syncookies_sent),
        ("SyncookiesRecv", counters.syncookies_received),
        ("SyncookiesFailed", counters.syncookies_failed),
        ("TCPSynRetrans", counters.syn_retransmits),
        ("EmbryonicRsts", counters.embryonic_resets),
    ]
}

/// The accept queue holds one more than the backlog; then a SYN is not even answered.
fn accept_queue(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene(
        "accept_queue",
        "Three clients, a backlog of 1, and nobody accepts",
        Peer::Kernel(Side::Left),
    );
    let scene = scene.run(async |net| {
        let listener = listen(net, 1)?;
        let empty = look(net, &listener);
        let held = [net.left.connect(net.right.at(PORT)).await?, net.left.connect(net.right.at(PORT)).await?];
        sleep(A_LITTLE).await;
        let full = look(net, &listener);
        let third = timeout(A_LITTLE, net.left.connect(net.right.at(PORT))).await.is_ok();
        let over = look(net, &listener);
        drop(listener.accept().await?);
        drop(listener.accept().await?);
        let fourth = timeout(A_LITTLE, net.left.connect(net.right.at(PORT))).await.is_ok();
        let room = look(net, &listener);
        drop(held);
        Ok((empty, full, over, room, third, fourth))
    })?;
    let (empty, full, over, room, third, fourth) = scene.value;
    show_changes(tour, "two connected", &empty, &full);
    show_changes(tour, "a third tried", &full, &over);
    show_changes(tour, "after two accepts", &over, &room);
    tour.equal("backlog + 1 connections fit", &full.accept_queue, &2);
    tour.claim("the next one does not connect", !third);
    tour.claim(
        "its SYN was dropped without an answer, and counted",
        over.counters.listen_overflows > 0
            && over.counters.listen_overflows == over.counters.listen_drops
            && over.syn_queue == 0,
    );
    tour.claim("once there is room, clients connect", fourth);
    Ok(())
}

/// Two clients whose third segments meet a full accept queue: their SYNs were answered before.
fn third_segment(tour: &mut Tour, abort: bool) -> io::Result<()> {
    let (name, title) = if abort {
        ("reset", "The third segment meets a full queue; abort_on_overflow is on")
    } else {
        ("ignored", "The third segment meets a full queue; abort_on_overflow is off")
    };
    let scene = tour.scene(name, title, Peer::Kernel(Side::Left)).config(|config| {
        config.abort_on_overflow = abort;
        config.rto_initial = Duration::from_millis(500);
        config.rto_min = Duration::from_millis(200);
    });
    let scene = scene.run(async |net| {
        let listener = listen(net, 1)?;
        // It is half open while others fill the queue.
        net.wire.lose(Side::Left, |segment| segment.is_ack() && !segment.is_syn());
        let mut late = net.left.connect(net.right.at(PORT)).await?;
        net.wire.says("the third segment was lost");
        let held = [net.left.connect(net.right.at(PORT)).await?, net.left.connect(net.right.at(PORT)).await?];
        sleep(A_LITTLE).await;
        let before = look(net, &listener);
        // Its data acts as the third segment too.
        late.write(b"hello").await?;
        sleep(A_LITTLE).await;
        let after = look(net, &listener);
        let outcome = if abort {
            late.read(1).await.map(|_| String::new())
        } else {
            drop([listener.accept().await?, listener.accept().await?]);
            let mut served = listener.accept().await?;
            served.read(100).await.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let closed = if abort { Some(net.left.connect(net.right.at(PORT + 1)).await) } else { None };
        drop(held);
        Ok((before, after, outcome, closed.and_then(Result::err)))
    })?;
    let (before, after, outcome, closed) = scene.value;
    show_changes(tour, "the third segment came", &before, &after);
    tour.equal(
        "the accept queue is full, one more is half open",
        &(before.accept_queue, before.syn_queue),
        &(2, 1),
    );
    tour.claim("ListenOverflows rose", after.counters.listen_overflows > before.counters.listen_overflows);
    if abort {
        let name = |error: Option<io::Error>| error.as_ref().map(errno).unwrap_or_default();
        tour.equal("the client is reset", &name(outcome.err()), &"ECONNRESET".to_owned());
        tour.equal("where nobody listens it is refused", &name(closed), &"ECONNREFUSED".to_owned());
        tour.equal("the half-open connection is gone", &after.syn_queue, &0);
    } else {
        tour.equal("the half-open connection stays", &after.syn_queue, &1);
        tour.equal(
            "what the client repeats completes the handshake once there is room",
            &outcome.unwrap_or_default(),
            &"hello".to_owned(),
        );
        let repeated = scene.segments.filter(|seg| seg.from == Side::Right && seg.is("SYN,ACK")).len();
        tour.claim("meanwhile the SYN-ACK is repeated", repeated > 2 || after.counters.syn_retransmits > 0);
    }
    Ok(())
}

/// After five retransmissions the connection is dropped.
fn forgotten(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene(
        "forgotten",
        "The queue stays full until the half-open connection is forgotten",
        Peer::Netstack,
    );
    let scene = scene.run(async |net| {
        let listener = listen(net, 1)?;
        net.wire.lose(Side::Left, |segment| segment.is_ack() && !segment.is_syn());
        let mut late = net.left.connect(net.right.at(PORT)).await?;
        let held = [net.left.connect(net.right.at(PORT)).await?, net.left.connect(net.right.at(PORT)).await?];
        sleep(Duration::from_secs(62)).await;
        let before = look(net, &listener);
        sleep(Duration::from_secs(2)).await;
        let after = look(net, &listener);
        net.wire.says("the client, who believes that it is connected, speaks at last");
        late.write(b"hello").await?;
        sleep(A_LITTLE).await;
        let outcome = late.read(1).await;
        drop(held);
        Ok((before, after, outcome.err()))
    })?;
    let (before, after, outcome) = scene.value;
    show_changes(tour, "after 64 s", &before, &after);
    tour.equal("it is remembered for 63 s", &(before.syn_queue, after.syn_queue), &(1, 0));
    tour.equal("the SYN-ACK was sent again five times", &after.counters.syn_retransmits, &5);
    let error = outcome.as_ref().map(errno).unwrap_or_default();
    tour.equal("then what the client sends is answered by a reset", &error, &"ECONNRESET".to_owned());
    Ok(())
}

/// A host that does not exist.
fn nobody(number: u32) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::from_bits(0xc612_0000 + number).into(), 5000)
}

/// Sends the flood: through the kernel, which forwards it, or onto the wire in memory. The source
/// must be kept: the kernel reports networks that do not exist any more.
fn pour(net: &Net) -> io::Result<Option<Flood>> {
    let to = net.right.at(PORT);
    if let (true, SocketAddr::V4(to)) = (net.left.is_kernel(), to) {
        let flood = Flood::open("flood0")?;
        flood.send(to, FLOOD.into(), 10_000)?;
        return Ok(Some(flood));
    }
    for number in 0..FLOOD {
        let syn = Forgery::new(nobody(number), to, Flags::SYN, SeqNum::new(number), SeqNum::new(0));
        net.wire.forge(Side::Left, &syn)?;
    }
    Ok(None)
}

/// SYNs from nonexistent hosts, and one real client.
fn flood(tour: &mut Tour, mode: SynCookieMode) -> io::Result<()> {
    let (name, title) = match mode {
        SynCookieMode::Off => ("flood_off", "A flood of SYNs, and no cookies"),
        SynCookieMode::Overflow => ("flood_overflow", "A flood of SYNs, and cookies once the queue is full"),
        SynCookieMode::Always => ("flood_always", "A flood of SYNs, and cookies always"),
    };
    let change = move |config: &mut Config| config.syncookies = mode;
    let scene = tour.scene(name, title, Peer::Kernel(Side::Left)).config(change).undrawn();
    let scene = scene.run(async |net| {
        let listener = listen(net, FLOODED)?;
        let before = look(net, &listener);
        let _flood = pour(net)?;
        sleep(A_LITTLE).await;
        let flooded = look(net, &listener);
        let talk = timeout(A_LITTLE, talk(net, &listener)).await;
        let after = look(net, &listener);
        Ok((before, flooded, after, talk.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))))
    })?;
    let (before, flooded, after, talk) = scene.value;
    show_changes(tour, "after the flood", &before, &flooded);
    show_changes(tour, "after a client", &flooded, &after);
    let fit = FLOODED as usize + 1;
    let beyond = u64::from(FLOOD) - fit as u64;
    match mode {
        SynCookieMode::Off => {
            tour.equal("the SYN queue is full", &flooded.syn_queue, &fit);
            tour.equal("the rest is dropped", &flooded.counters.syn_queue_drops, &beyond);
            tour.claim("and a client who exists cannot connect", talk.is_err());
        }
        SynCookieMode::Overflow | SynCookieMode::Always => {
            let (queued, cookies) =
                if mode == SynCookieMode::Always { (0, FLOOD.into()) } else { (fit, beyond) };
            tour.equal("what the SYN queue holds", &flooded.syn_queue, &queued);
            tour.equal("the rest got cookies", &flooded.counters.syncookies_sent, &cookies);
            tour.equal(
                "a client who exists connects and is answered",
                &talk.unwrap_or_default(),
                &b"hello".to_vec(),
            );
            tour.equal("by a cookie", &after.counters.syncookies_received, &1);
            tour.claim("and nothing more is remembered", after.syn_queue <= fit);
        }
    }
    Ok(())
}

/// A client connects and says hello, and the server echoes it.
async fn talk(net: &Net, listener: &Listener) -> io::Result<Vec<u8>> {
    let mut client = net.left.connect(net.right.at(PORT)).await?;
    client.write(b"hello").await?;
    let mut server: Stream = listener.accept().await?;
    let request = server.read(100).await?;
    server.write(&request).await?;
    client.read(100).await
}

/// Third segments without a handshake before them.
fn forged(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("forged", "Acknowledgments of cookies that were never sent", Peer::Netstack);
    let scene =
        scene.config(|config| config.syncookies = SynCookieMode::Overflow).undrawn().run(async |net| {
            let listener = listen(net, 1)?;
            let forge = async |numbers: std::ops::Range<u32>, flags: Flags| {
                for number in numbers {
                    let (from, to) = (nobody(number), net.right.at(PORT));
                    let ack = SeqNum::new(number.wrapping_mul(2_654_435_761));
                    net.wire.forge(Side::Left, &Forgery::new(from, to, flags, SeqNum::new(number), ack))?;
                }
                sleep(A_LITTLE).await;
                io::Result::Ok(look(net, &listener))
            };
            let quiet = forge(1000..1010, Flags::ACK).await?;
            let overflow = forge(0..3, Flags::SYN).await?;
            let looked = forge(2000..2010, Flags::ACK).await?;
            sleep(Duration::from_secs(125)).await;
            let later = forge(3000..3010, Flags::ACK).await?;
            Ok((quiet, overflow, looked, later))
        })?;
    let (quiet, overflow, looked, later) = scene.value;
    show_changes(tour, "an overflow", &quiet, &overflow);
    show_changes(tour, "ten forged ones", &overflow, &looked);
    tour.equal("before the queue overflowed nobody looks at them", &quiet.counters.syncookies_failed, &0);
    tour.equal(
        "then each is checked, with one keyed hash, and counted",
        &looked.counters.syncookies_failed,
        &10,
    );
    tour.equal("two minutes later nobody looks any more", &later.counters.syncookies_failed, &10);
    let resets = scene.segments.filter(|seg| seg.from == Side::Right && seg.is("RST")).len();
    tour.equal("each was answered by a reset", &resets, &30);
    tour.equal("and nothing came of any", &(later.accept_queue, later.counters.passive_opens), &(0, 0));
    Ok(())
}
