//! The capture of a scene, read back and compared with the ladder.

use super::recording::Recorded;
use netstack::wire::{parse_ip, protocol, transport_checksum_ok};
use pcap_file::pcapng::{Block, PcapNgReader};
use std::fs::File;
use std::io;
use std::path::Path;

/// What a capture holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Packets in it.
    pub packets: usize,
    /// Those with a wrong checksum. The tour leaves no checksum to a device, so these are segments
    /// that an experiment forged with a wrong checksum.
    pub bad_checksums: usize,
}

/// Reads a capture. Every packet must be well-formed, and its checksums are checked.
///
/// # Errors
/// If the file cannot be read, is not pcapng, or contains a malformed packet.
pub fn check(path: &Path) -> io::Result<Checked> {
    let mut checked = Checked { packets: 0, bad_checksums: 0 };
    for packet in packets(path)? {
        checked.packets += 1;
        if !checksum_ok(&packet)? {
            checked.bad_checksums += 1;
        }
    }
    Ok(checked)
}

/// Compares the capture with what the ladder was drawn from: the same packets in the same order.
/// They were recorded by two independent pieces of code.
pub(super) fn equals(path: &Path, recorded: &Recorded) -> Result<usize, String> {
    let captured = packets(path).map_err(|error| error.to_string())?;
    let drawn = recorded.captured.iter().map(|number| &recorded.packets[*number].bytes);
    if captured.len() != drawn.len() {
        return Err(format!("{} packets in the capture, {} in the ladder", captured.len(), drawn.len()));
    }
    match captured.iter().zip(drawn).position(|(captured, drawn)| captured != drawn) {
        Some(number) => Err(format!("packet {} differs", number + 1)),
        None => Ok(captured.len()),
    }
}

/// The packets of a capture.
fn packets(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()));
    let mut reader = PcapNgReader::new(File::open(path)?).map_err(invalid)?;
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.map_err(invalid)? {
            packets.push(packet.data.into_owned());
        }
    }
    Ok(packets)
}

/// A wrong checksum of the IP header makes a packet malformed, one of the transport does not.
fn checksum_ok(packet: &[u8]) -> io::Result<bool> {
    let ip = parse_ip(packet).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(match ip.protocol {
        protocol::TCP | protocol::ICMPV6 => {
            transport_checksum_ok(ip.src, ip.dst, ip.protocol, &packet[ip.payload])
        }
        protocol::ICMP => netstack::wire::checksum(&packet[ip.payload]) == 0,
        _ => true,
    })
}
