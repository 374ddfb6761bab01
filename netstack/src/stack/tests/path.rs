//! A smaller MTU on the way: what routers say of it, what they do not say, and what is remembered.

use super::SECOND;
use crate::config::{Config, Hystart, MtuDiscover, MtuProbing};
use crate::stack::Family;
use crate::stack::testing::{Hop, LinkSpec, Net, Socket, Verdict, address, icmp_about, too_big};
use crate::tcp::{State, TcpInfo};
use crate::time::Duration;
use crate::wire::{ChecksumMode, HeaderBuf, IpHeader, IpMeta, Segment, TcpDatagram, emit_tcp};
use std::net::SocketAddr;

/// A router that says what it forwards.
fn honest(mtu: usize) -> Option<Hop> {
    Some(Hop { mtu, claims: Some(mtu as u32) })
}

/// A black hole.
fn silent(mtu: usize) -> Option<Hop> {
    Some(Hop { mtu, claims: None })
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 + n / 251) as u8).collect()
}

fn info(net: &Net, socket: &Socket) -> TcpInfo {
    net.engine(socket.host).with_tcp(net.now, |tcp, turn| tcp.info(turn, &socket.cell)).expect("a connection")
}

/// The longest packet among those that host 0 sent since the last call, cut as its segments were.
fn longest_payload(net: &Net) -> usize {
    let sent = net.cable.take_trace();
    sent.iter()
        .filter(|passing| passing.from == 0)
        .map(|passing| passing.segment().payload_len)
        .max()
        .unwrap()
}

/// A packet without payload that an engine sent, once more.
fn packet(ip: &IpHeader, ports: (u16, u16), segment: &Segment) -> Vec<u8> {
    let meta = IpMeta {
        src: ip.src,
        dst: ip.dst,
        hop_limit: 64,
        traffic_class: 0,
        dont_fragment: true,
        ident: 0,
        flow_label: 0,
    };
    let mut header = HeaderBuf::new();
    emit_tcp(
        &mut header,
        &TcpDatagram { ip: &meta, src_port: ports.0, dst_port: ports.1, segment, payload: &[] },
        ChecksumMode::Full,
    );
    header.to_vec()
}

fn connected(net: &mut Net, family: Family) -> (Socket, Socket) {
    let listener = net.listen(1, 80, 8);
    let client = net.connect(0, SocketAddr::new(address(1, family), 80)).unwrap();
    net.run_for(SECOND);
    let server = net.accept(1, &listener).unwrap();
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
    (client, server)
}

#[test]
fn a_smaller_hop_is_found_at_once_and_no_congestion_is_assumed() {
    for (family, mtu, mss) in [(Family::V4, 1400, 1348), (Family::V6, 1280, 1208)] {
        for offloads in [false, true] {
            let mut net = Net::pair(1, LinkSpec { offloads, ..LinkSpec::default() });
            net.cable.set_hop(honest(mtu));
            let (client, server) = connected(&mut net, family);
            let data = bytes(300_000);
            let start = net.now;
            let received = net.transfer(&client, &server, &data, 2 * SECOND);
            assert!(received == data, "{family:?} {offloads}");
            assert!(net.now - start < SECOND / 2, "{:?}: no time-out was needed", net.now - start);
            let info = info(&net, &client);
            assert_eq!((info.snd_mss, info.pmtu, info.retransmits), (mss, mtu, 0), "{info}");
            assert_eq!(info.snd_ssthresh, usize::MAX, "a packet too big is no congestion");
            assert_eq!(info.advmss, if family == Family::V4 { 1460 } else { 1440 });
            // The other direction, and what the first window did, count once.
            assert!(info.bytes_retrans < 20_000, "{info}");
            let received = net.transfer(&server, &client, &data, 2 * SECOND);
            assert!(received == data);
            let known = net.engine(0).destination(net.now, address(1, family)).unwrap();
            assert_eq!(known.mtu.map(|mtu| (mtu.bytes, mtu.locked)), Some((mtu, false)));
        }
    }
}

#[test]
fn a_hop_that_shrinks_in_mid_transfer_loses_nothing() {
    let mut net = Net::pair(2, LinkSpec { offloads: true, ..LinkSpec::default() });
    let (client, server) = net.connected();
    let data = bytes(500_000);
    assert!(net.transfer(&client, &server, &data, 5 * SECOND) == data);
    for mtu in [1400, 1200, 600] {
        net.cable.set_hop(honest(mtu));
        let cwnd = info(&net, &client).snd_cwnd / info(&net, &client).snd_mss;
        assert!(net.transfer(&client, &server, &data, 5 * SECOND) == data, "{mtu}");
        let info = info(&net, &client);
        assert_eq!((info.pmtu, info.snd_mss), (mtu, mtu - 52));
        assert!(info.snd_cwnd / info.snd_mss >= cwnd, "the window keeps its segments (RFC 5681 section 3.1)");
        assert_eq!(info.snd_ssthresh, usize::MAX);
    }
}

#[test]
fn later_connections_know_and_after_ten_minutes_larger_packets_are_tried_again() {
    let mut net = Net::pair(3, LinkSpec::default());
    net.cable.set_hop(honest(1400));
    let (client, server) = net.connected();
    let data = bytes(50_000);
    assert!(net.transfer(&client, &server, &data, SECOND) == data);
    let (second, server_2) = net.connected();
    assert_eq!(info(&net, &second).advmss, 1460, "that of the interface (RFC 9293 section 3.7.1)");
    let _ = net.cable.take_trace();
    assert!(net.transfer(&second, &server_2, &data, SECOND) == data);
    assert_eq!(longest_payload(&net), 1348, "nothing too long was sent");
    net.cable.set_hop(None);
    net.run_for(Duration::from_secs(500));
    assert!(net.transfer(&second, &server_2, &data, SECOND) == data);
    assert_eq!(longest_payload(&net), 1348);
    net.run_for(Duration::from_secs(101));
    assert!(net.transfer(&second, &server_2, &data, SECOND) == data);
    assert_eq!(longest_payload(&net), 1448);
    assert_eq!(net.engine(0).destination(net.now, address(1, Family::V4)).and_then(|known| known.mtu), None);
}

#[test]
fn connections_to_the_same_host_hear_of_it_without_a_message_of_their_own() {
    let mut net = Net::pair(4, LinkSpec::default());
    let (first, server_1) = net.connected();
    let (second, server_2) = net.connected();
    net.cable.set_hop(honest(1400));
    assert!(net.transfer(&first, &server_1, &bytes(20_000), SECOND).len() == 20_000);
    let _ = net.cable.take_trace();
    assert!(net.transfer(&second, &server_2, &bytes(20_000), SECOND).len() == 20_000);
    assert_eq!(longest_payload(&net), 1348);
    // If the table forgets, connections keep what they know until it expires.
    net.engine(0).forget_destinations();
    let (third, server_3) = net.connected();
    for (from, to, longest) in [(&second, &server_2, 1348), (&third, &server_3, 1448)] {
        let _ = net.cable.take_trace();
        assert!(net.transfer(from, to, &bytes(20_000), SECOND).len() == 20_000);
        assert_eq!(longest_payload(&net), longest);
    }
}

#[test]
fn a_stack_that_remembers_no_destinations_still_follows_its_paths() {
    let forgetful = |_, config: &mut Config| config.max_destinations = 0;
    let mut net = Net::pair_with(11, LinkSpec::default(), forgetful);
    net.cable.set_hop(honest(1400));
    let (client, server) = net.connected();
    let data = bytes(100_000);
    assert!(net.transfer(&client, &server, &data, SECOND) == data);
    assert_eq!(info(&net, &client).pmtu, 1400);
    net.cable.set_hop(None);
    net.run_for(Duration::from_secs(601));
    assert!(net.transfer(&client, &server, &data, SECOND) == data);
    assert_eq!(info(&net, &client).pmtu, 1500, "it expires all the same");
}

#[test]
fn a_router_that_does_not_say_how_much_or_claims_too_little_makes_df_go() {
    for claims in [0, 68, 551] {
        let mut net = Net::pair(5, LinkSpec::default());
        net.cable.set_hop(Some(Hop { mtu: 500, claims: Some(claims) }));
        let (client, server) = net.connected();
        let data = bytes(30_000);
        assert!(net.transfer(&client, &server, &data, 5 * SECOND) == data, "{claims}");
        let info = info(&net, &client);
        assert_eq!((info.pmtu, info.snd_mss), (552, 500), "fragments of 552 bytes");
    }
}

#[test]
fn messages_about_nothing_in_flight_and_below_the_ipv6_minimum_are_ignored() {
    for family in [Family::V4, Family::V6] {
        let mut net = Net::pair(6, LinkSpec::default());
        let (client, server) = connected(&mut net, family);
        assert!(net.transfer(&client, &server, &bytes(5_000), SECOND).len() == 5_000);
        net.run_for(SECOND);
        let before = info(&net, &client);
        // A segment that host 0 sent and that was acknowledged, and one that it never sent.
        let trace = net.cable.take_trace();
        let old = trace.iter().rev().find(|passing| passing.from == 0).expect("host 0 sent something");
        let (src_port, dst_port, segment, _) = old.tcp.clone().unwrap();
        let forge = |seq: u32, mtu: u32| {
            let segment = Segment { seq: segment.seq + seq, payload_len: 0, ..segment.clone() };
            too_big(&packet(&old.ip, (src_port, dst_port), &segment), mtu)
        };
        for seq in [0, 1 << 20, 1 << 31] {
            net.cable.inject(net.now, 0, &forge(seq, 1290));
            net.settle();
        }
        assert_eq!(net.engine(0).counters().icmp_out_of_window, 3, "{family:?}");
        if family == Family::V6 {
            net.cable.set_hop(Some(Hop { mtu: 1300, claims: Some(1279) }));
            net.write(&client, &bytes(5_000)).unwrap();
            net.run_for(SECOND / 10);
        }
        assert_eq!(info(&net, &client).snd_mss, before.snd_mss);
        assert!(
            net.engine(0).destination(net.now, address(1, family)).is_none_or(|known| known.mtu.is_none())
        );
    }
}

#[test]
fn sockets_choose_whether_to_follow_and_whether_to_forbid_fragments() {
    let case = |mode: MtuDiscover, hop: Option<Hop>| {
        let mut net = Net::pair_with(7, LinkSpec::default(), |_, config| config.mtu_discover = mode);
        net.cable.set_hop(hop);
        let (client, server) = net.connected();
        net.write(&client, &bytes(10_000)).unwrap();
        net.run_for(SECOND / 2);
        let arrived = net.read_available(&server).0.len();
        (arrived, info(&net, &client).snd_mss)
    };
    assert_eq!(case(MtuDiscover::Want, honest(1000)), (10_000, 948));
    assert_eq!(case(MtuDiscover::Do, honest(1000)), (10_000, 948));
    assert_eq!(case(MtuDiscover::Dont, honest(1000)), (10_000, 1448), "the router fragments");
    assert_eq!(case(MtuDiscover::Probe, honest(1000)), (0, 1448), "the application knows better");
    let small = Some(Hop { mtu: 500, claims: Some(500) });
    assert_eq!(case(MtuDiscover::Want, small), (10_000, 500));
    assert_eq!(case(MtuDiscover::Do, small), (0, 500), "never without DF");
}

#[test]
fn all_connections_follow_the_mtu_of_the_interface() {
    use MtuDiscover::{Do, Dont, Interface, Omit, Probe, Want};
    for mode in [Want, Dont, Do, Probe, Interface, Omit] {
        let mut net = Net::pair_with(7, LinkSpec::default(), |_, config| config.mtu_discover = mode);
        let (client, server) = net.connected();
        net.write(&client, &bytes(3_000)).unwrap();
        net.run_for(SECOND / 2);
        for (mtu, mss) in [(1300, 1248), (1500, 1448)] {
            net.engine(0).core().set_mtu(0, mtu).unwrap();
            net.write(&client, &bytes(10_000)).unwrap();
            net.run_for(SECOND / 2);
            let info = info(&net, &client);
            assert_eq!((info.snd_mss, info.total_retrans), (mss, 0), "{mode:?}: nothing was too long");
        }
        assert_eq!(net.read_available(&server).0.len(), 23_000);
    }
}

#[test]
fn a_black_hole_is_found_after_retries1_and_climbed_out_of() {
    let probing = |_, config: &mut Config| config.mtu_probing = MtuProbing::BlackHole;
    for mtu in [1400, 700, 300] {
        let mut net = Net::pair_with(8, LinkSpec::default(), probing);
        net.cable.set_hop(silent(mtu));
        let (client, server) = net.connected();
        let data = bytes(400_000);
        let start = net.now;
        assert!(net.transfer(&client, &server, &data, 120 * SECOND) == data, "{mtu}");
        let took = net.now - start;
        let info = info(&net, &client);
        assert!(took > 3 * SECOND, "{took:?}: retries1 is three seconds");
        assert!(info.snd_mss <= mtu - 52, "{info}");
        // Search ends near the truth: 1,024 bytes pass with a hop of 1,400, and more is tried.
        assert!(mtu < 1400 || info.snd_mss > 1300, "{info}");
    }
    // Without probing nothing helps, as in Linux.
    let mut net = Net::pair(8, LinkSpec::default());
    net.cable.set_hop(silent(1400));
    let (client, server) = net.connected();
    net.write(&client, &bytes(10_000)).unwrap();
    net.run_for(60 * SECOND);
    assert!(net.read_available(&server).0.is_empty());
}

#[test]
fn a_search_finds_the_mtu_and_its_failures_are_no_congestion() {
    let probing = |_, config: &mut Config| {
        config.mtu_probing = MtuProbing::Always;
        // Nothing but a loss may end slow start here.
        config.hystart = Hystart::Off;
    };
    for (hop, expected) in [(None, 1441..=1448), (silent(1400), 1340..=1348), (honest(1300), 1240..=1248)] {
        let mut net = Net::pair_with(9, LinkSpec::default(), probing);
        net.cable.set_hop(hop);
        let (client, server) = net.connected();
        assert_eq!(info(&net, &client).snd_mss, 1024, "tcp_base_mss");
        let data = bytes(2_000_000);
        assert!(net.transfer(&client, &server, &data, 60 * SECOND) == data);
        let info = info(&net, &client);
        assert!(expected.contains(&info.snd_mss), "{hop:?}: {info}");
        assert_eq!((info.snd_ssthresh, info.retransmits), (usize::MAX, 0), "{hop:?}: {info}");
        // Each failed probe repeats itself and no more.
        assert!(info.total_retrans <= 20, "{hop:?}: {info}");
    }
}

#[test]
fn measurements_outlive_the_connection_and_seed_the_next_time_out() {
    let mut net = Net::pair(10, LinkSpec { delay: Duration::from_millis(200), ..LinkSpec::default() });
    let (client, server) = net.connected();
    let data = bytes(100_000);
    assert!(net.transfer(&client, &server, &data, 20 * SECOND) == data);
    assert!(net.engine(0).destinations(net.now).is_empty(), "it is not over yet");
    net.close(client);
    net.run_for(SECOND);
    net.close(server);
    net.run_for(SECOND);
    let known = net.engine(0).destinations(net.now);
    assert_eq!(known.len(), 1);
    let rtt = known[0].metrics.rtt.unwrap();
    assert!((400..=410).contains(&rtt.as_millis()), "{rtt:?}");
    assert_eq!(known[0].metrics.ssthresh, None, "tcp_no_ssthresh_metrics_save is on");
    assert!(known[0].metrics.cwnd.unwrap() > 10);
}

/// Type and code, and whether it ends a connection that begins: on the active side, and on the passive.
const ERRORS: [(Family, (u8, u8), i32, bool); 8] = [
    (Family::V4, (3, 0), libc::ENETUNREACH, true),
    (Family::V4, (3, 1), libc::EHOSTUNREACH, true),
    (Family::V4, (3, 3), libc::ECONNREFUSED, false),
    (Family::V4, (3, 2), libc::ENOPROTOOPT, false),
    (Family::V4, (11, 0), libc::EHOSTUNREACH, true),
    (Family::V6, (1, 0), libc::ENETUNREACH, false),
    (Family::V6, (1, 4), libc::ECONNREFUSED, true),
    (Family::V6, (1, 1), libc::EACCES, true),
];

#[test]
fn errors_end_connections_that_begin_and_are_kept_for_those_that_stand() {
    for (family, error, errno, ends_half_open) in ERRORS {
        let what = format!("{family:?} {error:?}");
        let mut net = Net::pair(12, LinkSpec::default());
        let listener = net.listen(1, 80, 8);
        // Only SYNs pass, and only in one direction.
        net.cable.set_filter(|passing| if passing.from == 0 { Verdict::Pass } else { Verdict::Drop });
        let client = net.connect(0, SocketAddr::new(address(1, family), 80)).unwrap();
        net.run_for(SECOND / 10);
        let trace = net.cable.take_trace();
        let again = |from: usize| {
            let passing = trace.iter().find(|passing| passing.from == from).unwrap();
            let (src, dst, segment, _) = passing.tcp.clone().unwrap();
            packet(&passing.ip, (src, dst), &segment)
        };
        let (syn, syn_ack) = (again(0), again(1));
        // About what was never sent: forged. It changes nothing and is counted.
        for from in [0, 1] {
            let passing = trace.iter().find(|passing| passing.from == from).unwrap();
            let (src, dst, segment, _) = passing.tcp.clone().unwrap();
            let forged = Segment { seq: segment.seq + 5000, ..segment };
            let forged = icmp_about(&packet(&passing.ip, (src, dst), &forged), error, 0);
            net.cable.inject(net.now, from, &forged);
            net.settle();
            assert_eq!(net.engine(from).counters().icmp_out_of_window, 1, "{what}");
        }
        assert_eq!(listener.syn_queue_len(), 1, "{what}");
        assert!(client.cell.connect_result().is_none(), "{what}");
        net.cable.inject(net.now, 1, &icmp_about(&syn_ack, error, 0));
        net.settle();
        assert_eq!(listener.syn_queue_len(), usize::from(!ends_half_open), "{what}");
        net.cable.inject(net.now, 0, &icmp_about(&syn, error, 0));
        net.settle();
        let failed = client.cell.connect_result().expect("the attempt ended").unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(errno), "{what}");

        // One that stands goes on (RFC 5927 section 5.2); the error is told if it times out.
        let mut net = Net::pair_with(12, LinkSpec::default(), |_, config| {
            config.user_timeout = Some(Duration::from_secs(5));
        });
        let (client, server) = connected(&mut net, family);
        net.cable.set_filter(|_| Verdict::Drop);
        let _ = net.cable.take_trace();
        net.write(&client, b"lost").unwrap();
        let sent = net.cable.take_trace();
        let (src, dst, segment, _) = sent[0].tcp.clone().unwrap();
        let forged = Segment { payload_len: 0, seq: segment.seq + 5000, ..segment.clone() };
        let forged = packet(&sent[0].ip, (src, dst), &forged);
        net.cable.inject(net.now, 0, &icmp_about(&forged, error, 0));
        net.settle();
        assert_eq!(net.engine(0).counters().icmp_out_of_window, 1, "{what}");
        let about = packet(&sent[0].ip, (src, dst), &Segment { payload_len: 0, ..segment });
        net.cable.inject(net.now, 0, &icmp_about(&about, error, 0));
        net.run_for(SECOND);
        assert_eq!(net.state(&client), State::Established, "{what}");
        net.run_for(10 * SECOND);
        let told = net
            .engine(0)
            .with_tcp(net.now, |tcp, turn| tcp.take_error(turn, &client.cell))
            .expect("it timed out");
        assert_eq!(told.raw_os_error(), Some(errno), "{what}");
        drop(server);
    }
}
