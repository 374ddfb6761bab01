//! sendto(MSG_FASTOPEN) and writes that send a SYN, built from the methods of the stack's sockets
//! (tcp_sendmsg_fastopen in Linux).

use crate::blocking::{Adapter, Blocking};
use crate::sockets::blocking;
use crate::world::{Kind, World};
use crate::{Call, Errno};
use netstack::config::FastOpenMode;
use netstack::stack::Cell;
use netstack::tcp::SendFlags;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;

/// The result of a call that can send the SYN.
pub enum Opened {
    /// The connection is open: an ordinary send.
    No,
    /// The SYN was sent, with this many bytes.
    With(usize),
}

impl Adapter {
    /// The part of a send that connects: with `MSG_FASTOPEN` on a new socket, or where
    /// `TCP_FASTOPEN_CONNECT` left the SYN to the first write. A call that blocks returns when the
    /// handshake is complete.
    ///
    /// # Errors
    /// `EOPNOTSUPP` if Fast Open is off; `EALREADY` while connecting; `EINPROGRESS` for a call that
    /// does not block and whose SYN carries no data; the error of connecting.
    pub fn open_by_sending(
        &'static self,
        fd: i32,
        bufs: &[IoSlice<'_>],
        flags: i32,
        to: Option<SocketAddr>,
    ) -> Call<Opened> {
        let mut opened = None;
        let waits = blocking(self.lock().world.socket(fd)?, flags) == Blocking::Forever;
        let result = self.call(
            |world| Ok(blocking(world.socket(fd)?, flags)),
            |world| match opened {
                None => {
                    let Some(n) = world.send_syn(fd, bufs, flags & libc::MSG_FASTOPEN != 0, to)? else {
                        return Ok(Some(Opened::No));
                    };
                    opened = Some(n);
                    if waits && n > 0 && n < bufs.iter().map(|buf| buf.len()).sum() {
                        let cell = world.connection(fd, libc::ENOTCONN)?;
                        let now = world.now();
                        world.engine()?.with_tcp(now, |tcp, turn| tcp.expect_write(turn, &cell));
                    }
                    Ok(None)
                }
                Some(n) => Ok(world.end_connect(fd)?.map(|_| Opened::With(n))),
            },
        );
        match (result, opened) {
            (Err(Errno(libc::EAGAIN)), Some(0)) => Err(Errno(libc::EINPROGRESS)),
            (Err(Errno(libc::EAGAIN)), Some(n)) => Ok(Opened::With(n)),
            (result, _) => result,
        }
    }
}

impl World {
    /// Whether the variables allow active opens to use Fast Open.
    ///
    /// # Errors
    /// If the settings do not fit together.
    pub fn fast_open_allowed(&self) -> Call<bool> {
        Ok(self.config()?.fastopen.contains(FastOpenMode::CLIENT))
    }

    /// Sends the SYN of a socket that waits for it, and returns the number of bytes in it; none if
    /// there is nothing to open.
    fn send_syn(
        &mut self,
        fd: i32,
        bufs: &[IoSlice<'_>],
        fast_open: bool,
        to: Option<SocketAddr>,
    ) -> Call<Option<usize>> {
        let cell: Option<Arc<Cell>> = match &self.socket(fd)?.kind {
            Kind::Connection(cell) => Some(Arc::clone(cell)),
            Kind::Unconnected(_) => None,
            Kind::Listener(_) => return Ok(None),
        };
        if let Some(cell) = cell {
            if cell.is_deferred() {
                return self.first_write(&cell, bufs).map(Some);
            }
            let connecting = cell.connect_result().is_none();
            return if fast_open && connecting { Err(Errno(libc::EALREADY)) } else { Ok(None) };
        }
        if !fast_open {
            return Ok(None);
        }
        if !self.fast_open_allowed()? || to.is_none() {
            return Err(Errno(libc::EOPNOTSUPP));
        }
        if let Kind::Unconnected(socket) = &mut self.socket(fd)?.kind {
            socket.options.fastopen_connect = true;
        }
        self.begin_connect(fd, to)?;
        let cell = self.connection(fd, libc::ENOTCONN)?;
        if cell.is_deferred() { self.first_write(&cell, bufs).map(Some) } else { Ok(Some(0)) }
    }

    fn first_write(&mut self, cell: &Arc<Cell>, bufs: &[IoSlice<'_>]) -> Call<usize> {
        let (engine, now) = (self.engine()?, self.now());
        Ok(engine.with_tcp(now, |tcp, turn| tcp.send(turn, cell, bufs, SendFlags::default()))?)
    }
}
