//! The client of hyper-util on the sockets of netstack.

use axum::{Router, routing::get};
use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use netstack::Stack;
use netstack::device::LinkConfig;
use netstack::net::hyper::Connector;
use netstack_ecosystem::place::{Place, SERVER};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;
use tower_service::Service;

async fn places() -> (Stack, Stack) {
    let Place { server, client } = Place::memory().unwrap();
    for port in [80, 443, 8080] {
        let listener = server.listen((SERVER, port)).await.unwrap();
        let app = Router::new().route("/", get(async move || port.to_string()));
        tokio::spawn(axum::serve(listener, app).into_future());
    }
    (server, client.unwrap())
}

async fn get_text(client: &Client<Connector, Empty<Bytes>>, uri: &'static str) -> String {
    let response = client.get(Uri::from_static(uri)).await.unwrap();
    let body = response.into_body().collect().await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn the_client_looks_up_connects_and_keeps_connections() {
    let (server, stack) = places().await;
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new());
    let client = builder.build(Connector::new(&stack).nodelay(true));
    for _ in 0..3 {
        assert_eq!(get_text(&client, "http://server.test/").await, "80");
    }
    assert_eq!(stack.connections(), 1, "one connection for three requests");
    assert_eq!(get_text(&client, "http://10.9.0.2:8080/").await, "8080");
    assert_eq!((stack.connections(), server.connections()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn the_target_is_that_of_the_uri() {
    let (_server, stack) = places().await;
    for (uri, port) in [
        ("http://server.test", 80),
        ("https://server.test/x", 443),
        ("wss://server.test", 443),
        ("http://server.test:8080/", 8080),
        ("server.test:8080", 8080),
    ] {
        let stream = Connector::new(&stack).call(Uri::from_static(uri)).await.unwrap().into_inner();
        assert_eq!(stream.peer_addr().unwrap(), (SERVER, port).into(), "{uri}");
        assert!(!stream.nodelay().unwrap());
    }
    let error = Connector::new(&stack).call(Uri::from_static("/nothing")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = Connector::new(&stack).call(Uri::from_static("http://unknown.test")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    // An IPv6 address has brackets in a URI, and none elsewhere.
    let listener = stack.listen("[::1]:80").await.unwrap();
    let mut connector = Connector::new(&stack).nodelay(true);
    let stream = connector.call(Uri::from_static("http://[::1]/")).await.unwrap();
    assert!(stream.inner().nodelay().unwrap());
    listener.accept().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_address_is_a_target_too() {
    let (_server, stack) = places().await;
    let addr: SocketAddr = (SERVER, 80).into();
    let stream = Connector::new(&stack).call(addr).await.unwrap();
    assert_eq!(stream.peer_addr().unwrap(), addr);
    // Without a stack of its own it asks for the current one, when it connects.
    let error = Connector::default().call(addr).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    stack.scope(Connector::default().call(addr)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_attempt_has_a_limit() {
    let down = LinkConfig { down: true, ..LinkConfig::default() };
    let (device, _peer) = netstack::device::Link::pair(down.clone(), down);
    let interface = netstack::Interface::new(std::sync::Arc::new(device)).address("10.9.0.1/24");
    let stack = Stack::builder().interface(interface).build().unwrap();
    let begin = tokio::time::Instant::now();
    let mut connector = Connector::new(&stack).connect_timeout(Some(Duration::from_secs(3)));
    let error = connector.call(SocketAddr::from((SERVER, 80))).await.unwrap_err();
    assert_eq!((error.kind(), begin.elapsed().as_secs()), (ErrorKind::TimedOut, 3));
}
