//! A proxy for everything that arrives on a stack: TCP, UDP and pings to any address, connected directly through
//! the kernel or through a SOCKS5 server. The example `tun2socks` puts it behind a TUN device.
//!
//! ```text
//! run        the proxy, from its start to its end in order     config   what it can be set to
//! tcp        a connection: half-closes, resets, time-outs      upstream kernel sockets, direct or by SOCKS5
//! udp        flows, and associations of clients ("full cone")  buffers  memory for copies, only while it is used
//! ping       echo requests                                     log      events, as text or as JSON lines
//! dns        queries, answered by a listener of its own        stats    the table of sockets, live
//! ```

mod buffers;
mod config;
mod dns;
mod log;
mod ping;
mod run;
mod stats;
mod tasks;
mod tcp;
mod udp;
mod upstream;

pub use config::{Dns, Limits, PingPolicy, ProxyConfig, Timeouts};
pub use log::Log;
pub use run::{Counts, Proxy};
pub use stats::show;
pub use upstream::{Outbound, Upstream};
