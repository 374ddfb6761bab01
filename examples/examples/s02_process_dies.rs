//! S2: the process at one end of an idle connection crashes. What does the other end notice?
//!
//! ```text
//! cargo run -p netstack-examples --example s02_process_dies
//! ```
//!
//! It notices at once: the connection belongs to the stack, not to the process, and the stack
//! closes it as if the process had done so. What it sends depends on the state of the socket:
//! normally a FIN; a RST if there is unread data (the peer must not believe that it was read) or if
//! `SO_LINGER` is 0.
//!
//! With netstack, tasks take the place of processes: here the server's task is aborted, or it
//! panics, while its client is a socket of the Linux kernel. In the last scene netstack is the
//! client, and a task that owns a kernel socket dies.
//!
//! One thing is different with a stack inside the process. If the process is killed (`kill -9`),
//! the stack dies with it, and to the peer this looks like a loss of power (S1, S3). If `main`
//! returns, netstack delivers the written data, as the example `exit_drain` shows.

use netstack_examples::tour::{self, Net, Peer, Segs, Side, Stream, Tour, errno};
use std::io;
use std::process::ExitCode;
use std::time::Duration;
use tokio::time::sleep;

const PORT: u16 = 80;
const A_LITTLE: Duration = Duration::from_millis(300);

/// How the server's task ends.
#[derive(Clone, Copy, PartialEq)]
enum Death {
    /// It is aborted.
    Aborted,
    /// It panics.
    Panics,
    /// It is aborted while there is data that it has not read.
    AbortedWithUnreadData,
    /// It is aborted with `SO_LINGER` 0.
    AbortedWithZeroLinger,
}

fn main() -> ExitCode {
    let question =
        "S2: The process at one end of an idle connection crashes. What does the other end notice?";
    tour::main("s02_process_dies", question, |tour| {
        let linux_client = Peer::Kernel(Side::Left);
        orderly(tour, "aborted", "The server's task is aborted", linux_client, Death::Aborted)?;
        orderly(tour, "panics", "The server's task panics", linux_client, Death::Panics)?;
        let title = "Control: aborted with unread data";
        reset(tour, "unread", title, linux_client, Death::AbortedWithUnreadData)?;
        let title = "Control: aborted with SO_LINGER 0";
        reset(tour, "linger", title, linux_client, Death::AbortedWithZeroLinger)?;
        let title = "A task with a socket of the kernel is aborted";
        orderly(tour, "linux_server", title, Peer::Kernel(Side::Right), Death::Aborted)
    })
}

/// A death that the peer sees as the end of the stream.
fn orderly(tour: &mut Tour, name: &str, title: &str, peer: Peer, death: Death) -> io::Result<()> {
    let scene = tour.scene(name, title, peer).run(async |net| {
        let mut client = idle_connection_whose_server_dies(net, death).await?;
        let end = client.read(10).await;
        client.close();
        sleep(A_LITTLE).await;
        Ok(end.map_err(|error| errno(&error)))
    })?;
    tour.equal("the client reads the end of the stream", &scene.value, &Ok(Vec::new()));
    let closing = after_handshake(&scene.segments).numbers();
    let three = ["< FIN,ACK 1/1", "> FIN,ACK 1/2", "< ACK 2/2"].map(str::to_owned).to_vec();
    let four = ["< FIN,ACK 1/1", "> ACK 1/2", "> FIN,ACK 1/2", "< ACK 2/2"].map(str::to_owned).to_vec();
    tour.claim("and the connection is closed in three segments or four", closing == three || closing == four);
    Ok(())
}

/// A death that the peer sees as a reset.
fn reset(tour: &mut Tour, name: &str, title: &str, peer: Peer, death: Death) -> io::Result<()> {
    let scene = tour.scene(name, title, peer).run(async |net| {
        let mut client = idle_connection_whose_server_dies(net, death).await?;
        Ok(client.read(10).await.map_err(|error| errno(&error)))
    })?;
    tour.equal("the client's read fails", &scene.value, &Err("ECONNRESET".to_owned()));
    let from_server = after_handshake(&scene.segments).from(Side::Right);
    let resets = from_server.filter(|seg| seg.header.is_rst()).len();
    let fins = from_server.filter(|seg| seg.header.is_fin()).len();
    tour.equal("one RST and no FIN", &(resets, fins), &(1, 0));
    Ok(())
}

/// The client's end.
async fn idle_connection_whose_server_dies(net: &Net, death: Death) -> io::Result<Stream> {
    let (mut client, mut server) = net.connect(PORT).await?;
    if death == Death::AbortedWithUnreadData {
        client.write(b"will anybody read this?").await?;
        sleep(A_LITTLE).await;
    }
    if death == Death::AbortedWithZeroLinger {
        server.set_zero_linger()?;
    }
    let host = net.right.clone();
    let task = tokio::spawn(async move {
        if death == Death::AbortedWithUnreadData {
            // It does not read.
            std::future::pending::<()>().await;
        }
        if death == Death::Panics {
            sleep(A_LITTLE).await;
            host.says("the task panics");
            panic!("as the experiment wants it");
        }
        server.read(10).await
    });
    sleep(A_LITTLE).await;
    if death == Death::Panics {
        // The panic is intended, its message would only distract.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let died = task.await;
        std::panic::set_hook(hook);
        assert!(died.is_err_and(|error| error.is_panic()), "the task panics");
    } else {
        net.right.says("the task is aborted");
        task.abort();
        assert!(task.await.is_err_and(|error| error.is_cancelled()), "the task is aborted");
    }
    Ok(client)
}

fn after_handshake(segments: &Segs) -> Segs {
    let third = segments.iter().position(|seg| seg.numbers() == "ACK 1/1").unwrap_or(0);
    segments.since_index(third + 1)
}
