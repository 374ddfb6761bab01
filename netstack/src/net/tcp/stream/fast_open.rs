//! Connecting with data in the SYN.

use super::TcpStream;
use crate::net::lookup::{ToSocketAddrs, none_worked, resolve};
use crate::net::options::ip::socket_family;
use crate::net::stack::Stack;
use crate::stack::Unconnected;
use std::io::{self, IoSlice};

/// Connecting with data.
impl TcpStream {
    /// Connects to `addr` on the current stack and writes all of `data`: in the SYN if a cookie of
    /// the server is known, as much as fits into it, and the rest once the connection is
    /// established (`sendto` with `MSG_FASTOPEN`). Returns when all data has been queued, which can
    /// be before the server has answered.
    ///
    /// The data can be delivered twice (RFC 7413 §2.1), so the request must be idempotent.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future aborts the attempt. Data that was sent before can still arrive.
    pub async fn connect_with_data<A: ToSocketAddrs>(addr: A, data: &[u8]) -> io::Result<Self> {
        Self::connect_with_data_on(&Stack::current()?, addr, data).await
    }

    /// Like [`TcpStream::connect_with_data`], on `stack`.
    ///
    /// # Errors
    /// As [`TcpStream::connect_with_data`].
    ///
    /// # Cancel safety
    /// As [`TcpStream::connect_with_data`].
    pub async fn connect_with_data_on<A: ToSocketAddrs>(
        stack: &Stack,
        addr: A,
        data: &[u8],
    ) -> io::Result<Self> {
        let (target, mut last) = (addr.to_target(), None);
        for addr in resolve(stack.core().resolver(), target).await? {
            let family = socket_family(addr);
            let mut socket = Unconnected::new(stack.engine().core(), stack.engine().tcp(), family);
            socket.options.fastopen_connect = true;
            let written = async {
                let stream = Self::connect_socket(stack, socket, addr).await?;
                stream.write_first(data).await.map(|()| stream)
            };
            match written.await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = Some(error),
            }
        }
        Err(none_worked(last))
    }

    /// Writes all of `data`. If there is none, sends the SYN without.
    async fn write_first(&self, data: &[u8]) -> io::Result<()> {
        let mut left = data;
        if left.is_empty() {
            self.stop_deferring();
        }
        while !left.is_empty() {
            let n = std::future::poll_fn(|cx| self.poll_write_priv(cx, &[IoSlice::new(left)])).await?;
            left = &left[n..];
        }
        Ok(())
    }
}
