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
use crate::wire::{ChecksumMode, Ecn, Gso, IpMeta, UDP_HEADER_LEN, UdpHeaders, ip_header_len};
use std::io;
use std::net::{IpAddr, SocketAddr};

/// The most payload that one call sends: what a UDP header can count.
const MAX_LEN: usize = u16::MAX as usize;

/// What is the same in all packets from a socket to one destination.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    /// What the destination is to the stack.
    pub(super) kind: AddressKind,
    /// The header, but for what depends on the payload.
    pub(super) ip: IpMeta,
    pub(super) src_port: u16,
    pub(super) dst_port: u16,
    pub(super) queue: QueueId,
    /// Of packets that are not fragments.
    headers: UdpHeaders,
    /// Who sums them.
    checksum: ChecksumMode,
    mode: MtuDiscover,
    /// The most bytes that a packet has without being fragmented.
    mtu: usize,
    /// The most payload of such a packet.
    unfragmented: usize,
    /// The most payload of a datagram.
    longest: usize,
    /// When what is known of the path's MTU is forgotten.
    mtu_expires: Instant,
    mark: u32,
    priority: u32,
}

/// How the last message of a socket went, for the next one (`sk_dst_cache` in Linux).
///
/// It holds as long as nothing has changed of the stack ([`Core::way_version`]) or the socket, which forgets it
/// with every change of its own.
#[derive(Debug)]
pub(super) struct LastOutgoing {
    pub(super) destination: Option<SocketAddr>,
    pub(super) source: Option<IpAddr>,
    pub(super) ecn: Option<Ecn>,
    pub(super) version: WayVersion,
    pub(super) outgoing: Outgoing,
}

impl LastOutgoing {
    /// Whether a message goes like that one.
    #[inline]
    pub(super) fn holds(&self, turn: &Turn<'_>, message: &Transmission<'_>) -> bool {
        let Self { destination, source, ecn, version, outgoing } = self;
        *destination == message.destination
            && *source == message.source
            && *ecn == message.ecn
            && *version == turn.core.way_version()
            && turn.now < outgoing.mtu_expires
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
        let queue = core.queue_of(way.interface, flow.spread());
        ip.flow_label = if flow.is_ipv6() { (core.keyed().of(&flow) >> 40) as u32 & 0xf_ffff } else { 0 };
        let mode = options.mtu_discover;
        let link = core.mtu(way.interface);
        // Nothing is looked up while no router has said anything.
        let known = (mode.uses_path() && core.paths().changes() > 0)
            .then(|| core.paths().mtu(turn.now, dst))
            .flatten();
        let mtu = known.map_or(link, |known| known.bytes.min(link));
        // A router may have asked for packets that may be fragmented.
        let locked = known.is_some_and(|known| known.locked);
        ip.dont_fragment = match mode {
            MtuDiscover::Do | MtuDiscover::Probe => true,
            MtuDiscover::Want => !locked,
            MtuDiscover::Dont | MtuDiscover::Interface | MtuDiscover::Omit => false,
        };
        let headers_len = ip_header_len(&dst) + UDP_HEADER_LEN;
        // What the length field of the header counts: of IPv4 all, of IPv6 what follows the header.
        let counted = MAX_LEN - if dst.is_ipv4() { headers_len } else { UDP_HEADER_LEN };
        let unfragmented = mtu.saturating_sub(headers_len);
        Ok(Self {
            kind: way.kind,
            headers: UdpHeaders::new(&ip, src_port, dst_port),
            ip,
            src_port,
            dst_port,
            queue,
            checksum: checksum_mode(core, way.interface),
            mode,
            mtu,
            unfragmented,
            longest: if mode.fragments() { counted } else { unfragmented.min(counted) },
            mtu_expires: known.map_or(Instant::FAR_FUTURE, |known| known.expires),
            mark: packets.mark,
            priority: packets.priority,
        })
    }

    /// With the ECN field of a message.
    pub(super) fn marked(mut self, message: &Transmission<'_>) -> Self {
        if let Some(ecn) = message.ecn {
            self.ip.traffic_class = self.ip.traffic_class & !3 | ecn.bits();
            self.headers = UdpHeaders::new(&self.ip, self.src_port, self.dst_port);
        }
        self
    }

    fn headers_len(&self) -> usize {
        self.headers.len()
    }

    /// Refuses what cannot be sent.
    #[inline]
    pub(super) fn check(&self, message: &Transmission<'_>) -> io::Result<()> {
        match message.segment_size {
            None if message.contents.len() <= self.longest => Ok(()),
            None => Err(os(libc::EMSGSIZE)),
            Some(size) => self.check_segments(message.contents.len(), size),
        }
    }

    fn check_segments(&self, len: usize, size: usize) -> io::Result<()> {
        if len > MAX_LEN || size.min(len) > self.longest {
            return Err(os(libc::EMSGSIZE));
        }
        // As udp_send_skb in Linux: datagrams that are cut are not fragmented.
        if size == 0 || len.div_ceil(size) > Transmission::MAX_SEGMENTS {
            return Err(os(libc::EINVAL));
        }
        if len > size && size > self.unfragmented {
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
    #[inline(always)]
    pub(super) fn emit(
        &mut self,
        turn: &mut Turn<'_>,
        payload: &[u8],
        gso: Option<Gso>,
        put: impl FnMut(&mut Turn<'_>, &TxPacket<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        if gso.is_none() && payload.len() > self.unfragmented {
            return self.emit_fragments(turn, payload, put);
        }
        let (mut put, pieces) = (put, [payload]);
        let ident = self.ident(turn.core, self.ip.dont_fragment);
        let checksum = self.headers.fill(payload, ident, self.checksum);
        let payload = if payload.is_empty() { &[] } else { &pieces[..] };
        let (mark, priority) = (self.mark, self.priority);
        put(turn, &TxPacket { header: &self.headers, payload, checksum, gso, mark, priority })
    }

    #[cold]
    #[inline(never)]
    fn emit_fragments(
        &self,
        turn: &mut Turn<'_>,
        payload: &[u8],
        mut put: impl FnMut(&mut Turn<'_>, &TxPacket<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let dont_fragment = matches!(self.mode, MtuDiscover::Do | MtuDiscover::Probe);
        let ip = IpMeta { dont_fragment, ..self.ip };
        let mut headers = UdpHeaders::new(&ip, self.src_port, self.dst_port);
        headers.fill(payload, self.ident(turn.core, dont_fragment), ChecksumMode::Full);
        let whole = [&headers[..], payload].concat();
        let mut sent = Ok(());
        cut(turn.core, &whole, self.mtu, |fragment| {
            if sent.is_ok() {
                let (mark, priority) = (self.mark, self.priority);
                let packet = TxPacket { header: fragment, mark, priority, ..TxPacket::default() };
                sent = put(turn, &packet);
            }
        });
        sent
    }

    /// RFC 6864 §4: what may be fragmented is told apart by its identification.
    #[inline]
    fn ident(&self, core: &Core, dont_fragment: bool) -> u16 {
        if dont_fragment || self.ip.dst.is_ipv6() { 0 } else { core.random() as u16 }
    }
}
