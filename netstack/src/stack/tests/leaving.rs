//! A thread that needs a connection while another one sends leaves to it what there is to be done, and does not wait.

use super::SECOND;
use crate::readiness::Events;
use crate::stack::Batch;
use crate::stack::testing::{LinkSpec, Net, QUEUE, Socket, Verdict, have_turn, receive};
use std::sync::{Arc, mpsc};

const BLOCK: usize = 65_536;

/// A connection over a device that cuts segments, with windows of megabytes.
fn opened() -> (Net, Socket, Socket) {
    let mut net = Net::pair_with(1, LinkSpec { offloads: true, ..LinkSpec::default() }, |_, config| {
        (config.send_buffer_initial, config.send_buffer_max) = (16 << 20, 16 << 20);
        config.recv_buffer_initial = 16 << 20;
    });
    let (client, server) = net.connected();
    let data = vec![1; 8_000_000];
    assert_eq!(net.transfer(&client, &server, &data, 60 * SECOND).len(), data.len());
    net.engine(0).with_tcp(net.now, |tcp, turn| {
        tcp.with_options(turn, &client.cell, |options| options.nodelay = true)
    });
    net.cable.take_trace();
    (net, client, server)
}

/// Does something in another thread, which must not wait for this one.
fn elsewhere(work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        let _ = done.send(());
    });
    let waited = is_done.recv_timeout(std::time::Duration::from_secs(10));
    assert!(waited.is_ok(), "the thread waits for the one that sends, or has panicked");
}

/// Calls `f` while the client sends a packet.
fn while_sending(net: &Net, mut f: impl FnMut() + Send + 'static) {
    net.cable.set_filter(move |passing| {
        if passing.from == 0 {
            f();
        }
        Verdict::Pass
    });
}

/// A packet that one end writes and that does not arrive.
fn written(net: &Net, by: &Socket, bytes: &[u8]) -> Vec<u8> {
    net.cable.set_filter(|_| Verdict::Drop);
    net.write(by, bytes).unwrap();
    net.cable.clear_filter();
    let trace = net.cable.take_trace();
    let [packet] = &trace[..] else { panic!("{} packets", trace.len()) };
    packet.forged(|_, _| {})
}

#[test]
fn what_arrives_while_a_writer_sends_is_processed_by_it() {
    let (mut net, client, server) = opened();
    let news = written(&net, &server, b"news");
    let (engine, now) = (Arc::clone(net.engine(0)), net.now);
    while_sending(&net, move || {
        let (engine, news) = (Arc::clone(&engine), news.clone());
        elsewhere(move || receive(&engine, now, &news));
    });
    let _ = client.events.take();
    net.write(&client, &[2; 1000]).unwrap();
    assert!(client.events.take().contains(Events::READABLE), "settled by the writer");
    net.cable.clear_filter();
    assert_eq!(net.read(&client).unwrap(), b"news");
    // Nothing that was left is in the way of what comes later.
    assert_eq!(net.transfer(&server, &client, b"more", SECOND), b"more");
    assert_eq!(net.read_available(&server).0, [2; 1000]);
}

#[test]
fn a_turn_that_comes_while_a_writer_sends_is_its() {
    let (net, client, _server) = opened();
    let (engine, now) = (Arc::clone(net.engine(0)), net.now);
    assert_eq!(net.write(&client, &[2; BLOCK]).unwrap(), BLOCK);
    let first = net.cable.take_trace()[0].segment().payload_len;
    assert!(first < BLOCK && net.engine(0).has_waiting(QUEUE), "the end of it waits for its turn");
    let mut engine = Some(engine);
    while_sending(&net, move || {
        if let Some(engine) = engine.take() {
            elsewhere(move || have_turn(&engine, now));
        }
    });
    assert_eq!(net.write(&client, &[2; BLOCK]).unwrap(), BLOCK);
    let sent: usize = net.cable.take_trace().iter().map(|one| one.segment().payload_len).sum();
    assert_eq!(first + sent, 2 * BLOCK, "nothing waits any more");
    assert!(!net.engine(0).has_waiting(QUEUE));
}

#[test]
fn a_deadline_that_comes_while_a_writer_sends_is_served_by_it() {
    let (mut net, client, server) = opened();
    let _ = written(&net, &client, b"lost");
    net.now += SECOND;
    let (engine, now) = (Arc::clone(net.engine(0)), net.now);
    let mut engine = Some(engine);
    while_sending(&net, move || {
        if let Some(engine) = engine.take() {
            elsewhere(move || {
                let mut out = Batch::new();
                engine.on_timer(now, &mut out);
                out.deliver(&engine);
            });
        }
    });
    net.write(&client, b"more").unwrap();
    let sent: Vec<_> = net.cable.take_trace().iter().map(|one| one.segment().payload_len).collect();
    assert!(sent.len() > 1, "what was lost follows: {sent:?}");
    net.cable.clear_filter();
    net.run_for(SECOND);
    assert_eq!(net.read_available(&server).0, b"lostmore");
}

#[test]
fn a_writer_does_not_work_for_others_for_ever() {
    let (mut net, client, server) = opened();
    let (engine, now) = (Arc::clone(net.engine(0)), net.now);
    let data = vec![3; 4_000_000];
    let news = written(&net, &server, b"news");
    while_sending(&net, move || {
        let (engine, news) = (Arc::clone(&engine), news.clone());
        elsewhere(move || receive(&engine, now, &news));
    });
    let written = net.write(&client, &data).unwrap();
    let sent: usize = net.cable.take_trace().iter().map(|one| one.segment().payload_len).sum();
    // What one hold sends, and four times more of it.
    assert!((4 * 4 * BLOCK..=5 * 5 * BLOCK).contains(&sent) && sent < written, "{sent} of {written}");
    assert!(net.engine(0).has_waiting(QUEUE), "the rest waits for its turn");
    net.cable.clear_filter();
    net.run_for(10 * SECOND);
    let mut read = net.read_available(&server).0.len();
    while read < written {
        net.run_for(SECOND);
        let more = net.read_available(&server).0.len();
        assert!(more > 0, "{read} of {written}");
        read += more;
    }
}
