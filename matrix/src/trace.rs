//! The behaviour of a sender over time, for plots.

use crate::cell::Cell;
use crate::net::Net;
use netstack::buffer::PacketBuf;
use netstack::config::CongestionName;
use netstack::device::{Capabilities, Device, Link, LinkStats, Readiness, RxMeta, TxPacket};
use netstack::sync::{Mutex, Rank};
use netstack::tcp::TcpInfo;
use netstack::time::{Duration, Instant};
use std::io;
use std::sync::Arc;

/// Offsets in a TCP header, and the length of an IPv4 header without options.
const IP_HEADER: usize = 20;
const SEQ: usize = 4;
const ACK: usize = 8;

/// A moment of the sender.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Time since the start of the transfer.
    pub at: Duration,
    /// Its `TcpInfo`.
    pub info: TcpInfo,
}

/// An event on the wire next to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// It sent data for the first time, up to this many bytes from the beginning.
    Sent(u64),
    /// It retransmitted data that ends there.
    SentAgain(u64),
    /// Of the data that it sent, and that ends there, the path lost a packet.
    Lost(u64),
    /// An acknowledgment of all before that arrived.
    Acked(u64),
}

/// A transfer, as its sender saw it.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// The sender's state, at equal distances where something happened.
    pub samples: Vec<Sample>,
    /// The packets of its device, with the time since the start of the transfer.
    pub marks: Vec<(Duration, Mark)>,
}

/// Runs a cell for `time` and samples its sender about `samples` times.
///
/// # Errors
/// If the connection failed.
pub fn run(cell: &Cell, congestion: CongestionName, time: Duration, samples: u32) -> io::Result<Trace> {
    let marks = Arc::new(Mutex::new(Rank::Leaf, Marks::default()));
    let tap = |link| Arc::new(Tap { link, marks: Arc::clone(&marks) }) as Arc<dyn Device>;
    let mut net = Net::tapped(&cell.path(), &Cell::config(), cell.seed(), tap)?;
    let start = net.now();
    let flow = net.start(congestion, u64::MAX)?;
    let mut trace = Trace::default();
    let mut next = start;
    while net.step(start + time)? {
        if net.now() < next {
            continue;
        }
        if let Some(info) = net.info(flow) {
            trace.samples.push(Sample { at: net.now() - start, info });
            next = net.now() + time / samples.max(1);
        }
    }
    let seen = std::mem::take(&mut marks.lock().seen);
    trace.marks = seen.into_iter().map(|(at, mark)| (at - start, mark)).collect();
    Ok(trace)
}

/// The packets of a device.
#[derive(Debug, Default)]
struct Marks {
    /// The sequence number of the first byte, from the SYN on.
    first: Option<u32>,
    /// Bytes from the beginning that were sent so far.
    sent: u64,
    seen: Vec<(Instant, Mark)>,
}

impl Marks {
    /// Position in the stream of a sequence number near what was sent last.
    fn position(&self, seq: u32) -> Option<u64> {
        let expected = self.first?.wrapping_add(self.sent as u32);
        let distance = seq.wrapping_sub(expected) as i32;
        self.sent.checked_add_signed(distance.into())
    }

    fn on_sent(&mut self, now: Instant, seq: u32, payload: usize, lost: u64) {
        if self.first.is_none() {
            // The SYN takes one sequence number.
            self.first = Some(seq.wrapping_add(1));
            return;
        }
        let Some(end) = self.position(seq.wrapping_add(payload as u32)).filter(|_| payload > 0) else {
            return;
        };
        let new = end > self.sent;
        self.sent = self.sent.max(end);
        self.seen.push((now, if new { Mark::Sent(end) } else { Mark::SentAgain(end) }));
        self.seen.extend((0..lost).map(|_| (now, Mark::Lost(end))));
    }

    fn on_received(&mut self, now: Instant, ack: u32) {
        if let Some(position) = self.position(ack) {
            self.seen.push((now, Mark::Acked(position)));
        }
    }
}

/// A link that records the sequence numbers of its packets, and what becomes of them.
struct Tap {
    link: Arc<Link>,
    marks: Arc<Mutex<Marks>>,
}

/// Four bytes of the TCP header of an IPv4 packet, as a number; none if it is too short.
fn field(packet: &[u8], offset: usize) -> Option<u32> {
    let bytes = packet.get(IP_HEADER + offset..IP_HEADER + offset + 4)?;
    bytes.try_into().ok().map(u32::from_be_bytes)
}

impl Device for Tap {
    fn capabilities(&self) -> Capabilities {
        self.link.capabilities()
    }

    fn receive(&self, now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        let meta = self.link.receive(now, queue, buf)?;
        if let Some(ack) = field(&buf.bytes()[..meta.len], ACK) {
            self.marks.lock().on_received(now, ack);
        }
        Ok(meta)
    }

    fn transmit(&self, now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        let lost = |stats: LinkStats| stats.lost + stats.queue_drops;
        let before = lost(self.link.egress_stats());
        self.link.transmit(now, queue, packet)?;
        let lost = lost(self.link.egress_stats()) - before;
        if let Some(seq) = field(packet.header, SEQ) {
            self.marks.lock().on_sent(now, seq, packet.len() - packet.header.len(), lost);
        }
        Ok(())
    }

    fn flush(&self, queue: usize) {
        self.link.flush(queue);
    }

    fn readiness(&self, queue: usize) -> Readiness<'_> {
        self.link.readiness(queue)
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.link.next_deadline()
    }

    fn is_transmitting(&self) -> bool {
        self.link.is_transmitting()
    }

    fn on_deadline(&self, now: Instant) {
        self.link.on_deadline(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_what_was_sent_and_sent_again() {
        let cell = Cell {
            rate_kbit: 10_000,
            rtt_us: 20_000,
            buffer_percent: 100,
            reorder_percent: 0,
            loss_bp: 100,
            burst: 1,
        };
        let trace = run(&cell, CongestionName::CUBIC, Duration::from_secs(3), 100).unwrap();
        assert!((50..=101).contains(&trace.samples.len()), "{}", trace.samples.len());
        let info = &trace.samples.last().unwrap().info;
        let lost = trace.marks.iter().filter(|(_, mark)| matches!(mark, Mark::Lost(_))).count();
        // What the link lost: acknowledgments, too.
        assert!(lost > 0);
        // In a recovery, much of what is not acknowledged has left the network.
        let beyond = |of: fn(&TcpInfo) -> usize| {
            trace.samples.iter().filter(|s| of(&s.info) > s.info.snd_cwnd + s.info.snd_mss).count()
        };
        assert!(beyond(|info| info.unacked) > 0);
        assert_eq!(beyond(TcpInfo::in_flight), 0);
        let again = trace.marks.iter().filter(|(_, mark)| matches!(mark, Mark::SentAgain(_))).count();
        assert!(info.total_retrans > 0 && again > 0 && again as u64 <= info.total_retrans + 3, "{again}");
        let acked = trace.marks.iter().rev().find_map(|(_, mark)| match mark {
            Mark::Acked(position) => Some(*position),
            _ => None,
        });
        // The connection counts its SYN, too.
        assert!(acked.is_some_and(|acked| acked + 1 >= info.bytes_acked), "{acked:?} {info}");
    }
}
