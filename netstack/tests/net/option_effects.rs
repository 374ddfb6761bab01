//! What socket options do: to packets, to connections, and to who may have a port. Packets are seen by a device
//! that keeps what it is given.

use crate::common::{connected, stack};
use netstack::buffer::PacketBuf;
use netstack::config::FastOpenKeys;
use netstack::device::{Capabilities, Device, Pair, PairConfig, Readiness, RxMeta, TxPacket};
use netstack::net::udp::{RecvMeta, UnboundUdpSocket};
use netstack::net::{TcpSocket, TcpStream, UdpSocket};
use netstack::time::Instant;
use netstack::{Interface, SockRef, Stack, TcpKeepalive};
use std::io::{self, ErrorKind, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A packet that a device was given.
#[derive(Clone, Debug)]
struct Sent {
    bytes: Vec<u8>,
    mark: u32,
    priority: u32,
}

impl Sent {
    fn is_v4(&self) -> bool {
        self.bytes[0] >> 4 == 4
    }

    /// The time to live, or the hop limit.
    fn hops(&self) -> u8 {
        if self.is_v4() { self.bytes[8] } else { self.bytes[7] }
    }

    /// The type of service, or the traffic class.
    fn class(&self) -> u8 {
        if self.is_v4() { self.bytes[1] } else { self.bytes[0] << 4 | self.bytes[1] >> 4 }
    }

    /// The TCP header.
    fn tcp(&self) -> &[u8] {
        &self.bytes[if self.is_v4() { 20 } else { 40 }..]
    }

    fn is_syn(&self) -> bool {
        self.tcp()[13] & 2 != 0
    }

    fn window(&self) -> usize {
        u16::from_be_bytes([self.tcp()[14], self.tcp()[15]]).into()
    }

    /// The shift of the window scale option.
    fn scale(&self) -> u32 {
        let end = usize::from(self.tcp()[12] >> 4) * 4;
        let mut options = &self.tcp()[20..end];
        while let [kind, rest @ ..] = options {
            options = match (kind, rest) {
                (1, rest) => rest,
                (3, [_, shift, ..]) => return (*shift).into(),
                (_, [len, ..]) => &options[usize::from(*len)..],
                _ => break,
            };
        }
        0
    }
}

/// A device that keeps what it is given to send.
struct Spy {
    inner: Pair,
    sent: Mutex<Vec<Sent>>,
}

impl Device for Spy {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        self.inner.receive(now, queue, buf)
    }

    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        self.inner.transmit(now, queue, packet)?;
        let mut bytes = vec![0; packet.len()];
        packet.copy_to(&mut bytes);
        self.sent.lock().unwrap().push(Sent { bytes, mark: packet.mark, priority: packet.priority });
        Ok(())
    }

    fn flush(&self, queue: usize) {
        self.inner.flush(queue);
    }

    fn readiness(&self, queue: usize) -> Readiness<'_> {
        self.inner.readiness(queue)
    }
}

impl Spy {
    fn take(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.sent.lock().unwrap())
    }

    /// The only packet that was sent.
    #[track_caller]
    fn only(&self) -> Sent {
        let sent = self.take();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent[0].clone()
    }
}

/// Two hosts, joined by a cable on which both are watched: 10.0.0.1 and fd00::1, 10.0.0.2 and fd00::2.
struct Hosts {
    stacks: [Stack; 2],
    spies: [Arc<Spy>; 2],
}

fn hosts() -> Hosts {
    let (left, right) = Pair::new(PairConfig::default());
    let spies = [left, right].map(|inner| Arc::new(Spy { inner, sent: Mutex::default() }));
    let build = |host: usize| {
        let interface = Interface::new(Arc::clone(&spies[host]) as _)
            .name("wan")
            .address(&format!("10.0.0.{}/24", host + 1))
            .address(&format!("fd00::{}/64", host + 1));
        Stack::builder().interface(interface).build().unwrap()
    };
    let stacks = [build(0), build(1)];
    Hosts { stacks, spies }
}

impl Hosts {
    fn client(&self) -> &Stack {
        &self.stacks[0]
    }

    fn server(&self) -> &Stack {
        &self.stacks[1]
    }

    fn take(&self) -> [Vec<Sent>; 2] {
        [self.spies[0].take(), self.spies[1].take()]
    }

    /// A socket of the client.
    fn socket(&self, to: &str) -> TcpSocket {
        let v4 = to.parse::<SocketAddr>().unwrap().is_ipv4();
        if v4 { self.client().tcp_socket_v4() } else { self.client().tcp_socket_v6() }.unwrap()
    }
}

fn errno<T: std::fmt::Debug>(outcome: io::Result<T>) -> i32 {
    outcome.unwrap_err().raw_os_error().expect("an error of the system")
}

/// Writes a byte at one end and reads it at the other.
async fn one_byte(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"x").await.unwrap();
    to.read_exact(&mut [0]).await.unwrap();
    // What is owed for it.
    tokio::time::sleep(Duration::from_millis(250)).await;
}

#[tokio::test(start_paused = true)]
async fn the_device_gets_the_mark_and_the_priority_of_the_socket() {
    let hosts = hosts();
    for to in ["10.0.0.2:80", "[fd00::2]:80"] {
        let listener = hosts.server().listen(to).await.unwrap();
        listener.set_mark(70).unwrap();
        listener.set_priority(3).unwrap();
        let socket = hosts.socket(to);
        assert_eq!((socket.mark().unwrap(), socket.priority().unwrap()), (0, 0));
        socket.set_mark(7).unwrap();
        SockRef::from(&socket).set_priority(5).unwrap();
        hosts.take();
        let mut client = socket.connect(to.parse().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let [of_client, of_server] = hosts.take();
        assert!(of_client.iter().all(|sent| (sent.mark, sent.priority) == (7, 5)), "{of_client:?}");
        assert_eq!((of_server[0].mark, of_server[0].priority), (70, 3), "the SYN-ACK is the listener's");
        assert_eq!((server.mark().unwrap(), server.priority().unwrap()), (70, 0), "as in Linux");
        client.set_mark(8).unwrap();
        client.set_priority(6).unwrap();
        one_byte(&mut client, &mut server).await;
        let [of_client, of_server] = hosts.take();
        assert!(of_client.iter().all(|sent| (sent.mark, sent.priority) == (8, 6)), "{of_client:?}");
        assert!(of_server.iter().all(|sent| (sent.mark, sent.priority) == (70, 0)), "{of_server:?}");
        drop((client, server));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let socket = hosts.client().udp_socket("[::]:0").await.unwrap();
    hosts.take();
    for (to, mark) in [("[::ffff:10.0.0.2]:9", 2), ("[fd00::2]:9", 3)] {
        SockRef::from(&socket).set_mark(mark).unwrap();
        socket.set_priority(mark + 1).unwrap();
        socket.send_to(b"x", to).await.unwrap();
        let sent = hosts.spies[0].only();
        assert_eq!((sent.mark, sent.priority), (mark, mark + 1));
        // In fragments, too.
        socket.send_to(&[0; 4000], to).await.unwrap();
        let sent = hosts.spies[0].take();
        assert!(sent.len() == 3 && sent.iter().all(|sent| (sent.mark, sent.priority) == (mark, mark + 1)));
        assert_eq!((socket.mark().unwrap(), socket.priority().unwrap()), (mark, mark + 1));
    }
}

#[tokio::test(start_paused = true)]
async fn each_family_has_its_time_to_live_and_its_class() {
    let hosts = hosts();
    let listener = hosts.server().listen("[::]:80").await.unwrap();
    listener.set_ttl(11).unwrap();
    listener.set_unicast_hops_v6(12).unwrap();
    listener.set_tos_v4(0x10).unwrap();
    SockRef::from(&listener).set_tclass_v6(0x24).unwrap();
    for (to, hops, class) in
        [("[::ffff:10.0.0.2]:80", (21, 11), (0x40, 0x10)), ("[fd00::2]:80", (22, 12), (0x48, 0x24))]
    {
        hosts.take();
        let socket = hosts.socket(to);
        socket.set_ttl_v4(21).unwrap();
        socket.set_unicast_hops_v6(22).unwrap();
        socket.set_tos_v4(0x40).unwrap();
        // The bits of ECN are TCP's.
        socket.set_tclass_v6(0x4b).unwrap();
        assert_eq!(socket.tclass_v6().unwrap(), 0x48);
        let mut client = socket.connect(to.parse().unwrap()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        for stream in [&client, &server] {
            let both = (stream.unicast_hops_v6().unwrap(), stream.tclass_v6().unwrap());
            assert!(
                [(22, 0x48), (12, 0x24)].contains(&both),
                "{both:?}: inherited, whatever the packets are"
            );
        }
        one_byte(&mut client, &mut server).await;
        let [of_client, of_server] = hosts.take();
        let is = |sent: &[Sent], hops, class| {
            sent.iter().all(|sent| (sent.hops(), sent.class() & !3) == (hops, class))
        };
        assert!(is(&of_client, hops.0, class.0), "{to}: {of_client:?}");
        assert!(is(&of_server, hops.1, class.1), "{to}: {of_server:?}");
        // A change takes effect at once, on the packets of its family alone.
        client.set_ttl(31).unwrap();
        client.set_unicast_hops_v6(32).unwrap();
        client.set_tos_v4(0x60).unwrap();
        client.set_tclass_v6(0x64).unwrap();
        hosts.take();
        one_byte(&mut client, &mut server).await;
        let [of_client, _] = hosts.take();
        let v4 = of_client[0].is_v4();
        assert!(is(&of_client, if v4 { 31 } else { 32 }, if v4 { 0x60 } else { 0x64 }), "{of_client:?}");
        drop((client, server));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let v4 = hosts.client().tcp_socket_v4().unwrap();
    assert_eq!(errno(v4.unicast_hops_v6()), libc::EOPNOTSUPP);
    assert_eq!(errno(v4.set_unicast_hops_v6(9)), libc::ENOPROTOOPT);
    assert_eq!(errno(hosts.socket("[::1]:1").set_unicast_hops_v6(256)), libc::EINVAL);
    v4.set_tos_v4(0x10).unwrap();
    assert_eq!(v4.priority().unwrap(), 6, "interactive, as in Linux");
}

#[tokio::test(start_paused = true)]
async fn groups_have_a_hop_limit_of_their_own() {
    let hosts = hosts();
    let socket = hosts.client().udp_socket("[::]:0").await.unwrap();
    let options = SockRef::from(&socket);
    options.set_multicast_hops_v6(5).unwrap();
    options.set_unicast_hops_v6(6).unwrap();
    options.set_multicast_if_v6(1).unwrap();
    for (to, hops) in [("[ff0e::5]:9", 5), ("[fd00::2]:9", 6)] {
        socket.send_to(b"x", to).await.unwrap();
        assert_eq!(hosts.spies[0].take()[0].hops(), hops, "{to}");
    }
    let listener = hosts.client().listen("[::]:0").await.unwrap();
    assert_eq!(errno(SockRef::from(&listener).set_multicast_hops_v6(5)), libc::ENOPROTOOPT, "no datagrams");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_is_told_the_class_if_it_asks() {
    let hosts = hosts();
    let receiver = hosts.server().udp_socket("[::]:53").await.unwrap();
    let sender = hosts.client().udp_socket("[::]:0").await.unwrap();
    sender.set_tos_v4(0xb9).unwrap();
    sender.set_tclass_v6(0x2a).unwrap();
    let told = async |to: &str| {
        sender.send_to(b"x", to).await.unwrap();
        let mut meta = [RecvMeta::default()];
        receiver.recv_msg(&mut [IoSliceMut::new(&mut [0; 9])], &mut meta).await.unwrap();
        meta[0].traffic_class
    };
    let (v4, v6) = ("[::ffff:10.0.0.2]:53", "[fd00::2]:53");
    assert!(!receiver.recv_tos_v4().unwrap() && !receiver.recv_tclass_v6().unwrap());
    assert_eq!((told(v4).await, told(v6).await), (None, None));
    receiver.set_recv_tos_v4(true).unwrap();
    assert_eq!((told(v4).await, told(v6).await), (Some(0xb9), None));
    SockRef::from(&receiver).set_recv_tclass_v6(true).unwrap();
    assert_eq!((told(v4).await, told(v6).await), (Some(0xb9), Some(0x2a)));
    receiver.set_recv_tos_v4(false).unwrap();
    assert_eq!((told(v4).await, told(v6).await), (None, Some(0x2a)));
    let only_v4 = hosts.server().udp_socket("10.0.0.2:0").await.unwrap();
    assert_eq!(errno(only_v4.set_recv_tclass_v6(true)), libc::ENOPROTOOPT);
    assert_eq!(errno(only_v4.recv_tclass_v6()), libc::EOPNOTSUPP);
}

#[tokio::test(start_paused = true)]
async fn the_number_of_syns_decides_how_long_connecting_takes() {
    let hosts = hosts();
    // Nobody has the address, and nobody says so.
    let begin = tokio::time::Instant::now();
    let mut took = Vec::new();
    for count in [1, 2] {
        let socket = hosts.socket("10.0.0.9:80");
        assert_eq!(socket.tcp_syncnt().unwrap(), 6);
        SockRef::from(&socket).set_tcp_syncnt(count).unwrap();
        assert_eq!(socket.tcp_syncnt().unwrap(), count);
        let before = begin.elapsed();
        let error = socket.connect("10.0.0.9:80".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
        took.push((begin.elapsed() - before).as_secs());
    }
    assert_eq!(took, [3, 7]);
    let socket = hosts.socket("10.0.0.9:80");
    for count in [0, 128, 255] {
        assert_eq!(errno(socket.set_tcp_syncnt(count)), libc::EINVAL);
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_is_clamped() {
    let hosts = hosts();
    let listener = hosts.server().listen("10.0.0.2:80").await.unwrap();
    assert_eq!(errno(listener.set_tcp_window_clamp(0)), libc::EINVAL);
    listener.set_tcp_window_clamp(20_000).unwrap();
    let socket = hosts.socket("10.0.0.2:80");
    assert_eq!(socket.tcp_window_clamp().unwrap(), 0);
    socket.set_tcp_window_clamp(1).unwrap();
    assert_eq!(socket.tcp_window_clamp().unwrap(), 1152, "half of the smallest buffer");
    socket.set_tcp_window_clamp(0).unwrap();
    SockRef::from(&socket).set_tcp_window_clamp(5_000).unwrap();
    hosts.take();
    let mut client = socket.connect("10.0.0.2:80".parse().unwrap()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    assert_eq!(server.tcp_window_clamp().unwrap(), 20_000, "inherited");
    for _ in 0..20 {
        let (sent, received) =
            tokio::join!(server.write_all(&[0; 9000]), async { client.read_exact(&mut [0; 9000]).await });
        sent.and(received).unwrap();
    }
    let windows = |sent: &[Sent]| {
        let scale = sent.iter().find(|sent| sent.is_syn()).map_or(0, Sent::scale);
        sent.iter().map(|sent| if sent.is_syn() { sent.window() } else { sent.window() << scale }).max()
    };
    let [of_client, of_server] = hosts.take();
    assert!(
        windows(&of_client).is_some_and(|most| (1000..=5_000).contains(&most)),
        "{:?}",
        windows(&of_client)
    );
    assert!(windows(&of_server).is_some_and(|most| (5_001..=20_000).contains(&most)));
    let plain = hosts.client().connect("10.0.0.2:80").await.unwrap();
    assert!(plain.tcp_window_clamp().unwrap() >= 32_768, "what the buffer permits");
    assert_eq!(errno(plain.set_tcp_window_clamp(0)), libc::EINVAL);
}

#[tokio::test(start_paused = true)]
async fn without_quick_acknowledgments_the_first_one_waits() {
    let hosts = hosts();
    let listener = hosts.server().listen("10.0.0.2:80").await.unwrap();
    let mut segments = Vec::new();
    for quick in [true, false] {
        let socket = hosts.socket("10.0.0.2:80");
        assert!(socket.quickack().unwrap());
        SockRef::from(&socket).set_tcp_quickack(quick).unwrap();
        assert_eq!(socket.tcp_quickack().unwrap(), quick);
        hosts.take();
        let mut client = socket.connect("10.0.0.2:80".parse().unwrap()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        client.write_all(b"data carries it").await.unwrap();
        segments.push(hosts.spies[0].take().len());
        listener.accept().await.unwrap();
    }
    assert_eq!(segments, [3, 2], "SYN, ACK and data; SYN, and data that acknowledges");
    // A listener's connections begin as it says.
    for quick in [true, false] {
        listener.set_quickack(quick).unwrap();
        let mut client = hosts.client().connect("10.0.0.2:80").await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        assert_eq!(server.quickack().unwrap(), quick);
        hosts.take();
        client.write_all(b"x").await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert_eq!(hosts.spies[1].take().len(), usize::from(quick), "acknowledged at once, or later");
    }
}

#[tokio::test]
async fn whether_a_port_is_shared_can_be_said_later() {
    let stack = stack();
    let first = stack.listen("127.0.0.1:0").await.unwrap();
    let at = first.local_addr().unwrap();
    let another = || {
        let socket = stack.tcp_socket_v4().unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(at)?;
        socket.listen(8)
    };
    assert!(first.reuse_address().unwrap() && !first.reuse_port().unwrap());
    assert_eq!(errno(another()), libc::EADDRINUSE);
    SockRef::from(&first).set_reuse_port(true).unwrap();
    assert!(first.reuse_port().unwrap());
    drop(another().unwrap());
    first.set_reuse_port(false).unwrap();
    assert_eq!(errno(another()), libc::EADDRINUSE);

    // Connections that it left behind keep the port from who does not share it.
    let client = stack.connect(at).await.unwrap();
    let (accepted, _) = first.accept().await.unwrap();
    drop(first);
    let bind = || {
        let socket = stack.tcp_socket_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.bind(at)
    };
    assert!(accepted.reuse_address().unwrap(), "inherited");
    bind().unwrap();
    accepted.set_reuse_address(false).unwrap();
    assert_eq!(errno(bind()), libc::EADDRINUSE);
    drop(client);

    let first = stack.udp_socket("127.0.0.1:0").await.unwrap();
    let at = first.local_addr().unwrap();
    let another = || {
        let mut socket = UnboundUdpSocket::new_v4_on(&stack).unwrap();
        socket.set_reuse_address(true);
        socket.bind(at)
    };
    assert_eq!(errno(another()), libc::EADDRINUSE);
    first.set_reuse_address(true).unwrap();
    let second = another().unwrap();
    assert!(SockRef::from(&second).reuse_address().unwrap());
}

#[tokio::test]
async fn only_v6_shows_what_a_socket_is_bound_to() {
    let stack = stack();
    let socket = || stack.tcp_socket_v6().unwrap();
    let wildcard = socket();
    wildcard.bind("[::]:0".parse().unwrap()).unwrap();
    assert!(!wildcard.only_v6().unwrap());
    assert_eq!(errno(wildcard.set_only_v6(true)), libc::EINVAL, "it is bound");
    let one = socket();
    one.bind("[::1]:0".parse().unwrap()).unwrap();
    assert!(one.only_v6().unwrap());
    let mapped = socket();
    mapped.bind("[::ffff:127.0.0.1]:0".parse().unwrap()).unwrap();
    assert!(!mapped.only_v6().unwrap());
    // A listener that is restricted refuses IPv4.
    for only in [false, true] {
        let socket = socket();
        SockRef::from(&socket).set_only_v6(only).unwrap();
        socket.bind("[::]:0".parse().unwrap()).unwrap();
        let listener = socket.listen(8).unwrap();
        assert_eq!(listener.only_v6().unwrap(), only);
        let at = ("127.0.0.1", listener.local_addr().unwrap().port());
        let connected = stack.connect(at).await;
        assert_eq!(connected.is_err(), only);
        assert_eq!(errno(SockRef::from(&listener).set_only_v6(!only)), libc::EINVAL);
    }
    let (_stack, client, _server) = connected().await;
    assert_eq!(errno(client.only_v6()), libc::EOPNOTSUPP);
    assert_eq!(errno(client.set_only_v6(true)), libc::ENOPROTOOPT);
}

/// A host with two ways to another one.
fn two_ways() -> ([Stack; 2], [Arc<Spy>; 2]) {
    let mut spies = Vec::new();
    let mut builders = [Stack::builder(), Stack::builder()];
    for way in 0..2 {
        let (left, right) = Pair::new(PairConfig::default());
        let spy = Arc::new(Spy { inner: left, sent: Mutex::default() });
        let [here, there] = builders;
        let near = Interface::new(Arc::clone(&spy) as _).name(format!("wan{way}"));
        let far = Interface::new(Arc::new(right)).name(format!("wan{way}"));
        builders = [
            here.interface(near.address(&format!("10.0.{way}.1/24"))),
            there.interface(far.address(&format!("10.0.{way}.2/24"))),
        ];
        spies.push(spy);
    }
    (builders.map(|builder| builder.build().unwrap()), spies.try_into().ok().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_listener_and_a_connection_are_bound_to_a_device() {
    let ([here, there], spies) = two_ways();
    let listener = there.listen("0.0.0.0:80").await.unwrap();
    assert_eq!(listener.device().unwrap(), None);
    assert_eq!(errno(listener.bind_device(Some(b"nowhere"))), libc::ENODEV);
    SockRef::from(&listener).bind_device(Some(b"wan1")).unwrap();
    assert_eq!(listener.device().unwrap().as_deref(), Some(&b"wan1"[..]));
    assert_eq!(here.connect("10.0.0.2:80").await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let mut client = here.connect("10.0.1.2:80").await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    assert_eq!(server.device().unwrap().as_deref(), Some(&b"wan1"[..]), "inherited");
    listener.bind_device(None).unwrap();
    here.connect("10.0.0.2:80").await.unwrap();

    // What the client sends leaves on the other way, and is not for a connection that is bound to this one.
    for spy in &spies {
        spy.take();
    }
    assert_eq!(errno(client.bind_device(Some(b"nowhere"))), libc::ENODEV);
    client.bind_device(Some(b"wan0")).unwrap();
    assert_eq!(client.device().unwrap().as_deref(), Some(&b"wan0"[..]));
    client.write_all(b"x").await.unwrap();
    assert_eq!((spies[0].take().len(), spies[1].take().len()), (1, 0));
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(server.try_read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock, "it came in on wan0");
    client.bind_device(None).unwrap();
    assert_eq!(client.device().unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn the_original_destination_is_where_the_client_wanted_to_go() {
    let (near, far) = Pair::new(PairConfig::default());
    let client = Interface::new(Arc::new(near)).address("10.0.0.1/24").gateway("10.0.0.2");
    let proxy = Interface::new(Arc::new(far)).address("10.0.0.2/24").any_ip("0.0.0.0/0");
    let [client, proxy] =
        [client, proxy].map(|interface| Stack::builder().interface(interface).build().unwrap());
    let listener = proxy.listen("0.0.0.0:80").await.unwrap();
    let outbound = client.connect("203.0.113.5:80").await.unwrap();
    let (inbound, _) = listener.accept().await.unwrap();
    let wanted: SocketAddr = "203.0.113.5:80".parse().unwrap();
    assert_eq!(inbound.original_dst_v4().unwrap(), wanted);
    assert_eq!(outbound.original_dst_v4().unwrap(), wanted, "of the one who opened it, too");
    assert_eq!(SockRef::from(&inbound).original_dst_v4().unwrap(), wanted);
    assert_eq!(errno(inbound.original_dst_v6()), libc::ENOENT);
    assert_eq!(errno(listener.original_dst_v4()), libc::ENOENT);
    let datagrams = client.udp_socket("10.0.0.1:0").await.unwrap();
    assert_eq!(errno(SockRef::from(&datagrams).original_dst_v4()), libc::ENOPROTOOPT);
}

#[tokio::test(start_paused = true)]
async fn the_mtu_is_that_of_the_path() {
    let hosts = hosts();
    let listener = hosts.server().listen("10.0.0.2:80").await.unwrap();
    assert_eq!(errno(listener.ip_mtu()), libc::ENOTCONN);
    assert_eq!(errno(hosts.socket("10.0.0.2:80").ip_mtu()), libc::ENOTCONN);
    let client = hosts.client().connect("10.0.0.2:80").await.unwrap();
    let datagrams = hosts.client().udp_socket("10.0.0.1:0").await.unwrap();
    assert_eq!(errno(datagrams.ip_mtu()), libc::ENOTCONN);
    datagrams.connect("10.0.0.2:9").await.unwrap();
    assert_eq!((client.ip_mtu().unwrap(), datagrams.ip_mtu().unwrap()), (1500, 1500));
    hosts.client().interface("wan").unwrap().set_mtu(1300).unwrap();
    assert_eq!(SockRef::from(&datagrams).ip_mtu().unwrap(), 1300);
}

#[tokio::test]
async fn fast_open_is_an_option_of_who_has_not_connected() {
    let stack = stack();
    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    let options = SockRef::from(&listener);
    options.set_tcp_fastopen(5).unwrap();
    assert_eq!(listener.tcp_fastopen().unwrap(), 5);
    assert_eq!(errno(options.set_tcp_fastopen_connect(true)), libc::EINVAL);
    let at = listener.local_addr().unwrap();
    for _ in 0..2 {
        let socket = stack.tcp_socket_v4().unwrap();
        SockRef::from(&socket).set_tcp_fastopen_connect(true).unwrap();
        assert!(socket.tcp_fastopen_connect().unwrap());
        let mut client = socket.connect(at).await.unwrap();
        client.write_all(b"early").await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        assert_eq!(server.tcp_fastopen().unwrap(), 5);
        for stream in [&client, &server] {
            let options = SockRef::from(stream);
            assert_eq!(errno(options.set_tcp_fastopen(5)), libc::EINVAL);
            assert_eq!(errno(options.set_tcp_fastopen_connect(true)), libc::EINVAL);
            assert_eq!(errno(options.set_tcp_fastopen_no_cookie(true)), libc::EINVAL);
            assert_eq!(errno(options.set_tcp_fastopen_key(None::<FastOpenKeys>)), libc::EINVAL);
        }
    }
    assert_eq!(stack.counters().fast_open_passive, 1, "the second time");
}

#[tokio::test]
async fn a_reference_to_a_socket_says_what_the_socket_says() {
    let (stack, client, server) = connected().await;
    let options = SockRef::from(&client);
    assert_eq!(options.local_addr().unwrap(), client.local_addr().unwrap());
    assert_eq!(options.peer_addr().unwrap(), server.local_addr().unwrap());
    assert!(options.take_error().unwrap().is_none() && !options.is_listener().unwrap());
    options.set_recv_buffer_size(100_000).unwrap();
    options.set_send_buffer_size(usize::MAX).unwrap();
    assert_eq!(options.recv_buffer_size().unwrap(), 200_000);
    assert_eq!(options.send_buffer_size().unwrap(), client.send_buffer_size().unwrap() as usize);
    assert_eq!(options.tcp_mss().unwrap(), client.tcp_mss().unwrap());
    let mut buf = [MaybeUninit::uninit(); 9];
    assert_eq!(options.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(SockRef::from(&server).send(b"four").unwrap(), 4);
    client.readable().await.unwrap();
    assert_eq!((options.peek(&mut buf).unwrap(), options.recv(&mut buf[..3]).unwrap()), (4, 3));
    assert_eq!(options.recv(&mut buf).unwrap(), 1);
    options.set_tcp_keepalive(&TcpKeepalive::new().with_time(Duration::from_secs(9))).unwrap();
    assert_eq!(client.tcp_keepalive_time().unwrap(), Duration::from_secs(9));
    options.set_linger(Some(Duration::from_secs(1))).unwrap();
    assert_eq!(client.linger().unwrap(), Some(Duration::from_secs(1)));
    server.set_zero_linger().unwrap();
    drop(server);
    while client.end_reason().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(options.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionReset);
    assert_eq!(errno(options.peer_addr()), libc::ENOTCONN);

    let listener = stack.listen("127.0.0.1:0").await.unwrap();
    let options = SockRef::from(&listener);
    assert!(options.is_listener().unwrap() && options.take_error().unwrap().is_none());
    assert_eq!(errno(options.peer_addr()), libc::ENOTCONN);
    assert_eq!(options.tcp_mss().unwrap(), 536);
    assert_eq!(errno(options.recv(&mut buf)), libc::ENOTCONN);
    assert_eq!(errno(options.send(b"x")), libc::EPIPE);
    options.set_tcp_mss(1000).unwrap();
    assert_eq!(listener.tcp_mss().unwrap(), 1000);

    // Of datagrams: the errors are those that Linux has for options of TCP.
    for (at, to_read) in [("127.0.0.1:0", libc::EOPNOTSUPP), ("[::1]:0", libc::ENOPROTOOPT)] {
        let socket = stack.udp_socket(at).await.unwrap();
        let options = SockRef::from(&socket);
        assert_eq!(options.local_addr().unwrap(), socket.local_addr().unwrap());
        options.set_recv_buffer_size(100_000).unwrap();
        assert_eq!(socket.recv_buffer_size().unwrap(), 200_000);
        assert_eq!((options.send_buffer_size().unwrap() as u32), socket.send_buffer_size().unwrap());
        assert_eq!(errno(options.tcp_nodelay()), to_read);
        assert_eq!(errno(options.tcp_mss()), to_read);
        assert_eq!(errno(options.set_tcp_nodelay(true)), libc::ENOPROTOOPT);
        assert_eq!(errno(options.set_quickack(true)), libc::ENOPROTOOPT);
        assert_eq!(errno(options.shutdown(std::net::Shutdown::Write)), libc::ENOTCONN);
        options.set_broadcast(true).unwrap();
        assert!(socket.broadcast().unwrap());
        assert_eq!(errno(options.send(b"x")), libc::EDESTADDRREQ);
        socket.connect(socket.local_addr().unwrap()).await.unwrap();
        assert_eq!(options.send(b"to itself").unwrap(), 9);
        socket.readable().await.unwrap();
        assert_eq!((options.peek(&mut buf[..5]).unwrap(), options.recv(&mut buf[..6]).unwrap()), (5, 6));
        assert_eq!(options.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock, "the rest is lost");
        options.join_multicast_v4(&"224.0.0.5".parse().unwrap(), &"127.0.0.1".parse().unwrap()).unwrap();
        options.leave_multicast_v4(&"224.0.0.5".parse().unwrap(), &"127.0.0.1".parse().unwrap()).unwrap();
    }
    assert_eq!(errno(SockRef::from(&client).broadcast()), libc::EOPNOTSUPP);
    assert_eq!(errno(SockRef::from(&client).set_broadcast(true)), libc::ENOPROTOOPT);
}

/// Calls each getter of a list, which is what each of the types has.
macro_rules! have {
    (@one $socket:expr, [$($option:ident)*]) => {
        $($socket.$option().unwrap();)*
    };
    ($($socket:expr),* => $options:tt) => {
        $(have!(@one $socket, $options);)*
    };
}

#[tokio::test]
async fn all_sockets_have_the_same_options() {
    let (stack, client, server) = connected().await;
    let listener = stack.listen("[::]:0").await.unwrap();
    let socket = stack.tcp_socket_v6().unwrap();
    let datagrams: UdpSocket = stack.udp_socket("[::]:0").await.unwrap();
    let references = (SockRef::from(&client), SockRef::from(&listener), SockRef::from(&socket));
    let of_datagrams = SockRef::from(&datagrams);
    have!(client, server, listener, socket, datagrams, references.0, references.1, references.2, of_datagrams => [
        local_addr take_error ttl_v4 tos_v4 mark priority reuse_address reuse_port device mtu_discover
        freebind_v4 ip_transparent_v4 send_buffer_size recv_buffer_size owner
    ]);
    have!(listener, socket, datagrams, references.1, references.2, of_datagrams => [
        unicast_hops_v6 tclass_v6 only_v6 freebind_v6 ip_transparent_v6
    ]);
    have!(client, listener, socket, references.0, references.1, references.2 => [
        nodelay tcp_nodelay keepalive tcp_keepalive_time tcp_keepalive_interval tcp_keepalive_retries
        tcp_user_timeout quickack tcp_quickack tcp_cork tcp_mss tcp_notsent_lowat tcp_congestion
        tcp_thin_linear_timeouts linger tcp_linger2 tcp_fastopen tcp_fastopen_connect tcp_fastopen_no_cookie
        tcp_defer_accept tcp_syncnt tcp_window_clamp max_pacing_rate history_limit
    ]);
    have!(datagrams, of_datagrams => [
        broadcast recv_tos_v4 recv_tclass_v6 multicast_loop_v4 multicast_loop_v6 multicast_ttl_v4
        multicast_hops_v6 multicast_if_v4 multicast_if_v6
    ]);
}
