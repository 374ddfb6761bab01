//! S4: a host crashes with data on its way to it, and boots. What happens to the connection?
//!
//! ```text
//! cargo run -p netstack-examples --example s04_reboot
//! ```
//!
//! The server keeps retransmitting, until a retransmission reaches the host that has booted and
//! does not know the connection. It answers with RST. It makes no difference whether a process
//! listens on the port: the segment belongs to no connection (RFC 9293 §3.10.7.1), and a listener
//! answers an ACK without SYN with RST as well (§3.10.7.2).
//!
//! The host that boots is a netstack, and the server is the Linux kernel. Then a segment of a
//! connection that never existed reaches the kernel, which answers it in the same way.

use netstack::wire::{Flags, SeqNum};
use netstack_examples::tour::{self, Forgery, Peer, Side, Tour, errno};
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

const PORT: u16 = 80;
/// The client's port, so that a process can bind it again after the boot.
const CLIENT_PORT: u16 = 45_000;
const OFF: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let question =
        "S4: A host crashes with data on its way to it, and boots. What happens to the connection?";
    tour::main("s04_reboot", question, |tour| {
        reboots(tour, "port_free", "Nobody has the port after the boot", false)?;
        reboots(tour, "port_bound", "A process listens on the port after the boot", true)?;
        unknown_to(tour, "unknown_to_linux", Peer::Kernel(Side::Right))?;
        unknown_to(tour, "unknown_to_netstack", Peer::Netstack)
    })
}

/// The client's host goes down and up while the server sends.
fn reboots(tour: &mut Tour, name: &str, title: &str, listens: bool) -> io::Result<()> {
    let scene = tour.scene(name, title, Peer::Kernel(Side::Right)).run(async |net| {
        let listener = net.right.listen(PORT)?;
        let socket = net.left.socket()?;
        socket.bind(CLIENT_PORT)?;
        let (client, server) = tokio::join!(socket.connect(net.right.at(PORT)), listener.accept());
        let (_client, mut server) = (client?, server?);
        net.left.power_off().await;
        server.write(b"a response that is late").await?;
        sleep(OFF).await;
        net.left.power_on()?;
        let _listener = if listens { Some(net.left.listen(CLIENT_PORT)?) } else { None };
        let booted = net.wire.now();
        let error = server.read(10).await.err().map(|error| errno(&error));
        Ok((booted, error))
    })?;
    let (booted, error) = scene.value;
    let lost = scene.segments.from(Side::Right).filter(|seg| seg.lost && !seg.is_empty()).len();
    tour.claim("data was sent, and sent again, to a host without power", lost >= 2);
    let after = scene.segments.since(booted);
    let [data, reset] = &after[..] else {
        tour.claim(format!("after the boot there are two segments, not {:?}", after.numbers()), false);
        return Ok(());
    };
    tour.claim("a retransmission reaches the host that booted", data.from == Side::Right && data.len() == 23);
    // RFC 9293 §3.10.7.1: SEG.ACK becomes the sequence number, and there is no ACK.
    tour.claim(
        "and is answered with RST, whose number is the one that it acknowledged",
        reset.is("RST") && reset.header.seq == data.header.ack,
    );
    tour.equal("the server's read fails", &error.as_deref(), &Some("ECONNRESET"));
    Ok(())
}

/// A segment of a connection that never existed, to a port with a listener and to one without.
fn unknown_to(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "A segment of an unknown connection", peer).run(async |net| {
        let _listener = net.right.listen(PORT)?;
        for port in [PORT, PORT + 1] {
            let (src, dst) = (net.left.at(CLIENT_PORT), net.right.at(port));
            let mut data =
                Forgery::new(src, dst, Flags::ACK.with(Flags::PSH), SeqNum::new(5_000), SeqNum::new(70_000));
            data.payload = b"who are you?".to_vec();
            net.wire.says(if port == PORT { "to a port with a listener" } else { "to a port without" });
            net.wire.forge(Side::Left, &data)?;
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    })?;
    let resets = scene.segments.from(Side::Right);
    tour.equal("both are answered", &resets.len(), &2);
    let right = |reset: &tour::Seg| reset.is("RST") && reset.header.seq == SeqNum::new(70_000);
    tour.claim("with RST, whose number is the one that was acknowledged", resets.iter().all(right));
    Ok(())
}
