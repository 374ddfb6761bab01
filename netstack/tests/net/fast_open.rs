//! Fast Open through the facade, on tokio's clock.

use netstack::config::FastOpenMode;
use netstack::device::{Link, LinkConfig};
use netstack::net::TcpStream;
use netstack::{Config, Interface, Stack};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

const RTT: Duration = Duration::from_millis(50);

/// A client and a server, 50 ms apart.
fn stacks(config: Config) -> (Stack, Stack) {
    let link: LinkConfig = "delay=25ms".parse().unwrap();
    let (left, right) = Link::pair(link.clone(), link);
    let build = |link, address| {
        let interface = Interface::new(Arc::new(link)).address(address);
        Stack::builder().interface(interface).config(config.clone()).build().unwrap()
    };
    (build(left, "10.0.0.1/24"), build(right, "10.0.0.2/24"))
}

const ADDRESS: &str = "10.0.0.2:80";

/// A server that answers each connection's first bytes.
async fn serve(server: &Stack) {
    let listener = server.listen(ADDRESS).await.unwrap();
    listener.set_tcp_fastopen(16).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 100];
                let n = stream.read(&mut request).await?;
                stream.write_all(&request[..n]).await?;
                stream.read(&mut request).await
            });
        }
    });
}

/// The time until the first byte of the answer.
async fn first_byte(connect: impl Future<Output = io::Result<TcpStream>>) -> (Duration, TcpStream) {
    let start = Instant::now();
    let mut stream = connect.await.unwrap();
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"hello");
    (start.elapsed(), stream)
}

fn close_to(measured: Duration, expected: Duration) {
    let off = measured.abs_diff(expected);
    assert!(off <= Duration::from_millis(1), "{measured:?}, not {expected:?}");
}

#[tokio::test(start_paused = true)]
async fn the_first_byte_comes_after_one_round_trip_instead_of_two() {
    let (client, server) = stacks(Config::default());
    serve(&server).await;
    let ordinary = async {
        let mut stream = client.connect(ADDRESS).await?;
        stream.write_all(b"hello").await?;
        Ok(stream)
    };
    close_to(first_byte(ordinary).await.0, 2 * RTT);
    let with_data = || TcpStream::connect_with_data_on(&client, ADDRESS, b"hello");
    close_to(first_byte(with_data()).await.0, 2 * RTT);
    let (time, stream) = first_byte(with_data()).await;
    close_to(time, RTT);
    assert!(stream.tcp_info().unwrap().syn_data_acked);
    let with_option = async {
        let socket = client.tcp_socket_v4()?;
        socket.set_tcp_fastopen_connect(true)?;
        let start = Instant::now();
        let mut stream = socket.connect(ADDRESS.parse().unwrap()).await?;
        stream.write_all(b"hello").await?;
        assert_eq!(start.elapsed(), Duration::ZERO, "connect and the write return at once");
        Ok(stream)
    };
    close_to(first_byte(with_option).await.0, RTT);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_server_first_does_not_wait_for_ever() {
    let (client, server) = stacks(Config::default());
    let listener = server.listen(ADDRESS).await.unwrap();
    listener.set_tcp_fastopen(16).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(b"hello").await.unwrap();
            tokio::spawn(async move { stream.read(&mut [0]).await });
        }
    });
    // First with a handshake, whose third segment lets accept return; then with the cookie.
    for expected in [2 * RTT, RTT] {
        let socket = client.tcp_socket_v4().unwrap();
        socket.set_tcp_fastopen_connect(true).unwrap();
        let start = Instant::now();
        let mut stream = socket.connect(ADDRESS.parse().unwrap()).await.unwrap();
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"hello");
        close_to(start.elapsed(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_by_the_first_operation() {
    let (client, server) = stacks(Config::default());
    serve(&server).await;
    drop(TcpStream::connect_with_data_on(&client, ADDRESS, b"hello").await.unwrap());
    let socket = client.tcp_socket_v4().unwrap();
    socket.set_tcp_fastopen_connect(true).unwrap();
    // The cookie is the host's; nobody listens on this port.
    let mut stream = socket.connect("10.0.0.2:81".parse().unwrap()).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let error = stream.read(&mut [0; 10]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test(start_paused = true)]
async fn what_the_settings_forbid_is_said() {
    let (client, _server) = stacks(Config::default().with(|config| config.fastopen = FastOpenMode::OFF));
    let socket = client.tcp_socket_v4().unwrap();
    for refused in [socket.set_tcp_fastopen_connect(true), socket.set_tcp_fastopen(16)] {
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
    socket.set_tcp_fastopen(0).unwrap();
}
