//! The network between the hosts: delays, losses, and what routers do.

use crate::apps::host_of;
use crate::nic::Frame;
use crate::packet::{addresses, is_fragment, is_fragment_v6};
use crate::plan::{PathPlan, Plan};
use crate::rng::Rng;
use netstack::ip::fragment;
use netstack::wire::{IcmpMessage, IpMeta, emit_icmp, mark_congestion, split_super_segment};
use std::net::IpAddr;

/// A share of a million.
const MILLION: u64 = 1_000_000;

/// A packet on its way to a host.
#[derive(Clone, Debug)]
pub(crate) struct Travelling {
    pub(crate) at: u64,
    pub(crate) to: usize,
    pub(crate) frame: Frame,
    /// A bit of it was inverted.
    pub(crate) corrupt: bool,
    /// It is one of the fragments of this packet.
    pub(crate) fragment_of: Option<Vec<u8>>,
}

pub(crate) struct Network {
    /// By the sending host, then by the receiving one.
    paths: Vec<Vec<Path>>,
    rng: Rng,
    ident: u32,
}

#[derive(Clone, Debug)]
struct Path {
    plain: PathPlan,
    storm: Option<PathPlan>,
    /// Outages that last.
    outages: u32,
    mtu: Option<usize>,
    /// When the last packet arrives that keeps its place.
    last: u64,
}

impl Network {
    pub(crate) fn new(plan: &Plan) -> Self {
        let path = |plain: &PathPlan| Path { plain: *plain, storm: None, outages: 0, mtu: None, last: 0 };
        let paths = plan.paths.iter().map(|row| row.iter().map(path).collect()).collect();
        Self { paths, rng: Rng::new(plan.seed, 7), ident: 0 }
    }

    pub(crate) fn set_outage(&mut self, (a, b): (usize, usize), on: bool) {
        for (from, to) in [(a, b), (b, a)] {
            let outages = &mut self.paths[from][to].outages;
            *outages = if on { *outages + 1 } else { *outages - 1 };
        }
    }

    pub(crate) fn set_storm(&mut self, (from, to): (usize, usize), storm: Option<PathPlan>) {
        self.paths[from][to].storm = storm;
    }

    pub(crate) fn set_mtu(&mut self, (a, b): (usize, usize), mtu: Option<usize>) {
        (self.paths[a][b].mtu, self.paths[b][a].mtu) = (mtu, mtu);
    }

    /// Takes a packet that leaves host `from` at `now`, and passes on what comes of it.
    pub(crate) fn carry(&mut self, now: u64, from: usize, frame: Frame, out: &mut dyn FnMut(Travelling)) {
        let to = addresses(&frame.bytes).and_then(|(_, to)| host_of(to));
        let Some(to) = to.filter(|to| *to < self.paths.len()) else { return };
        let path = &self.paths[from][to];
        let whole = path.plain.whole && path.storm.is_none();
        match frame.gso_size {
            Some(size) if !whole => {
                let mut pieces = Vec::new();
                split_super_segment(&frame.bytes, size.into(), &mut |piece| {
                    pieces.push(Frame { bytes: piece.to_vec(), gso_size: None, checksum_verified: false });
                });
                for piece in pieces {
                    self.route(now, (from, to), piece, out);
                }
            }
            _ => self.route(now, (from, to), frame, out),
        }
    }

    /// A router on the path looks at a packet.
    fn route(&mut self, now: u64, (from, to): (usize, usize), frame: Frame, out: &mut dyn FnMut(Travelling)) {
        let len =
            frame.gso_size.map_or(frame.bytes.len(), |size| frame.bytes.len().min(usize::from(size) + 120));
        let Some(mtu) = self.paths[from][to].mtu.filter(|mtu| len > *mtu) else {
            self.travel(now, (from, to), (frame, None), out);
            return;
        };
        let v4 = frame.bytes[0] >> 4 == 4;
        if is_fragment(&frame.bytes) {
            return;
        }
        if v4 && frame.bytes[6] & 0x40 == 0 && frame.gso_size.is_none() {
            self.ident += 1;
            let mut pieces = Vec::new();
            let ident = u32::from(u16::from_be_bytes([frame.bytes[4], frame.bytes[5]]));
            fragment(&frame.bytes, mtu, ident, |piece| pieces.push(piece.to_vec()));
            for bytes in pieces {
                let piece = Frame { bytes, gso_size: None, checksum_verified: false };
                self.travel(now, (from, to), (piece, Some(frame.bytes.clone())), out);
            }
            return;
        }
        let answer = too_big(&frame.bytes, mtu);
        let answer = Frame { bytes: answer, gso_size: None, checksum_verified: false };
        self.travel(now, (to, from), (answer, None), out);
    }

    fn travel(
        &mut self,
        now: u64,
        (from, to): (usize, usize),
        (frame, fragment_of): (Frame, Option<Vec<u8>>),
        out: &mut dyn FnMut(Travelling),
    ) {
        let rng = &mut self.rng;
        let path = &mut self.paths[from][to];
        let it = path.storm.unwrap_or(path.plain);
        let mut share = |of: u64| of > 0 && rng.below(MILLION) < of;
        if path.outages > 0 || share(it.loss) {
            return;
        }
        let (duplicate, reorder, corrupt) = (share(it.duplicate), share(it.reorder), share(it.corrupt));
        let mark = share(it.mark);
        let is_piece = is_fragment(&frame.bytes) || is_fragment_v6(&frame.bytes);
        let mut frame = frame;
        if mark {
            mark_congestion(&mut frame.bytes);
        }
        if corrupt {
            // Where a checksum shows it: not in the rest of the IPv6 header.
            let first = if frame.bytes[0] >> 4 == 4 { 0 } else { 40 };
            let bit = rng.below((frame.bytes.len() - first) as u64 * 8) as usize;
            damage(&mut frame.bytes[first..], bit, is_piece);
        } else {
            frame.checksum_verified = rng.chance(200);
        }
        let delay = it.delay + rng.below(it.jitter + 1);
        let at = if reorder {
            now + delay + rng.range(1..=20_000_000)
        } else {
            path.last = path.last.max(now + delay);
            path.last
        };
        let travelling = Travelling { at, to, frame, corrupt, fragment_of };
        if duplicate {
            let later = at + rng.below(30_000_000);
            out(Travelling { at: later, ..travelling.clone() });
        }
        out(travelling);
    }
}

/// Flips a bit. Of a piece of a datagram it sets one, that or the next that is not set: where two pieces are damaged, the
/// sum of the whole shows nothing if one loses what the other wins.
fn damage(bytes: &mut [u8], bit: usize, is_piece: bool) {
    let is_set = |bit: usize| bytes[bit / 8] >> (bit % 8) & 1 == 1;
    let next = (bit..8 * bytes.len()).chain(0..bit).find(|bit| !is_piece || !is_set(*bit));
    let bit = next.unwrap_or(bit);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

#[test]
fn pieces_are_damaged_so_that_their_sum_shows_it() {
    let mut bytes = [0b1111_1110, 0xff, 0b0111_1111];
    damage(&mut bytes, 3, false);
    assert_eq!(bytes[0], 0b1111_0110);
    damage(&mut bytes, 4, true);
    assert_eq!(bytes[2], 0xff, "the next that is not set");
    damage(&mut bytes, 23, true);
    assert_eq!(bytes[0], 0b1111_0111, "from the beginning after the end");
}

/// What a router says of a packet that is longer than the next link takes.
fn too_big(packet: &[u8], mtu: usize) -> Vec<u8> {
    let (source, destination) = addresses(packet).expect("only packets are routed");
    let quoted = &packet[..packet.len().min(576 - 48)];
    // The router has the address that the packet was for: all that matters is where it goes.
    let meta = IpMeta::new(destination, source, 64);
    let mut answer = Vec::new();
    let [a, b] = (mtu as u16).to_be_bytes();
    let message = match source {
        IpAddr::V4(_) => IcmpMessage { kind: 3, code: 4, word: [0, 0, a, b], body: quoted },
        IpAddr::V6(_) => IcmpMessage { kind: 2, code: 0, word: [0, 0, a, b], body: quoted },
    };
    emit_icmp(&mut answer, &meta, &message);
    answer
}
