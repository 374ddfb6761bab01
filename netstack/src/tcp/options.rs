//! The options of one socket, with the names of Linux and socket2.

use super::backoff::backed_off;
use super::compact::{Reader, Writer, compact};
use super::congestion::{CongestionChoice, CongestionError};
use crate::config::{Config, CongestionName, FastOpenKeys, MtuDiscover};
use crate::time::Duration;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// The smallest MSS (`tcp_min_snd_mss`), in bytes.
const MIN_MSS: u16 = 48;

/// The largest buffer, in bytes: no window is larger (RFC 7323 §2.3).
const MAX_BUFFER: usize = 1 << 30;

/// Options of one TCP socket.
///
/// A connection that a listener accepts starts with a copy of the listener's.
// More than 16 fields: there are as many options as in the kernel, and each is set on its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// `TCP_NODELAY`: no Nagle algorithm. Default off.
    pub nodelay: bool,
    /// `TCP_CORK`: hold back partial segments, for at most 200 ms. Default off.
    pub cork: bool,
    /// `SO_KEEPALIVE`: probe an idle peer. Default off (RFC 9293 MUST-25).
    pub keepalive: bool,
    /// `TCP_KEEPIDLE`: idle time before the first probe. Default [`Config::keepalive_time`].
    pub keepalive_time: Duration,
    /// `TCP_KEEPINTVL`: time between probes. Default [`Config::keepalive_interval`].
    pub keepalive_interval: Duration,
    /// `TCP_KEEPCNT`: the number of unanswered probes after which the connection ends. Default
    /// [`Config::keepalive_retries`].
    pub keepalive_retries: u32,
    /// `TCP_USER_TIMEOUT`: how long data may stay unacknowledged. Default none.
    pub user_timeout: Option<Duration>,
    /// `SO_LINGER`: `Some(0)` makes close send a reset. Default none.
    pub linger: Option<Duration>,
    /// `TCP_LINGER2`: how long an orphan stays in FIN-WAIT-2, at least 3.5 times the retransmission
    /// timeout; `Some(0)` resets the connection instead. Default [`Config::fin_timeout`].
    pub linger2: Option<Duration>,
    /// `SO_SNDBUF` in bytes, before Linux's doubling: the send buffer may use twice as much memory,
    /// including overhead. None means auto-tuned.
    pub send_buffer_size: Option<usize>,
    /// `SO_RCVBUF` in bytes, before Linux's doubling: the receive buffer may use twice as much memory, and
    /// half of that, this size, is the largest window. None means auto-tuned.
    pub recv_buffer_size: Option<usize>,
    /// `TCP_MAXSEG`: upper limit of the MSS, in bytes, and what the SYN advertises.
    pub max_segment_size: Option<u16>,
    /// `TCP_NOTSENT_LOWAT`: the number of unsent bytes at which writes are no longer accepted; the
    /// socket is writable below half of it. None means [`Config::notsent_lowat`].
    pub notsent_lowat: Option<usize>,
    /// `TCP_SYNCNT`: how long a SYN is retransmitted, as the number of retransmissions that take this long if
    /// their time-outs double from the first one on. Default [`Config::syn_retries`].
    pub syn_retries: u32,
    /// `TCP_THIN_LINEAR_TIMEOUTS`: the retransmission time-out is not doubled for the first six in a row while fewer
    /// than four packets are in flight. Default off.
    pub thin_linear_timeouts: bool,
    /// `TCP_DEFER_ACCEPT`, as a number of SYN-ACK retransmissions: how long a listener waits for a
    /// peer's first data before `accept` returns the connection. A client delays the acknowledgment
    /// of the SYN-ACK so that its first data can carry it. Default 0, off.
    pub defer_accept: u8,
    /// `TCP_QUICKACK` before there is a connection. Off, a client acknowledges the SYN-ACK as with `defer_accept`, and
    /// a listener's connections begin with delayed acknowledgments. Default on.
    pub quickack: bool,
    /// `TCP_WINDOW_CLAMP`: upper limit of the advertised window in bytes.
    pub window_clamp: Option<usize>,
    /// `IP_MTU_DISCOVER`. Default [`Config::mtu_discover`].
    pub mtu_discover: MtuDiscover,
    /// `IP_FREEBIND` and `IPV6_FREEBIND`: bind to the address of another host, or one that the stack
    /// will have later. Default off.
    pub freebind: bool,
    /// `IP_TRANSPARENT` and `IPV6_TRANSPARENT`: as `freebind`, and connect from such an address over IPv4
    /// too. Default off.
    pub transparent: bool,
    /// `SO_MAX_PACING_RATE` in bytes per second: segments are paced, and this is the maximum rate.
    /// Default none.
    pub max_pacing_rate: Option<u64>,
    /// `TCP_CONGESTION`. Default [`Config::congestion`]. See [`SocketOptions::set_congestion`].
    pub congestion: CongestionChoice,
    /// `TCP_FASTOPEN`: the maximum number of connections of a listener that wait for the third
    /// segment of their handshake. 0 turns Fast Open off. Default 0.
    pub fastopen_queue: u32,
    /// `TCP_FASTOPEN_CONNECT`: the SYN carries the data of the first write. Default off.
    pub fastopen_connect: bool,
    /// `TCP_FASTOPEN_NO_COOKIE`: data in SYNs needs no cookie. Default off.
    pub fastopen_no_cookie: bool,
    /// `TCP_FASTOPEN_KEY`: keys of this listener. Default none: those of the stack.
    pub fastopen_key: Option<Arc<FastOpenKeys>>,
    /// A number of the application's, which [`SocketInfo::owner`](crate::stack::SocketInfo::owner) shows.
    /// Default 0, none.
    pub owner: u32,
    /// How many events the connection keeps of its history. Default [`Config::history`].
    pub history: u32,
}

impl SocketOptions {
    /// The options of a new socket, with the congestion control that [`Config::congestion`] names.
    pub fn with_congestion(config: &Config, congestion: CongestionChoice) -> Self {
        Self {
            nodelay: false,
            cork: false,
            keepalive: false,
            keepalive_time: config.keepalive_time,
            keepalive_interval: config.keepalive_interval,
            keepalive_retries: config.keepalive_retries,
            user_timeout: config.user_timeout,
            linger: None,
            linger2: None,
            send_buffer_size: None,
            recv_buffer_size: None,
            max_segment_size: None,
            notsent_lowat: None,
            syn_retries: config.syn_retries,
            thin_linear_timeouts: false,
            defer_accept: 0,
            quickack: true,
            window_clamp: None,
            mtu_discover: config.mtu_discover,
            freebind: false,
            transparent: false,
            max_pacing_rate: None,
            congestion,
            fastopen_queue: 0,
            fastopen_connect: false,
            fastopen_no_cookie: false,
            fastopen_key: None,
            owner: 0,
            history: config.history,
        }
    }
}

compact!(
    enum MtuDiscover {
        Dont,
        Want,
        Do,
        Probe,
        Interface,
        Omit,
    }
);

/// Writes and reads those of the options that are not as a new socket has them, but for the two that are shared.
macro_rules! unusual {
    ($($option:ident),+) => {
        impl SocketOptions {
            /// Writes the options but `congestion` and `fastopen_key`.
            pub(super) fn write(&self, to: &mut Writer, config: &Config) {
                let Self { $($option,)+ congestion, fastopen_key: _ } = self;
                let usual = Self::with_congestion(config, congestion.clone());
                $(to.unusual($option, &usual.$option);)+
            }

            /// The options that [`SocketOptions::write`] wrote, with the other two.
            pub(super) fn read(
                from: &mut Reader<'_>,
                config: &Config,
                congestion: CongestionChoice,
                fastopen_key: Option<Arc<FastOpenKeys>>,
            ) -> Self {
                let mut options = Self::with_congestion(config, congestion);
                options.fastopen_key = fastopen_key;
                $(options.$option = from.unusual(options.$option);)+
                options
            }
        }
    };
}

unusual!(
    nodelay,
    cork,
    keepalive,
    keepalive_time,
    keepalive_interval,
    keepalive_retries,
    user_timeout,
    linger,
    linger2,
    send_buffer_size,
    recv_buffer_size,
    max_segment_size,
    notsent_lowat,
    syn_retries,
    thin_linear_timeouts,
    defer_accept,
    quickack,
    window_clamp,
    mtu_discover,
    freebind,
    transparent,
    max_pacing_rate,
    fastopen_queue,
    fastopen_connect,
    fastopen_no_cookie,
    owner,
    history
);

impl SocketOptions {
    /// The shortest of the times that a timer is set for, and the longest, which is Linux's.
    const KEEPALIVE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(32_767);

    /// Brings each number to the nearest that Linux accepts; where it takes 0 for "not set", 0 means that here, too.
    /// The methods of sockets refuse what is out of range. This is for who sets the fields.
    pub(crate) fn bring_into_range(&mut self) {
        let (shortest, longest) = (*Self::KEEPALIVE.start(), *Self::KEEPALIVE.end());
        self.keepalive_time = self.keepalive_time.clamp(shortest, longest);
        self.keepalive_interval = self.keepalive_interval.clamp(shortest, longest);
        self.keepalive_retries = self.keepalive_retries.clamp(1, 127);
        self.syn_retries = self.syn_retries.clamp(1, 127);
        self.user_timeout = self.user_timeout.filter(|timeout| !timeout.is_zero());
        self.max_segment_size = self.max_segment_size.filter(|mss| *mss > 0).map(|mss| mss.max(MIN_MSS));
        self.window_clamp = self.window_clamp.filter(|clamp| *clamp > 0);
        for size in [&mut self.send_buffer_size, &mut self.recv_buffer_size] {
            *size = size.map(|size| size.clamp(1, MAX_BUFFER));
        }
        self.max_pacing_rate = self.max_pacing_rate.map(|rate| rate.max(1));
    }

    /// Sets `TCP_CONGESTION` from its value, in the form of setsockopt(2): the name ends at the
    /// first NUL, and after 15 bytes.
    ///
    /// # Errors
    /// [`CongestionError::Unknown`] if the stack has no algorithm of this name.
    pub fn set_congestion(&mut self, value: &[u8]) -> Result<(), CongestionError> {
        let value = &value[..value.len().min(CongestionName::MAX_LEN)];
        let name = value.split(|byte| *byte == 0).next().unwrap_or_default();
        self.congestion = self.congestion.choose(&String::from_utf8_lossy(name))?;
        Ok(())
    }

    /// `TCP_DEFER_ACCEPT` as a time: how long its retransmissions take (retrans_to_secs in Linux).
    pub fn defer_accept_time(&self, config: &Config) -> Option<Duration> {
        (self.defer_accept > 0).then(|| takes(self.defer_accept, config))
    }

    /// Sets `TCP_DEFER_ACCEPT` to the least number of retransmissions that take as long as `time`
    /// (secs_to_retrans in Linux); zero is the same as none.
    pub fn set_defer_accept_time(&mut self, time: Option<Duration>, config: &Config) {
        let time = time.unwrap_or_default();
        self.defer_accept = (0..u8::MAX).find(|count| takes(*count, config) >= time).unwrap_or(u8::MAX);
    }
}

/// How long so many retransmissions of a SYN-ACK take.
fn takes(retransmissions: u8, config: &Config) -> Duration {
    (0..u32::from(retransmissions)).map(|n| backed_off(config, n)).sum()
}

#[cfg(test)]
impl SocketOptions {
    /// What a new socket of a stack starts with that has the built-in congestion controls.
    pub(crate) fn new(config: &Config) -> Self {
        let built_in = super::congestion::CongestionRegistry::default();
        let congestion = built_in.choose(config.congestion.as_str()).expect("it is built in");
        Self::with_congestion(config, congestion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_congestion_control_is_chosen_as_the_kernel_reads_its_name() {
        let mut options = SocketOptions::new(&Config::default());
        for (value, name) in [
            (&b"reno"[..], "reno"),
            (b"bbr\0", "bbr"),
            (b"cubic\0reno", "cubic"),
            (b"reno\0\0\0\0\0\0\0\0\0\0\0\xff", "reno"),
        ] {
            options.set_congestion(value).unwrap();
            assert_eq!(options.congestion.name(), name);
        }
        for value in [&b""[..], b"\0reno", b"re", b"renorenorenorenoreno", b"Reno", b"\xff"] {
            assert!(options.set_congestion(value).is_err(), "{value:?}");
            assert_eq!(options.congestion.name(), "reno", "it stays as it was");
        }
    }

    #[test]
    fn numbers_out_of_range_become_the_nearest_in_range() {
        let mut least = SocketOptions::new(&Config::default());
        (least.keepalive_time, least.keepalive_interval) = (Duration::ZERO, Duration::ZERO);
        (least.keepalive_retries, least.syn_retries) = (0, 0);
        (least.max_segment_size, least.window_clamp) = (Some(0), Some(0));
        (least.user_timeout, least.max_pacing_rate) = (Some(Duration::ZERO), Some(0));
        (least.send_buffer_size, least.recv_buffer_size) = (Some(0), Some(0));
        least.bring_into_range();
        assert_eq!((least.keepalive_time, least.keepalive_retries), (Duration::from_millis(1), 1));
        assert_eq!((least.max_segment_size, least.window_clamp, least.user_timeout), (None, None, None));
        assert_eq!((least.syn_retries, least.max_pacing_rate, least.recv_buffer_size), (1, Some(1), Some(1)));
        let mut most = SocketOptions::new(&Config::default());
        (most.keepalive_time, most.keepalive_interval) = (Duration::MAX, Duration::MAX);
        (most.keepalive_retries, most.syn_retries) = (u32::MAX, u32::MAX);
        (most.max_segment_size, most.send_buffer_size) = (Some(1), Some(usize::MAX));
        most.bring_into_range();
        assert_eq!((most.keepalive_interval, most.keepalive_retries), (Duration::from_secs(32_767), 127));
        assert_eq!((most.syn_retries, most.max_segment_size), (127, Some(MIN_MSS)));
        assert_eq!(most.send_buffer_size, Some(MAX_BUFFER));
    }

    #[test]
    fn times_become_retransmissions_and_are_rounded_up() {
        let config = Config::default();
        let mut options = SocketOptions::new(&config);
        for (seconds, count, takes) in
            [(0, 0, 0), (1, 1, 1), (2, 2, 3), (3, 2, 3), (4, 3, 7), (60, 6, 63), (127, 7, 127), (128, 8, 247)]
        {
            options.set_defer_accept_time(Some(Duration::from_secs(seconds)), &config);
            assert_eq!(options.defer_accept, count, "{seconds} s");
            let time = options.defer_accept_time(&config).unwrap_or_default();
            assert_eq!(time, Duration::from_secs(takes));
        }
        options.set_defer_accept_time(Some(Duration::MAX), &config);
        assert_eq!(options.defer_accept, 255);
        options.set_defer_accept_time(None, &config);
        assert_eq!(options.defer_accept_time(&config), None);
    }
}
