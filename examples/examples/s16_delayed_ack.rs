//! S16: what is a delayed acknowledgment?
//!
//! ```text
//! cargo run -p netstack-examples --example s16_delayed_ack
//! ```
//!
//! An acknowledgment without data takes a whole segment, so the receiver waits a little for data
//! that can carry it: 40 ms in Linux and netstack, at most 200 ms (RFC 9293 §3.8.6.3 permits less
//! than 500). It stops waiting when more than one full-sized segment is unacknowledged. It is often
//! said that every second segment is acknowledged at once. For small segments that is true only if
//! the application has read both of them.
//!
//! Each scene begins with a request and a response, because at the beginning of a connection and
//! after a pause both stacks acknowledge at once, so that the sender's window can grow. In virtual
//! time the times are exact; those of the Linux kernel have the resolution of its timers.

use netstack_examples::tour::{self, Net, Peer, Segs, Side, Stream, Tour};
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

const PORT: u16 = 80;
/// Payload of a full segment: an MTU of 1,500 minus 40 bytes of headers and 12 of timestamps.
const FULL: usize = 1_448;
const DELAY: Duration = Duration::from_millis(40);
/// How late the kernel, or a process of a busy machine, may be.
const LATE: Duration = Duration::from_millis(110);
/// Short enough that the receiver's timers see no pause.
const SOON: Duration = Duration::from_millis(10);

fn main() -> ExitCode {
    tour::main("s16_delayed_ack", "S16: What is a delayed acknowledgment?", |tour| {
        for (who, peer) in [
            ("netstack", Peer::Netstack),
            ("netstack_to_linux", Peer::Kernel(Side::Left)),
            ("linux", Peer::Kernel(Side::Right)),
        ] {
            rides_on_the_answer(tour, &format!("rides_{who}"), peer)?;
            waits(tour, &format!("waits_{who}"), peer)?;
            two_full_segments(tour, &format!("two_full_{who}"), peer)?;
            two_small_segments(tour, &format!("two_small_{who}"), peer)?;
        }
        Ok(())
    })
}

/// A connection after a request and a response: the server delays its acknowledgments now.
async fn talking(net: &Net) -> io::Result<(Stream, Stream)> {
    let (mut client, mut server) = net.connect(PORT).await?;
    client.set_nodelay()?;
    for _ in 0..2 {
        client.write(b"a question").await?;
        server.read(FULL).await?;
        server.write(b"an answer").await?;
        client.read(FULL).await?;
    }
    sleep(SOON).await;
    net.wire.says("now they know each other");
    Ok((client, server))
}

fn rides_on_the_answer(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "The acknowledgment rides on the answer", peer).run(async |net| {
        let (mut client, mut server) = talking(net).await?;
        let mark = net.wire.segments().len();
        client.write(b"question 3").await?;
        server.read(FULL).await?;
        server.write(b"answer 3").await?;
        client.read(FULL).await?;
        sleep(DELAY * 3).await;
        net.wire.cut();
        Ok(mark)
    })?;
    let said = scene.segments.since_index(scene.value);
    let server = said.from(Side::Right);
    tour.equal("the server sends one segment", &server.len(), &1);
    tour.claim(
        "it has the answer and acknowledges the question",
        server[0].len() == 8 && server[0].ack == 31,
    );
    Ok(())
}

fn waits(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "Nothing to ride on: 40 ms", peer).run(async |net| {
        let (mut client, mut server) = talking(net).await?;
        let mark = net.wire.segments().len();
        client.write(b"a remark").await?;
        server.read(FULL).await?;
        sleep(DELAY * 4).await;
        net.wire.cut();
        Ok(mark)
    })?;
    let said = scene.segments.since_index(scene.value);
    let acks = said.from(Side::Right);
    tour.equal("the server sends one acknowledgment", &acks.numbers(), &vec!["< ACK 19/29".to_owned()]);
    let slack = if scene.is_virtual { Duration::ZERO } else { LATE };
    tour.at("40 ms after the remark arrived", since_arrival(&said, 0, &acks), DELAY, slack);
    Ok(())
}

fn two_full_segments(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "Two full-sized segments: at once", peer).run(async |net| {
        let (mut client, mut server) = talking(net).await?;
        // The receiver learns what a full segment is.
        client.write(&[7; 2 * FULL]).await?;
        let mut received = 0;
        while received < 2 * FULL {
            received += server.read(4 * FULL).await?.len();
        }
        server.write(b"thanks").await?;
        client.read(FULL).await?;
        sleep(DELAY * 2).await;
        let mark = net.wire.segments().len();
        client.write(&[7; FULL]).await?;
        sleep(SOON).await;
        client.write(&[7; FULL]).await?;
        sleep(DELAY * 3).await;
        net.wire.cut();
        Ok(mark)
    })?;
    let said = scene.segments.since_index(scene.value);
    let acks = said.from(Side::Right);
    let data = said.from(Side::Left).filter(|seg| !seg.is_empty());
    tour.equal("two full-sized segments, one acknowledgment", &(data.len(), acks.len()), &(2, 1));
    let first = data.first().and_then(|seg| seg.arrived).unwrap_or_default();
    let second = data.last().and_then(|seg| seg.arrived).unwrap_or_default();
    let ack = acks.first().map_or(Duration::MAX, |ack| ack.sent);
    tour.claim("the first alone waits", ack >= first + SOON / 2);
    let slack = if scene.is_virtual { Duration::ZERO } else { SOON };
    tour.at("the second ends the waiting", ack.saturating_sub(second), Duration::ZERO, slack);
    Ok(())
}

/// The second of two small segments is acknowledged at once, if the application has read both.
fn two_small_segments(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene =
        tour.scene(name, "Two small segments: at once when they are read", peer).run(async |net| {
            let (mut client, mut server) = talking(net).await?;
            let mark = net.wire.segments().len();
            for _ in 0..2 {
                client.write(b"a remark").await?;
                server.read(FULL).await?;
                sleep(SOON).await;
            }
            sleep(DELAY * 4).await;
            net.wire.cut();
            Ok(mark)
        })?;
    let said = scene.segments.since_index(scene.value);
    let acks = said.from(Side::Right);
    tour.equal("one acknowledgment for both", &acks.numbers(), &vec!["< ACK 19/37".to_owned()]);
    let slack = if scene.is_virtual { Duration::ZERO } else { SOON };
    tour.at("at once when the second is read", since_arrival(&said, 1, &acks), Duration::ZERO, slack);
    Ok(())
}

/// The time from the arrival of a segment to the first of `acks`.
fn since_arrival(said: &Segs, index: usize, acks: &Segs) -> Duration {
    let arrived = said.get(index).and_then(|seg| seg.arrived).unwrap_or_default();
    acks.first().map_or(Duration::MAX, |ack| ack.sent.saturating_sub(arrived))
}
