//! Fast Open options.

use super::tcp::{HasTcpOptions, Progress};
use crate::config::{Config, FastOpenMode};
use crate::error::os;
use std::io;

/// What `TCP_FASTOPEN` becomes.
pub(crate) fn queue_limit_from(limit: u32, config: &Config) -> io::Result<u32> {
    if limit > 0 && !config.fastopen.contains(FastOpenMode::SERVER) {
        return Err(os(libc::EOPNOTSUPP));
    }
    Ok(limit.min(config.somaxconn))
}

/// Checks that `TCP_FASTOPEN_CONNECT` may be set.
pub(crate) fn check_connect(socket: &impl HasTcpOptions) -> io::Result<()> {
    if !socket.config().fastopen.contains(FastOpenMode::CLIENT) {
        return Err(os(libc::EOPNOTSUPP));
    }
    match socket.progress() {
        Progress::Unconnected => Ok(()),
        Progress::Listening | Progress::Connected => Err(os(libc::EINVAL)),
    }
}

/// Declares the options of Fast Open.
macro_rules! fast_open_options {
    ($socket:ty) => {
        /// Fast Open.
        impl $socket {
            /// `TCP_FASTOPEN`: the maximum number of connections that wait for the third segment of
            /// their handshake. Default 0, which turns Fast Open off.
            pub fn tcp_fastopen(&self) -> std::io::Result<u32> {
                Ok(self.options()?.fastopen_queue)
            }

            /// Sets `TCP_FASTOPEN`. Data in the SYN of a client with a valid cookie is accepted,
            /// and `accept` returns the connection before the third segment of the handshake. At
            /// most `limit` connections can be in this state at a time;
            /// [`Config::somaxconn`](crate::config::Config::somaxconn) bounds the limit.
            ///
            /// This data can be delivered twice, if the client retransmits it or an attacker
            /// replays the SYN. The first request of the protocol must therefore be idempotent (RFC
            /// 7413 §2.1).
            ///
            /// # Errors
            /// `EINVAL` for a connection; `EOPNOTSUPP` if
            /// [`Config::fastopen`](crate::config::Config::fastopen) forbids it. (Linux returns no error for
            /// the latter and ignores the option.)
            pub fn set_tcp_fastopen(&self, limit: u32) -> std::io::Result<()> {
                $crate::net::options::tcp::HasTcpOptions::before_connection(self)?;
                let limit = $crate::net::options::fast_open::queue_limit_from(limit, self.config())?;
                self.change(|options| options.fastopen_queue = limit)
            }

            /// Sets `TCP_FASTOPEN_KEY`: the keys of this listener's cookies, in place of those of
            /// the stack ([`Stack::set_fast_open_keys`](crate::Stack::set_fast_open_keys)). `None`
            /// restores the keys of the stack.
            ///
            /// # Errors
            /// `EINVAL` for a connection.
            pub fn set_tcp_fastopen_key(
                &self,
                keys: Option<$crate::config::FastOpenKeys>,
            ) -> std::io::Result<()> {
                $crate::net::options::tcp::HasTcpOptions::before_connection(self)?;
                self.change(|options| options.fastopen_key = keys.map(std::sync::Arc::new))
            }

            /// `TCP_FASTOPEN_NO_COOKIE`. Default false.
            pub fn tcp_fastopen_no_cookie(&self) -> std::io::Result<bool> {
                Ok(self.options()?.fastopen_no_cookie)
            }

            /// Sets `TCP_FASTOPEN_NO_COOKIE`. A listener then accepts data in SYNs without a
            /// cookie, and a client sends data without one. An attacker can then make a server
            /// answer to forged addresses, so this is for closed networks only.
            ///
            /// # Errors
            /// `EINVAL` for a connection.
            pub fn set_tcp_fastopen_no_cookie(&self, no_cookie: bool) -> std::io::Result<()> {
                $crate::net::options::tcp::HasTcpOptions::before_connection(self)?;
                self.change(|options| options.fastopen_no_cookie = no_cookie)
            }

            /// `TCP_FASTOPEN_CONNECT`. Default false.
            pub fn tcp_fastopen_connect(&self) -> std::io::Result<bool> {
                Ok(self.options()?.fastopen_connect)
            }

            /// Sets `TCP_FASTOPEN_CONNECT`. With a cookie of the server,
            /// [`TcpSocket::connect`](crate::net::TcpSocket::connect) returns at once, and the first write is
            /// sent in the SYN; if a task waits for data to read before that, the SYN is sent without data.
            /// Without a cookie, connecting takes a round trip as usual and obtains one.
            ///
            /// With a cookie, errors of connecting are returned by the first operation. The data of the
            /// first write can be delivered twice (RFC 7413 §2.1).
            ///
            /// # Errors
            /// `EINVAL` if the socket has connected or listens; `EOPNOTSUPP` if
            /// [`Config::fastopen`](crate::config::Config::fastopen) forbids it.
            pub fn set_tcp_fastopen_connect(&self, on: bool) -> std::io::Result<()> {
                $crate::net::options::fast_open::check_connect(self)?;
                self.change(|options| options.fastopen_connect = on)
            }
        }
    };
}
pub(crate) use fast_open_options;
