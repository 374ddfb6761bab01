//! Each reason for a drop, a reset or an end, brought about and counted.

mod drops;
mod ends;
mod resets;
mod traces;

use super::{SECOND, to_host_1};
use crate::config::Config;
use crate::reasons::DropReason;
use crate::stack::Listener;
use crate::stack::testing::{LinkSpec, Net, Passing, Socket, Verdict, address};
use crate::stack::{Family, PendingSyn};
use crate::time::Duration;
use crate::wire::{
    ChecksumMode, Flags, HeaderBuf, IpMeta, Segment, SeqNum, TcpDatagram, Timestamps, checksum, emit_ip,
    emit_tcp, protocol,
};
use std::net::IpAddr;
use std::sync::Arc;

/// Brings something about, and gives the network in which it happened.
type Case = fn() -> Net;

const MS: Duration = Duration::from_millis(1);

fn net() -> Net {
    net_with(|_| ())
}

fn net_with(change: impl Fn(&mut Config)) -> Net {
    Net::pair_with(97, LinkSpec::default(), |_, config| change(config))
}

/// A stranger on the network of host 1.
fn stranger() -> IpMeta {
    IpMeta::new(IpAddr::from([10, 0, 0, 9]), address(1, Family::V4), 64)
}

/// A segment with these numbers.
fn segment(flags: Flags, seq: u32, ack: u32) -> Segment {
    Segment { window: 10_000, ..Segment::new(flags, SeqNum::new(seq), SeqNum::new(ack)) }
}

/// A segment from port 5000 to port 80.
fn packet(ip: &IpMeta, segment: &Segment, payload: &[u8]) -> Vec<u8> {
    let mut header = HeaderBuf::new();
    let segment = &Segment { payload_len: payload.len(), ..segment.clone() };
    let payload: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
    let datagram = TcpDatagram { ip, src_port: 5000, dst_port: 80, segment, payload };
    emit_tcp(&mut header, &datagram, ChecksumMode::Full);
    [&header[..], &payload.concat()].concat()
}

/// A packet of another protocol.
fn datagram(protocol: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0; 20];
    emit_ip(&mut packet, &stranger(), protocol, body.len());
    packet.extend(body);
    packet
}

/// A fragment.
fn fragment(id: u16, offset: u16, more: bool, len: usize) -> Vec<u8> {
    let mut packet = datagram(protocol::UDP, &vec![7; len]);
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&((offset / 8) | (u16::from(more) << 13)).to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// An ICMP message to host 1 from a stranger.
fn icmp(kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0, 0];
    message.extend(body);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    datagram(protocol::ICMP, &message)
}

/// Gives packets to host 1.
fn give(net: &mut Net, packets: impl IntoIterator<Item = Vec<u8>>) {
    packets.into_iter().for_each(|packet| net.cable.inject(net.now, 1, &packet));
    net.settle();
}

/// A connection that has carried a byte from host 0, and the segment that did.
fn talking(net: &mut Net) -> (Socket, Socket, Passing) {
    let (client, server) = net.connected();
    net.write(&client, b"x").unwrap();
    net.run_for(SECOND);
    let carried = net.cable.take_trace().into_iter().rfind(|passing| {
        passing.from == 0 && passing.tcp.as_ref().is_some_and(|(.., payload)| !payload.is_empty())
    });
    (client, server, carried.expect("a byte was sent"))
}

/// After a connection has carried a byte, host 1 gets the segment again that did, changed: its sequence
/// number is the next one, and it has no payload.
fn after_talking(change: impl FnOnce(&mut Segment, &mut Vec<u8>)) -> Net {
    let mut net = net();
    let (_, _, carried) = talking(&mut net);
    let changed = carried.forged(|segment, payload| {
        payload.clear();
        segment.seq = segment.seq + 1;
        segment.flags = Flags::ACK;
        change(segment, payload);
    });
    give(&mut net, [changed]);
    net
}

/// After a connection has carried a byte, host 1 gets a reset and another segment of it in one batch, at
/// the end of which the connection leaves the table.
fn segment_behind_a_reset() -> Net {
    let mut net = net();
    let (_, _, carried) = talking(&mut net);
    let next = |segment: &mut Segment, payload: &mut Vec<u8>| {
        payload.clear();
        segment.seq = segment.seq + 1;
    };
    let reset = carried.forged(|segment, payload| {
        next(segment, payload);
        segment.flags = Flags::RST;
    });
    give(&mut net, [reset, carried.forged(next)]);
    net
}

/// A connection of a stranger that Fast Open made at host 1, and the number of its SYN-ACK.
fn opened_fast(net: &mut Net) -> SeqNum {
    let listener = net.listen(1, 80, 8);
    listener.with_options(|options| {
        options.fastopen_queue = 8;
        options.fastopen_no_cookie = true;
    });
    half_open(net, b"early")
}

/// Host 1 gets a SYN; the number of its SYN-ACK.
fn half_open(net: &mut Net, payload: &[u8]) -> SeqNum {
    let _ = net.cable.take_trace();
    give(net, [packet(&stranger(), &segment(Flags::SYN, 1000, 0), payload)]);
    let answers = net.cable.take_trace();
    assert!(answers[0].segment().is_syn(), "{answers:?}");
    answers[0].segment().seq
}

/// A listener of host 1 whose application decides about each SYN.
fn listen_pending(net: &Net) -> Arc<Listener> {
    let socket = bound(net);
    let observer = Arc::new(crate::stack::testing::Recorder::default());
    net.engine(1).with_tcp(net.now, |tcp, turn| tcp.listen_pending(turn, socket, 8, observer)).unwrap()
}

fn bound(net: &Net) -> crate::stack::Unconnected {
    let mut socket = net.socket(1, Family::V4);
    let engine = net.engine(1);
    engine.tcp().bind(engine.core(), &mut socket, "0.0.0.0:80".parse().unwrap()).unwrap();
    socket
}

fn pending(net: &Net, listener: &Listener) -> Arc<PendingSyn> {
    net.engine(1).tcp().accept_pending(listener).expect("a SYN waits")
}

/// Nothing of host 1 arrives any more.
fn silence(net: &Net) {
    net.cable.set_filter(|_| Verdict::Drop);
}
