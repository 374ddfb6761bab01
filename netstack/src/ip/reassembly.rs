//! Reassembly of fragments (RFC 791 §3.2, RFC 8200 §4.5).
//!
//! Everything about it is bounded, because fragments are costly for the receiver and cheap for the
//! sender: the memory of the store, the lifetime of an incomplete datagram (from the arrival of its
//! first fragment, never extended), and the length of a datagram.

use crate::buffer::{PACKET_SIZE, PacketBuf, Pool};
use crate::memory::{Charge, block, tree};
use crate::reasons::DropReason;
use crate::time::{Duration, Instant};
use crate::wire::{IPV4_HEADER_LEN, IpHeader, IpMeta, TCP_HEADER_LEN, emit_ip, ip_header_len, protocol};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

/// The memory of a datagram beside its pieces, in bytes: its places in two maps that are large where it matters.
const DATAGRAM: usize =
    (tree(1000, size_of::<(Key, Datagram)>()) + tree(1000, size_of::<(Age, Key)>())) / 1000;

/// The limit under memory pressure is so many times less: nothing of an incomplete datagram was promised.
const PRESSED: usize = 16;

/// The limits of a [`Reassembly`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReassemblyConfig {
    /// Lifetime of an incomplete IPv4 datagram, from the arrival of its first fragment. 30 s, as
    /// `net.ipv4.ipfrag_time`.
    pub timeout_v4: Duration,
    /// The same for IPv6. 60 s, RFC 8200 §4.5 and `net.ipv6.ip6frag_time`.
    pub timeout_v6: Duration,
    /// Bytes of memory that all incomplete datagrams together may take. 4 MiB, as
    /// `net.ipv4.ipfrag_high_thresh`. Above it, the oldest datagrams are dropped. Under memory pressure it is a
    /// sixteenth of that.
    pub memory: usize,
}

impl Default for ReassemblyConfig {
    fn default() -> Self {
        Self { timeout_v4: Duration::from_secs(30), timeout_v6: Duration::from_secs(60), memory: 4 << 20 }
    }
}

/// Datagrams that are not complete yet.
#[derive(Debug)]
pub struct Reassembly {
    config: ReassemblyConfig,
    datagrams: BTreeMap<Key, Datagram>,
    ages: BTreeMap<Age, Key>,
    next_number: u64,
    /// Memory of all datagrams, in bytes.
    memory: usize,
    charge: Charge,
    /// Where whole datagrams are put.
    pool: Arc<Pool>,
}

/// When a datagram expires. The number tells those of the same time apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Age {
    deadline: Instant,
    number: u64,
}

/// What fragments of one datagram have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
    /// Zero in IPv6, where fragments may differ in it (RFC 8200 §4.5).
    protocol: u8,
}

#[derive(Debug)]
struct Datagram {
    age: Age,
    /// Fragments by offset, none overlapping another.
    pieces: BTreeMap<usize, Box<[u8]>>,
    /// Bytes in all pieces.
    received: usize,
    /// The memory of their bytes.
    blocks: usize,
    /// Length of the payload, known from the last fragment.
    total: Option<usize>,
    /// What the first fragment's header says.
    first: Option<First>,
    /// One bit for each ECN codepoint that was seen.
    ecn: u8,
    /// A fragment overlapped another one: further fragments of the datagram are dropped.
    poisoned: bool,
}

#[derive(Clone, Copy, Debug)]
struct First {
    protocol: u8,
    hop_limit: u8,
    traffic_class: u8,
}

/// What a fragment did to its datagram.
enum Outcome {
    Kept,
    Duplicate,
    /// RFC 5722 §4 (and Linux for IPv4): a datagram with overlapping fragments is dropped, and so
    /// are its further fragments.
    Overlap,
}

/// What became of a fragment, and of what had to go for it.
#[derive(Debug)]
pub struct Inserted {
    /// The datagram that the fragment completed, if it did; or why it was dropped.
    pub outcome: Result<Option<PacketBuf>, DropReason>,
    /// Incomplete datagrams that were too old.
    pub expired: usize,
    /// Incomplete datagrams that there was no memory for.
    pub evicted: usize,
}

impl Reassembly {
    /// An empty store, which counts in the account of `pool`.
    pub fn new(config: ReassemblyConfig, pool: &Arc<Pool>) -> Self {
        Self {
            config,
            datagrams: BTreeMap::new(),
            ages: BTreeMap::new(),
            next_number: 0,
            memory: 0,
            charge: Charge::new(pool.memory(), 0),
            pool: Arc::clone(pool),
        }
    }

    /// Takes one fragment: `packet`, of which `header` was read. If it completes its datagram,
    /// returns that as one IP packet, as if it had been received in one piece: without options, or
    /// without the extension headers before the fragment header.
    pub fn insert(&mut self, now: Instant, header: &IpHeader, packet: &[u8]) -> Inserted {
        let expired = self.expire(now);
        let outcome = self.take(now, header, packet);
        let evicted = self.evict();
        self.charge.set(self.memory);
        Inserted { outcome, expired, evicted }
    }

    fn take(
        &mut self,
        now: Instant,
        header: &IpHeader,
        packet: &[u8],
    ) -> Result<Option<PacketBuf>, DropReason> {
        let bytes = packet.get(header.payload.clone()).filter(|bytes| acceptable(header, bytes));
        let (Some(fragment), Some(bytes)) = (header.fragment, bytes) else {
            return Err(DropReason::FragInvalid);
        };
        let v4 = header.src.is_ipv4();
        let protocol = if v4 { header.protocol } else { 0 };
        let key = Key { src: header.src, dst: header.dst, id: fragment.id, protocol };
        let timeout = if v4 { self.config.timeout_v4 } else { self.config.timeout_v6 };
        let datagram = match self.datagrams.entry(key) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let age = Age { deadline: now + timeout, number: self.next_number };
                self.next_number += 1;
                self.ages.insert(age, key);
                self.memory += DATAGRAM;
                entry.insert(Datagram::new(age))
            }
        };
        let before = datagram.cost();
        match datagram.insert(header, bytes) {
            Outcome::Kept => self.memory += datagram.cost() - before,
            Outcome::Duplicate => return Err(DropReason::DupFrag),
            Outcome::Overlap => {
                datagram.poison();
                self.memory -= before;
                return Err(DropReason::FragOverlap);
            }
        }
        match self.remove_if_complete(&key) {
            Some(datagram) => datagram.assemble(&key, &self.pool).map(Some).ok_or(DropReason::FragInvalid),
            None => Ok(None),
        }
    }

    fn remove_if_complete(&mut self, key: &Key) -> Option<Datagram> {
        let complete = self.datagrams.get(key)?.is_complete();
        complete.then(|| self.remove(key))?
    }

    /// Gives up the oldest datagrams if there is not memory for all, and returns how many those were.
    fn evict(&mut self) -> usize {
        let before = self.datagrams.len();
        let pressed = self.pool.memory().is_pressed();
        let limit = if pressed { self.config.memory / PRESSED } else { self.config.memory };
        while self.memory > limit
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            self.remove(&oldest);
        }
        before - self.datagrams.len()
    }

    /// Drops datagrams that have expired, and returns their number.
    pub fn expire(&mut self, now: Instant) -> usize {
        let before = self.datagrams.len();
        while let Some((age, &key)) = self.ages.first_key_value()
            && age.deadline <= now
        {
            self.remove(&key);
        }
        self.charge.set(self.memory);
        before - self.datagrams.len()
    }

    /// When [`Reassembly::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.ages.first_key_value().map(|(age, _)| age.deadline)
    }

    /// Bytes that the store counts towards its limit.
    pub fn memory(&self) -> usize {
        self.memory
    }

    fn remove(&mut self, key: &Key) -> Option<Datagram> {
        let datagram = self.datagrams.remove(key)?;
        self.ages.remove(&datagram.age);
        self.memory -= DATAGRAM + datagram.cost();
        Some(datagram)
    }
}

/// Whether a fragment can be part of a valid datagram.
fn acceptable(header: &IpHeader, bytes: &[u8]) -> bool {
    let Some(fragment) = header.fragment else { return false };
    let end = usize::from(fragment.offset) + bytes.len();
    // What the length field can say, which in IPv6 does not count the header (RFC 8200 §4.5).
    let longest = if header.src.is_ipv4() { PACKET_SIZE - IPV4_HEADER_LEN } else { PACKET_SIZE };
    if bytes.is_empty() || end > longest {
        return false;
    }
    // RFC 8200 §4.5: all but the last are a multiple of eight bytes long.
    if fragment.more && !bytes.len().is_multiple_of(8) {
        return false;
    }
    // RFC 1858 §3: no legitimate path divides a TCP header, because 68 bytes pass everywhere.
    !(header.protocol == protocol::TCP && fragment.offset == 0 && bytes.len() < TCP_HEADER_LEN)
}

impl Datagram {
    fn new(age: Age) -> Self {
        Self {
            age,
            pieces: BTreeMap::new(),
            received: 0,
            blocks: 0,
            total: None,
            first: None,
            ecn: 0,
            poisoned: false,
        }
    }

    fn insert(&mut self, header: &IpHeader, bytes: &[u8]) -> Outcome {
        let Some(fragment) = header.fragment.filter(|_| !self.poisoned) else { return Outcome::Overlap };
        let start = usize::from(fragment.offset);
        let end = start + bytes.len();
        // The piece at or before the end decides, since pieces do not overlap each other.
        if let Some((&at, piece)) = self.pieces.range(..end).next_back()
            && at + piece.len() > start
        {
            // A duplicate that the network made. RFC 8200 §4.5 lets it be ignored.
            return if at == start && **piece == *bytes { Outcome::Duplicate } else { Outcome::Overlap };
        }
        let beyond = self.total.is_some_and(|total| end > total);
        if !fragment.more {
            let last = self.pieces.last_key_value().map_or(0, |(at, piece)| at + piece.len());
            if self.total.is_some() || last > end {
                return Outcome::Overlap;
            }
            self.total = Some(end);
        } else if beyond {
            return Outcome::Overlap;
        }
        if start == 0 {
            self.first = Some(First {
                protocol: header.protocol,
                hop_limit: header.hop_limit,
                traffic_class: header.traffic_class,
            });
        }
        self.ecn |= 1 << header.ecn();
        self.received += bytes.len();
        self.blocks += block(bytes.len());
        self.pieces.insert(start, bytes.into());
        Outcome::Kept
    }

    fn is_complete(&self) -> bool {
        self.total == Some(self.received)
    }

    /// The memory of the pieces, in bytes.
    fn cost(&self) -> usize {
        self.blocks + tree(self.pieces.len(), size_of::<(usize, Box<[u8]>)>())
    }

    /// Drops the pieces, now and in future.
    fn poison(&mut self) {
        self.pieces.clear();
        (self.received, self.blocks) = (0, 0);
        self.total = None;
        self.poisoned = true;
    }

    fn assemble(&self, key: &Key, pool: &Arc<Pool>) -> Option<PacketBuf> {
        let First { protocol, hop_limit, traffic_class } = self.first?;
        let meta = IpMeta {
            traffic_class: reassembled_ecn(self.ecn, traffic_class)?,
            ident: key.id as u16,
            ..IpMeta::new(key.src, key.dst, hop_limit)
        };
        let header_len = ip_header_len(&key.dst);
        let mut packet = vec![0; header_len];
        packet.reserve_exact(self.received);
        emit_ip(&mut packet, &meta, protocol, self.received);
        self.pieces.values().for_each(|piece| packet.extend_from_slice(piece));
        Some(pool.adopt(packet.into_boxed_slice()))
    }
}

/// The traffic class of a datagram whose fragments had the ECN codepoints in `seen`, or none if it
/// must be dropped (RFC 3168 §5.3).
const fn reassembled_ecn(seen: u8, first: u8) -> Option<u8> {
    const NOT_ECT: u8 = 1 << 0;
    const CE: u8 = 1 << 3;
    if seen & CE == 0 {
        Some(first)
    } else if seen & NOT_ECT == 0 {
        Some(first | 3)
    } else {
        // Marked, but for a transport that would not react.
        None
    }
}

#[cfg(test)]
mod tests;
