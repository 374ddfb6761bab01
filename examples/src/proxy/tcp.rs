//! A connection: the upstream is connected first, and then both directions are copied.

use super::buffers::Buffers;
use super::copy::{Activity, copy};
use super::log::{Value, text};
use super::run::Shared;
use netstack::net::{PendingStream, TcpForwarder};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

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
        let up = copy(&client_read, &mut upstream_write, buffers, activity, activity.up());
        let down = copy(&upstream_read, &mut client_write, buffers, activity, activity.down());
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
