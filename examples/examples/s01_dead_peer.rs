//! S1: one end of an idle connection loses power. What does the other end notice?
//!
//! ```text
//! cargo run -p netstack-examples --example s01_dead_peer
//! ```
//!
//! Nothing, for ever: an idle TCP connection sends nothing, and none of its states times out. Only
//! `SO_KEEPALIVE` makes it check the peer. After `TCP_KEEPIDLE` (7,200 s) without traffic it sends
//! a probe, a segment with a sequence number that the peer has already acknowledged. An answer
//! restarts the idle time. Without an answer there is another probe every `TCP_KEEPINTVL` (75 s),
//! and after `TCP_KEEPCNT` (9) of them the connection times out: 7,875 s after the last segment of
//! the peer (RFC 9293 §3.8.4). While data is unacknowledged, its retransmissions serve the same
//! purpose, and no probes are sent.
//!
//! The scenes in virtual time take no real time. In the others the Linux kernel answers netstack's
//! probes, and probes a netstack that has lost power.

use netstack::tcp::State;
use netstack_examples::tour::{self, Net, Peer, Seg, Segs, Side, Tour, errno};
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

const PORT: u16 = 80;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The defaults of Linux and of netstack.
const IDLE: Duration = Duration::from_secs(7200);
const INTERVAL: Duration = Duration::from_secs(75);
const COUNT: u32 = 9;
/// Round trips, and the resolution of timers in milliseconds.
const SLACK: Duration = Duration::from_millis(30);

fn main() -> ExitCode {
    tour::main(
        "s01_dead_peer",
        "S1: One end of an idle connection loses power. What does the other end notice?",
        |tour| {
            without_keepalive(tour)?;
            with_keepalive(tour)?;
            data_in_flight(tour)?;
            linux_answers(tour)?;
            linux_probes(tour)
        },
    )
}

fn without_keepalive(tour: &mut Tour) -> io::Result<()> {
    let scene =
        tour.scene("silence", "No keep-alive: nobody ever asks", Peer::Netstack).run(async |net| {
            let (client, _server) = net.connect(PORT).await?;
            net.right.power_off().await;
            let off = net.wire.now();
            sleep(30 * DAY).await;
            net.wire.says("30 days later");
            net.wire.cut();
            Ok((client.state(), off))
        })?;
    let (state, off) = scene.value;
    tour.equal("after 30 days the connection is ESTABLISHED", &state, &Some(State::Established));
    tour.equal("and not one segment has been sent", &scene.segments.since(off).len(), &0);
    Ok(())
}

/// The peer answers one probe, and then loses power.
fn with_keepalive(tour: &mut Tour) -> io::Result<()> {
    let scene =
        tour.scene("keepalive", "SO_KEEPALIVE: 7,200 s, 75 s, 9", Peer::Netstack).run(async |net| {
            let (mut client, _server) = net.connect(PORT).await?;
            client.set_keepalive(None)?;
            let lose_power = async {
                sleep(Duration::from_secs(10_000)).await;
                net.right.power_off().await;
            };
            let (end, ()) = tokio::join!(client.read(1), lose_power);
            Ok((end.err().map(|error| errno(&error)), net.wire.now()))
        })?;
    let (end, gave_up) = scene.value;
    let heard = scene.segments.from(Side::Right).first().and_then(|syn_ack| syn_ack.arrived);
    let probes = probes(&scene.segments, Side::Left);
    tour.equal("one probe that is answered, and nine that are not", &probes.len(), &(1 + COUNT as usize));
    tour.claim(
        "each has the number before the next one to send",
        probes.iter().all(|probe| probe.seq == 0 && probe.is_empty()),
    );
    tour.at(
        "the first comes after 7,200 s of silence",
        probes[0].sent,
        heard.unwrap_or_default() + IDLE,
        SLACK,
    );
    let answered = probes[0].sent;
    let waited: Vec<_> = probes[1..].iter().map(|probe| (probe.sent - answered).as_secs()).collect();
    let expected: Vec<_> = (0..u64::from(COUNT)).map(|probe| 7200 + 75 * probe).collect();
    tour.equal("the nine come 7,200 s after the answer, and then each 75 s", &waited, &expected);
    tour.equal("read fails", &end.as_deref(), &Some("ETIMEDOUT"));
    tour.at(
        "7,200 s + 9 × 75 s = 7,875 s after the last answer",
        gave_up,
        answered + IDLE + INTERVAL * COUNT,
        SLACK,
    );
    Ok(())
}

fn data_in_flight(tour: &mut Tour) -> io::Result<()> {
    let title = "Unacknowledged data is asked for by itself: no probes (10 s, 1 s, 3)";
    let scene = tour.scene("data_in_flight", title, Peer::Netstack).run(async |net| {
        let (mut client, _server) = net.connect(PORT).await?;
        client.set_keepalive(Some((Duration::from_secs(10), Duration::from_secs(1), 3)))?;
        net.right.power_off().await;
        let off = net.wire.now();
        client.write(b"are you there?").await?;
        sleep(Duration::from_secs(60)).await;
        net.wire.cut();
        Ok((client.state(), off))
    })?;
    let (state, off) = scene.value;
    let sent = scene.segments.since(off);
    tour.claim(
        "retransmissions of the 14 bytes, and nothing else",
        sent.len() > 5 && sent.iter().all(|seg| seg.len() == 14),
    );
    tour.equal("10 s + 3 × 1 s do not count here: ESTABLISHED after 60 s", &state, &Some(State::Established));
    Ok(())
}

/// Probes of a second, in real time.
const QUICK: (Duration, Duration, u32) = (Duration::from_secs(1), Duration::from_secs(1), 2);

fn linux_answers(tour: &mut Tour) -> io::Result<()> {
    let title = "Linux answers netstack's probes; then the cable is pulled (1 s, 1 s, 2)";
    let scene = tour.scene("linux_answers", title, Peer::Kernel(Side::Right));
    let scene = scene.run(async |net| {
        let (mut client, _server) = net.connect(PORT).await?;
        client.set_keepalive(Some(QUICK))?;
        let pull = async {
            sleep(Duration::from_millis(1500)).await;
            net.wire.set_down(true);
        };
        let (end, ()) = tokio::join!(client.read(1), pull);
        Ok(End { error: end.err().map(|error| errno(&error)), at: net.wire.now() })
    })?;
    quick_end(tour, &scene.segments, Side::Left, &scene.value);
    Ok(())
}

fn linux_probes(tour: &mut Tour) -> io::Result<()> {
    let title = "Linux probes netstack, which answers until it loses power (1 s, 1 s, 2)";
    let scene = tour.scene("linux_probes", title, Peer::Kernel(Side::Left));
    let scene = scene.run(async |net: &Net| {
        let (mut client, _server) = net.connect(PORT).await?;
        client.set_keepalive(Some(QUICK))?;
        let lose_power = async {
            sleep(Duration::from_millis(1500)).await;
            net.right.power_off().await;
        };
        let (end, ()) = tokio::join!(client.read(1), lose_power);
        Ok(End { error: end.err().map(|error| errno(&error)), at: net.wire.now() })
    })?;
    quick_end(tour, &scene.segments, Side::Left, &scene.value);
    Ok(())
}

/// How a read ended, and when.
struct End {
    error: Option<String>,
    at: Duration,
}

/// Claims that one probe is answered and two are not, and when the connection ends.
fn quick_end(tour: &mut Tour, segments: &Segs, side: Side, end: &End) {
    let probes = probes(segments, side);
    tour.equal("one probe that is answered, and two that are not", &probes.len(), &3);
    tour.equal("read fails", &end.error.as_deref(), &Some("ETIMEDOUT"));
    let answered = probes.first().map_or(Duration::ZERO, |probe| probe.sent);
    // The kernel's timers of a second are coarse.
    tour.at(
        "1 s + 2 × 1 s after the answer",
        end.at,
        answered + Duration::from_secs(3),
        Duration::from_millis(300),
    );
}

/// The keep-alive probes of a side: without data, with the sequence number before the next one to
/// send.
fn probes(segments: &Segs, side: Side) -> Vec<Seg> {
    let next = |index: usize| {
        let before = &segments[..index];
        let ends = before.iter().filter(|seg| seg.from == side).map(|seg| seg.seq + seg.header.len() as u32);
        ends.max().unwrap_or(0)
    };
    let is_probe =
        |(index, seg): &(usize, &Seg)| seg.from == side && seg.is("ACK") && seg.seq + 1 == next(*index);
    segments.iter().enumerate().filter(is_probe).map(|(_, seg)| seg.clone()).collect()
}
