//! S12: can a connection be established without `accept`?
//!
//! ```text
//! cargo run -p netstack-examples --example s12_no_accept
//! ```
//!
//! Yes: the stack completes the handshake, and `accept` only takes an established connection out of
//! the queue. The server sleeps for 20 s before it accepts. In the meantime the handshake
//! completes, and the client's data is received and acknowledged. Then `accept` returns the stream
//! with the data. With the Linux kernel on one side the server sleeps for two seconds, which shows
//! the same.

use netstack_examples::tour::{self, Peer, Side, Tour};
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

const PORT: u16 = 8080;
const MESSAGE: &[u8] = b"anybody there?";

fn main() -> ExitCode {
    tour::main("s12_no_accept", "S12: Can a connection be established without accept?", |tour| {
        late_accept(tour, "20_seconds", Peer::Netstack, Duration::from_secs(20))?;
        late_accept(tour, "linux_client", Peer::Kernel(Side::Left), Duration::from_secs(2))?;
        late_accept(tour, "linux_server", Peer::Kernel(Side::Right), Duration::from_secs(2))
    })
}

fn late_accept(tour: &mut Tour, name: &str, peer: Peer, asleep: Duration) -> io::Result<()> {
    let title = format!("The server sleeps for {} s before it accepts", asleep.as_secs());
    let scene = tour.scene(name, &title, peer).run(async |net| {
        let listener = net.right.listen(PORT)?;
        let serve = async {
            net.right.says(format!("sleep({})", asleep.as_secs()));
            sleep(asleep).await;
            let mut server = listener.accept().await?;
            let accepted = net.wire.now();
            io::Result::Ok((server.read(100).await?, accepted))
        };
        let act = async {
            let mut client = net.left.connect(net.right.at(PORT)).await?;
            client.write(MESSAGE).await?;
            io::Result::Ok(client)
        };
        let ((read, accepted), client) = tokio::try_join!(serve, act)?;
        drop(client);
        Ok((read, accepted))
    })?;
    let (read, accepted) = scene.value;
    let before = scene.segments.filter(|seg| seg.sent < accepted);
    let expected = ["> SYN 0/0", "< SYN,ACK 0/1", "> ACK 1/1", "> ACK 1/1 14 B", "< ACK 1/15"];
    tour.equal(
        "handshake, data and its acknowledgment are all before accept",
        &before.numbers(),
        &expected.map(str::to_owned).to_vec(),
    );
    let last = before.last().map_or(Duration::MAX, |ack| ack.sent);
    tour.claim("the acknowledgment did not wait for anybody", last < Duration::from_millis(300));
    tour.at("accept waited for its caller", accepted, asleep, Duration::from_millis(500));
    tour.equal("and then the bytes were there", &read.as_slice(), &MESSAGE);
    Ok(())
}
