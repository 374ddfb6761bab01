//! S5: is a connection still there when the cable has been pulled?
//!
//! ```text
//! cargo run -p netstack-examples --example s05_cable_pulled
//! ```
//!
//! Pulling a cable changes the state of no socket; only segments that are sent and not answered
//! can. If the cable is reconnected in time, the transfer continues as if nothing had happened. If
//! it is reconnected after the sender has given up (S3), the connection remains open at the other
//! side until that sends something and gets a RST. Without traffic it remains open at both sides
//! for ever, unless one of them uses keep-alive.

use netstack::tcp::State;
use netstack_examples::tour::{self, Peer, Side, Tour, errno};
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

const PORT: u16 = 80;
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The limit of `tcp_retries2` = 15 in seconds, plus the round trip and the next timeout.
const GIVEN_UP: std::ops::Range<u64> = 924..1_050;

fn main() -> ExitCode {
    tour::main(
        "s05_cable_pulled",
        "S5: Is a connection still there when the cable has been pulled?",
        |tour| {
            let millis = Duration::from_millis;
            back_in_time(tour, "back_in_time", Peer::Netstack, Duration::from_secs(10))?;
            back_in_time(tour, "back_in_time_linux_receives", Peer::Kernel(Side::Right), millis(700))?;
            back_in_time(tour, "back_in_time_linux_sends", Peer::Kernel(Side::Left), millis(700))?;
            back_too_late(tour)?;
            idle(tour)?;
            idle_with_keepalive(tour)
        },
    )
}

/// The cable is pulled in the middle of a transfer.
fn back_in_time(tour: &mut Tour, name: &str, peer: Peer, outage: Duration) -> io::Result<()> {
    let message: Vec<u8> = (0..6_000_u32).map(|i| (i % 251) as u8).collect();
    let title = format!("Pulled in the middle of a transfer, and back after {outage:?}");
    let scene = tour.scene(name, &title, peer).run(async |net| {
        let (mut client, mut server) = net.connect(PORT).await?;
        let write = async {
            for piece in message.chunks(1_000) {
                client.write(piece).await?;
                sleep(Duration::from_millis(20)).await;
            }
            // Shortly before the cable is reconnected.
            sleep(outage - Duration::from_millis(200)).await;
            let state = client.state();
            client.close();
            io::Result::Ok(state)
        };
        let pull = async {
            sleep(Duration::from_millis(50)).await;
            net.wire.set_down(true);
            sleep(outage).await;
            net.wire.set_down(false);
            Ok(())
        };
        let (received, state, ()) = tokio::try_join!(server.read_to_end(), write, pull)?;
        server.close();
        Ok((received, state))
    })?;
    let (received, state) = scene.value;
    let lost = scene.segments.filter(|seg| seg.lost).len();
    tour.claim(format!("{lost} segments were lost with the cable"), lost >= 3);
    if let Some(state) = state {
        tour.equal("without the cable the sender is ESTABLISHED", &state, &State::Established);
    }
    tour.claim(
        format!("all {} bytes arrive, intact, and the end of the stream", message.len()),
        received == message,
    );
    tour.equal("no RST", &scene.segments.filter(|seg| seg.header.is_rst()).len(), &0);
    Ok(())
}

/// The cable is reconnected after the sender has given up.
fn back_too_late(tour: &mut Tour) -> io::Result<()> {
    let scene =
        tour.scene("back_too_late", "Back after the sender gave up", Peer::Netstack).run(async |net| {
            let (mut client, mut server) = net.connect(PORT).await?;
            net.wire.set_down(true);
            server.write(b"a response").await?;
            let gave_up = server.read(10).await.err().map(|error| errno(&error));
            let at = net.wire.now();
            let state = client.state();
            sleep(Duration::from_secs(10)).await;
            net.wire.set_down(false);
            let back = net.wire.now();
            client.write(b"another request").await?;
            let reset = client.read(10).await.err().map(|error| errno(&error));
            Ok((gave_up, at, state, back, reset))
        })?;
    let (gave_up, at, state, back, reset) = scene.value;
    tour.equal("the sender gives up", &gave_up.as_deref(), &Some("ETIMEDOUT"));
    tour.claim(format!("after {:.1} s", at.as_secs_f64()), GIVEN_UP.contains(&at.as_secs()));
    tour.equal("the other side does not know: ESTABLISHED", &state, &Some(State::Established));
    let late = scene.segments.since(back).numbers();
    tour.equal(
        "its late segment is answered with RST",
        &late,
        &vec!["> ACK 1/1 15 B".to_owned(), "< RST 1/0".to_owned()],
    );
    tour.equal("and then it knows", &reset.as_deref(), &Some("ECONNRESET"));
    Ok(())
}

/// No side sends anything while the cable is disconnected.
fn idle(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("idle", "Idle for a day without cable, no keep-alive", Peer::Netstack).run(
        async |net| {
            let (mut client, mut server) = net.connect(PORT).await?;
            net.wire.set_down(true);
            let down = net.wire.now();
            sleep(DAY).await;
            let states = (client.state(), server.state());
            net.wire.set_down(false);
            let sent = net.wire.segments().since(down).len();
            client.write(b"good morning").await?;
            let read = server.read(100).await?;
            net.wire.cut();
            Ok((states, sent, read))
        },
    )?;
    let (states, sent, read) = scene.value;
    tour.equal("nobody sent anything", &sent, &0);
    tour.equal("both are ESTABLISHED", &states, &(Some(State::Established), Some(State::Established)));
    tour.equal("and both were right", &read, &b"good morning".to_vec());
    Ok(())
}

/// The same with keep-alive on one side.
fn idle_with_keepalive(tour: &mut Tour) -> io::Result<()> {
    let title = "Idle without cable, keep-alive on one side (60 s, 10 s, 3)";
    let scene = tour.scene("idle_keepalive", title, Peer::Netstack).run(async |net| {
        let (client, mut server) = net.connect(PORT).await?;
        server.set_keepalive(Some((Duration::from_secs(60), Duration::from_secs(10), 3)))?;
        net.wire.set_down(true);
        let error = server.read(10).await.err().map(|error| errno(&error));
        let at = net.wire.now();
        let state = client.state();
        net.wire.cut();
        Ok((error, at, state))
    })?;
    let (error, at, state) = scene.value;
    tour.equal("the side with keep-alive notices", &error.as_deref(), &Some("ETIMEDOUT"));
    tour.at("after 60 s + 3 × 10 s", at, Duration::from_secs(90), Duration::from_millis(50));
    tour.equal("the other one does not", &state, &Some(State::Established));
    Ok(())
}
