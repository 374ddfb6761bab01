//! Options of TCP, and those of the socket layer that its sockets have.

use super::ip::{ForeignAddresses, HasForeignAddresses, HasMtuDiscover};
use crate::config::{Config, MtuDiscover};
use crate::error::os;
use crate::stack::Family;
use crate::tcp::SocketOptions;
use crate::time::Duration;
use std::io;
use std::ops::RangeInclusive;

/// Smallest buffers, before Linux's doubling: `SOCK_MIN_SNDBUF` and `SOCK_MIN_RCVBUF`.
const MIN_SEND_BUFFER: usize = 2304;
const MIN_RECV_BUFFER: usize = 1152;

/// Longest keep-alive times (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`) and most probes.
const MAX_KEEPALIVE: Duration = Duration::from_secs(32_767);
const MAX_KEEPALIVE_RETRIES: u32 = 127;

/// `TCP_FIN_TIMEOUT_MAX` in Linux.
const MAX_LINGER2: Duration = Duration::from_secs(120);

/// What `TCP_MAXSEG` may be: `TCP_MIN_MSS` and `MAX_TCP_WINDOW`.
const MSS_RANGE: RangeInclusive<u32> = 88..=32_767;

/// A socket whose TCP options can be read and changed.
pub(crate) trait HasTcpOptions {
    fn config(&self) -> &Config;
    fn family(&self) -> Family;
    fn options(&self) -> SocketOptions;
    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> R;
    /// Sends what is queued, if this is a connection.
    fn push(&self) {}
}

impl<T: HasTcpOptions> HasMtuDiscover for T {
    fn mtu_discovery(&self) -> MtuDiscover {
        self.options().mtu_discover
    }

    fn set_mtu_discovery(&self, mode: MtuDiscover) {
        self.change(|options| options.mtu_discover = mode);
    }
}

impl<T: HasTcpOptions> HasForeignAddresses for T {
    fn socket_family(&self) -> Family {
        self.family()
    }

    fn foreign_addresses(&self, option: ForeignAddresses) -> bool {
        match option {
            ForeignAddresses::Freebind => self.options().freebind,
            ForeignAddresses::Transparent => self.options().transparent,
        }
    }

    fn set_foreign_addresses(&self, option: ForeignAddresses, on: bool) {
        self.change(|options| match option {
            ForeignAddresses::Freebind => options.freebind = on,
            ForeignAddresses::Transparent => options.transparent = on,
        });
    }
}

/// Keep-alive parameters for `set_tcp_keepalive`. Parameters that are not set remain unchanged.
///
/// # Examples
/// ```
/// use netstack::net::tcp::TcpKeepalive;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let stack = netstack::Stack::builder().build()?;
/// let socket = stack.tcp_socket_v4()?;
/// socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(30)).with_retries(3))?;
/// assert_eq!(socket.tcp_keepalive_time()?, Duration::from_secs(30));
/// assert!(socket.keepalive()?);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TcpKeepalive {
    time: Option<Duration>,
    interval: Option<Duration>,
    retries: Option<u32>,
}

impl TcpKeepalive {
    /// Keep-alive parameters of which none is set.
    pub const fn new() -> Self {
        Self { time: None, interval: None, retries: None }
    }

    /// `TCP_KEEPIDLE`: idle time before the first probe.
    #[must_use]
    pub const fn with_time(self, time: Duration) -> Self {
        Self { time: Some(time), ..self }
    }

    /// `TCP_KEEPINTVL`: time between probes.
    #[must_use]
    pub const fn with_interval(self, interval: Duration) -> Self {
        Self { interval: Some(interval), ..self }
    }

    /// `TCP_KEEPCNT`: the number of unanswered probes after which the connection ends.
    #[must_use]
    pub const fn with_retries(self, retries: u32) -> Self {
        Self { retries: Some(retries), ..self }
    }

    /// Checks the values as setsockopt(2) does.
    pub(crate) fn check(&self) -> io::Result<()> {
        let times = [self.time, self.interval];
        let times_fit = times.iter().flatten().all(|time| !time.is_zero() && *time <= MAX_KEEPALIVE);
        let retries_fit = self.retries.is_none_or(|n| (1..=MAX_KEEPALIVE_RETRIES).contains(&n));
        if times_fit && retries_fit { Ok(()) } else { Err(os(libc::EINVAL)) }
    }

    /// Turns keep-alive on, with the values that are set.
    pub(crate) fn apply(&self, options: &mut SocketOptions) {
        options.keepalive = true;
        options.keepalive_time = self.time.unwrap_or(options.keepalive_time);
        options.keepalive_interval = self.interval.unwrap_or(options.keepalive_interval);
        options.keepalive_retries = self.retries.unwrap_or(options.keepalive_retries);
    }
}

/// What `TCP_LINGER2` becomes.
pub(crate) fn linger2_from(time: Option<Duration>) -> Option<Duration> {
    time.map(|time| time.min(MAX_LINGER2))
}

/// What `TCP_MAXSEG` becomes.
pub(crate) fn mss_limit_from(mss: u32) -> io::Result<Option<u16>> {
    match mss {
        0 => Ok(None),
        mss if MSS_RANGE.contains(&mss) => Ok(u16::try_from(mss).ok()),
        _ => Err(os(libc::EINVAL)),
    }
}

/// Sets `TCP_CONGESTION` in `options`.
pub(crate) fn set_congestion(options: &mut SocketOptions, name: &[u8]) -> io::Result<()> {
    if name.is_empty() {
        return Err(os(libc::EINVAL));
    }
    options.set_congestion(name).map_err(|_| os(libc::ENOENT))
}

/// What `SO_SNDBUF` becomes, in bytes.
pub(crate) fn send_buffer_from(size: u32, config: &Config) -> usize {
    (size as usize).min(config.send_buffer_max).max(MIN_SEND_BUFFER)
}

/// What `SO_RCVBUF` becomes, in bytes.
pub(crate) fn recv_buffer_from(size: u32, config: &Config) -> usize {
    (size as usize).min(config.recv_buffer_max).max(MIN_RECV_BUFFER)
}

/// A buffer size as Linux reports it: twice what was set, to account for its own overhead, or the
/// size at which an automatic buffer starts.
pub(crate) fn reported_buffer_size(set: Option<usize>, automatic: usize) -> u32 {
    let size = set.map_or(automatic, |size| size.saturating_mul(2));
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// Declares the options of [`HasTcpOptions`], `mtu_discover`, and those for the addresses of other hosts.
macro_rules! tcp_options {
    ($socket:ty) => {
        $crate::net::options::ip::mtu_discover_option!($socket);
        $crate::net::options::ip::foreign_address_options!($socket, "Accepted connections inherit it.");

        /// Options of TCP.
        impl $socket {
            /// The owner that the application has given the socket. Default 0, none.
            pub fn owner(&self) -> std::io::Result<u32> {
                Ok(self.options().owner)
            }

            /// Says whose socket it is, by a number that means something to the application: a client of a
            /// proxy, a container, a VM. The rows of [`Stack::sockets`](crate::Stack::sockets) show it. What a
            /// listener accepts has that of the listener.
            pub fn set_owner(&self, owner: u32) -> std::io::Result<()> {
                self.change(|options| options.owner = owner);
                Ok(())
            }

            /// `TCP_NODELAY`: whether small segments are sent at once. Default false.
            pub fn nodelay(&self) -> std::io::Result<bool> {
                Ok(self.options().nodelay)
            }

            /// Sets `TCP_NODELAY`, which turns Nagle's algorithm off. Data that Nagle's algorithm
            /// or `TCP_CORK` has held back is sent, even if the option was set before.
            pub fn set_nodelay(&self, nodelay: bool) -> std::io::Result<()> {
                self.change(|options| options.nodelay = nodelay);
                if nodelay {
                    self.push();
                }
                Ok(())
            }

            /// `TCP_NODELAY`, with the name of socket2.
            pub fn tcp_nodelay(&self) -> std::io::Result<bool> {
                self.nodelay()
            }

            /// Sets `TCP_NODELAY`, with the name of socket2.
            pub fn set_tcp_nodelay(&self, nodelay: bool) -> std::io::Result<()> {
                self.set_nodelay(nodelay)
            }

            /// `SO_LINGER`. Default none.
            pub fn linger(&self) -> std::io::Result<Option<std::time::Duration>> {
                Ok(self.options().linger)
            }

            /// Sets `SO_LINGER`: how long the stack tries to deliver data after the last handle was
            /// dropped, before it resets the connection. Zero resets it at once. Dropping never
            /// blocks.
            pub fn set_linger(&self, linger: Option<std::time::Duration>) -> std::io::Result<()> {
                self.change(|options| options.linger = linger);
                Ok(())
            }

            /// Makes dropping the last handle reset the connection and discard unsent data.
            pub fn set_zero_linger(&self) -> std::io::Result<()> {
                self.set_linger(Some(std::time::Duration::ZERO))
            }

            /// `TCP_LINGER2`. Default none, which means
            /// [`Config::fin_timeout`](crate::Config::fin_timeout).
            pub fn tcp_linger2(&self) -> std::io::Result<Option<std::time::Duration>> {
                Ok(self.options().linger2)
            }

            /// Sets `TCP_LINGER2`: how long a connection whose last handle was dropped waits in
            /// FIN-WAIT-2 for the peer's FIN. The time is at most 120 s and at least 3.5 times the
            /// retransmission timeout. Zero corresponds to a negative value in Linux: the
            /// connection is reset at once.
            pub fn set_tcp_linger2(&self, linger: Option<std::time::Duration>) -> std::io::Result<()> {
                self.change(|options| options.linger2 = $crate::net::options::tcp::linger2_from(linger));
                Ok(())
            }

            /// `SO_KEEPALIVE`. Default false.
            pub fn keepalive(&self) -> std::io::Result<bool> {
                Ok(self.options().keepalive)
            }

            /// Sets `SO_KEEPALIVE`: whether an idle peer is probed.
            pub fn set_keepalive(&self, keepalive: bool) -> std::io::Result<()> {
                self.change(|options| options.keepalive = keepalive);
                Ok(())
            }

            /// Turns keep-alive on with these parameters.
            ///
            /// # Errors
            /// `EINVAL` for a time that is zero or longer than 32767 s, or a number of probes that is
            /// not 1 to 127.
            pub fn set_tcp_keepalive(
                &self,
                keepalive: &$crate::net::tcp::TcpKeepalive,
            ) -> std::io::Result<()> {
                keepalive.check()?;
                self.change(|options| keepalive.apply(options));
                Ok(())
            }

            /// `TCP_KEEPIDLE`: idle time before the first keep-alive probe.
            pub fn tcp_keepalive_time(&self) -> std::io::Result<std::time::Duration> {
                Ok(self.options().keepalive_time)
            }

            /// `TCP_KEEPINTVL`: time between keep-alive probes.
            pub fn tcp_keepalive_interval(&self) -> std::io::Result<std::time::Duration> {
                Ok(self.options().keepalive_interval)
            }

            /// `TCP_KEEPCNT`: the number of unanswered probes after which the connection ends.
            pub fn tcp_keepalive_retries(&self) -> std::io::Result<u32> {
                Ok(self.options().keepalive_retries)
            }

            /// `TCP_USER_TIMEOUT`: how long data may stay unacknowledged. Default none.
            pub fn tcp_user_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
                Ok(self.options().user_timeout)
            }

            /// Sets `TCP_USER_TIMEOUT`; zero is the same as none.
            pub fn set_tcp_user_timeout(&self, timeout: Option<std::time::Duration>) -> std::io::Result<()> {
                self.change(|options| options.user_timeout = timeout.filter(|limit| !limit.is_zero()));
                Ok(())
            }

            /// `TCP_CORK`. Default false.
            pub fn tcp_cork(&self) -> std::io::Result<bool> {
                Ok(self.options().cork)
            }

            /// Sets `TCP_CORK`: whether partial segments are held back, for at most 200 ms.
            pub fn set_tcp_cork(&self, cork: bool) -> std::io::Result<()> {
                self.change(|options| options.cork = cork);
                Ok(())
            }

            /// Sets `TCP_MAXSEG`, the largest MSS that is used and advertised. 0 removes the limit.
            /// It applies to connections that are opened later.
            ///
            /// # Errors
            /// `EINVAL` if it is neither 0 nor 88 to 32767.
            pub fn set_tcp_mss(&self, mss: u32) -> std::io::Result<()> {
                let limit = $crate::net::options::tcp::mss_limit_from(mss)?;
                self.change(|options| options.max_segment_size = limit);
                Ok(())
            }

            /// `TCP_DEFER_ACCEPT`. Default none.
            pub fn tcp_defer_accept(&self) -> std::io::Result<Option<std::time::Duration>> {
                Ok(self.options().defer_accept_time(self.config()))
            }

            /// Sets `TCP_DEFER_ACCEPT`: how long a listener waits for the first data of a client
            /// before `accept` returns the connection without data. The time is rounded up to that
            /// of a number of SYN-ACK retransmissions: 1 s, 3 s, 7 s and so on. On a client, the
            /// acknowledgment that completes the handshake waits for up to 200 ms for data that can
            /// carry it. `None` or zero turns it off.
            pub fn set_tcp_defer_accept(&self, time: Option<std::time::Duration>) -> std::io::Result<()> {
                self.change(|options| options.set_defer_accept_time(time, self.config()));
                Ok(())
            }

            /// `TCP_NOTSENT_LOWAT`: the number of unsent bytes at which writes are no longer
            /// accepted. 0, the default, means the setting of the stack.
            pub fn tcp_notsent_lowat(&self) -> std::io::Result<u32> {
                let low_water = self.options().notsent_lowat.unwrap_or(0);
                Ok(u32::try_from(low_water).unwrap_or(u32::MAX))
            }

            /// Sets `TCP_NOTSENT_LOWAT`. 0 means the setting of the stack. The socket is writable
            /// while fewer than half of these bytes are unsent.
            pub fn set_tcp_notsent_lowat(&self, bytes: u32) -> std::io::Result<()> {
                let low_water = (bytes > 0).then_some(bytes as usize);
                self.change(|options| options.notsent_lowat = low_water);
                Ok(())
            }

            /// `TCP_CONGESTION`: the name of the congestion control.
            pub fn tcp_congestion(&self) -> std::io::Result<Vec<u8>> {
                Ok(self.options().congestion.name().as_str().as_bytes().to_vec())
            }

            /// Sets `TCP_CONGESTION`: the name of an algorithm that is built in (`cubic`, `reno` or `bbr`)
            /// or registered with
            /// [`StackBuilder::congestion_control`](crate::StackBuilder::congestion_control). As on Linux
            /// the name ends at the first NUL and after 15 bytes, and a connection keeps its window and its
            /// slow start threshold.
            ///
            /// # Errors
            /// `ENOENT` if the stack has no congestion control of this name; `EINVAL` if `name` is
            /// empty.
            pub fn set_tcp_congestion(&self, name: &[u8]) -> std::io::Result<()> {
                self.change(|options| $crate::net::options::tcp::set_congestion(options, name))
            }

            /// `SO_MAX_PACING_RATE` in bytes per second; `u64::MAX` if it is not set.
            pub fn max_pacing_rate(&self) -> std::io::Result<u64> {
                Ok(self.options().max_pacing_rate.unwrap_or(u64::MAX))
            }

            /// Sets `SO_MAX_PACING_RATE` in bytes per second. Segments are paced, and this is the
            /// maximum rate. 0 and `u64::MAX` remove the limit.
            pub fn set_max_pacing_rate(&self, rate: u64) -> std::io::Result<()> {
                let limit = (rate != 0 && rate != u64::MAX).then_some(rate);
                self.change(|options| options.max_pacing_rate = limit);
                Ok(())
            }

            /// How many events a connection keeps of its history. Default
            /// [`Config::history`](crate::Config::history).
            pub fn history_limit(&self) -> std::io::Result<u32> {
                Ok(self.options().history)
            }

            /// Sets how many events a connection keeps of its history; 0 keeps none, and forgets what
            /// there is. See [`TcpStream::history`](crate::net::TcpStream::history).
            pub fn set_history(&self, events: u32) -> std::io::Result<()> {
                self.change(|options| options.history = events);
                Ok(())
            }

            /// `SO_SNDBUF`: twice the value that was set, as on Linux, or the initial size of an
            /// auto-tuned buffer.
            pub fn send_buffer_size(&self) -> std::io::Result<u32> {
                let (set, automatic) = (self.options().send_buffer_size, self.config().send_buffer_initial);
                Ok($crate::net::options::tcp::reported_buffer_size(set, automatic))
            }

            /// Sets `SO_SNDBUF`, within the limits of the stack, and turns auto-tuning off.
            pub fn set_send_buffer_size(&self, size: u32) -> std::io::Result<()> {
                let size = $crate::net::options::tcp::send_buffer_from(size, self.config());
                self.change(|options| options.send_buffer_size = Some(size));
                Ok(())
            }

            /// `SO_RCVBUF`: twice the value that was set, as on Linux, or the initial size of an
            /// auto-tuned buffer.
            pub fn recv_buffer_size(&self) -> std::io::Result<u32> {
                let (set, automatic) = (self.options().recv_buffer_size, self.config().recv_buffer_initial);
                Ok($crate::net::options::tcp::reported_buffer_size(set, automatic))
            }

            /// Sets `SO_RCVBUF`, within the limits of the stack, and turns auto-tuning off. If it
            /// is set before the connection is opened, the window scale is chosen accordingly.
            pub fn set_recv_buffer_size(&self, size: u32) -> std::io::Result<()> {
                let size = $crate::net::options::tcp::recv_buffer_from(size, self.config());
                self.change(|options| options.recv_buffer_size = Some(size));
                Ok(())
            }
        }
    };
}
pub(crate) use tcp_options;
