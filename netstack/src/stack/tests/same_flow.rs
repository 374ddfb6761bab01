//! The packets of the flow of the last segment, of which little is left to look at.

use super::SECOND;
use crate::buffer::PacketBuf;
use crate::config::{Config, ReversePath};
use crate::device::RxMeta;
use crate::stack::testing::{LinkSpec, Net, Passing, QUEUE, Socket, address};
use crate::stack::{Batch, Engine, Family, QueueId};
use crate::wire::{Flags, checksum};

/// A host with a connection, and the driver of its queue.
struct Driven {
    net: Net,
    /// Its end of the connection.
    socket: Socket,
    _peer: Socket,
    batch: Batch,
    /// The last segment that came to it, without text.
    model: Passing,
}

impl Driven {
    fn new(change: impl Fn(usize, &mut Config)) -> Self {
        let mut net = Net::pair_with(7, LinkSpec::default(), change);
        let (socket, peer) = net.connected();
        assert_eq!(net.transfer(&peer, &socket, &[1; 3000], SECOND), [1; 3000]);
        assert_eq!(net.transfer(&socket, &peer, &[1; 3000], SECOND), [1; 3000]);
        net.run_for(SECOND);
        let model = net.cable.take_trace().into_iter().rfind(|passing| passing.from == 1).unwrap();
        assert_eq!(model.segment().flags, Flags::ACK);
        Self { net, socket, _peer: peer, batch: Batch::new(), model }
    }

    fn engine(&self) -> &Engine {
        self.net.engine(0)
    }

    /// A packet of the peer with these bytes, which follow the last ones that were received.
    fn packet(&self, text: &[u8]) -> Vec<u8> {
        self.model.forged(|_, payload| payload.extend_from_slice(text))
    }

    /// The last segment, from another port: of a flow that there is not.
    fn other_flow(&self) -> Passing {
        let (from, to, segment, text) = self.model.tcp.clone().unwrap();
        Passing { tcp: Some((from ^ 1, to, segment, text)), ..self.model.clone() }
    }

    fn knows(&self, bytes: &[u8]) -> bool {
        self.knows_on(QUEUE, bytes)
    }

    fn knows_on(&self, queue: QueueId, bytes: &[u8]) -> bool {
        let meta = RxMeta { len: bytes.len(), ..RxMeta::default() };
        self.batch.knows(self.engine(), queue, &PacketBuf::copy_from(bytes), &meta)
    }

    /// The driver receives a packet.
    fn receive(&mut self, bytes: &[u8]) {
        self.receive_cut(bytes, None);
    }

    /// The driver receives a packet, which is a super-segment if there is a size of its segments.
    fn receive_cut(&mut self, bytes: &[u8], gso_size: Option<u16>) {
        let mut packet = self.engine().core().pool().take();
        packet.bytes_mut()[..bytes.len()].copy_from_slice(bytes);
        let meta = RxMeta { len: bytes.len(), gso_size, ..RxMeta::default() };
        self.net.engine(0).on_packet(self.net.now, QUEUE, packet, meta, &mut self.batch);
    }

    /// A batch of one packet.
    fn receive_alone(&mut self, bytes: &[u8]) {
        self.receive(bytes);
        self.end_batch();
    }

    fn end_batch(&mut self) {
        self.net.engine(0).end_batch(self.net.now, &mut self.batch);
        self.batch.deliver(self.net.engine(0));
    }
}

/// A packet with other bytes in its IPv4 header, whose checksum is correct again.
fn with_header(packet: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut changed = packet.to_vec();
    change(&mut changed[..20]);
    changed[10..12].fill(0);
    let sum = checksum(&changed[..20]);
    changed[10..12].copy_from_slice(&sum.to_be_bytes());
    changed
}

#[test]
fn a_packet_is_known_after_another_one_of_its_flow() {
    let mut driven = Driven::new(|_, _| {});
    let ack = driven.packet(&[]);
    assert!(!driven.knows(&ack), "nothing came yet");
    driven.receive_alone(&ack);
    for packet in [ack.clone(), driven.packet(&[2; 100]), driven.packet(&[2; 1400])] {
        assert!(driven.knows(&packet), "{} bytes", packet.len());
    }
    let reset = driven.model.forged(|segment, _| segment.flags = Flags::RST);
    assert!(driven.knows(&reset), "nothing is said of what the segment does");
}

#[test]
fn what_is_unusual_has_to_be_parsed() {
    let mut driven = Driven::new(|_, _| {});
    let ack = driven.packet(&[]);
    driven.receive_alone(&ack);
    let unusual = [
        ("another host", with_header(&ack, |header| header[15] ^= 1)),
        ("another protocol", with_header(&ack, |header| header[9] = 17)),
        ("a fragment", with_header(&ack, |header| header[6] |= 0x20)),
        ("the end of a datagram", with_header(&ack, |header| header[7] = 1)),
        ("another version", with_header(&ack, |header| header[0] = 0x65)),
        ("a longer header", with_header(&ack, |header| header[0] = 0x46)),
        ("padding", [&ack[..], &[0; 6]].concat()),
        ("a packet that was cut", ack[..ack.len() - 1].to_vec()),
        ("a broken header", {
            let mut broken = ack.clone();
            broken[8] ^= 1;
            broken
        }),
        ("a broken segment", {
            let mut broken = ack.clone();
            broken[25] ^= 1;
            broken
        }),
        ("another port", driven.other_flow().forged(|_, _| {})),
        ("an urgent pointer", driven.model.forged(|segment, _| segment.urgent = 1)),
        ("more options", driven.model.forged(|segment, _| segment.options.window_scale = Some(1))),
    ];
    for (why, packet) in unusual {
        assert!(!driven.knows(&packet), "{why}");
    }
    assert!(driven.knows(&with_header(&ack, |header| header[8] -= 1)), "another hop limit");
}

#[test]
fn what_was_found_of_addresses_is_found_again_when_they_change() {
    let mut driven = Driven::new(|_, _| {});
    let ack = driven.packet(&[]);
    driven.receive_alone(&ack);
    assert!(driven.knows(&ack));
    assert!(!driven.knows_on(QueueId { interface: 1, ..QUEUE }, &ack), "it came in on another interface");
    driven.engine().core().set_down(0, true).unwrap();
    assert!(!driven.knows(&ack), "the interface is down");
    driven.engine().core().set_down(0, false).unwrap();
    driven.receive_alone(&ack);
    assert!(driven.knows(&ack));
    driven.engine().core().remove_address(0, address(0, Family::V4)).unwrap();
    assert!(!driven.knows(&ack), "the address is not the stack's any more");
}

#[test]
fn where_routes_are_asked_each_packet_is_but_those_of_one_batch() {
    let mut driven = Driven::new(|_, config| config.rp_filter = ReversePath::Strict);
    let ack = driven.packet(&[]);
    driven.receive_alone(&ack);
    assert!(!driven.knows(&ack), "routes may have changed");
    // A segment that may be joined with others waits for them.
    let first = driven.packet(&[2; 1000]);
    driven.receive(&first);
    assert!(driven.knows(&ack));
    driven.engine().core().set_down(0, true).unwrap();
    assert!(!driven.knows(&ack), "the interface is down");
}

#[test]
fn a_super_segment_counts_as_the_segments_that_went_into_it() {
    let mut driven = Driven::new(|_, _| {});
    let ack = driven.packet(&[]);
    driven.receive_alone(&ack);
    let segs_in = |driven: &Driven| {
        let info = driven.engine().with_tcp(driven.net.now, |tcp, turn| tcp.info(turn, &driven.socket.cell));
        info.unwrap().segs_in
    };
    let before = segs_in(&driven);
    for nth in 0..2 {
        let next = driven.model.forged(|segment, text| {
            segment.seq = segment.seq + 1400 * nth;
            text.extend_from_slice(&[2; 1400]);
        });
        driven.receive_cut(&next, Some(500));
        driven.end_batch();
    }
    assert_eq!(segs_in(&driven), before + 6);
    assert_eq!(driven.net.read_available(&driven.socket).0, [2; 2800]);
}

#[test]
fn a_flow_that_comes_between_makes_the_next_packet_a_stranger_and_no_more() {
    let mut driven = Driven::new(|_, _| {});
    let ack = driven.packet(&[]);
    driven.receive_alone(&ack);
    let other = driven.other_flow();
    // It belongs to nobody and is answered with a reset. The flow before it is still the last one that was found.
    driven.receive_alone(&other.forged(|_, _| {}));
    assert!(driven.knows(&ack));
    // Text waits to be joined, and so is the last.
    driven.receive_alone(&other.forged(|_, text| text.extend_from_slice(&[2; 1000])));
    assert!(!driven.knows(&ack));
    driven.receive_alone(&ack);
    assert!(driven.knows(&ack));
}

#[test]
fn a_small_text_leaves_its_buffer_to_the_next_packet() {
    let mut driven = Driven::new(|_, _| {});
    let ack = driven.packet(&[]);
    driven.receive_alone(&ack);
    let _ = driven.batch.take_spare();
    let text = driven.packet(b"a few bytes");
    driven.receive_alone(&text);
    assert!(driven.batch.take_spare().is_some(), "the bytes were copied");
    assert_eq!(driven.net.read_available(&driven.socket).0, b"a few bytes");
}

#[test]
fn a_connection_that_ended_is_not_found_by_what_is_known_of_its_flow() {
    let mut driven = Driven::new(|_, _| {});
    let ack = driven.packet(&[]);
    driven.receive_alone(&ack);
    let reset = driven.model.forged(|segment, _| segment.flags = Flags::RST);
    driven.receive_alone(&reset);
    assert_eq!(driven.engine().tcp().connections(), 0);
    assert!(driven.knows(&ack));
    driven.net.cable.take_trace();
    driven.receive_alone(&ack);
    let answers = driven.net.cable.take_trace();
    assert!(matches!(&answers[..], [answer] if answer.segment().is_rst()), "{answers:?}");
}
