//! A client of hyper over TLS.
//!
//! ```text
//! cargo run -p netstack-ecosystem --example hyper_client            it asks a server over a link in memory
//! cargo build -p netstack-ecosystem --example hyper_client
//! unshare -rn sh -c 'target/debug/examples/hyper_client --tun & sleep 1; curl -k https://10.9.0.2/; kill $!'
//! ```
//!
//! rustls wraps the `Connector` of netstack as it wraps that of hyper-util. Over TUN only the server runs.

use axum::{Router, routing::get};
use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use netstack::Stack;
use netstack::net::TcpListener;
use netstack::net::hyper::Connector;
use netstack_ecosystem::place::{Failure, Place, SERVER};
use netstack_ecosystem::tls;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;

/// Serves HTTP over TLS.
async fn serve(listener: TcpListener, config: rustls::ServerConfig) -> std::io::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let app = Router::new().route("/", get(async || "Hello over TLS\n"));
    loop {
        let (stream, _) = listener.accept().await?;
        let (acceptor, app) = (acceptor.clone(), app.clone());
        tokio::spawn(async move {
            // A client that does not speak TLS is its own problem.
            let stream = acceptor.accept(stream).await.ok()?;
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
            connection.await.ok()
        });
    }
}

/// How often the client asks.
const REQUESTS: usize = 10;

/// Asks the server, one request after the other.
async fn ask(stack: &Stack, config: rustls::ClientConfig) -> Result<(), Failure> {
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_only()
        .enable_http1()
        .wrap_connector(Connector::new(stack).nodelay(true));
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    for _ in 0..REQUESTS {
        let response = client.get(Uri::from_static("https://server.test/")).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        print!("{status}: {}", String::from_utf8_lossy(&body));
    }
    // One as a rule. A connection goes back to the pool in a task of hyper-util's, and a request that comes before that
    // opens another one, which the pool keeps as well.
    println!("connections for {REQUESTS} requests: {}", stack.counters().active_opens);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let place = Place::from_args()?;
    let (server, client) = tls::settings()?;
    let serving = tokio::spawn(serve(place.server.listen((SERVER, 443)).await?, server));
    match place.client {
        Some(stack) => ask(&stack, client).await,
        None => {
            println!("https://{SERVER}/ (with a certificate that nobody knows)");
            Ok(serving.await??)
        }
    }
}
