//! The table of ports in use.
//!
//! A port holds groups of sockets with the same properties that matter for sharing, so that a
//! listener with 10,000 connections costs two entries and not 10,001.

use super::flow::{give_back, push_exact, retain_exact};
use crate::sync::{Mutex, Rank};
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Places that the choice of a port goes on from, one for each hash of a destination (RFC 6056 §3.3.4, algorithm 4).
/// With few of them, who connects to hosts of his own would find those that share a place with other hosts, and watch
/// it move (CVE-2022-32296: Linux had 256 then, and has as many as this since).
const PLACES: usize = 1 << 16;
/// A place moves on by so many ports of one parity at most, at random (RFC 6056 §3.3.5).
const LONGEST_STEP: u64 = 8;

/// What decides whether sockets may share a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The local address, or the unspecified one of the family.
    pub(crate) address: IpAddr,
    /// For `::`: IPv4 as well.
    pub(crate) dual_stack: bool,
    /// `SO_BINDTODEVICE`.
    pub(crate) interface: Option<u16>,
    /// `SO_REUSEADDR`.
    pub(crate) reuse_address: bool,
    /// `SO_REUSEPORT`.
    pub(crate) reuse_port: bool,
    /// The socket listens.
    pub(crate) listening: bool,
    /// The port was chosen by connect, for this connection: others may choose it for other
    /// destinations.
    pub(crate) by_connect: bool,
}

impl Claim {
    /// Whether both claim one address.
    fn overlaps(&self, other: &Self) -> bool {
        if let (Some(a), Some(b)) = (self.interface, other.interface)
            && a != b
        {
            return false;
        }
        if self.address == other.address {
            return true;
        }
        let covers = |one: &Self, address: IpAddr| {
            one.address.is_unspecified() && (one.address.is_ipv4() == address.is_ipv4() || one.dual_stack)
        };
        covers(self, other.address) || covers(other, self.address)
    }

    /// Whether the two cannot have one port at once (inet_bind_conflict in Linux).
    fn conflicts(&self, other: &Self) -> bool {
        let by_address = self.reuse_address && other.reuse_address && !self.listening && !other.listening;
        let by_port = self.reuse_port && other.reuse_port;
        self.overlaps(other) && !by_address && !by_port
    }
}

#[derive(Debug)]
struct Group {
    claim: Claim,
    sockets: u32,
}

/// The ports of one stack.
#[derive(Debug)]
pub(crate) struct Ports {
    used: Mutex<HashMap<u16, Box<[Group]>>>,
    range: RangeInclusive<u16>,
    /// Where the search begins, by the hash of the destination. Made for the first connection.
    places: Mutex<Vec<u16>>,
}

/// What the choice of a port for a connection starts from: secrets, both of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chance {
    /// A keyed hash of the ends without the local port.
    pub(crate) hash: u64,
    /// Another number each time.
    pub(crate) noise: u64,
}

/// A socket's claim to a port; given up when dropped.
#[derive(Debug)]
pub(crate) struct Binding {
    ports: Arc<Ports>,
    port: u16,
    claim: Claim,
}

/// Why no port could be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PortError {
    /// The port is taken (`EADDRINUSE`).
    InUse,
    /// All of the automatic ones are taken.
    Exhausted,
}

impl Ports {
    pub(crate) fn new(range: RangeInclusive<u16>) -> Arc<Self> {
        let places = Mutex::new(Rank::Leaf, Vec::new());
        Arc::new(Self { used: Mutex::new(Rank::Ports, HashMap::new()), range, places })
    }

    /// Claims `port`.
    pub(crate) fn bind(self: &Arc<Self>, port: u16, claim: Claim) -> Result<Binding, PortError> {
        let mut used = self.used.lock();
        let groups = used.entry(port).or_default();
        if groups.iter().any(|group| group.claim.conflicts(&claim)) {
            return Err(PortError::InUse);
        }
        Ok(self.join(groups, port, claim))
    }

    /// Claims a port that nobody has, starting the search at `random`; odd ones first, which leaves
    /// the even ones to connect.
    pub(crate) fn bind_any(self: &Arc<Self>, random: u64, claim: Claim) -> Result<Binding, PortError> {
        let mut used = self.used.lock();
        for port in candidates(&self.range, random, 1) {
            let groups = used.entry(port).or_default();
            if !groups.iter().any(|group| group.claim.overlaps(&claim)) {
                return Ok(self.join(groups, port, claim));
            }
        }
        Err(PortError::Exhausted)
    }

    /// Claims a port for a connection: one that is free, or in use for other destinations only, which
    /// `is_free` knows. The search starts where the secret hash of the destination says, and the start moves on
    /// with each connection (RFC 6056 §3.3.4) by a random step (§3.3.5): neither who sees a port can tell the
    /// next one, nor who sees two of them how many there were in between.
    pub(crate) fn connect(
        self: &Arc<Self>,
        chance: Chance,
        claim: Claim,
        mut is_free: impl FnMut(u16) -> bool,
    ) -> Result<Binding, PortError> {
        // The two hashes of the RFC are halves of one.
        let (offset, place) = (chance.hash as u32, (chance.hash >> 32) as usize % PLACES);
        let mut used = self.used.lock();
        let start = u64::from(offset) + self.place(place);
        for (tried, port) in candidates(&self.range, start, 0).enumerate() {
            let shareable = |groups: &[Group]| groups.iter().all(|group| group.claim.by_connect);
            if used.get(&port).is_none_or(|groups| shareable(groups)) && is_free(port) {
                self.move_on(place, tried as u64 + 1 + chance.noise % LONGEST_STEP);
                return Ok(self.join(used.entry(port).or_default(), port, claim));
            }
        }
        Err(PortError::Exhausted)
    }

    fn place(&self, at: usize) -> u64 {
        self.places.lock().get(at).copied().unwrap_or(0).into()
    }

    fn move_on(&self, at: usize, step: u64) {
        let mut places = self.places.lock();
        if places.is_empty() {
            *places = vec![0; PLACES];
        }
        places[at] = places[at].wrapping_add(step as u16);
    }

    fn join(self: &Arc<Self>, groups: &mut Box<[Group]>, port: u16, claim: Claim) -> Binding {
        enter(groups, claim);
        Binding { ports: Arc::clone(self), port, claim }
    }

    /// Ports in use.
    pub(crate) fn len(&self) -> usize {
        self.used.lock().values().filter(|groups| !groups.is_empty()).count()
    }
}

/// All ports of `range` from `start` on, those of one parity first: of the first port of the range,
/// or with `skip` of the second.
fn candidates(range: &RangeInclusive<u16>, start: u64, skip: u32) -> impl Iterator<Item = u16> {
    let (first, last) = (u32::from(*range.start()), u32::from(*range.end()));
    let count = last - first + 1;
    [skip, 1 - skip].into_iter().flat_map(move |parity| {
        let of_parity = (count + 1 - parity) / 2;
        (0..of_parity).map(move |n| {
            let index = ((start + u64::from(n)) % u64::from(of_parity)) as u32;
            (first + 2 * index + parity) as u16
        })
    })
}

impl Binding {
    /// The port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The claim.
    pub(crate) fn claim(&self) -> &Claim {
        &self.claim
    }

    /// Turns the claim into that of a listener. Bound sockets that share a port by `SO_REUSEADDR`
    /// cannot do so once one of them listens (inet_csk_listen_start in Linux).
    pub(crate) fn listen(&mut self) -> Result<(), PortError> {
        let claim = Claim { listening: true, ..self.claim };
        let ports = Arc::clone(&self.ports);
        let mut used = ports.used.lock();
        let groups = used.get_mut(&self.port).ok_or(PortError::InUse)?;
        let own = |group: &Group| group.claim == self.claim;
        let conflict = groups.iter().any(|group| {
            let others = if own(group) { group.sockets - 1 } else { group.sockets };
            // A connection that an earlier listener left behind does not stop its successor.
            others > 0 && group.claim.listening && group.claim.conflicts(&claim)
        });
        if conflict {
            return Err(PortError::InUse);
        }
        leave(groups, &self.claim);
        enter(groups, claim);
        self.claim = claim;
        Ok(())
    }

    /// The claim of a connection that a listener with this claim accepted at `address`. It never
    /// conflicts: the port is the listener's.
    pub(crate) fn child(&self, address: IpAddr) -> Self {
        let claim = Claim { address, dual_stack: false, listening: false, ..self.claim };
        let mut used = self.ports.used.lock();
        self.ports.join(used.entry(self.port).or_default(), self.port, claim)
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        let mut used = self.ports.used.lock();
        if let Some(groups) = used.get_mut(&self.port) {
            leave(groups, &self.claim);
            if groups.is_empty() {
                used.remove(&self.port);
                give_back(&mut used);
            }
        }
    }
}

/// Puts one socket into the group of `claim`.
fn enter(groups: &mut Box<[Group]>, claim: Claim) {
    match groups.iter_mut().find(|group| group.claim == claim) {
        Some(group) => group.sockets += 1,
        None => push_exact(groups, Group { claim, sockets: 1 }),
    }
}

/// Takes one socket out of the group of `claim`.
fn leave(groups: &mut Box<[Group]>, claim: &Claim) {
    if let Some(at) = groups.iter().position(|group| group.claim == *claim) {
        groups[at].sockets -= 1;
        if groups[at].sockets == 0 {
            retain_exact(groups, |group| group.sockets > 0);
        }
    }
}

#[cfg(test)]
mod tests;
