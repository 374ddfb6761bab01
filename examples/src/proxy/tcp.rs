//! A connection: the upstream is connected first, and then both directions are copied.

use super::buffers::Buffers;
use super::log::{Value, text};
use super::run::Shared;
use netstack::net::{PendingStream, TcpForwarder, tcp as ours};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::tcp as theirs;

/// Serves the clients of a forwarder, until it fails or the future is dropped.
pub(super) async fn serve(shared: Arc<Shared>, forwarder: TcpForwarder) -> io::Result<()> {
    loop {
        let pending = forwarder.accept().await?;
        shared.relays.spawn(serve_one(Arc::clone(&shared), pending));
    }
}

async fn serve_one(shared: Arc<Shared>, pending: PendingStream) {
    let (client, to) = (pending.peer_addr(), pending.local_addr());
    let begin = Instant::now();
    let Ok(_place) = shared.connections.try_acquire() else {
        // The client asks again, and there may be a place then.
        shared.counts.tcp_over_limit.fetch_add(1, Ordering::Relaxed);
        return pending.ignore();
    };
    let timeouts = &shared.config.timeouts;
    let connected = tokio::time::timeout(timeouts.connect, shared.config.outbound.connect(to)).await;
    let upstream = match connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(upstream) => upstream,
        Err(error) => {
            shared.counts.tcp_refused.fetch_add(1, Ordering::Relaxed);
            shared
                .log
                .event("tcp-refused", &[("client", text(client)), ("to", text(to)), ("error", text(&error))]);
            return pending.refuse_as(&error);
        }
    };
    let Ok(stream) = pending.accept().await else {
        // The client has given up in the meantime.
        return drop(upstream.set_zero_linger());
    };
    // Small writes are passed on as they come.
    let _ = stream.set_nodelay(true);
    shared.counts.tcp_open.fetch_add(1, Ordering::Relaxed);
    let activity = Activity::new();
    let outcome =
        relay(stream, upstream, timeouts.idle, timeouts.half_closed, &shared.buffers, &activity).await;
    shared.counts.tcp_open.fetch_sub(1, Ordering::Relaxed);
    shared.counts.tcp_done.fetch_add(1, Ordering::Relaxed);
    let (up, down) = activity.bytes();
    let mut fields = vec![
        ("client", text(client)),
        ("to", text(to)),
        ("up", Value::Number(up)),
        ("down", Value::Number(down)),
        ("ms", Value::Number(begin.elapsed().as_millis() as u64)),
    ];
    if let Err(error) = outcome {
        shared.counts.tcp_reset.fetch_add(1, Ordering::Relaxed);
        fields.push(("error", text(error)));
    }
    shared.log.event("tcp", &fields);
}

/// What happened on a connection.
struct Activity {
    begin: Instant,
    /// Milliseconds from the beginning to the last time that something moved.
    last: AtomicU64,
    closed: AtomicU8,
    up: AtomicU64,
    down: AtomicU64,
}

impl Activity {
    fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self { begin: Instant::now(), last: zero(), closed: AtomicU8::new(0), up: zero(), down: zero() }
    }

    fn touch(&self) {
        self.last.store(self.begin.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn bytes(&self) -> (u64, u64) {
        (self.up.load(Ordering::Relaxed), self.down.load(Ordering::Relaxed))
    }

    /// Waits until nothing has moved for too long.
    async fn idle(&self, idle: Duration, half_closed: Duration) -> io::Error {
        loop {
            let limit = if self.closed.load(Ordering::Relaxed) > 0 { half_closed } else { idle };
            let quiet =
                self.begin.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)));
            match limit.checked_sub(quiet).filter(|left| !left.is_zero()) {
                None => return io::ErrorKind::TimedOut.into(),
                // A direction that closes meanwhile makes the limit shorter.
                Some(left) => tokio::time::sleep(left.min(half_closed)).await,
            }
        }
    }
}

/// Copies both directions until both are closed. An error of one side is one of the other: it is reset.
async fn relay(
    client: netstack::net::TcpStream,
    upstream: tokio::net::TcpStream,
    idle: Duration,
    half_closed: Duration,
    buffers: &Buffers,
    activity: &Activity,
) -> io::Result<()> {
    let (client_read, mut client_write) = client.into_split();
    let (upstream_read, mut upstream_write) = upstream.into_split();
    let outcome = {
        let up = copy(&client_read, &mut upstream_write, buffers, activity, &activity.up);
        let down = copy(&upstream_read, &mut client_write, buffers, activity, &activity.down);
        tokio::select! {
            both = async { tokio::try_join!(up, down) } => both.map(drop),
            error = activity.idle(idle, half_closed) => Err(error),
        }
    };
    if outcome.is_err() {
        // A reset and no FIN, which dropping a half would send first.
        let _ = client_write.as_ref().set_zero_linger();
        let _ = upstream_write.as_ref().set_zero_linger();
        client_write.forget();
        upstream_write.forget();
    }
    outcome
}

/// The reading half of a connection.
trait Source {
    async fn readable(&self) -> io::Result<()>;
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize>;
}

impl Source for ours::OwnedReadHalf {
    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, buf)
    }
}

impl Source for theirs::OwnedReadHalf {
    async fn readable(&self) -> io::Result<()> {
        Self::readable(self).await
    }
    fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, buf)
    }
}

/// Copies one direction to its end, which is passed on. A buffer is in use only while there is something to
/// copy: an idle connection has none, and one whose receiver does not read has one.
async fn copy(
    from: &impl Source,
    to: &mut (impl AsyncWrite + Unpin),
    buffers: &Buffers,
    activity: &Activity,
    bytes: &AtomicU64,
) -> io::Result<()> {
    loop {
        from.readable().await?;
        let mut buffer = buffers.take();
        loop {
            let len = match from.try_read(&mut buffer) {
                Ok(0) => {
                    activity.closed.fetch_add(1, Ordering::Relaxed);
                    activity.touch();
                    return match to.shutdown().await {
                        // It was reset: who reads from it learns why.
                        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                        result => result,
                    };
                }
                Ok(len) => len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            activity.touch();
            to.write_all(&buffer[..len]).await?;
            activity.touch();
            bytes.fetch_add(len as u64, Ordering::Relaxed);
        }
    }
}
