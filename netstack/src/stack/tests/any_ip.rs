//! Interfaces that accept packets for any address, and sockets at the addresses of other hosts.

use super::{SECOND, assert_empty};
use crate::config::{Config, EchoPolicy};
use crate::icmp::HostLimit;
use crate::stack::testing::{LinkSpec, Net, Passing, Recorder, Socket, icmp_about};
use crate::stack::{Batch, Engine, Family, Interface, Listener, Unconnected};
use crate::tcp::{SocketOptions, State};
use crate::wire::{
    ChecksumMode, Flags, HeaderBuf, IpMeta, Segment, SeqNum, TcpDatagram, checksum, emit_ip, emit_tcp,
    protocol,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

const EVERYTHING: [&str; 2] = ["0.0.0.0/0", "::/0"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Hosts 0 and 1, of which the first sends everything to the second, and the second accepts what is for
/// `prefixes`.
fn net(seed: u64, prefixes: &[&str]) -> Net {
    net_with(seed, prefixes, EchoPolicy::Reply)
}

fn net_with(seed: u64, prefixes: &[&str], any_ip_echo: EchoPolicy) -> Net {
    let mut net = Net::pair(seed, LinkSpec::default());
    for (host, prefixes) in [(0, &[][..]), (1, prefixes)] {
        let interface = Interface::new(net.cable.end(host))
            .address(&format!("10.0.0.{}/24", host + 1))
            .address(&format!("fd00::{}/64", host + 1))
            .gateway(&format!("10.0.0.{}", 2 - host))
            .gateway(&format!("fd00::{}", 2 - host));
        let interface = prefixes.iter().fold(interface, |interface, prefix| interface.any_ip(prefix));
        let config = Config { seed: Some(2 * seed + host as u64), any_ip_echo, ..Config::default() };
        net.replace_host(host, Engine::new(config, vec![interface]).unwrap(), Batch::new());
    }
    net
}

/// A segment from port 5000 of `src` to port 80 of `dst`.
fn segment(src: &str, dst: &str, flags: Flags) -> Vec<u8> {
    let segment = Segment { window: 1000, ..Segment::new(flags, SeqNum::new(1000), SeqNum::new(0)) };
    let meta = IpMeta::new(ip(src), ip(dst), 64);
    let mut packet = HeaderBuf::new();
    let datagram = TcpDatagram { ip: &meta, src_port: 5000, dst_port: 80, segment: &segment, payload: &[] };
    emit_tcp(&mut packet, &datagram, ChecksumMode::Full);
    packet.to_vec()
}

/// An IPv4 packet with `body`, which is a fragment at `offset` if there is one.
fn ipv4(src: &str, dst: &str, proto: u8, body: &[u8], fragment: Option<(u16, bool)>) -> Vec<u8> {
    let mut packet = vec![0; 20];
    emit_ip(&mut packet, &IpMeta { ident: 7, ..IpMeta::new(ip(src), ip(dst), 64) }, proto, body.len());
    packet.extend(body);
    if let Some((offset, more)) = fragment {
        packet[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        packet[10..12].fill(0);
        let sum = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn ping(data: &[u8]) -> Vec<u8> {
    let mut ping = [&[8, 0, 0, 0, 1, 2, 3, 4], data].concat();
    let sum = checksum(&ping);
    ping[2..4].copy_from_slice(&sum.to_be_bytes());
    ping
}

/// What host 1 sends when `packet` arrives there.
fn answers(net: &mut Net, packet: &[u8]) -> Vec<Passing> {
    let _ = net.cable.take_trace();
    net.cable.inject(net.now, 1, packet);
    net.settle();
    net.cable.take_trace()
}

/// A connection from host 0 to `to`, which the listener of host 1 accepts.
fn connected(net: &mut Net, listener: &Arc<Listener>, to: SocketAddr) -> (Socket, Socket) {
    let client = net.connect(0, to).unwrap();
    net.run_until(SECOND, |net| net.state(&client) == State::Established && listener.accept_queue_len() > 0);
    let server = net.accept(1, listener).unwrap();
    (client, server)
}

/// Host 1, with somebody who takes the requests and does nothing, after so many of them.
pub(super) fn pinged(policy: EchoPolicy, requests: usize) -> Net {
    let mut net = net_with(211, &EVERYTHING, policy);
    let queue = net.engine(1).forward_echo(Arc::new(Recorder::default()));
    assert_eq!(queue.is_ok(), policy == EchoPolicy::Forward);
    for _ in 0..requests {
        assert!(
            answers(&mut net, &ipv4("10.0.0.9", "8.8.8.8", protocol::ICMP, &ping(b"x"), None)).is_empty()
        );
    }
    net
}

fn bind(net: &Net, socket: &mut Unconnected, address: &str) -> Result<(), i32> {
    let result = net.engine(1).tcp().bind(net.engine(1).core(), socket, address.parse().unwrap());
    result.map_err(|error| error.raw_os_error().unwrap())
}

fn error<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn a_listener_accepts_connections_to_any_address() {
    let mut net = net(200, &EVERYTHING);
    let listener = net.listen(1, 80, 8);
    for to in ["8.8.8.8:80", "10.0.0.77:80", "240.0.0.1:80", "10.0.0.2:80", "[2001:db8::7]:80"] {
        let to: SocketAddr = to.parse().unwrap();
        let (client, server) = connected(&mut net, &listener, to);
        assert_eq!(server.cell.local_addr().ip().to_canonical(), to.ip());
        assert_eq!(client.cell.peer_addr().unwrap(), to);
        assert_eq!(net.transfer(&client, &server, b"ping", SECOND), b"ping");
        assert_eq!(net.transfer(&server, &client, b"pong", SECOND), b"pong");
        net.close(client);
        net.run_for(SECOND);
        net.close(server);
    }
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
    net.run_for(SECOND);
    assert_empty(net.engine(1));
}

#[test]
fn without_it_and_outside_its_prefixes_packets_are_for_somebody_else() {
    for (prefixes, accepted) in [(&[][..], false), (&["198.18.0.0/15"], false), (&["8.0.0.0/8"], true)] {
        let mut net = net(201, prefixes);
        let _listener = net.listen(1, 80, 8);
        for flags in [Flags::SYN, Flags::ACK] {
            let sent = answers(&mut net, &segment("10.0.0.1", "8.8.8.8", flags));
            assert_eq!(sent.len(), usize::from(accepted), "{prefixes:?}");
        }
        let sent = answers(&mut net, &segment("10.0.0.1", "9.9.9.9", Flags::SYN));
        assert!(sent.is_empty(), "{prefixes:?}");
    }
}

#[test]
fn a_socket_is_bound_to_and_sends_from_an_address_of_any_ip() {
    let mut net = net(202, &["203.0.113.0/24", "2001:db8::/32"]);
    for (family, from, to, port) in [
        (Family::V4, "203.0.113.5:7000", "10.0.0.1:81", 81),
        (Family::V6, "[2001:db8::5]:7000", "[fd00::1]:82", 82),
        (Family::V6, "[::ffff:203.0.113.6]:7000", "[::ffff:10.0.0.1]:83", 83),
    ] {
        let listener = net.listen(0, port, 8);
        let mut socket = net.socket(1, family);
        assert_eq!(bind(&net, &mut socket, from), Ok(()));
        let client = net.connect_from(1, socket, to.parse().unwrap()).unwrap();
        net.run_until(SECOND, |_| listener.accept_queue_len() > 0);
        let server = net.accept(0, &listener).unwrap();
        let from: SocketAddr = from.parse().unwrap();
        assert_eq!(server.cell.peer_addr().unwrap().ip().to_canonical(), from.ip().to_canonical());
        assert_eq!(net.transfer(&client, &server, b"from afar", SECOND), b"from afar");
    }
    // A listener there takes nothing that is for another address.
    let mut socket = net.socket(1, Family::V4);
    bind(&net, &mut socket, "203.0.113.9:80").unwrap();
    let observer = Arc::new(Recorder::default());
    let listener =
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.listen(turn, socket, 8, observer)).unwrap();
    connected(&mut net, &listener, "203.0.113.9:80".parse().unwrap());
    assert!(answers(&mut net, &segment("10.0.0.1", "203.0.113.8", Flags::SYN))[0].segment().is_rst());
}

/// As bind(2) and connect(2) of Linux 6.18 answer.
#[test]
fn addresses_of_other_hosts_need_freebind_or_transparent() {
    let mut net = net(203, &["203.0.113.0/24"]);
    for (family, address, plain, foreign) in [
        (Family::V4, "203.0.113.5:0", Ok(()), Ok(())),
        (Family::V4, "8.8.8.8:0", Err(libc::EADDRNOTAVAIL), Ok(())),
        (Family::V4, "0.1.2.3:0", Err(libc::EADDRNOTAVAIL), Ok(())),
        (Family::V6, "[2001:db8::1]:0", Err(libc::EADDRNOTAVAIL), Ok(())),
        (Family::V6, "[::ffff:8.8.8.8]:0", Err(libc::EADDRNOTAVAIL), Ok(())),
        (Family::V6, "[ff02::1]:0", Err(libc::EINVAL), Err(libc::EINVAL)),
        (Family::V6, "[fe80::1]:0", Err(libc::EINVAL), Err(libc::EINVAL)),
    ] {
        assert_eq!(bind(&net, &mut net.socket(1, family), address), plain, "{address}");
        let options: [fn(&mut SocketOptions) -> &mut bool; 2] =
            [|options| &mut options.freebind, |options| &mut options.transparent];
        for option in options {
            let mut socket = net.socket(1, family);
            *option(&mut socket.options) = true;
            assert_eq!(bind(&net, &mut socket, address), foreign, "{address}");
        }
    }
    for (family, from, to, freebind, transparent) in [
        (Family::V4, "8.8.8.8:0", "10.0.0.1:9", Some(libc::ENETUNREACH), None),
        (Family::V6, "[2001:db8::1]:0", "[fd00::1]:9", None, None),
    ] {
        for (is_transparent, expected) in [(false, freebind), (true, transparent)] {
            let mut socket = net.socket(1, family);
            (socket.options.freebind, socket.options.transparent) = (!is_transparent, is_transparent);
            bind(&net, &mut socket, from).unwrap();
            let _ = net.cable.take_trace();
            let client = net.connect_from(1, socket, to.parse().unwrap());
            net.settle();
            let sent = net.cable.take_trace();
            let from: SocketAddr = from.parse().unwrap();
            assert_eq!(sent.first().map(|syn| syn.ip.src), expected.is_none().then_some(from.ip()));
            assert_eq!(error(client), expected, "from {from}");
        }
    }
}

#[test]
fn packets_that_nobody_may_answer_stay_unanswered_with_any_ip() {
    let mut net = net(204, &EVERYTHING);
    let listener = net.listen(1, 80, 8);
    for (src, dst, why) in [
        ("10.0.0.2", "10.0.0.2", "LAND"),
        ("8.8.8.8", "8.8.8.8", "LAND at an address that is accepted"),
        ("2001:db8::1", "2001:db8::1", "LAND at an address that is accepted"),
        ("10.0.0.2", "8.8.8.8", "an own address from outside"),
        ("fd00::2", "2001:db8::1", "an own address from outside"),
        ("127.0.0.1", "8.8.8.8", "loopback from outside"),
        ("::1", "2001:db8::1", "loopback from outside"),
        ("10.0.0.1", "127.0.0.1", "loopback as the destination"),
        ("10.0.0.1", "127.1.2.3", "loopback as the destination"),
        ("fd00::1", "::1", "loopback as the destination"),
        ("224.0.0.1", "8.8.8.8", "from a group"),
        ("ff02::1", "2001:db8::1", "from a group"),
        ("255.255.255.255", "8.8.8.8", "from all"),
        ("10.0.0.255", "8.8.8.8", "from all of the network"),
        ("0.0.0.0", "8.8.8.8", "from nobody"),
        ("::", "2001:db8::1", "from nobody"),
        ("::ffff:8.8.8.8", "2001:db8::1", "from a mapped address"),
        ("10.0.0.1", "255.255.255.255", "to all"),
        ("10.0.0.1", "10.0.0.255", "to all of the network"),
        ("10.0.0.1", "224.0.0.1", "to a group"),
        ("fd00::1", "ff02::1", "to a group"),
        ("10.0.0.1", "0.0.0.0", "to nobody"),
        ("10.0.0.1", "0.1.2.3", "to nobody"),
        ("fd00::1", "::", "to nobody"),
        ("fd00::1", "::ffff:8.8.8.8", "to a mapped address"),
    ] {
        for flags in [Flags::SYN, Flags::ACK, Flags::RST] {
            assert!(answers(&mut net, &segment(src, dst, flags)).is_empty(), "{why}: {src} to {dst}");
        }
        if ip(src).is_ipv4() {
            for (proto, body) in
                [(protocol::UDP, vec![0x10, 0, 0, 53, 0, 8, 0, 0]), (protocol::ICMP, ping(b"x"))]
            {
                let packet = ipv4(src, dst, proto, &body, None);
                assert!(answers(&mut net, &packet).is_empty(), "{why}: {src} to {dst}, {proto}");
            }
        }
    }
    assert_eq!(listener.syn_queue_len(), 0);
    assert_eq!(answers(&mut net, &segment("10.0.0.1", "8.8.8.8", Flags::SYN)).len(), 1, "this one is fine");
}

#[test]
fn icmp_about_a_connection_at_any_address_is_believed_as_little_as_elsewhere() {
    let mut net = net(205, &EVERYTHING);
    let listener = net.listen(1, 80, 8);
    let (client, server) = connected(&mut net, &listener, "8.8.8.8:80".parse().unwrap());
    // So that something of the connection is in flight.
    net.write(&server, &[1; 1000]).unwrap();
    net.settle();
    let flying = net.cable.take_trace().pop().unwrap();
    let about = |message: (u8, u8), word, packet: &[u8]| icmp_about(packet, message, word);
    let quoted = flying.forged(|_, _| ());
    let stale = flying.forged(|segment, _| segment.seq = SeqNum::new(segment.seq.raw() ^ 0x4000_0000));
    let info = |net: &Net| net.engine(1).with_tcp(net.now, |tcp, turn| tcp.info(turn, &server.cell)).unwrap();
    let mtu = info(&net).pmtu;
    for (message, word, packet, why) in [
        ((3, 4), 600, &stale, "a sequence number out of the window"),
        ((3, 3), 0, &quoted, "a hard error once the connection is synchronized"),
        ((3, 2), 0, &quoted, "a hard error once the connection is synchronized"),
        ((5, 1), 0x0a00_0009, &quoted, "a redirect"),
        ((4, 0), 0, &quoted, "source quench"),
    ] {
        assert!(answers(&mut net, &about(message, word, packet)).is_empty(), "{why}");
        assert_eq!((net.state(&server), info(&net).pmtu), (State::Established, mtu), "{why}");
    }
    // RFC 791: nobody cuts below 68 bytes, and Linux not below 552.
    answers(&mut net, &about((3, 4), 40, &quoted));
    assert!(info(&net).pmtu >= 552, "{}", info(&net).pmtu);
    net.run_for(SECOND);
    assert_eq!(net.read_available(&client), (vec![1; 1000], false));
    // A flood of what is reported comes to the limit of reports to its sender, whatever the addresses are.
    let reports: usize = (0..200u8)
        .map(|n| ipv4("10.0.0.9", &format!("8.8.4.{n}"), protocol::UDP, &[0x10, 0, 0, 53, 0, 8, 0, 0], None))
        .map(|packet| answers(&mut net, &packet).len())
        .sum();
    assert_eq!(reports, HostLimit::BURST as usize);
}

#[test]
fn fragments_for_any_address_are_bounded_and_never_overlap() {
    let mut net = net(206, &EVERYTHING);
    let whole = ping(&[5; 24]);
    let part = |dst: &str, from: usize, to: usize| {
        let more = to < whole.len();
        ipv4("10.0.0.9", dst, protocol::ICMP, &whole[from..to], Some((from as u16, more)))
    };
    assert!(answers(&mut net, &part("8.8.8.8", 16, 32)).is_empty());
    assert_eq!(answers(&mut net, &part("8.8.8.8", 0, 16)).len(), 1);
    // An overlap drops the datagram (RFC 5722).
    assert!(answers(&mut net, &part("8.8.8.8", 16, 32)).is_empty());
    assert!(answers(&mut net, &part("8.8.8.8", 8, 24)).is_empty());
    assert!(answers(&mut net, &part("8.8.8.8", 0, 16)).is_empty());
    net.run_for(31 * SECOND);
    // Of thousands of datagrams some are given up for others, and all in time.
    for n in 0..5000 {
        let dst = format!("9.{}.{}.1", n / 256, n % 256);
        let first = ipv4("10.0.0.9", &dst, protocol::ICMP, &[0; 1400], Some((0, true)));
        assert!(answers(&mut net, &first).is_empty());
    }
    assert!(net.engine(1).counters().drops(crate::reasons::DropReason::FragMemory) > 0);
    net.run_for(31 * SECOND);
    assert_eq!(net.engine(1).next_deadline(), None);
}

#[test]
fn broken_packets_for_any_address_do_no_harm() {
    let mut net = net(207, &EVERYTHING);
    let listener = net.listen(1, 80, 8);
    for (src, dst) in [("10.0.0.9", "8.8.8.8"), ("fd00::9", "2001:db8::1")] {
        let whole = segment(src, dst, Flags::SYN);
        for len in 0..whole.len() {
            assert!(answers(&mut net, &whole[..len]).is_empty());
        }
        for bit in 0..8 * whole.len() {
            let mut broken = whole.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            let sent = answers(&mut net, &broken);
            assert!(sent.len() <= 1, "bit {bit}");
            // The hop limit and the like are in no checksum; nobody else is answered. With another version
            // it has other addresses.
            if bit / 4 != 1 {
                let other = sent.iter().find(|sent| (sent.ip.src, sent.ip.dst) != (ip(dst), ip(src)));
                assert!(other.is_none(), "bit {bit}: {other:?}");
            }
        }
    }
    assert!(listener.syn_queue_len() <= 2);
}

#[test]
fn prefixes_that_cannot_be_are_refused_when_the_stack_is_built() {
    for (prefix, expected) in [
        ("198.18.0.0", "'198.18.0.0' lacks its prefix length (as in 198.18.0.0/24)"),
        ("198.18.0.0/33", "prefix length '33' is not from 0 to 32"),
        ("224.0.0.0/4", "224.0.0.0/4 has no address of a host"),
        ("127.0.0.0/8", "127.0.0.0/8 has no address of a host"),
        ("ff00::/8", "ff00::/8 has no address of a host"),
    ] {
        let cable = Net::pair(208, LinkSpec::default()).cable;
        let interface = Interface::new(cable.end(0)).address("10.0.0.1/24").any_ip(prefix);
        let refused = Engine::new(Config::default(), vec![interface]).unwrap_err();
        assert_eq!((refused.kind(), refused.to_string().as_str()), (io::ErrorKind::InvalidInput, expected));
    }
}

/// A listener at an address of any-IP ends with the interface that accepts the address.
#[test]
fn a_listener_at_any_address_fails_with_its_interface() {
    let mut net = net(209, &["203.0.113.0/24"]);
    let mut socket = net.socket(1, Family::V4);
    bind(&net, &mut socket, "203.0.113.9:80").unwrap();
    let observer = Arc::new(Recorder::default());
    let listener =
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.listen(turn, socket, 8, observer)).unwrap();
    assert!(listener.readiness().is_empty());
    net.cable.pull();
    net.settle();
    assert!(listener.readiness().contains(crate::readiness::Events::ERROR));
}

/// A socket at an address of any-IP reaches the stack's own sockets, inside.
#[test]
fn the_stack_reaches_itself_from_an_address_of_any_ip() {
    let mut net = net(210, &["203.0.113.0/24"]);
    let listener = net.listen(1, 80, 8);
    let mut socket = net.socket(1, Family::V4);
    bind(&net, &mut socket, "203.0.113.9:0").unwrap();
    let client = net.connect_from(1, socket, "10.0.0.2:80".parse().unwrap()).unwrap();
    net.run_until(SECOND, |net| net.state(&client) == State::Established && listener.accept_queue_len() > 0);
    let server = net.accept(1, &listener).unwrap();
    assert_eq!(net.transfer(&server, &client, b"inside", SECOND), b"inside");
    assert!(net.cable.take_trace().is_empty());
}

#[test]
fn echo_requests_to_other_hosts_go_as_the_policy_says() {
    let to = |dst| ipv4("10.0.0.9", dst, protocol::ICMP, &ping(b"data"), None);
    for policy in [EchoPolicy::Reply, EchoPolicy::Ignore, EchoPolicy::Forward] {
        let mut net = net_with(212, &EVERYTHING, policy);
        let sent = answers(&mut net, &to("8.8.8.8"));
        assert_eq!(sent.len(), usize::from(policy == EchoPolicy::Reply), "{policy:?}");
        assert!(sent.iter().all(|reply| (reply.ip.src, reply.ip.dst) == (ip("8.8.8.8"), ip("10.0.0.9"))));
        assert_eq!(answers(&mut net, &to("10.0.0.2")).len(), 1, "{policy:?}: our own address");
    }
}

#[test]
fn the_application_answers_echo_requests_or_does_not() {
    let mut net = net_with(213, &EVERYTHING, EchoPolicy::Forward);
    let observer = Arc::new(Recorder::default());
    let queue = net.engine(1).forward_echo(Arc::clone(&observer) as _).unwrap();
    assert_eq!(error(net.engine(1).forward_echo(observer.clone())), Some(libc::EADDRINUSE));
    let request = ipv4("10.0.0.9", "8.8.8.8", protocol::ICMP, &ping(b"data"), None);
    for (reason, kind) in [(None, 0), (Some(crate::icmp::Unreachable::Host), 3)] {
        assert!(answers(&mut net, &request).is_empty());
        assert!(observer.take().contains(crate::readiness::Events::READABLE));
        let held = queue.pop().unwrap();
        assert_eq!(
            (held.src(), held.dst(), held.request().data),
            (ip("10.0.0.9"), ip("8.8.8.8"), &b"data"[..])
        );
        assert_eq!((held.hop_limit(), held.request().id), (64, [1, 2, 3, 4]));
        net.engine(1).answer_echo(net.now, &held, reason);
        let sent = net.cable.take_trace();
        assert_eq!(
            (sent.len(), sent[0].ip.src, sent[0].ip.dst),
            (1, ip("8.8.8.8"), ip("10.0.0.9")),
            "{kind}"
        );
    }
    // Once nobody takes them, they are dropped.
    net.engine(1).close_echo(&queue);
    assert!(answers(&mut net, &request).is_empty());
    assert!(queue.pop().is_err());
    assert!(net.engine(1).forward_echo(observer).is_ok(), "and somebody else may");
}
