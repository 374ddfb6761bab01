//! What all packets from a socket to one destination have in common, which the next call can take over.

use super::transmission::Transmission;
use super::way::Way;
use crate::config::MtuDiscover;
use crate::device::TxPacket;
use crate::error::os;
use crate::ip::{AddressKind, PacketOptions};
use crate::stack::core::{Core, WayVersion};
use crate::stack::egress::{checksum_mode, cut};
use crate::stack::flow::{FlowKey, QueueId};
use crate::stack::turn::Turn;
use crate::time::Instant;
use crate::udp::UdpOptions;
use crate::wire::{
    ChecksumMode, Gso, HeaderBuf, IpMeta, UDP_HEADER_LEN, UdpDatagram, emit_udp, ip_header_len,
};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// The most payload that one call sends: what a UDP header can count.
const MAX_LEN: usize = u16::MAX as usize;

/// What is the same in all packets from a socket to one destination.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing {
    /// What the destination is to the stack.
    pub(super) kind: AddressKind,
    /// The header, but for what depends on the payload.
    pub(super) ip: IpMeta,
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
    pub(super) queue: QueueId,
    mode: MtuDiscover,
    /// The most bytes that a packet has without being fragmented.
    mtu: usize,
    /// A router asked for packets that may be fragmented.
    locked: bool,
    /// When what is known of the path's MTU is forgotten.
    mtu_expires: Instant,
}

/// How the last message of a socket went, for the next one (`sk_dst_cache` in Linux).
///
/// It holds as long as nothing has changed of the stack ([`Core::way_version`]) or the socket, which forgets it
/// with every change of its own.
#[derive(Debug)]
pub(super) struct LastOutgoing {
    pub(super) destination: Option<SocketAddr>,
    pub(super) source: Option<IpAddr>,
    pub(super) version: WayVersion,
    pub(super) outgoing: Outgoing,
}

impl LastOutgoing {
    /// How a message goes, if that is known.
    #[inline]
    pub(super) fn known(&self, turn: &Turn<'_>, message: &Transmission<'_>) -> Option<&Outgoing> {
        let Self { destination, source, version, outgoing } = self;
        let holds = *destination == message.destination
            && *source == message.source
            && *version == turn.core.way_version()
            && turn.now < outgoing.mtu_expires;
        holds.then_some(outgoing)
    }
}

impl Outgoing {
    /// How messages go on a way, from any port.
    ///
    /// # Errors
    /// That of the device, if it is gone.
    pub(super) fn new(
        turn: &Turn<'_>,
        packets: &PacketOptions,
        options: &UdpOptions,
        way: &Way,
        src_port: u16,
    ) -> io::Result<Self> {
        let core = turn.core;
        if let Some(failure) = core.interface_failure(way.interface) {
            return Err(failure.into());
        }
        let group = way.kind == AddressKind::Multicast;
        let (dst, dst_port) = (way.remote.ip(), way.remote.port());
        let mut ip = packets.header(way.source, dst);
        if group {
            ip.hop_limit = if dst.is_ipv4() { options.multicast_ttl } else { options.multicast_hops };
        }
        let flow = FlowKey::new(&way.source, src_port, &dst, dst_port);
        let flow_label = if flow.is_ipv6() { (core.keyed().of(&flow) >> 40) as u32 & 0xf_ffff } else { 0 };
        let mode = options.mtu_discover;
        let link = core.mtu(way.interface);
        // Nothing is looked up while no router has said anything.
        let known = (mode.uses_path() && core.paths().changes() > 0)
            .then(|| core.paths().mtu(turn.now, dst))
            .flatten();
        Ok(Self {
            kind: way.kind,
            ip: IpMeta { flow_label, ..ip },
            src_port,
            dst_port,
            queue: core.queue_of(way.interface, flow.spread()),
            mode,
            mtu: known.map_or(link, |known| known.bytes.min(link)),
            locked: known.is_some_and(|known| known.locked),
            mtu_expires: known.map_or(Instant::FAR_FUTURE, |known| known.expires),
        })
    }

    /// With the ECN field of a message.
    pub(super) fn marked(mut self, message: &Transmission<'_>) -> Self {
        if let Some(ecn) = message.ecn {
            self.ip.traffic_class = self.ip.traffic_class & !3 | ecn.bits();
        }
        self
    }

    fn headers_len(&self) -> usize {
        ip_header_len(&self.ip.dst) + UDP_HEADER_LEN
    }

    /// Refuses what cannot be sent.
    pub(super) fn check(&self, message: &Transmission<'_>) -> io::Result<()> {
        let len = message.contents.len();
        let longest = message.segment_size.map_or(len, |size| size.min(len));
        // What the length field of the header counts: of IPv4 all, of IPv6 what follows the header.
        let counted = if self.ip.dst.is_ipv4() { self.headers_len() } else { UDP_HEADER_LEN };
        let max = if self.mode.fragments() { MAX_LEN - counted } else { self.mtu - self.headers_len() };
        if len > MAX_LEN || longest > max.min(MAX_LEN - counted) {
            return Err(os(libc::EMSGSIZE));
        }
        let Some(size) = message.segment_size else { return Ok(()) };
        // As udp_send_skb in Linux: datagrams that are cut are not fragmented.
        if size == 0 || len.div_ceil(size) > Transmission::MAX_SEGMENTS {
            return Err(os(libc::EINVAL));
        }
        if len > size && size + self.headers_len() > self.mtu {
            return Err(os(libc::EMSGSIZE));
        }
        Ok(())
    }

    /// How the device divides the datagrams of a call, if there are several and it can.
    pub(super) fn gso(&self, core: &Core, message: &Transmission<'_>) -> Option<Gso> {
        let size = message.segment_size.filter(|size| *size < message.contents.len())?;
        let able = core.capabilities(self.queue.interface).udp_segmentation_offload;
        let fits = self.headers_len() + message.contents.len() <= MAX_LEN;
        let size = u16::try_from(size).ok()?;
        (able && fits).then_some(Gso { size, header_len: self.headers_len() as u16 })
    }

    /// Makes the packet of one datagram, or its fragments if it has to be cut, or the packet of several datagrams
    /// that the device divides. `put` takes each.
    pub(super) fn emit(
        &self,
        turn: &mut Turn<'_>,
        packets: PacketOptions,
        payload: &[u8],
        gso: Option<Gso>,
        mut put: impl FnMut(&mut Turn<'_>, &TxPacket<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let PacketOptions { mark, priority, .. } = packets;
        let fits = gso.is_some() || self.headers_len() + payload.len() <= self.mtu;
        let dont_fragment = match self.mode {
            MtuDiscover::Do | MtuDiscover::Probe => true,
            MtuDiscover::Want => fits && !self.locked,
            MtuDiscover::Dont | MtuDiscover::Interface | MtuDiscover::Omit => false,
        };
        // RFC 6864 §4: what may be fragmented is told apart by its identification.
        let ident = if dont_fragment || self.ip.dst.is_ipv6() { 0 } else { turn.core.random() as u16 };
        let ip = IpMeta { dont_fragment, ident, ..self.ip };
        let mode = if fits { checksum_mode(turn.core, self.queue.interface) } else { ChecksumMode::Full };
        let mut header = HeaderBuf::new();
        let datagram = UdpDatagram { ip: &ip, src_port: self.src_port, dst_port: self.dst_port, payload };
        let checksum = emit_udp(&mut header, &datagram, mode);
        if fits {
            let payload: &[&[u8]] = if payload.is_empty() { &[] } else { &[payload] };
            return put(turn, &TxPacket { header: &header, payload, checksum, gso, mark, priority });
        }
        let whole = [&header[..], payload].concat();
        let mut sent = Ok(());
        cut(turn.core, &whole, self.mtu, |fragment| {
            if sent.is_ok() {
                let packet = TxPacket { header: fragment, mark, priority, ..TxPacket::default() };
                sent = put(turn, &packet);
            }
        });
        sent
    }
}
