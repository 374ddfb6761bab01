//! A UDP forwarder through the facade, in virtual time.

use netstack::device::{Pair, PairConfig};
use netstack::net::{UdpForwarder, UdpForwarderConfig};
use netstack::{Interface, Stack};
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::ReadBuf;
use tokio::time::{Instant, sleep, timeout};

/// A client's stack, and one to which it sends everything and which accepts everything.
fn client_and_proxy() -> (Stack, Stack) {
    let (near, far) = Pair::new(PairConfig { queue: 4, ..PairConfig::default() });
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
    let build = |interface| Stack::builder().interface(interface).build().unwrap();
    (build(client), build(proxy))
}

fn forward(stack: &Stack) -> UdpForwarder {
    stack.udp_forwarder(UdpForwarderConfig::default()).unwrap()
}

/// Polls a future once.
async fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

#[tokio::test(start_paused = true)]
async fn a_relay_sees_where_its_clients_send_to() {
    let (client, proxy) = client_and_proxy();
    let forwarder = forward(&proxy);
    for (local, to) in
        [("0.0.0.0:0", "8.8.8.8:53"), ("[::]:0", "[2001:db8::8]:53"), ("0.0.0.0:0", "10.0.0.2:1")]
    {
        let socket = client.udp_socket(local).await.unwrap();
        socket.connect(to).await.unwrap();
        socket.send(b"question").await.unwrap();
        let flow = forwarder.accept().await.unwrap();
        assert_eq!(
            (flow.local_addr(), flow.peer_addr()),
            (to.parse().unwrap(), socket.local_addr().unwrap())
        );
        let mut buf = [0; 100];
        let len = flow.recv(&mut buf).await.unwrap();
        flow.send(&buf[..len]).await.unwrap();
        assert_eq!(socket.recv(&mut buf).await.unwrap(), len);
        assert_eq!(&buf[..len], b"question");
        // As a socket it has what sockets have.
        assert_eq!(flow.as_ref().peer_addr().unwrap(), flow.peer_addr());
        assert_eq!(flow.as_ref().local_addr().unwrap(), flow.local_addr());
        // A reader that waits is woken by what comes later.
        let (received, ()) = tokio::join!(flow.recv(&mut buf), async {
            sleep(Duration::from_secs(1)).await;
            socket.send(b"more").await.unwrap();
        });
        assert_eq!(received.unwrap(), 4);
        flow.refuse();
        assert_eq!(socket.recv(&mut buf).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
    assert_eq!(forwarder.stats().flows, 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_flow_ends_on_time_and_says_so() {
    let (client, proxy) = client_and_proxy();
    let forwarder = forward(&proxy);
    let socket = client.udp_socket("0.0.0.0:0").await.unwrap();
    for seconds in [120, 7] {
        socket.send_to(b"x", "8.8.8.8:53").await.unwrap();
        let flow = forwarder.accept().await.unwrap();
        if seconds != 120 {
            flow.set_idle_timeout(Duration::from_secs(seconds)).unwrap();
        }
        let (begin, mut buf) = (Instant::now(), [0; 9]);
        assert_eq!(flow.recv(&mut buf).await.unwrap(), 1);
        assert_eq!(flow.recv(&mut buf).await.unwrap_err().kind(), ErrorKind::TimedOut);
        assert_eq!(begin.elapsed().as_secs(), seconds);
        for _ in 0..2 {
            assert_eq!(flow.recv(&mut buf).await.unwrap_err().kind(), ErrorKind::TimedOut);
            assert_eq!(flow.send(b"x").await.unwrap_err().kind(), ErrorKind::TimedOut);
        }
        assert_eq!(flow.set_idle_timeout(Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!((forwarder.stats().flows, forwarder.stats().timed_out), (0, 2));
}

#[tokio::test(start_paused = true)]
async fn datagrams_come_and_go_with_any_addresses() {
    let (client, proxy) = client_and_proxy();
    let forwarder = forward(&proxy);
    let socket = client.udp_socket("0.0.0.0:4000").await.unwrap();
    let me: SocketAddr = "10.0.0.1:4000".parse().unwrap();
    let mut buf = [0; 100];
    for n in 0..50 {
        let to = SocketAddr::from(([198, 18, 0, n], 1000));
        socket.send_to(&[n], to).await.unwrap();
        let (len, from, at) = forwarder.recv_from_to(&mut buf).await.unwrap();
        assert_eq!((len, buf[0], from, at), (1, n, me, to));
        // From another host than it sent to.
        let other = SocketAddr::from(([203, 0, 113, n + 1], 9));
        forwarder.send_from_to(b"answer", other, me).await.unwrap();
        assert_eq!(socket.recv_from(&mut buf).await.unwrap(), (6, other));
    }
    assert_eq!(forwarder.stats().flows, 0);
    // Whoever sends waits for the device, as with a socket.
    let send = async {
        for n in 0..1000u16 {
            forwarder.send_from_to(&n.to_be_bytes(), "8.8.8.8:1".parse().unwrap(), me).await.unwrap();
        }
    };
    let receive = async {
        let mut buf = [0; 9];
        for n in 0..1000u16 {
            assert_eq!(socket.recv(&mut buf).await.unwrap(), 2);
            assert_eq!(buf[..2], n.to_be_bytes());
        }
    };
    tokio::join!(send, receive);
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_dropped_loses_nothing() {
    let (client, proxy) = client_and_proxy();
    let forwarder = forward(&proxy);
    let socket = client.udp_socket("0.0.0.0:4000").await.unwrap();
    let (to, mut buf) = (SocketAddr::from(([8, 8, 8, 8], 53)), [0; 100]);
    let short = Duration::from_millis(5);
    // Each is polled, and dropped before there is anything.
    assert!(poll_once(forwarder.accept()).await.is_pending());
    assert!(poll_once(forwarder.recv_from_to(&mut buf)).await.is_pending());
    socket.send_to(b"one", to).await.unwrap();
    // ... and dropped when there is something that it was told of but has not taken.
    let mut waiting = Box::pin(forwarder.accept());
    assert!(poll_once(&mut waiting).await.is_pending());
    sleep(short).await;
    drop(waiting);
    let flow = forwarder.accept().await.unwrap();
    assert_eq!(flow.recv(&mut buf).await.unwrap(), 3);
    let mut waiting = Box::pin(flow.recv(&mut buf));
    assert!(poll_once(&mut waiting).await.is_pending());
    socket.send_to(b"two", to).await.unwrap();
    sleep(short).await;
    drop(waiting);
    assert_eq!(flow.recv(&mut buf).await.unwrap(), 3);
    drop(flow);
    let mut waiting = Box::pin(forwarder.recv_from_to(&mut buf));
    assert!(poll_once(&mut waiting).await.is_pending());
    socket.send_to(b"three", to).await.unwrap();
    sleep(short).await;
    drop(waiting);
    assert_eq!(forwarder.recv_from_to(&mut buf).await.unwrap().0, 5);
    // A send that waits for room and is dropped has sent nothing, and the others all arrive.
    let me = SocketAddr::from(([10, 0, 0, 1], 4000));
    let mut sent = 0u32;
    while forwarder.try_send_from_to(&sent.to_be_bytes(), to, me).is_ok() {
        sent += 1;
    }
    assert!(poll_once(forwarder.send_from_to(b"dropped", to, me)).await.is_pending());
    for n in 0..sent {
        assert_eq!(socket.recv(&mut buf).await.unwrap(), 4);
        assert_eq!(buf[..4], n.to_be_bytes());
    }
    assert!(timeout(short, socket.recv(&mut buf)).await.is_err());
    forwarder.send_from_to(b"there is room", to, me).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_poll_forms_do_the_same() {
    let (client, proxy) = client_and_proxy();
    let forwarder = forward(&proxy);
    let socket = client.udp_socket("0.0.0.0:4000").await.unwrap();
    let (to, me) = (SocketAddr::from(([8, 8, 8, 8], 53)), SocketAddr::from(([10, 0, 0, 1], 4000)));
    let mut space = [0; 100];
    assert_eq!(forwarder.try_recv_from_to(&mut space).unwrap_err().kind(), ErrorKind::WouldBlock);
    let ((), from_to) =
        tokio::join!(async { assert_eq!(socket.send_to(b"one", to).await.unwrap(), 3) }, async {
            let mut buf = ReadBuf::new(&mut space);
            let from_to = poll_fn(|cx| forwarder.poll_recv_from_to(cx, &mut buf)).await.unwrap();
            assert_eq!(buf.filled(), b"one");
            from_to
        });
    assert_eq!(from_to, (me, to));
    poll_fn(|cx| forwarder.poll_send_from_to(cx, b"answer", to, me)).await.unwrap();
    assert_eq!(socket.recv(&mut space).await.unwrap(), 6);
    socket.send_to(b"two", to).await.unwrap();
    let flow = poll_fn(|cx| forwarder.poll_accept(cx)).await.unwrap();
    assert_eq!(flow.try_recv(&mut space).unwrap(), 3);
    assert_eq!(flow.try_recv(&mut space).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(flow.try_send(b"ok").unwrap(), 2);
    assert_eq!(flow.into_socket().peer_addr().unwrap(), me);
}

/// A flood from hosts that do not exist, while a client asks.
#[tokio::test(start_paused = true)]
async fn clients_are_served_during_a_flood_of_spoofed_sources() {
    let (client, proxy) = client_and_proxy();
    let config = UdpForwarderConfig::default().max_flows(64).max_pending(16).total_buffer(1 << 20);
    let forwarder = Arc::new(proxy.udp_forwarder(config).unwrap());
    let echo = tokio::spawn({
        let forwarder = Arc::clone(&forwarder);
        async move {
            loop {
                let flow = forwarder.accept().await?;
                tokio::spawn(async move {
                    let mut buf = [0; 2000];
                    loop {
                        let len = flow.recv(&mut buf).await?;
                        flow.send(&buf[..len]).await?;
                    }
                    #[expect(unreachable_code, reason = "says of what type the error is")]
                    io::Result::Ok(())
                });
            }
            #[expect(unreachable_code, reason = "says of what type the error is")]
            io::Result::Ok(())
        }
    });
    // The attacker is on the client's machine, and forges its sources.
    let attacker = client.udp_forwarder(UdpForwarderConfig::default()).unwrap();
    let flood = async {
        for n in 0..20_000u32 {
            let from = SocketAddr::from((Ipv4Addr::from_bits(0x0b00_0000 + n), 1000));
            let _ = attacker.send_from_to(&[0; 1000], from, "8.8.8.8:53".parse().unwrap()).await;
            assert!(forwarder.stats().flows <= 64 && forwarder.stats().unread <= 1 << 20);
            tokio::task::yield_now().await;
        }
    };
    let asks = async {
        let socket = client.udp_socket("0.0.0.0:0").await.unwrap();
        socket.connect("8.8.4.4:53").await.unwrap();
        let (mut buf, mut answered) = ([0; 100], 0);
        for n in 0..100u8 {
            socket.send(&[n]).await.unwrap();
            answered += u32::from(timeout(Duration::from_secs(1), socket.recv(&mut buf)).await.is_ok());
        }
        answered
    };
    let ((), answered) = tokio::join!(flood, asks);
    assert_eq!(answered, 100);
    assert!(forwarder.stats().evicted > 0);
    echo.abort();
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let (_client, proxy) = client_and_proxy();
    let config = UdpForwarderConfig::default;
    let errno = |result: io::Result<UdpForwarder>| result.unwrap_err().raw_os_error();
    for invalid in [config().max_flows(0), config().max_pending(0), config().idle_timeout(Duration::ZERO)] {
        assert_eq!(errno(proxy.udp_forwarder(invalid)), Some(libc::EINVAL));
    }
    assert_eq!(errno(proxy.udp_forwarder(config().interface("net7"))), Some(libc::ENODEV));
    let first = forward(&proxy);
    assert_eq!(errno(proxy.udp_forwarder(config())), Some(libc::EADDRINUSE));
    drop(first);
    let again = forward(&proxy);
    proxy.shutdown(Duration::ZERO).await;
    assert!(again.accept().await.is_err() && proxy.udp_forwarder(config().interface("lo")).is_err());
}
