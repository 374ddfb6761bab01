//! QUIC of quinn on the UDP sockets of netstack.
//!
//! ```text
//! cargo run -p netstack-ecosystem --example quinn_echo            a client over a link in memory
//! cargo build -p netstack-ecosystem --example quinn_echo
//! unshare -rn sh -c 'target/debug/examples/quinn_echo --tun & sleep 1; …; kill $!'
//! ```
//!
//! In place of `…` there is a client of yours, which connects to UDP port 443 of 10.9.0.2. `tests/outside.rs` has one.

use netstack::net::quinn::endpoint;
use netstack_ecosystem::place::{CLIENT, Failure, Place, SERVER};
use netstack_ecosystem::tls;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, EndpointConfig, ServerConfig};
use std::sync::Arc;

/// What a stream may be long at most.
const LIMIT: usize = 16 << 20;

/// Sends back each stream once it has ended.
async fn serve(endpoint: Endpoint) -> Result<(), Failure> {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await?;
            while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                let said = receive.read_to_end(LIMIT).await?;
                send.write_all(&said).await?;
                send.finish()?;
            }
            Ok::<(), Failure>(())
        });
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let place = Place::from_args()?;
    let (server, client) = tls::settings()?;
    let server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server)?));
    let socket = place.server.udp_socket((SERVER, 443)).await?;
    let serving = tokio::spawn(serve(endpoint(EndpointConfig::default(), Some(server), socket)?));
    let Some(stack) = place.client else {
        println!("QUIC at {SERVER}, port 443");
        return serving.await?;
    };
    let socket = stack.udp_socket((CLIENT, 0)).await?;
    let endpoint = endpoint(EndpointConfig::default(), None, socket)?;
    let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(client)?));
    let connection = endpoint.connect_with(config, (SERVER, 443).into(), tls::NAME)?.await?;
    for said in [vec![1; 5], vec![2; 4 << 20]] {
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(&said).await?;
        send.finish()?;
        let echoed = receive.read_to_end(LIMIT).await?;
        if echoed != said {
            return Err("something else came back".into());
        }
        println!("{} bytes came back", echoed.len());
    }
    println!("round trip {:?}, MTU {}", connection.rtt(), connection.stats().path.current_mtu);
    connection.close(0u32.into(), b"done");
    endpoint.wait_idle().await;
    Ok(())
}
