//! Segments that no host sent, such as those of an attacker, or old duplicates.

use netstack::wire::{
    ChecksumMode, Flags, HeaderBuf, IpMeta, Options, Segment, SeqNum, TcpDatagram, Timestamps, emit_tcp,
};
use std::net::SocketAddr;

/// A segment to be forged. Its numbers are those of the wire; [`Seg`](super::Seg) has them in
/// `header`.
#[derive(Clone, Debug)]
pub struct Forgery {
    /// The apparent sender.
    pub src: SocketAddr,
    /// The destination.
    pub dst: SocketAddr,
    /// Sequence number.
    pub seq: SeqNum,
    /// Acknowledgment number; meaningless without [`Flags::ACK`].
    pub ack: SeqNum,
    /// Control bits.
    pub flags: Flags,
    /// Timestamps, if it has some.
    pub timestamps: Option<Timestamps>,
    /// Payload.
    pub payload: Vec<u8>,
    /// Whether the TCP checksum is to be wrong.
    pub bad_checksum: bool,
}

impl Forgery {
    /// A segment without payload, timestamps or mistakes.
    pub fn new(src: SocketAddr, dst: SocketAddr, flags: Flags, seq: SeqNum, ack: SeqNum) -> Self {
        Self { src, dst, seq, ack, flags, timestamps: None, payload: Vec::new(), bad_checksum: false }
    }

    /// The packet.
    pub(super) fn packet(&self) -> Vec<u8> {
        let segment = Segment {
            window: 1024,
            options: Options { timestamps: self.timestamps, ..Options::default() },
            payload_len: self.payload.len(),
            ..Segment::new(self.flags, self.seq, self.ack)
        };
        let ip = IpMeta {
            src: self.src.ip(),
            dst: self.dst.ip(),
            hop_limit: 64,
            traffic_class: 0,
            dont_fragment: true,
            ident: 0,
            flow_label: 0,
        };
        let mut header = HeaderBuf::new();
        let ports = (self.src.port(), self.dst.port());
        emit_tcp(
            &mut header,
            &TcpDatagram {
                ip: &ip,
                src_port: ports.0,
                dst_port: ports.1,
                segment: &segment,
                payload: &[&self.payload],
            },
            ChecksumMode::Full,
        );
        let mut packet = header.as_slice().to_vec();
        packet.extend_from_slice(&self.payload);
        if self.bad_checksum {
            // The low byte of the checksum, which ends four bytes before the end of the fixed header.
            let tcp = if self.src.is_ipv4() { 20 } else { 40 };
            packet[tcp + 17] ^= 0x55;
        }
        packet
    }
}
