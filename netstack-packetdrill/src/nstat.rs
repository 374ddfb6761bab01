//! The stack's counters for nstat(8), which scripts call: the runner puts its own nstat first in
//! the path, which reads the file that this module writes before each command of a script.

use netstack::stack::Counters;
use std::fmt::Write as _;

/// The environment variable with the name of a file of lines `TcpExtOutOfWindowIcmps 1`.
pub const FILE_VARIABLE: &str = "NETSTACK_PACKETDRILL_COUNTERS";

/// Counters of `/proc/net/snmp`, which nstat prefixes with their table; all others of Linux's are in
/// `TcpExt` of `/proc/net/netstat`.
const TABLES: &[(&str, &[&str])] = &[
    ("Ip", &["InReceives", "InHdrErrors", "InAddrErrors", "InUnknownProtos", "ReasmOKs", "OutRequests"]),
    ("Tcp", &["InSegs", "InErrs", "OutRsts", "ActiveOpens", "PassiveOpens", "AttemptFails"]),
    ("Udp", &["NoPorts"]),
    ("", &["IcmpInMsgs", "IcmpOutMsgs", "IcmpOutRateLimitGlobal"]),
];

/// The counters with nstat's names, one per line.
pub fn lines(counters: &Counters) -> String {
    let mut text = String::new();
    for (name, value) in counters.iter() {
        let table = TABLES.iter().find(|(_, names)| names.contains(&name));
        let prefix = table.map_or("TcpExt", |(prefix, _)| *prefix);
        writeln!(text, "{prefix}{name} {value}").expect("a string takes everything");
    }
    text
}

/// Writes the counters to the file that the runner named, if it did.
pub fn write_down(counters: &Counters) {
    if let Some(path) = std::env::var_os(FILE_VARIABLE) {
        // A script that needs them fails without them, and reports that.
        let _ = std::fs::write(path, lines(counters));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_nstat() {
        let mut counters = Counters::default();
        (counters.icmp_out_of_window, counters.tcp_in_segments, counters.icmp_in) = (1, 2, 3);
        let text = lines(&counters);
        for line in ["TcpExtOutOfWindowIcmps 1", "TcpInSegs 2", "IcmpInMsgs 3", "UdpNoPorts 0"] {
            assert!(text.lines().any(|other| other == line), "{line}");
        }
        assert_eq!(text.lines().count(), counters.iter().count());
    }
}
