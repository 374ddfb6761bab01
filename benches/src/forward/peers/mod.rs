//! The same proxy on other stacks, as their examples have it. What their examples leave open is chosen in their
//! favour: copies are of 64 KiB, and a device's descriptor is read and written without a crate in between.

mod device;
pub(super) mod ipstack;
pub(super) mod smoltcp;
pub(super) mod tcp_ip;

use super::PEER_BUFFER;
use super::splice::connect;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};

/// Serves one connection. The clients judge how it ends.
async fn relay(mut client: impl AsyncRead + AsyncWrite + Unpin, to: SocketAddr) {
    if let Ok(mut upstream) = connect(to).await {
        let _ =
            tokio::io::copy_bidirectional_with_sizes(&mut client, &mut upstream, PEER_BUFFER, PEER_BUFFER)
                .await;
    }
}
