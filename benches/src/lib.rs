//! The tools and contenders of netstack's benches.
//!
//! The `README.md` of this crate describes how to run them, and the contenders.
//!
//! ```text
//! contender  who is measured, on which interface          scenario  what is measured, in all its variants
//! serve      one contender, as a process                  client    the other end: the kernel's TCP
//! services   what contenders do with connections          datagrams the same for UDP, both ends
//! limit      a TUN endpoint that is no stack              transfer  what both ends have counted
//! peers      other stacks                                 site      a contender in namespaces of its own
//! rounds     interleaved rounds, which count, ratios      report    tables, JSON lines, SVG
//! forward    a proxy on different stacks                  lane      transfers over impaired paths
//! pinning    which processors both ends have
//! million    very many connections in memory              pair, counts, hostile: costs without a system
//!                                                         devices   what those run on
//! ```

#![cfg(target_os = "linux")]
#![forbid(unsafe_code)]

pub mod client;
pub mod clock;
pub mod contender;
pub mod counts;
pub mod datagrams;
pub mod devices;
pub mod forward;
pub mod hostile;
pub mod lane;
pub mod limit;
pub mod million;
pub mod pair;
mod peers;
pub mod pinning;
pub mod polled;
pub mod process;
pub mod report;
pub mod rounds;
pub mod scenario;
pub mod serve;
pub mod services;
pub mod site;
pub mod stats;
pub mod transfer;
mod wait;
