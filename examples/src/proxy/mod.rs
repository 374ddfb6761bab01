//! A proxy for everything that arrives on a stack: TCP, UDP and pings to any address, connected directly through
//! the kernel or through a SOCKS5 server. The example `tun2socks` puts it behind a TUN device.
//!
//! ```text
//! run        the proxy, from its start to its end in order     config   what it can be set to
//! tcp        a connection: half-closes, resets, time-outs      upstream kernel sockets, direct or by SOCKS5
//! udp        flows, and associations of clients ("full cone")  buffers  memory for copies, only while it is used
//! ping       echo requests                                     copy     one direction of a connection
//! log        events, as text or as JSON lines                  batch    several datagrams in one call
//! dns        queries, answered by a listener of its own        stats    the table of sockets, live
//! ```

mod batch;
mod buffers;
mod config;
mod copy;
mod dns;
mod log;
mod ping;
mod run;
mod stats;
mod tasks;
mod tcp;
mod udp;
mod upstream;

pub use buffers::{Buffer, Buffers};
pub use config::{Dns, Limits, PingPolicy, ProxyConfig, Timeouts};
pub use copy::{Activity, Source, copy};
pub use log::Log;
pub use run::{Counts, Proxy};
pub use stats::show;
pub use upstream::{Outbound, Upstream};
