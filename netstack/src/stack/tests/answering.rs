//! An acknowledgment of a small request that an answer may carry ([`Batch::let_answers_go_first`]).

use crate::readiness::Events;
use crate::stack::testing::{LinkSpec, Net, Passing, Socket, Verdict};
use crate::stack::{Batch, Engine};
use crate::time::Duration;
use crate::wire::Flags;
use std::sync::Arc;

/// A young connection from host 0 to host 1, whose driver lets answers go first.
struct Young {
    net: Net,
    client: Socket,
    server: Socket,
    batch: Batch,
}

impl Young {
    fn new(seed: u64) -> Self {
        let mut net = Net::pair(seed, LinkSpec::default());
        let (client, server) = net.connected();
        let _ = net.cable.take_trace();
        let mut batch = Batch::new();
        batch.let_answers_go_first();
        Self { net, client, server, batch }
    }

    fn engine(&self) -> Arc<Engine> {
        Arc::clone(self.net.engine(1))
    }

    /// The client writes, and all that arrives at the server is one batch.
    fn request(&mut self, bytes: &[u8]) {
        assert_eq!(self.net.write(&self.client, bytes).unwrap(), bytes.len());
        self.net.now += Duration::from_millis(10);
        let engine = self.engine();
        let queue = engine.core().queues().next().unwrap();
        loop {
            let mut packet = engine.core().pool().take();
            let Ok(meta) = engine.core().device(0).unwrap().receive(self.net.now, 0, &mut packet) else {
                break;
            };
            engine.on_packet(self.net.now, queue, packet, meta, &mut self.batch);
        }
        self.end_batch();
    }

    fn end_batch(&mut self) {
        let engine = self.engine();
        engine.end_batch(self.net.now, &mut self.batch);
        self.batch.deliver(&engine);
    }

    /// What the server has sent since the last call.
    fn sent(&self) -> Vec<Passing> {
        sent_by_server(&self.net)
    }

    /// The lengths and flags of that.
    fn sent_segments(&self) -> Vec<(usize, Flags)> {
        self.sent().iter().map(|passing| (passing.segment().payload_len, passing.segment().flags)).collect()
    }
}

fn sent_by_server(net: &Net) -> Vec<Passing> {
    net.cable.take_trace().into_iter().filter(|passing| passing.from == 1).collect()
}

#[test]
fn an_answer_carries_the_acknowledgment_of_a_request() {
    let mut young = Young::new(61);
    let _ = young.server.events.take();
    young.request(b"request");
    assert!(young.batch.has_held_back());
    assert!(young.server.events.take().contains(Events::READABLE));
    // The call that reads does not send it.
    assert_eq!(young.net.read(&young.server).unwrap(), b"request");
    assert_eq!(young.sent_segments(), []);
    young.net.write(&young.server, b"answer").unwrap();
    let sent = young.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].segment().payload_len, 6);
    young.end_batch();
    assert_eq!(young.sent_segments(), []);
    assert!(!young.batch.has_held_back());
    young.net.run_for(Duration::from_millis(100));
    assert_eq!(young.net.read(&young.client).unwrap(), b"answer");
}

#[test]
fn without_an_answer_the_acknowledgment_leaves_with_the_next_batch() {
    for reads in [true, false] {
        let mut young = Young::new(62);
        young.request(b"request");
        if reads {
            assert_eq!(young.net.read(&young.server).unwrap(), b"request");
        }
        assert_eq!(young.sent_segments(), []);
        // There is no packet in it.
        young.end_batch();
        assert_eq!(young.sent_segments(), [(0, Flags::ACK)]);
        assert!(!young.batch.has_held_back());
    }
}

/// The next request comes before the driver could end another batch: one acknowledgment for both, now.
#[test]
fn an_acknowledgment_is_held_back_once() {
    let mut young = Young::new(63);
    young.request(b"request");
    young.request(b"another");
    let sent = young.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].segment().payload_len, 0);
    assert!(!young.batch.has_held_back());
}

#[test]
fn the_end_of_the_connection_carries_the_acknowledgment() {
    let mut young = Young::new(64);
    young.request(b"request");
    assert_eq!(young.net.read(&young.server).unwrap(), b"request");
    let Young { net, server, .. } = young;
    net.close(server);
    let sent = sent_by_server(&net);
    assert_eq!(sent.len(), 1);
    assert!(sent[0].segment().is_fin() && sent[0].segment().is_ack());
}

/// Linux and RFC 9293 SHLD-19: at least every second full segment is acknowledged at once.
#[test]
fn full_segments_are_acknowledged_at_once() {
    let mut young = Young::new(65);
    young.request(&[7; 2 * 1460]);
    assert_eq!(young.sent_segments(), [(0, Flags::ACK)]);
    assert!(!young.batch.has_held_back());
}

/// A hole is reported at once.
#[test]
fn a_segment_out_of_order_is_acknowledged_at_once() {
    let mut young = Young::new(66);
    young.net.cable.set_filter(|passing| match &passing.tcp {
        Some((.., payload)) if payload.first() == Some(&1) => Verdict::Drop,
        _ => Verdict::Pass,
    });
    young.request(&[[1; 1460], [2; 1460]].concat());
    let sent = young.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].segment().options.sack.len(), 1);
}

/// At the end of the next batch the connection is held by somebody who sends, and does what is left to them.
#[test]
fn who_sends_at_the_end_of_the_next_batch_sends_the_acknowledgment() {
    let mut young = Young::new(67);
    young.request(b"request");
    let cell = Arc::clone(&young.server.cell);
    {
        let _held = cell.lock_for_test();
        cell.begin_sending();
        young.end_batch();
    }
    assert_eq!(young.sent_segments(), []);
    assert!(!young.batch.has_held_back());
    assert_eq!(young.net.read(&young.server).unwrap(), b"request");
    assert_eq!(young.sent_segments(), [(0, Flags::ACK)]);
}
