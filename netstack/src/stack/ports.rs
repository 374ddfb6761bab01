//! The table of ports in use.
//!
//! A port holds groups of sockets with the same properties that matter for sharing, so that a
//! listener with 10,000 connections costs two entries and not 10,001.

use super::flow::{give_back, push_exact, retain_exact};
use super::keyed::ByPort;
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
/// Once the even ports are taken for a destination, a connection in so many looks at them again. So the cost of
/// finding them taken, which Linux has with each connection, is shared by so many.
const LOOK_AGAIN: u64 = 64;

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

    /// Whether both overlap with the same claims.
    fn covers_the_same(&self, other: &Self) -> bool {
        (self.address, self.dual_stack, self.interface) == (other.address, other.dual_stack, other.interface)
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
    table: Mutex<Table>,
    range: RangeInclusive<u16>,
    places: Mutex<Places>,
}

/// The ports in use.
#[derive(Debug, Default)]
struct Table {
    used: HashMap<u16, Box<[Group]>, ByPort>,
    /// A claim for which none of the second half of the ports was free when one was looked for; none of them was
    /// given up since.
    taken_for: Option<Claim>,
}

/// Where the search for a connection's port begins, by the hash of the destination. Made for the first connection.
#[derive(Debug, Default)]
struct Places {
    starts: Vec<u16>,
    /// A bit each: the first half of the ports was taken, as far as is known.
    full: Vec<u64>,
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
        let places = Mutex::new(Rank::Leaf, Places::default());
        Arc::new(Self { table: Mutex::new(Rank::Ports, Table::default()), range, places })
    }

    /// Claims `port`.
    pub(crate) fn bind(self: &Arc<Self>, port: u16, claim: Claim) -> Result<Binding, PortError> {
        let mut table = self.table.lock();
        let groups = table.used.entry(port).or_default();
        if groups.iter().any(|group| group.claim.conflicts(&claim)) {
            return Err(PortError::InUse);
        }
        Ok(self.join(groups, port, claim))
    }

    /// Claims a port that nobody has, starting the search at `random`; odd ones first, which leaves
    /// the even ones to connect.
    pub(crate) fn bind_any(self: &Arc<Self>, random: u64, claim: Claim) -> Result<Binding, PortError> {
        let mut table = self.table.lock();
        let taken = table.taken_for.is_some_and(|other| other.covers_the_same(&claim));
        for candidate in candidates(&self.range, random, 1).filter(|one| !taken || one.half == 0) {
            let groups = table.used.entry(candidate.port).or_default();
            if !groups.iter().any(|group| group.claim.overlaps(&claim)) {
                let binding = self.join(groups, candidate.port, claim);
                if candidate.half == 0 {
                    table.taken_for = Some(claim);
                }
                return Ok(binding);
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
        let mut table = self.table.lock();
        let (at, full) = self.place(place);
        let look_again = (chance.noise >> 32).is_multiple_of(LOOK_AGAIN);
        let first = u32::from(full && !look_again);
        for candidate in candidates(&self.range, u64::from(offset) + at, first) {
            let Candidate { half, tried, port } = candidate;
            let shareable = |groups: &[Group]| groups.iter().all(|group| group.claim.by_connect);
            if table.used.get(&port).is_none_or(|groups| shareable(groups)) && is_free(port) {
                self.move_on(place, tried + 1 + chance.noise % LONGEST_STEP, half == 1);
                return Ok(self.join(table.used.entry(port).or_default(), port, claim));
            }
        }
        Err(PortError::Exhausted)
    }

    /// Where the search begins, and whether the first half of the ports seems to be taken.
    fn place(&self, at: usize) -> (u64, bool) {
        let places = self.places.lock();
        let start = places.starts.get(at).copied().unwrap_or(0).into();
        (start, places.full.get(at / 64).is_some_and(|bits| bits >> (at % 64) & 1 == 1))
    }

    fn move_on(&self, at: usize, step: u64, full: bool) {
        let mut places = self.places.lock();
        if places.starts.is_empty() {
            *places = Places { starts: vec![0; PLACES], full: vec![0; PLACES / 64] };
        }
        places.starts[at] = places.starts[at].wrapping_add(step as u16);
        let bit = 1 << (at % 64);
        let bits = &mut places.full[at / 64];
        *bits = if full { *bits | bit } else { *bits & !bit };
    }

    fn join(self: &Arc<Self>, groups: &mut Box<[Group]>, port: u16, claim: Claim) -> Binding {
        enter(groups, claim);
        Binding { ports: Arc::clone(self), port, claim }
    }

    /// Ports in use.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().used.values().filter(|groups| !groups.is_empty()).count()
    }
}

/// A port that may be looked at.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    port: u16,
    /// 0: of the parity of the range's first port.
    half: u32,
    /// Ports of its half that come before it.
    tried: u64,
}

/// All ports of `range` from `start` on, those of one parity first: of the first port of the range,
/// or with `first` of the second.
fn candidates(range: &RangeInclusive<u16>, start: u64, first: u32) -> impl Iterator<Item = Candidate> {
    let (lowest, highest) = (u32::from(*range.start()), u32::from(*range.end()));
    let count = highest - lowest + 1;
    [first, 1 - first].into_iter().flat_map(move |half| {
        let of_half = u64::from((count + 1 - half) / 2);
        (0..of_half).map(move |tried| {
            let index = ((start + tried) % of_half) as u32;
            Candidate { port: (lowest + 2 * index + half) as u16, half, tried }
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
        let mut table = ports.table.lock();
        let groups = table.used.get_mut(&self.port).ok_or(PortError::InUse)?;
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

    /// `SO_REUSEADDR`, for those that come later.
    pub(crate) fn set_reuse_address(&mut self, reuse: bool) {
        self.change(Claim { reuse_address: reuse, ..self.claim });
    }

    /// `SO_REUSEPORT`, for those that come later.
    pub(crate) fn set_reuse_port(&mut self, reuse: bool) {
        self.change(Claim { reuse_port: reuse, ..self.claim });
    }

    /// Limits the claim to an interface, or to none.
    pub(crate) fn limit_to(&mut self, interface: Option<u16>) {
        self.change(Claim { interface, ..self.claim });
    }

    fn change(&mut self, claim: Claim) {
        let mut table = self.ports.table.lock();
        if let Some(groups) = table.used.get_mut(&self.port) {
            leave(groups, &self.claim);
            enter(groups, claim);
        }
        table.taken_for = None;
        drop(table);
        self.claim = claim;
    }

    /// The claim of a connection that a listener with this claim accepted at `address`. It never
    /// conflicts: the port is the listener's.
    pub(crate) fn child(&self, address: IpAddr) -> Self {
        let claim = Claim { address, dual_stack: false, listening: false, ..self.claim };
        let mut table = self.ports.table.lock();
        self.ports.join(table.used.entry(self.port).or_default(), self.port, claim)
    }
}

impl Drop for Binding {
    fn drop(&mut self) {
        let mut table = self.ports.table.lock();
        if let Some(groups) = table.used.get_mut(&self.port) {
            leave(groups, &self.claim);
            if groups.is_empty() {
                table.used.remove(&self.port);
                give_back(&mut table.used);
            }
        }
        table.taken_for = None;
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
