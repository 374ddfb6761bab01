//! Datagrams to any address and port, as flows or one by one.

use super::{SECOND, Udp, bind, errno, kind};
use crate::config::Config;
use crate::icmp::Unreachable;
use crate::readiness::Events;
use crate::reasons::DropReason;
use crate::stack::testing::{Cable, LinkSpec, Net, Recorder};
use crate::stack::{Batch, Engine, Interface, Transmission, UdpForwarderCell, UdpForwarding};
use crate::time::Duration;
use crate::wire::{ChecksumMode, HeaderBuf, IpMeta, UdpDatagram, emit_udp};
use proptest::prelude::*;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// What the forwarders of these tests may use, unless a test says otherwise.
pub(super) const SETTINGS: UdpForwarding = UdpForwarding {
    interface: None,
    max_flows: 8,
    max_pending: 4,
    flow_buffer: 10_000,
    total_buffer: 20_000,
    idle_timeout: Duration::from_secs(60),
};

/// Host 0, which sends everything to host 1, which accepts everything.
pub(super) fn net() -> Net {
    let mut net = Net::pair(230, LinkSpec::default());
    for host in [0, 1] {
        let interface = Interface::new(net.cable.end(host))
            .address(&format!("10.0.0.{}/24", host + 1))
            .address(&format!("fd00::{}/64", host + 1))
            .gateway("10.0.0.9")
            .gateway("fd00::9");
        let interface = if host == 1 { interface.any_ip("0.0.0.0/0").any_ip("::/0") } else { interface };
        let config = Config { seed: Some(host as u64), ..Config::default() };
        net.replace_host(host, Engine::new(config, vec![interface]).unwrap(), Batch::new());
    }
    net
}

/// A forwarder of host 1.
pub(super) struct Forwarder {
    cell: Arc<UdpForwarderCell>,
    events: Arc<Recorder>,
}

pub(super) fn start(net: &Net, settings: UdpForwarding) -> io::Result<Forwarder> {
    let (engine, events) = (net.engine(1), Arc::new(Recorder::default()));
    let cell = engine.udp().forward(engine.core(), settings, Arc::clone(&events) as _)?;
    Ok(Forwarder { cell, events })
}

impl Forwarder {
    fn accept(&self, net: &Net) -> io::Result<Udp> {
        let (engine, events) = (net.engine(1), Arc::new(Recorder::default()));
        let cell = engine.udp().accept_flow(engine.core(), &self.cell, Arc::clone(&events) as _)?;
        Ok(Udp { host: 1, cell, events })
    }

    /// Sender, receiver and payload.
    pub(super) fn recv(&self, net: &Net) -> io::Result<(String, String, Vec<u8>)> {
        let mut to = vec![0; 2000];
        let (from, at, len) =
            net.engine(1).with_udp(net.now, |udp, turn| udp.recv_from_to(turn, &self.cell, &mut to))?;
        to.truncate(len);
        Ok((from.to_string(), at.to_string(), to))
    }

    fn send(&self, net: &Net, from: &str, to: &str) -> io::Result<usize> {
        let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
        net.engine(1).with_udp(net.now, |udp, turn| udp.send_from_to(turn, &self.cell, b"answer", from, to))
    }

    fn close(&self, net: &Net) {
        net.engine(1).with_udp(net.now, |udp, turn| udp.close_forwarder(turn, &self.cell));
    }

    fn counts(&self) -> (usize, usize) {
        let stats = self.cell.stats();
        (stats.flows, stats.pending)
    }
}

fn refuse(net: &Net, flow: &Udp, reason: Unreachable) {
    net.engine(1).with_udp(net.now, |udp, turn| udp.refuse_flow(turn, &flow.cell, reason));
}

/// A datagram of 100 bytes from a host of its own for each number.
fn spoofed(n: u32) -> Vec<u8> {
    from_to((Ipv4Addr::from_bits(0x0b00_0000 + n), 5000), (Ipv4Addr::new(8, 8, 8, 8), 53), &[n as u8; 100])
}

pub(super) fn from_to(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), payload: &[u8]) -> Vec<u8> {
    let ip = IpMeta::new(from.0.into(), to.0.into(), 64);
    let mut header = HeaderBuf::new();
    let datagram = UdpDatagram { ip: &ip, src_port: from.1, dst_port: to.1, payload };
    emit_udp(&mut header, &datagram, ChecksumMode::Full);
    [&header[..], payload].concat()
}

fn give(net: &mut Net, packets: impl IntoIterator<Item = Vec<u8>>) {
    for packet in packets {
        net.cable.inject(net.now, 1, &packet);
        net.settle();
    }
}

/// Host 1, to which more flows came than it takes.
pub(in crate::stack::tests) fn flooded() -> Net {
    let mut net = net();
    let _forwarder = start(&net, SETTINGS).unwrap();
    give(&mut net, (0..5).map(spoofed));
    net
}

#[test]
fn what_no_socket_takes_is_a_flow_with_its_destination() {
    let mut net = net();
    let forwarder = start(&net, SETTINGS).unwrap();
    for (from, to) in
        [("0.0.0.0:4000", "8.8.8.8:53"), ("0.0.0.0:4001", "10.0.0.2:7"), ("[::]:4002", "[2001:db8::7]:65535")]
    {
        let client = bind(&net, 0, from);
        client.connect(&net, to).unwrap();
        for payload in [&b"first"[..], b"second"] {
            client.send(&net, payload).unwrap();
        }
        net.run_for(SECOND / 10);
        assert_eq!((forwarder.events.take(), forwarder.counts().1), (Events::READABLE, 1), "one flow");
        let flow = forwarder.accept(&net).unwrap();
        assert_eq!(kind(forwarder.accept(&net).map(drop)), io::ErrorKind::WouldBlock);
        assert_eq!(flow.cell.local_addr(), to.parse().unwrap());
        assert_eq!(flow.recv_all(&net), [b"first".to_vec(), b"second".to_vec()]);
        flow.send(&net, b"answer").unwrap();
        client.send(&net, b"third").unwrap();
        net.run_for(SECOND / 10);
        assert_eq!(client.recv(&net).unwrap(), (to.to_owned(), b"answer".to_vec()), "from where it sent to");
        assert_eq!(flow.events.take(), Events::READABLE);
        assert_eq!((flow.recv_all(&net), forwarder.counts().1), (vec![b"third".to_vec()], 0));
        flow.close(&net);
        // What comes after the end of the flow is a new one.
        client.send(&net, b"fourth").unwrap();
        net.run_for(SECOND / 10);
        let flow = forwarder.accept(&net).unwrap();
        assert_eq!(flow.recv_all(&net), [b"fourth".to_vec()]);
        flow.close(&net);
        client.close(&net);
    }
    forwarder.close(&net);
    assert_eq!((net.engine(1).udp().sockets(), net.engine(1).next_deadline()), (0, None));
    assert_eq!(forwarder.cell.stats().unread, 0);
}

#[test]
fn a_socket_that_is_bound_comes_first() {
    let mut net = net();
    let forwarder = start(&net, SETTINGS).unwrap();
    let dns = bind(&net, 1, "[::]:53");
    let one = bind(&net, 1, "8.8.8.8:80");
    let client = bind(&net, 0, "0.0.0.0:4000");
    for (to, expected) in [
        ("9.9.9.9:53", (1, 0, 0)),
        ("8.8.8.8:80", (0, 1, 0)),
        ("8.8.4.4:80", (0, 0, 1)),
        ("8.8.8.8:81", (0, 0, 1)),
    ] {
        client.send_to(&net, b"x", to).unwrap();
        net.run_for(SECOND / 10);
        let taken = [&dns, &one].map(|socket| socket.recv_all(&net).len());
        let forwarded = usize::from(forwarder.recv(&net).is_ok());
        assert_eq!((taken[0], taken[1], forwarded), expected, "{to}");
    }
    // It claims no port, and keeps what is its own.
    client.send_to(&net, b"flow", "8.8.8.8:7").unwrap();
    net.run_for(SECOND / 10);
    let flow = forwarder.accept(&net).unwrap();
    let echo = bind(&net, 1, "0.0.0.0:7");
    client.send_to(&net, b"flow", "8.8.8.8:7").unwrap();
    client.send_to(&net, b"echo", "8.8.4.4:7").unwrap();
    net.run_for(SECOND / 10);
    assert_eq!(flow.recv_all(&net), [b"flow".to_vec(), b"flow".to_vec()]);
    assert_eq!(echo.recv_all(&net), [b"echo".to_vec()]);
}

#[test]
fn a_refused_client_learns_it() {
    for (reason, errnos) in [
        (Unreachable::Port, [libc::ECONNREFUSED; 2]),
        (Unreachable::Prohibited, [libc::EHOSTUNREACH, libc::EACCES]),
    ] {
        let families = [("0.0.0.0:4000", "8.8.8.8:53"), ("[::]:4001", "[2001:db8::7]:53")];
        for ((from, to), expected) in families.into_iter().zip(errnos) {
            for answers in [0, 1] {
                let mut net = net();
                let forwarder = start(&net, SETTINGS).unwrap();
                let client = bind(&net, 0, from);
                client.connect(&net, to).unwrap();
                client.send(&net, &[7; 1400]).unwrap();
                net.run_for(SECOND / 10);
                let flow = forwarder.accept(&net).unwrap();
                for _ in 0..answers {
                    flow.send(&net, b"not for long").unwrap();
                }
                let _ = net.cable.take_trace();
                refuse(&net, &flow, reason);
                refuse(&net, &flow, reason);
                net.run_for(SECOND / 10);
                let sent: Vec<_> = net.cable.take_trace().iter().map(|packet| packet.bytes.len()).collect();
                let header = if to.starts_with('[') { 40 } else { 20 };
                let quoted = if answers > 0 { header + 8 } else { [548, 1232][usize::from(header == 40)] };
                assert_eq!(sent, [header + 8 + quoted], "one error, and no more of the packet than it keeps");
                assert_eq!(errno(client.recv(&net)), Some(expected), "{to} {answers}");
                assert_eq!((net.engine(1).udp().sockets(), forwarder.counts()), (0, (0, 0)));
            }
        }
    }
}

#[test]
fn a_flow_ends_when_it_was_idle_for_as_long_as_it_may() {
    let mut net = net();
    let forwarder = start(&net, SETTINGS).unwrap();
    let clients = ["0.0.0.0:4000", "0.0.0.0:4001"].map(|local| bind(&net, 0, local));
    for client in &clients {
        client.connect(&net, "8.8.8.8:53").unwrap();
        client.send(&net, b"x").unwrap();
    }
    net.run_for(SECOND);
    let flow = forwarder.accept(&net).unwrap();
    // Either direction keeps it alive.
    for (from_client, pending) in [(true, 1), (false, 0), (true, 0)] {
        net.run_for(50 * SECOND);
        let sent = if from_client { clients[0].send(&net, b"x") } else { flow.send(&net, b"x") };
        sent.unwrap();
        // The one that nobody accepted is over by the second time.
        assert_eq!(forwarder.counts(), (1 + pending, pending));
    }
    assert_eq!(forwarder.events.take(), Events::READABLE);
    assert_eq!(
        kind(forwarder.accept(&net).map(drop)),
        io::ErrorKind::WouldBlock,
        "nothing is left of the other"
    );
    net.run_for(59 * SECOND);
    assert_eq!(forwarder.counts(), (1, 0));
    let _ = flow.events.take();
    net.run_for(2 * SECOND);
    assert_eq!((forwarder.counts(), forwarder.cell.stats().timed_out), ((0, 0), 2));
    assert!(flow.events.take().contains(Events::ERROR));
    for _ in 0..2 {
        assert_eq!(errno(flow.recv(&net)), Some(libc::ETIMEDOUT));
        assert_eq!(errno(flow.send(&net, b"x")), Some(libc::ETIMEDOUT));
    }
    // Time-outs of its own, both ways.
    clients[0].send(&net, b"x").unwrap();
    net.run_for(SECOND);
    let flow = forwarder.accept(&net).unwrap();
    for (timeout, lives) in [(200, 100), (5, 3)] {
        let timeout = Duration::from_secs(timeout);
        net.engine(1).with_udp(net.now, |udp, turn| udp.set_idle_timeout(turn, &flow.cell, timeout));
        flow.send(&net, b"x").unwrap();
        net.run_for(lives * SECOND);
        assert_eq!(forwarder.counts(), (1, 0));
    }
    net.run_for(3 * SECOND);
    assert_eq!((forwarder.counts(), net.engine(1).next_deadline()), ((0, 0), None));
}

#[test]
fn datagrams_of_any_address_are_received_and_sent_without_a_flow() {
    let mut net = net();
    let forwarder = start(&net, SETTINGS).unwrap();
    let client = bind(&net, 0, "0.0.0.0:4000");
    for (payload, to) in [("a", "8.8.8.8:1"), ("b", "8.8.8.8:1"), ("c", "8.8.8.8:1"), ("d", "8.8.4.4:2")] {
        client.send_to(&net, payload.as_bytes(), to).unwrap();
    }
    net.run_for(SECOND);
    // In turns, so that a flow that sends much does not keep others waiting.
    for (payload, to) in [("a", "8.8.8.8:1"), ("d", "8.8.4.4:2"), ("b", "8.8.8.8:1"), ("c", "8.8.8.8:1")] {
        let expected = ("10.0.0.1:4000".to_owned(), to.to_owned(), payload.as_bytes().to_vec());
        assert_eq!(forwarder.recv(&net).unwrap(), expected);
    }
    assert_eq!(kind(forwarder.recv(&net)), io::ErrorKind::WouldBlock);
    assert_eq!((forwarder.counts(), net.engine(1).udp().sockets()), ((0, 0), 0));
    let client_v6 = bind(&net, 0, "[::]:4001");
    // From hosts that it never sent to, too.
    for (client, from, to) in [
        (&client, "8.8.8.8:1", "10.0.0.1:4000"),
        (&client, "203.0.113.5:9999", "10.0.0.1:4000"),
        (&client_v6, "[2001:db8::99]:9", "[fd00::1]:4001"),
    ] {
        assert_eq!(forwarder.send(&net, from, to).unwrap(), 6);
        net.run_for(SECOND);
        assert_eq!(client.recv(&net).unwrap(), (from.to_owned(), b"answer".to_vec()));
    }
    for (from, to, expected) in [
        ("8.8.8.8:1", "10.0.0.255:4000", libc::EACCES),
        ("8.8.8.8:1", "255.255.255.255:4000", libc::EACCES),
        ("8.8.8.8:1", "224.0.0.1:4000", libc::EACCES),
        ("8.8.8.8:1", "0.0.0.0:4000", libc::EINVAL),
        ("224.0.0.1:1", "10.0.0.1:4000", libc::EINVAL),
        ("10.0.0.255:1", "10.0.0.1:4000", libc::EINVAL),
        ("0.0.0.0:1", "10.0.0.1:4000", libc::EINVAL),
        ("127.0.0.1:1", "10.0.0.1:4000", libc::EINVAL),
        ("8.8.8.8:0", "10.0.0.1:4000", libc::EINVAL),
        ("8.8.8.8:1", "10.0.0.1:0", libc::EINVAL),
        ("[2001:db8::1]:1", "10.0.0.1:4000", libc::EINVAL),
    ] {
        assert_eq!(errno(forwarder.send(&net, from, to)), Some(expected), "{from} {to}");
    }
    forwarder.close(&net);
    assert_eq!(errno(forwarder.send(&net, "8.8.8.8:1", "10.0.0.1:4000")), Some(libc::EBADF));
}

#[test]
fn a_flood_of_spoofed_sources_takes_no_more_than_its_share() {
    let mut net = net();
    let forwarder = start(&net, SETTINGS).unwrap();
    give(&mut net, (0..2000).map(spoofed));
    let stats = forwarder.cell.stats();
    assert_eq!((stats.flows, stats.pending, stats.dropped), (4, 4, 1996));
    assert_eq!(net.engine(1).udp().sockets(), 4);
    let counters = net.engine(1).counters();
    assert_eq!((counters.drops(DropReason::UdpFlowsFull), counters.icmp_out), (1996, 0));
    // One flow that sends much has the memory of one.
    let much = |n| from_to((Ipv4Addr::new(11, 0, 0, 1), 5000), (Ipv4Addr::new(8, 8, 8, 8), 53), &[n; 1000]);
    give(&mut net, (0..100).map(much));
    assert!(forwarder.cell.stats().unread <= SETTINGS.flow_buffer + 3 * 1000);
    // All of them together have that of the forwarder.
    for n in 0..4 {
        give(&mut net, (0..100).map(|_| spoofed(n)));
    }
    let stats = forwarder.cell.stats();
    assert!((SETTINGS.total_buffer * 9 / 10..=SETTINGS.total_buffer).contains(&stats.unread), "{stats:?}");
    // Where the memory is used up, a flow that could not keep its first datagram is none.
    let _accepted = forwarder.accept(&net).unwrap();
    give(&mut net, [from_to((Ipv4Addr::new(12, 0, 0, 1), 1), (Ipv4Addr::new(8, 8, 8, 8), 1), &[0; 1400])]);
    assert_eq!(forwarder.counts(), (4, 3));
    // The flood is over when its time is.
    net.run_for(61 * SECOND);
    assert_eq!((forwarder.counts(), forwarder.cell.stats().unread), ((0, 0), 0));
    let client = bind(&net, 0, "0.0.0.0:4000");
    client.send_to(&net, b"legit", "8.8.8.8:53").unwrap();
    net.run_for(SECOND);
    assert_eq!(forwarder.accept(&net).unwrap().recv_all(&net), [b"legit".to_vec()]);
}

#[test]
fn those_that_were_not_answered_make_room_and_those_that_went_on_stay() {
    let mut net = net();
    let forwarder = start(&net, SETTINGS).unwrap();
    let client = bind(&net, 0, "0.0.0.0:4000");
    client.connect(&net, "8.8.8.8:53").unwrap();
    client.send(&net, b"question").unwrap();
    net.run_for(SECOND / 10);
    let assured = forwarder.accept(&net).unwrap();
    assured.send(&net, b"answer").unwrap();
    client.send(&net, b"another question").unwrap();
    net.run_for(SECOND / 10);
    let mut flooded = Vec::new();
    for n in 0..100 {
        give(&mut net, [spoofed(n)]);
        let flow = forwarder.accept(&net).unwrap();
        // An answer alone is no sign of a client.
        flow.send(&net, b"answer").unwrap();
        flooded.push(flow);
    }
    let stats = forwarder.cell.stats();
    assert_eq!((stats.flows, stats.evicted, stats.dropped), (8, 93, 0));
    assert_eq!(errno(flooded[92].recv(&net)), Some(libc::ECONNABORTED));
    assert!(flooded[92].events.take().contains(Events::ERROR));
    assert!(flooded[93].recv(&net).is_ok());
    assert_eq!(assured.recv_all(&net).len(), 2);
    assured.send(&net, b"still there").unwrap();
    // None makes room if all are assured.
    for n in 93..100 {
        give(&mut net, [spoofed(n)]);
    }
    give(&mut net, [spoofed(1000)]);
    let stats = forwarder.cell.stats();
    assert_eq!((stats.flows, stats.pending, stats.evicted, stats.dropped), (8, 0, 93, 1));
}

/// The list of those that can make room does not grow with those that were closed.
#[test]
fn flows_that_come_and_go_leave_nothing_behind() {
    let mut net = net();
    let forwarder = start(&net, SETTINGS).unwrap();
    for n in 0..1000 {
        give(&mut net, [spoofed(n)]);
        let flow = forwarder.accept(&net).unwrap();
        flow.close(&net);
    }
    assert!(forwarder.cell.remembered() <= 64);
    assert_eq!((forwarder.counts(), net.engine(1).next_deadline()), ((0, 0), None));
}

#[test]
fn nobody_is_answered_who_could_be_somebody_else() {
    let mut net = net();
    let forwarder = start(&net, SETTINGS).unwrap();
    let somewhere = Ipv4Addr::new(8, 8, 8, 8);
    let other = Ipv4Addr::new(10, 0, 0, 9);
    let _ = net.cable.take_trace();
    for (from, to) in [
        // To all hosts, to groups, and to loopback.
        (other, Ipv4Addr::BROADCAST),
        (other, Ipv4Addr::new(10, 0, 0, 255)),
        (other, Ipv4Addr::new(224, 0, 0, 251)),
        (other, Ipv4Addr::LOCALHOST),
        (other, Ipv4Addr::new(127, 1, 2, 3)),
        // From what is no other host.
        (Ipv4Addr::BROADCAST, somewhere),
        (Ipv4Addr::new(10, 0, 0, 255), somewhere),
        (Ipv4Addr::new(224, 0, 0, 251), somewhere),
        (Ipv4Addr::LOCALHOST, somewhere),
        (Ipv4Addr::UNSPECIFIED, somewhere),
        (Ipv4Addr::new(10, 0, 0, 2), somewhere),
        (somewhere, somewhere),
    ] {
        give(&mut net, [from_to((from, 5000), (to, 53), b"x")]);
        assert_eq!(forwarder.counts(), (0, 0), "{from} to {to}");
    }
    assert_eq!(net.cable.take_trace().len(), 0, "no answer");
    // Port 0 is answered as without a forwarder.
    give(&mut net, [from_to((other, 0), (somewhere, 53), b"x"), from_to((other, 5), (somewhere, 0), b"x")]);
    assert_eq!((forwarder.counts(), net.cable.take_trace().len()), ((0, 0), 2));
}

#[test]
fn one_forwarder_for_each_interface_and_one_for_all() {
    let cables = [(); 2].map(|()| Cable::new(LinkSpec::default()));
    let interface = |n: usize, cidr: &str| Interface::new(cables[n].end(1)).address(cidr).any_ip("0.0.0.0/0");
    let interfaces = vec![interface(0, "10.0.0.2/24"), interface(1, "10.0.1.2/24")];
    let mut net = Net::pair(231, LinkSpec::default());
    let engine = Engine::new(Config::default(), interfaces).unwrap();
    net.replace_host(1, engine, Batch::new());
    let all = start(&net, SETTINGS).unwrap();
    assert_eq!(errno(start(&net, SETTINGS).map(drop)), Some(libc::EADDRINUSE));
    let second = start(&net, UdpForwarding { interface: Some(1), ..SETTINGS }).unwrap();
    let arrive = |net: &mut Net, cable: usize| {
        cables[cable].inject(net.now, 1, &spoofed(cable as u32));
        net.settle();
    };
    arrive(&mut net, 0);
    arrive(&mut net, 1);
    assert_eq!((all.counts(), second.counts()), ((1, 1), (1, 1)));
    assert_eq!(second.accept(&net).unwrap().origin(&net).interface, 1);
    assert_eq!(all.accept(&net).unwrap().origin(&net).interface, 0);
    second.close(&net);
    cables[1].inject(net.now, 1, &spoofed(2));
    net.settle();
    assert_eq!(all.accept(&net).unwrap().cell.peer_addr().unwrap(), "11.0.0.2:5000".parse().unwrap());
    // Once every interface is gone, nothing comes any more.
    for (cable, gone) in cables.iter().zip([false, true]) {
        cable.pull();
        net.settle();
        let error = all.accept(&net).map(drop).unwrap_err();
        assert_eq!(error.kind() != io::ErrorKind::WouldBlock, gone, "{error}");
    }
    assert!(all.events.take().contains(Events::ERROR));
}

#[test]
fn what_a_stack_sends_to_itself_is_not_forwarded_unless_that_is_asked_for() {
    let mut net = net();
    let all = start(&net, SETTINGS).unwrap();
    let client = bind(&net, 1, "127.0.0.1:4000");
    client.connect(&net, "127.0.0.1:53").unwrap();
    client.send(&net, b"x").unwrap();
    net.settle();
    assert_eq!((all.counts(), errno(client.recv(&net))), ((0, 0), Some(libc::ECONNREFUSED)));
    let lo = net.engine(1).core().interface_index("lo");
    let inside = start(&net, UdpForwarding { interface: lo, ..SETTINGS }).unwrap();
    client.send(&net, b"x").unwrap();
    net.settle();
    let flow = inside.accept(&net).unwrap();
    flow.send(&net, b"answer").unwrap();
    net.settle();
    assert_eq!(client.recv_all(&net), [b"answer".to_vec()]);
}

#[test]
fn a_forwarder_and_its_flows_end_with_the_stack() {
    let mut net = net();
    let forwarder = start(&net, SETTINGS).unwrap();
    give(&mut net, [spoofed(1), spoofed(2)]);
    let flow = forwarder.accept(&net).unwrap();
    net.engine(1).fail_all(net.now, &io::Error::from_raw_os_error(libc::ESHUTDOWN));
    assert_eq!(errno(forwarder.accept(&net).map(drop)), Some(libc::ESHUTDOWN));
    assert_eq!(errno(forwarder.recv(&net)), Some(libc::ESHUTDOWN));
    assert_eq!(errno(flow.recv(&net)), Some(libc::ESHUTDOWN));
    assert!(forwarder.events.take().contains(Events::ERROR) && flow.events.take().contains(Events::ERROR));
}

/// Several datagrams of one length go out in one call, as from any socket.
#[test]
fn a_flow_is_a_socket() {
    let mut net = net();
    let forwarder = start(&net, SETTINGS).unwrap();
    let client = bind(&net, 0, "0.0.0.0:4000");
    client.send_to(&net, b"x", "8.8.8.8:53").unwrap();
    net.run_for(SECOND / 10);
    let flow = forwarder.accept(&net).unwrap();
    let message = Transmission { segment_size: Some(2), ..Transmission::new(b"aabbc") };
    flow.transmit(&net, &message).unwrap();
    net.run_for(SECOND / 10);
    assert_eq!(client.recv_all(&net), [b"aa".to_vec(), b"bb".to_vec(), b"c".to_vec()]);
    // The client's ICMP errors reach it.
    client.close(&net);
    flow.send(&net, b"late").unwrap();
    net.run_for(SECOND / 10);
    assert_eq!(errno(flow.recv(&net)), Some(libc::ECONNREFUSED));
    // It can be connected to somebody else, and then the client's datagrams are another flow.
    flow.connect(&net, "10.0.0.77:9").unwrap();
    give(&mut net, [from_to((Ipv4Addr::new(10, 0, 0, 1), 4000), (Ipv4Addr::new(8, 8, 8, 8), 53), b"new")]);
    assert_eq!(forwarder.accept(&net).unwrap().recv_all(&net), [b"new".to_vec()]);
}

/// What happens to a forwarder, for the test below.
#[derive(Clone, Debug)]
enum Step {
    /// From a host and port to another, with so many bytes, some of which are changed.
    Arrive(u8, u8, usize, Option<(usize, u8)>),
    Accept,
    Receive,
    /// One of the flows answers, is refused, read, closed, or given another time-out.
    Answer(usize),
    Refuse(usize),
    Read(usize),
    Close(usize),
    Hurry(usize, u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let flow = 0usize..16;
    let change = prop::option::of((0usize..200, any::<u8>()));
    prop_oneof![
        6 => (0u8..20, 0u8..4, 0usize..1400, change).prop_map(|(a, b, len, c)| Step::Arrive(a, b, len, c)),
        3 => Just(Step::Accept),
        1 => Just(Step::Receive),
        2 => flow.clone().prop_map(Step::Answer),
        1 => flow.clone().prop_map(Step::Refuse),
        2 => flow.clone().prop_map(Step::Read),
        1 => flow.clone().prop_map(Step::Close),
        1 => (flow, 1u64..100).prop_map(|(flow, seconds)| Step::Hurry(flow, seconds)),
        1 => (0u64..70).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn whatever_arrives_and_is_called_a_forwarder_keeps_its_limits(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut net = net();
        let forwarder = start(&net, SETTINGS).unwrap();
        let mut flows: Vec<Udp> = Vec::new();
        for step in steps {
            let known = |n: usize| flows.get(n % flows.len().max(1));
            match step {
                Step::Arrive(from, to, len, change) => {
                    let from = (Ipv4Addr::new(11, 0, 0, from), 1000);
                    let mut packet = from_to(from, (Ipv4Addr::new(8, 8, 8, to), 53), &vec![7; len]);
                    if let Some((at, value)) = change {
                        let at = at % packet.len();
                        packet[at] = value;
                    }
                    give(&mut net, [packet]);
                }
                Step::Accept => flows.extend(forwarder.accept(&net)),
                Step::Receive => drop(forwarder.recv(&net)),
                Step::Answer(n) => drop(known(n).map(|flow| flow.send(&net, b"answer"))),
                Step::Refuse(n) => drop(known(n).map(|flow| refuse(&net, flow, Unreachable::Port))),
                Step::Read(n) => drop(known(n).map(|flow| flow.recv_all(&net))),
                Step::Close(n) => drop(known(n).map(|flow| flow.close(&net))),
                Step::Hurry(n, seconds) => {
                    if let Some(flow) = known(n) {
                        let timeout = Duration::from_secs(seconds);
                        let engine = net.engine(1);
                        engine.with_udp(net.now, |udp, turn| udp.set_idle_timeout(turn, &flow.cell, timeout));
                    }
                }
                Step::Wait(seconds) => net.run_for(Duration::from_secs(seconds)),
            }
            let stats = forwarder.cell.stats();
            prop_assert!(stats.flows <= SETTINGS.max_flows && stats.pending <= SETTINGS.max_pending, "{stats:?}");
            prop_assert!(stats.unread <= SETTINGS.total_buffer, "{stats:?}");
            prop_assert_eq!(net.engine(1).udp().sockets(), stats.flows);
        }
        // Each ends by itself, and nothing is left.
        net.run_for(200 * SECOND);
        let stats = forwarder.cell.stats();
        prop_assert_eq!((stats.flows, stats.pending, stats.unread), (0, 0, 0));
        prop_assert_eq!((net.engine(1).udp().sockets(), net.engine(1).next_deadline()), (0, None));
        give(&mut net, [spoofed(1)]);
        prop_assert_eq!(forwarder.accept(&net).unwrap().recv_all(&net).len(), 1);
    }
}
