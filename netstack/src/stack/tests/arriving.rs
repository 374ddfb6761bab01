//! Packets that belong to no connection, and segments that find theirs locked.

use super::{SECOND, assert_empty, to_host_1};
use crate::readiness::Events;
use crate::stack::testing::{LinkSpec, Net, Verdict, address};
use crate::stack::{Batch, Engine, Family, Interface, Observer, Unconnected};
use crate::tcp::State;
use crate::time::{Duration, Instant};
use crate::wire::{
    ChecksumMode, ChecksumOffload, Flags, HeaderBuf, IcmpMessage, IpMeta, Segment, SeqNum, TcpDatagram,
    emit_icmp, emit_tcp, protocol,
};
use std::io::{IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A segment from `src` to port 80 of `dst`.
fn packet(src: IpAddr, src_port: u16, dst: IpAddr, flags: Flags) -> Vec<u8> {
    let segment = Segment { window: 1000, ..Segment::new(flags, SeqNum::new(1000), SeqNum::new(0)) };
    let meta =
        IpMeta { src, dst, hop_limit: 64, traffic_class: 0, dont_fragment: true, ident: 0, flow_label: 0 };
    let mut header = HeaderBuf::new();
    let none: Option<ChecksumOffload> = emit_tcp(
        &mut header,
        &TcpDatagram { ip: &meta, src_port, dst_port: 80, segment: &segment, payload: &[] },
        ChecksumMode::Full,
    );
    assert_eq!(none, None);
    header.to_vec()
}

/// What host 1 sends when `packet` arrives there.
fn answers(net: &mut Net, packet: &[u8]) -> Vec<crate::stack::testing::Passing> {
    let _ = net.cable.take_trace();
    net.cable.inject(net.now, 1, packet);
    net.settle();
    net.cable.take_trace()
}

#[test]
fn unknown_segments_are_reset_and_impossible_ones_ignored() {
    let mut net = Net::pair(50, LinkSpec::default());
    let own = address(1, Family::V4);
    let reset = answers(&mut net, &packet(ip("10.0.0.9"), 5000, own, Flags::SYN));
    assert_eq!(reset.len(), 1);
    assert!(reset[0].segment().is_rst());
    assert!(answers(&mut net, &packet(ip("10.0.0.9"), 5000, own, Flags::RST)).is_empty());
    let listener = net.listen(1, 80, 8);
    for (src, why) in [
        ("10.0.0.2", "our own address"),
        ("127.0.0.1", "loopback from outside"),
        ("255.255.255.255", "broadcast"),
        ("10.0.0.255", "broadcast of the network"),
        ("224.0.0.1", "multicast"),
        ("0.0.0.0", "nobody"),
    ] {
        assert!(answers(&mut net, &packet(ip(src), 5000, own, Flags::SYN)).is_empty(), "from {why}");
    }
    for dst in ["127.0.0.1", "10.0.0.77", "10.0.0.255", "224.0.0.1"] {
        assert!(answers(&mut net, &packet(ip("10.0.0.9"), 5000, ip(dst), Flags::SYN)).is_empty(), "to {dst}");
    }
    // LAND: from and to the same address and port.
    assert!(answers(&mut net, &packet(own, 80, own, Flags::SYN)).is_empty());
    assert!(answers(&mut net, &packet(ip("10.0.0.9"), 5000, own, Flags::SYN.with(Flags::FIN))).is_empty());
    let mut bad = packet(ip("10.0.0.9"), 5000, own, Flags::SYN);
    *bad.last_mut().unwrap() ^= 1;
    assert!(answers(&mut net, &bad).is_empty(), "a wrong checksum");
    assert_eq!(net.engine(1).counters().tcp_in_errors, 1);
    assert_eq!(listener.syn_queue_len(), 0);
    assert_eq!(answers(&mut net, &packet(ip("10.0.0.9"), 5000, own, Flags::SYN)).len(), 1);
    assert_eq!(listener.syn_queue_len(), 1);
    assert!(answers(&mut net, &packet(ip("10.0.0.9"), 5001, own, Flags::ACK))[0].segment().is_rst());
}

#[test]
fn truncated_packets_do_no_harm() {
    let mut net = Net::pair(51, LinkSpec::default());
    let _listener = net.listen(1, 80, 8);
    for family in [Family::V4, Family::V6] {
        let src = if family == Family::V4 { ip("10.0.0.9") } else { ip("fd00::9") };
        let whole = packet(src, 5000, address(1, family), Flags::SYN);
        for len in 0..whole.len() {
            assert!(answers(&mut net, &whole[..len]).is_empty());
        }
    }
}

/// An ICMP echo request or a UDP datagram to host 1, by hand.
fn ipv4(proto: u8, body: &[u8]) -> Vec<u8> {
    let meta = IpMeta {
        src: ip("10.0.0.9"),
        dst: address(1, Family::V4),
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: true,
        ident: 7,
        flow_label: 0,
    };
    let mut packet = vec![0; 20];
    crate::wire::emit_ip(&mut packet, &meta, proto, body.len());
    packet.extend(body);
    packet
}

#[test]
fn pings_are_answered_and_unknown_ports_and_protocols_reported_within_limits() {
    let mut net = Net::pair(52, LinkSpec::default());
    let mut ping = vec![8, 0, 0, 0, 1, 2, 3, 4, b'h', b'i'];
    let sum = crate::wire::checksum(&ping);
    ping[2..4].copy_from_slice(&sum.to_be_bytes());
    let reply = answers(&mut net, &ipv4(protocol::ICMP, &ping));
    assert_eq!((reply.len(), reply[0].ip.protocol, reply[0].ip.dst), (1, protocol::ICMP, ip("10.0.0.9")));
    let udp = ipv4(protocol::UDP, &[0x10, 0, 0, 53, 0, 8, 0, 0]);
    assert_eq!(answers(&mut net, &udp)[0].ip.protocol, protocol::ICMP);
    assert_eq!(answers(&mut net, &ipv4(99, &[1, 2, 3, 4]))[0].ip.protocol, protocol::ICMP);
    let burst: usize = (0..100).map(|_| answers(&mut net, &udp).len()).sum();
    assert_eq!(burst, 4, "six in a row to one host, two of which went before");
    net.run_for(SECOND);
    assert_eq!(answers(&mut net, &udp).len(), 1);
    assert_eq!(net.engine(1).counters().icmp_rate_limited, 96);
}

#[test]
fn fragments_are_put_together() {
    let mut net = Net::pair(57, LinkSpec::default());
    let mut ping = vec![8, 0, 0, 0, 1, 2, 3, 4];
    ping.extend([5; 24]);
    let sum = crate::wire::checksum(&ping);
    ping[2..4].copy_from_slice(&sum.to_be_bytes());
    let fragment = |bytes: &[u8], offset: u16, more: bool| {
        let mut packet = ipv4(protocol::ICMP, bytes);
        packet[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
        packet[10..12].fill(0);
        let sum = crate::wire::checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    };
    assert!(answers(&mut net, &fragment(&ping[16..], 16, false)).is_empty());
    assert!(net.engine(1).next_deadline().is_some(), "fragments do not wait for ever");
    assert_eq!(answers(&mut net, &fragment(&ping[..16], 0, true)).len(), 1);
    assert_eq!(net.engine(1).counters().reassembled, 1);
    assert!(answers(&mut net, &fragment(&ping[..16], 0, true)).is_empty());
    net.run_for(31 * SECOND);
    assert_eq!(net.engine(1).next_deadline(), None);
}

#[test]
fn icmp_errors_end_connecting_and_do_not_end_connections() {
    let mut net = Net::pair(53, LinkSpec::default());
    let unreachable = |to_quote: &[u8]| {
        let mut body = vec![3, 1, 0, 0, 0, 0, 0, 0];
        body.extend(&to_quote[..28.min(to_quote.len())]);
        let sum = crate::wire::checksum(&body);
        body[2..4].copy_from_slice(&sum.to_be_bytes());
        let meta = IpMeta {
            src: ip("10.0.0.254"),
            dst: address(0, Family::V4),
            hop_limit: 64,
            traffic_class: 0,
            dont_fragment: true,
            ident: 0,
            flow_label: 0,
        };
        let mut packet = vec![0; 20];
        crate::wire::emit_ip(&mut packet, &meta, protocol::ICMP, body.len());
        packet.extend(body);
        packet
    };
    let quote = |net: &Net, client: &crate::stack::testing::Socket, seq: SeqNum| {
        let (local, remote) = (client.cell.local_addr(), to_host_1(80));
        let meta = IpMeta {
            src: local.ip(),
            dst: remote.ip(),
            hop_limit: 64,
            traffic_class: 0,
            dont_fragment: true,
            ident: 0,
            flow_label: 0,
        };
        let _ = net;
        let segment = Segment { seq, ..blank() };
        let mut header = HeaderBuf::new();
        emit_tcp(
            &mut header,
            &TcpDatagram {
                ip: &meta,
                src_port: local.port(),
                dst_port: remote.port(),
                segment: &segment,
                payload: &[],
            },
            ChecksumMode::Full,
        );
        header.to_vec()
    };
    net.cable.set_filter(|_| Verdict::Drop);
    let client = net.connect(0, to_host_1(80)).unwrap();
    let syn = net.cable.take_trace()[0].segment().seq;
    let packet = unreachable(&quote(&net, &client, syn));
    net.cable.inject(net.now, 0, &packet);
    net.settle();
    let error = client.cell.connect_result().unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EHOSTUNREACH));
    net.close(client);
    assert_empty(net.engine(0));
    net.cable.clear_filter();

    let (client, server) = net.connected();
    net.write(&client, b"x").unwrap();
    let data = net.cable.take_trace().last().unwrap().segment().seq;
    let packet = unreachable(&quote(&net, &client, data));
    net.cable.inject(net.now, 0, &packet);
    net.run_for(SECOND);
    assert_eq!(net.state(&client), State::Established, "RFC 5927: a soft error");
    assert_eq!(net.read(&server).unwrap(), b"x");
}

/// Such a message would be about the connection over IPv4, if anybody took the address for one.
#[test]
fn an_icmpv6_error_that_quotes_mapped_addresses_is_about_nothing() {
    let mut net = Net::pair(53, LinkSpec::default());
    net.cable.set_filter(|_| Verdict::Drop);
    let client = net.connect(0, to_host_1(80)).unwrap();
    let seq = net.cable.take_trace()[0].segment().seq;
    let between = |src, dst| IpMeta {
        src,
        dst,
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: true,
        ident: 0,
        flow_label: 0,
    };
    let mapped = |host| match address(host, Family::V4) {
        IpAddr::V4(address) => IpAddr::V6(address.to_ipv6_mapped()),
        address => address,
    };
    let mut quoted = HeaderBuf::new();
    let (port, segment) = (client.cell.local_addr().port(), Segment { seq, ..blank() });
    emit_tcp(
        &mut quoted,
        &TcpDatagram {
            ip: &between(mapped(0), mapped(1)),
            src_port: port,
            dst_port: 80,
            segment: &segment,
            payload: &[],
        },
        ChecksumMode::Full,
    );
    let mut message = Vec::new();
    // The port is unreachable: final for a connection that opens, if it were meant.
    let icmp = IcmpMessage { kind: 1, code: 4, word: [0; 4], body: &quoted };
    emit_icmp(&mut message, &between(ip("fd00::fe"), address(0, Family::V6)), &icmp);
    net.cable.inject(net.now, 0, &message);
    net.settle();
    assert_eq!(net.engine(0).counters().icmp_in, 1);
    assert!(client.cell.connect_result().is_none());
}

fn blank() -> Segment {
    Segment::new(Flags::ACK, SeqNum::new(0), SeqNum::new(0))
}

#[test]
fn segments_that_find_the_connection_locked_wait_for_its_holder_or_the_end_of_the_batch() {
    for holder_processes in [true, false] {
        let mut net = Net::pair(54, LinkSpec::default());
        let (client, server) = net.connected();
        net.write(&client, b"first").unwrap();
        net.settle();
        let engine = Arc::clone(net.engine(1));
        let (now, queue, mut out) =
            (net.now + Duration::from_millis(10), engine.core().queues().next().unwrap(), Batch::new());
        let mut packet = engine.core().pool().take();
        let meta = engine.core().device(0).unwrap().receive(now, 0, &mut packet).unwrap();
        {
            let _held = server.cell.lock_for_test();
            engine.on_packet(now, queue, packet, meta, &mut out);
        }
        assert_eq!(engine.counters().backlog_queued, 1);
        let _ = server.events.take();
        if holder_processes {
            assert_eq!(net.read(&server).unwrap(), b"first");
        }
        engine.end_batch(now, &mut out);
        out.deliver(&engine);
        if !holder_processes {
            assert!(server.events.take().contains(Events::READABLE));
            assert_eq!(net.read(&server).unwrap(), b"first");
        }
    }
}

#[test]
fn one_batch_of_segments_is_one_notice_and_one_acknowledgment() {
    let mut net = Net::pair(55, LinkSpec::default());
    let (client, server) = net.connected();
    // Out of slow start's first window, and out of the quick acknowledgments of a new connection.
    net.transfer(&client, &server, &[0; 400_000], 60 * SECOND);
    net.run_for(SECOND);
    let (calls, _) = (server.events.calls(), net.cable.take_trace());
    assert_eq!(net.write(&client, &[1; 14_480]).unwrap(), 14_480);
    net.run_for(Duration::from_millis(10));
    assert_eq!(server.events.calls(), calls + 1, "ten segments at one instant");
    let acks = net.cable.take_trace().iter().filter(|passing| passing.from == 1).count();
    assert_eq!(acks, 1);
}

#[test]
fn late_and_repeated_segments_change_nothing() {
    let mut net = Net::pair(56, LinkSpec::default());
    let (client, server) = net.connected();
    net.cable.set_filter(|passing| match passing.number % 5 {
        0 => Verdict::Delay(Duration::from_millis(15)),
        1 => Verdict::Twice,
        _ => Verdict::Pass,
    });
    let bytes: Vec<u8> = (0..200_000u32).map(|n| (n % 239) as u8).collect();
    assert!(net.transfer(&client, &server, &bytes, 60 * SECOND) == bytes);
}

struct Silent;

impl Observer for Silent {
    fn on_ready(&self, _: Events) {}
}

/// The driver, a writer and a reader on threads of their own over loopback: a lost segment, wake-up
/// or lock order shows as a stall or a panic.
#[test]
fn threads_share_connections_without_losing_anything() {
    const BYTES: usize = 8 << 20;
    let config = crate::config::Config { seed: Some(1), ..Default::default() };
    let engine = Engine::new(config, Vec::<Interface>::new()).unwrap();
    let clock = AtomicU64::new(1);
    let now = || Instant::from_micros(clock.load(Ordering::Relaxed));
    let mut listening = Unconnected::new(engine.core(), engine.tcp(), Family::V4);
    engine.tcp().bind(engine.core(), &mut listening, "127.0.0.1:80".parse().unwrap()).unwrap();
    let listener =
        engine.with_tcp(now(), |tcp, turn| tcp.listen(turn, listening, 8, Arc::new(Silent))).unwrap();
    let client = Unconnected::new(engine.core(), engine.tcp(), Family::V4);
    let client = engine
        .with_tcp(now(), |tcp, turn| {
            tcp.connect(turn, client, "127.0.0.1:80".parse().unwrap(), Arc::new(Silent))
        })
        .unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut out = Batch::new();
            let queue = engine.core().queues().next().unwrap();
            while !done.load(Ordering::Relaxed) {
                clock.fetch_add(10, Ordering::Relaxed);
                let now = now();
                if engine.next_deadline().is_some_and(|at| at <= now) {
                    engine.on_timer(now, &mut out);
                }
                for _ in 0..16 {
                    let mut packet = engine.core().pool().take();
                    let Ok(meta) = engine.core().device(0).unwrap().receive(now, 0, &mut packet) else {
                        break;
                    };
                    engine.on_packet(now, queue, packet, meta, &mut out);
                }
                engine.end_batch(now, &mut out);
                engine.on_writable(now, queue, &mut out);
                out.deliver(&engine);
                std::thread::yield_now();
            }
        });
        scope.spawn(|| {
            let chunk: Vec<u8> = (0..60_000u32).map(|n| (n % 241) as u8).collect();
            let mut sent = 0;
            while sent < BYTES {
                let at = sent % chunk.len();
                let bytes = &chunk[at..chunk.len().min(at + BYTES - sent)];
                match engine.with_tcp(now(), |tcp, turn| tcp.write(turn, &client, &[IoSlice::new(bytes)])) {
                    Ok(n) => sent += n,
                    Err(_) => std::thread::yield_now(),
                }
            }
            engine.with_tcp(now(), |tcp, turn| tcp.close(turn, &client));
        });
        let server = loop {
            match engine.with_tcp(now(), |tcp, turn| tcp.accept(turn, &listener)) {
                Ok((cell, _)) => break cell,
                Err(_) => std::thread::yield_now(),
            }
        };
        server.set_observer(Arc::new(Silent));
        let mut received = 0;
        let mut buf = vec![0; 100_000];
        // In stack time, which is 10 µs for each turn of the driver: an idle connection that waits
        // for a timer gets there, one that waits for nothing does not.
        loop {
            match engine
                .with_tcp(now(), |tcp, turn| tcp.read(turn, &server, &mut [IoSliceMut::new(&mut buf)]))
            {
                Ok(0) => break,
                Ok(n) => {
                    let wrong = (0..n).find(|at| buf[*at] != ((received + at) % 60_000 % 241) as u8);
                    assert_eq!(wrong, None, "a byte changed after {received}");
                    received += n;
                }
                Err(_) => std::thread::yield_now(),
            }
            if now() > Instant::from_millis(600_000) {
                break;
            }
        }
        done.store(true, Ordering::Relaxed);
        assert_eq!(received, BYTES, "stalled");
    });
}
