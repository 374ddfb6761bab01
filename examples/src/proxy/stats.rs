//! The table of sockets, live.

use super::run::Proxy;
use std::io::{self, IsTerminal, Write};

/// Sockets that are shown at most.
const ROWS: usize = 40;

/// Shows the sockets of the proxy's stack, in place if standard output is a terminal.
///
/// # Errors
/// Those of standard output.
pub fn show(proxy: &Proxy) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if out.is_terminal() {
        // ECMA-48: to the first place, and erase what is behind.
        write!(out, "\x1b[H\x1b[J")?;
    }
    out.write_all(table(proxy).as_bytes())?;
    out.flush()
}

/// The counts of the proxy, and a row for each socket.
fn table(proxy: &Proxy) -> String {
    let rows = proxy.stack().sockets();
    let mut text = format!("{}\n", proxy.counts());
    text.push_str("Netid State      Recv-Q Send-Q         Local Address          Peer Address\n");
    for row in rows.iter().take(ROWS) {
        text.push_str(&format!("{row}\n"));
    }
    if rows.len() > ROWS {
        text.push_str(&format!("... and {} more\n", rows.len() - ROWS));
    }
    text
}
