//! Other crates on the sockets of netstack.

mod axum;
mod axum_hello;
mod hyper;
mod quinn;
mod tokio_util;
mod tonic;
