//! Options of TCP, and those of the socket layer that its sockets have.

use super::ip::{ForeignAddresses, IpChange, IpValues, socket_family};
use crate::config::Config;
use crate::error::os;
use crate::stack::{Family, IpOptions};
use crate::tcp::SocketOptions;
use crate::time::Duration;
use std::io;
use std::net::SocketAddr;
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

/// What `TCP_MAXSEG` says before there is a connection (`TCP_MSS_DEFAULT`).
const DEFAULT_MSS: u32 = 536;

/// `MAX_TCP_SYNCNT`.
const MAX_SYN_RETRIES: u32 = 127;

/// The least that `TCP_WINDOW_CLAMP` can be: half of `SOCK_MIN_RCVBUF`.
const MIN_WINDOW_CLAMP: usize = MIN_RECV_BUFFER;

/// How far a TCP socket has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// It neither connects nor listens.
    Unconnected,
    Listening,
    Connected,
}

/// A socket whose TCP options can be read and changed, unless it is none of TCP.
pub(crate) trait HasTcpOptions {
    fn config(&self) -> &Config;
    /// Fails for a socket of another protocol.
    fn options(&self) -> io::Result<SocketOptions>;
    /// Fails for a socket of another protocol.
    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> io::Result<R>;
    fn progress(&self) -> Progress;
    /// Its connection, if it is one.
    fn connection(&self) -> Option<&dyn ConnectionOptions> {
        None
    }

    /// Fails unless the socket has not connected yet: options of the handshake.
    fn before_connection(&self) -> io::Result<()> {
        if self.progress() == Progress::Connected { Err(os(libc::EINVAL)) } else { Ok(()) }
    }
}

/// What of the options a connection alone knows.
pub(crate) trait ConnectionOptions {
    /// Sends what is queued.
    fn push(&self);
    fn is_quick(&self) -> bool;
    fn set_quick(&self, on: bool);
    /// Payload bytes of a full segment.
    fn mss(&self) -> io::Result<usize>;
    /// The largest window, in bytes; none once the connection is over.
    fn window_limit(&self) -> Option<usize>;
    fn original_dst(&self) -> SocketAddr;
}

/// What there is to read of a TCP socket's options of the IP layer.
pub(crate) fn ip_values(ip: IpOptions, options: &SocketOptions) -> IpValues {
    let SocketOptions { mtu_discover, freebind, transparent, owner, .. } = *options;
    IpValues { ip, mtu_discover, freebind, transparent, owner }
}

/// Makes a change of a TCP socket that is one of a value alone. Gives back one that is not.
pub(crate) fn change_value<'a>(
    socket: &impl HasTcpOptions,
    change: IpChange<'a>,
) -> io::Result<Option<IpChange<'a>>> {
    match change {
        IpChange::MtuDiscover(mode) => socket.change(|options| options.mtu_discover = mode)?,
        IpChange::Foreign(ForeignAddresses::Freebind, on) => {
            socket.change(|options| options.freebind = on)?
        }
        IpChange::Foreign(ForeignAddresses::Transparent, on) => {
            socket.change(|options| options.transparent = on)?;
        }
        IpChange::Owner(owner) => socket.change(|options| options.owner = owner)?,
        IpChange::ReuseAddress(_) | IpChange::ReusePort(_) | IpChange::OnlyV6(_) | IpChange::Device(_) => {
            return Ok(Some(change));
        }
    }
    Ok(None)
}

/// Keep-alive parameters for `set_tcp_keepalive`. Parameters that are not set remain unchanged.
///
/// # Examples
/// ```
/// use netstack::TcpKeepalive;
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

/// What `TCP_SYNCNT` becomes.
pub(crate) fn syn_retries_from(count: u32) -> io::Result<u32> {
    if (1..=MAX_SYN_RETRIES).contains(&count) { Ok(count) } else { Err(os(libc::EINVAL)) }
}

/// What `TCP_WINDOW_CLAMP` becomes. 0 removes the limit of a socket that has not connected yet.
pub(crate) fn window_clamp_from(bytes: u32, progress: Progress) -> io::Result<Option<usize>> {
    match bytes {
        0 if progress == Progress::Unconnected => Ok(None),
        0 => Err(os(libc::EINVAL)),
        bytes => Ok(Some((bytes as usize).max(MIN_WINDOW_CLAMP))),
    }
}

/// `TCP_MAXSEG` of a socket: what is used, or before there is a connection what is set.
pub(crate) fn mss_of(socket: &impl HasTcpOptions) -> io::Result<u32> {
    let options = socket.options()?;
    match socket.connection() {
        Some(connection) => Ok(u32::try_from(connection.mss()?).unwrap_or(u32::MAX)),
        None => Ok(options.max_segment_size.map_or(DEFAULT_MSS, u32::from)),
    }
}

/// `TCP_WINDOW_CLAMP` of a socket: the largest window of a connection, or what is set.
pub(crate) fn window_clamp_of(socket: &impl HasTcpOptions) -> io::Result<u32> {
    let options = socket.options()?;
    let limit = options.window_clamp.or_else(|| socket.connection()?.window_limit());
    Ok(limit.map_or(0, |bytes| u32::try_from(bytes).unwrap_or(u32::MAX)))
}

/// `TCP_QUICKACK` of a socket: what acknowledgments are at the moment, or how they begin.
pub(crate) fn quickack_of(socket: &impl HasTcpOptions) -> io::Result<bool> {
    let options = socket.options()?;
    Ok(socket.connection().map_or(options.quickack, ConnectionOptions::is_quick))
}

/// Sets `TCP_QUICKACK`, of a connection for the moment.
pub(crate) fn set_quickack_of(socket: &impl HasTcpOptions, on: bool) -> io::Result<()> {
    match socket.connection() {
        Some(connection) => connection.set_quick(on),
        None => socket.change(|options| options.quickack = on)?,
    }
    Ok(())
}

/// `SO_ORIGINAL_DST` of a socket, for packets of this family.
pub(crate) fn original_dst_of(socket: &impl HasTcpOptions, family: Family) -> io::Result<SocketAddr> {
    socket.options().map_err(|_| os(libc::ENOPROTOOPT))?;
    let address = socket.connection().map(ConnectionOptions::original_dst);
    address.filter(|address| socket_family(*address) == family).ok_or_else(|| os(libc::ENOENT))
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
fn reported_buffer_size(set: Option<usize>, automatic: usize) -> u32 {
    let size = set.map_or(automatic, |size| size.saturating_mul(2));
    u32::try_from(size).unwrap_or(u32::MAX)
}

/// `SO_SNDBUF` of a socket.
pub(crate) fn send_buffer_of(socket: &impl HasTcpOptions) -> io::Result<u32> {
    Ok(reported_buffer_size(socket.options()?.send_buffer_size, socket.config().send_buffer_initial))
}

/// Sets `SO_SNDBUF` of a socket.
pub(crate) fn set_send_buffer_of(socket: &impl HasTcpOptions, size: u32) -> io::Result<()> {
    let size = send_buffer_from(size, socket.config());
    socket.change(|options| options.send_buffer_size = Some(size))
}

/// `SO_RCVBUF` of a socket.
pub(crate) fn recv_buffer_of(socket: &impl HasTcpOptions) -> io::Result<u32> {
    Ok(reported_buffer_size(socket.options()?.recv_buffer_size, socket.config().recv_buffer_initial))
}

/// Sets `SO_RCVBUF` of a socket.
pub(crate) fn set_recv_buffer_of(socket: &impl HasTcpOptions, size: u32) -> io::Result<()> {
    let size = recv_buffer_from(size, socket.config());
    socket.change(|options| options.recv_buffer_size = Some(size))
}

/// Declares the options of [`HasTcpOptions`].
macro_rules! tcp_options {
    ($socket:ty) => {
        /// Options of TCP.
        impl $socket {
            /// `TCP_NODELAY`: whether small segments are sent at once. Default false.
            pub fn nodelay(&self) -> std::io::Result<bool> {
                Ok(self.options()?.nodelay)
            }

            /// Sets `TCP_NODELAY`, which turns Nagle's algorithm off. Data that Nagle's algorithm
            /// or `TCP_CORK` has held back is sent, even if the option was set before.
            pub fn set_nodelay(&self, nodelay: bool) -> std::io::Result<()> {
                self.change(|options| options.nodelay = nodelay)?;
                if let Some(connection) = self.connection().filter(|_| nodelay) {
                    connection.push();
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

            /// `TCP_LINGER2`. Default none, which means
            /// [`Config::fin_timeout`](crate::Config::fin_timeout).
            pub fn tcp_linger2(&self) -> std::io::Result<Option<std::time::Duration>> {
                Ok(self.options()?.linger2)
            }

            /// Sets `TCP_LINGER2`: how long a connection whose last handle was dropped waits in
            /// FIN-WAIT-2 for the peer's FIN. The time is at most 120 s and at least 3.5 times the
            /// retransmission timeout. Zero corresponds to a negative value in Linux: the
            /// connection is reset at once.
            pub fn set_tcp_linger2(&self, linger: Option<std::time::Duration>) -> std::io::Result<()> {
                self.change(|options| options.linger2 = $crate::net::options::tcp::linger2_from(linger))
            }

            /// `SO_KEEPALIVE`. Default false.
            pub fn keepalive(&self) -> std::io::Result<bool> {
                Ok(self.options()?.keepalive)
            }

            /// Sets `SO_KEEPALIVE`: whether an idle peer is probed.
            pub fn set_keepalive(&self, keepalive: bool) -> std::io::Result<()> {
                self.change(|options| options.keepalive = keepalive)
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
                self.change(|options| keepalive.apply(options))
            }

            /// `TCP_KEEPIDLE`: idle time before the first keep-alive probe.
            pub fn tcp_keepalive_time(&self) -> std::io::Result<std::time::Duration> {
                Ok(self.options()?.keepalive_time)
            }

            /// `TCP_KEEPINTVL`: time between keep-alive probes.
            pub fn tcp_keepalive_interval(&self) -> std::io::Result<std::time::Duration> {
                Ok(self.options()?.keepalive_interval)
            }

            /// `TCP_KEEPCNT`: the number of unanswered probes after which the connection ends.
            pub fn tcp_keepalive_retries(&self) -> std::io::Result<u32> {
                Ok(self.options()?.keepalive_retries)
            }

            /// `TCP_USER_TIMEOUT`: how long data may stay unacknowledged. Default none.
            pub fn tcp_user_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
                Ok(self.options()?.user_timeout)
            }

            /// Sets `TCP_USER_TIMEOUT`; zero is the same as none.
            pub fn set_tcp_user_timeout(&self, timeout: Option<std::time::Duration>) -> std::io::Result<()> {
                self.change(|options| options.user_timeout = timeout.filter(|limit| !limit.is_zero()))
            }

            /// `TCP_CORK`. Default false.
            pub fn tcp_cork(&self) -> std::io::Result<bool> {
                Ok(self.options()?.cork)
            }

            /// Sets `TCP_CORK`: whether partial segments are held back, for at most 200 ms.
            pub fn set_tcp_cork(&self, cork: bool) -> std::io::Result<()> {
                self.change(|options| options.cork = cork)
            }

            /// Sets `TCP_MAXSEG`, the largest MSS that is used and advertised. 0 removes the limit.
            /// It applies to connections that are opened later.
            ///
            /// # Errors
            /// `EINVAL` if it is neither 0 nor 88 to 32767.
            pub fn set_tcp_mss(&self, mss: u32) -> std::io::Result<()> {
                let limit = $crate::net::options::tcp::mss_limit_from(mss)?;
                self.change(|options| options.max_segment_size = limit)
            }

            /// `TCP_MAXSEG`: the payload bytes of a full segment of a connection. Before there is one, what
            /// [`set_tcp_mss`](Self::set_tcp_mss) has set, or 536.
            ///
            /// # Errors
            /// `ENOTCONN` if the stack or the device has failed and the state of the connection is lost.
            pub fn tcp_mss(&self) -> std::io::Result<u32> {
                $crate::net::options::tcp::mss_of(self)
            }

            /// `TCP_QUICKACK`: whether acknowledgments are sent at once. Default true. Over a device with a descriptor,
            /// at once is after the tasks that were woken have had a turn, if an answer of theirs may carry it.
            pub fn quickack(&self) -> std::io::Result<bool> {
                $crate::net::options::tcp::quickack_of(self)
            }

            /// Sets `TCP_QUICKACK`. TCP may change it later. Set to false before connecting, the acknowledgment
            /// that completes the handshake waits for up to 200 ms for data that can carry it, as with
            /// [`set_tcp_defer_accept`](Self::set_tcp_defer_accept). The connections of a listener begin with
            /// what is set for it.
            pub fn set_quickack(&self, quickack: bool) -> std::io::Result<()> {
                $crate::net::options::tcp::set_quickack_of(self, quickack)
            }

            /// `TCP_QUICKACK`, with the name of socket2.
            pub fn tcp_quickack(&self) -> std::io::Result<bool> {
                self.quickack()
            }

            /// Sets `TCP_QUICKACK`, with the name of socket2.
            pub fn set_tcp_quickack(&self, quickack: bool) -> std::io::Result<()> {
                self.set_quickack(quickack)
            }

            /// `TCP_THIN_LINEAR_TIMEOUTS`. Default false.
            pub fn tcp_thin_linear_timeouts(&self) -> std::io::Result<bool> {
                Ok(self.options()?.thin_linear_timeouts)
            }

            /// Sets `TCP_THIN_LINEAR_TIMEOUTS`: while fewer than four packets are in flight, the first six
            /// retransmission time-outs in a row are equally long. Otherwise each is twice as long as the one
            /// before.
            pub fn set_tcp_thin_linear_timeouts(&self, timeouts: bool) -> std::io::Result<()> {
                self.change(|options| options.thin_linear_timeouts = timeouts)
            }

            /// `TCP_SYNCNT`. Default [`Config::syn_retries`](crate::Config::syn_retries).
            pub fn tcp_syncnt(&self) -> std::io::Result<u32> {
                Ok(self.options()?.syn_retries)
            }

            /// Sets `TCP_SYNCNT`: for how long a SYN is sent again before connecting fails with `ETIMEDOUT`, as
            /// the number of retransmissions that take this long if their time-outs double.
            ///
            /// # Errors
            /// `EINVAL` if it is not 1 to 127.
            pub fn set_tcp_syncnt(&self, count: u32) -> std::io::Result<()> {
                let retries = $crate::net::options::tcp::syn_retries_from(count)?;
                self.change(|options| options.syn_retries = retries)
            }

            /// `TCP_WINDOW_CLAMP` in bytes. Of a connection for which it is not set, the largest window that its
            /// buffer permits at the moment; of another socket 0.
            pub fn tcp_window_clamp(&self) -> std::io::Result<u32> {
                $crate::net::options::tcp::window_clamp_of(self)
            }

            /// Sets `TCP_WINDOW_CLAMP`: the largest window that is offered to the peer, in bytes, and at least
            /// 1152. A window that was offered is not taken back. 0 removes the limit.
            ///
            /// # Errors
            /// `EINVAL` for 0 if the socket has connected or listens.
            pub fn set_tcp_window_clamp(&self, bytes: u32) -> std::io::Result<()> {
                use $crate::net::options::tcp::{HasTcpOptions, window_clamp_from};
                let clamp = window_clamp_from(bytes, HasTcpOptions::progress(self))?;
                self.change(|options| options.window_clamp = clamp)
            }

            /// `SO_ORIGINAL_DST` over IPv4: the address that the one who opened the connection sent to, which is
            /// the local address of what was accepted, whichever host's it is
            /// ([`Interface::any_ip`](crate::Interface::any_ip)). Nothing in a stack rewrites addresses.
            ///
            /// # Errors
            /// `ENOENT` if there is no connection over IPv4.
            pub fn original_dst_v4(&self) -> std::io::Result<std::net::SocketAddr> {
                $crate::net::options::tcp::original_dst_of(self, $crate::stack::Family::V4)
            }

            /// `SO_ORIGINAL_DST` over IPv6. See [`original_dst_v4`](Self::original_dst_v4).
            ///
            /// # Errors
            /// `ENOENT` if there is no connection over IPv6.
            pub fn original_dst_v6(&self) -> std::io::Result<std::net::SocketAddr> {
                $crate::net::options::tcp::original_dst_of(self, $crate::stack::Family::V6)
            }

            /// `TCP_DEFER_ACCEPT`. Default none.
            pub fn tcp_defer_accept(&self) -> std::io::Result<Option<std::time::Duration>> {
                Ok(self.options()?.defer_accept_time(self.config()))
            }

            /// Sets `TCP_DEFER_ACCEPT`: how long a listener waits for the first data of a client
            /// before `accept` returns the connection without data. The time is rounded up to that
            /// of a number of SYN-ACK retransmissions: 1 s, 3 s, 7 s and so on. On a client, the
            /// acknowledgment that completes the handshake waits for up to 200 ms for data that can
            /// carry it. `None` or zero turns it off.
            pub fn set_tcp_defer_accept(&self, time: Option<std::time::Duration>) -> std::io::Result<()> {
                self.change(|options| options.set_defer_accept_time(time, self.config()))
            }

            /// `TCP_NOTSENT_LOWAT`: the number of unsent bytes at which writes are no longer
            /// accepted. 0, the default, means the setting of the stack.
            pub fn tcp_notsent_lowat(&self) -> std::io::Result<u32> {
                let low_water = self.options()?.notsent_lowat.unwrap_or(0);
                Ok(u32::try_from(low_water).unwrap_or(u32::MAX))
            }

            /// Sets `TCP_NOTSENT_LOWAT`. 0 means the setting of the stack. The socket is writable
            /// while fewer than half of these bytes are unsent.
            pub fn set_tcp_notsent_lowat(&self, bytes: u32) -> std::io::Result<()> {
                let low_water = (bytes > 0).then_some(bytes as usize);
                self.change(|options| options.notsent_lowat = low_water)
            }

            /// `TCP_CONGESTION`: the name of the congestion control.
            pub fn tcp_congestion(&self) -> std::io::Result<Vec<u8>> {
                Ok(self.options()?.congestion.name().as_str().as_bytes().to_vec())
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
                self.change(|options| $crate::net::options::tcp::set_congestion(options, name))?
            }

            /// `SO_MAX_PACING_RATE` in bytes per second; `u64::MAX` if it is not set.
            pub fn max_pacing_rate(&self) -> std::io::Result<u64> {
                Ok(self.options()?.max_pacing_rate.unwrap_or(u64::MAX))
            }

            /// Sets `SO_MAX_PACING_RATE` in bytes per second. Segments are paced, and this is the
            /// maximum rate. 0 and `u64::MAX` remove the limit.
            pub fn set_max_pacing_rate(&self, rate: u64) -> std::io::Result<()> {
                let limit = (rate != 0 && rate != u64::MAX).then_some(rate);
                self.change(|options| options.max_pacing_rate = limit)
            }

            /// How many events a connection keeps of its history. Default
            /// [`Config::history`](crate::Config::history).
            pub fn history_limit(&self) -> std::io::Result<u32> {
                Ok(self.options()?.history)
            }

            /// Sets how many events a connection keeps of its history; 0 keeps none, and forgets what
            /// there is. See [`TcpStream::history`](crate::net::TcpStream::history).
            pub fn set_history(&self, events: u32) -> std::io::Result<()> {
                self.change(|options| options.history = events)
            }
        }
    };
}
pub(crate) use tcp_options;

/// Declares `SO_LINGER`, with attributes for its setter.
macro_rules! linger_option {
    ($socket:ty $(, #[$attribute:meta])*) => {
        /// What closing does.
        impl $socket {
            /// `SO_LINGER`. Default none.
            pub fn linger(&self) -> std::io::Result<Option<std::time::Duration>> {
                Ok(self.options()?.linger)
            }

            /// Sets `SO_LINGER`: how long the stack tries to deliver data after the last handle was
            /// dropped, before it resets the connection. Zero resets it at once. Dropping never
            /// blocks.
            $(#[$attribute])*
            pub fn set_linger(&self, linger: Option<std::time::Duration>) -> std::io::Result<()> {
                self.change(|options| options.linger = linger)
            }

            /// Makes dropping the last handle reset the connection and discard unsent data.
            pub fn set_zero_linger(&self) -> std::io::Result<()> {
                self.change(|options| options.linger = Some(std::time::Duration::ZERO))
            }
        }
    };
}
pub(crate) use linger_option;

/// Declares the sizes of the buffers of a TCP socket, as tokio's `u32`.
macro_rules! buffer_options {
    ($socket:ty) => {
        /// Buffers.
        impl $socket {
            /// `SO_SNDBUF`: twice the value that was set, as on Linux, or the initial size of an
            /// auto-tuned buffer.
            pub fn send_buffer_size(&self) -> std::io::Result<u32> {
                $crate::net::options::tcp::send_buffer_of(self)
            }

            /// Sets `SO_SNDBUF`, within the limits of the stack, and turns auto-tuning off.
            pub fn set_send_buffer_size(&self, size: u32) -> std::io::Result<()> {
                $crate::net::options::tcp::set_send_buffer_of(self, size)
            }

            /// `SO_RCVBUF`: twice the value that was set, as on Linux, or the initial size of an
            /// auto-tuned buffer.
            pub fn recv_buffer_size(&self) -> std::io::Result<u32> {
                $crate::net::options::tcp::recv_buffer_of(self)
            }

            /// Sets `SO_RCVBUF`, within the limits of the stack, and turns auto-tuning off. If it
            /// is set before the connection is opened, the window scale is chosen accordingly.
            pub fn set_recv_buffer_size(&self, size: u32) -> std::io::Result<()> {
                $crate::net::options::tcp::set_recv_buffer_of(self, size)
            }
        }
    };
}
pub(crate) use buffer_options;
