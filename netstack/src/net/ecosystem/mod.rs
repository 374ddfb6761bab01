//! What the crates around tokio need to take sockets of a stack, each behind a feature with the version of the
//! crate in its name.
//!
//! Most need nothing: a crate that takes any [`AsyncRead`](tokio::io::AsyncRead) and
//! [`AsyncWrite`](tokio::io::AsyncWrite) takes a [`TcpStream`](crate::net::TcpStream). tokio-rustls,
//! tokio-tungstenite, h2, tokio-postgres (`connect_raw`), redis (`MultiplexedConnection`) and russh
//! (`connect_stream`, `run_stream`) do.

#[cfg(feature = "axum-0_8")]
pub mod axum;
#[cfg(feature = "hickory-0_26")]
pub mod hickory;
#[cfg(feature = "hyper-util-0_1")]
pub mod hyper;
#[cfg(feature = "quinn-0_11")]
pub mod quinn;
#[cfg(feature = "tokio-util-0_7")]
pub mod tokio_util;
#[cfg(feature = "tonic-0_14")]
pub mod tonic;
