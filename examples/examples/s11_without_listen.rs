//! S11: can a connection be established without `listen`?
//!
//! ```text
//! cargo run -p netstack-examples --example s11_without_listen
//! ```
//!
//! Yes, in two ways. A socket can connect to its own address: its SYN returns to it in the state
//! SYN-SENT, and is processed like a SYN of a peer. And two clients that connect to each other at
//! the same time open one connection, if their SYNs cross (RFC 9293 §3.5, figure 7). In both cases
//! both ends go through SYN-RECEIVED, and each SYN is answered with a SYN-ACK by a side that has
//! already sent its own SYN.
//!
//! The self-connection is one of netstack, on its loopback. The simultaneous open is one between
//! two netstacks, and then one between netstack and the Linux kernel.

use netstack_examples::tour::{self, Peer, Side, Tour};
use std::io;
use std::process::ExitCode;
use std::time::Duration;

/// The port of both sides.
const PORT: u16 = 34_567;
const MESSAGE: &[u8] = b"Hello, myself~";

fn main() -> ExitCode {
    tour::main("s11_without_listen", "S11: Can a connection be established without listen?", |tour| {
        to_itself(tour)?;
        simultaneous(tour, "simultaneous", Peer::Netstack)?;
        simultaneous(tour, "simultaneous_linux", Peer::Kernel(Side::Right))
    })
}

/// Binds, connects to the same address, sends and receives.
fn to_itself(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("itself", "A socket connects to itself", Peer::Itself);
    let scene = scene.names("what the socket sends", "what the socket receives").run(async |net| {
        let socket = net.left.socket()?;
        socket.set_reuseaddr()?;
        socket.bind(PORT)?;
        let mut stream = socket.connect(net.left.at(PORT)).await?;
        let addresses = (stream.local_addr()?, stream.peer_addr()?);
        stream.write(MESSAGE).await?;
        let read = stream.read(128).await?;
        net.wire.cut();
        Ok((addresses, read, stream.state()))
    })?;
    let ((local, peer), read, state) = scene.value;
    tour.says(format!("Connect to myself successfully: {local} and {peer}"));
    tour.says(format!("Recv the msg: {}", String::from_utf8_lossy(&read)));
    tour.equal("both ends have the same address and port", &local, &peer);
    tour.equal("the socket reads what it wrote", &read.as_slice(), &MESSAGE);
    tour.equal("ESTABLISHED", &state, &Some(netstack::tcp::State::Established));
    let numbers = scene.segments.numbers();
    tour.equal(
        "SYN, SYN-ACK, and then data",
        &numbers[..2],
        &["> SYN 0/0", "> SYN,ACK 0/1"].map(str::to_owned)[..],
    );
    tour.claim("with its numbers", numbers.contains(&"> ACK 1/1 14 B".to_owned()));
    Ok(())
}

/// Two clients without a listener. The delay of the wire lets their SYNs cross.
fn simultaneous(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "Two clients connect to each other", peer);
    let scene = scene.names("client", "client").delay(Duration::from_millis(20)).run(async |net| {
        let (left, right) = (net.left.socket()?, net.right.socket()?);
        left.bind(PORT)?;
        right.bind(PORT + 1)?;
        let (left, right) =
            tokio::join!(left.connect(net.right.at(PORT + 1)), right.connect(net.left.at(PORT)));
        let (mut left, mut right) = (left?, right?);
        left.write(b"hello from the left").await?;
        right.write(b"hello from the right").await?;
        let heard = (left.read(100).await?, right.read(100).await?);
        net.wire.cut();
        Ok(heard)
    })?;
    let syns: Vec<_> = scene.segments.iter().filter(|seg| seg.is("SYN")).collect();
    let crossed = match &syns[..] {
        [one, other] => {
            one.from != other.from && Some(other.sent) < one.arrived && Some(one.sent) < other.arrived
        }
        _ => false,
    };
    tour.claim("two SYNs, and each left before the other arrived", crossed);
    let answers = scene.segments.filter(|seg| seg.is("SYN,ACK"));
    tour.equal(
        "two SYN-ACKs, with the numbers of the SYNs",
        &answers.iter().map(|seg| (seg.seq, seg.ack)).collect(),
        &vec![(0, 1); 2],
    );
    tour.equal("no RST", &scene.segments.filter(|seg| seg.header.is_rst()).len(), &0);
    let expected = (b"hello from the right".to_vec(), b"hello from the left".to_vec());
    tour.equal("one connection: each reads what the other wrote", &scene.value, &expected);
    Ok(())
}
