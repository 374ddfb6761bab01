//! Races between threads, played by calling in their order what they would do.

use super::listening::{Received, Verdict};
use super::scratch::Scratch;
use crate::buffer::Chunk;
use crate::config::SynCookieMode;
use crate::reasons::{DropReason, ResetReason};
use crate::stack::flow::FlowKey;
use crate::stack::tcp::stray::Stray;
use crate::stack::testing::{LinkSpec, Net};
use crate::wire::{Flags, Segment, SeqNum};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

fn key() -> FlowKey {
    let ip = |last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last));
    FlowKey::new(&ip(2), 80, &ip(9), 5000)
}

fn segment(flags: Flags, ack: u32) -> Segment {
    Segment { window: 1000, ..Segment::new(flags, SeqNum::new(1), SeqNum::new(ack)) }
}

#[test]
fn a_syn_for_a_listener_that_was_closed_meanwhile_is_reset_with_that_reason() {
    let mut net = Net::pair(98, LinkSpec::default());
    let listener = net.listen(1, 80, 8);
    let engine = Arc::clone(net.engine(1));
    engine.with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
    let (syn, queue) = (segment(Flags::SYN, 0), engine.core().queues().next().unwrap());
    engine.with_tcp(net.now, |tcp, turn| {
        let mut scratch = Scratch::default();
        let received = Received { key: key(), queue, segment: &syn, iss: None };
        let verdict = tcp.on_listener_segment(turn, &mut scratch, &listener, &received, Chunk::empty());
        assert_eq!(verdict, Verdict::Reset(ResetReason::ListenerClosed));
        let stray = Stray { from: queue, key: &key(), segment: &syn };
        tcp.reset_stray(turn, &mut scratch, &stray, ResetReason::ListenerClosed);
    });
    net.settle();
    let counters = engine.counters();
    assert_eq!(counters.drops(DropReason::ListenerClosed), 1);
    assert_eq!(counters.resets(ResetReason::ListenerClosed), 1);
}

#[test]
fn a_cookie_that_comes_back_twice_at_once_makes_one_connection() {
    let net = Net::pair_with(99, LinkSpec::default(), |_, config| {
        config.syncookies = SynCookieMode::Always;
    });
    let listener = net.listen(1, 80, 8);
    let engine = Arc::clone(net.engine(1));
    let queue = engine.core().queues().next().unwrap();
    let mut scratch = Scratch::default();
    let syn = segment(Flags::SYN, 0);
    engine.with_tcp(net.now, |tcp, turn| {
        let received = Received { key: key(), queue, segment: &syn, iss: None };
        let verdict = tcp.on_listener_segment(turn, &mut scratch, &listener, &received, Chunk::empty());
        assert_eq!(verdict, Verdict::Done);
    });
    let iss = net.cable.take_trace()[0].segment().seq;
    let third = Segment { seq: SeqNum::new(2), ..segment(Flags::ACK, iss.raw().wrapping_add(1)) };
    let stray = Stray { from: queue, key: &key(), segment: &third };
    engine.with_tcp(net.now, |tcp, turn| {
        let back = tcp.cookie_back(turn, &mut scratch, &stray).expect("the cookie is good");
        let received = Received { key: key(), queue, segment: &third, iss: None };
        let verdicts = [(); 2].map(|()| tcp.on_cookie(turn, &back, &received, Chunk::empty()));
        assert_eq!(verdicts, [Verdict::Done, Verdict::Dropped(DropReason::Raced)]);
    });
    assert_eq!(engine.tcp().connections(), 1);
}
