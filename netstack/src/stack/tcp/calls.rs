//! The calls of applications on a connection.

use super::Tcp;
use super::cell::{Cell, Stage};
use super::ends::ConnectionEnd;
use super::hold::{End, Held};
use crate::buffer::Chunk;
use crate::config::Config;
use crate::error::os;
use crate::reasons::ResetReason;
use crate::stack::socket::interface_of;
use crate::stack::turn::Turn;
use crate::tcp::{Connection, SendFlags, SocketOptions, Source, TcpError, TcpInfo};
use crate::time::Instant;
use crate::trace::{Call, EventKind};
use bytes::Bytes;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Tcp {
    /// Reads into `bufs`, filled in order. Zero at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if there is no data; the error of the connection, once.
    pub fn read(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<Cell>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        self.reading(turn, cell, 0, |connection, now| connection.read(now, bufs), |bytes| Some(*bytes))
    }

    /// As [`Tcp::read`], without consuming the bytes.
    ///
    /// # Errors
    /// As [`Tcp::read`].
    pub fn peek(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<Cell>,
        bufs: &mut [IoSliceMut<'_>],
    ) -> io::Result<usize> {
        self.reading(turn, cell, 0, |connection, _| connection.peek(bufs), |_| None)
    }

    /// Reads the bytes of one received segment without a copy; none at the end of the stream.
    ///
    /// # Errors
    /// As [`Tcp::read`].
    pub fn read_chunk(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>) -> io::Result<Option<Chunk>> {
        let bytes = |chunk: &Option<Chunk>| Some(chunk.as_ref().map_or(0, Chunk::len));
        self.reading(turn, cell, None, |connection, now| connection.read_chunk(now), bytes)
    }

    /// Writes from `bufs`, in order, and sends as much as is permitted.
    ///
    /// # Errors
    /// `WouldBlock` if the send buffer is full; the connection's error, once; then `EPIPE`.
    pub fn write(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send(turn, cell, bufs, SendFlags::NONE)
    }

    /// As [`Tcp::write`], with the flags of send(2).
    ///
    /// # Errors
    /// As [`Tcp::write`].
    pub fn send(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<Cell>,
        bufs: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> io::Result<usize> {
        self.send_from(turn, cell, Source::Slices(bufs), flags)
    }

    /// As [`Tcp::write`], without a copy: a piece is kept until all of it is acknowledged. Small ones are copied all
    /// the same.
    ///
    /// # Errors
    /// As [`Tcp::write`].
    pub fn write_shared(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>, pieces: &[Bytes]) -> io::Result<usize> {
        self.send_from(turn, cell, Source::Shared(pieces), SendFlags::NONE)
    }

    fn send_from(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<Cell>,
        source: Source<'_>,
        flags: SendFlags,
    ) -> io::Result<usize> {
        self.call(turn, cell, |held| {
            // Copying takes longer than all that follows but the device.
            held.cell.begin_sending();
            let written = write(held, source, flags);
            if let Ok(bytes) = written {
                held.note(|| EventKind::Call(Call::Write(fit(bytes))));
            }
            written
        })
    }

    /// Sends all queued data at once, even if partial segments are held back. Setting `TCP_NODELAY`
    /// does this each time.
    pub fn push(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>) {
        self.call(turn, cell, |held| {
            if let Stage::Connected(connection) = &mut held.state.stage {
                connection.push();
            }
        });
    }

    /// The rest of a first write waits for the handshake: it can carry the acknowledgment that
    /// completes it.
    pub fn expect_write(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>) {
        self.call(turn, cell, |held| {
            if let Stage::Opening(opening) = &mut held.state.stage {
                opening.expect_write();
            }
        });
    }

    /// Sends the SYN that waits for the first write (`TCP_FASTOPEN_CONNECT`), without data. Nothing
    /// happens if none waits.
    pub fn open_now(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>) {
        self.call(turn, cell, |held| {
            let now = held.turn.now;
            if let Stage::Opening(opening) = &mut held.state.stage {
                opening.go(now);
            }
        });
    }

    /// Shuts down reading, writing or both, as shutdown(2). An attempt to connect ends.
    ///
    /// # Errors
    /// `ENOTCONN` if there is no connection.
    pub fn shutdown(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>, how: Shutdown) -> io::Result<()> {
        let (outcome, replaced) = self.call(turn, cell, |held| {
            let now = held.turn.now;
            held.note(|| {
                let (read, write) = (how != Shutdown::Write, how != Shutdown::Read);
                EventKind::Call(Call::Shutdown { read, write })
            });
            match &mut held.state.stage {
                // connect(2) says ECONNABORTED if that ends it.
                Stage::Opening(opening) => {
                    let goes_on = opening.shutdown(now, how);
                    (Ok(()), (!goes_on).then(|| held.drop_opening()))
                }
                Stage::Connected(connection) => (connection.shutdown(how).map_err(io::Error::from), None),
                Stage::Over(_) => (Err(os(libc::ENOTCONN)), None),
            }
        });
        drop(replaced);
        outcome
    }

    /// Closes the connection: the last handle was dropped. Written data is still sent in the
    /// background. If there is unread data, the connection is reset (RFC 2525 §2.17), as in Linux.
    pub fn close(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>) {
        let replaced = self.call(turn, cell, |held| {
            let now = held.turn.now;
            if held.state.orphan {
                return None;
            }
            held.note(|| EventKind::Call(Call::Close));
            if held.state.attached {
                held.state.orphan = true;
                self.orphans.fetch_add(1, Ordering::Relaxed);
            }
            match &mut held.state.stage {
                Stage::Connected(connection) => {
                    let core = held.turn.core;
                    let limit = core.config().max_orphans as usize;
                    // tcp_check_oom in Linux.
                    if self.orphans.load(Ordering::Relaxed) > limit || core.memory().is_full() {
                        self.give_up_orphan(now, connection);
                    } else {
                        connection.close(now);
                    }
                    None
                }
                // What a first write took is delivered as well.
                Stage::Opening(opening) if opening.has_data() => {
                    opening.close();
                    None
                }
                Stage::Opening(opening) => match opening.close_in_syn_received(now) {
                    Some(connection) => {
                        held.state.on_new_stage();
                        Some(std::mem::replace(&mut held.state.stage, Stage::Connected(connection.into())))
                    }
                    None => Some(held.drop_opening()),
                },
                Stage::Over(_) => None,
            }
        });
        drop(replaced);
    }

    /// Resets a connection that no application holds, for want of memory. What it loses is counted.
    pub(super) fn give_up_orphan(&self, now: Instant, connection: &mut Connection) {
        self.counters.abort_on_memory.bump();
        self.counters.orphan_bytes_lost.add(connection.queued() as u64);
        connection.reset(now, ResetReason::TcpAbortOnMemory);
    }

    /// Resets the connection.
    pub fn abort(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>) {
        self.reset(turn, cell, None);
    }

    /// Resets the connection, for `reason` if that is not the application.
    pub(crate) fn reset(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>, reason: Option<ResetReason>) {
        let replaced = self.call(turn, cell, |held| {
            let now = held.turn.now;
            if reason.is_none() {
                held.note(|| EventKind::Call(Call::Abort));
            }
            match &mut held.state.stage {
                Stage::Connected(connection) => {
                    match reason {
                        Some(reason) => connection.reset(now, reason),
                        None => connection.abort(now),
                    }
                    None
                }
                Stage::Opening(_) => Some(held.drop_opening()),
                Stage::Over(_) => None,
            }
        });
        drop(replaced);
    }

    /// Returns and clears the pending error (`SO_ERROR`).
    pub fn take_error(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>) -> Option<io::Error> {
        self.call(turn, cell, |held| match &mut held.state.stage {
            Stage::Opening(_) => None,
            Stage::Connected(connection) => connection.take_error().map(io::Error::from),
            Stage::Over(over) => over.take(),
        })
    }

    /// Changes options, which take effect at once.
    pub fn with_options<R>(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<Cell>,
        change: impl FnOnce(&mut SocketOptions) -> R,
    ) -> R {
        self.call(turn, cell, |held| {
            let now = held.turn.now;
            let state = &mut *held.state;
            let (result, history) = match &mut state.stage {
                Stage::Opening(opening) => {
                    let options = opening.options_mut();
                    let result = change(options);
                    options.bring_into_range();
                    (result, options.history)
                }
                Stage::Connected(connection) => {
                    let mut options = connection.options().clone();
                    let result = change(&mut options);
                    options.bring_into_range();
                    let history = options.history;
                    connection.set_options(now, options);
                    (result, history)
                }
                Stage::Over(over) => (change(&mut over.options), over.options.history),
            };
            state.watch.set_limit(history, held.turn.core.trace().is_some());
            // Another congestion control, another history.
            state.on_new_stage();
            held.note(|| EventKind::Call(Call::SetOptions));
            result
        })
    }

    /// The options.
    pub fn options(&self, cell: &Cell) -> SocketOptions {
        cell.look(|state| state.stage.options().clone())
    }

    /// Limits a connection to the interface `name` (`SO_BINDTODEVICE`): its segments leave through this one, and
    /// those that come in on others are not for it. Without a name the limit is removed, and the way stays.
    ///
    /// # Errors
    /// `ENODEV` if there is no such interface.
    pub fn bind_device(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>, name: Option<&str>) -> io::Result<()> {
        let interface = interface_of(turn.core, name)?;
        let elsewhere = interface.filter(|interface| cell.queue().interface != *interface);
        let queue = elsewhere.map(|interface| turn.core.queue_of(interface, cell.key().spread()));
        self.call(turn, cell, |held| {
            cell.limit_to(interface, queue);
            // Of another interface, what is known of the path has to be asked for again.
            held.state.path.expires = Instant::ZERO;
        });
        Ok(())
    }

    /// `IP_MTU`: the MTU of the path, in bytes; none if there is no connection.
    pub fn path_mtu(&self, cell: &Cell) -> Option<usize> {
        cell.look_connected(Connection::path_mtu)
    }

    /// The largest window of a connection that its buffer permits at the moment, in bytes; none if there is no
    /// connection.
    pub fn window_limit(&self, cell: &Cell) -> Option<usize> {
        cell.look_connected(Connection::window_limit)
    }

    /// `TCP_QUICKACK`: acknowledge at once, or delay. Not permanent, as in Linux. Nothing happens
    /// while connecting.
    pub fn set_quickack(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>, on: bool) {
        self.call(turn, cell, |held| {
            if let Stage::Connected(connection) = &mut held.state.stage {
                connection.set_quickack(on);
            }
        });
    }

    /// `TCP_QUICKACK`; on before the connection is established.
    pub fn quickack(&self, cell: &Cell) -> bool {
        cell.look_connected(Connection::quickack).unwrap_or(true)
    }

    /// `TCP_INFO`; none if the connection was not established.
    pub fn info(&self, turn: &Turn<'_>, cell: &Cell) -> Option<TcpInfo> {
        cell.look_connected(|connection| connection.info(turn.now))
    }

    /// Bytes that were written and not sent yet (`SIOCOUTQNSD`).
    pub fn unsent(&self, cell: &Cell) -> usize {
        cell.look_connected(Connection::unsent).unwrap_or(0)
    }

    /// Bytes that were written and not acknowledged yet (`SIOCOUTQ`).
    pub fn unacked(&self, cell: &Cell) -> usize {
        cell.look_connected(Connection::unacked).unwrap_or(0)
    }

    /// The size of the send queue in bytes, as it counts against `SO_SNDBUF`.
    pub fn send_queue_cost(&self, cell: &Cell) -> usize {
        cell.look_connected(Connection::send_queue_cost).unwrap_or(0)
    }

    /// Bytes that were received and not read yet (`SIOCINQ`).
    pub fn unread(&self, cell: &Cell) -> usize {
        cell.look(|state| match &state.stage {
            Stage::Connected(connection) => connection.unread(),
            Stage::Over(over) => over.unread.as_ref().map_or(0, |connection| connection.unread()),
            Stage::Opening(_) => 0,
        })
    }

    /// The number of connections, including orphans and excluding those in TIME-WAIT.
    pub fn connections(&self) -> usize {
        self.demux.cells()
    }

    /// TIME-WAIT entries.
    pub fn time_waits(&self) -> usize {
        self.demux.time_waits()
    }

    /// How the last 256 connections ended, the latest last.
    pub fn recent_ends(&self) -> Vec<ConnectionEnd> {
        self.ends.all()
    }

    /// The number of orphans: connections that no application holds any more.
    pub fn orphans(&self) -> usize {
        self.orphans.load(Ordering::Relaxed)
    }

    /// Ports in use.
    pub fn ports_in_use(&self) -> usize {
        self.ports.len()
    }

    /// Whether all data that was written on any connection has been sent and acknowledged.
    pub fn has_delivered_all(&self) -> bool {
        self.undelivered.load(Ordering::Acquire) == 0
    }

    /// Gives other settings to the connections that stand, as a variable of Linux does that they look at. All
    /// else goes on with those of the stack. This is for tools that run scripts.
    #[doc(hidden)]
    pub fn set_config(&self, turn: &mut Turn<'_>, config: &Arc<Config>) {
        for cell in self.demux.all_cells() {
            self.call(turn, &cell, |held| {
                if let Stage::Connected(connection) = &mut held.state.stage {
                    connection.set_config(config);
                }
            });
        }
    }

    /// How much a connection may keep waiting to be sent, in bytes, if those that have something to deliver are to
    /// keep [`UNSENT`] together. Few connections are not limited.
    fn unsent_share(&self) -> usize {
        match self.undelivered.load(Ordering::Relaxed) {
            0..FEW => usize::MAX,
            many => (UNSENT / many).max(LEAST_UNSENT),
        }
    }

    /// Holds a connection for a call.
    fn call<R>(&self, turn: &mut Turn<'_>, cell: &Arc<Cell>, f: impl FnOnce(&mut Held<'_, '_>) -> R) -> R {
        self.hold(turn, cell, End::Call, f).0
    }

    /// Reads by `f`. A connection that was cut off gives what it had received, then the error, then
    /// `end`.
    fn reading<R>(
        &self,
        turn: &mut Turn<'_>,
        cell: &Arc<Cell>,
        end: R,
        f: impl FnOnce(&mut Connection, Instant) -> Result<R, TcpError>,
        bytes: impl FnOnce(&R) -> Option<usize>,
    ) -> io::Result<R> {
        self.call(turn, cell, |held| {
            let now = held.turn.now;
            let read = match &mut held.state.stage {
                Stage::Opening(_) => Err(io::ErrorKind::WouldBlock.into()),
                Stage::Connected(connection) => f(connection, now).map_err(io::Error::from),
                Stage::Over(over) => {
                    match over.unread.as_mut().filter(|connection| connection.unread() > 0) {
                        Some(connection) => f(connection, now).map_err(io::Error::from),
                        None => over.take().map_or(Ok(end), Err),
                    }
                }
            };
            if let Some(bytes) = read.as_ref().ok().and_then(bytes) {
                held.note(|| EventKind::Call(Call::Read(fit(bytes))));
            }
            read
        })
    }
}

/// Writes record by record, and sends what may be sent of each before the next.
fn write(held: &mut Held<'_, '_>, source: Source<'_>, flags: SendFlags) -> io::Result<usize> {
    let (now, mut done) = (held.turn.now, 0);
    if let Stage::Connected(connection) = &mut held.state.stage {
        connection.set_unsent_share(held.tcp.unsent_share());
    }
    loop {
        let written = match &mut held.state.stage {
            Stage::Opening(opening) => {
                return match source {
                    Source::Slices(bufs) => opening.write(now, bufs),
                    Source::Shared(pieces) => {
                        let bufs: Vec<_> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
                        opening.write(now, &bufs)
                    }
                }
                .map_err(io::Error::from);
            }
            Stage::Connected(connection) => connection.write_record_from(now, source, done, flags)?,
            Stage::Over(over) => return Err(over.take().unwrap_or_else(|| os(libc::EPIPE))),
        };
        done += written.bytes;
        if !written.go_on {
            return Ok(done);
        }
        held.transmit();
        held.follow_memory();
    }
}

/// What all connections keep waiting to be sent, in bytes, as far as each has its least. What waits for long is not in
/// the cache any more when it is sent: 64 streams whose buffers auto-tuning had made as large as it may spent most of
/// their time on memory and page faults.
const UNSENT: usize = 8 << 20;

/// What a connection may keep waiting in any case, in bytes: two super-segments, one of which is written while the other
/// one is sent.
const LEAST_UNSENT: usize = 128 << 10;

/// Connections that do not share: the buffer of one is not larger than half of [`UNSENT`].
const FEW: usize = 3;

/// A number of bytes as an event has it.
fn fit(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
