//! The memory of connections that were put to rest, kept for those that are woken, and the other way round.
//!
//! One thread puts connections to rest, that which keeps the deadlines, and another wakes them. What one of them
//! allocates the other one frees, and each time both go through the locks of the allocator. With very many connections
//! of which each says something now and then, that took a tenth of the time of a message.

use crate::memory::{Charge, Memory};
use crate::sync::{Mutex, Rank};
use crate::tcp::{Connection, Resting, SpareConnection, SpareResting};
use std::sync::Arc;

/// How many are kept of each kind.
const KEPT: usize = 128;

/// One is kept for as many connections at rest: their memory is to be small, and this counts as theirs. Tests do with
/// fewer.
const AT_REST_EACH: usize = if cfg!(test) { 64 } else { 4096 };

/// Memory of connections, awake and at rest, in which there is none.
#[derive(Debug)]
pub(crate) struct Spares(Mutex<Stock>);

#[derive(Debug)]
struct Stock {
    awake: Vec<SpareConnection>,
    at_rest: Vec<SpareResting>,
    /// Connections that are at rest.
    resting: usize,
    /// The most that they took at once: so that it does not change each time.
    charge: Charge,
}

impl Stock {
    fn weigh(&mut self) {
        let bytes = self.awake.len() * SpareConnection::MEMORY + self.at_rest.len() * SpareResting::MEMORY;
        if bytes > self.charge.bytes() {
            self.charge.set(bytes);
        }
    }
}

impl Spares {
    /// None yet. What there will be counts in `memory`.
    pub(super) fn new(memory: &Arc<Memory>) -> Arc<Self> {
        let stock =
            Stock { awake: Vec::new(), at_rest: Vec::new(), resting: 0, charge: Charge::new(memory, 0) };
        Arc::new(Self(Mutex::new(Rank::Leaf, stock)))
    }

    /// Puts a connection to rest.
    pub(super) fn rest(&self, connection: Box<Connection>) -> Box<Resting> {
        let spare = {
            let mut stock = self.0.lock();
            stock.resting += 1;
            stock.at_rest.pop()
        };
        let (resting, left) = connection.rest(spare);
        self.keep(left, |stock| &mut stock.awake);
        resting
    }

    /// Wakes a connection.
    #[cold]
    #[inline(never)]
    pub(super) fn wake(&self, resting: Box<Resting>) -> Box<Connection> {
        let spare = {
            let mut stock = self.0.lock();
            stock.resting = stock.resting.saturating_sub(1);
            stock.awake.pop()
        };
        let (connection, left) = resting.wake(spare);
        self.keep(Some(left), |stock| &mut stock.at_rest);
        connection
    }

    /// Keeps one of a kind, unless there are enough.
    fn keep<T>(&self, spare: Option<T>, kind: fn(&mut Stock) -> &mut Vec<T>) {
        let Some(spare) = spare else { return };
        let mut stock = self.0.lock();
        let limit = KEPT.min(stock.resting / AT_REST_EACH);
        if kind(&mut stock).len() < limit {
            kind(&mut stock).push(spare);
            stock.weigh();
        } else {
            // It is freed when nothing is locked any more.
            drop(stock);
            drop(spare);
        }
    }

    /// How many there are: of connections that were awake, and of those that were at rest.
    #[cfg(test)]
    pub(super) fn kept(&self) -> (usize, usize) {
        let stock = self.0.lock();
        (stock.awake.len(), stock.at_rest.len())
    }

    /// Gives all of it back.
    pub(super) fn trim(&self) {
        let mut stock = self.0.lock();
        let all = (std::mem::take(&mut stock.awake), std::mem::take(&mut stock.at_rest));
        stock.charge.set(0);
        drop(stock);
        drop(all);
    }
}
