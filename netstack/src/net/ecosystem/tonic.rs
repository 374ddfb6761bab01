//! Servers and clients of the crate `tonic`, of version 0.14, on the sockets of a stack.
//!
//! A server takes the connections of [`TcpListener::incoming`](crate::net::TcpListener::incoming) or
//! [`TcpListenerStream`](crate::net::TcpListenerStream), with `Server::serve_with_incoming`. `Request::remote_addr`
//! says who the client is, as with tokio's sockets, since a connection has [`TcpConnectInfo`]. A client takes
//! `net::hyper::Connector`, of the feature `hyper-util-0_1`, with `Endpoint::connect_with_connector`.
//!
//! ```
//! use netstack::net::TcpListenerStream;
//! use tonic::transport::server::{Connected, TcpConnectInfo};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! # let stack = netstack::Stack::builder().build()?;
//! let listener = stack.listen("127.0.0.1:50051").await?;
//! let client = stack.connect("127.0.0.1:50051").await?;
//! let (server, peer) = listener.accept().await?;
//! // What a service finds in the extensions of a request.
//! let info: TcpConnectInfo = server.connect_info();
//! assert_eq!(info.remote_addr(), Some(peer));
//! // For `Server::serve_with_incoming`.
//! let connections = TcpListenerStream::new(listener);
//! # drop((client, connections));
//! # Ok(())
//! # }
//! ```

use crate::net::tcp::TcpStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

impl Connected for TcpStream {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo { local_addr: self.local_addr().ok(), remote_addr: self.peer_addr().ok() }
    }
}
