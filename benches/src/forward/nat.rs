//! Flows of datagrams, for what delivers those of all clients together.

use std::collections::HashMap;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::UdpSocket;

/// A measurement has few flows.
const MAX_FLOWS: usize = 1024;

/// The way back to the clients.
pub(crate) trait Replies: Clone + Send + Sync + 'static {
    /// Sends to `client` in the name of `from`.
    fn reply(&self, from: SocketAddr, client: SocketAddr, payload: &[u8]) -> impl Future<Output = ()> + Send;
}

/// One kernel socket for each pair of client and destination.
pub(crate) struct Nat<R> {
    flows: HashMap<(SocketAddr, SocketAddr), Arc<UdpSocket>>,
    replies: R,
}

impl<R: Replies> Nat<R> {
    pub(crate) fn new(replies: R) -> Self {
        Self { flows: HashMap::new(), replies }
    }

    /// Passes on what `client` has sent to `to`. What cannot be passed on is lost, as on the way.
    pub(crate) async fn send(&mut self, client: SocketAddr, to: SocketAddr, payload: &[u8]) {
        if !self.flows.contains_key(&(client, to)) {
            let Ok(socket) = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await else { return };
            if socket.connect(to).await.is_err() {
                return;
            }
            if self.flows.len() >= MAX_FLOWS {
                self.flows.clear();
            }
            let socket = Arc::new(socket);
            tokio::spawn(replies(Arc::clone(&socket), self.replies.clone(), client, to));
            self.flows.insert((client, to), socket);
        }
        let _ = self.flows[&(client, to)].send(payload).await;
    }
}

async fn replies(socket: Arc<UdpSocket>, replies: impl Replies, client: SocketAddr, from: SocketAddr) {
    let mut buf = vec![0; 1 << 16];
    loop {
        let Ok(()) = socket.readable().await else { continue };
        while let Ok(len) = socket.try_recv(&mut buf) {
            replies.reply(from, client, &buf[..len]).await;
        }
    }
}
