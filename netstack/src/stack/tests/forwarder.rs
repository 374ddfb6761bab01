//! SYNs to any address and port that the application decides about.

use super::{SECOND, assert_empty};
use crate::config::Config;
use crate::readiness::Events;
use crate::stack::testing::{LinkSpec, Net, Recorder, Socket};
use crate::stack::{Batch, Engine, Family, Interface, Listener, PendingSyn, Rejection};
use crate::tcp::{State, TcpError};
use crate::wire::{ChecksumMode, Flags, HeaderBuf, IpMeta, Segment, SeqNum, TcpDatagram, emit_tcp};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Host 0, which sends everything to host 1, which accepts everything.
fn net(seed: u64) -> Net {
    let mut net = Net::pair(seed, LinkSpec::default());
    for host in [0, 1] {
        let interface = Interface::new(net.cable.end(host))
            .address(&format!("10.0.0.{}/24", host + 1))
            .address(&format!("fd00::{}/64", host + 1))
            .gateway("10.0.0.9")
            .gateway("fd00::9");
        let interface = if host == 1 { interface.any_ip("0.0.0.0/0").any_ip("::/0") } else { interface };
        let config = Config { seed: Some(2 * seed + host as u64), ..Config::default() };
        net.replace_host(host, Engine::new(config, vec![interface]).unwrap(), Batch::new());
    }
    net
}

fn forward(net: &Net, max_in_flight: usize, interface: Option<&str>) -> io::Result<Arc<Listener>> {
    let engine = net.engine(1);
    let mut socket = net.socket(1, Family::V6);
    socket.ip.bind_device(engine.core(), interface).unwrap();
    let observer = Arc::new(Recorder::default());
    engine.with_tcp(net.now, |tcp, turn| tcp.forward(turn, socket, max_in_flight, observer))
}

fn close(net: &Net, forwarder: &Arc<Listener>) {
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, forwarder));
}

fn pending(net: &Net, forwarder: &Listener) -> Option<Arc<PendingSyn>> {
    net.engine(1).tcp().accept_pending(forwarder).ok()
}

fn reject(net: &Net, pending: &PendingSyn, how: Rejection) {
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.reject_pending(turn, pending, how));
}

/// Accepts a client whose SYN waits, and completes the handshake.
fn accept(net: &mut Net, pending: &Arc<PendingSyn>) -> Socket {
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.answer_pending(turn, pending));
    net.run_for(SECOND / 10);
    let cell = net.engine(1).tcp().pending_result(pending).expect("it is complete").unwrap();
    Socket { host: 1, cell, events: Arc::new(Recorder::default()) }
}

fn connect(net: &mut Net, to: &str) -> Socket {
    let client = net.connect(0, to.parse().unwrap()).unwrap();
    net.run_for(SECOND / 50);
    client
}

fn outcome(client: &Socket) -> Option<i32> {
    client.cell.connect_result()?.err()?.raw_os_error()
}

/// A SYN from a host and port of its own for each number.
fn spoofed(n: u32) -> Vec<u8> {
    let segment = Segment { window: 1000, ..Segment::new(Flags::SYN, SeqNum::new(n), SeqNum::new(0)) };
    let from = Ipv4Addr::from_bits(0x0b00_0000 + n);
    let meta = IpMeta::new(from.into(), Ipv4Addr::from_bits(0x0800_0000 + n).into(), 64);
    let mut packet = HeaderBuf::new();
    let datagram = TcpDatagram { ip: &meta, src_port: 5000, dst_port: 80, segment: &segment, payload: &[] };
    emit_tcp(&mut packet, &datagram, ChecksumMode::Full);
    packet.to_vec()
}

#[test]
fn what_no_listener_takes_is_forwarded_with_its_destination() {
    let mut net = net(220);
    let forwarder = forward(&net, 8, None).unwrap();
    for to in ["8.8.8.8:443", "10.0.0.2:7", "10.0.0.77:65535", "[2001:db8::7]:1"] {
        let client = connect(&mut net, to);
        assert!(forwarder.readiness().contains(Events::READABLE));
        let syn = pending(&net, &forwarder).expect("its SYN waits");
        assert_eq!(syn.local_addr(), to.parse().unwrap(), "not in the mapped form either");
        assert_eq!(net.state(&client), State::SynSent);
        let server = accept(&mut net, &syn);
        assert_eq!(server.cell.local_addr(), to.parse().unwrap());
        assert_eq!(net.transfer(&client, &server, b"ping", SECOND), b"ping");
        assert_eq!(net.transfer(&server, &client, b"pong", SECOND), b"pong");
        net.close(client);
        net.run_for(SECOND);
        net.close(server);
        net.run_for(SECOND);
    }
    assert_eq!(forwarder.queues().counters.passive_opens, 4);
    close(&net, &forwarder);
    assert_empty(net.engine(1));
}

#[test]
fn listeners_on_a_port_or_an_address_come_first() {
    let mut net = net(221);
    let forwarder = forward(&net, 8, None).unwrap();
    let everywhere = net.listen(1, 53, 8);
    let mut socket = net.socket(1, Family::V4);
    net.engine(1).tcp().bind(net.engine(1).core(), &mut socket, "8.8.8.8:80".parse().unwrap()).unwrap();
    let observer = Arc::new(Recorder::default());
    let at_one = net.engine(1).with_tcp(net.now, |tcp, turn| tcp.listen(turn, socket, 8, observer)).unwrap();
    for (to, expected) in [
        ("9.9.9.9:53", (1, 0, 0)),
        ("[2001:db8::1]:53", (1, 0, 0)),
        ("8.8.8.8:80", (0, 1, 0)),
        ("8.8.4.4:80", (0, 0, 1)),
        ("8.8.8.8:81", (0, 0, 1)),
    ] {
        let _client = connect(&mut net, to);
        net.run_for(SECOND / 10);
        let taken = [&everywhere, &at_one].map(|one| usize::from(net.accept(1, one).is_ok()));
        let forwarded = usize::from(pending(&net, &forwarder).is_some());
        assert_eq!((taken[0], taken[1], forwarded), expected, "{to}");
    }
}

/// What a proxy whose upstream refuses does: the client learns it, and saw no SYN-ACK before.
#[test]
fn a_refused_client_never_saw_an_answer() {
    let mut net = net(222);
    let forwarder = forward(&net, 8, None).unwrap();
    for (how, expected) in [
        (Rejection::Reset, libc::ECONNREFUSED),
        (Rejection::Unreachable(crate::icmp::Unreachable::Host), libc::EHOSTUNREACH),
        (Rejection::Unreachable(crate::icmp::Unreachable::Network), libc::ENETUNREACH),
    ] {
        for to in ["8.8.8.8:443", "[2001:db8::7]:443"] {
            let _ = net.cable.take_trace();
            let client = connect(&mut net, to);
            net.run_for(4 * SECOND);
            let syn = pending(&net, &forwarder).unwrap();
            assert!(net.cable.take_trace().iter().all(|packet| packet.from == 0), "nothing was answered");
            reject(&net, &syn, how);
            net.run_for(SECOND / 10);
            assert_eq!(outcome(&client), Some(expected), "{to}");
            let answers = net.cable.take_trace();
            assert!(
                answers.iter().all(|packet| packet.ip.src == syn.local_addr().ip()),
                "from where it went"
            );
            let syn_ack = |packet: &crate::stack::testing::Passing| {
                packet.tcp.as_ref().is_some_and(|(_, _, segment, _)| segment.is_syn() && segment.is_ack())
            };
            assert!(!answers.iter().any(syn_ack));
        }
    }
    assert_eq!(forwarder.syn_queue_len(), 0);
}

#[test]
fn a_flood_is_bounded_and_a_client_gets_through() {
    const IN_FLIGHT: usize = 64;
    let mut net = net(223);
    let forwarder = forward(&net, IN_FLIGHT, None).unwrap();
    // Nobody decides: what does not fit is dropped, without an answer and without a trace.
    for n in 0..10 * IN_FLIGHT as u32 {
        net.cable.inject(net.now, 1, &spoofed(n));
    }
    net.settle();
    assert_eq!(forwarder.syn_queue_len(), IN_FLIGHT);
    assert!(net.cable.take_trace().is_empty());
    let counters = forwarder.queues().counters;
    assert_eq!((counters.syn_queue_drops, counters.syncookies_sent), (9 * IN_FLIGHT as u64, 0));
    // The application turns the flood away, which goes on, and a client that repeats its SYN has its turn.
    let client = connect(&mut net, "8.8.8.8:443");
    let (mut n, mut server) = (10 * IN_FLIGHT as u32, None);
    for _ in 0..40 {
        for _ in 0..IN_FLIGHT {
            net.cable.inject(net.now, 1, &spoofed(n));
            n += 1;
        }
        net.settle();
        while let Some(syn) = pending(&net, &forwarder) {
            if syn.local_addr().port() == 443 {
                server = Some(accept(&mut net, &syn));
            } else {
                reject(&net, &syn, Rejection::Reset);
            }
        }
        assert!(forwarder.syn_queue_len() <= IN_FLIGHT);
        net.run_for(SECOND / 10);
    }
    let server = server.expect("the client got through");
    assert_eq!(net.transfer(&client, &server, b"x", SECOND), b"x");
    close(&net, &forwarder);
    assert_eq!(net.engine(1).tcp().connections(), 1);
}

/// Acknowledgments from nowhere cost no state, and find no cookie.
#[test]
fn stray_segments_are_reset_as_without_a_forwarder() {
    let mut net = net(224);
    let forwarder = forward(&net, 8, None).unwrap();
    let client = connect(&mut net, "8.8.8.8:443");
    let syn = net.cable.take_trace().remove(0);
    reject(&net, &pending(&net, &forwarder).unwrap(), Rejection::Reset);
    net.run_for(SECOND);
    assert_eq!(outcome(&client), Some(libc::ECONNREFUSED));
    for (flags, resets) in
        [(Flags::ACK, 1), (Flags::SYN.with(Flags::ACK), 1), (Flags::RST, 0), (Flags::FIN, 0)]
    {
        let _ = net.cable.take_trace();
        net.cable.inject(net.now, 1, &syn.forged(|segment, _| segment.flags = flags));
        net.settle();
        let sent = net.cable.take_trace();
        assert_eq!(sent.iter().filter(|packet| packet.segment().is_rst()).count(), resets, "{flags:?}");
        assert_eq!((sent.len(), forwarder.syn_queue_len()), (resets, 0), "{flags:?}");
    }
}

#[test]
fn there_is_one_forwarder_for_each_interface_and_one_for_the_rest() {
    let mut net = net(225);
    let all = forward(&net, 8, None).unwrap();
    assert_eq!(forward(&net, 8, None).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
    let of_net0 = forward(&net, 8, Some("net0")).unwrap();
    assert_eq!(forward(&net, 8, Some("net0")).unwrap_err().raw_os_error(), Some(libc::EADDRINUSE));
    let _client = connect(&mut net, "8.8.8.8:443");
    assert!(pending(&net, &all).is_none() && pending(&net, &of_net0).is_some());
    close(&net, &of_net0);
    let _client = connect(&mut net, "8.8.8.8:443");
    assert!(pending(&net, &all).is_some());
    close(&net, &all);
    assert!(forward(&net, 8, None).is_ok());
}

#[test]
fn what_the_stack_sends_to_itself_is_forwarded_only_where_that_is_asked_for() {
    let mut net = net(226);
    let all = forward(&net, 8, None).unwrap();
    let client = net.connect(1, "127.0.0.1:9".parse().unwrap()).unwrap();
    net.settle();
    assert_eq!((outcome(&client), pending(&net, &all).is_some()), (Some(libc::ECONNREFUSED), false));
    let inside = forward(&net, 8, Some("lo")).unwrap();
    let client = net.connect(1, "127.0.0.1:9".parse().unwrap()).unwrap();
    net.settle();
    let syn = pending(&net, &inside).unwrap();
    let server = accept(&mut net, &syn);
    assert_eq!(net.transfer(&client, &server, b"inside", SECOND), b"inside");
}

#[test]
fn closing_a_forwarder_ends_what_waits_and_leaves_connections_alone() {
    let mut net = net(227);
    let forwarder = forward(&net, 8, None).unwrap();
    let client = connect(&mut net, "8.8.8.8:443");
    let syn = pending(&net, &forwarder).unwrap();
    let server = accept(&mut net, &syn);
    let late = connect(&mut net, "8.8.4.4:443");
    let waiting = pending(&net, &forwarder).unwrap();
    close(&net, &forwarder);
    let failed = net.engine(1).tcp().pending_result(&waiting).unwrap().unwrap_err();
    assert_eq!(failed.raw_os_error(), io::Error::from(TcpError::Aborted).raw_os_error());
    assert_eq!(net.transfer(&client, &server, b"still here", SECOND), b"still here");
    net.run_for(2 * SECOND);
    assert_eq!(outcome(&late), Some(libc::ECONNREFUSED), "its next SYN finds nobody");
}

/// Connections of a forwarder claim no port.
#[test]
fn a_listener_can_be_bound_to_a_port_with_forwarded_connections() {
    let mut net = net(228);
    let forwarder = forward(&net, 8, None).unwrap();
    let client = connect(&mut net, "8.8.8.8:443");
    let syn = pending(&net, &forwarder).unwrap();
    let server = accept(&mut net, &syn);
    let mut socket = net.socket(1, Family::V6);
    let to: SocketAddr = "[::]:443".parse().unwrap();
    net.engine(1).tcp().bind(net.engine(1).core(), &mut socket, to).unwrap();
    let observer = Arc::new(Recorder::default());
    let listener =
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.listen(turn, socket, 8, observer)).unwrap();
    let _other = connect(&mut net, "8.8.4.4:443");
    net.run_for(SECOND);
    assert!(net.accept(1, &listener).is_ok());
    assert_eq!(net.transfer(&client, &server, b"x", SECOND), b"x");
}
