//! A case for each reason for a reset.

use super::*;
use crate::config::EcnNegotiation;
use crate::reasons::ResetReason;
use crate::stack::Rejection;
use crate::tcp::State;
use std::collections::BTreeMap;
use std::io;
use std::net::Shutdown;

#[test]
fn each_reason_has_its_case() {
    let cases: BTreeMap<ResetReason, Case> = CASES.iter().copied().collect();
    for &reason in ResetReason::ALL {
        let net = cases.get(&reason).unwrap_or_else(|| panic!("no case for {reason:?}"))();
        let counters = [0, 1].map(|host| net.engine(host).counters());
        let resets = counters.map(|counters| counters.resets(reason));
        assert_eq!(resets.iter().sum::<u64>(), 1, "{reason:?}");
        for counters in counters {
            let sum: u64 = ResetReason::ALL.iter().map(|reason| counters.resets(*reason)).sum();
            assert_eq!(sum, counters.tcp_out_resets, "{reason:?}: each has one reason");
            let listed = counters.iter().find(|(name, _)| *name == reason.counter_name());
            assert_eq!(listed.map(|(_, count)| count), Some(counters.resets(reason)));
        }
    }
}

/// The third segment of a handshake acknowledges something else.
pub(super) fn invalid_ack() -> Net {
    let mut net = net();
    let _listener = net.listen(1, 80, 8);
    let iss = half_open(&mut net, &[]);
    give(&mut net, [packet(&stranger(), &segment(Flags::ACK, 1001, iss.raw().wrapping_add(77)), &[])]);
    net
}

/// The third segment of a handshake with Fast Open is older than it.
pub(super) fn old_ack() -> Net {
    let mut net = net();
    let iss = opened_fast(&mut net);
    give(&mut net, [packet(&stranger(), &segment(Flags::ACK, 1006, iss.raw().wrapping_sub(5)), &[])]);
    net
}

/// Data for a connection that is closed in both directions, and still held.
pub(super) fn abort_on_data() -> Net {
    let mut net = net();
    let (client, server, _) = talking(&mut net);
    net.engine(0).with_tcp(net.now, |tcp, turn| tcp.shutdown(turn, &client.cell, Shutdown::Both)).unwrap();
    net.run_for(SECOND);
    net.write(&server, b"too late").unwrap();
    net.run_for(SECOND);
    net
}

/// What closes or aborts a connection at host 1.
fn ending(end: impl FnOnce(&mut Net, Socket)) -> Net {
    let mut net = net();
    let (client, server) = net.connected();
    end(&mut net, server);
    net.run_for(SECOND);
    drop(client);
    net
}

fn with_options(net: &Net, socket: &Socket, change: impl FnOnce(&mut crate::tcp::SocketOptions)) {
    let engine = net.engine(socket.host);
    engine.with_tcp(net.now, |tcp, turn| tcp.with_options(turn, &socket.cell, change));
}

fn abort(net: &Net, socket: &Socket) {
    net.engine(socket.host).with_tcp(net.now, |tcp, turn| tcp.abort(turn, &socket.cell));
}

const CASES: &[(ResetReason, Case)] = &[
    (ResetReason::NoSocket, || {
        let mut net = net();
        give(&mut net, [packet(&stranger(), &segment(Flags::SYN, 1, 0), &[])]);
        net
    }),
    (ResetReason::TcpInvalidAckSequence, invalid_ack),
    (ResetReason::TcpInvalidSyn, || {
        let mut net = net_with(|config| config.ecn = EcnNegotiation::AcceptAccurate);
        let _listener = net.listen(1, 80, 8);
        // RFC 3168 first, and then AccECN: RFC 9768 section 3.1.5.
        let classic = Flags::SYN.with(Flags::ECE).with(Flags::CWR);
        for flags in [classic, classic.with(Flags::AE)] {
            give(&mut net, [packet(&stranger(), &segment(flags, 1000, 0), &[])]);
        }
        net
    }),
    (ResetReason::TcpRfc7323Paws, || {
        let mut net = net();
        let _listener = net.listen(1, 80, 8);
        silence(&net);
        let client = net.connect(0, to_host_1(80)).unwrap();
        net.settle();
        let syn = net.cable.take_trace().remove(0);
        net.cable.clear_filter();
        let mut answer = segment(Flags::SYN.with(Flags::ACK), 1, syn.segment().seq.raw().wrapping_add(1));
        answer.options.timestamps = Some(Timestamps { tsval: 5, tsecr: 123_456 });
        let (from, to) = (address(1, Family::V4), address(0, Family::V4));
        let mut header = HeaderBuf::new();
        let ip = IpMeta::new(from, to, 64);
        let (src_port, dst_port) = (80, client.cell.local_addr().port());
        let datagram = TcpDatagram { ip: &ip, src_port, dst_port, segment: &answer, payload: &[] };
        emit_tcp(&mut header, &datagram, ChecksumMode::Full);
        net.cable.inject(net.now, 0, &header);
        net.settle();
        net
    }),
    (ResetReason::TcpAckUnsentData, || {
        let mut net = net();
        let iss = opened_fast(&mut net);
        give(&mut net, [packet(&stranger(), &segment(Flags::ACK, 1006, iss.raw().wrapping_add(500)), &[])]);
        net
    }),
    (ResetReason::TcpOldAck, old_ack),
    (ResetReason::TcpFlags, || {
        let mut net = net();
        let _listener = net.listen(1, 80, 8);
        give(&mut net, [packet(&stranger(), &segment(Flags::ACK, 1, 1), &[])]);
        net
    }),
    (ResetReason::TcpAbortOnData, abort_on_data),
    (ResetReason::TcpTimewaitSocket, || {
        let mut net = net();
        let (client, server, _) = talking(&mut net);
        net.close(client);
        net.run_for(SECOND);
        assert_eq!(net.engine(0).tcp().time_waits(), 1);
        net.write(&server, b"too late").unwrap();
        net.run_for(SECOND);
        net
    }),
    (ResetReason::TcpClose, segment_behind_a_reset),
    (ResetReason::TcpAbortOnClose, || {
        let mut net = net();
        let (_client, server, _) = talking(&mut net);
        net.close(server);
        net.run_for(SECOND);
        net
    }),
    (ResetReason::TcpAbortOnLinger, || {
        ending(|net, server| {
            with_options(net, &server, |options| options.linger = Some(Duration::ZERO));
            net.close(server);
        })
    }),
    (ResetReason::TcpAbortOnMemory, || {
        let mut net = net_with(|config| config.max_orphans = 0);
        let (_client, server) = net.connected();
        net.close(server);
        net.run_for(SECOND);
        net
    }),
    (ResetReason::TcpState, || ending(|net, server| abort(net, &server))),
    (ResetReason::TcpDisconnectWithData, || {
        let mut net = net();
        let (client, server) = net.connected();
        net.close(client);
        net.run_for(SECOND);
        silence(&net);
        net.write(&server, b"lost").unwrap();
        let how = Shutdown::Write;
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.shutdown(turn, &server.cell, how)).unwrap();
        assert_eq!(net.state(&server), State::LastAck);
        abort(&net, &server);
        net
    }),
    (ResetReason::TcpKeepaliveTimeout, || {
        ending(|net, server| {
            with_options(net, &server, |options| {
                options.keepalive = true;
                options.keepalive_time = SECOND;
                options.keepalive_interval = SECOND;
                options.keepalive_retries = 2;
            });
            silence(net);
            net.run_for(10 * SECOND);
            assert_eq!(net.read(&server).unwrap_err().kind(), io::ErrorKind::TimedOut);
        })
    }),
    (ResetReason::TcpAbortOnOverflow, || {
        let mut net = net_with(|config| config.abort_on_overflow = true);
        let _listener = net.listen(1, 80, 1);
        net.cable.set_filter(|passing| match passing.from {
            0 if !passing.segment().is_syn() => Verdict::Drop,
            _ => Verdict::Pass,
        });
        let _late = net.connect(0, to_host_1(80)).unwrap();
        net.run_for(100 * MS);
        net.cable.clear_filter();
        for _ in 0..2 {
            let _other = net.connect(0, to_host_1(80)).unwrap();
            net.run_for(100 * MS);
        }
        net.run_for(2 * SECOND);
        net
    }),
    (ResetReason::Rejected, || {
        let mut net = net();
        let listener = listen_pending(&net);
        let _client = net.connect(0, to_host_1(80)).unwrap();
        net.run_for(100 * MS);
        let pending = pending(&net, &listener);
        let how = Rejection::Reset;
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.reject_pending(turn, &pending, how));
        net
    }),
    (ResetReason::ListenerClosed, || {
        let mut net = net();
        let listener = net.listen(1, 80, 8);
        let _client = net.connect(0, to_host_1(80)).unwrap();
        net.run_for(SECOND);
        net.engine(1).with_tcp(net.now, |tcp, turn| tcp.close_listener(turn, &listener));
        net
    }),
    (ResetReason::StackShutDown, || {
        ending(|net, _server| net.engine(1).fail_all(net.now, &io::Error::other("shut down")))
    }),
];
