//! S10: what happens if the server did not call `listen`?
//!
//! ```text
//! cargo run -p netstack-examples --example s10_no_listen
//! ```
//!
//! A socket that is bound but does not listen reserves a port and receives nothing: a SYN to it is
//! answered like one to an unused port. As the SYN has no ACK bit, the answer is a RST with ACK,
//! with sequence number 0 and acknowledgment number ISN + 1 (RFC 9293 §3.10.7.1).
//!
//! Then the two checks that come before that answer: a segment with a bad checksum is dropped
//! silently, and the lookup searches for a connection with the addresses and ports of both ends
//! first, and for a listener second. The Linux kernel is the client, and then the server.

use netstack::wire::{Flags, SeqNum};
use netstack_examples::tour::{self, Forgery, Peer, Side, Tour, errno};
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

const PORT: u16 = 8888;
/// An unused port.
const OTHER: u16 = 45_678;
/// Long enough for an answer to come.
const A_LITTLE: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    tour::main("s10_no_listen", "S10: What happens if the server did not call listen?", |tour| {
        for (role, peer) in
            [("linux_client", Peer::Kernel(Side::Left)), ("linux_server", Peer::Kernel(Side::Right))]
        {
            bound_only(tour, &format!("bound_{role}"), peer)?;
        }
        bad_checksum(tour, "checksum_linux", Peer::Kernel(Side::Right))?;
        bad_checksum(tour, "checksum", Peer::Netstack)?;
        look_up(tour, "look_up_linux", Peer::Kernel(Side::Right))?;
        look_up(tour, "look_up", Peer::Netstack)
    })
}

/// The socket is bound and does not listen.
fn bound_only(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "Bound, and not listening", peer).run(async |net| {
        let bound = net.right.socket()?;
        bound.bind(PORT)?;
        let error = net.left.connect(net.right.at(PORT)).await.err();
        drop(bound);
        Ok(error.map(|error| errno(&error)))
    })?;
    tour.equal("connect fails at once", &scene.value.as_deref(), &Some("ECONNREFUSED"));
    let expected = ["> SYN 0/0", "< RST,ACK 0/1"].map(str::to_owned).to_vec();
    tour.equal("the SYN is answered with RST,ACK for ISN + 1", &scene.segments.numbers(), &expected);
    let number = scene.segments.last().map(|rst| rst.header.seq.raw());
    tour.equal("its sequence number on the wire is 0, not a relative one", &number, &Some(0));
    Ok(())
}

/// The same SYN twice, first with a wrong checksum and then with the correct one.
fn bad_checksum(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "A bad checksum is not even worth a reset", peer).run(async |net| {
        let mut syn = Forgery::new(
            net.left.at(OTHER),
            net.right.at(PORT),
            Flags::SYN,
            SeqNum::new(1_000_000),
            SeqNum::default(),
        );
        syn.bad_checksum = true;
        net.wire.forge(Side::Left, &syn)?;
        sleep(A_LITTLE).await;
        let before = net.wire.segments().from(Side::Right).len();
        syn.bad_checksum = false;
        net.wire.forge(Side::Left, &syn)?;
        sleep(A_LITTLE).await;
        Ok(before)
    })?;
    tour.claim(
        "the first SYN arrived, broken",
        scene.segments.first().is_some_and(|seg| !seg.checksum_ok && seg.arrived.is_some()),
    );
    tour.equal("nothing answers it", &scene.value, &0);
    let answers = scene.segments.from(Side::Right).numbers();
    tour.equal("the same SYN, intact, gets its reset", &answers, &vec!["< RST,ACK 0/1".to_owned()]);
    Ok(())
}

/// One port, a connection and a listener on it.
fn look_up(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "First the connection, then the listener", peer).run(async |net| {
        let listener = net.right.listen(PORT)?;
        let (client, server) = tokio::join!(net.left.connect(net.right.at(PORT)), listener.accept());
        let (mut client, mut server) = (client?, server?);
        let from = client.local_addr()?;
        let syn = |port| {
            let src = std::net::SocketAddr::new(from.ip(), port);
            Forgery::new(src, net.right.at(PORT), Flags::SYN, SeqNum::new(77), SeqNum::default())
        };
        net.wire.says("a SYN from the client's own port: the connection gets it");
        let mark = net.wire.segments().len();
        net.wire.forge(Side::Left, &syn(from.port()))?;
        sleep(A_LITTLE).await;
        let own = net.wire.segments().since_index(mark).from(Side::Right).numbers();
        net.wire.says("a SYN from another port: the listener gets it");
        let mark = net.wire.segments().len();
        net.wire.forge(Side::Left, &syn(OTHER))?;
        sleep(A_LITTLE).await;
        let other = net.wire.segments().since_index(mark).from(Side::Right).numbers();
        listener.close();
        client.write(b"still here").await?;
        let read = server.read(100).await?;
        net.wire.says("without a listener only the connection is left");
        let refused = net.left.connect(net.right.at(PORT)).await.err();
        Ok((own, other, read, refused.map(|error| errno(&error))))
    })?;
    let (own, other, read, refused) = scene.value;
    // RFC 9293 §3.10.7.4, second step for SYN in a synchronised state: a challenge ACK (RFC 5961 §4).
    tour.claim(
        "the connection answers the SYN with a challenge ACK and lives on",
        own.first().is_some_and(|answer| answer.starts_with("< ACK 1/")),
    );
    tour.claim("the listener answers the other one with SYN-ACK", other == ["< SYN,ACK 0/1"]);
    tour.equal("the connection outlives the listener", &read, &b"still here".to_vec());
    tour.equal("and a new connection is refused", &refused.as_deref(), &Some("ECONNREFUSED"));
    Ok(())
}
