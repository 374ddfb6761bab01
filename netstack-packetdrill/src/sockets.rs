//! The calls on sockets, from socket(2) to close(2).

use crate::blocking::{Adapter, Blocking};
use crate::fast_open::Opened;
use crate::world::{File, Kind, Socket, World};
use crate::{Call, Errno};
use netstack::readiness::Events;
use netstack::stack::{Cell, Family, Tcp, Unconnected};
use netstack::tcp::SendFlags;
use std::io::{IoSlice, IoSliceMut};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

/// `SIOCOUTQNSD`: bytes that were written and never sent.
const SIOCOUTQNSD: u64 = 0x894b;

/// Flags of send(2) for things that netstack does not do.
const SEND_UNSUPPORTED: i32 = libc::MSG_OOB;

/// Whether a call blocks.
pub(crate) fn blocking(socket: &Socket, flags: i32) -> Blocking {
    if socket.nonblocking || flags & libc::MSG_DONTWAIT != 0 { Blocking::Never } else { Blocking::Forever }
}

impl Adapter {
    /// socket(2), with the descriptor that is to stand for it.
    ///
    /// # Errors
    /// `EAFNOSUPPORT`, `ESOCKTNOSUPPORT`, `EPROTONOSUPPORT` for anything but TCP.
    pub fn socket(&'static self, fd: i32, domain: i32, kind: i32, protocol: i32) -> Call {
        let family = match domain {
            libc::AF_INET => Family::V4,
            libc::AF_INET6 => Family::V6,
            _ => return Err(Errno(libc::EAFNOSUPPORT)),
        };
        if kind & !(libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) != libc::SOCK_STREAM {
            return Err(Errno(libc::ESOCKTNOSUPPORT));
        }
        if ![0, libc::IPPROTO_TCP].contains(&protocol) {
            return Err(Errno(libc::EPROTONOSUPPORT));
        }
        let mut guard = self.lock();
        guard.world.refresh()?;
        let engine = guard.world.start()?;
        let mut socket =
            Socket::new(Kind::Unconnected(Box::new(Unconnected::new(engine.core(), engine.tcp(), family))));
        socket.nonblocking = kind & libc::SOCK_NONBLOCK != 0;
        guard.world.add(fd, File::Socket(socket));
        Ok(fd)
    }

    /// bind(2).
    ///
    /// # Errors
    /// As [`Tcp::bind`].
    pub fn bind(&'static self, fd: i32, address: Option<SocketAddr>) -> Call {
        let mut guard = self.lock();
        let engine = guard.world.engine()?;
        let address = address.ok_or(Errno(libc::EAFNOSUPPORT))?;
        match &mut guard.world.socket(fd)?.kind {
            Kind::Unconnected(socket) => engine.tcp().bind(engine.core(), socket, address)?,
            Kind::Connection(_) | Kind::Listener(_) => return Err(Errno(libc::EINVAL)),
        }
        Ok(0)
    }

    /// listen(2).
    ///
    /// # Errors
    /// `EADDRINUSE`; `EINVAL` for a connection.
    pub fn listen(&'static self, fd: i32, backlog: i32) -> Call {
        let mut guard = self.lock();
        let (engine, now) = (guard.world.engine()?, guard.world.now());
        let socket = guard.world.socket(fd)?;
        // A negative backlog means as many as possible, as in Linux.
        let backlog = u32::try_from(backlog).unwrap_or(u32::MAX);
        match &mut socket.kind {
            Kind::Listener(_) => {}
            Kind::Connection(_) => return Err(Errno(libc::EINVAL)),
            Kind::Unconnected(unconnected) => {
                let fresh = Unconnected::new(engine.core(), engine.tcp(), unconnected.ip.family());
                let listening = std::mem::replace(&mut **unconnected, fresh);
                let listener = engine.with_tcp(now, |tcp, turn| {
                    tcp.listen(turn, listening, backlog, Arc::clone(&socket.watch) as _)
                })?;
                socket.kind = Kind::Listener(listener);
            }
        }
        Ok(0)
    }

    /// accept(2), with the descriptor that is to stand for the connection.
    ///
    /// # Errors
    /// `EINVAL` if the socket does not listen; `EAGAIN`.
    pub fn accept(&'static self, fd: i32, accepted: i32) -> Call<SocketAddr> {
        self.call(
            |world| Ok(blocking(world.socket(fd)?, 0)),
            |world| {
                let (engine, now) = (world.engine()?, world.now());
                let Kind::Listener(listener) = &world.socket(fd)?.kind else {
                    return Err(Errno(libc::EINVAL));
                };
                let listener = Arc::clone(listener);
                let taken = unless_it_blocks(
                    engine.with_tcp(now, |tcp, turn| tcp.accept(turn, &listener)).map_err(Errno::from),
                )?;
                let Some((cell, peer)) = taken else { return Ok(None) };
                let socket = Socket::new(Kind::Connection(Arc::clone(&cell)));
                cell.set_observer(Arc::clone(&socket.watch) as _);
                world.add(accepted, File::Socket(socket));
                Ok(Some(peer))
            },
        )
    }

    /// connect(2); without an address it disconnects.
    ///
    /// # Errors
    /// `EINPROGRESS`, `EALREADY`, `EISCONN`; the error of connecting.
    pub fn connect(&'static self, fd: i32, to: Option<SocketAddr>) -> Call {
        let mut began = false;
        let result = self.call(
            |world| Ok(blocking(world.socket(fd)?, 0)),
            |world| {
                if !std::mem::replace(&mut began, true) {
                    world.refresh()?;
                    return world.begin_connect(fd, to);
                }
                world.end_connect(fd)
            },
        );
        match result {
            Err(Errno(libc::EAGAIN)) => Err(Errno(libc::EINPROGRESS)),
            other => other,
        }
    }

    /// recvmsg(2) and its relatives.
    ///
    /// # Errors
    /// `ENOTCONN`, `EAGAIN`, the error of the connection.
    pub fn receive(&'static self, fd: i32, bufs: &mut [IoSliceMut<'_>], flags: i32) -> Call<usize> {
        if flags & libc::MSG_OOB != 0 {
            return Err(Errno(libc::EINVAL));
        }
        if flags & libc::MSG_ERRQUEUE != 0 {
            // There are no messages about errors: netstack has neither IP_RECVERR nor timestamps.
            return Err(Errno(libc::EAGAIN));
        }
        let all = flags & libc::MSG_WAITALL != 0 && flags & libc::MSG_PEEK == 0;
        if flags & libc::MSG_TRUNC != 0 {
            // tcp(7): the bytes are discarded, and counted.
            let mut scratch: Vec<Vec<u8>> = bufs.iter().map(|buf| vec![0; buf.len()]).collect();
            let mut bufs: Vec<_> = scratch.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
            return self.receive(fd, &mut bufs, flags & !libc::MSG_TRUNC);
        }
        let mut bufs = bufs;
        let mut done = 0;
        let result = self.call(
            |world| Ok(blocking(world.socket(fd)?, flags)),
            |world| {
                let (cell, engine) = (world.connection(fd, libc::ENOTCONN)?, world.engine()?);
                let read = if flags & libc::MSG_PEEK == 0 {
                    engine.with_tcp(world.now(), |tcp, turn| tcp.read(turn, &cell, bufs))
                } else {
                    engine.with_tcp(world.now(), |tcp, turn| tcp.peek(turn, &cell, bufs))
                };
                let Some(n) = unless_it_blocks(read.map_err(Errno::from))? else { return Ok(None) };
                done += n;
                if !all || n == 0 {
                    return Ok(Some(()));
                }
                IoSliceMut::advance_slices(&mut bufs, n);
                Ok(bufs.is_empty().then_some(()))
            },
        );
        partial(done, result)
    }

    /// sendmsg(2) and its relatives.
    ///
    /// # Errors
    /// `EPIPE`, `EAGAIN`, the error of the connection; `EOPNOTSUPP` for flags of things that netstack
    /// does not do.
    pub fn send(&'static self, fd: i32, bufs: &mut [IoSlice<'_>], flags: i32) -> Call<usize> {
        self.send_to(fd, bufs, flags, None)
    }

    /// sendto(2) with the address that `MSG_FASTOPEN` connects to.
    ///
    /// # Errors
    /// As [`Adapter::send`] and [`Adapter::open_by_sending`].
    pub fn send_to(
        &'static self,
        fd: i32,
        bufs: &mut [IoSlice<'_>],
        flags: i32,
        to: Option<SocketAddr>,
    ) -> Call<usize> {
        if flags & SEND_UNSUPPORTED != 0 {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        let send = SendFlags { more: flags & libc::MSG_MORE != 0, end_of_record: flags & libc::MSG_EOR != 0 };
        let mut bufs = bufs;
        let (mut done, mut waited) = (0, false);
        if let Opened::With(n) = self.open_by_sending(fd, bufs, flags, to)? {
            let wanted: usize = bufs.iter().map(|buf| buf.len()).sum();
            let waits = blocking(self.lock().world.socket(fd)?, flags) == Blocking::Forever;
            if n == wanted || !waits {
                return Ok(n);
            }
            done = n;
            IoSlice::advance_slices(&mut bufs, n);
        }
        let result = self.call(
            |world| Ok(blocking(world.socket(fd)?, flags)),
            |world| {
                let (cell, engine) = (world.connection(fd, libc::EPIPE)?, world.engine()?);
                // A call that has to wait continues when poll would report the socket as writable,
                // and not before.
                if waited && !cell.readiness().contains(Events::WRITABLE) {
                    return Ok(None);
                }
                let sent = engine
                    .with_tcp(world.now(), |tcp, turn| tcp.send(turn, &cell, bufs, send))
                    .map_err(Errno::from);
                let n = unless_it_blocks(sent)?.unwrap_or(0);
                done += n;
                IoSlice::advance_slices(&mut bufs, n);
                waited = true;
                Ok(bufs.iter().all(|buf| buf.is_empty()).then_some(()))
            },
        );
        partial(done, result)
    }

    /// shutdown(2).
    ///
    /// # Errors
    /// `ENOTCONN`; `EINVAL` for a direction that there is not.
    pub fn shutdown(&'static self, fd: i32, how: i32) -> Call {
        let how = match how {
            libc::SHUT_RD => Shutdown::Read,
            libc::SHUT_WR => Shutdown::Write,
            libc::SHUT_RDWR => Shutdown::Both,
            _ => return Err(Errno(libc::EINVAL)),
        };
        let mut guard = self.lock();
        let world = &mut guard.world;
        let (cell, engine) = (world.connection(fd, libc::ENOTCONN)?, world.engine()?);
        engine.with_tcp(world.now(), |tcp, turn| tcp.shutdown(turn, &cell, how))?;
        Ok(0)
    }

    /// close(2). The caller closes the descriptor itself.
    ///
    /// # Errors
    /// `EBADF`.
    pub fn close(&'static self, fd: i32) -> Call {
        let mut guard = self.lock();
        let world = &mut guard.world;
        let file = world.remove(fd).ok_or(Errno(libc::EBADF))?;
        let (engine, now) = (world.engine()?, world.now());
        if let File::Socket(socket) = file {
            match socket.kind {
                Kind::Unconnected(_) => {}
                Kind::Connection(cell) => engine.with_tcp(now, |tcp, turn| tcp.close(turn, &cell)),
                Kind::Listener(listener) => {
                    engine.with_tcp(now, |tcp, turn| tcp.close_listener(turn, &listener))
                }
            }
        }
        Ok(0)
    }

    /// fcntl(2).
    ///
    /// # Errors
    /// `EINVAL` for a command that there is not.
    pub fn fcntl(&'static self, fd: i32, command: i32, argument: i64) -> Call {
        let mut guard = self.lock();
        let socket = guard.world.socket(fd)?;
        match command {
            libc::F_GETFL => Ok(libc::O_RDWR | if socket.nonblocking { libc::O_NONBLOCK } else { 0 }),
            libc::F_SETFL => {
                socket.nonblocking = argument & i64::from(libc::O_NONBLOCK) != 0;
                Ok(0)
            }
            libc::F_GETFD | libc::F_SETFD => Ok(0),
            _ => Err(Errno(libc::EINVAL)),
        }
    }

    /// ioctl(2): what it would write.
    ///
    /// # Errors
    /// `EINVAL` for a listener; `ENOTTY` for a request that there is not.
    pub fn ioctl(&'static self, fd: i32, request: u64) -> Call {
        let mut guard = self.lock();
        let world = &mut guard.world;
        let engine = world.engine()?;
        let bytes = |count: fn(&Tcp, &Cell) -> usize, world: &mut World| {
            match &world.socket(fd)?.kind {
                Kind::Unconnected(_) => Ok(0),
                Kind::Connection(cell) => Ok(i32::try_from(count(engine.tcp(), cell)).unwrap_or(i32::MAX)),
                // tcp_ioctl of Linux.
                Kind::Listener(_) => Err(Errno(libc::EINVAL)),
            }
        };
        match request {
            libc::FIONREAD => bytes(Tcp::unread, world),
            libc::TIOCOUTQ => bytes(Tcp::unacked, world),
            SIOCOUTQNSD => bytes(Tcp::unsent, world),
            _ => Err(Errno(libc::ENOTTY)),
        }
    }
}

impl World {
    pub(crate) fn begin_connect(&mut self, fd: i32, to: Option<SocketAddr>) -> Call<Option<i32>> {
        let (engine, now) = (self.engine()?, self.now());
        let socket = self.socket(fd)?;
        let Some(to) = to else { return disconnect(socket, &engine, now) };
        match &mut socket.kind {
            Kind::Listener(_) => Err(Errno(libc::EISCONN)),
            Kind::Connection(cell) => match cell.connect_result() {
                None => Err(Errno(libc::EALREADY)),
                Some(_) if socket.connecting => self.end_connect(fd),
                Some(Ok(())) => Err(Errno(libc::EISCONN)),
                Some(Err(error)) => Err(error.into()),
            },
            Kind::Unconnected(unconnected) => {
                let fresh = Unconnected::new(engine.core(), engine.tcp(), unconnected.ip.family());
                let connecting = std::mem::replace(&mut **unconnected, fresh);
                let cell = engine.with_tcp(now, |tcp, turn| {
                    tcp.connect(turn, connecting, to, Arc::clone(&socket.watch) as _)
                })?;
                // With TCP_FASTOPEN_CONNECT the SYN may be left to the first write.
                socket.connecting = !cell.is_deferred();
                let deferred = cell.is_deferred();
                socket.kind = Kind::Connection(cell);
                Ok(deferred.then_some(0))
            }
        }
    }

    /// The result of connecting, which is reported once.
    pub(crate) fn end_connect(&mut self, fd: i32) -> Call<Option<i32>> {
        let (engine, now) = (self.engine()?, self.now());
        let cell = self.connection(fd, libc::EINVAL)?;
        let Some(result) = cell.connect_result() else { return Ok(None) };
        self.socket(fd)?.connecting = false;
        match result {
            Ok(()) => Ok(Some(0)),
            // Telling clears SO_ERROR.
            Err(told) => {
                Err(engine.with_tcp(now, |tcp, turn| tcp.take_error(turn, &cell)).unwrap_or(told).into())
            }
        }
    }
}

/// connect(2) to `AF_UNSPEC`: the connection is reset, and the socket is new again.
fn disconnect(
    socket: &mut Socket,
    engine: &Arc<netstack::stack::Engine>,
    now: netstack::time::Instant,
) -> Call<Option<i32>> {
    if let Kind::Connection(cell) = &socket.kind {
        let family = if cell.local_addr().is_ipv4() { Family::V4 } else { Family::V6 };
        let mut fresh = Unconnected::new(engine.core(), engine.tcp(), family);
        fresh.options = engine.tcp().options(cell);
        engine.with_tcp(now, |tcp, turn| tcp.abort(turn, cell));
        socket.kind = Kind::Unconnected(Box::new(fresh));
        socket.watch = Arc::default();
    }
    Ok(Some(0))
}

fn unless_it_blocks<R>(result: Call<R>) -> Call<Option<R>> {
    match result {
        Ok(result) => Ok(Some(result)),
        Err(Errno(libc::EAGAIN)) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A call that has moved data before an error returns the number of bytes, and not the error.
fn partial(done: usize, result: Call<()>) -> Call<usize> {
    match result {
        Err(errno) if done == 0 => Err(errno),
        _ => Ok(done),
    }
}
