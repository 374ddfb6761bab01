//! Fast Open options of servers.

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
            /// `TCP_FASTOPEN`: the maximum number of connections that wait for the third segment of
            /// their handshake. Default 0, which turns Fast Open off.
            pub fn tcp_fastopen(&self) -> std::io::Result<u32> {
                Ok(self.options().fastopen_queue)
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
            /// `EOPNOTSUPP` if [`Config::fastopen`](crate::config::Config::fastopen) forbids it.
            /// (Linux returns no error and ignores the option.)
            pub fn set_tcp_fastopen(&self, limit: u32) -> std::io::Result<()> {
                let limit = $crate::net::options::fast_open::queue_limit_from(limit, self.config())?;
                self.change(|options| options.fastopen_queue = limit);
                Ok(())
            }

            /// Sets `TCP_FASTOPEN_KEY`: the keys of this listener's cookies, in place of those of
            /// the stack ([`Stack::set_fast_open_keys`](crate::Stack::set_fast_open_keys)). `None`
            /// restores the keys of the stack.
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

            /// Sets `TCP_FASTOPEN_NO_COOKIE`. A listener then accepts data in SYNs without a
            /// cookie, and a client sends data without one. An attacker can then make a server
            /// answer to forged addresses, so this is for closed networks only.
            pub fn set_tcp_fastopen_no_cookie(&self, no_cookie: bool) -> std::io::Result<()> {
                self.change(|options| options.fastopen_no_cookie = no_cookie);
                Ok(())
            }
        }
    };
}
pub(crate) use fast_open_server_options;
