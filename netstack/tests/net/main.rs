//! The facade as applications use it, over loopback and over links in virtual time. What tokio's own
//! tests assert of its TCP sockets is asserted here, one file per behaviour.

mod common;

mod adding;
mod ambient;
mod auto_traits;
mod blocked;
mod bridge;
mod changing;
mod chunks;
mod clock;
mod congestion;
mod driver;
mod fast_open;
mod faults;
#[cfg(unix)]
mod fd_device;
mod icmp;
mod option_effects;
mod options;
#[cfg(unix)]
mod polling;
mod tcp_accept;
mod tcp_connect;
mod tcp_forwarder;
mod tcp_into_split;
mod tcp_peek;
mod tcp_pending;
mod tcp_shutdown;
mod tcp_stream;
mod udp;
mod udp_as_kernel;
mod udp_forwarder;
