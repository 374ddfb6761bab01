//! The example `axum_hello` on netstack and on the sockets of the kernel.

use netstack_ecosystem::place::{Place, SERVER};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

#[expect(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod on_netstack {
    include!(concat!(env!("OUT_DIR"), "/axum_hello_netstack.rs"));
}

#[expect(dead_code, unreachable_pub, reason = "it is a program of its own")]
mod on_tokio {
    include!(concat!(env!("OUT_DIR"), "/axum_hello_tokio.rs"));
}

#[test]
fn one_line_differs() {
    let ours = include_str!(concat!(env!("OUT_DIR"), "/axum_hello_netstack.rs"));
    let theirs = include_str!(concat!(env!("OUT_DIR"), "/axum_hello_tokio.rs"));
    let differ: Vec<_> = ours.lines().zip(theirs.lines()).filter(|(ours, theirs)| ours != theirs).collect();
    assert_eq!(ours.lines().count(), theirs.lines().count());
    assert_eq!(differ, [("use netstack::net::TcpListener;", "use tokio::net::TcpListener;")]);
}

/// What a server answers on a connection of its own.
async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: server.test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    body.to_owned()
}

#[tokio::test]
async fn both_say_the_same() {
    let Place { server, client } = Place::memory().unwrap();
    let client = client.unwrap();
    tokio::spawn(on_netstack::serve(server.listen((SERVER, 80)).await.unwrap()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kernel = listener.local_addr().unwrap();
    tokio::spawn(on_tokio::serve(listener));
    for path in ["/", "/hello/Ada"] {
        let ours = ask(client.connect((SERVER, 80)).await.unwrap(), path).await;
        let theirs = ask(tokio::net::TcpStream::connect(kernel).await.unwrap(), path).await;
        assert_eq!(ours, theirs);
    }
    let stream = client.connect((SERVER, 80)).await.unwrap();
    let addr = stream.local_addr().unwrap();
    assert_eq!(ask(stream, "/whoami").await, addr.to_string());
}
