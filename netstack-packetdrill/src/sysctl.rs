//! The settings that scripts make with `sysctl`, and those of the namespace that they run in.
//!
//! Scripts begin with commands such as `sysctl -q net.ipv4.tcp_timestamps=0`, or write below
//! `/proc/sys`. In a private network namespace that affects no other network, so both have their
//! usual effect, and [`Sysctls::read`] reads the result. Where `/proc/sys` is not writable, the
//! runner puts a `sysctl` first in the path that writes to the file that [`FILE_VARIABLE`] names.

use netstack::config::{Config, CongestionName};
use std::collections::BTreeMap;
use std::path::Path;

/// The environment variable with the name of a file of lines `net.ipv4.tcp_sack=0`.
pub const FILE_VARIABLE: &str = "NETSTACK_PACKETDRILL_SYSCTL";

/// How the text of a variable is converted to that of a setting.
#[derive(Clone, Copy, Debug)]
enum Form {
    Same,
    /// A number of this unit.
    Unit(&'static str),
    /// The n-th of several numbers.
    Field(usize),
    /// Two ports.
    Range,
    /// A number, 0 of which means the default.
    Default0,
    /// On from this number on.
    From(u32),
    /// The name of a congestion control.
    Congestion,
}

/// Variables and the settings behind them. One of the form `tcp_KEY` that is not here stands for the
/// setting KEY, if there is one.
const TABLE: &[(&str, &str, Form)] = &[
    ("ipv4/icmp_msgs_burst", "icmp_burst", Form::Same),
    ("ipv4/icmp_msgs_per_sec", "icmp_rate", Form::Same),
    ("ipv4/icmp_ratelimit", "icmp_host_interval", Form::Unit("ms")),
    ("ipv4/ip_default_ttl", "default_ttl", Form::Same),
    ("ipv4/ip_local_port_range", "port_range", Form::Range),
    ("ipv4/tcp_early_retrans", "early_retrans", Form::From(3)),
    ("ipv4/tcp_fastopen_blackhole_timeout_sec", "fastopen_blackhole_timeout", Form::Unit("s")),
    ("ipv4/tcp_fin_timeout", "fin_timeout", Form::Unit("s")),
    ("ipv4/tcp_invalid_ratelimit", "challenge_ack_interval", Form::Unit("ms")),
    ("ipv4/tcp_keepalive_intvl", "keepalive_interval", Form::Unit("s")),
    ("ipv4/tcp_keepalive_probes", "keepalive_retries", Form::Same),
    ("ipv4/tcp_keepalive_time", "keepalive_time", Form::Unit("s")),
    ("ipv4/tcp_min_rtt_wlen", "min_rtt_window", Form::Unit("s")),
    ("ipv4/tcp_orphan_retries", "orphan_retries", Form::Default0),
    ("ipv4/tcp_probe_interval", "mtu_probe_interval", Form::Unit("s")),
    ("ipv4/tcp_probe_threshold", "mtu_probe_threshold", Form::Same),
    ("ipv4/tcp_rmem", "recv_buffer_initial", Form::Field(1)),
    ("ipv4/tcp_rmem", "recv_buffer_max", Form::Field(2)),
    ("ipv4/tcp_rto_max_ms", "rto_max", Form::Unit("ms")),
    ("ipv4/tcp_rto_min_us", "rto_min", Form::Unit("us")),
    ("ipv4/tcp_syncookies", "syncookies", Form::Same),
    ("ipv4/tcp_wmem", "send_buffer_initial", Form::Field(1)),
    ("ipv4/tcp_wmem", "send_buffer_max", Form::Field(2)),
];

/// Variables that depend on the machine, its memory or its configuration. They are used only if a
/// script has set them.
const OF_THE_MACHINE: &[(&str, &str, Form)] = &[
    ("core/somaxconn", "somaxconn", Form::Same),
    ("ipv4/tcp_congestion_control", "congestion", Form::Congestion),
    ("ipv4/tcp_max_orphans", "max_orphans", Form::Same),
    ("ipv4/tcp_max_syn_backlog", "max_syn_backlog", Form::Same),
    ("ipv4/tcp_max_tw_buckets", "max_time_wait", Form::Same),
];

/// The variables of the network at one moment, by their path below `net`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sysctls(BTreeMap<String, String>);

impl Sysctls {
    /// Reads `/proc/sys`, and the file that replaces it.
    pub fn read() -> Self {
        let mut all = Self::default();
        all.add_proc(Path::new("/proc/sys/net"));
        if let Some(path) = std::env::var_os(FILE_VARIABLE) {
            all.add_lines(&std::fs::read_to_string(path).unwrap_or_default());
        }
        all
    }

    fn add_proc(&mut self, root: &Path) {
        for entry in std::fs::read_dir(root.join("ipv4")).into_iter().flatten().flatten() {
            let name = format!("ipv4/{}", entry.file_name().to_string_lossy());
            if name.starts_with("ipv4/tcp_") || rows(&name).next().is_some() {
                self.add_file(root, &name);
            }
        }
        self.add_file(root, "core/somaxconn");
    }

    fn add_file(&mut self, root: &Path, name: &str) {
        // Not all of them may be read, and some kernels have fewer.
        if let Ok(value) = std::fs::read_to_string(root.join(name)) {
            self.0.insert(name.to_owned(), value.trim().to_owned());
        }
    }

    fn add_lines(&mut self, lines: &str) {
        for (name, value) in lines.lines().filter_map(|line| line.split_once('=')) {
            if let Some(name) = normalize(name) {
                self.0.insert(name, value.trim().to_owned());
            }
        }
    }

    /// The variables that change when the script makes the kernel drop the cookies of servers, in
    /// one of two ways: `ip tcp_metrics flush`, which the runner records, and a variable of some
    /// kernels.
    pub fn flushes(&self) -> [Option<&String>; 2] {
        ["ipv4/tcp_metrics_flush", "ipv4/tcp_fastopen_cookies"].map(|name| self.0.get(name))
    }

    /// Sets the variables in `config` that have a setting there. Values that a setting does not
    /// accept are skipped, because they name things that netstack does not have.
    pub fn apply_all(&self, config: &mut Config) {
        for (name, value) in &self.0 {
            apply(config, name, value, false);
        }
    }

    /// As [`Sysctls::apply_all`], with those variables alone that were different `before`.
    pub fn apply_changed(&self, before: &Self, config: &mut Config) {
        for (name, value) in self.0.iter().filter(|(name, value)| before.0.get(*name) != Some(value)) {
            apply(config, name, value, true);
        }
    }
}

/// `net.ipv4.tcp_sack`, `net/ipv4/tcp_sack` or its path, as `ipv4/tcp_sack`; none if it is not one
/// of the network.
pub fn normalize(name: &str) -> Option<String> {
    let name = name.trim();
    let name = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let name = name.strip_prefix("/proc/sys/").unwrap_or(&name);
    name.strip_prefix("net/").map(str::to_owned)
}

fn rows(name: &str) -> impl Iterator<Item = &'static (&'static str, &'static str, Form)> {
    TABLE.iter().chain(OF_THE_MACHINE).filter(move |(row, ..)| *row == name)
}

fn apply(config: &mut Config, name: &str, value: &str, changed: bool) {
    if !changed && OF_THE_MACHINE.iter().any(|(row, ..)| *row == name) {
        return;
    }
    let mut known = false;
    for (_, key, form) in rows(name) {
        known = true;
        set(config, key, form.convert(value));
    }
    if let Some(key) = name.strip_prefix("ipv4/tcp_").filter(|_| !known) {
        set(config, key, Some(value.to_owned()));
    }
}

fn set(config: &mut Config, key: &str, value: Option<String>) {
    let Some(value) = value else { return };
    // Not accepted: the value names something that this stack does not have.
    let _refused = config.set(key, &value).is_err();
}

impl Form {
    fn convert(self, value: &str) -> Option<String> {
        let mut fields = value.split_whitespace();
        match self {
            Self::Same => Some(value.to_owned()),
            Self::Unit(unit) => Some(format!("{value}{unit}")),
            Self::Field(n) => fields.nth(n).map(str::to_owned),
            Self::Range => Some(format!("{}-{}", fields.next()?, fields.next()?)),
            Self::From(least) => Some((value.parse::<u32>().ok()? >= least).to_string()),
            Self::Default0 => (value != "0").then(|| value.to_owned()),
            Self::Congestion => CongestionName::built_in(value).map(|name| name.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn sysctls(lines: &str) -> Sysctls {
        let mut sysctls = Sysctls::default();
        sysctls.add_lines(lines);
        sysctls
    }

    #[test]
    fn variables_set_their_settings() {
        let mut config = Config::default();
        sysctls(
            "net.ipv4.tcp_rmem=4096 540000 15728640\nnet/ipv4/tcp_wmem = 4096\t262144\t4194304\n\
             /proc/sys/net/ipv4/tcp_timestamps=0\nnet.ipv4.tcp_fin_timeout=30\nnet.ipv4.ip_local_port_range=1000 2000\n\
             net.ipv4.tcp_syn_retries=5\nnet.ipv4.tcp_syn_linear_timeouts=2\nnet.ipv4.tcp_orphan_retries=0\n\
             kernel.hostname=me",
        )
        .apply_all(&mut config);
        let expected = Config::default().with(|config| {
            config.recv_buffer_initial = 540_000;
            config.recv_buffer_max = 15 << 20;
            config.send_buffer_initial = 256 << 10;
            config.send_buffer_max = 4 << 20;
            config.timestamps = false;
            config.fin_timeout = Duration::from_secs(30);
            config.port_range = 1000..=2000;
            config.syn_retries = 5;
            config.syn_linear_timeouts = 2;
        });
        assert_eq!(config, expected);
    }

    #[test]
    fn what_netstack_does_not_have_is_left_out() {
        let mut config = Config::default();
        sysctls("net.ipv4.tcp_congestion_control=vegas\nnet.ipv4.tcp_no_such_thing=1").apply_all(&mut config);
        assert_eq!(config, Config::default());
    }

    #[test]
    fn what_says_something_of_the_machine_counts_only_where_it_was_set() {
        let before = sysctls("net.ipv4.tcp_max_syn_backlog=128\nnet.core.somaxconn=128");
        let mut config = Config::default();
        before.apply_all(&mut config);
        assert_eq!(config, Config::default());
        let after = sysctls("net.ipv4.tcp_max_syn_backlog=128\nnet.core.somaxconn=7");
        after.apply_changed(&before, &mut config);
        assert_eq!(config, Config::default().with(|config| config.somaxconn = 7));
    }

    #[test]
    fn the_table_names_settings_that_exist() {
        for (name, key, _) in TABLE.iter().chain(OF_THE_MACHINE) {
            assert!(Config::keys().contains(key), "{name}: {key}");
        }
    }
}
