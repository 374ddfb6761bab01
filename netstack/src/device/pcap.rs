//! Packet captures of a device.

use super::{Capabilities, Device, Readiness, RxMeta, TxPacket};
use crate::buffer::PacketBuf;
use crate::sync::{Mutex, Rank};
use crate::time::{Duration, Instant};
use crate::wire::complete_checksum;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};
use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

/// How long a packet may stay in memory before it is written to the file, so that a capture can be
/// watched while it grows.
const FLUSH_AFTER: Duration = Duration::from_secs(1);

/// The maximum number of bytes of each packet that a capture contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SnapLen(pub u32);

impl Default for SnapLen {
    /// All of them.
    fn default() -> Self {
        Self(crate::buffer::PACKET_SIZE as u32)
    }
}

/// A device that passes all packets on to another device and writes them, in both directions, to a
/// pcapng capture (link type RAW, nanosecond timestamps, with the direction of each packet).
///
/// Packets appear as the device carries them, so that super-segments are in one piece, as in
/// captures of the kernel. Checksums that are left to the device are complete in the capture.
///
/// An error of the writer ends the capture and does not affect the packets; [`PcapTap::error`]
/// returns it.
pub struct PcapTap {
    inner: Arc<dyn Device>,
    capture: Mutex<Capture>,
}

struct Capture {
    writer: PcapNgWriter<BufWriter<Box<dyn Write + Send>>>,
    snap_len: SnapLen,
    /// Where the clock's origin is, since 1970.
    origin: Duration,
    /// A packet to be written, put together.
    packet: Vec<u8>,
    /// When what was written has to be flushed.
    flush_at: Option<Instant>,
    error: Option<(io::ErrorKind, String)>,
}

/// As seen from the device, as in `epb_flags`.
#[derive(Clone, Copy)]
enum Direction {
    Inbound = 1,
    Outbound = 2,
}

impl PcapTap {
    /// A tap on `inner` that writes to `writer`. The tap buffers, so the writer need not.
    ///
    /// # Errors
    /// If the header of the file cannot be written.
    pub fn new(
        inner: Arc<dyn Device>,
        writer: impl Write + Send + 'static,
        snap_len: SnapLen,
    ) -> io::Result<Self> {
        let writer: Box<dyn Write + Send> = Box::new(writer);
        let mut writer = PcapNgWriter::new(BufWriter::new(writer)).map_err(to_io)?;
        /// 10^-9 seconds.
        const NANOSECONDS: u8 = 9;
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::RAW,
            snaplen: snap_len.0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed("netstack")),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        };
        writer.write_pcapng_block(interface).map_err(to_io)?;
        writer.get_mut().flush()?;
        let capture = Capture {
            writer,
            snap_len,
            origin: Duration::ZERO,
            packet: Vec::new(),
            flush_at: None,
            error: None,
        };
        Ok(Self { inner, capture: Mutex::new(Rank::Leaf, capture) })
    }

    /// Sets the origin of the stack's clock, as the time since 1970 in UTC. Without it a capture
    /// begins in 1970.
    #[must_use]
    pub fn with_origin(self, origin: Duration) -> Self {
        self.capture.lock().origin = origin;
        self
    }

    /// The error that ended the capture, if any.
    pub fn error(&self) -> Option<io::Error> {
        let capture = self.capture.lock();
        capture.error.as_ref().map(|(kind, text)| io::Error::new(*kind, text.clone()))
    }
}

impl Capture {
    /// Writes the packet in `self.packet`.
    fn write(&mut self, now: Instant, direction: Direction) {
        if self.error.is_some() {
            return;
        }
        let captured = self.packet.len().min(self.snap_len.0 as usize);
        let block = EnhancedPacketBlock {
            interface_id: 0,
            timestamp: self.origin.saturating_add(Duration::from_nanos(now.as_nanos())),
            original_len: self.packet.len() as u32,
            data: Cow::Borrowed(&self.packet[..captured]),
            options: vec![EnhancedPacketOption::Flags(direction as u32)],
        };
        let result = self.writer.write_pcapng_block(block).map_err(to_io);
        self.remember(result.map(drop));
        let flush_at = *self.flush_at.get_or_insert(now + FLUSH_AFTER);
        if flush_at <= now {
            self.flush();
        }
    }

    fn flush(&mut self) {
        self.flush_at = None;
        if self.error.is_none() {
            let result = self.writer.get_mut().flush();
            self.remember(result);
        }
    }

    fn remember(&mut self, result: io::Result<()>) {
        if let Err(error) = result {
            self.error = Some((error.kind(), error.to_string()));
        }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.flush();
    }
}

fn to_io(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other.to_string()),
    }
}

impl Device for PcapTap {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        let meta = self.inner.receive(now, queue, buf)?;
        let mut capture = self.capture.lock();
        capture.packet.clear();
        capture.packet.extend_from_slice(&buf.bytes()[..meta.len]);
        if meta.checksum_verified {
            complete_checksum(&mut capture.packet);
        }
        capture.write(now, Direction::Inbound);
        Ok(meta)
    }

    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        self.inner.transmit(now, queue, packet)?;
        let mut capture = self.capture.lock();
        capture.packet.resize(packet.len(), 0);
        packet.copy_to(&mut capture.packet);
        if packet.checksum.is_some() {
            complete_checksum(&mut capture.packet);
        }
        capture.write(now, Direction::Outbound);
        Ok(())
    }

    fn flush(&self, queue: usize) {
        self.inner.flush(queue);
    }

    fn readiness(&self, queue: usize) -> Readiness<'_> {
        self.inner.readiness(queue)
    }

    fn next_deadline(&self) -> Option<Instant> {
        let inner = self.inner.next_deadline();
        self.capture.lock().flush_at.into_iter().chain(inner).min()
    }

    fn is_transmitting(&self) -> bool {
        self.inner.is_transmitting()
    }

    fn on_deadline(&self, now: Instant) {
        self.inner.on_deadline(now);
        let mut capture = self.capture.lock();
        if capture.flush_at.is_some_and(|flush_at| flush_at <= now) {
            capture.flush();
        }
    }
}

impl fmt::Debug for PcapTap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PcapTap").field("error", &self.error()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{Pair, PairConfig};
    use crate::wire::{
        ChecksumMode, Flags, Gso, HeaderBuf, IpMeta, Segment, SeqNum, TcpDatagram, emit_tcp, parse_ip,
        tcp_checksum_ok,
    };
    use pcap_file::pcapng::{Block, PcapNgReader};
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// A file in memory that can become full.
    #[derive(Clone)]
    struct File {
        bytes: Arc<parking_lot::Mutex<Vec<u8>>>,
        room: Arc<AtomicUsize>,
    }

    impl File {
        fn new(room: usize) -> Self {
            Self { bytes: Arc::default(), room: Arc::new(AtomicUsize::new(room)) }
        }

        fn len(&self) -> usize {
            self.bytes.lock().len()
        }
    }

    impl Write for File {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.len() + bytes.len() > self.room.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.bytes.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Sends a super-segment of 3,000 bytes.
    fn send(device: &dyn Device, now: Instant) -> io::Result<()> {
        let payload = [7; 3000];
        let segment = Segment {
            window: 1,
            payload_len: payload.len(),
            ..Segment::new(Flags::ACK, SeqNum::new(1), SeqNum::new(0))
        };
        let ip = IpMeta {
            src: "10.0.0.1".parse().unwrap(),
            dst: "10.0.0.2".parse().unwrap(),
            hop_limit: 64,
            traffic_class: 0,
            dont_fragment: true,
            ident: 1,
            flow_label: 0,
        };
        let mut header = HeaderBuf::new();
        let checksum = emit_tcp(
            &mut header,
            &TcpDatagram { ip: &ip, src_port: 1, dst_port: 2, segment: &segment, payload: &[&payload] },
            ChecksumMode::Offload,
        );
        let gso = Some(Gso { size: 1000, header_len: 40 });
        let (front, back) = payload.split_at(1001);
        device.transmit(
            now,
            0,
            &TxPacket { header: &header, payload: &[front, back], checksum, gso, ..TxPacket::default() },
        )
    }

    fn tapped(file: &File, snap_len: SnapLen) -> (PcapTap, Pair) {
        let (a, b) = Pair::new(PairConfig { queue: 2, ..PairConfig::default() });
        (PcapTap::new(Arc::new(a), file.clone(), snap_len).unwrap(), b)
    }

    /// Packets of a capture with their time, whole length and flags.
    fn read(file: &File) -> Vec<(Duration, u32, u32, Vec<u8>)> {
        let bytes = file.bytes.lock().clone();
        let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
        let mut packets = Vec::new();
        while let Some(block) = reader.next_block() {
            match block.unwrap() {
                Block::InterfaceDescription(interface) => assert_eq!(interface.linktype, DataLink::RAW),
                Block::EnhancedPacket(packet) => {
                    let [EnhancedPacketOption::Flags(flags)] = packet.options[..] else { panic!("no flags") };
                    packets.push((packet.timestamp, packet.original_len, flags, packet.data.to_vec()));
                }
                _ => panic!("an unexpected block"),
            }
        }
        packets
    }

    #[test]
    fn both_directions_are_written_with_time_and_whole_checksums() {
        let file = File::new(usize::MAX);
        let (tap, far) = tapped(&file, SnapLen::default());
        let tap = tap.with_origin(Duration::from_secs(1_700_000_000));
        send(&tap, Instant::from_nanos(1)).unwrap();
        send(&far, Instant::ZERO).unwrap();
        let mut buf = PacketBuf::copy_from(&[0; 4000]);
        let meta = tap.receive(Instant::from_nanos(2), 0, &mut buf).unwrap();
        assert_eq!(meta, RxMeta { len: 3040, checksum_verified: true, gso_size: Some(1000) });
        assert!(tap.receive(Instant::from_nanos(3), 0, &mut buf).is_err());
        drop(tap);
        let packets = read(&file);
        assert_eq!(packets.len(), 2);
        for (n, (time, len, flags, packet)) in packets.into_iter().enumerate() {
            assert_eq!(time, Duration::new(1_700_000_000, n as u32 + 1));
            assert_eq!((len, packet.len()), (3040, 3040));
            assert_eq!(flags, [2, 1][n], "out, then in");
            let ip = parse_ip(&packet).unwrap();
            assert!(tcp_checksum_ok(ip.src, ip.dst, &packet[ip.payload]));
        }
    }

    #[test]
    fn packets_are_cut_to_the_snap_length_and_refused_ones_left_out() {
        let file = File::new(usize::MAX);
        let (tap, _far) = tapped(&file, SnapLen(100));
        for _ in 0..2 {
            send(&tap, Instant::ZERO).unwrap();
        }
        assert_eq!(send(&tap, Instant::ZERO).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(tap);
        let packets = read(&file);
        assert_eq!(packets.len(), 2);
        assert!(packets.iter().all(|(_, len, _, packet)| (*len, packet.len()) == (3040, 100)));
    }

    #[test]
    fn what_is_captured_is_in_the_file_after_a_second() {
        let file = File::new(usize::MAX);
        let (tap, _far) = tapped(&file, SnapLen::default());
        let empty = file.len();
        assert_ne!(empty, 0, "the header is there at once");
        assert_eq!(tap.next_deadline(), None);
        send(&tap, Instant::from_millis(500)).unwrap();
        assert_eq!(tap.next_deadline(), Some(Instant::from_millis(1500)));
        tap.on_deadline(Instant::from_millis(1499));
        assert_eq!(file.len(), empty);
        tap.on_deadline(Instant::from_millis(1500));
        assert_eq!(read(&file).len(), 1);
        assert_eq!(tap.next_deadline(), None);
    }

    #[test]
    fn an_error_of_the_writer_ends_the_capture_only() {
        let file = File::new(300);
        let (tap, far) = tapped(&file, SnapLen::default());
        let mut buf = PacketBuf::copy_from(&[0; 4000]);
        assert!(tap.error().is_none());
        for second in 1..5 {
            send(&tap, Instant::from_millis(1000 * second)).unwrap();
            far.receive(Instant::ZERO, 0, &mut buf).unwrap();
            tap.on_deadline(Instant::from_millis(1000 * second + 1000));
        }
        assert_eq!(tap.error().unwrap().kind(), io::ErrorKind::StorageFull);
        assert_eq!(tap.next_deadline(), None, "nothing is left to be done");
        assert!(PcapTap::new(Arc::new(far), File::new(3), SnapLen::default()).is_err());
    }
}
