//! A TCP/IP stack in user space with the API of `tokio::net`.
#![forbid(unsafe_code)]

pub mod buffer;
pub mod config;
pub mod device;
mod error;
pub mod icmp;
pub mod ip;
pub mod stack;
pub mod sync;
pub mod tcp;
pub mod time;
pub mod wire;
