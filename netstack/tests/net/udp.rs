//! UDP sockets.

use crate::common::{linked, poll_once, spawn_waiting, stack};
use netstack::config::MtuDiscover;
use netstack::device::{Pair, PairConfig};
use netstack::net::udp::{EcnCodepoint, RecvMeta, Transmit, UnboundUdpSocket};
use netstack::net::{PingSocket, RawSocket, Resolver, UdpSocket};
use netstack::{Driver, Interface, Stack};
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::{Interest, ReadBuf};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

/// Two sockets of one stack that are connected to one another.
async fn connected(stack: &Stack) -> (UdpSocket, UdpSocket) {
    let a = stack.udp_socket("127.0.0.1:0").await.unwrap();
    let b = stack.udp_socket("127.0.0.1:0").await.unwrap();
    a.connect(b.local_addr().unwrap()).await.unwrap();
    b.connect(a.local_addr().unwrap()).await.unwrap();
    (a, b)
}

/// Waits until what was sent has arrived: as with tokio, `readable` may be true from before.
async fn arrived(socket: &UdpSocket) {
    tokio::time::sleep(Duration::from_millis(1)).await;
    socket.readable().await.unwrap();
}

fn kind<T: std::fmt::Debug>(result: io::Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

#[tokio::test(start_paused = true)]
async fn every_way_to_send_and_to_receive() {
    let stack = stack();
    let (a, b) = connected(&stack).await;
    let (from, to) = (a.local_addr().unwrap(), b.local_addr().unwrap());
    let mut buf = [0; 8];

    assert_eq!(a.send(b"one").await.unwrap(), 3);
    assert_eq!(b.recv(&mut buf).await.unwrap(), 3);
    assert_eq!(a.try_send(b"two").unwrap(), 3);
    arrived(&b).await;
    assert_eq!(b.try_recv(&mut buf).unwrap(), 3);
    assert_eq!(&buf[..3], b"two");
    assert_eq!(poll_fn(|cx| a.poll_send(cx, b"three")).await.unwrap(), 5);
    let mut filled = ReadBuf::new(&mut buf);
    filled.put_slice(b"> ");
    poll_fn(|cx| b.poll_recv(cx, &mut filled)).await.unwrap();
    assert_eq!(filled.filled(), b"> three");

    assert_eq!(a.send_to(b"four", to).await.unwrap(), 4);
    assert_eq!(b.recv_from(&mut buf).await.unwrap(), (4, from));
    assert_eq!(a.try_send_to(b"five", to).unwrap(), 4);
    arrived(&b).await;
    assert_eq!(b.try_recv_from(&mut buf).unwrap(), (4, from));
    assert_eq!(poll_fn(|cx| a.poll_send_to(cx, b"six", to)).await.unwrap(), 3);
    let mut filled = ReadBuf::new(&mut buf);
    assert_eq!(poll_fn(|cx| b.poll_recv_from(cx, &mut filled)).await.unwrap(), from);

    let mut bytes = Vec::new();
    a.send(&[7; 100]).await.unwrap();
    assert_eq!(b.recv_buf(&mut bytes).await.unwrap(), 64, "what fits into the chunk");
    a.send(b"seven").await.unwrap();
    bytes.reserve(100);
    assert_eq!(b.recv_buf_from(&mut bytes).await.unwrap(), (5, from));
    assert_eq!(&bytes[64..], b"seven");
    a.send(b"eight").await.unwrap();
    arrived(&b).await;
    assert_eq!(b.try_recv_buf_from(&mut bytes).unwrap(), (5, from));
    a.send(b"").await.unwrap();
    arrived(&b).await;
    assert_eq!(b.try_recv_buf(&mut bytes).unwrap(), 0, "an empty datagram");
    assert_eq!(kind(b.try_recv(&mut buf)), ErrorKind::WouldBlock);
    assert!(poll_once(|cx| b.poll_recv_ready(cx)).is_pending());
    assert!(poll_once(|cx| b.poll_send_ready(cx)).is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_peek_leaves_the_datagram_and_a_short_buffer_loses_the_rest() {
    let stack = stack();
    let (a, b) = connected(&stack).await;
    let from = a.local_addr().unwrap();
    let mut buf = [0; 4];
    assert_eq!(kind(b.try_peek_sender()), ErrorKind::WouldBlock);
    a.send(b"long datagram").await.unwrap();
    a.send(b"next").await.unwrap();
    assert_eq!(b.peek_sender().await.unwrap(), from);
    assert_eq!(b.try_peek_sender().unwrap(), from);
    assert_eq!(poll_fn(|cx| b.poll_peek_sender(cx)).await.unwrap(), from);
    assert_eq!(b.peek(&mut buf).await.unwrap(), 4);
    assert_eq!(b.peek_from(&mut buf).await.unwrap(), (4, from));
    assert_eq!(b.try_peek(&mut buf).unwrap(), 4);
    assert_eq!(b.try_peek_from(&mut buf).unwrap(), (4, from));
    let mut room = [0; 100];
    let mut filled = ReadBuf::new(&mut room);
    poll_fn(|cx| b.poll_peek(cx, &mut filled)).await.unwrap();
    assert_eq!(filled.filled(), b"long datagram");
    assert_eq!(poll_fn(|cx| b.poll_peek_from(cx, &mut filled)).await.unwrap(), from);
    assert_eq!(b.recv(&mut buf).await.unwrap(), 4);
    assert_eq!(&buf, b"long");
    assert_eq!(b.recv(&mut []).await.unwrap(), 0, "consumed by an empty buffer");
    assert_eq!(kind(b.try_recv(&mut buf)), ErrorKind::WouldBlock);
}

#[tokio::test(start_paused = true)]
async fn readiness_stays_until_an_attempt_finds_nothing() {
    let stack = stack();
    let (a, b) = connected(&stack).await;
    let mut buf = [0; 8];
    assert!(b.ready(Interest::WRITABLE).await.unwrap().is_writable());
    assert_eq!(kind(b.try_io(Interest::READABLE, || Ok(()))), ErrorKind::WouldBlock);
    a.send(b"x").await.unwrap();
    b.readable().await.unwrap();
    b.try_recv(&mut buf).unwrap();
    b.readable().await.unwrap();
    assert_eq!(kind(b.try_recv(&mut buf)), ErrorKind::WouldBlock);
    let waiting = timeout(Duration::from_secs(1), b.readable()).await;
    assert!(waiting.is_err(), "nothing came");
    let answered = async {
        b.async_io(Interest::READABLE, || b.try_recv(&mut buf)).await.unwrap();
    };
    let send = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        a.send(b"y").await.unwrap();
    };
    tokio::join!(answered, send);
}

#[tokio::test(start_paused = true)]
async fn many_tasks_share_a_socket() {
    let stack = stack();
    let (a, b) = connected(&stack).await;
    let (a, b) = (Arc::new(a), Arc::new(b));
    let mut readers = Vec::new();
    for _ in 0..8 {
        let socket = Arc::clone(&b);
        let (task, waits) = spawn_waiting(&Handle::current(), async move {
            let mut buf = [0; 4];
            socket.recv(&mut buf).await.unwrap();
            u32::from_be_bytes(buf)
        });
        waits.await.unwrap();
        readers.push(task);
    }
    for n in 0..8u32 {
        a.send(&n.to_be_bytes()).await.unwrap();
    }
    let mut received = Vec::new();
    for reader in readers {
        received.push(reader.await.unwrap());
    }
    received.sort_unstable();
    assert_eq!(received, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_closed_port_refuses_a_connected_socket_in_every_way() {
    let stack = stack();
    let (a, b) = connected(&stack).await;
    drop(b);
    let mut buf = [0; 8];
    a.send(b"x").await.unwrap();
    assert_eq!(
        kind(timeout(Duration::from_secs(1), a.recv(&mut buf)).await.unwrap()),
        ErrorKind::ConnectionRefused
    );
    assert!(timeout(Duration::from_secs(1), a.recv(&mut buf)).await.is_err(), "once");
    a.send(b"x").await.unwrap();
    let ready = a.ready(Interest::ERROR).await.unwrap();
    assert!(ready.is_error() && !ready.is_read_closed() && !ready.is_write_closed(), "{ready:?}");
    assert_eq!(kind(a.send(b"not sent").await), ErrorKind::ConnectionRefused);
    a.send(b"x").await.unwrap();
    arrived(&a).await;
    assert_eq!(a.take_error().unwrap().map(|error| error.kind()), Some(ErrorKind::ConnectionRefused));
    assert!(a.take_error().unwrap().is_none());
    assert!(timeout(Duration::from_secs(1), a.recv(&mut buf)).await.is_err(), "it waits and does not spin");
    let poll = poll_once(|cx| a.poll_recv(cx, &mut ReadBuf::new(&mut buf)));
    assert!(poll.is_pending());
}

#[tokio::test(start_paused = true)]
async fn senders_wait_for_a_slow_device_and_lose_nothing() {
    let stack = stack();
    let (a, b) = connected(&stack).await;
    b.set_recv_buffer_size(4 << 20).unwrap();
    let send = async {
        let mut waited = 0;
        for n in 0..2000u32 {
            let mut payload = [0; 1000];
            payload[..4].copy_from_slice(&n.to_be_bytes());
            if a.try_send(&payload).is_err() {
                waited += 1;
                a.send(&payload).await.unwrap();
            }
        }
        waited
    };
    let receive = async {
        let mut buf = [0; 1000];
        for n in 0..2000u32 {
            b.recv(&mut buf).await.unwrap();
            assert_eq!(buf[..4], n.to_be_bytes());
        }
    };
    let (waited, ()) = tokio::join!(send, receive);
    assert!(waited > 0, "the send buffer was full at times");
    assert_eq!(b.dropped(), 0);
}

/// The reader is the future of `block_on`, which tokio polls after sixty turns of a task that is always ready.
#[tokio::test(start_paused = true)]
async fn a_reader_has_a_turn_before_its_queue_is_full() {
    const DATAGRAMS: u32 = 900;
    let (left, right) = Pair::new(PairConfig { queue: 1024, ..PairConfig::default() });
    let stack = |device, address| {
        let interface = Interface::new(Arc::new(device)).address(address);
        Stack::builder().interface(interface).build().unwrap()
    };
    let (left, right) = (stack(left, "10.0.0.1/24"), stack(right, "10.0.0.2/24"));
    let receiver = right.udp_socket("10.0.0.2:53").await.unwrap();
    let unread = right.udp_socket("10.0.0.2:54").await.unwrap();
    let sender = left.udp_socket("10.0.0.1:0").await.unwrap();
    let mut payload = [0; 1000];
    // All of them are in the device before the other stack looks.
    for n in 0..DATAGRAMS {
        payload[..4].copy_from_slice(&n.to_be_bytes());
        // A socket that nobody reads does not hold up the others.
        let to = if n % 3 == 0 { unread.local_addr() } else { receiver.local_addr() };
        sender.try_send_to(&payload, to.unwrap()).unwrap();
    }
    for n in (0..DATAGRAMS).filter(|n| n % 3 > 0) {
        timeout(Duration::from_secs(1), receiver.recv(&mut payload)).await.expect("none is lost").unwrap();
        assert_eq!(payload[..4], n.to_be_bytes());
    }
    assert_eq!(receiver.dropped(), 0);
    assert!(unread.dropped() > 50, "{}", unread.dropped());
}

#[tokio::test(start_paused = true)]
async fn datagrams_take_the_time_of_their_link() {
    let (left, right) = linked("delay=30ms");
    let server = right.udp_socket("10.0.0.2:53").await.unwrap();
    let client = left.udp_socket("0.0.0.0:0").await.unwrap();
    client.connect("10.0.0.2:53").await.unwrap();
    assert_eq!(client.local_addr().unwrap().ip(), Ipv4Addr::new(10, 0, 0, 1));
    let start = Instant::now();
    let answer = async {
        let mut buf = [0; 8];
        let (len, peer) = server.recv_from(&mut buf).await.unwrap();
        server.send_to(&buf[..len], peer).await.unwrap();
    };
    let ask = async {
        let mut buf = [0; 8];
        client.send(b"query").await.unwrap();
        assert_eq!(client.recv(&mut buf).await.unwrap(), 5);
    };
    tokio::join!(ask, answer);
    let took = start.elapsed();
    assert!((60..=64).contains(&took.as_millis()), "{took:?}");
    drop(server);
    client.send(b"query").await.unwrap();
    assert_eq!(kind(client.recv(&mut [0; 8]).await), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn sockets_of_a_thread_of_its_own() {
    let stack = Stack::builder().driver(Driver::Thread).build().unwrap();
    let (a, b) = connected(&stack).await;
    let mut buf = [0; 8];
    for n in 0..100u64 {
        a.send(&n.to_be_bytes()).await.unwrap();
        b.recv(&mut buf).await.unwrap();
        assert_eq!(buf, n.to_be_bytes());
    }
    std::thread::spawn(move || a.try_send(b"outside").unwrap()).join().unwrap();
    assert_eq!(b.recv(&mut buf).await.unwrap(), 7);
}

#[tokio::test(start_paused = true)]
async fn messages_carry_ecn_and_addresses_and_come_in_batches() {
    let stack = stack();
    let (a, b) = connected(&stack).await;
    let (from, to) = (a.local_addr().unwrap(), b.local_addr().unwrap());
    let transmit =
        |ecn, contents, segment_size| Transmit { destination: to, ecn, contents, segment_size, src_ip: None };
    for ecn in [None, Some(EcnCodepoint::Ect0), Some(EcnCodepoint::Ect1), Some(EcnCodepoint::Ce)] {
        a.send_msg(&transmit(ecn, b"0123456789", Some(4))).await.unwrap();
        let (mut first, mut second) = ([0; 100], [0; 100]);
        let mut meta = [RecvMeta::default(); 2];
        let mut bufs = [IoSliceMut::new(&mut first), IoSliceMut::new(&mut second)];
        assert_eq!(b.recv_msg(&mut bufs, &mut meta).await.unwrap(), 1);
        let RecvMeta { addr, len, stride, dst_ip, interface_index, .. } = meta[0];
        assert_eq!((addr, len, stride, meta[0].ecn), (from, 10, 4, ecn));
        assert_eq!((dst_ip, interface_index), (Some(to.ip()), Some(1)));
        assert_eq!(&first[..10], b"0123456789");
    }
    // Those that differ are in buffers of their own.
    a.try_send_msg(&transmit(None, b"plain", None)).unwrap();
    poll_fn(|cx| a.poll_send_msg(cx, &transmit(Some(EcnCodepoint::Ce), b"marked", None))).await.unwrap();
    let (mut first, mut second, mut third) = ([0; 100], [0; 100], [0; 100]);
    let mut meta = [RecvMeta::default(); 3];
    let mut bufs = [&mut first, &mut second, &mut third].map(|buf| IoSliceMut::new(buf));
    b.readable().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(b.try_recv_msg(&mut bufs, &mut meta).unwrap(), 2);
    assert_eq!((meta[0].len, meta[1].len, meta[1].ecn), (5, 6, Some(EcnCodepoint::Ce)));
    assert!(poll_once(|cx| b.poll_recv_msg(cx, &mut bufs, &mut meta)).is_pending());
    let many = vec![0; 65];
    assert_eq!(
        a.send_msg(&transmit(None, &many, Some(1))).await.unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    assert_eq!(a.send_msg(&transmit(None, &many[1..], Some(1))).await.unwrap(), UdpSocket::MAX_SEGMENTS);
}

#[tokio::test(start_paused = true)]
async fn options_read_back_with_the_defaults_of_linux() {
    let stack = stack();
    let v4 = stack.udp_socket("127.0.0.1:0").await.unwrap();
    let v6 = stack.udp_socket("[::1]:0").await.unwrap();
    for socket in [&v4, &v6] {
        assert_eq!((socket.ttl().unwrap(), socket.tos_v4().unwrap()), (64, 0));
        socket.set_ttl(9).unwrap();
        // Unlike TCP's, with the bits of ECN.
        socket.set_tos_v4(0x1b9).unwrap();
        assert_eq!((socket.ttl().unwrap(), socket.tos_v4().unwrap()), (9, 0xb9));
        assert_eq!(kind(socket.set_ttl(0)), ErrorKind::InvalidInput);
        socket.set_ttl(u32::MAX).unwrap();
        assert_eq!(socket.ttl().unwrap(), 64, "-1 is the default");
        socket.set_ttl(9).unwrap();
        assert_eq!((socket.multicast_loop_v4().unwrap(), socket.multicast_ttl_v4().unwrap()), (true, 1));
        socket.set_multicast_loop_v4(false).unwrap();
        socket.set_multicast_ttl_v4(0).unwrap();
        assert_eq!((socket.multicast_loop_v4().unwrap(), socket.multicast_ttl_v4().unwrap()), (false, 0));
        assert_eq!(kind(socket.set_multicast_ttl_v4(256)), ErrorKind::InvalidInput);
        socket.set_multicast_ttl_v4(u32::MAX).unwrap();
        assert_eq!(socket.multicast_ttl_v4().unwrap(), 1);
        assert!(!socket.broadcast().unwrap() && socket.multicast_all().unwrap());
        socket.set_broadcast(true).unwrap();
        socket.set_multicast_all(false).unwrap();
        assert!(socket.broadcast().unwrap() && !socket.multicast_all().unwrap());
        assert_eq!(socket.mtu_discover().unwrap(), MtuDiscover::Want);
        socket.set_mtu_discover(MtuDiscover::Omit).unwrap();
        assert_eq!(socket.mtu_discover().unwrap(), MtuDiscover::Omit);
        assert_eq!(
            (socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap()),
            (212_992, 212_992)
        );
        socket.set_recv_buffer_size(100_000).unwrap();
        socket.set_send_buffer_size(50_000).unwrap();
        assert_eq!(
            (socket.recv_buffer_size().unwrap(), socket.send_buffer_size().unwrap()),
            (200_000, 100_000)
        );
        assert_eq!(socket.device().unwrap(), None);
        assert_eq!(socket.bind_device(Some(b"nowhere")).unwrap_err().raw_os_error(), Some(libc::ENODEV));
        socket.bind_device(Some(b"lo")).unwrap();
        assert_eq!(socket.device().unwrap().as_deref(), Some(&b"lo"[..]));
        socket.bind_device(None).unwrap();
        assert_eq!(socket.multicast_if_v4().unwrap(), Ipv4Addr::UNSPECIFIED);
    }
    let v6_only =
        |outcome: io::Result<()>, errno| assert_eq!(outcome.unwrap_err().raw_os_error(), Some(errno));
    v6_only(v4.set_tclass_v6(1), libc::ENOPROTOOPT);
    v6_only(v4.tclass_v6().map(drop), libc::EOPNOTSUPP);
    v6_only(v4.unicast_hops_v6().map(drop), libc::EOPNOTSUPP);
    v6_only(v4.set_multicast_loop_v6(true), libc::ENOPROTOOPT);
    v6_only(v4.set_multicast_hops_v6(1), libc::ENOPROTOOPT);
    v6_only(v4.set_unicast_hops_v6(1), libc::ENOPROTOOPT);
    v6_only(v4.join_multicast_v6(&"ff02::5".parse().unwrap(), 0), libc::ENOPROTOOPT);
    assert_eq!(
        (v6.tclass_v6().unwrap(), v6.unicast_hops_v6().unwrap(), v6.multicast_hops_v6().unwrap()),
        (0, 64, 1)
    );
    v6.set_tclass_v6(0xb9).unwrap();
    v6.set_unicast_hops_v6(7).unwrap();
    v6.set_multicast_hops_v6(8).unwrap();
    assert_eq!(
        (v6.tclass_v6().unwrap(), v6.unicast_hops_v6().unwrap(), v6.multicast_hops_v6().unwrap()),
        (0xb9, 7, 8)
    );
    v6.set_tclass_v6(u32::MAX).unwrap();
    v6.set_unicast_hops_v6(u32::MAX).unwrap();
    v6.set_multicast_hops_v6(u32::MAX).unwrap();
    assert_eq!(
        (v6.tclass_v6().unwrap(), v6.unicast_hops_v6().unwrap(), v6.multicast_hops_v6().unwrap()),
        (0, 64, 1)
    );
    assert!(v6.multicast_loop_v6().unwrap() && v6.only_v6().unwrap(), "it is bound to ::1");
    v6.set_multicast_if_v6(1).unwrap();
    assert_eq!(v6.multicast_if_v6().unwrap(), 1);
    assert_eq!(v6.set_multicast_if_v6(5).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    assert_eq!(kind(v6.set_tclass_v6(256)), ErrorKind::InvalidInput);
}

#[tokio::test(start_paused = true)]
async fn addresses_of_other_hosts_are_bound_with_freebind_or_transparent() {
    let stack = stack();
    let foreign: SocketAddr = "203.0.113.5:53".parse().unwrap();
    assert_eq!(kind(stack.udp_socket(foreign).await), ErrorKind::AddrNotAvailable);
    let mut freebind = UnboundUdpSocket::new_v4_on(&stack).unwrap();
    freebind.set_freebind_v4(true);
    assert!(freebind.set_freebind_v6(true).is_err() && freebind.set_ip_transparent_v6(true).is_err());
    let socket = freebind.bind(foreign).unwrap();
    assert!(socket.freebind_v4().unwrap() && !socket.ip_transparent_v4().unwrap());
    let receiver = stack.udp_socket("127.0.0.1:0").await.unwrap();
    let to = receiver.local_addr().unwrap();
    assert_eq!(socket.send_to(b"x", to).await.unwrap_err().raw_os_error(), Some(libc::ENETUNREACH));
    assert_eq!(socket.connect(to).await.unwrap_err().raw_os_error(), Some(libc::ENETUNREACH));
    socket.set_ip_transparent_v4(true).unwrap();
    assert!(socket.ip_transparent_v4().unwrap() && socket.freebind_v6().is_err());
    socket.connect(to).await.unwrap();
    assert_eq!(socket.local_addr().unwrap(), foreign);
    drop(socket);
    let mut v6 = UnboundUdpSocket::new_v6_on(&stack).unwrap();
    v6.set_ip_transparent_v6(true).unwrap();
    let v6 = v6.bind("[2001:db8::1]:53".parse().unwrap()).unwrap();
    assert!(v6.ip_transparent_v6().unwrap() && v6.ip_transparent_v4().unwrap() && !v6.freebind_v6().unwrap());
    v6.set_freebind_v6(true).unwrap();
    assert!(v6.freebind_v4().unwrap());
}

#[tokio::test(start_paused = true)]
async fn sockets_are_listed_with_their_queues() {
    let (left, right) = linked("delay=30ms");
    let server = right.udp_socket("0.0.0.0:53").await.unwrap();
    let client = left.udp_socket("10.0.0.1:4000").await.unwrap();
    client.connect("10.0.0.2:53").await.unwrap();
    client.set_owner(7).unwrap();
    let ping = PingSocket::bind_on(&left, "10.0.0.1:7".parse().unwrap()).unwrap();
    let raw = RawSocket::bind_on(&left, 253, "0.0.0.0".parse().unwrap()).unwrap();
    raw.connect("10.0.0.2".parse().unwrap()).unwrap();
    let rows: Vec<_> = left.sockets().iter().map(ToString::to_string).collect();
    assert_eq!(
        rows,
        [
            "udp   ESTAB      0      0              10.0.0.1:4000           10.0.0.2:53 owner:7",
            "ping  UNCONN     0      0                 10.0.0.1:7                   *:*",
            "raw   ESTAB      0      0                0.0.0.0:253            10.0.0.2:0",
        ]
    );
    server.set_recv_buffer_size(4096).unwrap();
    for _ in 0..20 {
        client.send(&[7; 1000]).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let [row] = &right.sockets()[..] else { panic!("one socket") };
    assert!((6_000..=8192).contains(&row.recv_queue), "{row}");
    assert_eq!((row.dropped, row.remote, row.state), (server.dropped(), None, "UNCONN"));
    assert!(row.dropped > 10 && row.to_string().ends_with(&format!(" drops:{}", row.dropped)), "{row}");
    drop((ping, raw, client));
    assert!(left.sockets().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_never_waits_for_datagrams_gives_others_their_turn() {
    let stack = stack();
    let (a, b) = connected(&stack).await;
    b.set_recv_buffer_size(4 << 20).unwrap();
    for _ in 0..1024 {
        a.send(b"x").await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(1)).await;
    let turns = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&turns);
    tokio::spawn(poll_fn(move |cx| {
        seen.fetch_add(1, Ordering::Relaxed);
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    // Two tasks that are never idle take turns.
    let receive = tokio::spawn(async move {
        for _ in 0..1024 {
            b.recv(&mut [0; 8]).await.unwrap();
        }
    });
    receive.await.unwrap();
    let turns = turns.load(Ordering::Relaxed);
    assert!(turns >= 7, "one for each 128 datagrams: {turns}");
}

#[tokio::test(start_paused = true)]
async fn a_group_inside_of_a_stack() {
    let stack = stack();
    let member = stack.udp_socket("0.0.0.0:5000").await.unwrap();
    let group: SocketAddr = "239.1.2.3:5000".parse().unwrap();
    member.join_multicast_v4([239, 1, 2, 3].into(), Ipv4Addr::UNSPECIFIED).unwrap();
    let sender = stack.udp_socket("127.0.0.1:0").await.unwrap();
    sender.send_to(b"x", group).await.unwrap();
    let mut buf = [0; 8];
    assert_eq!(member.recv_from(&mut buf).await.unwrap(), (1, sender.local_addr().unwrap()));
    member.leave_multicast_v4([239, 1, 2, 3].into(), Ipv4Addr::UNSPECIFIED).unwrap();
    sender.send_to(b"x", group).await.unwrap();
    assert!(timeout(Duration::from_secs(1), member.recv(&mut buf)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn binding_tries_addresses_in_turn_and_frees_the_port_on_drop() {
    let stack = stack();
    let foreign: SocketAddr = "10.9.9.9:5000".parse().unwrap();
    let own: SocketAddr = "127.0.0.1:5000".parse().unwrap();
    let socket = stack.udp_socket(&[foreign, own][..]).await.unwrap();
    assert_eq!(socket.local_addr().unwrap(), own);
    assert_eq!(kind(stack.udp_socket(own).await), ErrorKind::AddrInUse);
    assert_eq!(kind(stack.udp_socket(foreign).await), ErrorKind::AddrNotAvailable);
    let nowhere: &[SocketAddr] = &[];
    assert_eq!(kind(stack.udp_socket(nowhere).await), ErrorKind::InvalidInput);
    let error = socket.send_to(b"x", nowhere).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::InvalidInput, "no addresses to send data to")
    );
    assert_eq!(kind(socket.peer_addr()), ErrorKind::NotConnected);
    assert_eq!(socket.send(b"x").await.unwrap_err().raw_os_error(), Some(libc::EDESTADDRREQ));
    assert!(format!("{socket:?}").starts_with("UdpSocket { addr: 127.0.0.1:5000, id: "), "{socket:?}");
    drop(socket);
    let mut shared = UnboundUdpSocket::new_v4_on(&stack).unwrap();
    shared.set_reuse_address(true);
    shared.bind_device(Some("lo")).unwrap();
    assert!(shared.set_only_v6(true).is_err());
    let shared = shared.bind(own).unwrap();
    shared.connect("127.0.0.1:9").await.unwrap();
    assert_eq!(shared.peer_addr().unwrap().port(), 9);
    assert_eq!(kind(UdpSocket::bind("127.0.0.1:0").await), ErrorKind::Unsupported, "no current stack");
}

#[tokio::test(start_paused = true)]
async fn names_are_resolved_by_the_stack() {
    let names = Resolver::fixed([("server.test", "127.0.0.1".parse().unwrap())]);
    let stack = Stack::builder().resolver(names).build().unwrap();
    let server = stack.udp_socket("server.test:53").await.unwrap();
    let client = stack.udp_socket(("server.test", 0)).await.unwrap();
    client.send_to(b"to", "server.test:53").await.unwrap();
    client.connect("SERVER.test:53".to_owned()).await.unwrap();
    client.send(b"connected").await.unwrap();
    let mut buf = [0; 16];
    assert_eq!(server.recv(&mut buf).await.unwrap(), 2);
    assert_eq!(server.recv(&mut buf).await.unwrap(), 9);
    let found: Vec<_> = stack.lookup_host("server.test:1").await.unwrap().collect();
    assert_eq!(found, ["127.0.0.1:1".parse().unwrap()]);
    assert_eq!(kind(stack.udp_socket("other.test:53").await), ErrorKind::NotFound);
    let found = stack.scope(netstack::net::lookup_host("server.test:2")).await.unwrap().count();
    assert_eq!(found, 1, "the current stack's");
    let error = crate::common::stack().lookup_host("server.test:1").await.map(Iterator::count).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "the host is not asked in paused time");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_stack_ends_every_wait() {
    let stack = stack();
    let socket = stack.udp_socket("127.0.0.1:0").await.unwrap();
    let (mut buf, mut other) = ([0; 8], [0; 8]);
    let end = async {
        tokio::time::sleep(Duration::from_millis(5)).await;
        stack.shutdown(Duration::from_secs(1)).await;
    };
    let (received, readable, ()) = tokio::join!(socket.recv(&mut buf), socket.readable(), end);
    for outcome in [received.map(drop), readable, socket.send_to(b"x", "127.0.0.1:9").await.map(drop)] {
        assert_eq!(outcome.unwrap_err().to_string(), "the network stack was shut down");
    }
    assert!(matches!(
        poll_once(|cx| socket.poll_recv(cx, &mut ReadBuf::new(&mut other))),
        Poll::Ready(Err(_))
    ));
    assert!(stack.udp_socket("127.0.0.1:0").await.is_err());
}
