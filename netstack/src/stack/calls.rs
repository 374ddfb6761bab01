//! What applications do with a connection. Every call leaves nothing to deliver.

use super::cell::{Cell, Inner, Over, Phase};
use super::effects::Effects;
use super::engine::Engine;
use crate::buffer::Chunk;
use crate::error::{Failure, os};
use crate::readiness::Events;
use crate::tcp::{Connection, SendFlags, SocketOptions, TcpError, TcpInfo};
use crate::time::Instant;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Engine {
    /// Reads into `bufs`, filled in order. Zero at the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing yet; the connection's error, once.
    pub fn read(&self, now: Instant, cell: &Arc<Cell>, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reading(now, cell, 0, |connection| connection.read(now, bufs))
    }

    /// As [`Engine::read`], but leaves the bytes where they are.
    ///
    /// # Errors
    /// As [`Engine::read`].
    pub fn peek(&self, now: Instant, cell: &Arc<Cell>, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.reading(now, cell, 0, |connection| connection.peek(bufs))
    }

    /// Reads the bytes of one segment without a copy, as they came; none at the end of the stream.
    ///
    /// # Errors
    /// As [`Engine::read`].
    pub fn read_chunk(&self, now: Instant, cell: &Arc<Cell>) -> io::Result<Option<Chunk>> {
        self.reading(now, cell, None, |connection| connection.read_chunk(now))
    }

    /// Writes from `bufs`, in order, and sends what may be sent.
    ///
    /// # Errors
    /// `WouldBlock` if the send buffer is full; the connection's error, once; then `EPIPE`.
    pub fn write(&self, now: Instant, cell: &Arc<Cell>, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.send(now, cell, bufs, SendFlags::NONE)
    }

    /// As [`Engine::write`], with the flags of send(2).
    ///
    /// # Errors
    /// As [`Engine::write`].
    pub fn send(
        &self,
        now: Instant,
        cell: &Arc<Cell>,
        bufs: &[IoSlice<'_>],
        flags: SendFlags,
    ) -> io::Result<usize> {
        let mut out = Effects::new();
        let result = self.with_cell(now, cell, &mut out, |inner, out| {
            let mut done = 0;
            loop {
                let written = match &mut inner.phase {
                    Phase::Opening(opening) => return opening.write(now, bufs).map_err(io::Error::from),
                    Phase::Connected(connection) => connection.write_record(now, bufs, done, flags)?,
                    Phase::Over(over) => return Err(over.take().unwrap_or_else(|| os(libc::EPIPE))),
                };
                done += written.bytes;
                if !written.go_on {
                    return Ok(done);
                }
                self.transmit(now, cell, inner, out);
            }
        });
        out.deliver(self);
        result
    }

    /// Sends what is queued at once, whatever holds partial segments back: what setting `TCP_NODELAY`
    /// does each time.
    pub fn push(&self, now: Instant, cell: &Arc<Cell>) {
        let mut out = Effects::new();
        self.with_cell(now, cell, &mut out, |inner, _| {
            if let Phase::Connected(connection) = &mut inner.phase {
                connection.push();
            }
        });
        out.deliver(self);
    }

    /// The rest of a first write waits for the connection to stand: it can carry the acknowledgment
    /// that completes the handshake.
    pub fn expect_write(&self, cell: &Cell) {
        if let Phase::Opening(opening) = &mut cell.lock().phase {
            opening.expect_write();
        }
    }

    /// Sends the SYN that waits for the first write (`TCP_FASTOPEN_CONNECT`), without data. Nothing
    /// happens if none waits.
    pub fn open_now(&self, now: Instant, cell: &Arc<Cell>) {
        let mut out = Effects::new();
        self.with_cell(now, cell, &mut out, |inner, _| {
            if let Phase::Opening(opening) = &mut inner.phase {
                opening.go(now);
            }
        });
        out.deliver(self);
    }

    /// Shuts down reading, writing or both, as shutdown(2).
    ///
    /// # Errors
    /// `ENOTCONN` if there is no connection.
    pub fn shutdown(&self, now: Instant, cell: &Arc<Cell>, how: Shutdown) -> io::Result<()> {
        let mut out = Effects::new();
        let result = self.with_cell(now, cell, &mut out, |inner, _| match &mut inner.phase {
            Phase::Opening(opening) => opening.shutdown(now, how).map_err(io::Error::from),
            Phase::Connected(connection) => connection.shutdown(now, how).map_err(io::Error::from),
            Phase::Over(_) => Err(os(libc::ENOTCONN)),
        });
        out.deliver(self);
        result
    }

    /// The application is done with the connection. What was written is still sent, in the
    /// background; unread data makes it a reset (RFC 2525 §2.17), as in Linux.
    pub fn close(&self, now: Instant, cell: &Arc<Cell>) {
        let mut out = Effects::new();
        let replaced = self.with_cell(now, cell, &mut out, |inner, out| {
            if inner.orphan {
                return None;
            }
            if inner.attached {
                inner.orphan = true;
                self.orphan_count().fetch_add(1, Ordering::Relaxed);
            }
            match &mut inner.phase {
                Phase::Connected(connection) => {
                    if self.orphan_count().load(Ordering::Relaxed) > self.config().max_orphans as usize {
                        // tcp_check_oom in Linux.
                        self.counters_live().abort_on_memory.bump();
                        connection.abort(now);
                    } else {
                        connection.close(now);
                    }
                    None
                }
                // What a first write took is delivered as well.
                Phase::Opening(opening) if opening.has_data() => {
                    opening.close();
                    None
                }
                Phase::Opening(_) => Some(self.drop_opening(now, cell, inner, out)),
                Phase::Over(_) => None,
            }
        });
        drop(replaced);
        out.deliver(self);
    }

    /// Resets the connection.
    pub fn abort(&self, now: Instant, cell: &Arc<Cell>) {
        let mut out = Effects::new();
        let replaced = self.with_cell(now, cell, &mut out, |inner, out| match &mut inner.phase {
            Phase::Connected(connection) => {
                connection.abort(now);
                None
            }
            Phase::Opening(_) => Some(self.drop_opening(now, cell, inner, out)),
            Phase::Over(_) => None,
        });
        drop(replaced);
        out.deliver(self);
    }

    /// Gives up connecting. In SYN-SENT that is silent, as in Linux; a peer that sent a SYN of its
    /// own is told.
    fn drop_opening(&self, now: Instant, cell: &Arc<Cell>, inner: &mut Inner, out: &mut Effects) -> Phase {
        if let Phase::Opening(opening) = &mut inner.phase
            && let Some(reset) = opening.reset()
        {
            self.send_for(now, cell, &reset, out);
        }
        let over = Over::new(TcpError::Aborted.into(), false);
        self.cut_off(cell, inner, Phase::Over(over), out)
    }

    /// The pending error, and clears it (`SO_ERROR`).
    pub fn take_error(&self, cell: &Cell) -> Option<io::Error> {
        match &mut cell.lock().phase {
            Phase::Opening(_) => None,
            Phase::Connected(connection) => connection.take_error().map(io::Error::from),
            Phase::Over(over) => over.take(),
        }
    }

    /// Changes options, which take effect at once.
    pub fn with_options<R>(
        &self,
        now: Instant,
        cell: &Arc<Cell>,
        change: impl FnOnce(&mut SocketOptions) -> R,
    ) -> R {
        let mut out = Effects::new();
        let result = self.with_cell(now, cell, &mut out, |inner, _| match &mut inner.phase {
            Phase::Opening(opening) => change(opening.options_mut()),
            Phase::Connected(connection) => {
                let mut options = connection.options().clone();
                let result = change(&mut options);
                connection.set_options(now, options);
                result
            }
            Phase::Over(_) => change(&mut inner.options),
        });
        out.deliver(self);
        result
    }

    /// The options.
    pub fn options(&self, cell: &Cell) -> SocketOptions {
        let inner = cell.lock();
        match &inner.phase {
            Phase::Opening(opening) => opening.options().clone(),
            Phase::Connected(connection) => connection.options().clone(),
            Phase::Over(_) => inner.options.clone(),
        }
    }

    /// `TCP_QUICKACK`: acknowledge at once, or delay. Not permanent, as in Linux. Nothing happens
    /// while connecting.
    pub fn set_quickack(&self, now: Instant, cell: &Arc<Cell>, on: bool) {
        let mut out = Effects::new();
        self.with_cell(now, cell, &mut out, |inner, _| {
            if let Phase::Connected(connection) = &mut inner.phase {
                connection.set_quickack(on);
            }
        });
        out.deliver(self);
    }

    /// `TCP_QUICKACK`; on before the connection is established.
    pub fn quickack(&self, cell: &Cell) -> bool {
        look(cell, Connection::quickack).unwrap_or(true)
    }

    /// `TCP_INFO`; none before the connection is established, and if it never was.
    pub fn info(&self, now: Instant, cell: &Cell) -> Option<TcpInfo> {
        look(cell, |connection| connection.info(now))
    }

    /// Bytes written and not sent yet (`SIOCOUTQNSD`).
    pub fn unsent(&self, cell: &Cell) -> usize {
        look(cell, Connection::unsent).unwrap_or(0)
    }

    /// Bytes written and not acknowledged yet (`SIOCOUTQ`).
    pub fn unacked(&self, cell: &Cell) -> usize {
        look(cell, Connection::unacked).unwrap_or(0)
    }

    /// What the send queue counts for against `SO_SNDBUF`, in bytes.
    pub fn send_queue_cost(&self, cell: &Cell) -> usize {
        look(cell, Connection::send_queue_cost).unwrap_or(0)
    }

    /// Bytes received and not read yet (`SIOCINQ`).
    pub fn unread(&self, cell: &Cell) -> usize {
        look(cell, Connection::unread).unwrap_or(0)
    }

    /// Connections, those that no application holds any more included. TIME-WAIT does not count.
    pub fn connections(&self) -> usize {
        self.demux().cells()
    }

    /// TIME-WAIT entries.
    pub fn time_waits(&self) -> usize {
        self.demux().time_waits()
    }

    /// Connections that no application holds any more.
    pub fn orphans(&self) -> usize {
        self.orphan_count().load(Ordering::Relaxed)
    }

    /// Ports in use.
    pub fn ports_in_use(&self) -> usize {
        self.ports().len()
    }

    /// Whether nothing that was written on any connection is still unsent or unacknowledged.
    pub fn is_drained(&self) -> bool {
        self.demux().all_cells().iter().all(|cell| {
            let inner = cell.lock();
            match &inner.phase {
                Phase::Connected(connection) if inner.attached => {
                    connection.unsent() == 0 && connection.unacked() == 0
                }
                Phase::Opening(opening) if inner.attached => !opening.has_data(),
                Phase::Opening(_) | Phase::Connected(_) | Phase::Over(_) => true,
            }
        })
    }

    /// Shuts the stack down: every connection is reset, and every call from now on fails with
    /// `error`.
    pub fn fail_all(&self, now: Instant, error: &io::Error) {
        let failure = Failure::from(error);
        if self.failure().set(failure.clone()).is_err() {
            return;
        }
        let mut out = Effects::new();
        let mut cells = Vec::new();
        for listener in self.demux().all_listeners() {
            cells.extend(self.empty_listener(&listener, Some(failure.clone()), &mut out));
            out.notify_listener(&listener, Events::READABLE | Events::ERROR);
        }
        cells.extend(self.demux().all_cells());
        for cell in cells {
            self.with_cell(now, &cell, &mut out, |inner, _| {
                if let Phase::Connected(connection) = &mut inner.phase {
                    connection.abort(now);
                }
            });
            self.fail_cell(&cell, &failure, true, &mut out);
        }
        out.deliver(self);
    }

    /// Reads by `f`. A connection that was cut off gives what it had received, then the error, then
    /// `end`.
    fn reading<R>(
        &self,
        now: Instant,
        cell: &Arc<Cell>,
        end: R,
        f: impl FnOnce(&mut Connection) -> Result<R, TcpError>,
    ) -> io::Result<R> {
        let mut out = Effects::new();
        let result = self.with_cell(now, cell, &mut out, |inner, _| match &mut inner.phase {
            Phase::Opening(_) => Err(io::ErrorKind::WouldBlock.into()),
            Phase::Connected(connection) => f(connection).map_err(io::Error::from),
            Phase::Over(over) => match over.unread.as_mut().filter(|connection| connection.unread() > 0) {
                Some(connection) => f(connection).map_err(io::Error::from),
                None => over.take().map_or(Ok(end), Err),
            },
        });
        out.deliver(self);
        result
    }
}

fn look<R>(cell: &Cell, f: impl FnOnce(&Connection) -> R) -> Option<R> {
    match &cell.lock().phase {
        Phase::Connected(connection) => Some(f(connection)),
        Phase::Opening(_) | Phase::Over(_) => None,
    }
}
