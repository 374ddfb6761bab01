//! The settings, their names and which of them fit together.

use super::congestion::CongestionName;
use super::fast_open::{COOKIE_LEN, FastOpenKeys};
use super::modes::{
    EcnNegotiation, EcnOption, FastOpenMode, Hystart, MtuDiscover, MtuProbing, SynCookieMode, TimeWaitReuse,
};
use super::value::Value;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

/// Declares [`Config`] as a table, so that a field, its documentation, its default and its name as a
/// key cannot drift apart.
macro_rules! config {
    ($( $(#[$attr:meta])* $name:ident: $type:ty = $default:expr; )*) => {
        /// The settings of a stack. Fixed once the stack is built.
        ///
        /// ```
        /// # use netstack::config::Config;
        /// let config = Config { rto_min: std::time::Duration::from_millis(50), ..Config::default() };
        /// config.validate()?;
        /// # Ok::<_, netstack::config::ConfigError>(())
        /// ```
        #[derive(Clone, Debug, PartialEq)]
        pub struct Config {
            $( $(#[$attr])* pub $name: $type, )*
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $( $name: $default, )* }
            }
        }

        impl Config {
            /// The names of all fields, in the order of declaration.
            pub fn keys() -> &'static [&'static str] {
                &[$( stringify!($name) ),*]
            }

            /// Sets the field called `key` from its text.
            ///
            /// # Errors
            /// If there is no such field, or the text does not say a value of its type. Whether the
            /// values fit together is for [`Config::validate`] to say.
            pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
                match key {
                    $( stringify!($name) => {
                        self.$name = <$type as Value>::parse(value.trim()).ok_or_else(|| {
                            ConfigError(format!("{key}: expected {}, not `{value}`", <$type as Value>::FORM))
                        })?;
                    } )*
                    _ => return Err(ConfigError(format!("there is no setting `{key}`"))),
                }
                Ok(())
            }

            /// The text of the field called `key`, as [`Config::set`] takes it.
            pub fn get(&self, key: &str) -> Option<String> {
                match key {
                    $( stringify!($name) => Some(Value::show(&self.$name)), )*
                    _ => None,
                }
            }
        }
    };
}

config! {
    /// Retransmission timeout before the first round-trip sample. 1 s (RFC 6298 §2.1).
    rto_initial: Duration = Duration::from_secs(1);
    /// Lower bound of the retransmission timeout. 200 ms as in Linux; RFC 6298 §2.4 asks for 1 s.
    rto_min: Duration = Duration::from_millis(200);
    /// Upper bound of the retransmission timeout. 120 s as in Linux (RFC 6298 §2.5 asks for at least 60 s).
    rto_max: Duration = Duration::from_secs(120);
    /// Retransmissions of a SYN before an active open fails (`tcp_syn_retries`). 6: 127 s.
    syn_retries: u32 = 6;
    /// Retransmissions of a SYN-ACK before a half-open connection is forgotten (`tcp_synack_retries`). 5: 63 s.
    synack_retries: u32 = 5;
    /// Retransmissions of data after which the path is in doubt (`tcp_retries1`, R1 of RFC 9293 §3.8.3). 3.
    retries1: u32 = 3;
    /// Retransmissions of data after which the connection times out, counted in the time that they
    /// take at the smallest timeout (`tcp_retries2`, R2 of RFC 9293 §3.8.3). 15: 924.6 s.
    retries2: u32 = 15;
    /// As `retries2`, for a connection that no application holds (`tcp_orphan_retries`). 8.
    orphan_retries: u32 = 8;
    /// How long a connection that no application holds stays in FIN-WAIT-2 (`tcp_fin_timeout`). 60 s.
    fin_timeout: Duration = Duration::from_secs(60);
    /// Length of TIME-WAIT. 60 s as in Linux, where it is fixed; RFC 9293 §3.4.2 asks for two MSL, 240 s.
    time_wait: Duration = Duration::from_secs(60);
    /// TIME-WAIT entries kept at most (`tcp_max_tw_buckets`); beyond, the state is skipped. 131072.
    max_time_wait: u32 = 131_072;
    /// Which TIME-WAIT entries connect may take over when it chooses the port (`tcp_tw_reuse`). `loopback`,
    /// which Linux calls 2. From a port that was bound, timestamps suffice.
    tw_reuse: TimeWaitReuse = TimeWaitReuse::Loopback;
    /// Probe the last segments of a flight when no acknowledgment comes (`tcp_early_retrans`, RFC 8985
    /// §7). On.
    early_retrans: bool = true;
    /// How long the smallest round-trip time of a path is believed (`tcp_min_rtt_wlen`). 300 s.
    min_rtt_window: Duration = Duration::from_secs(300);
    /// Shortest delay of an acknowledgment (TCP_DELACK_MIN in Linux). 40 ms.
    delayed_ack_min: Duration = Duration::from_millis(40);
    /// Longest delay of an acknowledgment (TCP_DELACK_MAX in Linux). 200 ms; RFC 9293 §3.8.6.3 allows less than 500.
    delayed_ack_max: Duration = Duration::from_millis(200);
    /// Initial congestion window in segments (RFC 6928). 10.
    initial_window: u32 = 10;
    /// Reduce the congestion window of a connection that was idle for longer than its retransmission
    /// timeout (`tcp_slow_start_after_idle`, RFC 5681 §4.1). On.
    slow_start_after_idle: bool = true;
    /// Segments that a super-segment carries at least, if there are as many to send
    /// (`tcp_min_tso_segs`). 2.
    min_tso_segs: u32 = 2;
    /// The share of the window, as its divisor, from which on a super-segment does not wait to grow
    /// (`tcp_tso_win_divisor`). 3; 0 lets at most three segments wait.
    tso_win_divisor: u32 = 3;
    /// Offer and accept timestamps (`tcp_timestamps`, RFC 7323 §3). On.
    timestamps: bool = true;
    /// Offer and accept selective acknowledgments (`tcp_sack`, RFC 2018). On.
    sack: bool = true;
    /// Offer and accept window scaling (`tcp_window_scaling`, RFC 7323 §2). On.
    window_scaling: bool = true;
    /// Congestion control of new sockets, by name (`tcp_congestion_control`). `cubic`; `reno` and `bbr` are built
    /// in as well. Any other must be registered with the stack that is built with it.
    congestion: CongestionName = CongestionName::CUBIC;
    /// How CUBIC leaves slow start before it loses something: `linux`, at a longer delay or a long
    /// train of acknowledgments; `rfc9406`, HyStart++; or `off`.
    hystart: Hystart = Hystart::Linux;
    /// Pace every connection, as Linux does where the queueing discipline is fq. Off: only those whose congestion
    /// control asks for it, and those with SO_MAX_PACING_RATE.
    pacing: bool = false;
    /// Rate of pacing in the first half of slow start, in percent of a window in a round trip
    /// (`tcp_pacing_ss_ratio`). 200.
    pacing_ss_ratio: u32 = 200;
    /// Rate of pacing otherwise, in percent of a window in a round trip (`tcp_pacing_ca_ratio`). 120.
    pacing_ca_ratio: u32 = 120;
    /// What a send buffer may cost before it has grown, in bytes (`tcp_wmem[1]`). 16 KiB; at once 20
    /// segments on a new connection.
    send_buffer_initial: usize = 16 << 10;
    /// To what cost in bytes a send buffer grows by itself (`tcp_wmem[2]`). 4 MiB.
    send_buffer_max: usize = 4 << 20;
    /// Bytes that a receive buffer holds before it has grown (`tcp_rmem[1]`). 128 KiB.
    recv_buffer_initial: usize = 128 << 10;
    /// Bytes to which a receive buffer grows by itself (`tcp_rmem[2]`). 6 MiB.
    recv_buffer_max: usize = 6 << 20;
    /// Nothing more may be written once so many bytes are not sent yet, and a socket is writable below
    /// half of it (`tcp_notsent_lowat`). 4294967295: no limit.
    notsent_lowat: usize = u32::MAX as usize;
    /// Idle time before the first keep-alive probe (`tcp_keepalive_time`). 7200 s (RFC 9293 §3.8.4).
    keepalive_time: Duration = Duration::from_secs(7200);
    /// Time between keep-alive probes (`tcp_keepalive_intvl`). 75 s.
    keepalive_interval: Duration = Duration::from_secs(75);
    /// Keep-alive probes without an answer that end a connection (`tcp_keepalive_probes`). 9.
    keepalive_retries: u32 = 9;
    /// How long data may stay unacknowledged (TCP_USER_TIMEOUT, RFC 5482) on new sockets. `none`: `retries2` decides.
    user_timeout: Option<Duration> = None;
    /// Upper bound of a listener's backlog (`net.core.somaxconn`). 4096.
    somaxconn: u32 = 4096;
    /// Half-open connections of a listener at most where there are no SYN cookies; the last quarter
    /// stays free (`tcp_max_syn_backlog`). Its backlog is a limit in any case. 4096.
    max_syn_backlog: u32 = 4096;
    /// When a listener answers SYNs without remembering them (`tcp_syncookies`, RFC 4987 §3.6).
    /// `overflow`, which Linux calls 1.
    syncookies: SynCookieMode = SynCookieMode::Overflow;
    /// How long the application may take to decide about a SYN where it is asked
    /// ([`PendingListener`](crate::net::PendingListener)); then the SYN is forgotten. 63 s, as long as
    /// a half-open connection lasts.
    pending_accept_timeout: Duration = Duration::from_secs(63);
    /// Reset a connection that is complete when the accept queue is full, instead of ignoring its
    /// last acknowledgment (`tcp_abort_on_overflow`). Off.
    abort_on_overflow: bool = false;
    /// Ports that are chosen automatically (`ip_local_port_range`). 32768-60999.
    port_range: RangeInclusive<u16> = 32_768..=60_999;
    /// Connections that no application holds, at most; beyond, closing resets (`tcp_max_orphans`). 65536.
    max_orphans: u32 = 65_536;
    /// Connections at most, TIME-WAIT not counted. A stack setting; 1048576.
    max_connections: u32 = 1 << 20;
    /// Least time between two challenge ACKs, or two answers to segments outside the window, of one
    /// connection (`tcp_invalid_ratelimit`, RFC 5961 §7). 500 ms.
    challenge_ack_interval: Duration = Duration::from_millis(500);
    /// Smallest MSS that a peer can make us use (`tcp_min_snd_mss`). 48.
    min_snd_mss: u32 = 48;
    /// What Fast Open may be used for (`tcp_fastopen`, RFC 7413). 0x3: sockets that ask for it, in both
    /// roles. Linux's default is 0x1, which ignores what listeners ask for.
    fastopen: FastOpenMode = FastOpenMode::CLIENT.with(FastOpenMode::SERVER);
    /// The keys behind the Fast Open cookies of listeners (`tcp_fastopen_key`), the backup key behind
    /// a comma. `none`: a random one.
    fastopen_key: Option<FastOpenKeys> = None;
    /// Bytes of the Fast Open cookies of listeners: an even number from 4 to 16. 8, as in Linux, whose
    /// cookies have no other length.
    fastopen_cookie_len: u8 = 8;
    /// How long Fast Open of active opens pauses after something on the way swallowed a connection
    /// for it; doubled each time, up to 64 times (`tcp_fastopen_blackhole_timeout_sec`). 0s: no pause.
    fastopen_blackhole_timeout: Duration = Duration::ZERO;
    /// Servers of which a stack remembers Fast Open cookies. 1024.
    fastopen_cache_size: u32 = 1024;
    /// How long a Fast Open cookie is used (RFC 7413 §4.1.3 leaves it open). 24 hours.
    fastopen_cache_age: Duration = Duration::from_secs(24 * 3600);
    /// Time to live, or hop limit, of what the stack sends (`ip_default_ttl`). 64.
    default_ttl: u8 = 64;
    /// ICMP errors that the stack sends in a second at most (`icmp_msgs_per_sec`; RFC 4443 §2.4(f)). 1000.
    icmp_rate: u32 = 1000;
    /// ICMP errors in a burst at most (`icmp_msgs_burst`). 50.
    icmp_burst: u32 = 50;
    /// Explicit congestion notification (`tcp_ecn`). `accept`, which Linux calls 2.
    ecn: EcnNegotiation = EcnNegotiation::Accept;
    /// Send a SYN again without asking for ECN if the first was not answered (`tcp_ecn_fallback`,
    /// RFC 3168 §6.1.1.1). On.
    ecn_fallback: bool = true;
    /// When segments carry the AccECN option (`tcp_ecn_option`). `always`, which Linux calls 2.
    ecn_option: EcnOption = EcnOption::Always;
    /// With `ecn_option` `minimal`: how often in a round trip at least (`tcp_ecn_option_beacon`). 3.
    ecn_option_beacon: u32 = 3;
    /// What new sockets do about the MTU of their path (`IP_MTU_DISCOVER`; `ip_no_pmtu_disc` makes it
    /// `dont` in Linux). `want`.
    mtu_discover: MtuDiscover = MtuDiscover::Want;
    /// Packetisation-layer path MTU discovery (`tcp_mtu_probing`, RFC 4821). `off`, which Linux calls 0.
    mtu_probing: MtuProbing = MtuProbing::Off;
    /// The MSS with which probing starts (`tcp_base_mss`). 1024.
    base_mss: u32 = 1024;
    /// The MSS below which a black hole is not followed (`tcp_mtu_probe_floor`). 48.
    mtu_probe_floor: u32 = 48;
    /// Time after which a search that has ended begins again (`tcp_probe_interval`). 600 s.
    mtu_probe_interval: Duration = Duration::from_secs(600);
    /// The search ends when its range is smaller than this, in bytes (`tcp_probe_threshold`). 8.
    mtu_probe_threshold: u32 = 8;
    /// How long the MTU of a path counts that ICMP told (`route.mtu_expires`, RFC 1191 §6.3). 600 s.
    mtu_expires: Duration = Duration::from_secs(600);
    /// Smallest MTU that ICMP can give an IPv4 path (`route.min_pmtu`); below, packets are sent without
    /// DF instead. 552; RFC 1191 §3 allows down to 68.
    min_pmtu: u32 = 552;
    /// Hosts of which the stack remembers the path's MTU and what connections measured. A stack
    /// setting; 4096.
    max_destinations: u32 = 4096;
    /// Do not remember what connections measured (`tcp_no_metrics_save`). Off.
    no_metrics_save: bool = false;
    /// Do not remember slow start thresholds (`tcp_no_ssthresh_metrics_save`). On.
    no_ssthresh_metrics_save: bool = true;
    /// Resets that the stack sends in a second at most for segments that belong to no connection,
    /// those of its loopback not counted. Linux has no such limit; BSD's is 200. 10000.
    reset_rate: u32 = 10_000;
    /// Such resets in a burst at most. 10000.
    reset_burst: u32 = 10_000;
    /// Whether the stack has a loopback interface, with 127.0.0.0/8, ::1 and its own addresses. On.
    loopback: bool = true;
    /// Seed of everything random. `none`: from the operating system. A known seed makes sequence
    /// numbers and ports guessable: for tests.
    seed: Option<u64> = None;
    /// How long the end of a process waits for bytes that were accepted but are not acknowledged yet. 10 s.
    exit_drain: Duration = Duration::from_secs(10);
}

/// What is wrong with a setting: its key and what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Checks that the values make sense and fit together.
    ///
    /// # Errors
    /// Names the first setting that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let ensure = |holds: bool, rule: &str| if holds { Ok(()) } else { Err(ConfigError(rule.to_owned())) };
        ensure(!self.rto_min.is_zero(), "rto_min: must not be zero")?;
        ensure(
            self.rto_min <= self.rto_initial && self.rto_initial <= self.rto_max,
            "rto_initial: must be between rto_min and rto_max",
        )?;
        ensure((1..=127).contains(&self.syn_retries), "syn_retries: must be 1 to 127")?;
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
        ensure(!self.keepalive_time.is_zero(), "keepalive_time: must not be zero")?;
        ensure(!self.keepalive_interval.is_zero(), "keepalive_interval: must not be zero")?;
        ensure((1..=127).contains(&self.keepalive_retries), "keepalive_retries: must be 1 to 127")?;
        ensure(
            *self.port_range.start() > 0 && !self.port_range.is_empty(),
            "port_range: must be first-last with 0 < first <= last",
        )?;
        ensure(!self.pending_accept_timeout.is_zero(), "pending_accept_timeout: must not be zero")?;
        ensure(self.max_connections > 0, "max_connections: must not be zero")?;
        // Below the option space of a segment the header would outweigh any payload for ever.
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
        assert!(bad(|c| c.recv_buffer_initial = 8 << 20).starts_with("recv_buffer_initial:"));
        assert!(bad(|c| c.fastopen_cookie_len = 7).starts_with("fastopen_cookie_len:"));
        assert!(bad(|c| c.port_range = 0..=5).starts_with("port_range:"));
        assert!(bad(|c| c.syn_retries = 0).starts_with("syn_retries:"));
        assert!(bad(|c| c.delayed_ack_max = Duration::from_millis(500)).starts_with("delayed_ack_max:"));
    }
}
