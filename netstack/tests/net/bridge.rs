//! Bridges to the sockets of the kernel, over its loopback.

use netstack::Stack;
use netstack::bridge::Bridge;
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_client_of_the_kernel_reaches_a_server_on_a_stack() {
    let stack = Stack::builder().build().unwrap();
    let listener = stack.listen("127.0.0.1:80").await.unwrap();
    let server = tokio::spawn(async move {
        for _ in 0..3 {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut said = String::new();
            // The client ends first; the answer comes after that.
            stream.read_to_string(&mut said).await.unwrap();
            stream.write_all(said.to_uppercase().as_bytes()).await.unwrap();
        }
        // Now it refuses.
    });
    let bridge = Bridge::to_stack(&stack, "localhost:80").await.unwrap();
    for _ in 0..3 {
        let mut client = tokio::net::TcpStream::connect(bridge.local_addr()).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "HELLO");
    }
    server.await.unwrap();
    let mut client = tokio::net::TcpStream::connect(bridge.local_addr()).await.unwrap();
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    let addr = bridge.local_addr();
    drop(bridge);
    while tokio::net::TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_on_a_stack_reaches_a_server_of_the_kernel() {
    let stack = Stack::builder().build().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bridge = Bridge::to_kernel(&stack, "127.0.0.1:6379", listener.local_addr().unwrap()).await.unwrap();
    assert_eq!(bridge.local_addr(), "127.0.0.1:6379".parse().unwrap());
    let (client, server) = tokio::join!(stack.connect("127.0.0.1:6379"), listener.accept());
    let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
    client.write_all(&vec![1; 300_000]).await.unwrap();
    client.shutdown().await.unwrap();
    let mut received = Vec::new();
    server.read_to_end(&mut received).await.unwrap();
    assert_eq!(received.len(), 300_000);
    // A reset is passed on as one.
    server.set_zero_linger().unwrap();
    drop(server);
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    // The SYN is refused as the server refuses it.
    drop(listener);
    let error = stack.connect("127.0.0.1:6379").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(stack.counters().passive_opens, 1);
}

/// What is open ends with the bridge.
#[tokio::test]
async fn a_bridge_that_goes_resets_both_sides() {
    let stack = Stack::builder().build().unwrap();
    let listener = stack.listen("127.0.0.1:80").await.unwrap();
    let bridge = Bridge::to_stack(&stack, "127.0.0.1:80").await.unwrap();
    let client = tokio::net::TcpStream::connect(bridge.local_addr());
    let (client, server) = tokio::join!(client, listener.accept());
    let (mut client, (mut server, _)) = (client.unwrap(), server.unwrap());
    client.write_all(b"x").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'x');
    drop(bridge);
    assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(server.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}
