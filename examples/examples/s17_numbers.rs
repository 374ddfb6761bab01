//! S17: how sequence and acknowledgment numbers change, segment by segment.
//!
//! ```text
//! cargo run -p netstack-examples --example s17_numbers
//! ```
//!
//! A client connects, sends ten bytes and closes; the server closes a little later. The program
//! prints the segments on the wire next to the predictions of two formulas: a segment's sequence
//! number is that of the sender's last segment plus its length, and its acknowledgment number is
//! that of the last segment received plus its length, where a SYN and a FIN count as one byte each.
//! The Linux kernel is the client, and then the server.
//!
//! The formulas describe an exchange in which nothing is lost. The last scene shows their limits: a
//! retransmission repeats its sequence number, the acknowledgment of an out-of-order segment
//! repeats the previous one (it is RCV.NXT, the next missing byte), and a keep-alive probe has the
//! sequence number before the next one.

use netstack_examples::tour::{self, Peer, Seg, Segs, Side, Tour};
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

const PORT: u16 = 8888;
/// What the client sends.
const TEN_BYTES: &[u8] = b"0123456789";
/// Longer than an acknowledgment can be delayed: 40 ms, and 200 ms at most.
const A_LITTLE: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    tour::main("s17_numbers", "S17: How do sequence and acknowledgment numbers change?", |tour| {
        ten_bytes(tour, "linux_client", Peer::Kernel(Side::Left))?;
        ten_bytes(tour, "linux_server", Peer::Kernel(Side::Right))?;
        third_ack_lost(tour, "third_ack_lost", Peer::Kernel(Side::Left))?;
        third_ack_lost(tour, "third_ack_lost_linux_server", Peer::Kernel(Side::Right))?;
        where_the_formulas_end(tour)
    })
}

/// Handshake, ten bytes, four-way close.
fn ten_bytes(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "Ten bytes, and a close in four segments", peer);
    let scene = scene.run(async |net| {
        let (mut client, mut server) = net.connect(PORT).await?;
        client.write(TEN_BYTES).await?;
        let read = server.read(100).await?;
        sleep(A_LITTLE).await;
        client.close();
        server.read(100).await?;
        sleep(A_LITTLE).await;
        server.close();
        sleep(A_LITTLE).await;
        Ok(read)
    })?;
    tour.equal("the server reads the ten bytes", scene.value.as_slice(), TEN_BYTES);
    tour.equal(
        "the numbers are those of the table: seq/ack, relative to the initial ones",
        &scene.segments.numbers(),
        &[
            "> SYN 0/0",
            "< SYN,ACK 0/1",
            "> ACK 1/1",
            // The same numbers as the third segment: an ACK without data takes none.
            "> ACK 1/1 10 B",
            "< ACK 1/11",
            "> FIN,ACK 11/1",
            "< ACK 1/12",
            "< FIN,ACK 1/12",
            "> ACK 12/2",
        ]
        .map(str::to_owned)
        .to_vec(),
    );
    print_table(tour, &scene.segments);
    let broken = scene.segments.len() - obeying(&scene.segments);
    tour.equal("every segment obeys the two formulas", &broken, &0);
    Ok(())
}

/// The third segment of the handshake is lost. The first data segment has the same numbers and the
/// ACK bit, so it takes its place.
fn third_ack_lost(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "The third segment of the handshake is lost", peer);
    let scene = scene.run(async |net| {
        let listener = net.right.listen(PORT)?;
        net.wire.lose(Side::Left, |segment| segment.is_ack() && !segment.is_syn());
        let connect = async {
            let mut client = net.left.connect(net.right.at(PORT)).await?;
            client.write(TEN_BYTES).await?;
            io::Result::Ok(client)
        };
        let (client, server) = tokio::join!(connect, listener.accept());
        let read = server?.read(100).await?;
        drop(client?);
        Ok(read)
    })?;
    let lost: Vec<_> = scene.segments.iter().filter(|seg| seg.lost).map(Seg::numbers).collect();
    tour.equal("the third segment was lost, and nothing else", &lost, &vec!["ACK 1/1".to_owned()]);
    let data = scene.segments.iter().find(|seg| !seg.is_empty());
    tour.claim(
        "the data carries the same numbers, and the ACK bit",
        data.is_some_and(|data| data.numbers() == "ACK 1/1"),
    );
    let syn_acks = scene.segments.filter(|seg| seg.is("SYN,ACK")).len();
    tour.equal("the server did not have to repeat its SYN-ACK", &syn_acks, &1);
    tour.equal("accept returned, and the bytes were there", scene.value.as_slice(), TEN_BYTES);
    Ok(())
}

/// A loss, the segments after it, a probe, and a FIN that carries data.
fn where_the_formulas_end(tour: &mut Tour) -> io::Result<()> {
    let scene = tour.scene("exceptions", "Where the formulas end", Peer::Netstack);
    let scene = scene.run(async |net| {
        let (mut client, mut server) = net.connect(PORT).await?;
        client.set_nodelay()?;
        net.wire.lose(Side::Left, |segment| segment.payload_len == 10);
        client.write(TEN_BYTES).await?;
        client.write(b"behind the gap").await?;
        sleep(Duration::from_secs(1)).await;
        server.read(100).await?;
        client.set_keepalive(Some((Duration::from_secs(5), Duration::from_secs(1), 3)))?;
        sleep(Duration::from_secs(6)).await;
        net.wire.says("a FIN can carry data");
        // Held back until the FIN is sent with it.
        let stream = client.netstack().expect("both sides are netstack");
        stream.set_tcp_cork(true)?;
        client.write(b"bye").await?;
        client.close();
        server.read_to_end().await?;
        server.close();
        sleep(A_LITTLE).await;
        Ok(())
    })?;
    let sent = scene.segments.from(Side::Left);
    let ten: Vec<_> = sent.iter().filter(|seg| seg.len() == 10).collect();
    tour.claim(
        "a retransmission has the number of the segment that was lost, not the next one",
        ten.len() == 2 && ten[0].lost && ten[0].seq == ten[1].seq,
    );
    let duplicate = scene.segments.from(Side::Right).filter(|seg| seg.options.contains("sack 11:25"));
    tour.claim(
        "what comes behind a gap is answered with the number of the gap (RCV.NXT), and a SACK block",
        !duplicate.is_empty() && duplicate.iter().all(|seg| seg.ack == 1),
    );
    let probes = sent.filter(|seg| seg.is_empty() && seg.numbers() == "ACK 24/1");
    tour.equal("a keep-alive probe goes one back: SND.NXT is 25", &probes.len(), &1);
    let fin = sent.filter(|seg| seg.header.is_fin());
    let answer = scene.segments.from(Side::Right).filter(|seg| seg.ack == 29);
    tour.claim(
        "a FIN with 3 bytes counts as 4",
        fin.first().is_some_and(|fin| fin.seq == 25 && fin.len() == 3) && !answer.is_empty(),
    );
    tour.claim("so the formulas do not hold here", obeying(&scene.segments) < scene.segments.len());
    Ok(())
}

/// The numbers of a segment that the formulas predict from those before it.
fn predicted(before: &[Seg], seg: &Seg) -> Option<(u32, u32)> {
    let counts = |seg: &Seg| seg.header.len() as u32;
    // The first segment of each side begins with its initial number.
    let last_sent = before.iter().rfind(|other| other.from == seg.from);
    let number = last_sent.map_or(0, |last| last.seq + counts(last));
    let last_received = before.iter().rfind(|other| other.from != seg.from);
    let acknowledged = last_received.map_or(0, |last| last.seq + counts(last));
    Some((number, acknowledged))
}

/// How many segments match the formulas.
fn obeying(segments: &Segs) -> usize {
    let obeys = |(index, seg): (usize, &Seg)| predicted(&segments[..index], seg) == Some((seg.seq, seg.ack));
    segments.iter().enumerate().filter(|pair| obeys(*pair)).count()
}

fn print_table(tour: &Tour, segments: &Segs) {
    tour.says("      segment        on the wire   by the formulas");
    for (index, seg) in segments.iter().enumerate() {
        let [mine, theirs] = match seg.from {
            Side::Left => ["c", "s"],
            Side::Right => ["s", "c"],
        };
        let show = |(number, acknowledged): (u32, u32)| {
            let ack = if seg.header.is_ack() { format!("{theirs}+{acknowledged}") } else { "-".to_owned() };
            format!("{mine}+{number}/{ack}")
        };
        let by_formula = predicted(&segments[..index], seg).map(show).unwrap_or_default();
        let what = format!("{:?} {} B", seg.header.flags, seg.len());
        let sender = if seg.from == Side::Left { ">" } else { "<" };
        tour.says(format!("    {sender} {what:<14} {:<13} {by_formula}", show((seg.seq, seg.ack))));
    }
}
