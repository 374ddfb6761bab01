//! S14: what is the difference between `close` and `shutdown`?
//!
//! ```text
//! cargo run -p netstack-examples --example s14_close_and_shutdown
//! ```
//!
//! `shutdown` ends one direction, even if there are other handles of the socket: writing with a
//! FIN, reading with nothing on the wire. `close` drops a handle, and dropping the last one ends
//! both directions: later segments are answered with RST. If there is unread data, it sends a RST
//! at once (RFC 2525 §2.17), and so does `SO_LINGER` 0.
//!
//! A peer that receives a RST after it has read the end of the stream reads the end of the stream
//! again, and `EPIPE` when it writes. Otherwise it gets `ECONNRESET` once, from a read or a write,
//! and then the end of the stream and `EPIPE`. netstack never raises a signal.
//!
//! All scenes run twice: netstack closes and the Linux kernel is the peer, and the other way round.

use netstack_examples::tour::{self, Peer, Segs, Side, Stream, Tour, errno};
use std::io;
use std::net::Shutdown;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

const PORT: u16 = 80;
/// Long enough for segments to arrive.
const A_LITTLE: Duration = Duration::from_millis(60);

fn main() -> ExitCode {
    tour::main("s14_close_and_shutdown", "S14: What is the difference between close and shutdown?", |tour| {
        for (who, peer) in
            [("netstack_acts", Peer::Kernel(Side::Right)), ("linux_acts", Peer::Kernel(Side::Left))]
        {
            shutdown_write(tour, &format!("shutdown_write_{who}"), peer)?;
            shutdown_read(tour, &format!("shutdown_read_{who}"), peer)?;
            close_and_late_data(tour, &format!("late_data_{who}"), peer)?;
            for first in [First::Read, First::Write] {
                unread_data(tour, &format!("unread_{}_{who}", first.name()), peer, first)?;
            }
            zero_linger(tour, &format!("linger_{who}"), peer)?;
        }
        handles(tour)
    })
}

/// A FIN; reading continues.
fn shutdown_write(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "shutdown(Write): reading goes on", peer).run(async |net| {
        let (mut client, mut server) = net.connect(PORT).await?;
        client.write(b"the question").await?;
        client.shutdown(Shutdown::Write)?;
        let question = server.read_to_end().await?;
        let write = client.write(b"more").await.map_err(|error| errno(&error));
        server.write(b"the answer").await?;
        server.close();
        let answer = client.read_to_end().await?;
        client.close();
        sleep(A_LITTLE).await;
        Ok((question, write, answer))
    })?;
    let (question, write, answer) = scene.value;
    tour.equal(
        "the peer reads the question and the end of the stream",
        &question.as_slice(),
        &b"the question".as_slice(),
    );
    tour.equal("writing is over", &write, &Err("EPIPE".to_owned()));
    tour.equal("the answer is read after the FIN was sent", &answer.as_slice(), &b"the answer".as_slice());
    let fins = [Side::Left, Side::Right]
        .map(|side| scene.segments.from(side).filter(|seg| seg.header.is_fin()).len());
    tour.equal("one FIN from each side", &fins, &[1, 1]);
    tour.equal("no RST", &resets(&scene.segments), &0);
    Ok(())
}

/// Nothing on the wire.
fn shutdown_read(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "shutdown(Read): nothing on the wire", peer).run(async |net| {
        let (mut client, mut server) = net.connect(PORT).await?;
        sleep(A_LITTLE).await;
        let before = net.wire.segments().len();
        client.shutdown(Shutdown::Read)?;
        let end = client.read(10).await?;
        sleep(A_LITTLE).await;
        let after = net.wire.segments().len();
        client.write(b"writing goes on").await?;
        let read = server.read(100).await?;
        net.wire.cut();
        Ok((end, after - before, read))
    })?;
    let (end, sent, read) = scene.value;
    tour.equal("no segment tells the peer", &sent, &0);
    tour.equal("reading gives the end of the stream", &end.len(), &0);
    tour.equal("writing goes on", &read.as_slice(), &b"writing goes on".as_slice());
    Ok(())
}

/// The peer writes to a socket that was closed.
fn close_and_late_data(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "close, and data that comes later", peer).run(async |net| {
        let (client, mut server) = net.connect(PORT).await?;
        client.close();
        let end = server.read(10).await.map_err(|error| errno(&error));
        let write = server.write(b"the answer").await.map_err(|error| errno(&error));
        sleep(A_LITTLE).await;
        Ok((end, write, told(&mut server, First::Read).await))
    })?;
    let (end, write, told) = scene.value;
    tour.equal("the peer reads the end of the stream", &end, &Ok(Vec::new()));
    tour.equal("and may still write: it cannot know that nobody reads", &write, &Ok(10));
    let last = scene.segments.last().map(|seg| (seg.from, seg.header.is_rst()));
    tour.equal("the data is answered with RST", &last, &Some((Side::Left, true)));
    let expected = ["read 0", "write EPIPE", "read 0", "write EPIPE"].map(str::to_owned).to_vec();
    tour.equal("after FIN and RST: the end of the stream, and EPIPE", &told, &expected);
    Ok(())
}

/// Unread data, and what the calls of the peer return, whichever it tries first.
fn unread_data(tour: &mut Tour, name: &str, peer: Peer, first: First) -> io::Result<()> {
    let title = format!("close with unread data; the peer {}s first", first.name());
    let scene = tour.scene(name, &title, peer).run(async |net| {
        let (client, mut server) = net.connect(PORT).await?;
        server.write(b"nobody reads this").await?;
        sleep(A_LITTLE).await;
        client.close();
        sleep(A_LITTLE).await;
        Ok(told(&mut server, first).await)
    })?;
    let sent = scene.segments.from(Side::Left);
    let last = sent.last().map(|seg| seg.header.is_rst() && !seg.header.is_fin());
    tour.equal("RST at once", &(resets(&sent), last), &(1, Some(true)));
    tour.equal("ECONNRESET once, then the end of the stream and EPIPE", &scene.value, &first.after_reset());
    Ok(())
}

/// `SO_LINGER` 0.
fn zero_linger(tour: &mut Tour, name: &str, peer: Peer) -> io::Result<()> {
    let scene = tour.scene(name, "close with SO_LINGER 0", peer).run(async |net| {
        let (client, mut server) = net.connect(PORT).await?;
        client.set_zero_linger()?;
        client.close();
        sleep(A_LITTLE).await;
        Ok(told(&mut server, First::Read).await)
    })?;
    let sent = scene.segments.from(Side::Left);
    tour.equal("RST and no FIN", &(resets(&sent), sent.filter(|seg| seg.header.is_fin()).len()), &(1, 0));
    tour.equal(
        "ECONNRESET once, then the end of the stream and EPIPE",
        &scene.value,
        &First::Read.after_reset(),
    );
    Ok(())
}

/// The number of handles matters for close, and not for shutdown. Handles of netstack are clones of
/// an `Arc` of the stream.
fn handles(tour: &mut Tour) -> io::Result<()> {
    let title = "Two handles: the drop of one is nothing, shutdown counts for both";
    let scene = tour.scene("handles", title, Peer::Kernel(Side::Right)).run(async |net| {
        let mut sent = Vec::new();
        let since = |mark: usize| net.wire.segments().since_index(mark).from(Side::Left).numbers();

        let (client, mut server) = net.connect(PORT).await?;
        sleep(A_LITTLE).await;
        let one = Arc::new(client.into_netstack()?);
        let other = Arc::clone(&one);
        let mark = net.wire.segments().len();
        net.left.says("close() of a clone");
        drop(other);
        sleep(A_LITTLE).await;
        sent.push(since(mark));
        let mark = net.wire.segments().len();
        net.left.says("close() of the last");
        drop(one);
        server.read(1).await?;
        sent.push(since(mark).into_iter().take(1).collect());
        server.close();

        let (client, mut server) = net.connect(PORT + 1).await?;
        sleep(A_LITTLE).await;
        let (read, write) = client.into_netstack()?.into_split();
        let mark = net.wire.segments().len();
        net.left.says("drop of the reading half");
        drop(read);
        sleep(A_LITTLE).await;
        sent.push(since(mark));
        // As in tokio, dropping the writing half shuts down writing.
        let mark = net.wire.segments().len();
        net.left.says("drop of the writing half");
        drop(write);
        server.read(1).await?;
        sent.push(since(mark).into_iter().take(1).collect());
        server.close();

        let (client, mut server) = net.connect(PORT + 2).await?;
        sleep(A_LITTLE).await;
        let one = Arc::new(client.into_netstack()?);
        let other = Arc::clone(&one);
        let mark = net.wire.segments().len();
        net.left.says("shutdown(WR) of a clone");
        netstack::SockRef::from(&*other).shutdown(Shutdown::Write)?;
        server.read(1).await?;
        sent.push(since(mark).into_iter().take(1).collect());
        let write = one.try_write(b"x").err().map(|error| errno(&error));
        net.wire.cut();
        Ok((sent, write))
    })?;
    let (sent, write) = scene.value;
    let fin = vec!["> FIN,ACK 1/1".to_owned()];
    let names = [
        ("the drop of a clone sends nothing", Vec::new()),
        ("the drop of the last handle sends FIN", fin.clone()),
        ("the drop of the reading half sends nothing", Vec::new()),
        ("the drop of the writing half, the last of the two, sends FIN", fin.clone()),
        ("shutdown sends FIN although there is another handle", fin),
    ];
    for ((claim, expected), seen) in names.iter().zip(&sent) {
        tour.equal(claim, seen, expected);
    }
    tour.equal("and that other handle writes no more", &write.as_deref(), &Some("EPIPE"));
    Ok(())
}

/// The first call of the peer after a reset.
#[derive(Clone, Copy)]
enum First {
    Read,
    Write,
}

impl First {
    fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// What its calls return after a RST without a FIN before it.
    fn after_reset(self) -> Vec<String> {
        let told = match self {
            Self::Read => ["read ECONNRESET", "write EPIPE", "read 0", "write EPIPE"],
            Self::Write => ["write ECONNRESET", "read 0", "write EPIPE", "read 0"],
        };
        told.map(str::to_owned).to_vec()
    }
}

/// What four calls return, reads and writes by turns.
async fn told(stream: &mut Stream, first: First) -> Vec<String> {
    let mut told = Vec::new();
    for call in 0..4 {
        let reads = (call % 2 == 0) == matches!(first, First::Read);
        told.push(if reads {
            let result = stream.read(100).await.map(|bytes| bytes.len());
            format!("read {}", result.map_or_else(|error| errno(&error), |len| len.to_string()))
        } else {
            let result = stream.write(b"x").await;
            format!("write {}", result.map_or_else(|error| errno(&error), |len| len.to_string()))
        });
    }
    told
}

fn resets(segments: &Segs) -> usize {
    segments.filter(|seg| seg.header.is_rst()).len()
}
