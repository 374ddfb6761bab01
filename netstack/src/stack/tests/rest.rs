//! Connections at rest.

use super::SECOND;
use crate::config::{EcnNegotiation, MemoryBudget, MtuProbing};
use crate::memory::Charge;
use crate::stack::Family;
use crate::stack::testing::{LinkSpec, Net, Socket, Verdict, address};
use crate::tcp::{SocketOptions, State};
use crate::time::Duration;
use std::sync::Arc;

/// Longer than it takes until a connection is put to rest.
const LONG: Duration = Duration::from_secs(7);

fn is_at_rest(socket: &Socket) -> bool {
    socket.cell.is_at_rest()
}

fn used(net: &Net, host: usize) -> usize {
    net.engine(host).core().memory_use().used
}

#[test]
fn a_connection_rests_until_something_happens() {
    let mut net = Net::pair(1, LinkSpec::default());
    let (client, server) = net.connected();
    let payload: Vec<u8> = (0..40_000).map(|n| n as u8).collect();
    let awake = used(&net, 1);
    for round in 0..3 {
        assert!(!is_at_rest(&client) && !is_at_rest(&server), "{round}");
        assert_eq!(net.transfer(&client, &server, &payload, SECOND), payload);
        assert_eq!(net.transfer(&server, &client, &payload[..999], SECOND), &payload[..999]);
        net.run_for(LONG);
        assert!(is_at_rest(&client) && is_at_rest(&server), "{round}");
        assert!(used(&net, 1) + 1_500 < awake, "{} of {awake} bytes", used(&net, 1));
        // Who looks sees all of it, and leaves it at rest.
        assert_eq!(net.state(&server), State::Established);
        let info = net.engine(1).with_tcp(net.now, |tcp, turn| tcp.info(turn, &server.cell));
        assert_eq!(info.map(|info| info.bytes_received), Some(40_001 * (round + 1) - 1));
        assert!(is_at_rest(&server));
        assert_eq!(net.write(&client, b"x").unwrap(), 1);
        assert!(!is_at_rest(&client) && is_at_rest(&server), "what is sent wakes the sender");
        net.settle();
        net.run_for(Duration::from_millis(100));
        assert!(!is_at_rest(&server), "and what arrives the receiver");
        assert_eq!(net.read(&server).unwrap(), b"x");
    }
    net.close(client);
    net.run_for(SECOND);
    assert!(net.read(&server).unwrap().is_empty(), "the end of the stream");
}

#[test]
fn a_connection_on_which_nothing_was_ever_said_rests_as_well() {
    let mut net = Net::pair(2, LinkSpec::default());
    let (client, server) = net.connected();
    net.run_for(LONG);
    assert!(is_at_rest(&client) && is_at_rest(&server));
    assert_eq!(net.next_deadline(), None, "nothing is left to be done");
    net.close(server);
    net.run_for(SECOND);
    assert_eq!(net.state(&client), State::CloseWait);
}

#[test]
fn what_waits_for_something_does_not_rest() {
    let mut net = Net::pair(3, LinkSpec::default());
    let (client, server) = net.connected();
    // Nobody reads.
    net.write(&client, b"unread").unwrap();
    net.run_for(LONG);
    assert!(!is_at_rest(&server) && is_at_rest(&client));
    assert_eq!(net.read(&server).unwrap(), b"unread");
    net.run_for(LONG);
    assert!(is_at_rest(&server), "now it was read");
    // Nobody answers.
    net.cable.set_filter(|_| Verdict::Drop);
    net.write(&client, b"lost").unwrap();
    net.run_for(LONG);
    assert!(!is_at_rest(&client));
    net.cable.clear_filter();
    net.run_for(20 * SECOND);
    assert_eq!(net.read(&server).unwrap(), b"lost");
}

#[test]
fn keep_alive_goes_on_at_rest() {
    let mut net = Net::pair(4, LinkSpec::default());
    let (client, server) = net.connected();
    net.engine(0).with_tcp(net.now, |tcp, turn| {
        tcp.with_options(turn, &client.cell, |options: &mut SocketOptions| {
            options.keepalive = true;
            options.keepalive_time = 30 * SECOND;
            options.keepalive_interval = 2 * SECOND;
            options.keepalive_retries = 3;
        })
    });
    net.run_for(20 * SECOND);
    assert!(is_at_rest(&client) && is_at_rest(&server));
    let sent = net.cable.take_trace().len();
    net.run_for(20 * SECOND);
    assert!(net.cable.take_trace().len() >= 2, "a probe and its answer, after {sent} packets");
    assert_eq!(net.state(&client), State::Established);
    net.run_for(LONG);
    assert!(is_at_rest(&client));
    net.cable.set_filter(|_| Verdict::Drop);
    net.run_for(60 * SECOND);
    assert_eq!(net.state(&client), State::Closed, "the peer is gone");
}

#[test]
fn thousands_at_rest_take_little_and_end_as_others() {
    let mut net = Net::pair(5, LinkSpec::default());
    let listener = net.listen(1, 80, 128);
    let sockets: Vec<_> = (0..200).map(|_| net.connected_to(&listener)).collect();
    let awake = used(&net, 1);
    net.run_for(LONG);
    let at_rest = used(&net, 1);
    assert!(at_rest * 2 < awake, "{at_rest} and {awake} bytes");
    assert!(sockets.iter().all(|(client, server)| is_at_rest(client) && is_at_rest(server)));
    let rows = net.engine(1).with_tcp(net.now, |tcp, turn| tcp.sockets(turn.now));
    assert!(rows.len() >= 200);
    assert_eq!(used(&net, 1), at_rest, "who lists them leaves them at rest");
    for (client, server) in sockets {
        net.close(client);
        net.close(server);
    }
    net.run_for(120 * SECOND);
    assert!(net.connect(0, (address(1, Family::V4), 80).into()).is_ok());
}

#[test]
fn the_memory_of_one_that_was_put_to_rest_is_that_of_the_next_one_that_wakes() {
    let mut net = Net::pair(6, LinkSpec::default());
    let listener = net.listen(1, 80, 128);
    let sockets: Vec<_> = (0..256).map(|_| net.connected_to(&listener)).collect();
    let kept = |net: &Net| net.engine(1).with_tcp(net.now, |tcp, _| tcp.kept_spares());
    let say = |net: &mut Net, count: usize| {
        for (client, server) in &sockets[..count] {
            assert_eq!(net.transfer(client, server, b"a word", SECOND), b"a word");
        }
    };
    say(&mut net, sockets.len());
    net.run_for(LONG);
    assert_eq!(kept(&net), (4, 0), "as many as there may be beside 256");
    let (counted, first) = (used(&net, 1), &sockets[0].1.cell);
    // Who looks at one wakes it, in the memory of another.
    assert!(first.queue_memory() > 0, "and its queues are in theirs");
    assert_eq!(kept(&net), (4, 0));
    say(&mut net, 3);
    assert_eq!(kept(&net), (1, 3));
    net.run_for(LONG);
    assert_eq!(kept(&net), (4, 0), "and back");
    say(&mut net, 6);
    assert_eq!(kept(&net), (0, 3), "of those at rest there may be three beside 250");
    net.run_for(LONG);
    assert!(sockets.iter().all(|(client, server)| is_at_rest(client) && is_at_rest(server)));
    // Each of a kind is counted where there was one.
    assert!(used(&net, 1) < counted + 4 * 512, "{} after {counted} bytes", used(&net, 1));
    for (client, server) in sockets {
        net.close(client);
        net.close(server);
    }
    net.run_for(120 * SECOND);
    assert_eq!(kept(&net), (0, 0), "a stack without connections keeps none");
}

#[test]
fn queues_keep_their_memory_until_the_connection_rests_unless_there_is_little() {
    let mut net = Net::pair_with(7, LinkSpec::default(), |_, config| {
        config.memory = Some(MemoryBudget { low: 1 << 20, pressure: 2 << 20, high: 64 << 20 });
    });
    let (client, server) = net.connected();
    for pressed in [false, true] {
        assert_eq!(net.transfer(&client, &server, b"a word", SECOND), b"a word");
        let memory = Arc::clone(net.engine(0).core().memory());
        let more = Charge::new(&memory, if pressed { 3 << 20 } else { 0 });
        assert_eq!(memory.is_pressed(), pressed);
        assert!(client.cell.queue_memory() > 0);
        net.run_for(3 * SECOND);
        assert!(!is_at_rest(&client));
        assert_eq!(client.cell.queue_memory() == 0, pressed);
        drop(more);
        net.run_for(LONG);
        assert!(is_at_rest(&client) && client.cell.queue_memory() == 0);
    }
}

/// Before a connection is put to rest it is compared with one that was: here with all there is to compare.
#[test]
fn every_kind_of_connection_is_the_same_when_it_was_woken() {
    let payload: Vec<u8> = (0..300_000u32).map(|n| n.wrapping_mul(n) as u8).collect();
    for (seed, congestion) in ["cubic", "reno", "bbr"].into_iter().enumerate() {
        for ecn in [EcnNegotiation::Off, EcnNegotiation::Classic, EcnNegotiation::Accurate] {
            let mut net = Net::pair_with(60 + seed as u64, LinkSpec::default(), |host, config| {
                config.congestion = congestion.parse().unwrap();
                config.ecn = ecn;
                config.timestamps = host == 0 || congestion != "reno";
                config.sack = congestion != "reno" || ecn != EcnNegotiation::Off;
                config.mtu_probing = if host == 0 { MtuProbing::Always } else { MtuProbing::Off };
            });
            let (client, server) = net.connected();
            net.engine(1).with_tcp(net.now, |tcp, turn| {
                tcp.with_options(turn, &server.cell, |options: &mut SocketOptions| {
                    options.nodelay = true;
                    options.linger = Some(3 * SECOND);
                    options.user_timeout = Some(90 * SECOND);
                    options.notsent_lowat = Some(10_000);
                    options.owner = 7;
                })
            });
            for round in 0..4 {
                // Some packets are lost, and some are late.
                net.cable.set_filter(move |passing| match passing.number % 53 {
                    17 if round > 0 => Verdict::Drop,
                    30 if round > 1 => Verdict::Delay(Duration::from_millis(15)),
                    _ => Verdict::Pass,
                });
                assert_eq!(net.transfer(&client, &server, &payload, 60 * SECOND), payload);
                assert_eq!(net.transfer(&server, &client, &payload, 60 * SECOND), payload);
                net.cable.clear_filter();
                net.run_for(10 * SECOND);
                assert!(is_at_rest(&client) && is_at_rest(&server), "{congestion} {ecn:?} {round}");
                let owner = net
                    .engine(1)
                    .with_tcp(net.now, |tcp, turn| tcp.sockets(turn.now).iter().map(|row| row.owner).max());
                assert_eq!(owner, Some(7), "options are as they were set");
            }
        }
    }
}
