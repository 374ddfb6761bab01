//! Fast Open where the application decides about each SYN.

use super::{SECOND, assert_empty, to_host_1};
use crate::config::{FastOpenKey, FastOpenKeys};
use crate::stack::testing::{LinkSpec, Net, Passing, Recorder, Socket, Verdict};
use crate::stack::{Family, Listener, PendingSyn, Rejection};
use crate::tcp::State;
use crate::time::Duration;
use crate::wire::Flags;
use std::io;
use std::sync::Arc;

const RTT: Duration = Duration::from_millis(50);

fn net() -> Net {
    Net::pair(97, LinkSpec { delay: RTT / 2, ..LinkSpec::default() })
}

fn listen(net: &Net, limit: u32) -> Arc<Listener> {
    let mut socket = net.socket(1, Family::V4);
    net.engine(1).tcp().bind(net.engine(1).core(), &mut socket, "0.0.0.0:80".parse().unwrap()).unwrap();
    socket.options.fastopen_queue = limit;
    net.engine(1)
        .with_tcp(net.now, |tcp, turn| tcp.listen_pending(turn, socket, 64, Arc::new(Recorder::default())))
        .unwrap()
}

fn connect(net: &Net) -> Socket {
    let mut socket = net.socket(0, Family::V4);
    socket.options.fastopen_connect = true;
    net.connect_from(0, socket, to_host_1(80)).unwrap()
}

fn pending_syn(net: &mut Net, listener: &Arc<Listener>) -> Arc<PendingSyn> {
    net.run_for(RTT / 2);
    net.engine(1).tcp().accept_pending(listener).expect("a SYN waits")
}

fn accept(net: &Net, pending: &Arc<PendingSyn>) {
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.answer_pending(turn, pending));
}

/// The connection of a handshake that is complete, or that Fast Open does not wait for.
fn take(net: &Net, pending: &PendingSyn) -> io::Result<Socket> {
    let cell = net.engine(1).tcp().pending_result(pending).expect("there is a result")?;
    Ok(Socket { host: 1, cell, events: Arc::new(Recorder::default()) })
}

/// A first connection, which gets a cookie.
fn warm_up(net: &mut Net, listener: &Arc<Listener>) {
    let client = connect(net);
    let pending = pending_syn(net, listener);
    assert!(pending.fast_open_data().is_empty());
    accept(net, &pending);
    net.run_for(SECOND);
    let server = take(net, &pending).unwrap();
    assert_eq!(net.engine(0).tcp().fast_open_cache().export().len(), 1, "the SYN-ACK brought a cookie");
    for socket in [client, server] {
        net.close(socket);
    }
    net.run_for(SECOND);
    net.cable.take_trace();
}

fn answers(trace: &[Passing]) -> Vec<Flags> {
    trace.iter().filter(|packet| packet.from == 1).map(|packet| packet.segment().flags).collect()
}

#[test]
fn data_behind_a_good_cookie_is_seen_before_the_decision_and_answered_before_the_third_segment() {
    let mut net = net();
    let listener = listen(&net, 4);
    warm_up(&mut net, &listener);
    let client = connect(&net);
    assert_eq!(net.write(&client, b"hello").unwrap(), 5);
    let pending = pending_syn(&mut net, &listener);
    assert_eq!(pending.fast_open_data(), b"hello");
    assert_eq!(listener.fast_open_queue_len(), 1);
    // The client repeats its SYN, without the data, and nothing answers.
    net.run_for(4 * SECOND);
    let trace = net.cable.take_trace();
    let carried: Vec<_> = trace.iter().map(|packet| (packet.from, packet.segment().payload_len)).collect();
    assert_eq!(carried, [(0, 5), (0, 0), (0, 0), (0, 0), (0, 0)]);
    let start = net.now;
    accept(&net, &pending);
    accept(&net, &pending);
    let server = take(&net, &pending).expect("at once");
    assert!(take(&net, &pending).is_err(), "given away once");
    assert_eq!(net.state(&server), State::SynReceived);
    assert_eq!(net.read(&server).unwrap(), b"hello");
    assert_eq!(net.write(&server, b"answer").unwrap(), 6);
    net.run_until(SECOND, |net| net.read(&client).is_ok());
    assert_eq!(net.now - start, RTT / 2, "the answer came with the SYN-ACK");
    net.run_for(SECOND);
    assert_eq!([net.state(&client), net.state(&server)], [State::Established; 2]);
    let info = |socket: &Socket| {
        net.engine(socket.host).with_tcp(net.now, |tcp, turn| tcp.info(turn, &socket.cell)).unwrap()
    };
    assert!(info(&client).syn_data_acked && info(&server).syn_data_acked);
    assert_eq!(info(&server).rtt, RTT, "the wait is no part of the round trip");
    let trace = net.cable.take_trace();
    let syn_ack = trace.iter().find(|packet| packet.from == 1).unwrap().segment();
    let third = trace.iter().find(|packet| packet.from == 0).unwrap().segment();
    assert_eq!(syn_ack.flags, Flags::SYN.with(Flags::ACK));
    assert_eq!(syn_ack.ack, third.seq, "the data is acknowledged");
    let counters = net.engine(1).counters();
    assert_eq!((counters.fast_open_passive, counters.passive_opens), (1, 2));
    assert_eq!((listener.fast_open_queue_len(), listener.queues().syn_queue), (0, 0));
    drop(pending);
    assert_eq!(listener.fast_open_queue_len(), 0, "it is not counted off twice");
    assert_eq!(net.transfer(&client, &server, b"more", SECOND), b"more");
}

#[test]
fn without_a_good_cookie_nothing_is_shown_and_one_is_given() {
    let mut net = net();
    let listener = listen(&net, 4);
    warm_up(&mut net, &listener);
    let keys = FastOpenKeys::new(FastOpenKey::new([5; 16]));
    net.engine(1).tcp().set_fast_open_keys(keys);
    let old = net.engine(0).tcp().fast_open_cache().export();
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    let pending = pending_syn(&mut net, &listener);
    assert!(pending.fast_open_data().is_empty());
    assert_eq!(listener.fast_open_queue_len(), 0);
    accept(&net, &pending);
    assert!(net.engine(1).tcp().pending_result(&pending).is_none(), "the handshake must be completed");
    net.run_for(SECOND);
    let server = take(&net, &pending).unwrap();
    assert_eq!(net.read(&server).unwrap(), b"hello", "once");
    assert!(net.read(&server).is_err());
    assert_ne!(net.engine(0).tcp().fast_open_cache().export()[0].cookie, old[0].cookie);
    assert_eq!(net.engine(1).counters().fast_open_passive, 0);
    // The new one is good; and one of a key that was the primary one is good and replaced.
    net.engine(1).tcp().set_fast_open_keys(keys.rotated(FastOpenKey::new([6; 16])));
    let old = net.engine(0).tcp().fast_open_cache().export();
    let client = connect(&net);
    net.write(&client, b"again").unwrap();
    let pending = pending_syn(&mut net, &listener);
    assert_eq!(pending.fast_open_data(), b"again");
    accept(&net, &pending);
    net.run_for(SECOND);
    assert_eq!(net.engine(1).counters().fast_open_passive_alt_key, 1);
    assert_ne!(net.engine(0).tcp().fast_open_cache().export()[0].cookie, old[0].cookie);
}

#[test]
fn a_listener_without_fast_open_shows_nothing() {
    let mut net = net();
    let listener = listen(&net, 4);
    warm_up(&mut net, &listener);
    listener.with_options(|options| options.fastopen_queue = 0);
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    let pending = pending_syn(&mut net, &listener);
    assert!(pending.fast_open_data().is_empty());
    accept(&net, &pending);
    net.run_for(SECOND);
    assert_eq!(net.read(&take(&net, &pending).unwrap()).unwrap(), b"hello");
}

#[test]
fn who_is_turned_away_leaves_nothing_behind() {
    for how in [Rejection::Reset, Rejection::Silence] {
        let mut net = net();
        let listener = listen(&net, 4);
        warm_up(&mut net, &listener);
        let client = connect(&net);
        net.write(&client, b"hello").unwrap();
        let pending = pending_syn(&mut net, &listener);
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.reject_pending(turn, &pending, how));
        assert_eq!(listener.fast_open_queue_len(), 1, "the data is there as long as somebody holds it");
        drop(pending);
        assert_eq!(listener.fast_open_queue_len(), 0);
        net.run_for(SECOND / 2);
        if how == Rejection::Reset {
            let refused = client.cell.connect_result().expect("it is over").unwrap_err();
            assert_eq!(refused.raw_os_error(), Some(libc::ECONNREFUSED));
            assert_eq!(answers(&net.cable.take_trace()), [Flags::RST.with(Flags::ACK)]);
        } else {
            assert!(answers(&net.cable.take_trace()).is_empty());
        }
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
        net.run_for(61 * SECOND);
        assert_empty(net.engine(1));
    }
}

#[test]
fn a_connection_that_was_opened_and_then_turned_down_is_reset() {
    let mut net = net();
    let listener = listen(&net, 4);
    warm_up(&mut net, &listener);
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    let pending = pending_syn(&mut net, &listener);
    accept(&net, &pending);
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.reject_pending(turn, &pending, Rejection::Reset));
    drop(pending);
    net.run_for(SECOND);
    assert_eq!(net.read(&client).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!((listener.fast_open_queue_len(), net.engine(1).tcp().connections()), (0, 0));
}

#[test]
fn the_limit_bounds_the_data_that_is_held() {
    let mut net = net();
    let listener = listen(&net, 2);
    warm_up(&mut net, &listener);
    let clients: Vec<_> = (0..5).map(|_| connect(&net)).collect();
    for client in &clients {
        net.write(client, b"hello").unwrap();
    }
    net.run_for(RTT / 2);
    let mut taken: Vec<_> = (0..5)
        .map(|_| net.engine(1).tcp().accept_pending(&listener).expect("all wait for a decision"))
        .collect();
    let shown = taken.iter().filter(|pending| pending.fast_open_data() == b"hello").count();
    assert_eq!((shown, listener.fast_open_queue_len()), (2, 2));
    assert_eq!(net.engine(1).counters().fast_open_listen_overflows, 3);
    // A reset makes no room while the application holds the data: a client with a cookie
    // could fill the memory that way.
    let syn = net.cable.take_trace().remove(0);
    let reset = syn.forged(|segment, payload| {
        (segment.flags, segment.seq) = (Flags::RST, segment.seq + 1);
        payload.clear();
    });
    net.cable.inject(net.now, 1, &reset);
    net.settle();
    assert!(taken[0].is_over());
    assert_eq!(listener.fast_open_queue_len(), 2);
    taken.remove(0);
    assert_eq!(listener.fast_open_queue_len(), 1);
    for pending in &taken {
        accept(&net, pending);
    }
    net.run_for(SECOND);
    for pending in &taken {
        assert_eq!(net.read(&take(&net, pending).unwrap()).unwrap(), b"hello");
    }
    assert_eq!(listener.fast_open_queue_len(), 0);
    assert_eq!(listener.queues().syn_queue, 1, "who did not send the reset comes again");
}

#[test]
fn the_time_and_the_listener_end_it_with_its_data() {
    for closes in [false, true] {
        let mut net = Net::pair_with(98, LinkSpec::default(), |_, config| {
            config.pending_accept_timeout = 10 * SECOND;
        });
        let listener = listen(&net, 4);
        warm_up(&mut net, &listener);
        let client = connect(&net);
        net.write(&client, b"hello").unwrap();
        net.cable.set_filter(|packet| {
            let again = packet.segment().is_syn() && packet.segment().payload_len == 0;
            if packet.from == 0 && again { Verdict::Drop } else { Verdict::Pass }
        });
        // Nobody takes it.
        net.run_for(9 * SECOND);
        assert_eq!(listener.fast_open_queue_len(), 1);
        if closes {
            net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
        } else {
            net.run_for(2 * SECOND);
        }
        assert_eq!((listener.fast_open_queue_len(), listener.queues().syn_queue), (0, 0));
    }
}

#[test]
fn a_lost_syn_ack_is_sent_again_and_a_repeated_syn_is_answered() {
    let mut net = net();
    let listener = listen(&net, 4);
    warm_up(&mut net, &listener);
    let client = connect(&net);
    net.write(&client, b"hello").unwrap();
    let pending = pending_syn(&mut net, &listener);
    let until = net.now + SECOND / 2;
    net.cable.set_filter(
        move |packet| {
            if packet.from == 1 && packet.at < until { Verdict::Drop } else { Verdict::Pass }
        },
    );
    accept(&net, &pending);
    let server = take(&net, &pending).unwrap();
    net.run_for(3 * SECOND);
    assert_eq!([net.state(&client), net.state(&server)], [State::Established; 2]);
    assert_eq!(net.read(&server).unwrap(), b"hello");
    assert!(net.read(&server).is_err(), "once");
    let syn_acks = answers(&net.cable.take_trace());
    assert!(syn_acks.len() >= 2 && syn_acks[..2].iter().all(|flags| flags.contains(Flags::SYN)));
}
