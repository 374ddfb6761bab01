//! `axum::serve` on a listener of netstack.

use axum::extract::ConnectInfo;
use axum::serve::ListenerExt;
use axum::{Router, routing::get};
use netstack::Stack;
use netstack::net::TcpStream;
use netstack_ecosystem::place::{Place, SERVER};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The answer to `GET /`, and the address of the client.
async fn ask(client: &Stack) -> (String, SocketAddr) {
    let mut stream = client.connect((SERVER, 80)).await.unwrap();
    let addr = stream.local_addr().unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: server.test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    (answer, addr)
}

#[tokio::test(start_paused = true)]
async fn a_router_is_served_and_ends_gracefully() {
    let Place { server, client } = Place::memory().unwrap();
    let client = client.unwrap();
    let listener = server.listen((SERVER, 80)).await.unwrap();
    let app = Router::new().route("/", get(async || "Hello"));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
    let serving = tokio::spawn(serving.into_future());
    let (answer, _) = ask(&client).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("\r\n\r\nHello"), "{answer}");
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
    let refused = client.connect((SERVER, 80)).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn tap_io_brings_the_address_of_the_client() {
    async fn whoami(ConnectInfo(client): ConnectInfo<SocketAddr>) -> String {
        client.to_string()
    }
    let Place { server, client } = Place::memory().unwrap();
    let app = Router::new().route("/", get(whoami)).into_make_service_with_connect_info::<SocketAddr>();
    let listener = server.listen((SERVER, 80)).await.unwrap();
    let listener = listener.tap_io(|stream: &mut TcpStream| stream.set_nodelay(true).unwrap());
    tokio::spawn(axum::serve(listener, app).into_future());
    let (answer, addr) = ask(&client.unwrap()).await;
    assert!(answer.ends_with(&addr.to_string()), "{answer}, not {addr}");
}

/// It tries again after an error that may pass, and does not spin.
#[tokio::test(start_paused = true)]
async fn a_listener_of_a_stack_that_is_over_waits() {
    let Place { server, .. } = Place::memory().unwrap();
    let mut listener = server.listen((SERVER, 80)).await.unwrap();
    server.shutdown(Duration::from_secs(1)).await;
    let accepting = axum::serve::Listener::accept(&mut listener);
    assert!(tokio::time::timeout(Duration::from_secs(3600), accepting).await.is_err());
}
