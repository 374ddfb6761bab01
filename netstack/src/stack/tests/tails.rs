//! The end of a large write, which is less than the device takes at once: it waits for a moment for what is written next.

use super::SECOND;
use crate::stack::testing::{self, LinkSpec, Net, QUEUE, Socket, receive};
use crate::time::Duration;
use crate::wire::Flags;

const BLOCK: usize = 65_536;

/// A connection over a device that cuts segments, whose congestion window has grown. With Nagle's algorithm or without.
fn opened(nagle: bool) -> (Net, Socket, Socket) {
    let mut net = Net::pair(1, LinkSpec { offloads: true, ..LinkSpec::default() });
    let (client, server) = net.connected();
    let data = vec![1; 1_000_000];
    assert_eq!(net.transfer(&client, &server, &data, 10 * SECOND).len(), data.len());
    net.engine(0).with_tcp(net.now, |tcp, turn| {
        tcp.with_options(turn, &client.cell, |options| options.nodelay = !nagle)
    });
    net.cable.take_trace();
    (net, client, server)
}

/// Payload bytes of each packet that the client has sent since the last call.
fn sent(net: &Net) -> Vec<usize> {
    let all = net.cable.take_trace();
    all.iter().filter(|one| one.from == 0).map(|one| one.segment().payload_len).collect()
}

/// The cells that wait for the client's device have their turn.
fn have_turn(net: &Net) {
    testing::have_turn(net.engine(0), net.now);
}

#[test]
fn it_joins_the_next_write_and_leaves_with_its_turn() {
    let (mut net, client, server) = opened(false);
    let block = vec![2; BLOCK];
    assert_eq!(net.write(&client, &block).unwrap(), BLOCK);
    let first = sent(&net);
    assert!(first.len() == 1 && first[0] < BLOCK, "{first:?}");
    let tail = BLOCK - first[0];
    // The next one starts with what is left of the first, and leaves more: together they are more than a segment.
    for _ in 0..4 {
        assert_eq!(net.write(&client, &block).unwrap(), BLOCK);
        assert_eq!(sent(&net), first);
    }
    assert!(5 * tail > 1460);
    have_turn(&net);
    assert_eq!(sent(&net), [5 * tail]);
    have_turn(&net);
    assert_eq!(sent(&net), [0; 0]);
    net.run_for(SECOND);
    assert_eq!(net.read_available(&server).0.len(), 5 * BLOCK);
}

#[test]
fn what_nagles_algorithm_leaves_over_does_not_make_it_a_packet() {
    let (net, client, _server) = opened(true);
    let mut packets = Vec::new();
    for _ in 0..8 {
        assert_eq!(net.write(&client, &[2; BLOCK]).unwrap(), BLOCK);
        packets.append(&mut sent(&net));
    }
    assert!(packets.len() == 8 && packets.iter().all(|len| *len == packets[0]), "{packets:?}");
}

#[test]
fn an_acknowledgment_that_comes_before_its_turn_does_not_take_it_along() {
    let (mut net, client, server) = opened(false);
    assert_eq!(net.transfer(&client, &server, &[1], SECOND), [1]);
    let trace = net.cable.take_trace();
    let ack = trace.iter().rfind(|one| one.from == 1).expect("an acknowledgment");
    assert_eq!(net.write(&client, &vec![2; BLOCK]).unwrap(), BLOCK);
    let trace = net.cable.take_trace();
    let [first] = &trace[..] else { panic!("{} packets", trace.len()) };
    let first_len = first.segment().payload_len;
    let ack = ack.forged(|segment, _| segment.ack = first.segment().seq + first_len as u32);
    receive(net.engine(0), net.now, &ack);
    assert_eq!(sent(&net), [0; 0], "it has a turn in a moment");
    have_turn(&net);
    assert_eq!(sent(&net), [BLOCK - first_len]);
}

#[test]
fn a_writer_that_goes_on_after_its_turn_keeps_it_for_one_more() {
    let (net, client, _server) = opened(false);
    assert_eq!(net.write(&client, &vec![2; BLOCK]).unwrap(), BLOCK);
    let first = sent(&net)[0];
    client.cell.writes_on();
    have_turn(&net);
    assert_eq!(sent(&net), [0; 0], "its writer comes next");
    have_turn(&net);
    assert_eq!(sent(&net), [BLOCK - first], "its writer has not come");
}

#[test]
fn what_is_small_never_waits() {
    let (net, client, _server) = opened(false);
    for len in [1, 100, 1460, 20_000, 60_000] {
        assert_eq!(net.write(&client, &vec![2; len]).unwrap(), len);
        assert_eq!(sent(&net), [len]);
        assert!(!net.engine(0).has_waiting(QUEUE), "nothing is left of {len} bytes");
    }
}

#[test]
fn a_reset_does_not_wait_for_its_turn() {
    let (net, client, _server) = opened(false);
    assert_eq!(net.write(&client, &vec![2; BLOCK]).unwrap(), BLOCK);
    assert!(sent(&net)[0] < BLOCK, "the end waits");
    net.engine(0).with_tcp(net.now, |tcp, turn| {
        tcp.with_options(turn, &client.cell, |options| options.linger = Some(Duration::ZERO))
    });
    net.close(client);
    let trace = net.cable.take_trace();
    let [reset] = &trace[..] else { panic!("{} packets", trace.len()) };
    assert!(reset.segment().flags.contains(Flags::RST));
}
