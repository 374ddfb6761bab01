//! The two queues of a listener, and SYN cookies.

use super::{SECOND, assert_empty, to_host_1};
use crate::buffer::PacketBuf;
use crate::config::{Config, SynCookieMode};
use crate::device::RxMeta;
use crate::stack::testing::{LinkSpec, Net, Passing, Recorder, Socket, Verdict, address};
use crate::stack::{Batch, Family, Listener};
use crate::tcp::State;
use crate::time::Duration;
use crate::wire::{ChecksumMode, Flags, HeaderBuf, IpMeta, Options, Segment, SeqNum, TcpDatagram, emit_tcp};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// A segment to port 80 of host 1 from a host that does not exist.
fn spoofed(number: u32, flags: Flags, seq: u32, ack: u32) -> Vec<u8> {
    spoofed_to(80, number, flags, seq, ack)
}

fn spoofed_to(port: u16, number: u32, flags: Flags, seq: u32, ack: u32) -> Vec<u8> {
    let segment = Segment {
        window: 1000,
        options: Options { mss: Some(1460), ..Options::default() },
        ..Segment::new(flags, SeqNum::new(seq), SeqNum::new(ack))
    };
    let src = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + number));
    let dst = address(1, Family::V4);
    let meta =
        IpMeta { src, dst, hop_limit: 64, traffic_class: 0, dont_fragment: true, ident: 0, flow_label: 0 };
    let mut header = HeaderBuf::new();
    emit_tcp(
        &mut header,
        &TcpDatagram { ip: &meta, src_port: 5000, dst_port: port, segment: &segment, payload: &[] },
        ChecksumMode::Full,
    );
    header.to_vec()
}

/// What host 1 sends for a packet.
fn answers(net: &mut Net, packet: &[u8]) -> Vec<Passing> {
    let _ = net.cable.take_trace();
    net.cable.inject(net.now, 1, packet);
    net.settle();
    net.cable.take_trace()
}

fn net(seed: u64, change: impl Fn(&mut Config)) -> Net {
    Net::pair_with(seed, LinkSpec::default(), |_, config| change(config))
}

fn connect(net: &Net) -> Socket {
    net.connect(0, to_host_1(80)).unwrap()
}

#[test]
fn every_connection_can_complete_by_a_cookie() {
    for timestamps in [true, false] {
        let mut net = Net::pair_with(70, LinkSpec::default(), |host, config| {
            config.syncookies = SynCookieMode::Always;
            config.timestamps = timestamps || host == 1;
        });
        let listener = net.listen(1, 80, 8);
        for family in [Family::V4, Family::V6] {
            let client = net.connect(0, SocketAddr::new(address(1, family), 80)).unwrap();
            net.run_for(SECOND);
            assert_eq!(listener.queues().syn_queue, 0);
            let server = net.accept(1, &listener).unwrap();
            let info = net.engine(1).with_tcp(net.now, |tcp, turn| tcp.info(turn, &server.cell)).unwrap();
            assert_eq!(info.snd_wscale, if timestamps { 10 } else { 0 });
            let bytes = vec![9; 300_000];
            assert!(net.transfer(&client, &server, &bytes, 10 * SECOND) == bytes);
            assert!(net.transfer(&server, &client, &bytes, 10 * SECOND) == bytes);
        }
        let counted = listener.queues().counters;
        assert_eq!((counted.syncookies_sent, counted.syncookies_received, counted.passive_opens), (2, 2, 2));
        assert_eq!(counted.syncookies_failed, 0);
    }
}

#[test]
fn a_flood_fills_the_syn_queue_and_cookies_take_over() {
    let mut net = net(71, |_| ());
    let listener = net.listen(1, 80, 50);
    for number in 0..1000 {
        net.cable.inject(net.now, 1, &spoofed(number, Flags::SYN, number, 0));
    }
    net.settle();
    let queues = listener.queues();
    assert_eq!((queues.syn_queue, queues.syn_queue_young), (51, 51));
    assert_eq!((queues.counters.syn_queue_cookies, queues.counters.syncookies_sent), (949, 949));
    assert_eq!(queues.counters.listen_drops, 0);
    let syn_acks = net.cable.take_trace();
    assert_eq!(syn_acks.len(), 1000);
    let client = connect(&net);
    net.run_for(SECOND / 2);
    let server = net.accept(1, &listener).unwrap();
    assert_eq!(net.transfer(&client, &server, b"through", SECOND), b"through");
    assert_eq!(net.engine(1).counters().syncookies_received, 1);
    // Cookies are not repeated; what is in the queue is.
    net.run_for(SECOND);
    let repeated = net.cable.take_trace();
    let syns = repeated.iter().filter(|p| p.from == 1 && p.segment().is_syn()).count();
    assert_eq!(syns, 51 + 1, "and the one that answered the client");
    net.run_for(70 * SECOND);
    assert_eq!(listener.queues().syn_queue, 0);
}

#[test]
fn without_cookies_a_full_queue_drops() {
    let mut net = net(72, |config| config.syncookies = SynCookieMode::Off);
    let listener = net.listen(1, 80, 50);
    for number in 0..1000 {
        net.cable.inject(net.now, 1, &spoofed(number, Flags::SYN, number, 0));
    }
    net.settle();
    let counted = listener.queues().counters;
    assert_eq!((listener.syn_queue_len(), counted.syn_queue_drops, counted.listen_drops), (51, 949, 949));
    let _client = connect(&net);
    net.run_for(SECOND / 2);
    assert_eq!(listener.accept_queue_len(), 0);
}

#[test]
fn the_last_quarter_of_the_syn_backlog_stays_free_without_cookies() {
    for (mode, len) in [(SynCookieMode::Off, 76), (SynCookieMode::Overflow, 200)] {
        let mut net = net(73, |config| {
            config.max_syn_backlog = 100;
            config.syncookies = mode;
        });
        let listener = net.listen(1, 80, 1000);
        for number in 0..200 {
            net.cable.inject(net.now, 1, &spoofed(number, Flags::SYN, number, 0));
        }
        net.settle();
        assert_eq!(listener.syn_queue_len(), len, "{mode:?}");
    }
}

#[test]
fn forged_acknowledgments_leave_no_state_and_are_reset_within_a_limit() {
    let mut net = net(74, |config| {
        config.reset_burst = 20;
        config.reset_rate = 10;
    });
    let listener = net.listen(1, 80, 5);
    // Nobody was sent a cookie: there is nothing to check.
    let reset = answers(&mut net, &spoofed(1, Flags::ACK, 5, 6));
    assert_eq!(reset.len(), 1);
    assert_eq!((reset[0].segment().flags, reset[0].segment().seq), (Flags::RST, SeqNum::new(6)));
    assert_eq!(listener.queues().counters.syncookies_failed, 0);
    for number in 0..100 {
        net.cable.inject(net.now, 1, &spoofed(number, Flags::SYN, number, 0));
    }
    net.settle();
    let _ = net.cable.take_trace();
    for number in 0..1000 {
        net.cable.inject(net.now, 1, &spoofed(5_000 + number, Flags::ACK, number, number * 7919));
    }
    net.settle();
    let resets = net.cable.take_trace().len();
    assert!((10..=32).contains(&resets), "{resets} resets, of a burst of about 20");
    let counters = net.engine(1).counters();
    assert_eq!((counters.syncookies_failed, counters.tcp_resets_limited), (1000, 1000 - resets as u64));
    assert_eq!((net.engine(1).tcp().connections(), listener.queues().accept_queue), (0, 0));
    net.run_for(SECOND);
    assert_eq!(answers(&mut net, &spoofed(7_001, Flags::ACK, 5, 6)).len(), 1, "the limit is a rate");
    // RST, and SYN with ACK, are no cookies.
    assert!(answers(&mut net, &spoofed(7_000, Flags::RST, 5, 6)).is_empty());
    assert!(answers(&mut net, &spoofed(7_000, Flags::SYN.with(Flags::ACK), 5, 6))[0].segment().is_rst());
    assert_eq!(net.engine(1).counters().syncookies_failed, 1001);
    // Two minutes after the last cookie nobody looks any more.
    net.run_for(121 * SECOND);
    assert!(answers(&mut net, &spoofed(7_001, Flags::ACK, 5, 6))[0].segment().is_rst());
    assert_eq!(net.engine(1).counters().syncookies_failed, 1001);
}

#[test]
fn each_listener_counts_the_cookies_that_failed_there() {
    let mut net = net(74, |config| config.syncookies = SynCookieMode::Always);
    let listeners = [80, 81].map(|port| net.listen(1, port, 5));
    for port in [80, 81] {
        net.cable.inject(net.now, 1, &spoofed_to(port, 1, Flags::SYN, 1, 0));
    }
    net.settle();
    // In one batch, now to the one and now to the other.
    for number in 0..9 {
        let port = if number % 3 == 0 { 81 } else { 80 };
        net.cable.inject(net.now, 1, &spoofed_to(port, 2, Flags::ACK, number, number));
    }
    net.settle();
    assert_eq!(listeners.map(|listener| listener.queues().counters.syncookies_failed), [6, 3]);
    assert_eq!(net.engine(1).counters().syncookies_failed, 9);
}

#[test]
fn a_listener_comes_and_goes_in_the_middle_of_a_batch() {
    let net = net(74, |_| {});
    let engine = net.engine(1);
    let mut out = Batch::new();
    let mut syn = |number| {
        let packet = spoofed(number, Flags::SYN, 1, 0);
        let meta = RxMeta { len: packet.len(), ..RxMeta::default() };
        engine.on_packet(
            net.now,
            engine.core().queues().next().unwrap(),
            PacketBuf::copy_from(&packet),
            meta,
            &mut out,
        );
    };
    syn(1);
    assert_eq!(engine.counters().tcp_out_resets, 1);
    let listener = net.listen(1, 80, 5);
    syn(2);
    assert_eq!((listener.syn_queue_len(), engine.counters().tcp_out_resets), (1, 1));
    engine.with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
    let resets = engine.counters().tcp_out_resets;
    syn(3);
    assert_eq!((listener.syn_queue_len(), engine.counters().tcp_out_resets), (0, resets + 1));
}

#[test]
fn a_cookie_expires_after_its_second_period() {
    for (wait, good) in [(50, true), (125, false)] {
        let mut net = net(75, |config| config.syncookies = SynCookieMode::Always);
        let listener = net.listen(1, 80, 8);
        let syn_ack = answers(&mut net, &spoofed(1, Flags::SYN, 99, 0))[0].segment().clone();
        net.run_for(wait * SECOND);
        let answer = answers(&mut net, &spoofed(1, Flags::ACK, 100, (syn_ack.seq + 1).raw()));
        assert_eq!(listener.accept_queue_len(), usize::from(good), "after {wait} s");
        assert_eq!(answer.len(), usize::from(!good), "a reset if it is bad");
    }
}

#[test]
fn the_first_data_stands_in_for_a_cookies_lost_acknowledgment() {
    let mut net = net(76, |config| config.syncookies = SynCookieMode::Always);
    let listener = net.listen(1, 80, 8);
    let client = connect(&net);
    net.cable
        .set_filter(|p| if p.from == 0 && p.segment().is_empty() { Verdict::Drop } else { Verdict::Pass });
    net.run_for(SECOND);
    assert_eq!((net.state(&client), listener.accept_queue_len()), (State::Established, 0));
    net.write(&client, b"hello").unwrap();
    net.run_for(SECOND);
    let server = net.accept(1, &listener).unwrap();
    assert_eq!(net.read(&server).unwrap(), b"hello");
}

#[test]
fn a_cookie_that_finds_the_accept_queue_full_gets_another_chance() {
    let mut net = net(77, |config| config.syncookies = SynCookieMode::Always);
    let listener = net.listen(1, 80, 0);
    let clients = [connect(&net), connect(&net)];
    net.run_for(SECOND);
    assert!(clients.iter().all(|client| net.state(client) == State::Established), "so they believe");
    assert_eq!(listener.accept_queue_len(), 1);
    assert_eq!(listener.queues().counters.listen_overflows, 1);
    for client in &clients {
        net.write(client, b"data").unwrap();
    }
    net.run_for(SECOND / 10);
    let _first = net.accept(1, &listener).unwrap();
    net.run_for(3 * SECOND);
    let second = net.accept(1, &listener).unwrap();
    assert_eq!(net.read(&second).unwrap(), b"data");
}

#[test]
fn a_listener_that_defers_hands_out_connections_with_data() {
    let mut net = net(78, |_| ());
    let listener = net.listen(1, 80, 8);
    let time = Some(Duration::from_secs(3));
    let config = Arc::clone(net.engine(1).core().config());
    listener.with_options(|options| options.set_defer_accept_time(time, &config));
    let (talks, silent) = (connect(&net), connect(&net));
    net.run_for(SECOND / 2);
    assert_eq!((net.state(&talks), net.state(&silent)), (State::Established, State::Established));
    assert_eq!((listener.accept_queue_len(), listener.syn_queue_len()), (0, 2));
    assert_eq!(listener.queues().counters.defer_accept_drops, 2);
    net.write(&talks, b"first").unwrap();
    net.run_for(SECOND / 10);
    let server = net.accept(1, &listener).unwrap();
    assert_eq!(net.read(&server).unwrap(), b"first");
    // The other is asked once more when its time is over, and its answer is then enough.
    net.run_for(5 * SECOND);
    assert_eq!((listener.accept_queue_len(), listener.syn_queue_len()), (1, 0));
    assert_eq!(listener.queues().counters.syn_retransmits, 1);
}

#[test]
fn a_client_that_defers_lets_data_carry_the_acknowledgment() {
    for (write, expected) in [(true, 60), (false, 220)] {
        let mut net = net(79, |_| ());
        let listener = net.listen(1, 80, 8);
        let mut socket = net.socket(0, Family::V4);
        socket.options.defer_accept = 1;
        let client = net.connect_from(0, socket, to_host_1(80)).unwrap();
        let start = net.now;
        net.run_for(Duration::from_millis(50));
        assert_eq!((net.state(&client), listener.accept_queue_len()), (State::Established, 0));
        if write {
            net.write(&client, b"request").unwrap();
        }
        net.run_until(SECOND, |_| listener.accept_queue_len() == 1);
        assert!(net.now - start <= Duration::from_millis(expected + 10), "{:?}", net.now - start);
        let from_client = net.cable.take_trace().iter().filter(|p| p.from == 0).count();
        assert_eq!(from_client, 2, "SYN, and one that acknowledges");
    }
}

#[test]
fn a_half_open_connection_stays_with_its_listener_when_the_group_changes() {
    let mut net = net(80, |_| ());
    let listen = |net: &Net| -> io::Result<Arc<Listener>> {
        let mut socket = net.socket(1, Family::V4);
        socket.ip.reuse_port = true;
        net.engine(1).tcp().bind(net.engine(1).core(), &mut socket, "0.0.0.0:80".parse().unwrap())?;
        net.engine(1)
            .with_tcp(net.now, |tcp, turn| tcp.listen(turn, socket, 100, Arc::new(Recorder::default())))
    };
    let first = listen(&net).unwrap();
    let clients: Vec<_> = (0..20).map(|_| connect(&net)).collect();
    net.run_for(Duration::from_millis(15));
    assert_eq!(first.syn_queue_len(), 20);
    // Three more join before the third segments arrive.
    let others: Vec<_> = (0..3).map(|_| listen(&net).unwrap()).collect();
    net.run_for(SECOND);
    assert_eq!(first.accept_queue_len(), 20);
    assert!(clients.iter().all(|client| net.state(client) == State::Established));
    // What is half open at a member that closes is refused when it completes; the rest goes on.
    let more: Vec<_> = (0..40).map(|_| connect(&net)).collect();
    net.run_for(Duration::from_millis(15));
    let lost = others[0].syn_queue_len();
    assert!(lost > 0);
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &others[0]));
    net.run_for(SECOND);
    let established = more.iter().filter(|client| net.state(client) == State::Established).count();
    assert_eq!(established, 40 - lost);
    let accepted: usize = [&first, &others[1], &others[2]].iter().map(|one| one.accept_queue_len()).sum();
    assert_eq!(accepted, 20 + 40 - lost);
    // With cookies it does not matter which member the acknowledgment comes to.
    assert_eq!(others[0].syn_queue_len(), 0);
}

#[test]
fn a_cookie_may_come_back_to_another_member_of_a_group() {
    let mut net = net(81, |config| config.syncookies = SynCookieMode::Always);
    let listen = |net: &Net| {
        let mut socket = net.socket(1, Family::V4);
        socket.ip.reuse_port = true;
        net.engine(1).tcp().bind(net.engine(1).core(), &mut socket, "0.0.0.0:80".parse().unwrap()).unwrap();
        net.engine(1)
            .with_tcp(net.now, |tcp, turn| tcp.listen(turn, socket, 100, Arc::new(Recorder::default())))
            .unwrap()
    };
    let group = [listen(&net), listen(&net), listen(&net)];
    let clients: Vec<_> = (0..30).map(|_| connect(&net)).collect();
    net.run_for(Duration::from_millis(15));
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &group[0]));
    net.run_for(SECOND);
    assert!(clients.iter().all(|client| net.state(client) == State::Established));
    assert_eq!(group[1].accept_queue_len() + group[2].accept_queue_len(), 30);
}

#[test]
fn a_syn_ack_that_the_device_does_not_take_is_sent_by_the_timer() {
    let mut net = Net::pair_with(82, LinkSpec { queue: 5, ..LinkSpec::default() }, |_, _| ());
    let listener = net.listen(1, 80, 100);
    for number in 0..20 {
        net.cable.inject(net.now, 1, &spoofed(number, Flags::SYN, number, 0));
    }
    net.settle();
    assert_eq!((listener.syn_queue_len(), net.engine(1).counters().device_full), (20, 15));
    net.run_for(40 * SECOND);
    assert!(listener.queues().counters.syn_retransmits >= 40);
    net.run_for(40 * SECOND);
    assert_eq!(listener.syn_queue_len(), 0);
}

#[test]
fn nothing_leaks_and_no_counter_drifts_over_many_connections() {
    let mut net = Net::pair_with(
        83,
        LinkSpec { delay: Duration::from_millis(1), ..LinkSpec::default() },
        |_, config| {
            config.time_wait = SECOND;
        },
    );
    let listener = net.listen(1, 80, 16);
    let (mut opened, mut served) = (0u32, 0u32);
    // Clients with their numbers, and whether they have sent them.
    let mut waiting: Vec<(Socket, u32, bool)> = Vec::new();
    let mut servers = Vec::new();
    while served < 2000 {
        // In bursts beyond the backlog, while the acceptor takes ten at a time.
        while waiting.len() < 30 && opened < 2000 {
            waiting.push((connect(&net), opened, false));
            opened += 1;
        }
        net.run_for(Duration::from_millis(20));
        for (client, number, sent) in waiting.iter_mut().filter(|(_, _, sent)| !sent) {
            *sent = net.write(client, &number.to_be_bytes()).is_ok();
        }
        net.run_for(Duration::from_millis(3));
        servers.extend((0..10).map_while(|_| net.accept(1, &listener).ok()));
        for server in std::mem::take(&mut servers) {
            let Ok(bytes) = net.read(&server) else {
                servers.push(server);
                continue;
            };
            let number = u32::from_be_bytes(bytes.try_into().unwrap());
            let at = waiting.iter().position(|(_, other, _)| *other == number).expect("each one once");
            let (client, ..) = waiting.swap_remove(at);
            assert_eq!(client.cell.local_addr().port(), server.cell.remote_addr().port());
            net.write(&server, &[1]).unwrap();
            net.close(server);
            net.run_for(Duration::from_millis(1));
            assert_eq!(net.read(&client).unwrap(), [1]);
            net.close(client);
            served += 1;
        }
    }
    let counted = listener.queues().counters;
    assert_eq!(counted.passive_opens, 2000);
    assert!(counted.listen_overflows > 0, "the queue was full at times");
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
    net.run_for(100 * SECOND);
    assert_empty(net.engine(0));
    assert_empty(net.engine(1));
    let counters = net.engine(1).counters();
    assert_eq!(counters.passive_opens, 2000);
    assert_eq!(counters.listen_drops, counted.listen_drops);
}
