//! Threads that looked at the clock before others and come to a lock after them.

use super::{SECOND, to_host_1};
use crate::stack::testing::{LinkSpec, Net, Passing, Verdict};
use crate::tcp::State;
use crate::time::{Duration, Instant};
use std::io::IoSlice;

/// The timestamps that a host sent since the last call, which must not go back: the peer would drop what is
/// older than what it has seen (PAWS).
#[track_caller]
fn assert_in_order(net: &Net, host: usize) -> Vec<Passing> {
    let sent: Vec<_> = net.cable.take_trace().into_iter().filter(|packet| packet.from == host).collect();
    let stamps: Vec<_> =
        sent.iter().map(|packet| packet.segment().options.timestamps.expect("timestamps").tsval).collect();
    assert!(stamps.len() > 1 && stamps.is_sorted(), "{stamps:?}");
    sent
}

/// Lets a thread that looked at the clock at `late` take a packet.
fn arrives_late(net: &mut Net, late: Instant, to: usize, packet: &[u8]) {
    let now = std::mem::replace(&mut net.now, late);
    net.cable.inject(late, to, packet);
    net.settle();
    net.now = now;
}

#[test]
fn the_segments_of_a_connection_are_not_dated_back() {
    let mut net = Net::pair(240, LinkSpec::default());
    let (client, server) = net.connected();
    let engine = net.engine(0);
    engine.with_tcp(net.now, |tcp, turn| tcp.with_options(turn, &client.cell, |on| on.nodelay = true));
    let late = net.now;
    net.run_for(SECOND);
    let _ = net.cable.take_trace();
    net.write(&client, b"one ").unwrap();
    for bytes in [b"two ", b"more"] {
        let write = |now| {
            net.engine(0).with_tcp(now, |tcp, turn| tcp.write(turn, &client.cell, &[IoSlice::new(bytes)]))
        };
        write(late).unwrap();
    }
    assert_in_order(&net, 0);
    net.run_for(SECOND / 20);
    assert_eq!(net.read_available(&server).0, b"one two more", "without a retransmission");
}

#[test]
fn the_window_update_of_a_late_reader_counts() {
    let mut net = Net::pair_with(241, LinkSpec::default(), |_, config| {
        (config.recv_buffer_initial, config.recv_buffer_max) = (8_192, 8_192);
    });
    let (client, server) = net.connected();
    let late = net.now;
    net.run_for(SECOND);
    net.write(&client, &[1; 20_000]).unwrap();
    // The window is closed, but not for so long that it is probed.
    net.run_for(SECOND / 10);
    let mut to = vec![0; 8_192];
    let mut read = |net: &Net, now| {
        let mut to = [std::io::IoSliceMut::new(&mut to)];
        net.engine(1).with_tcp(now, |tcp, turn| tcp.read(turn, &server.cell, &mut to)).unwrap()
    };
    let first = read(&net, late);
    net.run_for(SECOND / 20);
    assert!(read(&net, net.now) > 0, "after {first} bytes");
}

#[test]
fn time_wait_answers_with_later_timestamps() {
    let mut net = Net::pair(242, LinkSpec::default());
    let (client, server) = net.connected();
    let late = net.now;
    net.run_for(SECOND);
    let _ = net.cable.take_trace();
    net.close(client);
    net.run_for(SECOND / 10);
    net.close(server);
    net.run_for(SECOND / 10);
    assert_eq!(net.engine(0).tcp().time_waits(), 1);
    let trace = net.cable.take_trace();
    let fin = trace.iter().rfind(|packet| packet.from == 1 && packet.segment().is_fin()).unwrap();
    let again = fin.bytes.clone();
    let before = trace.iter().rfind(|packet| packet.from == 0).unwrap().segment().options.timestamps.unwrap();
    arrives_late(&mut net, late, 0, &again);
    let answers = net.cable.take_trace();
    let answer = answers.iter().find(|packet| packet.from == 0).expect("the FIN is acknowledged again");
    assert!(answer.segment().options.timestamps.unwrap().tsval >= before.tsval);
}

#[test]
fn a_half_open_connection_answers_with_later_timestamps() {
    let mut net =
        Net::pair_with(243, LinkSpec::default(), |_, config| config.challenge_ack_interval = Duration::ZERO);
    let _listener = net.listen(1, 80, 8);
    let late = net.now;
    net.run_for(SECOND);
    net.cable.set_filter(|packet| if packet.from == 1 { Verdict::Drop } else { Verdict::Pass });
    let client = net.connect(0, to_host_1(80)).unwrap();
    net.run_for(SECOND / 10);
    let syn = net.cable.take_trace().remove(0).bytes;
    let twice = |net: &mut Net| {
        let now = net.now;
        net.cable.inject(now, 1, &syn);
        net.settle();
        arrives_late(net, late, 1, &syn);
    };
    twice(&mut net);
    assert_in_order(&net, 1);
    // The acknowledgment must echo one of the timestamps that were sent.
    net.cable.clear_filter();
    net.run_for(2 * SECOND);
    assert_eq!(net.state(&client), State::Established);
}
