//! Very many connections between two stacks in memory, on one thread: two tasks for each, one at each end.

use crate::clock;
use netstack::config::MemoryBudget;
use netstack::device::{Device, Pair, PairConfig};
use netstack::net::{TcpListener, TcpStream};
use netstack::{Config, Interface, Stack};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, Semaphore, watch};

/// Connections that are being established, or have a byte on the way, at once.
const AT_ONCE: usize = 256;
/// Connections to one address of the server. With more than half of the ephemeral ports, each search for a free one
/// looks at that half first and finds nothing, as Linux's does.
const PER_ADDRESS: usize = 10_000;
/// The first address of the server's prefix.
const SERVERS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 0);
const PORT: u16 = 80;
/// What a stack may hold. Pressure begins at three eighths of that.
const MEMORY: usize = 8 << 30;

/// The connections, which live as long as the process.
#[derive(Debug)]
pub struct Crowd {
    runtime: Runtime,
    here: Stack,
    _there: Stack,
    connections: usize,
    /// The number of the round of echoes; a task that sees a new one takes part.
    echoes: watch::Sender<usize>,
    work: Arc<Work>,
}

/// What all tasks of the clients share.
#[derive(Debug)]
struct Work {
    permits: Semaphore,
    /// Those that have not done yet what was asked of them.
    left: AtomicUsize,
    finished: Notify,
    failure: Mutex<Option<io::Error>>,
}

impl Work {
    fn done(&self, result: io::Result<()>) {
        if let Err(error) = result {
            *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            self.finished.notify_one();
        }
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.finished.notify_one();
        }
    }
}

impl Crowd {
    /// Two stacks without connections, and an echo on one of them.
    ///
    /// # Errors
    /// Those of the stacks.
    pub fn new() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (a, b) = Pair::new(PairConfig::default());
        let [a, b] = [a, b].map(|end| Arc::new(end) as Arc<dyn Device>);
        let (here, there) = runtime.block_on(async {
            let build = |interface: Interface| {
                let config = Config::default().with(|config| {
                    config.loopback = false;
                    // The default, a part of the machine's, is meant for fewer.
                    config.memory = Some(MemoryBudget::new(MEMORY));
                });
                Stack::builder().config(config).interface(interface).build()
            };
            let here = build(Interface::new(a).address("10.0.0.1/8"))?;
            let there = build(Interface::new(b).address("10.0.0.2/8").any_ip(&format!("{SERVERS}/16")))?;
            let listener = TcpListener::bind_on(&there, (Ipv4Addr::UNSPECIFIED, PORT)).await?;
            tokio::spawn(serve(listener));
            Ok::<_, io::Error>((here, there))
        })?;
        let work = Work {
            permits: Semaphore::new(AT_ONCE),
            left: AtomicUsize::new(0),
            finished: Notify::new(),
            failure: Mutex::new(None),
        };
        let (echoes, _) = watch::channel(0);
        Ok(Self { runtime, here, _there: there, connections: 0, echoes, work: Arc::new(work) })
    }

    /// Opens connections until there are `connections`, and has each echo one byte. Returns how long that took.
    ///
    /// # Errors
    /// Those of the connections.
    pub fn grow(&mut self, connections: usize) -> io::Result<Duration> {
        let begin = clock::now();
        let new = self.connections..connections.max(self.connections);
        self.work.left.store(new.len(), Ordering::Relaxed);
        self.runtime.block_on(async {
            for number in new.clone() {
                let host = u32::from(SERVERS) + 1 + (number / PER_ADDRESS) as u32;
                let to = SocketAddr::from((Ipv4Addr::from(host), PORT));
                tokio::spawn(client(self.here.clone(), to, self.echoes.subscribe(), Arc::clone(&self.work)));
                // Not all of them have to wait for a permit with the memory that connecting takes.
                if number % AT_ONCE == 0 {
                    tokio::task::yield_now().await;
                }
            }
            finished(&self.work, new.len()).await
        })?;
        self.connections = connections;
        Ok(clock::now() - begin)
    }

    /// Has every connection echo one byte. Returns how long that took.
    ///
    /// # Errors
    /// Those of the connections.
    pub fn echo(&mut self) -> io::Result<Duration> {
        let begin = clock::now();
        self.work.left.store(self.connections, Ordering::Relaxed);
        self.runtime.block_on(async {
            // On the runtime, which need not be woken for each task then.
            self.echoes.send_modify(|round| *round += 1);
            finished(&self.work, self.connections).await
        })?;
        Ok(clock::now() - begin)
    }
}

/// Waits until all clients have done what was asked of them.
async fn finished(work: &Work, asked: usize) -> io::Result<()> {
    if asked > 0 {
        work.finished.notified().await;
    }
    work.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map_or(Ok(()), Err)
}

async fn serve(listener: TcpListener) {
    loop {
        // A connection that was reset before it was accepted; its client reports that.
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(echo(stream));
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    loop {
        let byte = stream.read_u8().await?;
        stream.write_u8(byte).await?;
    }
}

async fn client(stack: Stack, to: SocketAddr, mut echoes: watch::Receiver<usize>, work: Arc<Work>) {
    // In a box, because a task keeps the memory of its largest step.
    let connected = Box::pin(connect(stack, to, &work)).await;
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error) => return work.done(Err(error)),
    };
    work.done(Ok(()));
    while echoes.changed().await.is_ok() {
        let result = with_permit(&mut stream, &work).await;
        work.done(result);
    }
}

async fn connect(stack: Stack, to: SocketAddr, work: &Work) -> io::Result<TcpStream> {
    let _permit = work.permits.acquire().await.map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_on(&stack, to).await?;
    round_trip(&mut stream).await?;
    Ok(stream)
}

async fn with_permit(stream: &mut TcpStream, work: &Work) -> io::Result<()> {
    let _permit = work.permits.acquire().await.map_err(io::Error::other)?;
    round_trip(stream).await
}

async fn round_trip(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_u8(7).await?;
    match stream.read_u8().await? {
        7 => Ok(()),
        other => Err(io::Error::other(format!("the echo of 7 is {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crowd_grows_and_echoes() {
        let mut crowd = Crowd::new().unwrap();
        crowd.grow(300).unwrap();
        crowd.echo().unwrap();
        crowd.grow(700).unwrap();
        crowd.echo().unwrap();
        crowd.echo().unwrap();
        assert_eq!(crowd.connections, 700);
    }
}
