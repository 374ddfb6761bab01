//! Why connections end, the last ends, and histories.

use super::*;
use crate::reasons::{EndReason, ResetReason};
use crate::tcp::SocketOptions;
use crate::trace::{Call, EventKind};
use std::io;

/// The ends of the connection of host 0 and of its peer, after `end`.
fn ends(end: impl FnOnce(&mut Net, Socket, Socket)) -> [Option<EndReason>; 2] {
    let mut net = net();
    let (client, server) = net.connected();
    let cells = [Arc::clone(&client.cell), Arc::clone(&server.cell)];
    assert_eq!([0, 1].map(|host| cells[host].end_reason()), [None; 2], "as long as they run");
    end(&mut net, client, server);
    for (host, cell) in cells.iter().enumerate() {
        let recent = net.engine(host).recent_ends();
        let recent = recent.iter().find(|end| end.connection == cell.id());
        assert_eq!(recent.map(|end| end.reason), cell.end_reason(), "host {host}");
    }
    cells.map(|cell| cell.end_reason())
}

fn set(net: &Net, socket: &Socket, change: impl FnOnce(&mut SocketOptions)) {
    let engine = net.engine(socket.host);
    engine.with_tcp(net.now, |tcp, turn| tcp.with_options(turn, &socket.cell, change));
}

#[test]
fn established_connections_end_for_the_reason_that_they_say() {
    let finished = ends(|net, client, server| {
        net.close(client);
        net.run_for(SECOND);
        net.close(server);
        net.run_for(SECOND);
    });
    assert_eq!(finished, [Some(EndReason::Finished); 2]);
    let aborted = ends(|net, client, _server| {
        net.engine(0).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &client.cell));
        net.run_for(SECOND);
    });
    let reset = EndReason::Reset(ResetReason::TcpState);
    assert_eq!(aborted, [Some(reset), Some(EndReason::ResetByPeer)]);
    let timed_out = ends(|net, client, _server| {
        silence(net);
        net.write(&client, b"lost").unwrap();
        net.run_for(2000 * SECOND);
    });
    assert_eq!(timed_out, [Some(EndReason::RetransmissionTimeout), None]);
    let user_timeout = ends(|net, client, _server| {
        set(net, &client, |options| options.user_timeout = Some(5 * SECOND));
        silence(net);
        net.write(&client, b"lost").unwrap();
        net.run_for(20 * SECOND);
    });
    assert_eq!(user_timeout, [Some(EndReason::UserTimeout), None]);
    let keepalive = ends(|net, client, _server| {
        set(net, &client, |options| {
            options.keepalive = true;
            options.keepalive_time = SECOND;
            options.keepalive_interval = SECOND;
            options.keepalive_retries = 2;
        });
        silence(net);
        net.run_for(10 * SECOND);
    });
    assert_eq!(keepalive, [Some(EndReason::KeepaliveTimeout), None]);
    let probes = ends(|net, client, _server| {
        let (mut sent, block) = (0, [0; 65_536]);
        while let Ok(n) = net.write(&client, &block) {
            sent += n;
            net.run_for(SECOND);
        }
        assert!(sent > 0, "until the window of the peer, who reads nothing, is closed");
        net.run_for(10 * SECOND);
        silence(net);
        net.run_for(3000 * SECOND);
    });
    assert_eq!(probes, [Some(EndReason::ProbeTimeout), None]);
    let device = ends(|net, _client, _server| {
        net.cable.pull();
        net.settle();
    });
    assert_eq!(device, [Some(EndReason::DeviceGone); 2]);
    let stack = ends(|net, _client, _server| {
        net.engine(0).fail_all(net.now, &io::Error::other("shut down"));
        net.run_for(SECOND);
    });
    assert_eq!(stack, [Some(EndReason::StackShutDown), Some(EndReason::ResetByPeer)]);
}

#[test]
fn attempts_to_connect_end_for_a_reason_too() {
    let end = |prepare: &dyn Fn(&mut Net), after: &dyn Fn(&mut Net, &Socket)| {
        let mut net = net();
        prepare(&mut net);
        let client = net.connect(0, to_host_1(9)).unwrap();
        after(&mut net, &client);
        let ends = net.engine(0).recent_ends();
        assert_eq!(ends.len(), 1);
        assert_eq!(Some(ends[0].reason), client.cell.end_reason());
        (ends[0].reason, (ends[0].ended - ends[0].began).as_secs())
    };
    let wait = |net: &mut Net, _: &Socket| net.run_for(200 * SECOND);
    assert_eq!(end(&|_| (), &wait), (EndReason::Refused, 0));
    assert_eq!(end(&|net| silence(net), &wait), (EndReason::ConnectTimeout, 131));
    let abort = |net: &mut Net, client: &Socket| {
        net.engine(0).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &client.cell));
    };
    assert_eq!(end(&|net| silence(net), &abort), (EndReason::Abandoned, 0));
    let unreachable = |net: &mut Net, _: &Socket| {
        net.settle();
        let syn = net.cable.take_trace().remove(0).forged(|_, _| ());
        net.cable.inject(net.now, 0, &crate::stack::testing::icmp_about(&syn, (3, 1), 0));
        net.settle();
    };
    assert_eq!(end(&|net| silence(net), &unreachable), (EndReason::Icmp { errno: libc::EHOSTUNREACH }, 0));
}

#[test]
fn the_last_256_ends_are_kept() {
    let mut net = net();
    assert!(net.engine(0).recent_ends().is_empty());
    for _ in 0..300 {
        let client = net.connect(0, to_host_1(9)).unwrap();
        net.run_for(100 * MS);
        net.close(client);
    }
    let ends = net.engine(0).recent_ends();
    assert_eq!(ends.len(), 256);
    assert!(ends.is_sorted_by_key(|end| end.connection), "the latest is the last");
    assert_eq!(ends[255].remote, to_host_1(9));
    assert!(ends[255].to_string().contains("refused by the peer"), "{}", ends[255]);
}

#[test]
fn an_end_has_the_counters_of_its_connection() {
    let mut net = net();
    let (client, server) = net.connected();
    assert_eq!(net.transfer(&client, &server, &[7; 100_000], SECOND), [7; 100_000]);
    net.close(client);
    net.run_for(SECOND);
    net.close(server);
    net.run_for(SECOND);
    let (sender, receiver) = (net.engine(0).recent_ends()[0], net.engine(1).recent_ends()[0]);
    assert_eq!((sender.bytes_sent, sender.retransmits), (100_000, 0));
    assert!(sender.bytes_acked >= 100_000);
    assert_eq!(receiver.bytes_received, 100_000);
    assert!((20..=30).contains(&sender.rtt.as_millis()), "{sender:?}");
    assert!(sender.segs_out > 1 && sender.segs_in > 1, "{sender:?}");
    assert!(sender.ended > sender.began);
}

#[test]
fn a_history_is_off_by_default_and_bounded() {
    let mut net = net();
    let (client, server) = net.connected();
    net.transfer(&client, &server, &[7; 100_000], SECOND);
    assert!(client.cell.history().events.is_empty());
    assert!(!client.cell.has_history_memory(), "and costs no memory");
    set(&net, &client, |options| options.history = 10);
    assert_eq!(client.cell.history().events[0].kind, EventKind::Call(Call::SetOptions));
    net.transfer(&client, &server, &[7; 100_000], SECOND);
    let history = client.cell.history();
    assert_eq!(history.events.len(), 10);
    assert!(history.dropped > 5, "{}", history.dropped);
    assert_eq!(history.about.connection, Some(client.cell.id()));
    set(&net, &client, |options| options.history = 0);
    assert!(client.cell.history().events.is_empty() && !client.cell.has_history_memory());
}

#[test]
fn a_history_tells_a_connection_from_its_first_call_to_its_end() {
    let mut net = net_with(|config| config.history = 1000);
    let (client, server) = net.connected();
    net.cable.set_filter(|passing| match &passing.tcp {
        Some((.., payload)) if !payload.is_empty() => Verdict::Drop,
        _ => Verdict::Pass,
    });
    net.write(&client, b"hello").unwrap();
    net.run_for(SECOND);
    net.cable.clear_filter();
    net.run_for(2 * SECOND);
    assert_eq!(net.read(&server).unwrap(), b"hello");
    let (cell, peer) = (Arc::clone(&client.cell), Arc::clone(&server.cell));
    net.close(client);
    net.run_for(SECOND);
    net.close(server);
    net.run_for(SECOND);
    let text = cell.history().to_string();
    let mut lines = text.lines();
    for expected in [
        "call connect",
        "out [S]",
        "in [S.]",
        "call write 5",
        "out [P.]",
        "timer tail_loss",
        "again [P.]",
        "timer retransmit",
        "again [P.]",
        "in [.]",
        "call close",
        "out [F.]",
        "in [.]",
        "end closed in order",
    ] {
        assert!(
            lines.any(|line| line.contains(expected)),
            "{expected} is missing, or out of order in\n{text}"
        );
    }
    assert!(text.contains("window send"), "{text}");
    let peers = peer.history();
    assert!(
        peers.to_string().contains("call accept") && peers.to_string().contains("call read 5"),
        "{peers}"
    );
    assert_eq!(peers.json_lines().lines().count(), peers.events.len());
    assert_eq!(peers.end, Some(EndReason::Finished));
}
