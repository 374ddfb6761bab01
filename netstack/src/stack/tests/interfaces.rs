//! A host with two interfaces: what leaves follows the route and the socket's device, never the last
//! packet that arrived.

use super::SECOND;
use crate::config::{Config, ReversePath};
use crate::reasons::DropReason;
use crate::stack::testing::{Cable, LinkSpec, Net, Passing, Recorder, Socket};
use crate::stack::{Batch, Engine, Family, Interface, Listener};
use crate::tcp::State;
use crate::wire::{
    ChecksumMode, Flags, HeaderBuf, IcmpMessage, IpMeta, Segment, SeqNum, TcpDatagram, emit_icmp, emit_ip,
    emit_tcp, protocol,
};
use std::net::{IpAddr, Shutdown};
use std::sync::Arc;

/// Host 0 is 10.0.0.1 on its first cable and 192.0.2.1 on its second, which has a larger MTU. The peer,
/// which the tests play, is 10.0.0.9: the route to it leads through the first.
struct TwoCables {
    net: Net,
    cables: [Arc<Cable>; 2],
}

const HOME: usize = 0;
const OTHER: usize = 1;
const PEER_ISN: u32 = 1000;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The packet of a segment from port 5000 of the peer to port 80 of the host.
fn segment(flags: Flags, seq: u32, ack: u32, payload: &[u8]) -> Vec<u8> {
    segment_to(80, flags, (seq, ack), payload)
}

fn segment_to(port: u16, flags: Flags, (seq, ack): (u32, u32), payload: &[u8]) -> Vec<u8> {
    let mut segment = Segment { window: 60_000, ..Segment::new(flags, SeqNum::new(seq), SeqNum::new(ack)) };
    segment.payload_len = payload.len();
    segment.options.mss = flags.contains(Flags::SYN).then_some(9000);
    let meta = IpMeta::new(ip("10.0.0.9"), ip("10.0.0.1"), 64);
    let pieces: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
    let mut header = HeaderBuf::new();
    emit_tcp(
        &mut header,
        &TcpDatagram { ip: &meta, src_port: 5000, dst_port: port, segment: &segment, payload: pieces },
        ChecksumMode::Full,
    );
    [&header[..], payload].concat()
}

impl TwoCables {
    fn new(seed: u64) -> Self {
        Self::with(Config { seed: Some(seed), ..Config::default() })
    }

    fn with(config: Config) -> Self {
        let cables = [1500, 9000].map(|mtu| Cable::new(LinkSpec { mtu, ..LinkSpec::default() }));
        let interfaces = [(HOME, "10.0.0.1/24"), (OTHER, "192.0.2.1/24")]
            .map(|(cable, address)| Interface::new(cables[cable].end(0)).address(address));
        let mut net = Net::alone(0, Vec::new());
        net.replace_host(0, Engine::new(config, interfaces.into()).unwrap(), Batch::new());
        Self { net, cables }
    }

    fn listen(&self, device: Option<&str>) -> Arc<Listener> {
        let engine = self.net.engine(0);
        let mut socket = self.net.socket(0, Family::V4);
        socket.ip.bind_device(engine.core(), device).unwrap();
        engine.tcp().bind(engine.core(), &mut socket, "0.0.0.0:80".parse().unwrap()).unwrap();
        engine
            .with_tcp(self.net.now, |tcp, turn| tcp.listen(turn, socket, 8, Arc::new(Recorder::default())))
            .unwrap()
    }

    /// A packet arrives on a cable.
    fn arrives(&mut self, cable: usize, packet: &[u8]) {
        self.cables[cable].inject(self.net.now, 0, packet);
        self.net.settle();
    }

    /// What the host sent since the last call, by cable.
    fn sent(&self) -> [Vec<Passing>; 2] {
        [HOME, OTHER].map(|cable| self.cables[cable].take_trace())
    }

    /// That which the host sent; it left through `cable` alone.
    #[track_caller]
    fn sent_on(&self, cable: usize, what: &str) -> Vec<Passing> {
        let [mut home, mut other] = self.sent();
        if cable == OTHER {
            std::mem::swap(&mut home, &mut other);
        }
        assert!(!home.is_empty(), "{what}: nothing was sent where it belongs");
        assert!(other.is_empty(), "{what}: sent on the other interface");
        home
    }

    /// A handshake whose SYN arrives on one cable and whose third segment on another. Gives the connection
    /// and the host's first sequence number after its SYN.
    #[track_caller]
    fn accepted(
        &mut self,
        listener: &Arc<Listener>,
        syn: usize,
        third: usize,
        leaves: usize,
    ) -> (Socket, u32) {
        self.arrives(syn, &segment(Flags::SYN, PEER_ISN, 0, b""));
        let syn_ack = self.sent_on(leaves, "SYN-ACK").remove(0);
        let mss = if leaves == HOME { 1460 } else { 8960 };
        assert_eq!(syn_ack.segment().options.mss, Some(mss), "that of the interface it leaves through");
        let una = syn_ack.segment().seq.raw().wrapping_add(1);
        self.arrives(third, &segment(Flags::ACK, PEER_ISN + 1, una, b""));
        (self.net.accept(0, listener).unwrap(), una)
    }
}

#[test]
fn a_connection_stays_on_its_interface_whatever_arrives_on_another() {
    let mut host = TwoCables::new(200);
    let listener = host.listen(None);
    let (server, mut una) = host.accepted(&listener, HOME, HOME, HOME);
    let next = PEER_ISN + 1;
    for (what, flags, seq, payload) in [
        ("data outside the window", Flags::ACK, next.wrapping_add(1 << 30), &b"x"[..]),
        ("a reset outside the window", Flags::RST, next.wrapping_sub(5), b""),
        ("no flags", Flags::from_bits(0), next, b""),
        ("a keep-alive", Flags::ACK, next - 1, b""),
        ("a SYN", Flags::SYN, next, b""),
        ("an acceptable segment", Flags::ACK, next, b""),
    ] {
        host.arrives(OTHER, &segment(flags, seq, una, payload));
        let [_, other] = host.sent();
        assert!(other.is_empty(), "{what}: answered on the other interface");
        host.net.write(&server, b"data").unwrap();
        host.sent_on(HOME, what);
        una = una.wrapping_add(4);
        host.arrives(HOME, &segment(Flags::ACK, next, una, b""));
        host.sent();
    }
    host.arrives(OTHER, &segment(Flags::ACK, next, una, b"hello"));
    assert_eq!(host.net.read(&server).unwrap(), b"hello", "what arrives elsewhere is received");
    host.net.run_for(SECOND);
    host.sent_on(HOME, "its acknowledgment");
    host.net.write(&server, &[7; 4000]).unwrap();
    let data = host.sent_on(HOME, "data");
    host.arrives(OTHER, &segment(Flags::RST, next.wrapping_sub(5), una, b""));
    host.net.run_for(5 * SECOND);
    host.sent_on(HOME, "a retransmission");
    assert!(data.iter().all(|sent| sent.ip.payload.end <= 1500), "within the MTU of its interface");
}

#[test]
fn half_open_connections_and_time_wait_stay_on_their_interface() {
    let mut host = TwoCables::new(201);
    let listener = host.listen(None);
    let (server, una) = host.accepted(&listener, OTHER, OTHER, HOME);
    host.net.write(&server, b"data").unwrap();
    host.sent_on(HOME, "data of an accepted connection");
    host.arrives(HOME, &segment(Flags::ACK, PEER_ISN + 1, una + 4, b""));
    host.net
        .engine(0)
        .with_tcp(host.net.now, |tcp, turn| tcp.shutdown(turn, &server.cell, Shutdown::Write))
        .unwrap();
    host.sent_on(HOME, "FIN");
    let fin = segment(Flags::FIN.with(Flags::ACK), PEER_ISN + 1, una + 5, b"");
    host.arrives(HOME, &fin);
    host.sent_on(HOME, "the last ACK");
    assert_eq!(host.net.engine(0).tcp().time_waits(), 1);
    host.net.run_for(SECOND);
    host.arrives(OTHER, &fin);
    host.sent_on(HOME, "the answer of TIME-WAIT");
}

#[test]
fn connecting_goes_on_where_it_began() {
    let mut host = TwoCables::new(202);
    let client = host.net.connect(0, "10.0.0.9:5000".parse().unwrap()).unwrap();
    let syn = host.sent_on(HOME, "SYN").remove(0);
    let (port, ..) = syn.tcp.expect("a SYN");
    // It acknowledges nothing that was sent, and is answered with a reset.
    host.arrives(OTHER, &segment_to(port, Flags::ACK, (5, 6), b""));
    host.sent_on(HOME, "a reset in SYN-SENT");
    host.net.run_for(SECOND);
    host.sent_on(HOME, "the SYN once more");
    assert_eq!(host.net.state(&client), State::SynSent);
}

#[test]
fn resets_errors_and_echo_replies_follow_the_route() {
    let mut host = TwoCables::new(203);
    host.arrives(OTHER, &segment(Flags::SYN, 1, 0, b""));
    host.sent_on(HOME, "a reset for an unknown flow");
    let meta = IpMeta::new(ip("10.0.0.9"), ip("10.0.0.1"), 64);
    let mut ping = Vec::new();
    emit_icmp(&mut ping, &meta, &IcmpMessage { kind: 8, code: 0, word: [1; 4], body: b"ping" });
    host.arrives(OTHER, &ping);
    host.sent_on(HOME, "an echo reply");
    let mut udp = vec![0; 20];
    emit_ip(&mut udp, &meta, protocol::UDP, 8);
    udp.extend([0x10, 0, 0, 53, 0, 8, 0, 0]);
    host.arrives(OTHER, &udp);
    host.sent_on(HOME, "an ICMP error");
}

#[test]
fn a_listener_bound_to_a_device_answers_through_it() {
    let mut host = TwoCables::new(204);
    let listener = host.listen(Some("net1"));
    let (server, una) = host.accepted(&listener, OTHER, OTHER, OTHER);
    host.net.write(&server, b"data").unwrap();
    host.sent_on(OTHER, "data");
    let ack = segment(Flags::ACK, PEER_ISN + 1, una + 4, b"");
    // As in Linux, what comes in on another interface is for no socket that is bound to this one.
    host.arrives(HOME, &ack);
    host.sent_on(HOME, "a reset");
    host.arrives(OTHER, &ack);
    host.net.write(&server, b"data").unwrap();
    host.sent_on(OTHER, "data after a segment on the other interface");
}

/// A host that got a packet on another interface than the one that the route to its source leads through.
pub(super) fn filtered() -> Net {
    let mut host =
        TwoCables::with(Config { seed: Some(207), rp_filter: ReversePath::Strict, ..Config::default() });
    host.arrives(OTHER, &segment(Flags::SYN, 1, 0, b""));
    host.net
}

/// Without the filter, who is behind one interface and knows the numbers can speak for who is behind another,
/// as with the kernel's default; with it, nothing gets through.
#[test]
fn the_reverse_path_filter_keeps_one_interface_from_speaking_for_another() {
    for (mode, passes) in [(ReversePath::Off, true), (ReversePath::Loose, true), (ReversePath::Strict, false)]
    {
        let mut host = TwoCables::with(Config { seed: Some(205), rp_filter: mode, ..Config::default() });
        let listener = host.listen(None);
        let (server, una) = host.accepted(&listener, HOME, HOME, HOME);
        let next = PEER_ISN + 1;
        host.net.write(&server, b"data").unwrap();
        host.sent_on(HOME, "data");
        // Data, an acknowledgment, and the reset that ends the connection.
        host.arrives(OTHER, &segment(Flags::ACK, next, una + 4, b"forged"));
        assert_eq!(host.net.read(&server).is_ok(), passes, "{mode:?}");
        let [_, other] = host.sent();
        assert!(other.is_empty(), "{mode:?}: no answer there");
        let next = if passes { next + 6 } else { next };
        host.arrives(OTHER, &segment(Flags::RST, next, una, b""));
        assert_eq!(host.net.state(&server) == State::Established, !passes, "{mode:?}");
        // A connection of its own, with the address of another, gets no further either.
        host.arrives(OTHER, &segment_to(81, Flags::SYN, (1, 0), b""));
        let [home, other] = host.sent();
        assert_eq!((!home.is_empty(), !other.is_empty()), (passes, false), "{mode:?}: a reset or silence");
        let drops = host.net.engine(0).counters().drops(DropReason::IpRpfilter);
        assert_eq!(drops, if passes { 0 } else { 3 }, "{mode:?}");
        // What comes from where it belongs is never dropped for that.
        host.arrives(HOME, &segment_to(81, Flags::SYN, (1, 0), b""));
        host.sent_on(HOME, "a reset");
    }
}

#[test]
fn a_source_without_a_route_passes_no_reverse_path_filter() {
    for (mode, answered) in [(ReversePath::Off, 1), (ReversePath::Loose, 0), (ReversePath::Strict, 0)] {
        let mut host = TwoCables::with(Config { seed: Some(206), rp_filter: mode, ..Config::default() });
        let meta = IpMeta::new(ip("198.51.100.1"), ip("10.0.0.1"), 64);
        let mut ping = Vec::new();
        emit_icmp(&mut ping, &meta, &IcmpMessage { kind: 8, code: 0, word: [1; 4], body: b"ping" });
        host.arrives(HOME, &ping);
        assert_eq!(host.sent()[HOME].len(), answered, "{mode:?}");
    }
}
