use super::*;
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
    assert_eq!(ports.connect(3, claim("10.0.0.1"), |_| true).unwrap_err(), PortError::Exhausted);
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
            let binding = ports.connect(destination, outgoing, |port| !taken.contains(&port)).unwrap();
            taken.insert(binding.port());
            held.push(binding);
        }
        assert!(ports.connect(destination, outgoing, |port| !taken.contains(&port)).is_err());
    }
    assert_eq!(ports.len(), 10);
    drop(held);
    assert_eq!(ports.len(), 0);
}

#[test]
fn every_port_is_a_candidate_once() {
    for range in [1000..=1009, 1000..=1010, 7..=7, 1..=65_535u16] {
        for skip in [0, 1] {
            let all: Vec<_> = candidates(&range, u64::MAX / 3, skip).collect();
            let distinct: HashSet<_> = all.iter().copied().collect();
            assert_eq!((all.len(), distinct.len()), (range.len(), range.len()), "{range:?}");
            assert!(all.iter().all(|port| range.contains(port)));
        }
    }
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
                    let bound = ports.connect(random, claim, |port| {
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
        prop_assert_eq!((ports.len(), ports.used.lock().len()), (0, 0));
    }
}
