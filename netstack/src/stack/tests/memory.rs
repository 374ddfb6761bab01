//! The memory budget: what is counted, and what happens when there is little.

use super::{SECOND, to_host_1};
use crate::config::MemoryBudget;
use crate::memory::Charge;
use crate::readiness::Events;
use crate::stack::testing::{LinkSpec, Net, Socket, Verdict, address};
use crate::stack::{Counters, Family};
use crate::tcp::{SocketOptions, State};
use crate::time::Duration;
use crate::wire::{ChecksumMode, Flags, HeaderBuf, IpMeta, Options, Segment, SeqNum, TcpDatagram, emit_tcp};
use std::io;
use std::sync::Arc;

const MIB: usize = 1 << 20;

/// Pressure above 2 MiB and until 1 MiB; 4 MiB at most.
const BUDGET: MemoryBudget = MemoryBudget { low: MIB, pressure: 2 * MIB, high: 4 * MIB };
const SHARE: usize = 4096;

/// Long enough for every connection to have had its turn.
const SWEPT: Duration = Duration::from_millis(100);

/// Two hosts, of which the second has little memory.
fn net(seed: u64) -> Net {
    Net::pair_with(seed, LinkSpec::default(), |host, config| {
        config.memory = (host == 1).then_some(BUDGET);
        config.memory_share = SHARE;
    })
}

/// Holds so much of host 1's memory.
fn ballast(net: &Net, bytes: usize) -> Charge {
    Charge::new(net.engine(1).core().memory(), bytes)
}

/// What waits for a window is not in the cache when it is sent: the more streams, the less of each.
#[test]
fn many_streams_share_what_waits_to_be_sent() {
    let accepted = |streams: usize, buffer: Option<usize>| {
        let mut net =
            Net::pair_with(5, LinkSpec::default(), |_, config| config.send_buffer_initial = 4 * MIB);
        let listener = net.listen(1, 80, 128);
        let sockets: Vec<_> = (0..streams).map(|_| net.connected_to(&listener)).collect();
        // The readers do not read.
        let written: Vec<_> = sockets
            .iter()
            .map(|(socket, _)| {
                if let Some(size) = buffer {
                    let set = |options: &mut SocketOptions| options.send_buffer_size = Some(size);
                    net.engine(0).with_tcp(net.now, |tcp, turn| tcp.with_options(turn, &socket.cell, set));
                }
                fill(&net, socket)
            })
            .collect();
        // All of it arrives.
        let (socket, reader) = &sockets[streams - 1];
        let waits = written[streams - 1];
        let mut got = 0;
        while got < waits {
            net.settle();
            let read = net.read(reader).unwrap_or_default().len();
            got += read;
            assert!(read > 0 || net.advance(net.now + SECOND), "{got} of {waits} bytes");
        }
        assert!(net.write(socket, &[7; 1000]).is_ok(), "there is room again");
        waits
    };
    assert!(accepted(1, None) > MIB);
    assert!(accepted(64, None) < 2 * (128 << 10) + MIB / 4);
    assert!(accepted(8, Some(MIB)) > MIB + MIB / 2, "who sets SO_SNDBUF has it");
}

fn counters(net: &Net) -> Counters {
    net.engine(1).counters()
}

fn used(net: &Net) -> usize {
    net.engine(1).core().memory_use().used
}

/// Writes until there is no more room, and returns how much that was.
fn fill(net: &Net, socket: &Socket) -> usize {
    let mut written = 0;
    loop {
        match net.write(socket, &[7; 3000]) {
            Ok(bytes) => written += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return written,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What is sent: bytes that say where they are.
fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn what_is_counted_is_as_before_once_all_is_over() {
    let mut net = net(1);
    let warm = net.connected();
    net.close(warm.0);
    net.close(warm.1);
    net.run_for(Duration::from_secs(90));
    let before = used(&net);
    let (client, server) = net.connected();
    let standing = used(&net);
    assert!(standing > before + 2000, "{standing} bytes with a connection, {before} without");
    net.write(&server, &[1; 20_000]).unwrap();
    assert!(used(&net) > standing + 20_000);
    net.run_for(SECOND);
    assert_eq!(net.read_available(&client).0.len(), 20_000);
    net.write(&client, &[1; 20_000]).unwrap();
    net.run_for(SECOND);
    assert!(used(&net) > standing + 20_000);
    assert_eq!(net.read_available(&server).0.len(), 20_000);
    net.close(server);
    net.run_for(SECOND);
    net.close(client);
    net.run_for(SECOND);
    let time_wait = used(&net);
    assert!(before < time_wait && time_wait < before + 600, "{time_wait} with a TIME-WAIT, {before} before");
    net.run_for(Duration::from_secs(90));
    assert_eq!(used(&net), before);
}

#[test]
fn an_idle_connection_holds_no_buffers() {
    let mut net = net(2);
    let (client, server) = net.connected();
    let idle = used(&net);
    for _ in 0..3 {
        assert_eq!(net.transfer(&client, &server, &[1; 60_000], SECOND).len(), 60_000);
        assert_eq!(net.transfer(&server, &client, &[1; 60_000], SECOND).len(), 60_000);
    }
    net.run_for(SECOND);
    let after = used(&net);
    assert!(after < idle + 1200, "{after} bytes after transfers, {idle} before");
}

#[test]
fn under_pressure_a_writer_gets_its_share_and_is_woken_when_there_is_more() {
    let mut net = net(3);
    let (client, server) = net.connected();
    let held = ballast(&net, 4 * MIB);
    let written = fill(&net, &server);
    assert!((SHARE / 2..3 * SHARE).contains(&written), "{written}");
    net.run_for(SECOND);
    server.events.take();
    assert_eq!(net.read_available(&client).0.len(), written, "what was accepted arrives");
    // The peer does not read any more, and nothing happens on the connection.
    let mut more = 0;
    for _ in 0..100 {
        more += fill(&net, &server);
        net.run_for(SECOND / 10);
    }
    assert_eq!(fill(&net, &server), 0);
    server.events.take();
    net.run_for(SECOND * 5);
    assert!(!server.events.take().contains(Events::WRITABLE), "nothing has changed");
    drop(held);
    net.run_for(Duration::from_secs(3));
    assert!(server.events.take().contains(Events::WRITABLE), "nobody woke who waits for room");
    assert!(fill(&net, &server) > SHARE);
    let mut read = 0;
    net.run_until(SECOND * 200, |net| {
        read += net.read_available(&client).0.len();
        read >= more
    });
    assert!(read >= more, "{read} bytes of {more}");
    assert_eq!(counters(&net).memory_pressures, 1);
}

#[test]
fn under_pressure_the_window_closes_and_what_was_acknowledged_stays() {
    let mut net = net(4);
    let (client, server) = net.connected();
    let held = ballast(&net, 4 * MIB);
    let sent = pattern(0, 200_000);
    let mut at = 0;
    for _ in 0..60 {
        while at < sent.len()
            && let Ok(bytes) = net.write(&client, &sent[at..])
        {
            at += bytes;
        }
        net.run_for(SECOND);
    }
    let unread = net.engine(1).tcp().unread(&server.cell);
    assert!(unread > 0 && unread <= SHARE, "{unread} bytes for a reader that does not read");
    let (read, _) = net.read_available(&server);
    assert_eq!(read, sent[..read.len()], "what was acknowledged is there");
    drop(held);
    let mut received = read;
    net.run_until(SECOND * 300, |net| {
        while at < sent.len()
            && let Ok(bytes) = net.write(&client, &sent[at..])
        {
            at += bytes;
        }
        received.extend(net.read_available(&server).0);
        received.len() == sent.len()
    });
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
    assert_eq!(counters(&net).drops(crate::reasons::DropReason::ProtoMem), counters(&net).rcv_pruned);
}

#[test]
fn no_right_edge_moves_left_whatever_the_pressure() {
    let mut net = net(5);
    let (client, server) = net.connected();
    let mut edge = None;
    let mut held = Vec::new();
    for round in 0..40 {
        match round % 4 {
            0 => held.push(ballast(&net, 3 * MIB)),
            2 => held.clear(),
            _ => {}
        }
        let _ = net.write(&client, &[1; 4000]);
        if round % 3 == 0 {
            net.read_available(&server);
        }
        net.run_for(SECOND / 3);
        for passing in net.cable.take_trace().iter().filter(|passing| passing.from == 1) {
            let segment = passing.segment();
            if segment.is_syn() {
                continue;
            }
            // A window scale of 9, as the largest buffer asks for it.
            let right = segment.ack + (u32::from(segment.window) << 9);
            let before = *edge.get_or_insert(right);
            assert!(!right.before(before), "round {round}: {right:?} before {before:?}");
            edge = Some(right);
        }
    }
}

#[test]
fn data_out_of_order_goes_and_comes_again() {
    let mut net = net(6);
    let (client, server) = net.connected();
    let sent = pattern(0, 60_000);
    // The first segment is lost, and everything that repairs it, for a while.
    let lost_until = net.now + SECOND / 10;
    let first = Arc::new(std::sync::Mutex::new(None));
    let seen = Arc::clone(&first);
    net.cable.set_filter(move |passing| {
        let Some((.., segment, payload)) = passing.tcp.as_ref() else { return Verdict::Pass };
        if passing.from != 0 || payload.is_empty() {
            return Verdict::Pass;
        }
        let first = *seen.lock().unwrap().get_or_insert(segment.seq);
        if segment.seq == first && passing.at < lost_until { Verdict::Drop } else { Verdict::Pass }
    });
    let mut at = net.write(&client, &sent).unwrap();
    net.run_for(SECOND / 20);
    let holding = used(&net);
    assert_eq!(net.engine(1).tcp().unread(&server.cell), 0, "all of it is out of order");
    let held = ballast(&net, 4 * MIB);
    net.run_for(SWEPT / 4);
    let now = counters(&net);
    assert!(now.ofo_pruned >= 1 && now.ofo_bytes_pruned > 0 && now.prune_called >= 1, "{now:?}");
    assert!(used(&net) < holding + 4 * MIB - 5000, "{} bytes, {holding} before", used(&net) - 4 * MIB);
    drop(held);
    let mut received = Vec::new();
    net.run_until(SECOND * 60, |net| {
        while at < sent.len()
            && let Ok(bytes) = net.write(&client, &sent[at..])
        {
            at += bytes;
        }
        received.extend(net.read_available(&server).0);
        received.len() == sent.len()
    });
    assert!(received == sent, "{} bytes of {}", received.len(), sent.len());
}

#[test]
fn orphans_go_and_what_they_lose_is_counted() {
    let mut net = net(7);
    let (client, server) = net.connected();
    let written = fill(&net, &server);
    net.run_for(SECOND);
    // The peer has read nothing and acknowledged what its window took.
    let queued = net.engine(1).tcp().unacked(&server.cell);
    assert!(written > 50_000 && queued > SHARE, "{queued} bytes of {written} are not acknowledged");
    net.close(server);
    net.run_for(SECOND);
    assert_eq!(net.engine(1).tcp().orphans(), 1);
    let held = ballast(&net, 3 * MIB);
    // Pressure is noticed by the next call that holds a connection.
    let (other, accepted) = net.connected();
    net.run_for(SECOND);
    let now = counters(&net);
    assert_eq!((net.engine(1).tcp().orphans(), now.abort_on_memory), (0, 1));
    assert!(now.orphan_bytes_lost > 0 && now.orphan_bytes_lost <= queued as u64, "{}", now.orphan_bytes_lost);
    assert_eq!(net.state(&client), State::Closed, "the peer was told");
    assert_eq!(net.state(&accepted), State::Established, "who is held is not given up");
    drop((held, other));
}

#[test]
fn a_syn_that_is_refused_has_room_made() {
    let mut net = net(12);
    let (client, server) = net.connected();
    fill(&net, &server);
    net.run_for(SECOND);
    net.close(server);
    net.run_for(SECOND);
    // All that happens from now on is that SYNs come.
    net.cable.set_filter(|passing| if passing.from == 0 { Verdict::Drop } else { Verdict::Pass });
    let _listener = net.listen(1, 80, 8);
    let held = ballast(&net, 4 * MIB);
    net.cable.inject(net.now, 1, &syn(1));
    net.run_for(SWEPT);
    assert_eq!((net.engine(1).tcp().orphans(), counters(&net).abort_on_memory), (0, 1));
    drop((client, held));
}

/// A SYN of a stranger.
fn syn(port: u16) -> Vec<u8> {
    let segment = Segment {
        options: Options { mss: Some(1460), ..Options::default() },
        window: 8000,
        ..Segment::new(Flags::SYN, SeqNum::new(1000), SeqNum::default())
    };
    let ip = IpMeta::new([10, 0, 0, 77].into(), address(1, Family::V4), 64);
    let mut packet = HeaderBuf::new();
    let datagram = TcpDatagram { ip: &ip, src_port: port, dst_port: 80, segment: &segment, payload: &[] };
    emit_tcp(&mut packet, &datagram, ChecksumMode::Full);
    packet.to_vec()
}

#[test]
fn at_the_most_no_connection_begins_and_then_it_does() {
    let mut net = net(8);
    let listener = net.listen(1, 80, 8);
    let held = ballast(&net, 4 * MIB);
    let client = net.connect(0, to_host_1(80)).unwrap();
    net.run_for(SECOND / 2);
    assert_eq!((net.state(&client), listener.syn_queue_len()), (State::SynSent, 0));
    assert!(counters(&net).syn_memory_drops > 0);
    drop(held);
    net.run_for(SECOND * 3);
    assert_eq!(net.state(&client), State::Established);
    assert_eq!(listener.accept_queue_len(), 1);
}

/// The window that the SYN-ACK to a SYN offers.
fn offered(net: &mut Net, port: u16) -> u16 {
    net.cable.take_trace();
    net.cable.inject(net.now, 1, &syn(port));
    net.settle();
    let trace = net.cable.take_trace();
    let answer = trace.iter().find(|passing| passing.from == 1).expect("a SYN-ACK");
    answer.segment().window
}

#[test]
fn under_pressure_new_connections_are_offered_small_windows() {
    let mut net = net(9);
    let _listener = net.listen(1, 80, 8);
    assert!(offered(&mut net, 1) > 60_000);
    let held = ballast(&net, 4 * MIB - 100 * 1024);
    let window = offered(&mut net, 2);
    assert!((4096..60_000).contains(&window), "{window}");
    drop(held);
    assert!(offered(&mut net, 3) > 60_000);
}

#[test]
fn half_open_connections_take_half_a_kilobyte_each() {
    let mut net = net(10);
    let listener = net.listen(1, 80, 4096);
    net.cable.inject(net.now, 1, &syn(7000));
    net.run_for(SECOND * 100);
    let before = used(&net);
    (1..=1000).for_each(|port| net.cable.inject(net.now, 1, &syn(port)));
    net.settle();
    assert_eq!(listener.syn_queue_len(), 1000);
    let each = (used(&net) - before) / 1000;
    assert!((200..=512).contains(&each), "{each} bytes a half-open connection");
    net.run_for(SECOND * 100);
    assert_eq!((listener.syn_queue_len(), used(&net)), (0, before));
}

#[test]
fn received_data_is_copied_out_of_large_buffers() {
    let mut net = net(11);
    let (client, server) = net.connected();
    for _ in 0..5 {
        net.write(&client, &[1; 1000]).unwrap();
        net.run_for(SECOND);
    }
    let before = used(&net);
    let held = ballast(&net, 3 * MIB);
    net.write(&client, b"x").unwrap();
    net.run_for(SWEPT * 3);
    let now = counters(&net);
    assert!(now.rcv_collapsed > 0, "{now:?}");
    assert!(used(&net) - held.bytes() < before, "{} bytes after, {before} before", used(&net) - held.bytes());
    assert_eq!(net.read_available(&server).0.len(), 5001);
}
