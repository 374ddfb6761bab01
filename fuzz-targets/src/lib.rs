//! What the fuzz targets of netstack do with their input.
//!
//! Each target is a function from bytes to nothing that panics if netstack does what it must not. The crate
//! `fuzz` calls them from libFuzzer with bytes that it finds, and `tests/corpus.rs` with the bytes that were
//! found before, so that they are tried with every toolchain.

pub mod datagrams;
pub mod engine;
pub mod fragments;
pub mod icmp;
pub mod options;
pub mod stream;
pub mod text;
#[cfg(target_os = "linux")]
pub mod virtio;
pub mod wire;

mod packets;
mod world;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is that of its corpus too.
    pub name: &'static str,
    /// What it does with its input.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "datagrams", run: datagrams::run },
    Target { name: "engine", run: engine::run },
    Target { name: "fragments", run: fragments::run },
    Target { name: "icmp", run: icmp::run },
    Target { name: "options", run: options::run },
    Target { name: "stream", run: stream::run },
    Target { name: "text", run: text::run },
    #[cfg(target_os = "linux")]
    Target { name: "virtio", run: virtio::run },
    Target { name: "wire", run: wire::run },
];
