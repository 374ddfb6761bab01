//! The settings, their names, and the check that they are consistent.

use super::congestion::CongestionName;
use super::fast_open::{COOKIE_LEN, FastOpenKeys};
use super::memory::MemoryBudget;
use super::modes::{
    EchoPolicy, EcnNegotiation, EcnOption, FastOpenMode, Hystart, MtuDiscover, MtuProbing, ReversePath,
    SynCookieMode, TimeWaitReuse,
};
use super::value::Value;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Declares [`Config`] as a table, so that a field, its documentation, its group, its default and its
/// name as a key cannot drift apart.
macro_rules! config {
    ($( $group:literal { $( $(#[$attr:meta])* $name:ident: $type:ty = $default:expr; )* } )*) => {
        /// The settings of a stack. They cannot be changed after the stack has been built.
        ///
        /// New settings can be added in any release, so a `Config` starts from its defaults
        /// ([`Config::default`]), and [`Config::with`] changes fields:
        ///
        /// ```
        /// # use netstack::config::Config;
        /// # use std::time::Duration;
        /// let mut config = Config::default().with(|config| {
        ///     config.rto_min = Duration::from_millis(50);
        ///     config.keepalive_time = Duration::from_secs(600);
        /// });
        /// config.set("initial_window", "4")?;
        /// config.validate()?;
        /// # Ok::<_, netstack::config::ConfigError>(())
        /// ```
        ///
        /// In the documentation of a field, a name in parentheses such as `tcp_syn_retries` is that of
        /// the variable of Linux below `net.ipv4`, and the value at the end is the default.
        ///
        /// # Groups
        /// The fields are listed below in the order of these groups.
        ///
        /// | Group | Settings |
        /// |---|---|
        $( #[doc = concat!(
            " | ", $group, " | ",
            $( "[`", stringify!($name), "`](Self::", stringify!($name), ") ", )*
            "|"
        )] )*
        #[derive(Clone, Debug, PartialEq)]
        #[non_exhaustive]
        pub struct Config {
            $( $( $(#[$attr])* pub $name: $type, )* )*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $( $( $name: $default, )* )* }
            }
        }

        impl Config {
            /// Changes fields, in one expression:
            ///
            /// ```
            /// # use netstack::Config;
            /// let config = Config::default().with(|config| config.sack = false);
            /// assert!(!config.sack);
            /// ```
            #[must_use = "the changed settings are returned"]
            pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
                change(&mut self);
                self
            }

            /// The names of all fields, in the order of declaration.
            pub fn keys() -> &'static [&'static str] {
                &[$( $( stringify!($name) ),* ),*]
            }

            /// Sets the field `key` from text.
            ///
            /// # Errors
            /// If there is no such field, or the text is not a value of its type. Whether the values
            /// are consistent is checked by [`Config::validate`].
            pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
                match key {
                    $( $( stringify!($name) => {
                        self.$name = <$type as Value>::parse(value.trim()).ok_or_else(|| {
                            ConfigError(format!("{key}: expected {}, not `{value}`", <$type as Value>::FORM))
                        })?;
                    } )* )*
                    _ => return Err(ConfigError(format!("there is no setting `{key}`"))),
                }
                Ok(())
            }

            /// The value of the field `key` as text, in the form that [`Config::set`] accepts.
            pub fn get(&self, key: &str) -> Option<String> {
                match key {
                    $( $( stringify!($name) => Some(Value::show(&self.$name)), )* )*
                    _ => None,
                }
            }
        }
    };
}

config! {
    "Retransmission" {
        /// Retransmission timeout before the first round-trip sample. 1 s (RFC 6298 §2.1).
        rto_initial: Duration = Duration::from_secs(1);
        /// Lower bound of the retransmission timeout. 200 ms as in Linux; RFC 6298 §2.4 recommends 1 s.
        rto_min: Duration = Duration::from_millis(200);
        /// Upper bound of the retransmission timeout. 120 s as in Linux; RFC 6298 §2.5 permits no less
        /// than 60 s.
        rto_max: Duration = Duration::from_secs(120);
        /// Retransmissions of a SYN before an active open fails (`tcp_syn_retries`). The limit is the time
        /// that these retransmissions take if their time-outs double from the first one on. 6: 127 s, which is
        /// over at the time-out after 131 s.
        syn_retries: u32 = 6;
        /// Retransmissions of a SYN that come `rto_initial` apart, before the time-outs begin to double
        /// (`tcp_syn_linear_timeouts`). 4: a SYN is sent after 0, 1, 2, 3, 4, 5, 7, 11, 19, 35 and 67 s.
        syn_linear_timeouts: u32 = 4;
        /// Retransmissions of a SYN-ACK before a half-open connection is dropped
        /// (`tcp_synack_retries`). 5: 63 s.
        synack_retries: u32 = 5;
        /// Retransmissions of data after which the path is suspected to be faulty (`tcp_retries1`, R1
        /// of RFC 9293 §3.8.3). As with `retries2`, the limit is a time. 3: 3 s.
        retries1: u32 = 3;
        /// Retransmissions of data after which the connection times out (`tcp_retries2`, R2 of
        /// RFC 9293 §3.8.3). The limit is the time that these retransmissions take when they start at
        /// 200 ms, whatever `rto_min` is. 15: 924.6 s.
        retries2: u32 = 15;
        /// As `retries2`, for orphans (`tcp_orphan_retries`): connections that no application holds any
        /// more. 8: 102.2 s.
        orphan_retries: u32 = 8;
        /// How long data of new sockets may stay unacknowledged before the connection times out
        /// (TCP_USER_TIMEOUT, RFC 5482). `none`: `retries2` is the limit.
        user_timeout: Option<Duration> = None;
        /// Send tail loss probes (`tcp_early_retrans`, RFC 8985 §7). On.
        early_retrans: bool = true;
        /// Length of the sliding window over which the minimum round-trip time is measured
        /// (`tcp_min_rtt_wlen`). 300 s.
        min_rtt_window: Duration = Duration::from_secs(300);
    }
    "Keep-alive" {
        /// Idle time before the first keep-alive probe (`tcp_keepalive_time`). 7200 s
        /// (RFC 9293 §3.8.4).
        keepalive_time: Duration = Duration::from_secs(7200);
        /// Time between keep-alive probes (`tcp_keepalive_intvl`). 75 s.
        keepalive_interval: Duration = Duration::from_secs(75);
        /// Number of unanswered keep-alive probes after which a connection ends
        /// (`tcp_keepalive_probes`). 9.
        keepalive_retries: u32 = 9;
    }
    "Closing" {
        /// How long an orphan stays in FIN-WAIT-2 (`tcp_fin_timeout`). 60 s.
        fin_timeout: Duration = Duration::from_secs(60);
        /// Length of TIME-WAIT. 60 s as in Linux, where it is fixed; RFC 9293 §3.4.2 requires two MSL,
        /// 240 s.
        time_wait: Duration = Duration::from_secs(60);
        /// Maximum number of TIME-WAIT entries (`tcp_max_tw_buckets`). Above it, connections skip
        /// TIME-WAIT. 131072.
        max_time_wait: u32 = 131_072;
        /// Which TIME-WAIT entries `connect` may replace when it selects the port (`tcp_tw_reuse`).
        /// `loopback`, which is 2 in Linux. If the socket was bound to the port, timestamps are
        /// sufficient.
        tw_reuse: TimeWaitReuse = TimeWaitReuse::Loopback;
        /// Maximum number of orphans, which are connections that no application holds. Above it,
        /// closing a connection resets it (`tcp_max_orphans`). 65536.
        max_orphans: u32 = 65_536;
        /// How long the process waits at its end for the acknowledgment of data that was written. 10 s.
        exit_drain: Duration = Duration::from_secs(10);
        /// Maximum number of events in the history of a connection: segments, timers, retransmissions,
        /// window changes and calls. An event takes 32 bytes, which are allocated when it happens. 0, which
        /// means no history. The reason for the end of a connection is always kept.
        history: u32 = 0;
    }
    "Options and acknowledgments" {
        /// Offer and accept timestamps (`tcp_timestamps`, RFC 7323 §3). On.
        timestamps: bool = true;
        /// Offer and accept selective acknowledgments (`tcp_sack`, RFC 2018). On.
        sack: bool = true;
        /// Offer and accept window scaling (`tcp_window_scaling`, RFC 7323 §2). On.
        window_scaling: bool = true;
        /// Shortest delay of an acknowledgment (TCP_DELACK_MIN in Linux). 40 ms.
        delayed_ack_min: Duration = Duration::from_millis(40);
        /// Longest delay of an acknowledgment (TCP_DELACK_MAX in Linux). 200 ms; RFC 9293 §3.8.6.3
        /// allows less than 500.
        delayed_ack_max: Duration = Duration::from_millis(200);
    }
    "Congestion control and pacing" {
        /// Congestion control of new sockets, by name (`tcp_congestion_control`). `cubic`; `reno` and
        /// `bbr` are built in too. Any other must be registered with the stack.
        congestion: CongestionName = CongestionName::CUBIC;
        /// How CUBIC leaves slow start before the first loss: `linux` (HyStart, on an increase of the
        /// delay or a long ACK train), `rfc9406` (HyStart++) or `off`.
        hystart: Hystart = Hystart::Linux;
        /// Initial congestion window in segments (RFC 6928). 10.
        initial_window: u32 = 10;
        /// Reduce the congestion window of a connection that has been idle for longer than its
        /// retransmission timeout (`tcp_slow_start_after_idle`, RFC 5681 §4.1). On.
        slow_start_after_idle: bool = true;
        /// Pace all connections, as Linux does with the queueing discipline fq. If it is off, only
        /// connections with SO_MAX_PACING_RATE or a congestion control that requires pacing are
        /// paced. Off.
        pacing: bool = false;
        /// Pacing rate in the first half of slow start, in percent of a window per round trip
        /// (`tcp_pacing_ss_ratio`). 200.
        pacing_ss_ratio: u32 = 200;
        /// Pacing rate after that, in percent of a window per round trip (`tcp_pacing_ca_ratio`). 120.
        pacing_ca_ratio: u32 = 120;
        /// Minimum number of segments of a super-segment, if that much data is queued
        /// (`tcp_min_tso_segs`). 2.
        min_tso_segs: u32 = 2;
        /// A super-segment that is at least this fraction of the window (given as its divisor) is sent
        /// without waiting to grow (`tcp_tso_win_divisor`). 3; 0 means that at most three
        /// segments wait.
        tso_win_divisor: u32 = 3;
    }
    "Buffers" {
        /// Initial size of a send buffer in bytes of memory (`tcp_wmem[1]`). 16 KiB; a new connection
        /// raises it to 20 segments at once.
        send_buffer_initial: usize = 16 << 10;
        /// Maximum size of an auto-tuned send buffer in bytes of memory (`tcp_wmem[2]`). 4 MiB.
        send_buffer_max: usize = 4 << 20;
        /// Initial size of a receive buffer in bytes of memory, half of which is the window
        /// (`tcp_rmem[1]`). 128 KiB.
        recv_buffer_initial: usize = 128 << 10;
        /// Maximum size of an auto-tuned receive buffer in bytes of memory, and of `SO_RCVBUF`
        /// (`tcp_rmem[2]`). 32 MiB, as in Linux since 6.16.
        recv_buffer_max: usize = 32 << 20;
        /// Number of unsent bytes at which writes are no longer accepted; a socket is writable below
        /// half of it (`tcp_notsent_lowat`). 4294967295: no limit.
        notsent_lowat: usize = u32::MAX as usize;
        /// How much memory the stack may hold (`tcp_mem`): where pressure ends, where it begins, and the most,
        /// in bytes. Under pressure windows and buffers grow no more, data out of order and connections that
        /// no application holds are given up, and at the most no connection begins; what was acknowledged to a
        /// peer, or accepted from an application, stays. `none`: when the stack is built, an eighth of the
        /// memory of the machine, or of the control group of the process, is the most, and pressure begins at
        /// three eighths of that; 512 MiB and 192 MiB where neither is known.
        memory: Option<MemoryBudget> = None;
        /// Memory that each connection is granted in each direction whatever others hold, in bytes
        /// (`tcp_rmem[0]` and `tcp_wmem[0]`). 4 KiB.
        memory_share: usize = 4 << 10;
    }
    "UDP" {
        /// Receive buffer of a new UDP, ping or raw socket in bytes of memory (`net.core.rmem_default`). What
        /// does not fit is dropped and counted. 208 KiB.
        datagram_recv_buffer: usize = 208 << 10;
        /// Send buffer of a new UDP, ping or raw socket in bytes: what a device has not taken yet
        /// (`net.core.wmem_default`). 208 KiB.
        datagram_send_buffer: usize = 208 << 10;
    }
    "Listening" {
        /// Upper bound of a listener's backlog (`net.core.somaxconn`). 4096.
        somaxconn: u32 = 4096;
        /// Maximum number of half-open connections of a listener without SYN cookies; the last quarter
        /// is reserved (`tcp_max_syn_backlog`). The backlog is a limit in any case. 4096.
        max_syn_backlog: u32 = 4096;
        /// When a listener uses SYN cookies (`tcp_syncookies`, RFC 4987 §3.6). `overflow`, which is 1
        /// in Linux.
        syncookies: SynCookieMode = SynCookieMode::Overflow;
        /// When the accept queue is full, reset a connection whose handshake completes, instead of
        /// ignoring the last acknowledgment (`tcp_abort_on_overflow`). Off.
        abort_on_overflow: bool = false;
        /// How long a SYN waits for the decision of the application
        /// ([`PendingListener`](crate::net::PendingListener)) before it is dropped. 63 s, the lifetime
        /// of a half-open connection.
        pending_accept_timeout: Duration = Duration::from_secs(63);
    }
    "Fast Open" {
        /// The permitted uses of Fast Open (`tcp_fastopen`, RFC 7413). 0x3: sockets that enable it, as
        /// client and as server. Linux's default is 0x1, for clients only.
        fastopen: FastOpenMode = FastOpenMode::CLIENT.with(FastOpenMode::SERVER);
        /// The keys of the Fast Open cookies of listeners (`tcp_fastopen_key`); in the text form, the
        /// backup key follows after a comma. `none`: a random key.
        fastopen_key: Option<FastOpenKeys> = None;
        /// Length of the Fast Open cookies of listeners in bytes, an even number from 4 to 16. 8, the
        /// only length that Linux uses.
        fastopen_cookie_len: u8 = 8;
        /// How long Fast Open is disabled for active opens after a connection appears to have failed
        /// because of it (a black hole). The time is doubled with each further failure, up to 64-fold
        /// (`tcp_fastopen_blackhole_timeout_sec`). 0s: it is never disabled.
        fastopen_blackhole_timeout: Duration = Duration::ZERO;
        /// Maximum number of servers in the cache of Fast Open cookies. 1024.
        fastopen_cache_size: u32 = 1024;
        /// Lifetime of a cached Fast Open cookie (RFC 7413 §4.1.3 does not specify it). 24 hours.
        fastopen_cache_age: Duration = Duration::from_secs(24 * 3600);
    }
    "ECN" {
        /// Explicit congestion notification (`tcp_ecn`). `accept`, which is 2 in Linux.
        ecn: EcnNegotiation = EcnNegotiation::Accept;
        /// Retransmit an unanswered SYN without requesting ECN (`tcp_ecn_fallback`, RFC 3168 §6.1.1.1), an
        /// unanswered SYN-ACK without AccECN's option and then without its bits (RFC 9768 §3.2.3.2.2), and send
        /// no ECT where the handshake shows that something changes the ECN field (RFC 9768 §3.2.2.3). On.
        ecn_fallback: bool = true;
        /// When segments carry the AccECN option (`tcp_ecn_option`). `always`, which is 2 in Linux.
        ecn_option: EcnOption = EcnOption::Always;
        /// With `ecn_option` `minimal`, the minimum number of AccECN options per round trip
        /// (`tcp_ecn_option_beacon`). 3.
        ecn_option_beacon: u32 = 3;
        /// Use AccECN as Linux does: the option has all counters that fit, ECT(1) first, and every segment is
        /// ECN-capable, acknowledgments and retransmissions too. Off: the option leaves out counters at its
        /// end that never moved, and only new data is ECN-capable (RFC 3168 §6.1.4 to 6.1.6). Off.
        ecn_like_linux: bool = false;
    }
    "MSS and path MTU" {
        /// Path MTU discovery of new sockets (`IP_MTU_DISCOVER`; in Linux, `ip_no_pmtu_disc` sets it to
        /// `dont`). `want`.
        mtu_discover: MtuDiscover = MtuDiscover::Want;
        /// Lower bound of the IPv4 path MTU that ICMP can set (`route.min_pmtu`). If a router reports
        /// less, packets are sent without DF. 552; RFC 1191 §3 permits 68.
        min_pmtu: u32 = 552;
        /// Lifetime of a path MTU that an ICMP message reported (`route.mtu_expires`, RFC 1191 §6.3).
        /// 600 s.
        mtu_expires: Duration = Duration::from_secs(600);
        /// Packetization-layer path MTU discovery (`tcp_mtu_probing`, RFC 4821). `off`, which is 0
        /// in Linux.
        mtu_probing: MtuProbing = MtuProbing::Off;
        /// The initial MSS of probing (`tcp_base_mss`). 1024.
        base_mss: u32 = 1024;
        /// Lower bound of the MSS when a black hole was detected (`tcp_mtu_probe_floor`). 48.
        mtu_probe_floor: u32 = 48;
        /// Time after which a completed search is repeated (`tcp_probe_interval`). 600 s.
        mtu_probe_interval: Duration = Duration::from_secs(600);
        /// The search ends when its range is smaller than this, in bytes (`tcp_probe_threshold`). 8.
        mtu_probe_threshold: u32 = 8;
        /// Lower bound of the MSS that a peer can request (`tcp_min_snd_mss`). 48.
        min_snd_mss: u32 = 48;
    }
    "Destinations" {
        /// Maximum number of destinations whose path MTU and metrics are kept. This setting has no
        /// equivalent in Linux. 4096.
        max_destinations: u32 = 4096;
        /// Do not save the metrics of connections (`tcp_no_metrics_save`). Off.
        no_metrics_save: bool = false;
        /// Do not save slow start thresholds (`tcp_no_ssthresh_metrics_save`). On.
        no_ssthresh_metrics_save: bool = true;
    }
    "Limits" {
        /// Maximum number of connections, not counting TIME-WAIT. This setting has no equivalent in
        /// Linux. 1048576.
        max_connections: u32 = 1 << 20;
        /// Minimum time between two challenge ACKs, or two answers to segments outside the window, of
        /// one connection (`tcp_invalid_ratelimit`, RFC 5961 §7). 500 ms.
        challenge_ack_interval: Duration = Duration::from_millis(500);
        /// Maximum number of resets per second for segments that belong to no connection, not counting
        /// the loopback. On average: what a reset costs is drawn at random, so that the limit tells nobody
        /// what others were sent. Linux has no such limit; BSD's is 200. 10000.
        reset_rate: u32 = 10_000;
        /// Maximum number of such resets in a burst, on average. 10000.
        reset_burst: u32 = 10_000;
        /// Maximum number of ICMP errors that the stack sends per second, on average (`icmp_msgs_per_sec`;
        /// RFC 4443 §2.4(f)). What an error costs is drawn at random, as in Linux, so that the limit tells
        /// nobody what others were sent. 1000.
        icmp_rate: u32 = 1000;
        /// Maximum number of ICMP errors in a burst, on average (`icmp_msgs_burst`). 50.
        icmp_burst: u32 = 50;
        /// Minimum time between two ICMP errors to one host, after six in a row (`icmp_ratelimit`). Errors
        /// that the application asked for and those on the loopback are exempt. 0s: no limit. 1 s.
        icmp_host_interval: Duration = Duration::from_secs(1);
        /// What becomes of echo requests to addresses that an interface accepts for others
        /// ([`Interface::any_ip`](crate::Interface::any_ip)). `reply`; those to the stack's own addresses
        /// are answered in any case.
        any_ip_echo: EchoPolicy = EchoPolicy::Reply;
        /// Whether a packet is dropped that came in on another interface than the one that the route to its
        /// source leads through (`rp_filter`; RFC 3704). `off`. Of IPv6 too, which Linux leaves to the
        /// firewall; link-local addresses and loopback are exempt.
        rp_filter: ReversePath = ReversePath::Off;
    }
    "The stack" {
        /// Time to live, or hop limit, of packets that the stack sends (`ip_default_ttl`). 64.
        default_ttl: u8 = 64;
        /// Join the segments of a batch that follow each other in one connection, where the device does
        /// not (`generic-receive-offload` of ethtool). On.
        gro: bool = true;
        /// For how long the reactor looks for more packets after one, before it waits for the device to tell it
        /// (SO_BUSY_POLL, `net.core.busy_poll`). That saves a wake-up by the operating system, and takes a
        /// processor meanwhile. It looks only while packets come no further apart than this, so that a queue
        /// with little to do costs nothing. Tasks that are ready have their turn between two looks. 0, which
        /// means not at all; 50 to 100 µs serve round trips on one machine.
        busy_poll: Duration = Duration::ZERO;
        /// Range of ephemeral ports (`ip_local_port_range`). 32768-60999.
        port_range: RangeInclusive<u16> = 32_768..=60_999;
        /// Whether the stack has a loopback interface, with 127.0.0.0/8, ::1 and its own addresses. On.
        loopback: bool = true;
        /// Seed of the random generator. `none`: a seed from the operating system. With a known seed,
        /// sequence numbers and ports can be predicted, so it is for tests only.
        seed: Option<u64> = None;
    }
}

/// The error of an invalid setting: its key and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks that the values are valid and consistent.
    ///
    /// # Errors
    /// The first invalid setting.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ensure = |holds: bool, rule: &str| if holds { Ok(()) } else { Err(ConfigError(rule.to_owned())) };
        ensure(!self.rto_min.is_zero(), "rto_min: must not be zero")?;
        ensure(
            self.rto_min <= self.rto_initial && self.rto_initial <= self.rto_max,
            "rto_initial: must be between rto_min and rto_max",
        )?;
        ensure((1..=127).contains(&self.syn_retries), "syn_retries: must be 1 to 127")?;
        ensure(self.syn_linear_timeouts <= 127, "syn_linear_timeouts: must be at most 127")?;
        ensure(self.synack_retries <= 127, "synack_retries: must be at most 127")?;
        ensure(self.retries1 <= self.retries2, "retries1: must not exceed retries2")?;
        ensure(self.retries2 <= 255, "retries2: must be at most 255")?;
        ensure(self.orphan_retries <= 255, "orphan_retries: must be at most 255")?;
        ensure(
            self.delayed_ack_min <= self.delayed_ack_max,
            "delayed_ack_min: must not exceed delayed_ack_max",
        )?;
        ensure(
            self.delayed_ack_max < Duration::from_millis(500),
            "delayed_ack_max: must be under 500ms (RFC 9293 section 3.8.6.3)",
        )?;
        ensure((1..=1024).contains(&self.initial_window), "initial_window: must be 1 to 1024")?;
        for (name, ratio) in
            [("pacing_ss_ratio", self.pacing_ss_ratio), ("pacing_ca_ratio", self.pacing_ca_ratio)]
        {
            // As Linux bounds them.
            ensure((1..=1000).contains(&ratio), &format!("{name}: must be 1 to 1000"))?;
        }
        for (name, initial, max) in [
            ("send_buffer", self.send_buffer_initial, self.send_buffer_max),
            ("recv_buffer", self.recv_buffer_initial, self.recv_buffer_max),
        ] {
            ensure(initial >= 4096, &format!("{name}_initial: must be at least 4kib"))?;
            ensure(initial <= max, &format!("{name}_initial: must not exceed {name}_max"))?;
            // RFC 7323 §2.3: no window is larger, whatever the scale.
            ensure(max <= 1 << 30, &format!("{name}_max: must be at most 1gib"))?;
        }
        if let Some(MemoryBudget { low, pressure, high }) = self.memory {
            ensure(low <= pressure && pressure <= high, "memory: must be low <= pressure <= high")?;
            ensure(low >= 1 << 20, "memory: must be at least 1mib")?;
        }
        ensure((1024..=1 << 20).contains(&self.memory_share), "memory_share: must be 1kib to 1mib")?;
        for (name, size) in [
            ("datagram_recv_buffer", self.datagram_recv_buffer),
            ("datagram_send_buffer", self.datagram_send_buffer),
        ] {
            ensure((2048..=1 << 30).contains(&size), &format!("{name}: must be 2kib to 1gib"))?;
        }
        ensure(!self.keepalive_time.is_zero(), "keepalive_time: must not be zero")?;
        ensure(!self.keepalive_interval.is_zero(), "keepalive_interval: must not be zero")?;
        ensure((1..=127).contains(&self.keepalive_retries), "keepalive_retries: must be 1 to 127")?;
        ensure(
            *self.port_range.start() > 0 && !self.port_range.is_empty(),
            "port_range: must be first-last with 0 < first <= last",
        )?;
        ensure(!self.pending_accept_timeout.is_zero(), "pending_accept_timeout: must not be zero")?;
        ensure(self.max_connections > 0, "max_connections: must not be zero")?;
        // With an MSS below the option space of a segment, headers could always be longer than the
        // payload.
        ensure((48..=1220).contains(&self.min_snd_mss), "min_snd_mss: must be 48 to 1220")?;
        ensure((68..=65_535).contains(&self.min_pmtu), "min_pmtu: must be 68 to 65535")?;
        ensure(self.ecn_option_beacon <= 63, "ecn_option_beacon: must be at most 63")?;
        ensure((48..=65_495).contains(&self.base_mss), "base_mss: must be 48 to 65495")?;
        ensure((48..=65_495).contains(&self.mtu_probe_floor), "mtu_probe_floor: must be 48 to 65495")?;
        ensure(!self.mtu_expires.is_zero(), "mtu_expires: must not be zero")?;
        ensure(self.max_destinations <= 1 << 20, "max_destinations: must be at most 1048576")?;
        ensure(
            COOKIE_LEN.contains(&self.fastopen_cookie_len.into())
                && self.fastopen_cookie_len.is_multiple_of(2),
            "fastopen_cookie_len: must be an even number from 4 to 16 (RFC 7413 section 4.1.1)",
        )?;
        ensure(self.fastopen_cache_size > 0, "fastopen_cache_size: must not be zero")?;
        ensure(self.default_ttl > 0, "default_ttl: must not be zero")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_every_field_survives_its_text() {
        let defaults = Config::default();
        defaults.validate().unwrap();
        let mut copy = Config { rto_min: Duration::from_nanos(1), default_ttl: 9, ..Config::default() };
        for key in Config::keys() {
            copy.set(key, &defaults.get(key).unwrap()).unwrap();
        }
        assert_eq!(copy, defaults);
    }

    #[test]
    fn texts_of_every_kind() {
        let mut config = Config::default();
        for (key, text, shown) in [
            ("rto_min", "0.25s", "250ms"),
            ("rto_max", "2min", "120s"),
            ("delayed_ack_min", "1500us", "1500us"),
            ("send_buffer_max", "1.5 MiB", "1536kib"),
            ("notsent_lowat", "12345", "12345"),
            ("sack", "off", "off"),
            ("user_timeout", "30s", "30s"),
            ("user_timeout", "none", "none"),
            ("seed", "18446744073709551615", "18446744073709551615"),
            ("port_range", "1024 - 2048", "1024-2048"),
            ("tw_reuse", "1", "all"),
            ("hystart", "rfc9406", "rfc9406"),
            ("syncookies", "2", "always"),
            ("ecn", "0", "off"),
            ("ecn", "3", "accurate"),
            ("ecn", "accept", "accept"),
            ("ecn_option", "1", "minimal"),
            ("mtu_probing", "1", "black-hole"),
            ("default_ttl", " 7 ", "7"),
            ("fastopen", "0x70403", "0x70403"),
            ("fastopen", "5", "0x5"),
            ("fastopen_key", "1-2-3-4", "00000001-00000002-00000003-00000004"),
            ("fastopen_key", "none", "none"),
            ("memory", "64mib  96mib 256MiB", "64mib 96mib 256mib"),
            ("memory", "none", "none"),
        ] {
            config.set(key, text).unwrap();
            assert_eq!(config.get(key).unwrap(), shown, "{key}={text}");
        }
    }

    #[test]
    fn errors_name_the_key_and_the_form() {
        let mut config = Config::default();
        for (key, text, message) in [
            ("rto_min", "200", "rto_min: expected a duration such as 200ms, 1.5s or 2h, not `200`"),
            ("rto_min", "-1s", "rto_min: expected a duration such as 200ms, 1.5s or 2h, not `-1s`"),
            ("sack", "yes", "sack: expected on or off, not `yes`"),
            (
                "send_buffer_max",
                "4 bits",
                "send_buffer_max: expected a size such as 65536, 64kib or 4mib, not `4 bits`",
            ),
            ("default_ttl", "256", "default_ttl: expected a number up to 255, not `256`"),
            ("default_ttl", "+5", "default_ttl: expected a number up to 255, not `+5`"),
            ("seed", "+5", "seed: expected none, or a number, not `+5`"),
            ("syn_retries", "+5", "syn_retries: expected a number, not `+5`"),
            (
                "send_buffer_max",
                "+65536",
                "send_buffer_max: expected a size such as 65536, 64kib or 4mib, not `+65536`",
            ),
            ("port_range", "+1-+2", "port_range: expected two ports such as 32768-60999, not `+1-+2`"),
            ("fastopen", "+5", "fastopen: expected the bits of tcp_fastopen, such as 3 or 0x403, not `+5`"),
            (
                "fastopen",
                "0x+5",
                "fastopen: expected the bits of tcp_fastopen, such as 3 or 0x403, not `0x+5`",
            ),
            (
                "memory",
                "1mib 2mib",
                "memory: expected none, or three sizes such as 64mib 96mib 256mib, not `1mib 2mib`",
            ),
            ("colour", "red", "there is no setting `colour`"),
        ] {
            assert_eq!(config.set(key, text).unwrap_err().to_string(), message);
        }
        assert_eq!(config, Config::default());
        assert_eq!(config.get("colour"), None);
    }

    #[test]
    fn values_that_do_not_fit_together_are_named() {
        let bad = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        assert!(bad(|c| c.rto_min = Duration::from_secs(2)).starts_with("rto_initial:"));
        assert!(bad(|c| c.recv_buffer_initial = 64 << 20).starts_with("recv_buffer_initial:"));
        assert!(bad(|c| c.datagram_send_buffer = 2047).starts_with("datagram_send_buffer:"));
        let memory = |low, pressure, high| Some(MemoryBudget { low, pressure, high });
        for budget in [memory(2 << 20, 1 << 20, 4 << 20), memory(1 << 10, 1 << 20, 1 << 20)] {
            let mut config = Config { memory: budget, ..Config::default() };
            assert!(config.validate().unwrap_err().to_string().starts_with("memory:"));
            config.memory = memory(1 << 20, 1 << 20, 1 << 20);
            config.validate().unwrap();
        }
        assert!(bad(|c| c.memory_share = 1).starts_with("memory_share:"));
        assert!(bad(|c| c.fastopen_cookie_len = 7).starts_with("fastopen_cookie_len:"));
        assert!(bad(|c| c.port_range = 0..=5).starts_with("port_range:"));
        assert!(bad(|c| c.syn_retries = 0).starts_with("syn_retries:"));
        assert!(bad(|c| c.syn_linear_timeouts = 128).starts_with("syn_linear_timeouts:"));
        assert!(bad(|c| c.delayed_ack_max = Duration::from_millis(500)).starts_with("delayed_ack_max:"));
    }
}
