//! Options of Fast Open on the server's side.

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

/// Declares the options of a Fast Open server.
macro_rules! fast_open_server_options {
    ($socket:ty) => {
        /// Fast Open, as a server.
        impl $socket {
            /// `TCP_FASTOPEN`: how many connections may wait for the third segment of their handshake.
            /// Default 0, which turns Fast Open off.
            pub fn tcp_fastopen(&self) -> std::io::Result<u32> {
                Ok(self.options().fastopen_queue)
            }

            /// Sets `TCP_FASTOPEN`: data in the SYN of a client with a good cookie is accepted, and
            /// `accept` gives the connection out, before the third segment of the handshake; at most
            /// `limit` connections wait for it at a time. The limit is bounded by
            /// [`Config::somaxconn`](crate::config::Config::somaxconn).
            ///
            /// Such data may arrive twice, if the client repeats it or an attacker replays its SYN: the
            /// first message of the protocol must be safe to repeat (RFC 7413 §2.1).
            ///
            /// # Errors
            /// `EOPNOTSUPP` if [`Config::fastopen`](crate::config::Config::fastopen) forbids it. (Linux
            /// reports nothing, and does nothing.)
            pub fn set_tcp_fastopen(&self, limit: u32) -> std::io::Result<()> {
                let limit = $crate::net::options::fast_open::queue_limit_from(limit, self.config())?;
                self.change(|options| options.fastopen_queue = limit);
                Ok(())
            }

            /// Sets `TCP_FASTOPEN_KEY`: the keys of this listener's cookies, instead of those of the
            /// stack ([`Stack::set_fast_open_keys`](crate::Stack::set_fast_open_keys)); none goes back to
            /// those.
            pub fn set_tcp_fastopen_key(
                &self,
                keys: Option<$crate::config::FastOpenKeys>,
            ) -> std::io::Result<()> {
                self.change(|options| options.fastopen_key = keys.map(std::sync::Arc::new));
                Ok(())
            }

            /// `TCP_FASTOPEN_NO_COOKIE`. Default false.
            pub fn tcp_fastopen_no_cookie(&self) -> std::io::Result<bool> {
                Ok(self.options().fastopen_no_cookie)
            }

            /// Sets `TCP_FASTOPEN_NO_COOKIE`: data in SYNs needs no cookie to be
            /// accepted, nor, as a client, to be sent. An attacker can then make a server answer to
            /// forged addresses: for closed networks.
            pub fn set_tcp_fastopen_no_cookie(&self, no_cookie: bool) -> std::io::Result<()> {
                self.change(|options| options.fastopen_no_cookie = no_cookie);
                Ok(())
            }
        }
    };
}
pub(crate) use fast_open_server_options;
