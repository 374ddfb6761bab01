//! The bare limit for datagrams: a sink counts them, a source sends one over and over.

use crate::clock;
use crate::datagrams::{Mode, Request, SENT};
use crate::services::{RECEIVED, Service};
use netstack::device::{Device, TxPacket};
use netstack::wire::{
    ChecksumMode, Gso, HeaderBuf, IpHeader, IpMeta, UDP_HEADER_LEN, UdpDatagram, UdpHeader, emit_udp,
    parse_udp,
};
use netstack_tun::Tun;
use std::io;
use std::sync::atomic::Ordering;

/// Packets between two looks at the clock.
const PACKETS_PER_LOOK: usize = 16;

/// A packet with a datagram, or with several of one length. What a sink gets is copied to `application`, if that is not
/// empty.
pub(super) fn on_datagram(tun: &Tun, ip: &IpHeader, packet: &[u8], application: &mut [u8]) -> io::Result<()> {
    let bytes = &packet[ip.payload.clone()];
    let Ok(UdpHeader { src_port, dst_port, payload_len }) = parse_udp(bytes) else { return Ok(()) };
    let mode = |service: Service| {
        [Mode::Single, Mode::Segmented].into_iter().find(|mode| mode.port(service.port()) == dst_port)
    };
    if mode(Service::Sink).is_some() {
        if let Some(buf) = application.get_mut(..payload_len) {
            // A black box, or the copy is found to be for nothing.
            std::hint::black_box(buf).copy_from_slice(&bytes[UDP_HEADER_LEN..][..payload_len]);
        }
        RECEIVED.fetch_add(payload_len as u64, Ordering::Relaxed);
        return Ok(());
    }
    let payload = &bytes[UDP_HEADER_LEN..][..payload_len];
    let (Some(mode), Some(request)) = (mode(Service::Source), Request::decode(payload)) else {
        return Ok(());
    };
    let back = IpMeta { dont_fragment: true, ..IpMeta::new(ip.dst, ip.src, 64) };
    // The kernel divides them from Linux 6.2 on.
    let mode = if tun.udp_offload() { mode } else { Mode::Single };
    source(tun, mode, request, &back, [dst_port, src_port])
}

/// Sends until the time is over. Nothing is received meanwhile.
fn source(tun: &Tun, mode: Mode, request: Request, ip: &IpMeta, ports: [u16; 2]) -> io::Result<()> {
    let len = usize::from(request.len);
    let payload = vec![0x5a; len * mode.per_call(len)];
    let mut header = HeaderBuf::new();
    let datagram = UdpDatagram { ip, src_port: ports[0], dst_port: ports[1], payload: &payload };
    let checksum_mode = if tun.offload() { ChecksumMode::Offload } else { ChecksumMode::Full };
    let checksum = emit_udp(&mut header, &datagram, checksum_mode);
    let cut = payload.len() > len;
    let gso = cut.then_some(Gso { size: request.len, header_len: header.len() as u16 });
    let pieces: &[&[u8]] = &[&payload];
    let packet = TxPacket { header: &header, payload: pieces, checksum, gso, ..TxPacket::default() };
    let end = clock::now() + request.time();
    while clock::now() < end {
        for _ in 0..PACKETS_PER_LOOK {
            match tun.transmit(clock::EPOCH, 0, &packet) {
                Ok(()) => SENT.fetch_add(payload.len() as u64, Ordering::Relaxed),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
        }
    }
    Ok(())
}
