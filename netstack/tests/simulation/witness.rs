//! Watches every TCP packet on the wire, and knows what a host may say of what it got.
//!
//! It reads packets with code of its own and knows nothing of the state of a stack: what a host
//! acknowledges must have arrived there, what it sends must fit into what it was offered, and what it sends
//! twice must be the same.

mod ranges;

use crate::ledger::{Content, Id, Ledger};
use crate::packet::{Packet, checksums_hold};
use crate::plan::{Plan, Side};
use ranges::Ranges;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Bytes with which a client says which connection it is.
const PREAMBLE: u64 = 4;

/// Acknowledgments without data in a second in which no data is sent, on one connection.
const MOST_IDLE_ACKS: u32 = 1_000;

/// A position that is taken for one before the stream's beginning.
const STALE: u64 = 1 << 31;

/// What one end of a connection has sent to the other. Positions count from its SYN, which is 0.
#[derive(Debug, Default)]
struct Way {
    /// The number of its SYN.
    first: Option<u32>,
    scale: Option<u8>,
    /// The bytes from position 1 on, as they were first sent.
    sent: Vec<u8>,
    /// The device may have lost something before it was seen, and it did.
    lossy: bool,
    sparse: bool,
    fin: Option<u64>,
    /// What has arrived at the other end.
    arrived: Ranges,
    /// How much of the other end's stream it has acknowledged.
    acknowledged: u64,
    /// The furthest position of the other end's stream that it has offered to take.
    edge: u64,
    /// The same of what it may not take back.
    promise: u64,
    /// Resets that may have ended its connection, and of which no new one has been seen yet.
    resets: u32,
    /// What it should send, once that is known.
    content: Option<(Content, Side)>,
    lookups: u32,
    /// The second in which it last sent data.
    data_in: u64,
    /// A second, and the packets in it.
    idle_acks: (u64, u32),
}

pub(crate) struct Witness {
    plan: Arc<Plan>,
    ledger: Arc<Ledger>,
    ways: HashMap<(SocketAddr, SocketAddr), Way>,
}

impl Witness {
    pub(crate) fn new(plan: &Arc<Plan>, ledger: &Arc<Ledger>) -> Self {
        Self { plan: Arc::clone(plan), ledger: Arc::clone(ledger), ways: HashMap::new() }
    }

    /// A packet arrives at its destination.
    pub(crate) fn arrives(&mut self, bytes: &[u8]) {
        let Some(packet) = Packet::parse(bytes) else { return };
        if packet.is_rst() {
            self.reset_arrives(&packet);
            return;
        }
        let Some(way) = self.ways.get_mut(&(packet.from, packet.to)) else { return };
        let Some(start) = way.position(packet.seq) else { return };
        if start > way.sent.len() as u64 + 2 {
            return;
        }
        way.arrived.insert(start, start + u64::from(packet.len()));
    }

    fn reset_arrives(&mut self, packet: &Packet) {
        let (Some(way), Some(back)) =
            (self.ways.get(&(packet.from, packet.to)), self.ways.get(&(packet.to, packet.from)))
        else {
            return;
        };
        // What is over stays so: a late copy of its packets may have been reset.
        if !(way.is_over(back) && back.is_over(way)) {
            self.ways.get_mut(&(packet.to, packet.from)).expect("it is there").resets += 1;
        }
    }

    /// A packet leaves a host.
    ///
    /// # Errors
    /// What is wrong with it. `lossy`: the device of the host may have lost packets before this one.
    pub(crate) fn leaves(&mut self, now: u64, bytes: &[u8], lossy: bool) -> Result<(), String> {
        let Some(packet) = Packet::parse(bytes) else { return Ok(()) };
        let ends = (packet.from, packet.to);
        let back_ends = (packet.to, packet.from);
        self.ways.entry(ends).or_default();
        self.ways.entry(back_ends).or_default();
        // A late copy of an earlier connection's SYN is answered as well.
        let asked = self.ways[&back_ends].first;
        if packet.is_syn()
            && packet.is_ack()
            && asked.is_some_and(|first| packet.ack != first.wrapping_add(1))
        {
            return Ok(());
        }
        if packet.is_syn() {
            self.on_syn(&packet);
        }
        let mut way = self.ways.remove(&ends).expect("both ways were entered");
        way.lossy = lossy;
        let back = self.ways.get(&back_ends).expect("both ways were entered");
        let outcome = if checksums_hold(bytes) {
            self.check(now, &mut way, back, (&packet, bytes))
        } else {
            Err("sends a packet with a wrong checksum".to_owned())
        };
        self.ways.insert(ends, way);
        outcome.map_err(|what| {
            let segment = &packet.segment;
            format!("wire: {} -> {}: {what} ({segment:?})", packet.from, packet.to)
        })
    }

    /// Checks what the connections of a host take for received by their peers: it must have arrived there.
    #[expect(clippy::type_complexity, reason = "it is read here and nowhere else")]
    pub(crate) fn check_sacked(
        &self,
        sacked: &[(SocketAddr, SocketAddr, Vec<(u32, u32)>)],
    ) -> Result<(), String> {
        for (local, remote, ranges) in sacked {
            let Some(way) = self.ways.get(&(*local, *remote)) else { continue };
            for (start, end) in ranges {
                if let (Some(start), Some(end)) = (way.position(*start), way.position(*end))
                    && end <= way.sent.len() as u64 + 2
                    && !way.arrived.contains(start, end)
                {
                    return Err(format!(
                        "scoreboard: {local} -> {remote}: takes {start} to {end} for received, which did not \
                         arrive"
                    ));
                }
            }
        }
        Ok(())
    }

    fn on_syn(&mut self, packet: &Packet) {
        let known = self.ways[&(packet.from, packet.to)].first;
        if known == Some(packet.seq) {
            return;
        }
        let fresh = Way { first: Some(packet.seq), scale: packet.scale, ..Way::default() };
        self.ways.insert((packet.from, packet.to), fresh);
        if !packet.is_ack() {
            // A new connection.
            self.ways.insert((packet.to, packet.from), Way::default());
        }
    }

    fn check(
        &self,
        now: u64,
        way: &mut Way,
        back: &Way,
        (packet, bytes): (&Packet, &[u8]),
    ) -> Result<(), String> {
        if way.first.is_none() || (way.is_over(back) && back.is_over(way)) {
            return Ok(());
        }
        if packet.is_rst() {
            way.resets += 1;
            return Ok(());
        }
        way.check_acknowledgment(back, packet)?;
        way.check_data(back, packet, &bytes[packet.payload_at..][..packet.payload_len])?;
        self.check_content(way, packet)?;
        let second = now / 1_000_000_000;
        if packet.len() > 0 {
            way.data_in = second;
        }
        if way.idle_acks.0 != second {
            way.idle_acks = (second, 0);
        }
        way.idle_acks.1 += 1;
        let idle = way.data_in != second && back.data_in != second;
        if way.idle_acks.1 > MOST_IDLE_ACKS && idle {
            return Err(format!("sends more than {MOST_IDLE_ACKS} acknowledgments in a second for nothing"));
        }
        Ok(())
    }

    /// Compares what is sent to what the application writes.
    fn check_content(&self, way: &mut Way, packet: &Packet) -> Result<(), String> {
        if packet.payload_len == 0 || packet.is_syn() {
            return Ok(());
        }
        if way.content.is_none() && way.lookups < 3 {
            way.lookups += 1;
            let known: Option<(Id, Side)> = self.ledger.lookup(packet.from, packet.to);
            way.content = known.map(|(id, side)| (Content::new(&self.plan, id, side), side));
        }
        let (Some((content, side)), Some(start)) = (way.content, way.position(packet.seq)) else {
            return Ok(());
        };
        let skipped = if side == Side::Client { PREAMBLE } else { 0 };
        let first = (start - 1).max(skipped);
        let end = (start - 1 + packet.payload_len as u64).max(first);
        let bytes = &way.sent[first as usize..end as usize];
        match content.differs(first - skipped, bytes) {
            Some(at) if !way.sparse => Err(format!("sends a wrong byte at {at} of its stream")),
            _ => Ok(()),
        }
    }
}

impl Way {
    /// The position of a sequence number; none if it is not of this connection, or of no connection.
    fn position(&self, seq: u32) -> Option<u64> {
        let position = u64::from(seq.wrapping_sub(self.first?));
        (position < STALE).then_some(position)
    }

    /// Whether its FIN was acknowledged. Once that holds of both ends, what comes may be of a connection that a
    /// late acknowledgment with a SYN cookie has made.
    fn is_over(&self, back: &Self) -> bool {
        self.fin.is_some_and(|fin| back.acknowledged > fin)
    }

    /// Whether what this end sends can be of another connection than what it sent before: one that a late packet
    /// with a SYN cookie has made after a reset, with the same numbers, but with a window and an end of its own.
    /// (As in Linux, where any segment with an acknowledgment can carry a cookie: `tcp_v4_cookie_check`.) Each
    /// reset allows it once. When it happens shows only in what is sent: a reset that arrives while its connection
    /// is locked waits, and the old connection goes on sending.
    fn begins_again(&mut self) -> bool {
        let begins = self.resets > 0;
        if begins {
            self.resets -= 1;
            (self.promise, self.fin) = (0, None);
        }
        begins
    }

    /// The acknowledgment, the SACK blocks and the window in a packet that this end sends.
    fn check_acknowledgment(&mut self, back: &Self, packet: &Packet) -> Result<(), String> {
        if !packet.is_ack() {
            // RFC 9293 §3.8.6: a SYN offers its window from the peer's first byte on.
            self.edge = 1 + u64::from(packet.window);
            self.promise = self.edge;
            return Ok(());
        }
        let Some(ack) = back.position(packet.ack) else { return Ok(()) };
        let arrived = back.arrived.contiguous();
        // What was never sent is of an earlier connection.
        if ack > arrived && ack <= back.sent.len() as u64 + 2 {
            return Err(format!("acknowledges {ack}, and only {arrived} arrived"));
        }
        self.acknowledged = self.acknowledged.max(ack.min(arrived));
        for (start, end) in &packet.sack {
            if let (Some(start), Some(end)) = (back.position(*start), back.position(*end))
                && end <= back.sent.len() as u64 + 2
                && !back.arrived.contains(start, end)
            {
                return Err(format!("reports {start} to {end} as received, which did not arrive"));
            }
        }
        let scaled = !packet.is_syn() && self.scale.is_some() && back.scale.is_some();
        let scale = if scaled { self.scale.unwrap_or(0).min(14) } else { 0 };
        let edge = ack + (u64::from(packet.window) << scale);
        // A SYN-ACK is of the time before the handshake's end, whenever it is repeated.
        let less = ack <= arrived && !packet.is_syn() && edge + (1 << scale) <= self.promise;
        if less && !self.begins_again() {
            return Err(format!("takes back what it offered: up to {} and now {edge}", self.promise));
        }
        self.promise = self.promise.max(edge);
        self.edge = self.edge.max(edge);
        Ok(())
    }

    /// The data and the FIN in a packet that this end sends.
    fn check_data(&mut self, back: &Self, packet: &Packet, payload: &[u8]) -> Result<(), String> {
        let Some(start) = self.position(packet.seq) else { return Ok(()) };
        let start = start + u64::from(packet.is_syn());
        let end = start + payload.len() as u64;
        if start == 0 {
            // A probe of an end that has sent nothing yet.
            return Ok(());
        }
        if payload.is_empty() && !packet.is_fin() {
            return Ok(());
        }
        if let Some(fin) = self.fin
            && (end > fin || (packet.is_fin() && end != fin))
            && !self.begins_again()
        {
            return Err(format!("sends up to {end}, and its FIN is at {fin}"));
        }
        if packet.is_fin() {
            self.fin = Some(end);
        }
        let needs = end + u64::from(packet.is_fin());
        // What goes with a SYN was offered in an earlier connection (Fast Open).
        if !packet.is_syn() && back.first.is_some() && needs > back.edge {
            return Err(format!("sends up to {needs}, and was offered {}", back.edge));
        }
        let at = (start - 1) as usize;
        if at > self.sent.len() {
            if !self.lossy {
                return Err(format!("skips what it never sent, from {} to {start}", self.sent.len() + 1));
            }
            self.sparse = true;
            self.sent.resize(at, 0);
        }
        if payload.is_empty() {
            return Ok(());
        }
        let old = (self.sent.len() - at).min(payload.len());
        if !self.sparse && self.sent[at..at + old] != payload[..old] {
            return Err(format!("sends other bytes than before between {start} and {end}"));
        }
        self.sent.extend_from_slice(&payload[old..]);
        Ok(())
    }
}
