//! S15: can the four segments of a close become three?
//!
//! ```text
//! cargo run -p netstack-examples --example s15_close_in_three
//! ```
//!
//! A client sends 19 bytes, waits a second and closes. The server answers the end of the stream
//! with a close of its own. Is the acknowledgment of the client's FIN a segment of its own, or does
//! the server's FIN carry it? That depends on delayed acknowledgments: if the server closes within
//! the delay there are three segments. `TCP_QUICKACK` sends the acknowledgment at once, but only if
//! it is set after the FIN has arrived, because a FIN puts the socket back into delayed mode.
//!
//! The Linux kernel is the client of netstack, and then netstack is the client of the Linux kernel.

use netstack_examples::tour::{self, Peer, Side, Tour};
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

const PORT: u16 = 8888;
/// What the client sends: 19 bytes.
const MESSAGE: &[u8] = b"hello, i am xiaolin";
const SECOND: Duration = Duration::from_secs(1);

/// What the server does about its acknowledgments.
#[derive(Clone, Copy, PartialEq)]
enum Server {
    /// Nothing, and closes as soon as it reads the end of the stream.
    Closes,
    /// Sets `TCP_QUICKACK` after the read that returned 0.
    QuickAcksAfterTheEnd,
    /// Sets it before that read.
    QuickAcksBeforeTheEnd,
    /// Nothing, and closes 300 ms later.
    ClosesLate,
}

fn main() -> ExitCode {
    tour::main("s15_close_in_three", "S15: Can the four segments of a close become three?", |tour| {
        for (role, peer) in
            [("linux_client", Peer::Kernel(Side::Left)), ("linux_server", Peer::Kernel(Side::Right))]
        {
            let first =
                experiment(tour, &format!("1_{role}"), "Experiment 1: delayed ACK", peer, Server::Closes)?;
            tour.equal("three segments: the ACK rides on the server's FIN", &first.0, &three());

            let second = "Experiment 2: TCP_QUICKACK after the read that returned 0";
            let (second, _) =
                experiment(tour, &format!("2_{role}"), second, peer, Server::QuickAcksAfterTheEnd)?;
            tour.equal("four segments: the ACK goes by itself", &second, &four());

            let early = "Control: TCP_QUICKACK before that read";
            let (early, _) =
                experiment(tour, &format!("3_{role}"), early, peer, Server::QuickAcksBeforeTheEnd)?;
            tour.equal("three segments again: the FIN ended the quick mode", &early, &three());

            let late = "Control: the server closes 300 ms later";
            let (late, waited) = experiment(tour, &format!("4_{role}"), late, peer, Server::ClosesLate)?;
            tour.equal("four segments", &late, &four());
            // In real time a busy machine may be late; virtual time is exact.
            let slack = Duration::from_millis(if tour.has_kernel() { 110 } else { 0 });
            let expected = Duration::from_millis(40);
            tour.at("the ACK waited 40 ms for something to ride on", waited, expected, slack);
        }
        Ok(())
    })
}

/// FIN, FIN and ACK in one, ACK.
fn three() -> Vec<String> {
    ["> FIN,ACK 20/1", "< FIN,ACK 1/21", "> ACK 21/2"].map(str::to_owned).to_vec()
}

/// FIN, ACK, FIN, ACK.
fn four() -> Vec<String> {
    ["> FIN,ACK 20/1", "< ACK 1/21", "< FIN,ACK 1/21", "> ACK 21/2"].map(str::to_owned).to_vec()
}

/// Runs client and server. Returns the segments from the FIN on, and how long the server took to
/// answer it.
fn experiment(
    tour: &mut Tour,
    name: &str,
    title: &str,
    peer: Peer,
    kind: Server,
) -> io::Result<(Vec<String>, Duration)> {
    let scene = tour.scene(name, title, peer).run(async |net| {
        let (mut client, mut server) = net.connect(PORT).await?;
        let serve = async {
            server.read(MESSAGE.len()).await?;
            if kind == Server::QuickAcksBeforeTheEnd {
                server.set_quickack(true)?;
            }
            let end = server.read(MESSAGE.len()).await?;
            assert!(end.is_empty(), "the client sent no more");
            match kind {
                Server::QuickAcksAfterTheEnd => server.set_quickack(true)?,
                Server::ClosesLate => sleep(Duration::from_millis(300)).await,
                Server::Closes | Server::QuickAcksBeforeTheEnd => {}
            }
            server.close();
            io::Result::Ok(())
        };
        let act = async {
            client.write(MESSAGE).await?;
            sleep(SECOND).await;
            client.close();
            io::Result::Ok(())
        };
        tokio::try_join!(serve, act)?;
        // Wait for segments that may still follow.
        sleep(Duration::from_millis(100)).await;
        Ok(())
    })?;
    let begin = scene.segments.iter().position(|seg| seg.header.is_fin()).unwrap_or(scene.segments.len());
    let closing = &scene.segments[begin..];
    let fin = closing.first().and_then(|fin| fin.arrived).unwrap_or_default();
    let answer = closing.iter().find(|seg| seg.from == Side::Right).map_or(Duration::MAX, |seg| seg.sent);
    let numbers = scene.segments.since_index(begin).numbers();
    Ok((numbers, answer.saturating_sub(fin)))
}
