//! What one end of a connection does.

use super::{Context, flaky};
use crate::ledger::{Content, Id, Party};
use crate::plan::{Ending, Kind, Side, Style, Talk};
use crate::rng::Rng;
use netstack::net::TcpStream;
use netstack::net::tcp::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, WriteHalf};
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// One end of a connection.
#[derive(Clone, Copy)]
pub(super) struct End<'a> {
    pub(super) context: &'a Context,
    pub(super) talk: &'a Talk,
    pub(super) id: Id,
    pub(super) party: Party,
}

/// Why an end does not go on.
enum Stop {
    /// It is abrupt.
    Abrupt,
    /// An operation failed, which the ledger knows.
    Failed,
}

/// Bytes from the peer.
trait Source: AsyncReadExt + Unpin + Send {
    fn receive(&mut self, style: Style, to: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
}

/// Bytes to the peer.
trait Sink: AsyncWriteExt + Unpin + Send {
    fn send(&mut self, style: Style, from: &[u8]) -> impl Future<Output = io::Result<usize>> + Send;
}

macro_rules! halves {
    ($read:ty, $write:ty) => {
        impl Source for $read {
            async fn receive(&mut self, style: Style, to: &mut [u8]) -> io::Result<usize> {
                if style != Style::Ready {
                    return self.read(to).await;
                }
                loop {
                    self.readable().await?;
                    match self.try_read(to) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        outcome => return outcome,
                    }
                }
            }
        }

        impl Sink for $write {
            async fn send(&mut self, style: Style, from: &[u8]) -> io::Result<usize> {
                if style != Style::Ready {
                    return self.write(from).await;
                }
                loop {
                    self.writable().await?;
                    match self.try_write(from) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        outcome => return outcome,
                    }
                }
            }
        }
    };
}

halves!(ReadHalf<'_>, WriteHalf<'_>);
halves!(OwnedReadHalf, OwnedWriteHalf);

/// One half of an end: a direction, and chance of its own.
struct Half<'a> {
    end: End<'a>,
    content: Content,
    rng: Rng,
    buffer: Vec<u8>,
}

fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Server,
        Side::Server => Side::Client,
    }
}

impl<'a> End<'a> {
    fn side(&self) -> Side {
        self.party.side()
    }

    fn half(self, from: Side, rng: &mut Rng) -> Half<'a> {
        let content = Content::new(&self.context.plan, self.id, from);
        Half { end: self, content, rng: Rng::new(rng.next(), 0), buffer: Vec::new() }
    }

    /// Everything, from the first byte to the last.
    pub(super) async fn run(self, mut stream: TcpStream, mut rng: Rng) {
        let owned = self.talk.style == Style::Owned && self.talk.ending == Ending::Graceful;
        let by_drop = rng.chance(300);
        let reads = self.half(other(self.side()), &mut rng);
        let writes = self.half(self.side(), &mut rng);
        let outcome = if owned && self.talk.kind == Kind::Duplex {
            let (from, to) = stream.into_split();
            self.duplex_owned(from, to, reads, writes).await;
            return;
        } else if owned {
            let (mut from, mut to) = stream.into_split();
            let outcome = self.turns(&mut from, &mut to, (reads, writes), by_drop).await;
            stream = from.reunite(to).expect("two halves of one stream");
            outcome
        } else {
            let (mut from, mut to) = stream.split();
            match self.talk.kind {
                Kind::Duplex => self.duplex(&mut from, &mut to, reads, writes).await,
                _ => self.turns(&mut from, &mut to, (reads, writes), by_drop).await,
            }
        };
        if self.context.reports {
            self.context.ledger.keep_history(format!(
                "connection {:?}, {:?}\n{}",
                self.id,
                self.party,
                stream.history()
            ));
        }
        if let (Err(Stop::Abrupt), Ending::Abrupt { reset, .. }) = (outcome, self.talk.ending) {
            if reset {
                let _ = stream.set_zero_linger();
            } else {
                self.context.ledger.finished(self.id, self.party);
            }
        }
        drop(stream);
    }

    async fn duplex<R: Source, W: Sink>(
        self,
        from: &mut R,
        to: &mut W,
        mut reads: Half<'_>,
        mut writes: Half<'_>,
    ) -> Result<(), Stop> {
        let all = self.talk.bytes(self.side());
        let writing = async {
            writes.write_until(to, all).await?;
            writes.shut_down(to).await
        };
        tokio::try_join!(reads.read_to_end(from), writing).map(drop)
    }

    /// The same in two tasks.
    async fn duplex_owned(
        self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        reads: Half<'_>,
        mut writes: Half<'_>,
    ) {
        let (context, talk, id, party) = (self.context.clone(), self.talk.clone(), self.id, self.party);
        let Half { content, rng, buffer, .. } = reads;
        let reading = tokio::spawn(async move {
            let end = End { context: &context, talk: &talk, id, party };
            let mut reads = Half { end, content, rng, buffer };
            let reading = async { drop(reads.read_to_end(&mut from).await) };
            let _ = context.ledger.unless_given_up(id, reading).await;
        });
        if writes.write_until(&mut to, self.talk.bytes(self.side())).await.is_ok() {
            let _ = writes.shut_down(&mut to).await;
        }
        if reading.await.is_err_and(|error| error.is_panic()) {
            self.context.ledger.violation(format!("connection {:?}: the reader panicked", self.id));
        }
    }

    /// What is not done at the same time.
    async fn turns<R: Source, W: Sink>(
        self,
        from: &mut R,
        to: &mut W,
        (mut reads, mut writes): (Half<'_>, Half<'_>),
        by_drop: bool,
    ) -> Result<(), Stop> {
        let talk = self.talk;
        match (talk.kind, self.side()) {
            (Kind::Echo, Side::Client) => {
                // It reads while it writes, or both might wait for the other.
                return self.duplex(from, to, reads, writes).await;
            }
            (Kind::Echo, Side::Server) => {
                while !reads.read_some(from, u64::MAX).await? {
                    let sofar = self.context.ledger.progress(self.id, self.party).read;
                    writes.write_until(to, sofar).await?;
                }
            }
            (Kind::Rounds(rounds), side) => {
                for round in 1..=rounds {
                    let upto = |all: u64| if round == rounds { all } else { all / rounds * round };
                    let (up, down) = (upto(talk.up), upto(talk.down));
                    if side == Side::Client {
                        writes.write_until(to, up).await?;
                        reads.read_until(from, down).await?;
                    } else {
                        reads.read_until(from, up).await?;
                        writes.write_until(to, down).await?;
                    }
                }
                if side == Side::Client {
                    writes.shut_down(to).await?;
                }
                reads.read_to_end(from).await?;
                if side == Side::Client {
                    return Ok(());
                }
            }
            (_, Side::Client) => {
                writes.write_until(to, talk.up).await?;
                writes.shut_down(to).await?;
                return reads.read_to_end(from).await;
            }
            (_, Side::Server) => {
                reads.read_to_end(from).await?;
                writes.write_until(to, talk.down).await?;
            }
        }
        if by_drop {
            // What was written is delivered all the same.
            self.context.ledger.finished(self.id, self.party);
            return Ok(());
        }
        writes.shut_down(to).await
    }

    /// Stops an end that is abrupt when its time has come.
    fn check_ending(&self) -> Result<(), Stop> {
        let Ending::Abrupt { by, after, .. } = self.talk.ending else { return Ok(()) };
        let progress = self.context.ledger.progress(self.id, self.party);
        if by == self.side() && progress.written + progress.read >= after {
            Err(Stop::Abrupt)
        } else {
            Ok(())
        }
    }
}

impl Half<'_> {
    /// Waits, sometimes.
    async fn think(&mut self) {
        let Talk { slow, slow_for, .. } = *self.end.talk;
        if self.rng.chance(slow) {
            let time = Duration::from_micros(self.rng.below(slow_for * 1_000));
            self.end.context.sleep(time).await;
        }
    }

    /// Reads once, `limit` bytes at most. Whether the stream has ended.
    async fn read_some<R: Source>(&mut self, from: &mut R, limit: u64) -> Result<bool, Stop> {
        self.think().await;
        let End { context, talk, id, party } = self.end;
        let size = self.rng.range(1..=talk.read_size).min(limit) as usize;
        self.buffer.resize(size, 0);
        let buffer = &mut self.buffer;
        match flaky!(context, self.rng, talk.cancel, from.receive(talk.style, buffer)) {
            Ok(n) => {
                context.ledger.read(id, party, &buffer[..n], self.content);
                self.end.check_ending()?;
                Ok(n == 0)
            }
            Err(error) => {
                context.ledger.failed(id, party, "read", &error);
                Err(Stop::Failed)
            }
        }
    }

    async fn read_to_end<R: Source>(&mut self, from: &mut R) -> Result<(), Stop> {
        self.end.check_ending()?;
        while !self.read_some(from, u64::MAX).await? {}
        Ok(())
    }

    /// Reads until so many bytes have been read in all.
    async fn read_until<R: Source>(&mut self, from: &mut R, all: u64) -> Result<(), Stop> {
        self.end.check_ending()?;
        loop {
            let read = self.end.context.ledger.progress(self.end.id, self.end.party).read;
            if read >= all {
                return Ok(());
            }
            if self.read_some(from, all - read).await? {
                // The ledger knows if that is too early.
                return Err(Stop::Failed);
            }
        }
    }

    /// Writes until so many bytes have been written in all.
    async fn write_until<W: Sink>(&mut self, to: &mut W, all: u64) -> Result<(), Stop> {
        let End { context, talk, id, party } = self.end;
        loop {
            self.end.check_ending()?;
            let written = context.ledger.progress(id, party).written;
            if written >= all {
                return Ok(());
            }
            self.think().await;
            let size = self.rng.range(1..=talk.write_size).min(all - written) as usize;
            self.buffer.resize(size, 0);
            self.content.fill(written, &mut self.buffer);
            let buffer = &self.buffer;
            match flaky!(context, self.rng, talk.cancel, to.send(talk.style, buffer)) {
                Ok(n) => context.ledger.wrote(id, party, n),
                Err(error) => {
                    context.ledger.failed(id, party, "write", &error);
                    return Err(Stop::Failed);
                }
            }
        }
    }

    async fn shut_down<W: Sink>(&mut self, to: &mut W) -> Result<(), Stop> {
        let End { context, id, party, .. } = self.end;
        context.ledger.finished(id, party);
        to.shutdown().await.map_err(|error| {
            context.ledger.failed(id, party, "shut down", &error);
            Stop::Failed
        })
    }
}
