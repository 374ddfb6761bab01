//! Fast Open between two stacks (RFC 7413).

use super::{SECOND, to_host_1};
use crate::config::{Config, FastOpenKey, FastOpenKeys, FastOpenMode};
use crate::stack::testing::{Hop, LinkSpec, Net, Passing, Socket, Verdict};
use crate::stack::{Engine, EngineSetup, Family, FastOpenCache, Listener};
use crate::tcp::{FastOpenFail, State};
use crate::time::Duration;
use crate::wire::{Flags, Options};
use std::io;
use std::sync::Arc;

const RTT: Duration = Duration::from_millis(50);

fn net() -> Net {
    Net::pair(70, LinkSpec { delay: RTT / 2, ..LinkSpec::default() })
}

fn listen(net: &Net, limit: u32) -> Arc<Listener> {
    let listener = net.listen(1, 80, 64);
    listener.with_options(|options| options.fastopen_queue = limit);
    listener
}

/// Connects with `TCP_FASTOPEN_CONNECT`.
fn connect(net: &Net) -> Socket {
    let mut socket = net.socket(0, Family::V4);
    socket.options.fastopen_connect = true;
    net.connect_from(0, socket, to_host_1(80)).unwrap()
}

/// A first connection, which gets a cookie.
fn warm_up(net: &mut Net, listener: &Arc<Listener>) {
    let client = connect(net);
    assert_eq!(net.write(&client, b"too early").unwrap_err().kind(), io::ErrorKind::WouldBlock);
    net.run_for(SECOND);
    let server = net.accept(1, listener).unwrap();
    assert_eq!(net.engine(0).tcp().fast_open_cache().export().len(), 1);
    for socket in [client, server] {
        net.close(socket);
    }
    net.run_for(SECOND);
    net.cable.take_trace();
}

fn wait_for_accept(net: &mut Net, listener: &Arc<Listener>) -> Socket {
    net.run_until(SECOND, |_| listener.accept_queue_len() > 0);
    net.accept(1, listener).unwrap()
}

fn syns(trace: &[Passing], from: usize) -> Vec<(bool, usize)> {
    let of = |packet: &&Passing| packet.from == from && packet.segment().is_syn();
    let what =
        |packet: &Passing| (packet.segment().options.fast_open.is_some(), packet.segment().payload_len);
    trace.iter().filter(of).map(what).collect()
}

fn info(net: &Net, socket: &Socket) -> crate::tcp::TcpInfo {
    net.engine(socket.host).with_tcp(net.now, |tcp, turn| tcp.info(turn, &socket.cell)).unwrap()
}

#[test]
fn data_in_the_syn_is_answered_within_one_round_trip() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    let start = net.now;
    let client = connect(&net);
    assert!(matches!(client.cell.connect_result(), Some(Ok(()))), "connect returns at once");
    assert!(net.cable.take_trace().is_empty(), "and sends nothing");
    assert_eq!(net.write(&client, b"GET /").unwrap(), 5);
    assert!(client.cell.connect_result().is_none());
    let server = wait_for_accept(&mut net, &listener);
    assert_eq!(net.now - start, RTT / 2);
    assert_eq!(net.state(&server), State::SynReceived, "before the third segment");
    assert_eq!(listener.fast_open_queue_len(), 1);
    assert_eq!(net.read(&server).unwrap(), b"GET /");
    assert_eq!(net.write(&server, b"200 OK").unwrap(), 6);
    net.run_until(SECOND, |net| !net.read(&client).unwrap_or_default().is_empty());
    assert_eq!(net.now - start, RTT, "the first byte of the answer");
    net.run_for(SECOND);
    assert_eq!(listener.fast_open_queue_len(), 0);
    assert_eq!([net.state(&client), net.state(&server)], [State::Established; 2]);
    assert!(info(&net, &client).syn_data_acked && info(&net, &server).syn_data_acked);
    let trace = net.cable.take_trace();
    assert_eq!((syns(&trace, 0), syns(&trace, 1)), (vec![(true, 5)], vec![(false, 0)]));
    let (client, server) = (net.engine(0).counters(), net.engine(1).counters());
    assert_eq!((client.fast_open_active, client.fast_open_active_fails), (1, 0));
    assert_eq!((server.fast_open_passive, server.fast_open_cookie_requests), (1, 1));
}

#[test]
fn without_fast_open_it_takes_two() {
    let mut net = net();
    let listener = listen(&net, 16);
    let start = net.now;
    let client = net.connect(0, to_host_1(80)).unwrap();
    net.run_until(SECOND, |_| client.cell.connect_result().is_some());
    net.write(&client, b"GET /").unwrap();
    let server = wait_for_accept(&mut net, &listener);
    net.run_until(SECOND, |net| net.read(&server).is_ok());
    net.write(&server, b"200 OK").unwrap();
    net.run_until(SECOND, |net| net.read(&client).is_ok());
    assert_eq!(net.now - start, 2 * RTT);
}

#[test]
fn a_stale_cookie_costs_a_round_trip_and_is_replaced() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    net.engine(1).tcp().set_fast_open_keys(FastOpenKeys::new(FastOpenKey::new([5; 16])));
    for (acked, active) in [(false, 0), (true, 1)] {
        let client = connect(&net);
        net.write(&client, b"hello").unwrap();
        net.run_for(SECOND);
        let server = net.accept(1, &listener).unwrap();
        assert_eq!(net.read(&server).unwrap(), b"hello", "once");
        assert!(net.read(&server).is_err());
        let info = info(&net, &client);
        let fail = if acked { FastOpenFail::None } else { FastOpenFail::DataNotAcked };
        assert_eq!((info.syn_data_acked, info.fastopen_client_fail), (acked, fail));
        assert_eq!(info.total_retrans, u64::from(!acked), "the data went again");
        assert_eq!(net.engine(0).counters().fast_open_active, active);
    }
    assert_eq!(net.engine(1).counters().fast_open_passive_fails, 1);
}

#[test]
fn a_cookie_of_the_backup_key_works_and_is_replaced() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    let old = net.engine(0).tcp().fast_open_cache().export();
    let keys = net.engine(1).tcp().fast_open_keys().rotated(FastOpenKey::new([6; 16]));
    net.engine(1).tcp().set_fast_open_keys(keys);
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    net.run_for(SECOND);
    assert!(info(&net, &client).syn_data_acked);
    let new = net.engine(0).tcp().fast_open_cache().export();
    assert_ne!(new[0].cookie, old[0].cookie);
    assert_eq!(net.engine(1).counters().fast_open_passive_alt_key, 1);
}

#[test]
fn the_limit_of_waiting_connections_holds() {
    let mut net = net();
    let listener = listen(&net, 2);
    warm_up(&mut net, &listener);
    let clients: Vec<_> = (0..5).map(|_| connect(&net)).collect();
    for client in &clients {
        net.write(client, b"hello").unwrap();
    }
    net.run_for(RTT / 2);
    assert_eq!(listener.fast_open_queue_len(), 2);
    net.run_for(SECOND);
    for _ in &clients {
        let server = net.accept(1, &listener).unwrap();
        assert_eq!(net.read(&server).unwrap(), b"hello");
    }
    let counters = net.engine(1).counters();
    assert_eq!((counters.fast_open_passive, counters.fast_open_listen_overflows), (2, 3));
    assert_eq!(listener.fast_open_queue_len(), 0);
}

#[test]
fn a_reset_by_a_victim_of_forgery_counts_for_a_minute() {
    let mut net = net();
    let listener = listen(&net, 1);
    warm_up(&mut net, &listener);
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    net.run_for(RTT / 2);
    let server = net.accept(1, &listener).unwrap();
    // The client vanishes, and its host knows nothing of it when the SYN-ACK comes.
    net.engine(0).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &client.cell));
    net.run_for(SECOND);
    assert_eq!(net.read(&server).unwrap(), b"hello");
    assert_eq!(net.read(&server).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(listener.fast_open_queue_len(), 1, "it goes on counting");
    let opened = |net: &Net| net.engine(1).counters().fast_open_passive;
    for (wait, expected) in [(30 * SECOND, 1), (31 * SECOND, 2)] {
        net.run_for(wait);
        let client = connect(&net);
        net.write(&client, b"again").unwrap();
        net.run_for(SECOND);
        assert_eq!(opened(&net), expected);
        net.close(client);
        drop(net.accept(1, &listener).unwrap());
    }
}

#[test]
fn what_is_sent_again_is_a_plain_syn() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    net.cable.set_filter(|packet| {
        let data = packet.segment().is_syn() && packet.segment().payload_len > 0;
        if data { Verdict::Drop } else { Verdict::Pass }
    });
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    net.run_for(2 * SECOND);
    let server = net.accept(1, &listener).unwrap();
    assert_eq!(net.read(&server).unwrap(), b"hello");
    assert_eq!(syns(&net.cable.take_trace(), 0), [(true, 5), (false, 0)]);
    assert_eq!(info(&net, &client).fastopen_client_fail, FastOpenFail::SynRetransmitted);
    // The second loss in a row pauses Fast Open for this server.
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    net.run_for(2 * SECOND);
    drop(client);
    net.cable.take_trace();
    let client = connect(&net);
    assert!(client.cell.connect_result().is_none(), "an ordinary handshake");
    net.run_for(SECOND);
    assert_eq!(syns(&net.cable.take_trace(), 0), [(false, 0)]);
}

#[test]
fn a_syn_that_comes_twice_delivers_its_data_once() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    let twice = |packet: &Passing| if packet.from == 0 { Verdict::Twice } else { Verdict::Pass };
    net.cable.set_filter(twice);
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    net.run_for(SECOND);
    assert_eq!(listener.accept_queue_len(), 1);
    let server = net.accept(1, &listener).unwrap();
    assert_eq!(net.read(&server).unwrap(), b"hello");
    assert_eq!(net.read(&server).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert_eq!(net.engine(1).counters().fast_open_passive, 1);
}

#[test]
fn a_lost_syn_ack_is_sent_again_before_the_data_behind_it() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    // Everything that the server sends in the first half second is lost.
    let until = net.now + Duration::from_millis(500);
    net.cable.set_filter(
        move |packet| {
            if packet.from == 1 && packet.at < until { Verdict::Drop } else { Verdict::Pass }
        },
    );
    let server = wait_for_accept(&mut net, &listener);
    net.write(&server, b"answer").unwrap();
    // RFC 6298 §5.7: after a lost SYN-ACK the RTO of data is 3 s.
    net.run_for(5 * SECOND);
    assert_eq!([net.state(&client), net.state(&server)], [State::Established; 2]);
    assert_eq!(net.read(&client).unwrap(), b"answer");
    let trace = net.cable.take_trace();
    let from_server: Vec<_> = trace.iter().filter(|p| p.from == 1).map(|p| p.segment().flags).collect();
    let syn_ack = Flags::SYN.with(Flags::ACK);
    assert_eq!(from_server[..3], [syn_ack, Flags::ACK.with(Flags::PSH), syn_ack], "{from_server:?}");
}

#[test]
fn no_cookie_is_needed_where_both_sides_say_so() {
    let mut net = Net::pair_with(71, LinkSpec::default(), |host, config| {
        config.fastopen = if host == 0 {
            FastOpenMode::CLIENT.with(FastOpenMode::CLIENT_NO_COOKIE)
        } else {
            FastOpenMode::SERVER.with(FastOpenMode::SERVER_ALL).with(FastOpenMode::SERVER_NO_COOKIE)
        };
    });
    let listener = net.listen(1, 80, 8);
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    let server = wait_for_accept(&mut net, &listener);
    assert_eq!(net.read(&server).unwrap(), b"hello");
    assert_eq!(syns(&net.cable.take_trace(), 0), [(false, 5)]);
    net.run_for(SECOND);
    assert!(info(&net, &client).syn_data_acked);
    assert!(net.engine(0).tcp().fast_open_cache().export().is_empty());
}

#[test]
fn more_than_a_segment_would_hold_waits_for_the_handshake() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    let client = connect(&net);
    let bytes: Vec<u8> = (0..5_000u32).map(|n| n as u8).collect();
    let first = net.write(&client, &bytes).unwrap();
    assert_eq!(first, 1460 - 40);
    assert_eq!(net.write(&client, &bytes[first..]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    net.run_for(RTT);
    assert_eq!(net.write(&client, &bytes[first..]).unwrap(), bytes.len() - first);
    net.run_for(SECOND);
    let server = net.accept(1, &listener).unwrap();
    assert_eq!(net.read_available(&server).0, bytes);
}

#[test]
fn what_was_written_is_delivered_though_the_client_closes_at_once() {
    for refused in [false, true] {
        let mut net = net();
        let listener = listen(&net, 16);
        warm_up(&mut net, &listener);
        if refused {
            net.engine(1).tcp().set_fast_open_keys(FastOpenKeys::new(FastOpenKey::new([5; 16])));
        }
        let client = connect(&net);
        net.write(&client, b"fire and forget").unwrap();
        net.close(client);
        net.run_for(SECOND);
        let server = net.accept(1, &listener).unwrap();
        assert_eq!(net.read_available(&server), (b"fire and forget".to_vec(), true), "refused: {refused}");
        net.close(server);
        net.run_for(SECOND);
        assert_eq!((net.engine(0).tcp().connections(), net.engine(0).tcp().orphans()), (0, 0));
        assert_eq!(net.engine(1).tcp().connections(), 0);
    }
}

#[test]
fn shutting_down_what_was_not_sent_yet_sends_an_empty_stream() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    let client = connect(&net);
    net.engine(0)
        .with_tcp(net.now, |tcp, turn| tcp.shutdown(turn, &client.cell, std::net::Shutdown::Write))
        .unwrap();
    assert_eq!(net.write(&client, b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    net.run_for(SECOND);
    let server = net.accept(1, &listener).unwrap();
    assert_eq!(net.read_available(&server), (vec![], true));
}

#[test]
fn an_unused_connection_leaves_nothing() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    net.run_for(61 * SECOND);
    let client = connect(&net);
    net.run_for(10 * SECOND);
    assert!(net.cable.take_trace().is_empty());
    net.close(client);
    super::assert_empty(net.engine(0));
}

#[test]
fn a_listener_that_closes_resets_what_nobody_accepted() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    net.run_for(RTT / 2);
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
    net.run_for(SECOND);
    assert_eq!(net.read(&client).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!((listener.fast_open_queue_len(), net.engine(1).tcp().connections()), (0, 0));
}

#[test]
fn stacks_share_a_cache() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    let exported = net.engine(0).tcp().fast_open_cache().export();
    let cache = FastOpenCache::new(4, Duration::from_secs(3600));
    let stacks = [(), ()].map(|()| {
        let setup = EngineSetup { fast_open_cache: Some(Arc::clone(&cache)), ..EngineSetup::default() };
        Engine::with_setup(Config::default(), Vec::new(), setup).unwrap()
    });
    stacks[0].tcp().fast_open_cache().import(exported.clone());
    assert_eq!(stacks[1].tcp().fast_open_cache().export(), exported);
}

#[test]
fn a_syn_with_data_that_is_too_long_for_the_path_goes_again_without() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    net.cable.set_hop(Some(Hop { mtu: 840, claims: Some(840) }));
    let client = connect(&net);
    let start = net.now;
    let written = net.write(&client, &[7; 1000]).unwrap();
    assert_eq!(written, 1000);
    net.run_until(SECOND, |net| net.state(&client) == State::Established);
    // The router sits at our door; its answer takes half of a round trip here.
    assert_eq!(net.now - start, RTT / 2 + RTT);
    let server = wait_for_accept(&mut net, &listener);
    net.run_for(SECOND);
    assert_eq!(net.read(&server).unwrap(), [7; 1000]);
    let trace = net.cable.take_trace();
    assert_eq!(syns(&trace, 0), [(true, 1000), (false, 0)]);
    let mss = trace.iter().filter(|packet| packet.segment().is_syn() && packet.from == 0).nth(1);
    assert_eq!(mss.and_then(|packet| packet.segment().options.mss), Some(800), "what the path takes");
    assert_eq!(info(&net, &client).pmtu, 840);
}

#[test]
fn a_replayed_syn_delivers_nothing_more_while_its_connection_is_known() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    net.run_for(61 * SECOND);
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    let server = wait_for_accept(&mut net, &listener);
    assert_eq!(net.read(&server).unwrap(), b"hello");
    let syn = net.cable.take_trace().remove(0).forged(|_, _| ());
    let opened = |net: &Net| net.engine(1).counters().fast_open_passive;
    for state in [State::SynReceived, State::Established] {
        assert_eq!(net.state(&server), state);
        net.cable.inject(net.now, 1, &syn);
        net.settle();
        assert_eq!(net.read(&server).unwrap_err().kind(), io::ErrorKind::WouldBlock, "{state:?}");
        net.run_for(SECOND);
    }
    assert_eq!([net.state(&client), net.state(&server)], [State::Established; 2]);
    net.close(server);
    net.run_for(SECOND);
    net.close(client);
    net.run_for(SECOND);
    assert_eq!(net.engine(1).tcp().time_waits(), 1);
    net.cable.inject(net.now, 1, &syn);
    net.run_for(SECOND);
    assert_eq!((opened(&net), listener.accept_queue_len()), (1, 0), "TIME-WAIT knows it, too");
    // Nothing is left that could know it: the limit of what a server can do (RFC 7413 section 2.1).
    net.run_for(61 * SECOND);
    assert_eq!(net.engine(1).tcp().time_waits(), 0);
    net.cable.inject(net.now, 1, &syn);
    net.settle();
    assert_eq!((opened(&net), listener.accept_queue_len(), listener.fast_open_queue_len()), (2, 1, 1));
    // The client knows nothing of it. Its reset comes before accept and counts no longer.
    net.run_for(SECOND);
    assert_eq!(listener.fast_open_queue_len(), 0);
}

#[test]
fn a_syn_with_more_than_the_mss_is_an_ordinary_one() {
    let mut net = net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    for (len, opens) in [(1461, false), (1460, true)] {
        let before = net.engine(1).counters();
        net.cable.set_filter(|packet| if packet.from == 0 { Verdict::Drop } else { Verdict::Pass });
        let client = connect(&net);
        net.write(&client, b"hello").unwrap();
        let syn = net.cable.take_trace().remove(0);
        net.cable.inject(net.now, 1, &syn.forged(|_, payload| *payload = vec![7; len]));
        net.settle();
        let after = net.engine(1).counters();
        assert_eq!(after.fast_open_passive - before.fast_open_passive, u64::from(opens), "{len}");
        assert_eq!(
            after.fast_open_passive_fails - before.fast_open_passive_fails,
            u64::from(!opens),
            "{len}"
        );
        assert_eq!(listener.fast_open_queue_len(), usize::from(opens), "{len}");
        let syn_ack = net.cable.take_trace().pop().unwrap();
        let acked = if opens { 1 + len as u32 } else { 1 };
        assert_eq!(syn_ack.segment().ack, syn.segment().seq + acked, "{len}");
    }
}

/// A net with pauses of Fast Open after a black hole.
fn net_with_pause() -> Net {
    Net::pair_with(72, LinkSpec { delay: RTT / 2, ..LinkSpec::default() }, |_, config| {
        config.fastopen_blackhole_timeout = 100 * SECOND;
        config.fin_timeout = 2 * SECOND;
    })
}

/// A connection that Fast Open opened and whose server says nothing after the SYN-ACK.
fn silenced(net: &mut Net, listener: &Arc<Listener>) -> (Socket, Socket) {
    net.cable.clear_filter();
    let client = connect(net);
    net.write(&client, b"hello").unwrap();
    net.run_for(2 * RTT);
    let server = net.accept(1, listener).unwrap();
    assert_eq!((net.state(&client), net.state(&server)), (State::Established, State::Established));
    assert!(info(net, &client).syn_data_acked);
    (client, server)
}

/// A bare segment of `server` to `client` that comes `ahead` bytes too early.
fn ahead_of_time(net: &mut Net, client: &Socket, flags: Flags, ahead: u32) {
    let trace = net.cable.take_trace();
    let syn_ack = trace.iter().rev().find(|packet| packet.from == 1 && packet.segment().is_syn()).unwrap();
    let packet = syn_ack.forged(|segment, _| {
        let options = Options { timestamps: segment.options.timestamps, ..Options::default() };
        (segment.flags, segment.seq, segment.options) = (flags, segment.seq + 1 + ahead, options);
    });
    net.cable.inject(net.now, 0, &packet);
    net.settle();
    assert_eq!(net.state(client), State::Established, "nothing is known yet");
}

fn pauses(net: &Net) -> u64 {
    net.engine(0).counters().fast_open_blackhole
}

/// Whether a connection now would use Fast Open.
fn is_paused(net: &mut Net) -> bool {
    let client = connect(net);
    let paused = client.cell.connect_result().is_none();
    net.engine(0).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &client.cell));
    paused
}

#[test]
fn a_lone_fin_that_comes_too_early_pauses_fast_open_for_longer_each_time() {
    let mut net = net_with_pause();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    for (times, expected) in [(1, 100), (2, 200), (3, 400)] {
        let (client, server) = silenced(&mut net, &listener);
        // The answer before it was swallowed.
        ahead_of_time(&mut net, &client, Flags::FIN.with(Flags::ACK), 700);
        assert_eq!(pauses(&net), times - 1, "the rest may still come");
        net.engine(0).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &client.cell));
        assert_eq!(pauses(&net), times);
        let wait = Duration::from_secs(expected);
        drop(server);
        net.run_for(wait - SECOND);
        assert!(is_paused(&mut net));
        net.run_for(SECOND);
        assert!(!is_paused(&mut net));
    }
}

#[test]
fn a_lone_fin_is_found_where_the_application_closes_in_order() {
    let mut net = net_with_pause();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    let (client, server) = silenced(&mut net, &listener);
    ahead_of_time(&mut net, &client, Flags::FIN.with(Flags::ACK), 700);
    net.close(client);
    net.run_for(10 * SECOND);
    assert_eq!(pauses(&net), 1);
    assert_eq!(net.engine(0).tcp().connections(), 0);
    drop(server);
}

#[test]
fn a_fin_in_its_place_or_behind_data_pauses_nothing() {
    for data in [false, true] {
        let mut net = net_with_pause();
        let listener = listen(&net, 16);
        warm_up(&mut net, &listener);
        let (client, server) = silenced(&mut net, &listener);
        if data {
            net.write(&server, b"answer").unwrap();
            net.run_for(SECOND);
            ahead_of_time(&mut net, &client, Flags::FIN.with(Flags::ACK), 700);
        } else {
            net.close(server);
            net.run_for(SECOND);
        }
        net.engine(0).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &client.cell));
        net.run_for(SECOND);
        assert_eq!(pauses(&net), 0, "data: {data}");
        assert!(!is_paused(&mut net));
    }
}

#[test]
fn a_reset_that_comes_too_early_pauses_fast_open_and_success_ends_what_follows() {
    let mut net = net_with_pause();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    // A connection from before, which works and outlives the pause.
    let (old, old_server) = silenced(&mut net, &listener);
    net.write(&old_server, b"answer").unwrap();
    net.run_for(SECOND);
    net.cable.take_trace();
    let fails = |net: &mut Net| {
        let (client, _server) = silenced(net, &listener);
        ahead_of_time(net, &client, Flags::RST, 700);
        net.engine(0).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &client.cell));
    };
    fails(&mut net);
    assert_eq!(pauses(&net), 1, "once for one connection");
    net.engine(0).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &old.cell));
    assert!(is_paused(&mut net), "what worked before says nothing of now");
    net.run_for(101 * SECOND);
    fails(&mut net);
    net.run_for(101 * SECOND);
    assert!(is_paused(&mut net), "200 s");
    net.run_for(100 * SECOND);
    let (client, server) = silenced(&mut net, &listener);
    net.write(&server, b"answer").unwrap();
    net.run_for(SECOND);
    net.close(client);
    net.close(server);
    net.run_for(SECOND);
    fails(&mut net);
    net.run_for(101 * SECOND);
    assert!(!is_paused(&mut net), "100 s again");
}

#[test]
fn time_outs_in_a_row_pause_fast_open() {
    let mut net = net_with_pause();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    let (client, _server) = silenced(&mut net, &listener);
    net.cable.set_filter(|packet| if packet.from == 1 { Verdict::Drop } else { Verdict::Pass });
    net.write(&client, b"swallowed").unwrap();
    net.run_until(60 * SECOND, |net| pauses(net) > 0);
    assert_eq!(info(&net, &client).backoff, 3, "the third one");
    assert!(is_paused(&mut net));
    // All of it is off by default.
    let mut net = self::net();
    let listener = listen(&net, 16);
    warm_up(&mut net, &listener);
    let (client, _server) = silenced(&mut net, &listener);
    net.cable.set_filter(|packet| if packet.from == 1 { Verdict::Drop } else { Verdict::Pass });
    net.write(&client, b"swallowed").unwrap();
    net.run_for(60 * SECOND);
    assert_eq!(pauses(&net), 0);
    assert!(!is_paused(&mut net));
}
