//! Fast Open: the options that sockets have for it, and connecting with data.

use super::options::HasOptions;
use super::{PendingListener, TcpListener, TcpSocket, TcpStream};
use crate::config::FastOpenKeys;
use crate::config::FastOpenMode;
use crate::error::os;
use crate::net::lookup::{ToSocketAddrs, none_worked, resolve};
use crate::net::stack::Stack;
use crate::stack::{Family, Unconnected};
use std::io::{self, IoSlice};
use std::sync::Arc;

/// Declares the server's options for the three types that have them.
macro_rules! server_options {
    ($socket:ty) => {
        /// Fast Open, as a server.
        impl $socket {
            /// `TCP_FASTOPEN`: how many connections may wait for the third segment of their handshake.
            /// Default 0, which turns Fast Open off.
            ///
            /// # Errors
            /// None.
            pub fn tcp_fastopen(&self) -> io::Result<u32> {
                Ok(self.options().fastopen_queue)
            }

            /// Sets `TCP_FASTOPEN`: data in the SYN of a client with a good cookie is accepted, and
            /// `accept` gives the connection out, before the third segment of the handshake; at most
            /// `limit` connections wait for it at a time. The limit is bounded by
            /// [`Config::somaxconn`](crate::config::Config::somaxconn).
            ///
            /// What comes so may come twice, if a client repeats it or somebody replays its SYN: the
            /// first message of the protocol must not mind (RFC 7413 §2.1).
            ///
            /// # Errors
            /// `EOPNOTSUPP` if [`Config::fastopen`](crate::config::Config::fastopen) forbids it. (Linux
            /// says nothing, and does nothing.)
            pub fn set_tcp_fastopen(&self, limit: u32) -> io::Result<()> {
                if limit > 0 && !self.config().fastopen.contains(FastOpenMode::SERVER) {
                    return Err(os(libc::EOPNOTSUPP));
                }
                let limit = limit.min(self.config().somaxconn);
                self.change(|options| options.fastopen_queue = limit);
                Ok(())
            }

            /// Sets `TCP_FASTOPEN_KEY`: the keys of this listener's cookies, instead of those of the
            /// stack ([`Stack::set_fast_open_keys`]). None goes back to those.
            ///
            /// # Errors
            /// None.
            pub fn set_tcp_fastopen_key(&self, keys: Option<FastOpenKeys>) -> io::Result<()> {
                self.change(|options| options.fastopen_key = keys.map(Arc::new));
                Ok(())
            }

            /// `TCP_FASTOPEN_NO_COOKIE`. Default false.
            ///
            /// # Errors
            /// None.
            pub fn tcp_fastopen_no_cookie(&self) -> io::Result<bool> {
                Ok(self.options().fastopen_no_cookie)
            }

            /// Sets `TCP_FASTOPEN_NO_COOKIE`: data in SYNs needs no cookie; as a client, none to send
            /// it. Anybody can then make a server answer to forged addresses: for closed networks.
            ///
            /// # Errors
            /// None.
            pub fn set_tcp_fastopen_no_cookie(&self, no_cookie: bool) -> io::Result<()> {
                self.change(|options| options.fastopen_no_cookie = no_cookie);
                Ok(())
            }
        }
    };
}

server_options!(TcpSocket);
server_options!(TcpListener);
server_options!(PendingListener);

/// Fast Open, as a client.
impl TcpSocket {
    /// `TCP_FASTOPEN_CONNECT`. Default false.
    ///
    /// # Errors
    /// None.
    pub fn tcp_fastopen_connect(&self) -> io::Result<bool> {
        Ok(self.options().fastopen_connect)
    }

    /// Sets `TCP_FASTOPEN_CONNECT`. With a cookie of the server, [`TcpSocket::connect`] returns at once,
    /// and the first write leaves in the SYN; a task that waits for something to read before that
    /// makes the SYN leave without data. Without a cookie, connecting takes a round trip as always and
    /// brings one.
    ///
    /// Errors of connecting are those of the first operation then. The first write may arrive twice
    /// (RFC 7413 §2.1).
    ///
    /// # Errors
    /// `EOPNOTSUPP` if [`Config::fastopen`](crate::config::Config::fastopen) forbids it.
    ///
    /// # Examples
    /// ```
    /// use tokio::io::AsyncWriteExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// # let stack = netstack::Stack::builder().build()?;
    /// let listener = stack.listen("127.0.0.1:8080").await?;
    /// listener.set_tcp_fastopen(16)?;
    /// for _ in 0..2 {
    ///     let socket = stack.tcp_socket_v4()?;
    ///     socket.set_tcp_fastopen_connect(true)?;
    ///     let mut stream = socket.connect("127.0.0.1:8080".parse().unwrap()).await?;
    ///     stream.write_all(b"hello").await?;
    ///     listener.accept().await?;
    /// }
    /// assert_eq!(stack.counters().fast_open_passive, 1, "the second time");
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_tcp_fastopen_connect(&self, on: bool) -> io::Result<()> {
        if on && !self.config().fastopen.contains(FastOpenMode::CLIENT) {
            return Err(os(libc::EOPNOTSUPP));
        }
        self.change(|options| options.fastopen_connect = on);
        Ok(())
    }
}

/// Connecting with data.
impl TcpStream {
    /// Connects to `addr` on the stack of this place and writes `data`, all of it: in the SYN as far as
    /// that holds it and a cookie of the server is known, otherwise once the connection stands
    /// (`sendto` with `MSG_FASTOPEN`). Returns when the bytes were taken, which may be before the
    /// server has answered.
    ///
    /// The data may arrive twice (RFC 7413 §2.1): only for what does not mind.
    ///
    /// # Errors
    /// As [`TcpStream::connect`].
    ///
    /// # Cancel safety
    /// Dropping the future gives up. What had been written by then may arrive.
    pub async fn connect_with_data<A: ToSocketAddrs>(addr: A, data: &[u8]) -> io::Result<Self> {
        Self::connect_with_data_on(&Stack::current()?, addr, data).await
    }

    /// Connects to `addr` on `stack`; otherwise as [`TcpStream::connect_with_data`].
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
        let mut last = None;
        for addr in resolve(&addr).await? {
            let family = if addr.is_ipv4() { Family::V4 } else { Family::V6 };
            let mut socket = Unconnected::new(stack.engine(), family);
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

    /// Writes all of `data`, and if that is nothing lets the connection begin.
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
