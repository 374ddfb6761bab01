//! The options that all TCP sockets have, under the names of tokio and of socket2.

use super::{PendingListener, TcpListener, TcpSocket, TcpStream};
use crate::config::Config;
use crate::config::MtuDiscover;
use crate::error::os;
use crate::tcp::SocketOptions;
use crate::time::Duration;
use std::io;

/// Smallest buffers, before Linux's doubling: `SOCK_MIN_SNDBUF` and `SOCK_MIN_RCVBUF`.
const MIN_SEND_BUFFER: usize = 2304;
const MIN_RECV_BUFFER: usize = 1152;

/// Longest keep-alive times (`MAX_TCP_KEEPIDLE`, `MAX_TCP_KEEPINTVL`) and most probes.
const MAX_KEEPALIVE: Duration = Duration::from_secs(32_767);
const MAX_KEEPALIVE_RETRIES: u32 = 127;

/// `TCP_FIN_TIMEOUT_MAX` in Linux.
const MAX_LINGER2: Duration = Duration::from_secs(120);

/// What `TCP_MAXSEG` may be: `TCP_MIN_MSS` and `MAX_TCP_WINDOW`.
const MSS_RANGE: std::ops::RangeInclusive<u32> = 88..=32_767;

/// A socket whose options can be read and changed.
pub(super) trait HasOptions {
    fn config(&self) -> &Config;
    fn options(&self) -> SocketOptions;
    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> R;
    /// Sends what is queued, if this is a connection.
    fn push(&self) {}
}

/// Parameters of keep-alive, for `set_tcp_keepalive`; what is not set stays as it is.
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
    /// Nothing set.
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

    /// `TCP_KEEPCNT`: probes without an answer that end the connection.
    #[must_use]
    pub const fn with_retries(self, retries: u32) -> Self {
        Self { retries: Some(retries), ..self }
    }

    /// Checks the values as setsockopt(2) does.
    fn check(&self) -> io::Result<()> {
        let times = [self.time, self.interval];
        let times_fit = times.iter().flatten().all(|time| !time.is_zero() && *time <= MAX_KEEPALIVE);
        let retries_fit = self.retries.is_none_or(|n| (1..=MAX_KEEPALIVE_RETRIES).contains(&n));
        if times_fit && retries_fit { Ok(()) } else { Err(os(libc::EINVAL)) }
    }
}

/// The options of any TCP socket, under the names of `socket2::SockRef`.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// # let stack = netstack::Stack::builder().build()?;
/// use netstack::net::SockRef;
///
/// let socket = stack.tcp_socket_v4()?;
/// SockRef::from(&socket).set_tcp_nodelay(true)?;
/// assert!(socket.nodelay()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SockRef<'a>(Socket<'a>);

#[derive(Debug)]
enum Socket<'a> {
    Stream(&'a TcpStream),
    Listener(&'a TcpListener),
    Unconnected(&'a TcpSocket),
}

impl<'a> From<&'a TcpStream> for SockRef<'a> {
    fn from(stream: &'a TcpStream) -> Self {
        Self(Socket::Stream(stream))
    }
}

impl<'a> From<&'a TcpListener> for SockRef<'a> {
    fn from(listener: &'a TcpListener) -> Self {
        Self(Socket::Listener(listener))
    }
}

impl<'a> From<&'a TcpSocket> for SockRef<'a> {
    fn from(socket: &'a TcpSocket) -> Self {
        Self(Socket::Unconnected(socket))
    }
}

impl SockRef<'_> {
    /// Shuts down one direction of a connection, or both, as shutdown(2) does. Nothing goes out for
    /// [`Shutdown::Read`](std::net::Shutdown::Read).
    ///
    /// # Errors
    /// `ENOTCONN` if there is no connection.
    pub fn shutdown(&self, how: std::net::Shutdown) -> io::Result<()> {
        match &self.0 {
            Socket::Stream(stream) => stream.shutdown_directions(how),
            Socket::Listener(_) | Socket::Unconnected(_) => Err(os(libc::ENOTCONN)),
        }
    }
}

impl HasOptions for SockRef<'_> {
    fn config(&self) -> &Config {
        match &self.0 {
            Socket::Stream(socket) => socket.config(),
            Socket::Listener(socket) => socket.config(),
            Socket::Unconnected(socket) => socket.config(),
        }
    }

    fn options(&self) -> SocketOptions {
        match &self.0 {
            Socket::Stream(socket) => socket.options(),
            Socket::Listener(socket) => socket.options(),
            Socket::Unconnected(socket) => socket.options(),
        }
    }

    fn change<R>(&self, change: impl FnOnce(&mut SocketOptions) -> R) -> R {
        match &self.0 {
            Socket::Stream(socket) => socket.change(change),
            Socket::Listener(socket) => socket.change(change),
            Socket::Unconnected(socket) => socket.change(change),
        }
    }

    fn push(&self) {
        if let Socket::Stream(stream) = &self.0 {
            stream.push();
        }
    }
}

/// A buffer size as Linux reports it: twice what was set, to account for its own overhead.
fn reported(set: Option<usize>, automatic: usize) -> usize {
    set.map_or(automatic, |size| size.saturating_mul(2))
}

/// Declares the options once for every type that has them; inherent methods cannot be shared in
/// another way.
macro_rules! socket_options {
    ($socket:ty) => {
        /// Options. None of the setters fails on a socket that exists, unless it says so.
        impl $socket {
            /// `TCP_NODELAY`: whether small segments are sent at once. Default false.
            ///
            /// # Errors
            /// None; a result for the sake of `tokio::net`.
            pub fn nodelay(&self) -> io::Result<bool> {
                Ok(self.options().nodelay)
            }

            /// Sets `TCP_NODELAY`, which turns Nagle's algorithm off. What it held back is sent, and
            /// so is what `TCP_CORK` holds back, also if the option was set before.
            ///
            /// # Errors
            /// None; a result for the sake of `tokio::net`.
            pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
                self.change(|options| options.nodelay = nodelay);
                if nodelay {
                    self.push();
                }
                Ok(())
            }

            /// `TCP_NODELAY` under the name of socket2.
            ///
            /// # Errors
            /// None.
            pub fn tcp_nodelay(&self) -> io::Result<bool> {
                self.nodelay()
            }

            /// Sets `TCP_NODELAY` under the name of socket2.
            ///
            /// # Errors
            /// None.
            pub fn set_tcp_nodelay(&self, nodelay: bool) -> io::Result<()> {
                self.set_nodelay(nodelay)
            }

            /// `SO_LINGER`. Default none.
            ///
            /// # Errors
            /// None; a result for the sake of `tokio::net`.
            pub fn linger(&self) -> io::Result<Option<Duration>> {
                Ok(self.options().linger)
            }

            /// Sets `SO_LINGER`: how long the stack tries to deliver after the last handle was
            /// dropped, before it resets the connection. Zero resets at once. Dropping never blocks.
            ///
            /// # Errors
            /// None; a result for the sake of `tokio::net`.
            pub fn set_linger(&self, linger: Option<Duration>) -> io::Result<()> {
                self.change(|options| options.linger = linger);
                Ok(())
            }

            /// Makes the drop of the last handle reset the connection and discard unsent data.
            ///
            /// # Errors
            /// None; a result for the sake of `tokio::net`.
            pub fn set_zero_linger(&self) -> io::Result<()> {
                self.set_linger(Some(Duration::ZERO))
            }

            /// `TCP_LINGER2`, where it was set. Default none, which means
            /// [`Config::fin_timeout`](crate::Config::fin_timeout).
            ///
            /// # Errors
            /// None.
            pub fn tcp_linger2(&self) -> io::Result<Option<Duration>> {
                Ok(self.options().linger2)
            }

            /// Sets `TCP_LINGER2`: how long a connection whose last handle was dropped waits in
            /// FIN-WAIT-2 for the peer's FIN, 120 s at most and 3.5 times the retransmission timeout at
            /// least. Zero is Linux's negative value: it does not wait but resets.
            ///
            /// # Errors
            /// None.
            pub fn set_tcp_linger2(&self, linger: Option<Duration>) -> io::Result<()> {
                self.change(|options| options.linger2 = linger.map(|time| time.min(MAX_LINGER2)));
                Ok(())
            }

            /// `SO_KEEPALIVE`. Default false.
            ///
            /// # Errors
            /// None; a result for the sake of `tokio::net`.
            pub fn keepalive(&self) -> io::Result<bool> {
                Ok(self.options().keepalive)
            }

            /// Sets `SO_KEEPALIVE`: whether an idle peer is probed.
            ///
            /// # Errors
            /// None; a result for the sake of `tokio::net`.
            pub fn set_keepalive(&self, keepalive: bool) -> io::Result<()> {
                self.change(|options| options.keepalive = keepalive);
                Ok(())
            }

            /// Turns keep-alive on with these parameters.
            ///
            /// # Errors
            /// `EINVAL` for a time that is zero or longer than 32767 s, or a number of probes that is
            /// not 1 to 127.
            pub fn set_tcp_keepalive(&self, keepalive: &TcpKeepalive) -> io::Result<()> {
                keepalive.check()?;
                self.change(|options| {
                    options.keepalive = true;
                    options.keepalive_time = keepalive.time.unwrap_or(options.keepalive_time);
                    options.keepalive_interval = keepalive.interval.unwrap_or(options.keepalive_interval);
                    options.keepalive_retries = keepalive.retries.unwrap_or(options.keepalive_retries);
                });
                Ok(())
            }

            /// `TCP_KEEPIDLE`: idle time before the first keep-alive probe.
            ///
            /// # Errors
            /// None.
            pub fn tcp_keepalive_time(&self) -> io::Result<Duration> {
                Ok(self.options().keepalive_time)
            }

            /// `TCP_KEEPINTVL`: time between keep-alive probes.
            ///
            /// # Errors
            /// None.
            pub fn tcp_keepalive_interval(&self) -> io::Result<Duration> {
                Ok(self.options().keepalive_interval)
            }

            /// `TCP_KEEPCNT`: probes without an answer that end the connection.
            ///
            /// # Errors
            /// None.
            pub fn tcp_keepalive_retries(&self) -> io::Result<u32> {
                Ok(self.options().keepalive_retries)
            }

            /// `TCP_USER_TIMEOUT`: how long data may stay unacknowledged. Default none.
            ///
            /// # Errors
            /// None.
            pub fn tcp_user_timeout(&self) -> io::Result<Option<Duration>> {
                Ok(self.options().user_timeout)
            }

            /// Sets `TCP_USER_TIMEOUT`; zero is the same as none.
            ///
            /// # Errors
            /// None.
            pub fn set_tcp_user_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
                self.change(|options| options.user_timeout = timeout.filter(|limit| !limit.is_zero()));
                Ok(())
            }

            /// `TCP_CORK`. Default false.
            ///
            /// # Errors
            /// None.
            pub fn tcp_cork(&self) -> io::Result<bool> {
                Ok(self.options().cork)
            }

            /// Sets `TCP_CORK`: whether partial segments are held back, for 200 ms at most.
            ///
            /// # Errors
            /// None.
            pub fn set_tcp_cork(&self, cork: bool) -> io::Result<()> {
                self.change(|options| options.cork = cork);
                Ok(())
            }

            /// Sets `TCP_MAXSEG`, the largest MSS that is used and announced; 0 leaves it to the
            /// path. Counts for connections that begin later.
            ///
            /// # Errors
            /// `EINVAL` if it is neither 0 nor 88 to 32767.
            pub fn set_tcp_mss(&self, mss: u32) -> io::Result<()> {
                let limit = match mss {
                    0 => None,
                    mss if MSS_RANGE.contains(&mss) => u16::try_from(mss).ok(),
                    _ => return Err(os(libc::EINVAL)),
                };
                self.change(|options| options.max_segment_size = limit);
                Ok(())
            }

            /// `IP_MTU_DISCOVER`, or `IPV6_MTU_DISCOVER`. Default
            /// [`Config::mtu_discover`](crate::config::Config::mtu_discover).
            ///
            /// # Errors
            /// None.
            pub fn mtu_discover(&self) -> io::Result<MtuDiscover> {
                Ok(self.options().mtu_discover)
            }

            /// Sets `IP_MTU_DISCOVER` and `IPV6_MTU_DISCOVER`: whether packets may be fragmented on
            /// the way, and whether ICMP makes them smaller. Counts at once.
            ///
            /// # Errors
            /// None.
            pub fn set_mtu_discover(&self, mtu_discover: MtuDiscover) -> io::Result<()> {
                self.change(|options| options.mtu_discover = mtu_discover);
                Ok(())
            }

            /// `TCP_DEFER_ACCEPT`. Default none.
            ///
            /// # Errors
            /// None.
            pub fn tcp_defer_accept(&self) -> io::Result<Option<Duration>> {
                Ok(self.options().defer_accept_time(self.config()))
            }

            /// Sets `TCP_DEFER_ACCEPT`: for how long a listener waits for the first data of a client
            /// before it hands the connection out without any. The time is rounded up to what a
            /// number of retransmissions of the SYN-ACK takes: 1 s, 3 s, 7 s and so on. On a client,
            /// the acknowledgment that completes the handshake waits for up to 200 ms for data to
            /// carry it. None or zero turns it off.
            ///
            /// # Errors
            /// None.
            pub fn set_tcp_defer_accept(&self, time: Option<Duration>) -> io::Result<()> {
                self.change(|options| options.set_defer_accept_time(time, self.config()));
                Ok(())
            }

            /// `TCP_NOTSENT_LOWAT`: unsent bytes from which on nothing more may be written. 0, the
            /// default, is the setting of the stack.
            ///
            /// # Errors
            /// None.
            pub fn tcp_notsent_lowat(&self) -> io::Result<u32> {
                let low_water = self.options().notsent_lowat.unwrap_or(0);
                Ok(u32::try_from(low_water).unwrap_or(u32::MAX))
            }

            /// Sets `TCP_NOTSENT_LOWAT`; 0 is the setting of the stack. The socket is writable while
            /// less than half of it is unsent.
            ///
            /// # Errors
            /// None.
            pub fn set_tcp_notsent_lowat(&self, bytes: u32) -> io::Result<()> {
                let low_water = (bytes > 0).then_some(bytes as usize);
                self.change(|options| options.notsent_lowat = low_water);
                Ok(())
            }

            /// `TCP_CONGESTION`: the name of the congestion control.
            ///
            /// # Errors
            /// None.
            pub fn tcp_congestion(&self) -> io::Result<Vec<u8>> {
                Ok(self.options().congestion.name().as_str().as_bytes().to_vec())
            }

            /// Sets `TCP_CONGESTION`: the name of an algorithm that is built in, `cubic`, `reno` or `bbr`,
            /// or registered with
            /// [`StackBuilder::congestion_control`](crate::StackBuilder::congestion_control). As on Linux
            /// the name ends at the first NUL and after 15 bytes, and a connection keeps its window and its
            /// slow start threshold.
            ///
            /// # Errors
            /// `ENOENT` if the stack knows no congestion control of this name; `EINVAL` if `name` is empty.
            pub fn set_tcp_congestion(&self, name: &[u8]) -> io::Result<()> {
                if name.is_empty() {
                    return Err(os(libc::EINVAL));
                }
                self.change(|options| options.set_congestion(name)).map_err(|_| os(libc::ENOENT))
            }

            /// `SO_MAX_PACING_RATE` in bytes a second; `u64::MAX` if it is not set.
            ///
            /// # Errors
            /// None.
            pub fn max_pacing_rate(&self) -> io::Result<u64> {
                Ok(self.options().max_pacing_rate.unwrap_or(u64::MAX))
            }

            /// Sets `SO_MAX_PACING_RATE` in bytes a second: segments are spread over time, at this rate at
            /// most. 0 and `u64::MAX` lift the limit.
            ///
            /// # Errors
            /// None.
            pub fn set_max_pacing_rate(&self, rate: u64) -> io::Result<()> {
                let limit = (rate != 0 && rate != u64::MAX).then_some(rate);
                self.change(|options| options.max_pacing_rate = limit);
                Ok(())
            }

            /// `SO_SNDBUF`: twice what was set, as on Linux, or the size at which an automatic buffer
            /// starts to grow.
            ///
            /// # Errors
            /// None.
            pub fn send_buffer_size(&self) -> io::Result<u32> {
                let size = reported(self.options().send_buffer_size, self.config().send_buffer_initial);
                Ok(u32::try_from(size).unwrap_or(u32::MAX))
            }

            /// Sets `SO_SNDBUF`, within the limits of the stack, and turns its growth off.
            ///
            /// # Errors
            /// None.
            pub fn set_send_buffer_size(&self, size: u32) -> io::Result<()> {
                let size = (size as usize).min(self.config().send_buffer_max).max(MIN_SEND_BUFFER);
                self.change(|options| options.send_buffer_size = Some(size));
                Ok(())
            }

            /// `SO_RCVBUF`: twice what was set, as on Linux, or the size at which an automatic buffer
            /// starts to grow.
            ///
            /// # Errors
            /// None.
            pub fn recv_buffer_size(&self) -> io::Result<u32> {
                let size = reported(self.options().recv_buffer_size, self.config().recv_buffer_initial);
                Ok(u32::try_from(size).unwrap_or(u32::MAX))
            }

            /// Sets `SO_RCVBUF`, within the limits of the stack, and turns its growth off. The window
            /// scale follows it if it is set before the connection begins.
            ///
            /// # Errors
            /// None.
            pub fn set_recv_buffer_size(&self, size: u32) -> io::Result<()> {
                let size = (size as usize).min(self.config().recv_buffer_max).max(MIN_RECV_BUFFER);
                self.change(|options| options.recv_buffer_size = Some(size));
                Ok(())
            }
        }
    };
}

socket_options!(TcpStream);
socket_options!(TcpListener);
socket_options!(PendingListener);
socket_options!(TcpSocket);
socket_options!(SockRef<'_>);
