//! A case for each reason for a drop.

use super::*;
use crate::config::{EchoPolicy, SynCookieMode};
use crate::stack::testing::icmp_about;
use crate::stack::tests::udp::forwarding;
use crate::stack::tests::{any_ip, interfaces, mtu};
use crate::stack::{Batch, Counters, UnboundUdp};
use std::collections::BTreeMap;

/// What host 1 dropped for `reason`, after what `case` did.
fn check(reason: DropReason, case: Case) {
    let net = case();
    let counters: Vec<_> = net.hosts.iter().map(|host| host.engine.counters()).collect();
    let drops: u64 = counters.iter().map(|counters| counters.drops(reason)).sum();
    assert!(drops > 0, "{reason:?} does not count");
    let listed = counters.iter().flat_map(Counters::iter).filter(|(name, _)| *name == reason.counter_name());
    let listed: u64 = listed.map(|(_, count)| count).sum();
    assert_eq!(listed, drops, "{reason:?}");
}

#[test]
fn each_reason_has_its_case() {
    let cases: BTreeMap<DropReason, Case> =
        IP.iter().chain(UDP).chain(TCP).chain(HANDSHAKE).copied().collect();
    for reason in DropReason::ALL {
        match cases.get(reason) {
            Some(case) => check(*reason, *case),
            // Only threads that race cause these: `stack/tcp/tests.rs` plays them.
            None => assert!(matches!(reason, DropReason::Raced | DropReason::ListenerClosed), "{reason:?}"),
        }
    }
}

fn given(packets: impl IntoIterator<Item = Vec<u8>>) -> Net {
    let mut net = net();
    give(&mut net, packets);
    net
}

fn syn(ip: &IpMeta) -> Vec<u8> {
    packet(ip, &segment(Flags::SYN, 1000, 0), &[])
}

fn syn_from(src: [u8; 4]) -> Vec<u8> {
    syn(&IpMeta { src: src.into(), ..stranger() })
}

fn syn_to(dst: [u8; 4]) -> Vec<u8> {
    syn(&IpMeta { dst: dst.into(), ..stranger() })
}

const IP: &[(DropReason, Case)] = &[
    (DropReason::PktTooSmall, || given([vec![0x45; 10]])),
    (DropReason::IpInhdr, || given([vec![0x10; 40]])),
    (DropReason::IpCsum, || {
        let mut packet = syn(&stranger());
        packet[8] ^= 1;
        given([packet])
    }),
    (DropReason::Ipv6BadExthdr, || {
        let mut packet = syn(&IpMeta::new("fd00::9".parse().unwrap(), address(1, Family::V6), 64));
        // What was the port is taken for the length of a header of hop-by-hop options.
        packet[6] = 0;
        packet[41] = 200;
        given([packet])
    }),
    (DropReason::IpInvalidSource, || given([syn_from([224, 0, 0, 1])])),
    (DropReason::IpLocalSource, || given([syn_from([10, 0, 0, 2])])),
    (DropReason::IpLocalnet, || given([syn_from([127, 0, 0, 1])])),
    (DropReason::IpInvalidDest, || given([syn_to([0, 0, 0, 0])])),
    (DropReason::MappedAddress, || {
        given([syn(&IpMeta::new("::ffff:10.0.0.9".parse().unwrap(), address(1, Family::V6), 64))])
    }),
    (DropReason::OtherHost, || given([syn_to([10, 0, 0, 77])])),
    (DropReason::FragInvalid, || given([fragment(1, 0, true, 15)])),
    (DropReason::FragOverlap, || given([fragment(1, 0, true, 16), fragment(1, 8, true, 16)])),
    (DropReason::DupFrag, || given([fragment(1, 0, true, 16), fragment(1, 0, true, 16)])),
    (DropReason::FragReasmTimeout, || {
        let mut net = given([fragment(1, 0, true, 16)]);
        net.run_for(31 * SECOND);
        net
    }),
    (DropReason::FragMemory, || given((0..4000).map(|id| fragment(id, 0, true, 1400)))),
    (DropReason::IpNoproto, || given([datagram(99, &[1, 2, 3, 4])])),
    (DropReason::NotUnicast, || given([syn_to([10, 0, 0, 255])])),
    (DropReason::IcmpCsum, || given([datagram(protocol::ICMP, &[8, 0, 1, 1, 0, 0, 0, 0])])),
    (DropReason::IcmpUnhandled, || given([icmp(13, 0, &[0; 12])])),
    (DropReason::IcmpOutOfWindow, || {
        let mut net = net();
        let (_, server, _) = talking(&mut net);
        net.write(&server, b"y").unwrap();
        net.run_for(SECOND);
        let sent = net.cable.take_trace().into_iter().find(|passing| passing.from == 1).unwrap();
        give(&mut net, [icmp_about(&sent.forged(|_, _| ()), (3, 1), 0)]);
        net
    }),
    (DropReason::IcmpRatelimit, || {
        let mut net = net_with(|config| (config.icmp_burst, config.icmp_rate) = (1, 1));
        give(&mut net, (0..20).map(|_| datagram(protocol::UDP, &[0x10, 0, 0, 53, 0, 8, 0, 0])));
        net
    }),
    (DropReason::EchoIgnored, || any_ip::pinged(EchoPolicy::Ignore, 1)),
    (DropReason::EchoQueueFull, || any_ip::pinged(EchoPolicy::Forward, 257)),
    (DropReason::IpRpfilter, interfaces::filtered),
    (DropReason::PktTooBig, mtu::headers_too_long),
    (DropReason::DeviceLoss, mtu::lost_by_the_device),
    (DropReason::InterfaceDown, || {
        let mut net = net();
        net.engine(1).core().set_down(0, true).unwrap();
        give(&mut net, [syn(&stranger())]);
        net
    }),
    (DropReason::NoSocket, || given([syn(&stranger())])),
    (DropReason::RstRatelimit, || {
        let mut net = net_with(|config| (config.reset_burst, config.reset_rate) = (1, 1));
        give(&mut net, (0..20).map(|_| syn(&stranger())));
        assert!(net.engine(1).counters().drops(DropReason::NoSocket) >= 1);
        net
    }),
];

const UDP: &[(DropReason, Case)] = &[
    (DropReason::UdpCsum, || given([datagram(protocol::UDP, &[0x10, 0, 0, 53, 0, 8, 1, 2])])),
    (DropReason::UdpFlowsFull, forwarding::flooded),
    (DropReason::SocketRcvbuff, || {
        let mut net = net();
        let engine = net.engine(1);
        let mut socket = UnboundUdp::new(engine.core(), Family::V4);
        socket.recv_buffer = 1;
        let observer = Arc::new(crate::stack::testing::Recorder::default());
        let _socket =
            engine.udp().bind(engine.core(), socket, "0.0.0.0:53".parse().unwrap(), observer).unwrap();
        give(&mut net, (0..20).map(|_| datagram(protocol::UDP, &[0x10, 0, 0, 53, 0, 8, 0, 0])));
        net
    }),
];

const TCP: &[(DropReason, Case)] = &[
    (DropReason::ProtoMem, || {
        let net = net();
        let _listener = net.listen(1, 80, 8);
        let memory = net.engine(1).core().memory();
        let _held = crate::memory::Charge::new(memory, memory.budget().high + 1);
        let mut net = net;
        give(&mut net, [syn(&stranger())]);
        net
    }),
    (DropReason::TcpCsum, || {
        let mut packet = syn(&stranger());
        *packet.last_mut().unwrap() ^= 1;
        given([packet])
    }),
    (DropReason::TcpFlags, || after_talking(|segment, _| segment.flags = Flags::PSH)),
    (DropReason::TcpReset, || {
        after_talking(|segment, _| (segment.flags, segment.seq) = (Flags::RST, segment.seq + 100))
    }),
    (DropReason::TcpInvalidSyn, || after_talking(|segment, _| segment.flags = Flags::SYN)),
    (DropReason::TcpClose, segment_behind_a_reset),
    (DropReason::TcpRfc7323Paws, || {
        after_talking(|segment, _| {
            let Timestamps { tsval, tsecr } = segment.options.timestamps.unwrap();
            segment.options.timestamps = Some(Timestamps { tsval: tsval.wrapping_sub(1000), tsecr });
        })
    }),
    (DropReason::TcpInvalidSequence, || after_talking(|segment, _| segment.seq = segment.seq + 10_000_000)),
    (DropReason::TcpOldSequence, || after_talking(|segment, _| segment.seq = segment.seq - 1000)),
    (DropReason::TcpOldData, || {
        after_talking(|segment, payload| {
            segment.seq = segment.seq - 1;
            payload.push(b'x');
        })
    }),
    (DropReason::TcpOverwindow, || {
        after_talking(|segment, payload| {
            segment.seq = segment.seq + 10_000_000;
            payload.push(b'x');
        })
    }),
    (DropReason::TcpOfomerge, || {
        let mut net = net();
        let (_, _, carried) = talking(&mut net);
        let ahead = carried.forged(|segment, _| segment.seq = segment.seq + 100);
        give(&mut net, [ahead.clone(), ahead]);
        net
    }),
    (DropReason::TcpOfoDrop, || {
        let mut net = net_with(|config| config.recv_buffer_initial = 4096);
        let (_, _, carried) = talking(&mut net);
        let holes = (1..900).map(|n| carried.forged(|segment, _| segment.seq = segment.seq + 2 * n));
        give(&mut net, holes.collect::<Vec<_>>());
        net
    }),
    (DropReason::TcpTooOldAck, || after_talking(|segment, _| segment.ack = segment.ack - 100_000_000)),
    (DropReason::TcpAckUnsentData, || after_talking(|segment, _| segment.ack = segment.ack + 1000)),
    (DropReason::TcpAbortOnData, resets::abort_on_data),
    (DropReason::TcpTimewait, || {
        let mut net = net();
        let (client, server, _) = talking(&mut net);
        net.close(client);
        net.run_for(SECOND);
        let _ = net.cable.take_trace();
        assert_eq!(net.read(&server).unwrap(), b"x");
        net.close(server);
        net.run_for(SECOND);
        let fin = net.cable.take_trace().into_iter().find(|passing| passing.from == 1).unwrap();
        assert!(fin.segment().is_fin());
        net.cable.inject(net.now, 0, &fin.forged(|_, _| ()));
        net.settle();
        net
    }),
    (DropReason::SocketBacklog, || {
        let mut net = net();
        let (_, server, carried) = talking(&mut net);
        let engine = Arc::clone(net.engine(1));
        let (queue, mut out) = (engine.core().queues().next().unwrap(), Batch::new());
        let bytes = carried.forged(|_, _| ());
        {
            let _held = server.cell.lock_for_test();
            for _ in 0..257 {
                let mut packet = engine.core().pool().take();
                packet.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
                let meta = crate::device::RxMeta { len: bytes.len(), ..Default::default() };
                engine.on_packet(net.now, queue, packet, meta, &mut out);
            }
        }
        engine.end_batch(net.now, &mut out);
        out.deliver(&engine);
        net
    }),
];

const HANDSHAKE: &[(DropReason, Case)] = &[
    (DropReason::TcpInvalidAckSequence, resets::invalid_ack),
    (DropReason::TcpOldAck, resets::old_ack),
    (DropReason::TcpRfc7323Tsecr, || {
        let mut net = net();
        let _listener = net.listen(1, 80, 8);
        let with = |mut segment: Segment, tsval, tsecr| {
            segment.options.timestamps = Some(Timestamps { tsval, tsecr });
            packet(&stranger(), &segment, &[])
        };
        give(&mut net, [with(segment(Flags::SYN, 1000, 0), 5, 0)]);
        let iss = net.cable.take_trace()[0].segment().seq;
        give(&mut net, [with(segment(Flags::ACK, 1001, iss.raw().wrapping_add(1)), 6, 0xdead_beef)]);
        net
    }),
    (DropReason::SynQueueFull, || {
        let mut net = net_with(|config| config.syncookies = SynCookieMode::Off);
        let _listener = net.listen(1, 80, 1);
        give(&mut net, (1..5).map(|n| syn_from([10, 0, 0, 100 + n])));
        net
    }),
    (DropReason::TcpListenOverflow, || {
        let mut net = net();
        let _listener = net.listen(1, 80, 0);
        let _first = net.connect(0, to_host_1(80)).unwrap();
        net.run_for(SECOND);
        give(&mut net, [syn(&stranger())]);
        net
    }),
    (DropReason::ConnectionLimit, || {
        let mut net = net_with(|config| config.max_connections = 1);
        let _listener = net.listen(1, 80, 8);
        let _first = net.connect(0, to_host_1(80)).unwrap();
        net.run_for(SECOND);
        give(&mut net, [syn(&stranger())]);
        net
    }),
    (DropReason::TcpDeferAccept, || {
        let mut net = net();
        let listener = net.listen(1, 80, 8);
        listener.with_options(|options| options.defer_accept = 3);
        let _client = net.connect(0, to_host_1(80)).unwrap();
        net.run_for(SECOND / 2);
        net
    }),
    (DropReason::SynHeld, || {
        let mut net = net();
        let _listener = listen_pending(&net);
        let _client = net.connect(0, to_host_1(80)).unwrap();
        net.run_for(2 * SECOND);
        net
    }),
    (DropReason::AckRatelimit, || {
        let mut net = net();
        let _listener = net.listen(1, 80, 8);
        let iss = half_open(&mut net, &[]);
        let stray = packet(&stranger(), &segment(Flags::ACK, 900, iss.raw().wrapping_add(1)), &[]);
        give(&mut net, [stray.clone(), stray]);
        assert_eq!(net.engine(1).counters().drops(DropReason::TcpOverwindow), 1);
        net
    }),
];
