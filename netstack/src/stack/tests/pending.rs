//! Pending accept: SYNs that wait for the application's decision.

use super::{SECOND, assert_empty};
use crate::icmp::Unreachable;
use crate::readiness::Events;
use crate::stack::testing::{LinkSpec, Net, Recorder, Socket, Verdict, address};
use crate::stack::{Cell, Family, Listener, PendingSyn, Rejection};
use crate::tcp::State;
use crate::time::Duration;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

fn listen(net: &Net, backlog: u32) -> Arc<Listener> {
    let mut socket = net.socket(1, Family::V6);
    net.engine(1).tcp().bind(net.engine(1).core(), &mut socket, "[::]:80".parse().unwrap()).unwrap();
    net.engine(1)
        .with_tcp(net.now, |tcp, turn| {
            tcp.listen_pending(turn, socket, backlog, Arc::new(Recorder::default()))
        })
        .unwrap()
}

fn connect(net: &Net, family: Family) -> Socket {
    net.connect(0, SocketAddr::new(address(1, family), 80)).unwrap()
}

fn pending_syn(net: &Net, listener: &Arc<Listener>) -> Arc<PendingSyn> {
    net.engine(1).tcp().accept_pending(listener).expect("a SYN waits")
}

fn error<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

fn result(net: &Net, pending: &PendingSyn) -> Option<io::Result<Arc<Cell>>> {
    net.engine(1).tcp().pending_result(pending)
}

#[test]
fn nothing_answers_until_the_application_does_and_then_all_is_as_usual() {
    for family in [Family::V4, Family::V6] {
        let mut net = Net::pair(90, LinkSpec::default());
        let listener = listen(&net, 8);
        let client = connect(&net, family);
        let waited = 5 * SECOND + SECOND / 2;
        net.run_for(waited);
        assert!(listener.readiness().contains(Events::READABLE));
        let sent = net.cable.take_trace();
        assert!(sent.iter().all(|passing| passing.from == 0), "nothing was answered");
        assert_eq!(sent.len(), 6, "SYNs at 0, 1, 2, 3, 4 and 5 s");
        let pending = pending_syn(&net, &listener);
        assert_eq!(
            error(net.engine(1).tcp().accept_pending(&listener)),
            None,
            "one SYN, however often it came"
        );
        assert!(!listener.readiness().contains(Events::READABLE));
        assert_eq!(pending.remote_addr().port(), client.cell.local_addr().port());
        assert_eq!(pending.remote_addr().ip().to_canonical(), address(0, family));
        assert_eq!(pending.options().mss, Some(if family == Family::V4 { 1460 } else { 1440 }));
        assert_eq!(net.now - pending.arrived(), waited - Duration::from_millis(10));
        assert!(result(&net, &pending).is_none());
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.answer_pending(turn, &pending));
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.answer_pending(turn, &pending));
        net.run_for(Duration::from_millis(100));
        assert_eq!(
            net.cable.take_trace().iter().filter(|passing| passing.from == 1).count(),
            1,
            "one SYN-ACK"
        );
        let cell = result(&net, &pending).expect("it is complete").unwrap();
        assert_eq!(error(result(&net, &pending).unwrap()), Some(libc::ECONNABORTED), "given away once");
        let server = Socket { host: 1, cell, events: Arc::new(Recorder::default()) };
        let info = net.engine(1).with_tcp(net.now, |tcp, turn| tcp.info(turn, &server.cell)).unwrap();
        assert_eq!(info.rtt, Duration::from_millis(20), "the wait is no part of the round trip");
        assert_eq!(net.transfer(&client, &server, b"hello", SECOND), b"hello");
        assert_eq!(listener.queues().counters.passive_opens, 1);
        assert_eq!((listener.queues().syn_queue, listener.queues().accept_queue), (0, 0));
    }
}

#[test]
fn a_client_is_refused_in_every_way_there_is() {
    for (how, family, expected) in [
        (Rejection::Reset, Family::V4, libc::ECONNREFUSED),
        (Rejection::Reset, Family::V6, libc::ECONNREFUSED),
        (Rejection::Unreachable(Unreachable::Host), Family::V4, libc::EHOSTUNREACH),
        (Rejection::Unreachable(Unreachable::Host), Family::V6, libc::EHOSTUNREACH),
        (Rejection::Unreachable(Unreachable::Network), Family::V4, libc::ENETUNREACH),
        (Rejection::Unreachable(Unreachable::Network), Family::V6, libc::ENETUNREACH),
        (Rejection::Unreachable(Unreachable::Port), Family::V4, libc::ECONNREFUSED),
        (Rejection::Unreachable(Unreachable::Prohibited), Family::V4, libc::EHOSTUNREACH),
        (Rejection::Unreachable(Unreachable::Prohibited), Family::V6, libc::EACCES),
    ] {
        let mut net = Net::pair(91, LinkSpec::default());
        let listener = listen(&net, 8);
        let client = connect(&net, family);
        net.run_for(SECOND / 2);
        let pending = pending_syn(&net, &listener);
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.reject_pending(turn, &pending, how));
        net.run_for(SECOND / 10);
        let outcome = client.cell.connect_result().expect("the client learns at once");
        assert_eq!(error(outcome), Some(expected), "{how:?} {family:?}");
        assert!(pending.is_over());
        assert_eq!(listener.queues().syn_queue, 0);
        assert_eq!(listener.queues().counters.embryonic_resets, 1);
        // It is too late for another decision.
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.answer_pending(turn, &pending));
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.reject_pending(turn, &pending, Rejection::Reset));
        net.run_for(SECOND);
        drop(pending);
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
        assert_empty(net.engine(1));
    }
}

#[test]
fn silence_absorbs_what_the_client_repeats() {
    let mut net =
        Net::pair_with(92, LinkSpec::default(), |_, config| config.pending_accept_timeout = 40 * SECOND);
    let listener = listen(&net, 8);
    let _client = connect(&net, Family::V4);
    net.run_for(SECOND / 2);
    net.engine(1).with_tcp(net.now, |tcp, turn| {
        tcp.reject_pending(turn, &pending_syn(&net, &listener), Rejection::Silence)
    });
    net.run_for(39 * SECOND);
    assert!(net.cable.take_trace().iter().all(|passing| passing.from == 0));
    assert_eq!(listener.queues().syn_queue, 1);
    assert!(net.engine(1).tcp().accept_pending(&listener).is_err(), "there is nothing to decide any more");
    net.run_for(SECOND);
    assert_eq!(listener.queues().syn_queue, 0, "its time is over");
}

#[test]
fn who_is_not_decided_about_is_forgotten_in_time() {
    let mut net =
        Net::pair_with(93, LinkSpec::default(), |_, config| config.pending_accept_timeout = 10 * SECOND);
    let listener = listen(&net, 8);
    let _taken = connect(&net, Family::V4);
    net.run_for(SECOND / 2);
    let pending = pending_syn(&net, &listener);
    let events = Arc::new(Recorder::default());
    pending.set_observer(Arc::clone(&events) as _);
    let _not_taken = connect(&net, Family::V4);
    net.run_for(9 * SECOND);
    assert!(!pending.is_over() && events.take().is_empty());
    net.run_for(SECOND + SECOND / 4);
    assert!(events.take().contains(Events::READABLE));
    assert_eq!(error(result(&net, &pending).unwrap()), Some(libc::ETIMEDOUT));
    assert_eq!(listener.queues().syn_queue, 0);
    assert!(net.engine(1).tcp().accept_pending(&listener).is_err(), "who waited to be taken has gone, too");
    // The client goes on trying, and is a new one.
    net.run_for(6 * SECOND);
    assert_eq!(pending_syn(&net, &listener).remote_addr(), pending.remote_addr());
}

#[test]
fn a_client_that_resets_or_does_not_answer_ends_it() {
    for resets in [true, false] {
        let mut net = Net::pair(94, LinkSpec::default());
        let listener = listen(&net, 8);
        let client = connect(&net, Family::V4);
        net.run_for(SECOND / 2);
        let pending = pending_syn(&net, &listener);
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.answer_pending(turn, &pending));
        if resets {
            // It gave up meanwhile: the SYN-ACK finds nobody.
            net.engine(0).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &client.cell));
        } else {
            net.cable.set_filter(|passing| if passing.from == 0 { Verdict::Drop } else { Verdict::Pass });
        }
        net.run_for(64 * SECOND);
        let expected = if resets { libc::ECONNRESET } else { libc::ETIMEDOUT };
        assert_eq!(error(result(&net, &pending).expect("it is over")), Some(expected));
        assert_eq!(listener.queues().syn_queue, 0);
    }
}

#[test]
fn the_backlog_bounds_how_many_wait_and_no_cookie_helps() {
    let mut net = Net::pair(95, LinkSpec::default());
    let listener = listen(&net, 4);
    let _clients: Vec<_> = (0..20).map(|_| connect(&net, Family::V4)).collect();
    net.run_for(SECOND / 2);
    let queues = listener.queues();
    assert_eq!((queues.syn_queue, queues.counters.syn_queue_drops), (5, 15));
    assert_eq!(queues.counters.syncookies_sent, 0);
    let taken: Vec<_> = (0..5).map(|_| pending_syn(&net, &listener)).collect();
    for pending in &taken {
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.reject_pending(turn, pending, Rejection::Reset));
    }
    // Those that were dropped come again.
    net.run_for(SECOND);
    assert_eq!(listener.queues().syn_queue, 5);
}

#[test]
fn closing_the_listener_ends_what_is_pending() {
    let mut net = Net::pair(96, LinkSpec::default());
    let listener = listen(&net, 8);
    let clients: Vec<_> = (0..4).map(|_| connect(&net, Family::V4)).collect();
    net.run_for(SECOND / 2);
    let [first, answered, established] = [(); 3].map(|()| pending_syn(&net, &listener));
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.answer_pending(turn, &established));
    net.run_for(SECOND / 2);
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.answer_pending(turn, &answered));
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
    for pending in [&first, &answered] {
        assert_eq!(error(result(&net, pending).unwrap()), Some(libc::ECONNABORTED));
    }
    // What is complete belongs to who asked for it, until it is turned down.
    net.run_for(SECOND);
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.reject_pending(turn, &established, Rejection::Reset));
    net.run_for(10 * SECOND);
    assert_eq!(error(net.read(&clients[2])), Some(libc::ECONNRESET));
    assert!(clients.iter().all(|client| net.state(client) == State::Closed));
    assert_empty(net.engine(1));
}
