//! Sending and receiving a [`Pattern`], with checks and measurements.

use crate::pattern::Pattern;
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// How long a transfer may make no progress.
pub const STALL: Duration = Duration::from_secs(10);

/// Bytes of one read or write.
pub const BLOCK: usize = 64 << 10;

/// Waits for a step of a transfer, but not for longer than [`STALL`].
///
/// # Errors
/// Those of the step, and [`io::ErrorKind::TimedOut`] with `what` in its text.
pub async fn progress<T>(what: &str, step: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(STALL, step).await.unwrap_or_else(|_| {
        let text = format!("stalled: no progress in {} s while {what}", STALL.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    })
}

/// Writes the first `len` bytes of `pattern`, in blocks of [`BLOCK`].
///
/// # Errors
/// Those of `to`, and a stall.
pub async fn send(mut to: impl AsyncWrite + Unpin, pattern: Pattern, len: u64) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut sent = 0;
    while sent < len {
        let n = (len - sent).min(BLOCK as u64) as usize;
        pattern.fill(sent, &mut block[..n]);
        let mut rest = &block[..n];
        while !rest.is_empty() {
            match progress("sending", to.write(rest)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => rest = &rest[written..],
            }
        }
        sent += n as u64;
    }
    progress("flushing", to.flush()).await
}

/// Reads the first `len` bytes of `pattern` and compares each of them.
///
/// # Errors
/// Those of `from`, a stall, an end before `len` bytes, and the first byte that differs.
pub async fn receive(mut from: impl AsyncRead + Unpin, pattern: Pattern, len: u64) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut received = 0;
    while received < len {
        let room = (len - received).min(BLOCK as u64) as usize;
        match progress("receiving", from.read(&mut block[..room])).await? {
            0 => {
                let text = format!("the stream ended after {received} of {len} bytes");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            n => {
                pattern.check(received, &block[..n])?;
                received += n as u64;
            }
        }
    }
    Ok(())
}

/// Checks that nothing follows but the end of the stream.
///
/// # Errors
/// If something does, or the connection fails instead of ending.
pub async fn expect_end(mut from: impl AsyncRead + Unpin) -> io::Result<()> {
    match progress("waiting for the end", from.read(&mut [0])).await? {
        0 => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "bytes after the end")),
    }
}

/// The halves of a connection.
#[derive(Debug)]
pub struct Halves<R, W> {
    /// The one to read from.
    pub from: R,
    /// The one to write to.
    pub to: W,
}

/// From what `split` and `into_split` return.
impl<R, W> From<(R, W)> for Halves<R, W> {
    fn from((from, to): (R, W)) -> Self {
        Self { from, to }
    }
}

/// What one direction of a connection carries: the beginning of a pattern.
#[derive(Clone, Copy, Debug)]
pub struct Payload {
    /// The pattern.
    pub pattern: Pattern,
    /// Number of bytes.
    pub len: u64,
}

/// Sends bytes of a pattern while receiving others and comparing them, closes its own direction and
/// waits for the end of the other one. Returns the time until everything was sent and received.
///
/// # Errors
/// Those of [`send`], [`receive`] and [`expect_end`].
pub async fn exchange<R, W>(halves: Halves<R, W>, outbound: Payload, inbound: Payload) -> io::Result<Duration>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let Halves { mut from, mut to } = halves;
    let start = Instant::now();
    tokio::try_join!(
        async {
            send(&mut to, outbound.pattern, outbound.len).await?;
            to.shutdown().await
        },
        receive(&mut from, inbound.pattern, inbound.len)
    )?;
    let took = start.elapsed();
    expect_end(from).await?;
    Ok(took)
}

/// [Exchanges](exchange) a payload with an echo service.
///
/// # Errors
/// Those of [`exchange`].
pub async fn echo<R, W>(halves: Halves<R, W>, payload: Payload) -> io::Result<Duration>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    exchange(halves, payload, payload).await
}

/// Sends one byte to an echo service and waits for it, `count` times.
///
/// # Errors
/// Those of the stream, a stall, and a byte that returns changed.
pub async fn round_trips(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: usize,
) -> io::Result<RoundTrips> {
    let mut samples = Vec::with_capacity(count);
    for at in 0..count {
        let sent = [at as u8];
        let mut back = [0];
        let start = Instant::now();
        progress("sending one byte", to.write_all(&sent)).await?;
        progress("waiting for one byte", from.read_exact(&mut back)).await?;
        samples.push(start.elapsed());
        if back != sent {
            let text = format!("round trip {at}: sent {sent:?}, came back {back:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
    }
    Ok(RoundTrips::new(samples))
}

/// Times of round trips.
#[derive(Clone, Debug)]
pub struct RoundTrips {
    sorted: Vec<Duration>,
}

impl RoundTrips {
    /// Of these samples.
    pub fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self { sorted: samples }
    }

    /// The time within which `percent` of the round trips were over; `None` if there were none.
    pub fn percentile(&self, percent: f64) -> Option<Duration> {
        let rank = (self.sorted.len() as f64 * percent / 100.0).ceil() as usize;
        self.sorted.get(rank.saturating_sub(1)).copied()
    }
}

/// 10^9 bits per second.
pub fn gbit_per_s(bytes: u64, took: Duration) -> f64 {
    bytes as f64 * 8.0 / took.as_secs_f64() / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let times = RoundTrips::new((1..=200).rev().map(Duration::from_micros).collect());
        assert_eq!(times.percentile(50.0), Some(Duration::from_micros(100)));
        assert_eq!(times.percentile(99.0), Some(Duration::from_micros(198)));
        assert_eq!(times.percentile(0.0), Some(Duration::from_micros(1)));
        assert_eq!(times.percentile(100.0), Some(Duration::from_micros(200)));
        assert_eq!(RoundTrips::new(Vec::new()).percentile(50.0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_echo_is_compared_and_a_stall_is_an_error() {
        let (ours, theirs) = tokio::io::duplex(100_000);
        let server = tokio::spawn(services::echo(theirs));
        echo(tokio::io::split(ours).into(), Payload { pattern: Pattern::new(3), len: 1_000_001 })
            .await
            .unwrap();
        server.await.unwrap().unwrap();

        let (ours, _silent) = tokio::io::duplex(1000);
        let error = echo(tokio::io::split(ours).into(), Payload { pattern: Pattern::new(3), len: 10_000 })
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn what_is_wrong_is_told() {
        let pattern = Pattern::new(5);
        let mut bytes = vec![0; 100];
        pattern.fill(0, &mut bytes);
        assert!(receive(&bytes[..], pattern, 100).await.is_ok());
        let short = receive(&bytes[..], pattern, 101).await.unwrap_err();
        assert_eq!(short.to_string(), "the stream ended after 100 of 101 bytes");
        bytes[70] ^= 1;
        let changed = receive(&bytes[..], pattern, 100).await.unwrap_err();
        assert!(changed.to_string().starts_with("byte 70 is "), "{changed}");
        assert!(expect_end(&bytes[..]).await.is_err());
    }
}
