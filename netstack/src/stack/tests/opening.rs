//! Connecting, listening, ports.

use super::{SECOND, assert_empty, to_host_1};
use crate::config::{SynCookieMode, TimeWaitReuse};
use crate::readiness::Events;
use crate::stack::testing::{LinkSpec, Net, Recorder, Verdict, address};
use crate::stack::{Family, Unconnected};
use crate::tcp::State;
use crate::time::Duration;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;

fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.unwrap_err().raw_os_error().expect("an error number")
}

fn bind(net: &Net, host: usize, family: Family, to: &str) -> io::Result<Unconnected> {
    let mut socket = net.socket(host, family);
    net.engine(host).tcp().bind(net.engine(host).core(), &mut socket, to.parse().unwrap()).map(|()| socket)
}

#[test]
fn both_families_reach_a_dual_stack_listener() {
    let mut net = Net::pair(10, LinkSpec::default());
    let listener = net.listen(1, 80, 8);
    assert_eq!(listener.local_addr(), "[::]:80".parse().unwrap());
    for family in [Family::V4, Family::V6] {
        let client = net.connect(0, SocketAddr::new(address(1, family), 80)).unwrap();
        net.run_for(SECOND);
        assert!(matches!(client.cell.connect_result(), Some(Ok(()))));
        assert!(client.events.take().contains(Events::WRITABLE));
        let server = net.accept(1, &listener).unwrap();
        let peer = server.cell.peer_addr().unwrap();
        assert_eq!(peer.ip().to_canonical(), address(0, family), "mapped for IPv4");
        assert!(peer.is_ipv6());
        assert_eq!(net.transfer(&server, &client, b"hello", SECOND), b"hello");
    }
}

#[test]
fn an_ipv6_socket_connects_to_mapped_addresses_unless_it_is_v6_only() {
    let mut net = Net::pair(11, LinkSpec::default());
    let _listener = net.listen(1, 80, 8);
    let mapped: SocketAddr = "[::ffff:10.0.0.2]:80".parse().unwrap();
    let client = net.connect(0, mapped).unwrap();
    net.run_for(SECOND);
    assert!(matches!(client.cell.connect_result(), Some(Ok(()))));
    assert_eq!(client.cell.peer_addr().unwrap(), mapped);
    let mut only = net.socket(0, Family::V6);
    only.ip.set_only_v6(true).unwrap();
    assert_eq!(errno(net.connect_from(0, only, mapped)), libc::ENETUNREACH);
}

#[test]
fn shutdown_ends_an_attempt_to_connect() {
    for how in [Shutdown::Read, Shutdown::Write, Shutdown::Both] {
        let mut net = Net::pair(13, LinkSpec::default());
        let client = net.connect(0, "10.0.0.2:80".parse().unwrap()).unwrap();
        net.engine(0).with_tcp(net.now, |tcp, turn| tcp.shutdown(turn, &client.cell, how)).unwrap();
        let error = client.cell.connect_result().expect("the attempt is over").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNABORTED));
        net.run_for(SECOND);
        drop(client);
        assert_empty(net.engine(0));
    }
}

#[test]
fn addresses_that_make_no_sense_are_refused_at_once() {
    let net = Net::pair(12, LinkSpec::default());
    let connect = |to: &str| errno(net.connect(0, to.parse().unwrap()));
    assert_eq!(connect("10.0.0.2:0"), libc::ECONNREFUSED);
    assert_eq!(connect("192.0.2.1:80"), libc::ENETUNREACH);
    assert_eq!(connect("10.0.0.255:80"), libc::ENETUNREACH);
    assert_eq!(connect("224.0.0.1:80"), libc::ENETUNREACH);
    let v4 = net.socket(0, Family::V4);
    assert_eq!(errno(net.connect_from(0, v4, "[fd00::2]:80".parse().unwrap())), libc::EAFNOSUPPORT);
    assert_eq!(errno(bind(&net, 0, Family::V4, "[::]:80")), libc::EAFNOSUPPORT);
    assert_eq!(errno(bind(&net, 0, Family::V4, "10.0.0.2:80")), libc::EADDRNOTAVAIL);
    let mut twice = bind(&net, 0, Family::V4, "10.0.0.1:80").unwrap();
    assert_eq!(
        errno(net.engine(0).tcp().bind(net.engine(0).core(), &mut twice, "10.0.0.1:81".parse().unwrap())),
        libc::EINVAL
    );
    assert_eq!(errno(bind(&net, 0, Family::V6, "[::]:80")), libc::EADDRINUSE);
    drop(twice);
    assert_empty(net.engine(0));
}

#[test]
fn loopback_carries_connections_of_the_host_with_itself() {
    let mut net = Net::pair(13, LinkSpec::default());
    let listener = net.listen(0, 80, 8);
    for to in ["127.0.0.1:80", "[::1]:80", "10.0.0.1:80", "0.0.0.0:80", "[::]:80", "127.1.2.3:80"] {
        let client = net.connect(0, to.parse().unwrap()).unwrap();
        net.settle();
        let server = net.accept(0, &listener).unwrap();
        assert!(!client.cell.peer_addr().unwrap().ip().is_unspecified(), "{to}");
        assert_eq!(net.transfer(&client, &server, &[7; 100_000], SECOND), [7; 100_000], "{to}");
    }
    assert!(net.cable.take_trace().is_empty(), "nothing leaves the host");
}

#[test]
fn a_socket_can_connect_to_itself() {
    let mut net = Net::pair(14, LinkSpec::default());
    let socket = bind(&net, 0, Family::V4, "127.0.0.1:4000").unwrap();
    let own = net.connect_from(0, socket, "127.0.0.1:4000".parse().unwrap()).unwrap();
    net.run_for(SECOND);
    assert_eq!(net.state(&own), State::Established, "by crossed SYNs");
    net.write(&own, b"to myself").unwrap();
    net.run_for(SECOND);
    assert_eq!(net.read(&own).unwrap(), b"to myself");
    net.close(own);
    net.run_for(200 * SECOND);
    assert_empty(net.engine(0));
}

#[test]
fn ports_run_out_per_destination_and_come_back() {
    let mut net = Net::pair_with(15, LinkSpec::default(), |_, config| config.port_range = 40_000..=40_009);
    let _listeners = [net.listen(1, 80, 100), net.listen(1, 81, 100)];
    let held: Vec<_> = (0..10).map(|_| net.connect(0, to_host_1(80)).unwrap()).collect();
    assert_eq!(errno(net.connect(0, to_host_1(80))), libc::EADDRNOTAVAIL);
    let other: Vec<_> = (0..10).map(|_| net.connect(0, to_host_1(81)).unwrap()).collect();
    assert_eq!(net.engine(0).tcp().ports_in_use(), 10, "shared between destinations");
    net.run_for(SECOND);
    assert!(held.iter().chain(&other).all(|socket| net.state(socket) == State::Established));
    held.into_iter()
        .chain(other)
        .for_each(|socket| net.engine(0).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &socket.cell)));
    net.settle();
    assert_empty(net.engine(0));
    assert!(net.connect(0, to_host_1(80)).is_ok());
}

#[test]
fn a_bound_port_takes_the_place_of_time_wait_if_there_are_timestamps() {
    for timestamps in [true, false] {
        let mut net = Net::pair_with(16, LinkSpec::default(), |_, config| {
            config.tw_reuse = TimeWaitReuse::Off;
            config.timestamps = timestamps;
        });
        let listener = net.listen(1, 80, 8);
        let connect = |net: &mut Net| {
            let mut socket = net.socket(0, Family::V4);
            socket.ip.set_reuse_address(true);
            net.engine(0)
                .tcp()
                .bind(net.engine(0).core(), &mut socket, "10.0.0.1:40000".parse().unwrap())
                .unwrap();
            net.connect_from(0, socket, to_host_1(80))
        };
        let client = connect(&mut net).unwrap();
        net.run_for(SECOND / 10);
        let server = net.accept(1, &listener).unwrap();
        net.close(client);
        net.run_for(SECOND / 10);
        net.close(server);
        net.run_for(SECOND / 5);
        assert_eq!(net.engine(0).tcp().time_waits(), 1);
        let again = connect(&mut net);
        assert_eq!(again.is_ok(), timestamps);
        if let Ok(again) = again {
            net.run_for(SECOND);
            assert_eq!(net.state(&again), State::Established);
        }
    }
}

#[test]
fn time_wait_keeps_its_port_from_connect_and_from_a_plain_bind() {
    for (reuse, free) in [(TimeWaitReuse::Loopback, false), (TimeWaitReuse::All, true)] {
        let mut net = Net::pair_with(16, LinkSpec::default(), |_, config| {
            config.port_range = 40_000..=40_000;
            config.tw_reuse = reuse;
        });
        let listener = net.listen(1, 80, 8);
        let (client, server) = net.connected_to(&listener);
        net.close(client);
        net.run_for(SECOND / 2);
        net.close(server);
        net.run_for(SECOND / 2);
        assert_eq!(net.engine(0).tcp().time_waits(), 1);
        assert_eq!(errno(net.connect(0, to_host_1(80))), libc::EADDRNOTAVAIL, "not a second old yet");
        assert_eq!(errno(bind(&net, 0, Family::V4, "0.0.0.0:40000")), libc::EADDRINUSE);
        net.run_for(2 * SECOND);
        let again = net.connect(0, to_host_1(80));
        assert_eq!(again.is_ok(), free, "{reuse:?}");
        if let Ok(again) = again {
            net.run_for(SECOND);
            assert_eq!(net.state(&again), State::Established);
            assert_eq!(net.engine(0).tcp().time_waits(), 0);
        }
    }
}

#[test]
fn a_new_syn_reopens_a_time_wait_entry() {
    let mut net = Net::pair_with(17, LinkSpec::default(), |_, config| config.port_range = 40_000..=40_000);
    let listener = net.listen(1, 80, 8);
    let (client, server) = net.connected_to(&listener);
    // The server closes first, so it has the TIME-WAIT.
    net.close(server);
    net.run_for(SECOND);
    net.close(client);
    net.run_for(SECOND);
    assert_eq!((net.engine(0).tcp().ports_in_use(), net.engine(1).tcp().time_waits()), (0, 1));
    let (client, server) = net.connected_to(&listener);
    assert_eq!(net.engine(1).tcp().time_waits(), 0);
    assert_eq!(net.transfer(&client, &server, b"again", SECOND), b"again");
}

#[test]
fn backlog_and_one_more_connections_fit() {
    let mut net = Net::pair_with(18, LinkSpec::default(), |_, config| config.syncookies = SynCookieMode::Off);
    let listener = net.listen(1, 80, 1);
    let clients: Vec<_> = (0..4).map(|_| net.connect(0, to_host_1(80)).unwrap()).collect();
    net.run_for(SECOND / 2);
    assert_eq!((listener.accept_queue_len(), listener.syn_queue_len()), (2, 0));
    assert!(net.engine(1).counters().listen_drops > 0);
    // There is room again, and a repeated SYN finds it.
    let mut accepted = Vec::new();
    net.run_until(30 * SECOND, |net| {
        accepted.extend(net.accept(1, &listener));
        accepted.len() == 4
    });
    net.run_for(SECOND);
    assert!(clients.iter().all(|client| net.state(client) == State::Established));
}

#[test]
fn the_last_ack_finds_a_full_queue_and_waits_or_is_reset() {
    for abort in [false, true] {
        let mut net = Net::pair_with(19, LinkSpec::default(), |_, config| config.abort_on_overflow = abort);
        let listener = net.listen(1, 80, 1);
        // The last ACK of this one is lost, and sent again when the SYN-ACK is repeated.
        net.cable.set_filter(|passing| match passing.from {
            0 if !passing.segment().is_syn() => Verdict::Drop,
            _ => Verdict::Pass,
        });
        let late = net.connect(0, to_host_1(80)).unwrap();
        net.run_for(SECOND / 10);
        net.cable.clear_filter();
        let _second = net.connect(0, to_host_1(80)).unwrap();
        net.run_for(SECOND / 10);
        let _third = net.connect(0, to_host_1(80)).unwrap();
        net.run_for(SECOND / 10);
        assert_eq!((listener.accept_queue_len(), listener.syn_queue_len()), (2, 1));
        net.run_for(2 * SECOND);
        assert!(net.engine(1).counters().listen_overflows > 0);
        if abort {
            assert_eq!(errno(net.read(&late)), libc::ECONNRESET);
            assert_eq!(net.engine(1).counters().abort_on_overflow, 1);
            assert_eq!(listener.syn_queue_len(), 0);
        } else {
            assert_eq!(net.state(&late), State::Established, "so it believes");
            let _accepted = net.accept(1, &listener).unwrap();
            net.run_for(10 * SECOND);
            assert_eq!((listener.accept_queue_len(), listener.syn_queue_len()), (2, 0));
        }
    }
}

#[test]
fn closing_a_listener_resets_what_waits_and_frees_the_port() {
    let mut net = Net::pair(20, LinkSpec::default());
    let listener = net.listen(1, 80, 8);
    let accepted = net.connect(0, to_host_1(80)).unwrap();
    net.run_for(SECOND);
    net.cable.set_filter(|passing| if passing.from == 1 { Verdict::Drop } else { Verdict::Pass });
    let half_open = net.connect(0, to_host_1(80)).unwrap();
    net.run_for(SECOND / 2);
    net.cable.clear_filter();
    assert_eq!((listener.accept_queue_len(), listener.syn_queue_len()), (1, 1));
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
    net.run_for(Duration::from_millis(100));
    assert_eq!(errno(net.read(&accepted)), libc::ECONNRESET);
    assert_empty(net.engine(1));
    net.run_for(5 * SECOND);
    let result = half_open.cell.connect_result().expect("its SYN was repeated");
    assert_eq!(errno(result), libc::ECONNREFUSED);
    assert!(bind(&net, 1, Family::V4, "0.0.0.0:80").is_ok());
}

#[test]
fn half_open_connections_are_bounded_and_time_out() {
    let mut net = Net::pair_with(21, LinkSpec::default(), |_, config| config.syncookies = SynCookieMode::Off);
    let listener = net.listen(1, 80, 50);
    net.cable.set_filter(|passing| if passing.from == 1 { Verdict::Drop } else { Verdict::Pass });
    for _ in 0..500 {
        let client = net.connect(0, to_host_1(80)).unwrap();
        net.settle();
        // Goes silently, as one whose address was forged.
        net.close(client);
    }
    net.run_for(SECOND / 2);
    assert_eq!(listener.syn_queue_len(), 51);
    assert!(net.engine(1).counters().syn_queue_drops >= 449);
    assert_eq!(listener.queues().syn_queue_young, 51);
    net.run_for(6 * SECOND);
    assert_eq!((listener.queues().syn_queue, listener.queues().syn_queue_young), (51, 0));
    net.run_for(SECOND);
    // tcp_synack_retries is for the young while more than half of the room is taken.
    assert_eq!(listener.syn_queue_len(), 25, "after two retransmissions");
    net.run_for(55 * SECOND);
    assert_eq!(listener.syn_queue_len(), 25, "the last one is sent at 31 s and waits for 32 s");
    net.run_for(SECOND);
    assert_eq!(listener.syn_queue_len(), 0);
    assert_eq!(net.engine(1).tcp().armed_deadlines(), 0);
}

#[test]
fn reuse_port_spreads_connections_over_listeners() {
    let mut net = Net::pair(22, LinkSpec::default());
    let listen = || {
        let mut socket = net.socket(1, Family::V4);
        socket.ip.set_reuse_port(true);
        net.engine(1).tcp().bind(net.engine(1).core(), &mut socket, "0.0.0.0:80".parse().unwrap()).unwrap();
        net.engine(1)
            .with_tcp(net.now, |tcp, turn| tcp.listen(turn, socket, 1000, Arc::new(Recorder::default())))
            .unwrap()
    };
    let listeners = [listen(), listen(), listen()];
    let clients: Vec<_> = (0..300).map(|_| net.connect(0, to_host_1(80)).unwrap()).collect();
    net.run_for(SECOND);
    assert!(clients.iter().all(|client| net.state(client) == State::Established));
    for listener in &listeners {
        let share = listener.accept_queue_len();
        assert!((60..140).contains(&share), "{share} of 300 for one of three");
    }
}

#[test]
fn a_syn_waits_for_a_full_device_and_not_for_its_timer() {
    let mut net = Net::pair(24, LinkSpec { queue: 1, ..LinkSpec::default() });
    let _listener = net.listen(1, 80, 8);
    let clients = [net.connect(0, to_host_1(80)).unwrap(), net.connect(0, to_host_1(80)).unwrap()];
    assert_eq!(net.engine(0).counters().device_full, 1);
    net.run_for(SECOND / 2);
    assert!(clients.iter().all(|client| net.state(client) == State::Established));
}

#[test]
fn connecting_beyond_the_limit_of_connections_fails() {
    let net = Net::pair_with(23, LinkSpec::default(), |_, config| config.max_connections = 2);
    let _held = [net.connect(0, to_host_1(80)).unwrap(), net.connect(0, to_host_1(80)).unwrap()];
    assert_eq!(errno(net.connect(0, to_host_1(80))), libc::ENFILE);
}

#[test]
fn the_dscp_and_the_hop_limit_of_a_socket_are_on_its_packets() {
    // RFC 9293 MUST-48, MUST-49, SHLD-21, SHLD-22.
    for family in [Family::V4, Family::V6] {
        let mut net = Net::pair(78, LinkSpec::default());
        let mut socket = net.socket(0, family);
        match family {
            Family::V4 => (socket.ip.packets.tos, socket.ip.packets.ttl) = (0xb8, 33),
            Family::V6 => (socket.ip.packets.tclass, socket.ip.packets.hops) = (0xb8, 33),
        }
        let listener = net.listen(1, 80, 8);
        let to = SocketAddr::new(address(1, family), 80);
        let client = net.connect_from(0, socket, to).unwrap();
        net.run_for(SECOND);
        client.cell.change_packets(|packets| match family {
            Family::V4 => (packets.tos, packets.ttl) = (0x28, 9),
            Family::V6 => (packets.tclass, packets.hops) = (0x28, 9),
        });
        net.write(&client, b"later").unwrap();
        net.run_for(SECOND);
        let ours: Vec<_> = net.cable.take_trace().into_iter().filter(|packet| packet.from == 0).collect();
        let first = &ours[0].ip;
        assert_eq!((first.traffic_class & !3, first.hop_limit), (0xb8, 33));
        let last = &ours.iter().rfind(|packet| packet.segment().payload_len > 0).unwrap().ip;
        assert_eq!((last.traffic_class & !3, last.hop_limit), (0x28, 9));
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
    }
}

#[test]
fn close_between_crossed_syns_sends_a_fin() {
    for (lost, lingers) in [(None, true), (Some(0), true), (Some(1), true), (None, false)] {
        let what = format!("lost: {lost:?}, linger: {lingers}");
        let mut net = Net::pair(18, LinkSpec::default());
        let [one, other] = ["10.0.0.1:40000", "10.0.0.2:40000"].map(|at| at.parse::<SocketAddr>().unwrap());
        let connect = |net: &mut Net, host: usize, (from, to)| {
            let mut socket = net.socket(host, Family::V4);
            if !lingers {
                socket.options.linger = Some(Duration::ZERO);
            }
            net.engine(host).tcp().bind(net.engine(host).core(), &mut socket, from).unwrap();
            net.connect_from(host, socket, to).unwrap()
        };
        let a = connect(&mut net, 0, (one, other));
        let b = connect(&mut net, 1, (other, one));
        net.run_until(SECOND, |net| net.state(&a) == State::SynReceived);
        net.settle();
        let _ = net.cable.take_trace();
        // The FIN, or its acknowledgment, or nothing gets lost once.
        let mut left = 1;
        net.cable.set_filter(move |passing| {
            let drops = Some(passing.from) == lost && left > 0;
            left -= usize::from(drops);
            if drops { Verdict::Drop } else { Verdict::Pass }
        });
        net.close(a);
        net.run_for(30 * SECOND);
        let trace = net.cable.take_trace();
        let resets = trace.iter().filter(|passing| passing.segment().is_rst()).count();
        if !lingers {
            assert!(resets > 0 && net.state(&b) == State::Closed, "{what}");
            continue;
        }
        assert!(trace[0].segment().is_fin() && trace[0].from == 0, "{what}: {:?}", trace[0].segment());
        assert_eq!((resets, net.state(&b)), (0, State::CloseWait), "{what}");
        assert_eq!(net.read_available(&b), (vec![], true), "{what}");
        net.close(b);
        net.run_for(120 * SECOND);
        assert_empty(net.engine(0));
        assert_empty(net.engine(1));
    }
}
