use super::*;
use crate::stack::keyed::Keyed;
use proptest::prelude::*;
use std::collections::HashSet;

fn claim(address: &str) -> Claim {
    Claim {
        address: address.parse().unwrap(),
        dual_stack: address == "::",
        interface: None,
        reuse_address: false,
        reuse_port: false,
        listening: false,
        by_connect: false,
    }
}

fn ports() -> Arc<Ports> {
    Ports::new(1000..=1009)
}

/// The chance of one of several destinations.
fn chance(hash: u64) -> Chance {
    Chance { hash, noise: hash.rotate_left(17) }
}

#[test]
fn addresses_that_overlap_conflict() {
    let ports = ports();
    for (first, second, conflict) in [
        ("10.0.0.1", "10.0.0.1", true),
        ("10.0.0.1", "10.0.0.2", false),
        ("10.0.0.1", "0.0.0.0", true),
        ("0.0.0.0", "10.0.0.1", true),
        ("::", "10.0.0.1", true),
        ("::", "0.0.0.0", true),
        ("::", "fd00::1", true),
        ("0.0.0.0", "fd00::1", false),
        ("10.0.0.1", "fd00::1", false),
    ] {
        let held = ports.bind(80, claim(first)).unwrap();
        assert_eq!(ports.bind(80, claim(second)).is_err(), conflict, "{first} and {second}");
        drop(held);
    }
    let only_v6 = Claim { dual_stack: false, ..claim("::") };
    let _held = ports.bind(80, only_v6).unwrap();
    assert!(ports.bind(80, claim("0.0.0.0")).is_ok());
}

#[test]
fn sharing_needs_both_and_no_listener() {
    let ports = ports();
    let reuse = Claim { reuse_address: true, ..claim("10.0.0.1") };
    let mut first = ports.bind(80, reuse).unwrap();
    assert!(ports.bind(80, claim("10.0.0.1")).is_err(), "only one of them allows it");
    let mut second = ports.bind(80, reuse).unwrap();
    first.listen().unwrap();
    assert_eq!(second.listen(), Err(PortError::InUse));
    assert!(ports.bind(80, reuse).is_err(), "nobody binds where one listens");
    drop((first, second));
    assert_eq!(ports.len(), 0);
    let share = Claim { reuse_port: true, ..claim("0.0.0.0") };
    let mut group = [ports.bind(80, share).unwrap(), ports.bind(80, share).unwrap()];
    assert!(group.iter_mut().all(|one| one.listen().is_ok()));
    assert!(ports.bind(80, claim("10.0.0.1")).is_err());
}

#[test]
fn a_successor_listens_beside_the_connections_of_its_predecessor() {
    let ports = ports();
    let reuse = Claim { reuse_address: true, ..claim("0.0.0.0") };
    let mut listener = ports.bind(80, reuse).unwrap();
    listener.listen().unwrap();
    let child = listener.child("10.0.0.1".parse().unwrap());
    drop(listener);
    assert!(ports.bind(80, claim("0.0.0.0")).is_err(), "without SO_REUSEADDR the connection counts");
    let mut successor = ports.bind(80, reuse).unwrap();
    successor.listen().unwrap();
    drop((successor, child));
    assert_eq!(ports.len(), 0);
}

#[test]
fn automatic_ports_run_out_and_come_back() {
    let ports = ports();
    let mut held: Vec<_> = (0..10).map(|n| ports.bind_any(n * 77, claim("0.0.0.0")).unwrap()).collect();
    assert!(held[..5].iter().all(|binding| binding.port() % 2 == 1), "odd ports first");
    assert_eq!(held.iter().map(Binding::port).collect::<HashSet<_>>().len(), 10);
    assert_eq!(ports.bind_any(3, claim("0.0.0.0")).unwrap_err(), PortError::Exhausted);
    assert_eq!(ports.connect(chance(3), claim("10.0.0.1"), |_| true).unwrap_err(), PortError::Exhausted);
    let port = held.pop().unwrap().port();
    assert_eq!(ports.bind_any(3, claim("0.0.0.0")).unwrap().port(), port);
}

#[test]
fn connect_shares_ports_that_connect_chose() {
    let ports = ports();
    let outgoing = Claim { by_connect: true, ..claim("10.0.0.1") };
    let mut held = Vec::new();
    for destination in 0..3 {
        let mut taken = HashSet::new();
        for _ in 0..10 {
            let binding =
                ports.connect(chance(destination), outgoing, |port| !taken.contains(&port)).unwrap();
            taken.insert(binding.port());
            held.push(binding);
        }
        assert!(ports.connect(chance(destination), outgoing, |port| !taken.contains(&port)).is_err());
    }
    assert_eq!(ports.len(), 10);
    drop(held);
    assert_eq!(ports.len(), 0);
}

#[test]
fn a_half_of_the_ports_that_is_taken_is_not_searched_each_time() {
    let ports = Ports::new(32_768..=60_999);
    let outgoing = Claim { by_connect: true, ..claim("10.0.0.1") };
    let mut chances = Chances { keyed: Keyed::new([11; 16]), count: 0 };
    let (mut taken, mut held, mut looked) = (HashSet::new(), Vec::new(), 0u64);
    for _ in 0..28_232 {
        let is_free = |port: u16| {
            looked += 1;
            !taken.contains(&port)
        };
        let binding = ports.connect(chances.next(1), outgoing, is_free).unwrap();
        assert!(taken.insert(binding.port()));
        held.push(binding);
    }
    // The even ones are searched through for one connection in 64 to an odd one: 3 million looks. With
    // each of them it would be 200 million.
    assert!(looked < 5_000_000, "{looked} looks");
    // Once there are even ones again, they are preferred again.
    held.retain(|binding| binding.port() % 2 == 1);
    taken.retain(|port| port % 2 == 1);
    let found = (0..1_000).find(|_| {
        let binding = ports.connect(chances.next(1), outgoing, |port| !taken.contains(&port)).unwrap();
        binding.port() % 2 == 0
    });
    assert!(found.is_some());
}

#[test]
fn a_half_of_the_ports_that_is_bound_is_not_searched_each_time() {
    let ports = Ports::new(1000..=1009);
    let held: Vec<_> = (0..6).map(|n| ports.bind_any(n, claim("0.0.0.0")).unwrap()).collect();
    assert_eq!(held.iter().filter(|binding| binding.port() % 2 == 1).count(), 5);
    assert!(ports.table.lock().taken_for.is_some(), "the odd ones are taken");
    let elsewhere = ports.bind_any(0, claim("fd00::1")).unwrap();
    assert_eq!(elsewhere.port() % 2, 1, "for others they are not");
    drop(held.into_iter().find(|binding| binding.port() == 1003));
    assert_eq!(ports.bind_any(0, claim("0.0.0.0")).unwrap().port() % 2, 1, "one was given up");
}

#[test]
fn every_port_is_a_candidate_once() {
    for range in [1000..=1009, 1000..=1010, 7..=7, 1..=65_535u16] {
        for skip in [0, 1] {
            let all: Vec<_> = candidates(&range, u64::MAX / 3, skip).map(|one| one.port).collect();
            let distinct: HashSet<_> = all.iter().copied().collect();
            assert_eq!((all.len(), distinct.len()), (range.len(), range.len()), "{range:?}");
            assert!(all.iter().all(|port| range.contains(port)));
        }
    }
}

/// Keyed hashes and noise, as a stack makes them.
struct Chances {
    keyed: Keyed,
    count: u64,
}

impl Chances {
    fn next(&mut self, destination: u64) -> Chance {
        self.count += 1;
        Chance { hash: self.keyed.of(&(0u8, destination)), noise: self.keyed.of(&(1u8, self.count)) }
    }
}

/// The sum of the squares of the differences to `expected`, by `expected`: of k counts it has a mean of k - 1 and a
/// variance of 2 (k - 1), if they are those of a uniform distribution.
fn chi_square(counts: &[u32], expected: f64) -> f64 {
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

#[test]
fn ports_are_uniform_over_destinations_and_their_steps_are_random() {
    // CVE-2022-32296 and ROBUSTNESS R12. Deviations of five standard deviations are found, and the key is fixed.
    let ports = Ports::new(32_768..=60_999);
    let outgoing = Claim { by_connect: true, ..claim("10.0.0.1") };
    let mut chances = Chances { keyed: Keyed::new([9; 16]), count: 0 };
    let mut connect = |destination| {
        let port = ports.connect(chances.next(destination), outgoing, |_| true).unwrap().port();
        assert_eq!(port % 2, 0, "the odd ones are for bind");
        u32::from(port - 32_768) / 2
    };
    // The first port to each of many destinations.
    let mut counts = [0; 56];
    (0..56_000).for_each(|destination| counts[connect(destination) as usize * 56 / 14_116] += 1);
    let deviation = (chi_square(&counts, 1000.0) - 55.0) / (2.0f64 * 55.0).sqrt();
    assert!(deviation.abs() < 5.0, "{deviation}: {counts:?}");
    // From one connection to the next one to the same destination.
    let mut steps = [0; LONGEST_STEP as usize];
    let mut last = connect(7);
    for _ in 0..8_000 {
        let port = connect(7);
        steps[((port + 14_116 - last) % 14_116) as usize - 1] += 1;
        last = port;
    }
    let deviation = (chi_square(&steps, 1000.0) - 7.0) / (2.0f64 * 7.0).sqrt();
    assert!(deviation.abs() < 5.0, "{deviation}: {steps:?}");
}

#[test]
fn connections_to_others_do_not_show_in_the_ports_of_an_observer() {
    // The attack of Kol, Klein and Gilad on CVE-2022-32296: an observer makes a connection to a host of his own, has
    // the victim connect to another, and makes one more. If the ports of his own are further apart than one step,
    // both share a place.
    let ports = Ports::new(32_768..=60_999);
    let outgoing = Claim { by_connect: true, ..claim("10.0.0.1") };
    let mut chances = Chances { keyed: Keyed::new([10; 16]), count: 0 };
    let mut connect =
        |destination| i64::from(ports.connect(chances.next(destination), outgoing, |_| true).unwrap().port());
    let mut shared = 0;
    for pair in 0..4_000 {
        let before = connect(2 * pair);
        // More often than any step of the observer's own hides.
        for _ in 0..=LONGEST_STEP {
            connect(2 * pair + 1);
        }
        let after = connect(2 * pair);
        shared += u32::from((after - before).rem_euclid(28_232) > 2 * LONGEST_STEP as i64);
    }
    // With 256 places there would be 15.
    assert!(shared <= 2, "{shared} of 4000 pairs of hosts share a place");
}

/// What a model holds: each binding with what it was given for.
struct Held {
    binding: Binding,
    claim: Claim,
    /// Where a connection goes that was given its port by `connect`.
    destination: Option<u64>,
}

/// The addresses that packets of a test may have, each of which a claim covers or not.
const ADDRESSES: [&str; 3] = ["10.0.0.1", "10.0.0.2", "fd00::1"];

fn covers(claim: &Claim, address: IpAddr, interface: u16) -> bool {
    let same_family = claim.address.is_ipv4() == address.is_ipv4();
    let any = claim.address.is_unspecified() && (same_family || claim.dual_stack);
    (claim.address == address || any) && claim.interface.is_none_or(|bound| bound == interface)
}

/// Whether a packet could be for both.
fn meet(a: &Claim, b: &Claim) -> bool {
    ADDRESSES.iter().any(|text| {
        let address = text.parse().unwrap();
        (0..2).any(|interface| covers(a, address, interface) && covers(b, address, interface))
    })
}

/// What socket(7) says of `SO_REUSEADDR` and `SO_REUSEPORT`.
fn may_share(a: &Claim, b: &Claim) -> bool {
    let none_listens = !a.listening && !b.listening;
    (a.reuse_address && b.reuse_address && none_listens) || (a.reuse_port && b.reuse_port)
}

fn any_claim() -> impl Strategy<Value = Claim> {
    let address = prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "0.0.0.0", "fd00::1", "::"]);
    let interface = prop::option::weighted(0.3, 0u16..2);
    (address, interface, any::<[bool; 3]>()).prop_map(
        |(address, interface, [dual_stack, reuse_address, reuse_port])| Claim {
            dual_stack: dual_stack && address == "::",
            interface,
            reuse_address,
            reuse_port,
            ..claim(address)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200.min(ProptestConfig::default().cases), ..ProptestConfig::default() })]

    #[test]
    fn ports_are_given_as_a_list_of_sockets_would_have_it(
        steps in prop::collection::vec((0u8..12, any_claim(), any::<prop::sample::Index>(), any::<u64>()), 1..80)
    ) {
        const RANGE: RangeInclusive<u16> = 1000..=1004;
        let ports = Ports::new(RANGE);
        let mut held: Vec<Held> = Vec::new();
        for (what, claim, index, random) in steps {
            let at = index.index(held.len().max(1));
            let on = |held: &[Held], port: u16| -> Vec<Claim> {
                held.iter().filter(|one| one.binding.port() == port).map(|one| one.claim).collect()
            };
            match what {
                0..=2 => {
                    let port = 1000 + (random % 5) as u16;
                    let fits = on(&held, port).iter().all(|other| !meet(other, &claim) || may_share(other, &claim));
                    let bound = ports.bind(port, claim);
                    prop_assert_eq!(bound.as_ref().err().copied(), (!fits).then_some(PortError::InUse));
                    held.extend(bound.ok().map(|binding| Held { binding, claim, destination: None }));
                }
                3 | 4 => {
                    let free = |port: u16| on(&held, port).iter().all(|other| !meet(other, &claim));
                    let any_free = RANGE.into_iter().any(free);
                    let bound = ports.bind_any(random, claim);
                    prop_assert_eq!(bound.is_ok(), any_free);
                    if let Ok(binding) = &bound {
                        prop_assert!(free(binding.port()), "port {}", binding.port());
                        let odd_free = RANGE.into_iter().any(|port| port % 2 == 1 && free(port));
                        prop_assert!(binding.port() % 2 == 1 || !odd_free, "odd ports first");
                    }
                    held.extend(bound.ok().map(|binding| Held { binding, claim, destination: None }));
                }
                5..=7 => {
                    let (claim, destination) = (Claim { by_connect: true, ..claim }, random % 3);
                    let usable = |port: u16| {
                        on(&held, port).iter().all(|other| other.by_connect)
                            && !held.iter().any(|one| one.binding.port() == port && one.destination == Some(destination))
                    };
                    let any_usable = RANGE.into_iter().any(usable);
                    let bound = ports.connect(chance(random), claim, |port| {
                        !held.iter().any(|one| one.binding.port() == port && one.destination == Some(destination))
                    });
                    prop_assert_eq!(bound.is_ok(), any_usable);
                    if let Ok(binding) = bound {
                        prop_assert!(usable(binding.port()));
                        held.push(Held { binding, claim, destination: Some(destination) });
                    }
                }
                8 if !held.is_empty() => {
                    let listening = Claim { listening: true, ..held[at].claim };
                    let port = held[at].binding.port();
                    let conflict = held.iter().enumerate().any(|(n, other)| {
                        n != at
                            && other.binding.port() == port
                            && other.claim.listening
                            && meet(&other.claim, &listening)
                            && !may_share(&other.claim, &listening)
                    });
                    prop_assert_eq!(held[at].binding.listen().is_err(), conflict);
                    if !conflict {
                        held[at].claim = listening;
                    }
                }
                9 if !held.is_empty() => {
                    let address = ADDRESSES[random as usize % 3].parse().unwrap();
                    let binding = held[at].binding.child(address);
                    let claim = Claim { address, dual_stack: false, listening: false, ..held[at].claim };
                    prop_assert_eq!(binding.port(), held[at].binding.port());
                    held.push(Held { binding, claim, destination: None });
                }
                _ if !held.is_empty() => drop(held.swap_remove(at)),
                _ => {}
            }
            prop_assert!(held.iter().all(|one| *one.binding.claim() == one.claim));
            let in_use: HashSet<u16> = held.iter().map(|one| one.binding.port()).collect();
            prop_assert_eq!(ports.len(), in_use.len());
        }
        drop(held);
        prop_assert_eq!((ports.len(), ports.table.lock().used.len()), (0, 0));
    }
}
