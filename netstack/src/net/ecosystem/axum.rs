//! `axum::serve` on a [`TcpListener`], for the crate `axum`, of version 0.8.
//!
//! The listener is given to `axum::serve` as tokio's is:
//!
//! ```
//! use axum::Router;
//! use netstack::net::TcpListener;
//!
//! # async fn example(stack: &netstack::Stack) -> std::io::Result<()> {
//! let listener = TcpListener::bind_on(stack, "10.0.0.2:80").await?;
//! axum::serve(listener, Router::new()).await
//! # }
//! ```
//!
//! # Who is the client?
//! axum implements what the extractor `ConnectInfo` needs for tokio's listener, and lets nobody else do so for
//! `SocketAddr`. It does so, too, for any listener that went through `ListenerExt::tap_io`. So that is the way
//! to the address of a client:
//!
//! ```
//! use axum::extract::ConnectInfo;
//! use axum::serve::ListenerExt;
//! use axum::{Router, routing::get};
//! use netstack::net::{TcpListener, TcpStream};
//! use std::net::SocketAddr;
//!
//! # async fn example(stack: &netstack::Stack) -> std::io::Result<()> {
//! async fn whoami(ConnectInfo(client): ConnectInfo<SocketAddr>) -> String {
//!     client.to_string()
//! }
//!
//! let app = Router::new().route("/", get(whoami)).into_make_service_with_connect_info::<SocketAddr>();
//! let listener = TcpListener::bind_on(stack, "10.0.0.2:80").await?;
//! // What is done to each connection, here as with tokio's listener.
//! let listener = listener.tap_io(|stream: &mut TcpStream| drop(stream.set_nodelay(true)));
//! axum::serve(listener, app).await
//! # }
//! ```

use crate::net::tcp::{TcpListener, TcpStream};
use axum::serve::Listener;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// How long a listener waits after an error that is not of one connection, as axum does with tokio's.
const PAUSE: Duration = Duration::from_secs(1);

/// `accept` does not fail: it tries again after an error, and waits for ever once the stack is over.
impl Listener for TcpListener {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match Self::accept(self).await {
                Ok(accepted) => return accepted,
                Err(_) if self.is_over() => std::future::pending().await,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
}
