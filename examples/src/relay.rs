//! The loop of a network emulator: packets from one device to another, through a link.

use netstack::buffer::{PacketBuf, Pool};
use netstack::device::{Device, Link, Readiness, TxPacket};
use netstack::time::Instant;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Packets moved in one direction before the other has its turn.
const BATCH: usize = 256;

/// How exact the times of a network are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// To a millisecond, tokio's tick.
    Tick,
    /// As exact as the processor is fast: it does not sleep while a packet is due in the next two ticks, and
    /// takes a whole processor.
    Exact,
}

/// Shorter waits than this are too short for tokio's timer.
const SHORT: Duration = Duration::from_millis(2);

/// Moves packets between the two ends for ever: from `link`, which is in front of the left device,
/// to `right` and back.
///
/// # Errors
/// Those of the devices; an error if they have no file descriptors.
pub async fn forward(link: &Link, right: &dyn Device, timing: Timing) -> io::Result<()> {
    let [near, far] = [watch(link, 0)?, watch(right, 0)?];
    let pool = Pool::new();
    let mut buf = pool.take();
    let start = tokio::time::Instant::now();
    let now = || Instant::ZERO + start.elapsed();
    loop {
        link.on_deadline(now());
        let more_left = relay(now(), link, right, &mut buf)?;
        let more_right = relay(now(), right, link, &mut buf)?;
        link.flush(0);
        if more_left || more_right {
            tokio::task::yield_now().await;
            continue;
        }
        let wait = link.next_deadline().map(|at| at.saturating_since(now()));
        if timing == Timing::Exact && wait.is_some_and(|wait| wait < SHORT) {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            guard = near.readable() => guard?.clear_ready(),
            guard = far.readable() => guard?.clear_ready(),
            () = tokio::time::sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {}
        }
    }
}

/// Watches the file descriptor of a queue of a device for packets.
///
/// # Errors
/// If the device has none; those of the runtime.
#[expect(deprecated, reason = "its successor is unsafe, because of types other than OwnedFd")]
pub fn watch(device: &dyn Device, queue: usize) -> io::Result<AsyncFd<OwnedFd>> {
    match device.readiness(queue) {
        Readiness::Fd(fd) => AsyncFd::with_interest(fd.try_clone_to_owned()?, Interest::READABLE),
        Readiness::Signal(_) => Err(io::Error::other("a TUN device has a file descriptor")),
    }
}

/// Moves packets until there are none, or until it is the other direction's turn. Returns whether
/// there may be more.
fn relay(now: Instant, from: &dyn Device, to: &dyn Device, buf: &mut PacketBuf) -> io::Result<bool> {
    for _ in 0..BATCH {
        let meta = match from.receive(now, 0, buf) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        };
        let packet = TxPacket { header: &buf.bytes()[..meta.len], ..TxPacket::default() };
        match to.transmit(now, 0, &packet) {
            Ok(()) => {}
            // A wire does not wait: packets that the other side cannot take are lost.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
