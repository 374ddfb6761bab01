use super::*;
use crate::buffer::Pool;
use crate::wire::{Fragment, parse_ip};
use proptest::prelude::*;

const NOW: Instant = Instant::from_millis(1);

struct Spec<'a> {
    v6: bool,
    id: u32,
    offset: u16,
    more: bool,
    ecn: u8,
    bytes: &'a [u8],
}

impl Default for Spec<'_> {
    fn default() -> Self {
        Self { v6: false, id: 7, offset: 0, more: true, ecn: 0, bytes: &[1; 24] }
    }
}

fn feed(store: &mut Reassembly, now: Instant, spec: &Spec<'_>) -> Option<Vec<u8>> {
    let Spec { v6, id, offset, more, ecn, bytes } = *spec;
    let (src, dst) = if v6 { ("fd00::1", "fd00::2") } else { ("10.0.0.1", "10.0.0.2") };
    let header = IpHeader {
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        protocol: protocol::UDP,
        hop_limit: 9,
        traffic_class: ecn,
        fragment: Some(Fragment { id, offset, more }),
        payload: 0..bytes.len(),
    };
    store.insert(now, &header, bytes).outcome.ok().flatten().map(|packet| packet.bytes().to_vec())
}

fn empty() -> Reassembly {
    Reassembly::new(ReassemblyConfig::default(), &Pool::new())
}

proptest! {
    #[test]
    fn fragments_in_any_order_make_the_datagram(
        v6: bool,
        payload in prop::collection::vec(any::<u8>(), 24..2000),
        unit in 1usize..40,
        order in any::<prop::sample::Index>(),
        seed: u64,
    ) {
        let mut store = empty();
        let mut cuts: Vec<(usize, &[u8])> =
            payload.chunks(unit * 8).enumerate().map(|(n, piece)| (n * unit * 8, piece)).collect();
        // A cheap shuffle: rotate and stride.
        let len = cuts.len();
        cuts.rotate_left(order.index(len));
        if seed % 2 == 0 { cuts.reverse(); }
        let mut whole = None;
        for (n, &(offset, bytes)) in cuts.iter().enumerate() {
            let more = offset + bytes.len() < payload.len();
            let spec = Spec { v6, offset: offset as u16, more, bytes, ..Spec::default() };
            prop_assert!(whole.is_none());
            whole = feed(&mut store, NOW, &spec);
            if n + 1 < len {
                prop_assert!(feed(&mut store, NOW, &spec).is_none(), "a duplicate changes nothing");
            }
        }
        let whole = whole.expect("complete");
        let header = parse_ip(&whole).unwrap();
        prop_assert_eq!((header.protocol, header.hop_limit, header.fragment), (protocol::UDP, 9, None));
        prop_assert_eq!(&whole[header.payload], payload);
        prop_assert_eq!((store.memory(), store.datagrams.len(), store.ages.len()), (0, 0, 0));
    }

    #[test]
    fn whatever_comes_the_accounts_are_right(fragments in prop::collection::vec(
        (0u32..4, 0u16..200, 1usize..100, any::<bool>(), 0u64..40_000), 0..200)) {
        let config = ReassemblyConfig { memory: 4_000, ..ReassemblyConfig::default() };
        let mut store = Reassembly::new(config, &Pool::new());
        let mut now = NOW;
        for (id, offset, len, more, wait) in fragments {
            now += Duration::from_millis(wait / 10);
            let bytes = vec![id as u8; len];
            feed(&mut store, now, &Spec { id, offset: offset * 8, more, bytes: &bytes, ..Spec::default() });
            let cost: usize = store.datagrams.values().map(|datagram| DATAGRAM + datagram.cost()).sum();
            prop_assert_eq!(store.memory(), cost);
            prop_assert!(cost <= config.memory);
            prop_assert_eq!(store.ages.len(), store.datagrams.len());
        }
        store.expire(now + Duration::from_secs(61));
        prop_assert_eq!(store.memory(), 0);
    }
}

/// What a naive store knows of one datagram: its fragments in the order in which they came.
#[derive(Default)]
struct Naive {
    pieces: Vec<(usize, Vec<u8>, bool)>,
    poisoned: bool,
}

impl Naive {
    /// The payload, if it is whole now; or why the fragment is dropped.
    fn insert(&mut self, offset: usize, bytes: &[u8], more: bool) -> Result<Option<Vec<u8>>, DropReason> {
        let end = offset + bytes.len();
        if bytes.is_empty() || end > PACKET_SIZE - 20 || (more && !bytes.len().is_multiple_of(8)) {
            return Err(DropReason::FragInvalid);
        }
        if !self.poisoned && self.pieces.iter().any(|(at, piece, _)| (*at, &piece[..]) == (offset, bytes)) {
            return Err(DropReason::DupFrag);
        }
        let overlaps = |(at, piece, _): &(usize, Vec<u8>, bool)| *at < end && offset < at + piece.len();
        let beyond = |(at, piece, known_more): &(usize, Vec<u8>, bool)| match (known_more, more) {
            (false, false) => true,
            (false, true) => end > at + piece.len(),
            (true, false) => at + piece.len() > end,
            (true, true) => false,
        };
        self.poisoned |= self.pieces.iter().any(|piece| overlaps(piece) || beyond(piece));
        if self.poisoned {
            return Err(DropReason::FragOverlap);
        }
        self.pieces.push((offset, bytes.to_vec(), more));
        self.pieces.sort();
        let mut whole = Vec::new();
        for (at, piece, _) in &self.pieces {
            if *at != whole.len() {
                return Ok(None);
            }
            whole.extend_from_slice(piece);
        }
        Ok(self.pieces.iter().any(|(.., more)| !more).then(|| {
            *self = Self::default();
            whole
        }))
    }
}

proptest! {
    #[test]
    fn whatever_comes_is_treated_as_by_a_list(
        fragments in prop::collection::vec((0u32..3, 0u16..6, prop::sample::select(vec![0, 5, 8, 16, 24]), any::<bool>()), 1..60)
    ) {
        let mut store = empty();
        let mut naive = [Naive::default(), Naive::default(), Naive::default()];
        for (id, offset, len, more) in fragments {
            let bytes: Vec<u8> = (0..len).map(|i| (usize::from(offset) * 8 + i) as u8).collect();
            let header = IpHeader {
                src: "10.0.0.1".parse().unwrap(),
                dst: "10.0.0.2".parse().unwrap(),
                protocol: protocol::UDP,
                hop_limit: 9,
                traffic_class: 0,
                fragment: Some(Fragment { id, offset: offset * 8, more }),
                payload: 0..bytes.len(),
            };
            let outcome = store.insert(NOW, &header, &bytes).outcome;
            let outcome = outcome.map(|whole| whole.map(|whole| whole.bytes()[20..].to_vec()));
            prop_assert_eq!(outcome, naive[id as usize].insert(usize::from(offset) * 8, &bytes, more));
        }
    }
}

#[test]
fn an_overlap_drops_the_datagram_and_what_follows_of_it() {
    for (offset, len) in [(8, 24), (16, 8), (0, 48), (0, 32)] {
        let mut store = empty();
        assert!(feed(&mut store, NOW, &Spec::default()).is_none());
        let overlapping = Spec { offset, bytes: &[2; 48][..len], ..Spec::default() };
        assert!(feed(&mut store, NOW, &overlapping).is_none());
        assert_eq!(store.memory(), DATAGRAM, "pieces are gone");
        assert!(feed(&mut store, NOW, &Spec::default()).is_none());
        let last = Spec { offset: 24, more: false, ..Spec::default() };
        assert!(feed(&mut store, NOW, &last).is_none(), "fragments still to come are dropped");
        // After its time the identification may be used again.
        let later = NOW + Duration::from_secs(30);
        assert!(feed(&mut store, later, &Spec::default()).is_none());
        assert!(feed(&mut store, later, &last).is_some());
    }
}

#[test]
fn two_ends_or_data_past_the_end_drop_the_datagram() {
    for second in [
        Spec { offset: 48, more: false, ..Spec::default() },
        Spec { offset: 48, more: true, ..Spec::default() },
        Spec { offset: 0, more: false, bytes: &[1; 8], ..Spec::default() },
    ] {
        let mut store = empty();
        assert!(feed(&mut store, NOW, &Spec { offset: 24, more: false, ..Spec::default() }).is_none());
        assert!(feed(&mut store, NOW, &second).is_none());
        assert!(feed(&mut store, NOW, &Spec::default()).is_none());
        assert_eq!(store.memory(), DATAGRAM);
    }
}

#[test]
fn fragments_that_cannot_be_cost_nothing() {
    let mut store = empty();
    for bad in [
        Spec { bytes: &[], ..Spec::default() },
        Spec { bytes: &[1; 23], ..Spec::default() },
        Spec { offset: 65_528, more: false, bytes: &[1; 8], ..Spec::default() },
        Spec { offset: 65_512, ..Spec::default() },
        Spec { v6: true, offset: 65_528, bytes: &[1; 8], ..Spec::default() },
    ] {
        assert!(feed(&mut store, NOW, &bad).is_none());
        assert_eq!(store.memory(), 0);
    }
}

#[test]
fn a_tcp_header_may_not_be_cut() {
    let mut store = empty();
    let mut header = IpHeader {
        src: "10.0.0.1".parse().unwrap(),
        dst: "10.0.0.2".parse().unwrap(),
        protocol: protocol::TCP,
        hop_limit: 9,
        traffic_class: 0,
        fragment: Some(Fragment { id: 1, offset: 0, more: true }),
        payload: 0..16,
    };
    store.insert(NOW, &header, &[0; 24]);
    assert_eq!(store.memory(), 0);
    header.payload = 0..24;
    store.insert(NOW, &header, &[0; 24]);
    assert_ne!(store.memory(), 0);
}

#[test]
fn incomplete_datagrams_go_in_time_and_are_never_prolonged() {
    let mut store = empty();
    feed(&mut store, NOW, &Spec::default());
    feed(&mut store, NOW, &Spec { v6: true, ..Spec::default() });
    assert_eq!(store.next_deadline(), Some(NOW + Duration::from_secs(30)));
    feed(&mut store, NOW + Duration::from_secs(29), &Spec { offset: 48, ..Spec::default() });
    assert_eq!(store.expire(NOW + Duration::from_secs(30)), 1);
    assert_eq!(store.next_deadline(), Some(NOW + Duration::from_secs(60)));
    assert_eq!(store.expire(NOW + Duration::from_secs(60)), 1);
    assert_eq!((store.next_deadline(), store.memory()), (None, 0));
}

#[test]
fn a_flood_of_identifiers_pushes_out_the_oldest() {
    let config = ReassemblyConfig { memory: 100_000, ..ReassemblyConfig::default() };
    let mut store = Reassembly::new(config, &Pool::new());
    for id in 0..50_000 {
        feed(&mut store, NOW, &Spec { id, ..Spec::default() });
        assert!(store.memory() <= config.memory);
    }
    let last = Spec { id: 49_999, offset: 24, more: false, ..Spec::default() };
    assert!(feed(&mut store, NOW, &last).is_some(), "the newest is still there");
    let first = Spec { id: 0, offset: 24, more: false, ..Spec::default() };
    assert!(feed(&mut store, NOW, &first).is_none(), "the oldest is not");
}

#[test]
fn congestion_marks_survive() {
    let whole = |a: u8, b: u8| {
        let mut store = empty();
        feed(&mut store, NOW, &Spec { ecn: a, ..Spec::default() });
        let packet = feed(&mut store, NOW, &Spec { ecn: b, offset: 24, more: false, ..Spec::default() });
        packet.map(|packet| parse_ip(&packet).unwrap().ecn())
    };
    assert_eq!(whole(2, 3), Some(3));
    assert_eq!(whole(3, 1), Some(3));
    assert_eq!(whole(2, 2), Some(2));
    assert_eq!(whole(0, 0), Some(0));
    assert_eq!(whole(0, 3), None, "marked, but not capable");
}
