//! A forwarder through the facade, in virtual time: connections to any address and port.

use netstack::device::{Pair, PairConfig};
use netstack::net::{TcpForwarder, TcpForwarderConfig};
use netstack::{Config, Interface, Stack};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// A client's stack, and one to which it sends everything and which accepts everything.
fn client_and_proxy(config: Config) -> (Stack, Stack) {
    let (near, far) = Pair::new(PairConfig { queue: 1024, ..PairConfig::default() });
    let client = Interface::new(Arc::new(near))
        .address("10.0.0.1/24")
        .address("fd00::1/64")
        .gateway("10.0.0.2")
        .gateway("fd00::2");
    let proxy = Interface::new(Arc::new(far))
        .address("10.0.0.2/24")
        .address("fd00::2/64")
        .any_ip("0.0.0.0/0")
        .any_ip("::/0");
    let build = |interface, config| Stack::builder().interface(interface).config(config).build().unwrap();
    (build(client, Config::default()), build(proxy, config))
}

fn forward(stack: &Stack) -> TcpForwarder {
    stack.tcp_forwarder(TcpForwarderConfig::default()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_proxy_sees_where_its_clients_go_and_decides_before_they_are_answered() {
    let (client, proxy) = client_and_proxy(Config::default());
    let forwarder = forward(&proxy);
    for to in ["8.8.8.8:443", "[2001:db8::8]:443", "10.0.0.2:1"] {
        let to: SocketAddr = to.parse().unwrap();
        let begin = Instant::now();
        let serve = async {
            let pending = forwarder.accept().await.unwrap();
            assert_eq!(pending.local_addr(), to);
            sleep(Duration::from_secs(2)).await;
            let mut stream = pending.accept().await.unwrap();
            let mut request = Vec::new();
            stream.read_to_end(&mut request).await.unwrap();
            stream.write_all(&request).await.unwrap();
            stream.local_addr().unwrap()
        };
        let ask = async {
            let mut stream = client.connect(to).await.unwrap();
            assert_eq!(begin.elapsed().as_secs(), 2, "it knows nothing before");
            assert_eq!(stream.peer_addr().unwrap(), to);
            stream.write_all(b"request").await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        };
        let (local, answer) = tokio::join!(serve, ask);
        assert_eq!((local, answer.as_str()), (to, "request"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_client_sees_what_the_proxy_saw() {
    let (client, proxy) = client_and_proxy(Config::default());
    let forwarder = forward(&proxy);
    for (upstream, expected) in [
        (ErrorKind::ConnectionRefused, ErrorKind::ConnectionRefused),
        (ErrorKind::HostUnreachable, ErrorKind::HostUnreachable),
        (ErrorKind::NetworkUnreachable, ErrorKind::NetworkUnreachable),
        (ErrorKind::TimedOut, ErrorKind::TimedOut),
    ] {
        let (result, ()) = tokio::join!(client.connect("8.8.8.8:443"), async {
            forwarder.accept().await.unwrap().refuse_as(&upstream.into());
            if upstream == ErrorKind::TimedOut {
                // When its time is over, the client's next SYN is a new one.
                forwarder.accept().await.unwrap().ignore();
            }
        });
        assert_eq!(result.unwrap_err().kind(), expected, "{upstream:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_data_of_fast_open_is_seen_before_the_decision() {
    let (client, proxy) = client_and_proxy(Config::default());
    let forwarder = forward(&proxy);
    forwarder.set_tcp_fastopen(16).unwrap();
    for data in [&b""[..], b"hello"] {
        let ask = async {
            let socket = client.tcp_socket_v4().unwrap();
            socket.set_tcp_fastopen_connect(true).unwrap();
            let mut stream = socket.connect("8.8.8.8:443".parse().unwrap()).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream
        };
        let serve = async {
            let pending = forwarder.accept().await.unwrap();
            assert_eq!(pending.fast_open_data(), data, "once it has a cookie");
            let mut stream = pending.accept().await.unwrap();
            let mut read = [0; 5];
            stream.read_exact(&mut read).await.unwrap();
            assert_eq!(&read, b"hello");
        };
        tokio::join!(ask, serve);
    }
    assert_eq!(proxy.counters().fast_open_passive, 1);
}

#[tokio::test(start_paused = true)]
async fn clients_above_the_limit_wait_for_their_turn() {
    let (client, proxy) = client_and_proxy(Config::default());
    let forwarder = proxy.tcp_forwarder(TcpForwarderConfig::default().max_in_flight(2)).unwrap();
    let mut clients = JoinSet::new();
    for n in 0..5u16 {
        let client = client.clone();
        clients.spawn(async move { client.connect(("8.8.8.8", 1 + n)).await });
    }
    sleep(Duration::from_millis(500)).await;
    assert_eq!((forwarder.queues().syn_queue, forwarder.queues().counters.syn_queue_drops), (2, 3));
    let mut streams = Vec::new();
    for _ in 0..5 {
        streams.push(forwarder.accept().await.unwrap().accept().await.unwrap());
    }
    while let Some(connected) = clients.join_next().await {
        connected.unwrap().unwrap();
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let (_client, proxy) = client_and_proxy(Config::default());
    let config = TcpForwarderConfig::default;
    let errno = |result: io::Result<TcpForwarder>| result.unwrap_err().raw_os_error();
    assert_eq!(errno(proxy.tcp_forwarder(config().max_in_flight(0))), Some(libc::EINVAL));
    assert_eq!(errno(proxy.tcp_forwarder(config().interface("net7"))), Some(libc::ENODEV));
    let _first = forward(&proxy);
    assert_eq!(errno(proxy.tcp_forwarder(config())), Some(libc::EADDRINUSE));
    proxy.shutdown(Duration::ZERO).await;
    assert!(proxy.tcp_forwarder(config().interface("net0")).is_err());
}

/// As many connections as a busy proxy has, each to an address of its own, and each closed in one direction
/// while the other goes on.
#[tokio::test(start_paused = true)]
async fn eight_thousand_connections_to_as_many_addresses_are_half_closed_without_an_error() {
    const CONNECTIONS: u32 = 8000;
    let (client, proxy) = client_and_proxy(Config::default());
    let forwarder = proxy.tcp_forwarder(TcpForwarderConfig::default().max_in_flight(10_000)).unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..CONNECTIONS {
        let client = client.clone();
        tasks.spawn(async move {
            let to = SocketAddr::from((Ipv4Addr::from_bits(0xc612_0000 + n), 80));
            let mut stream = client.connect(to).await?;
            stream.write_all(&n.to_be_bytes()).await?;
            stream.shutdown().await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            assert_eq!(answer, [to.to_string().as_bytes(), &n.to_be_bytes()].concat());
            io::Result::Ok(())
        });
    }
    for _ in 0..CONNECTIONS {
        let pending = forwarder.accept().await.unwrap();
        tasks.spawn(async move {
            let mut stream = pending.accept().await?;
            let mut request = Vec::new();
            stream.read_to_end(&mut request).await?;
            stream.write_all(stream.local_addr()?.to_string().as_bytes()).await?;
            stream.write_all(&request).await?;
            stream.shutdown().await
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    // The last acknowledgments are on their way.
    sleep(Duration::from_secs(1)).await;
    let counters = proxy.counters();
    assert_eq!((counters.passive_opens, counters.tcp_out_resets), (CONNECTIONS.into(), 0));
    assert_eq!((proxy.connections(), forwarder.queues().syn_queue), (0, 0));
}
