//! A connection at rest: nothing is queued, in flight or waited for, as on most of the connections of a server most of
//! the time. It is kept as the few hundred bytes that say where it stands.
//!
//! A connection that was put to rest and woken is the same in every field. [`Compact`] asks for all fields of a
//! struct, so that none is forgotten; the simulation compares the two each time.

use super::counters::Counters;
use super::liveness::Liveness;
use super::outcome::Outcome;
use super::{Connection, User};
use crate::buffer::Pool;
use crate::config::{Config, FastOpenKeys};
use crate::memory::block;
use crate::tcp::compact::{Compact, Reader, Writer};
use crate::tcp::congestion::{CongestionChoice, CongestionControl};
use crate::tcp::ecn::EcnState;
use crate::tcp::options::SocketOptions;
use crate::tcp::path::PathState;
use crate::tcp::receive::Receiver;
use crate::tcp::recovery::Recovery;
use crate::tcp::send::Sender;
use crate::tcp::state::State;
use crate::time::Instant;
use std::sync::Arc;

/// A connection at rest.
#[derive(Debug)]
pub struct Resting {
    /// What differs from one connection to the next.
    state: Box<[u8]>,
    config: Arc<Config>,
    pool: Arc<Pool>,
    congestion: CongestionChoice,
    /// What few connections have.
    rare: Option<Box<Rare>>,
}

/// What cannot be written as bytes.
#[derive(Debug, Default)]
struct Rare {
    controller: Option<Box<dyn CongestionControl>>,
    ecn: Option<Box<EcnState>>,
    fastopen_key: Option<Arc<FastOpenKeys>>,
}

impl Connection {
    /// Since when nothing has happened, if nothing is going on: whether it can be [put to rest](Self::rest).
    pub fn at_rest_since(&self) -> Option<Instant> {
        let is_at_rest = self.state == State::Established
            && self.passive.is_none()
            && !self.user.orphan
            && !self.user.read_shut
            && self.outcome.is_untouched()
            && self.liveness.probe().is_none()
            && self.recovery.is_at_rest()
            && self.path.deadline().is_none()
            && self.timers.waits_for_keepalive_only()
            && self.snd.is_at_rest()
            && self.rcv.is_at_rest();
        is_at_rest.then(|| self.liveness.last_received().max(self.snd.last_sent()))
    }

    /// Keeps what there is to know of a connection [at rest](Self::at_rest_since), in the box of one that was woken if
    /// there is one. The box of the connection is left over, as a rule.
    pub fn rest(mut self: Box<Self>, spare: Option<SpareResting>) -> (Box<Resting>, Option<SpareConnection>) {
        let Self {
            state: _,
            config,
            options,
            snd,
            rcv,
            recovery,
            path,
            timers,
            ts,
            ecn,
            liveness,
            outcome: _,
            user: _,
            counters,
            passive: _,
            fast_open,
        } = &mut *self;
        let mut to = Writer::new();
        options.write(&mut to, config);
        counters.write(&mut to);
        liveness.write(&mut to);
        timers.write(&mut to);
        ts.write(&mut to);
        fast_open.write(&mut to);
        rcv.write(&mut to);
        snd.rest(&mut to);
        recovery.write(&mut to);
        let is_all_of_path = path.rest(&mut to);
        let (ecn, fastopen_key) = (ecn.take(), options.fastopen_key.take());
        let is_plain = is_all_of_path && ecn.is_none() && fastopen_key.is_none();
        let mut resting = Resting {
            state: to.finish(),
            config: Arc::clone(config),
            pool: Arc::clone(snd.pool()),
            congestion: options.congestion.clone(),
            rare: None,
        };
        let left = if is_plain {
            Some(SpareConnection(self))
        } else {
            let controller = (!is_all_of_path).then(|| self.path.into_controller());
            resting.rare = Some(Box::new(Rare { controller, ecn, fastopen_key }));
            None
        };
        (put(resting, spare.map(|spare| spare.0)), left)
    }
}

/// Puts a value into a box, a new one if there is no other.
fn put<T>(value: T, spare: Option<Box<T>>) -> Box<T> {
    match spare {
        Some(mut spare) => {
            *spare = value;
            spare
        }
        None => Box::new(value),
    }
}

/// The memory of a connection that was put to rest, that of its queues included, for one that is woken.
#[derive(Debug)]
pub struct SpareConnection(Box<Connection>);

impl SpareConnection {
    /// What one takes, in bytes, as a rule.
    pub const MEMORY: usize = block(size_of::<Connection>()) + 1024;
}

/// The memory of a resting connection that was woken: for one that is put to rest.
#[derive(Debug)]
pub struct SpareResting(Box<Resting>);

impl SpareResting {
    /// What one takes, in bytes, as a rule.
    pub const MEMORY: usize = block(size_of::<Resting>()) + 256;
}

/// In tests each connection that is put to rest is woken once first, and compared with what it was.
#[cfg(any(test, feature = "simulation"))]
impl Connection {
    /// Puts a connection to rest and wakes it.
    ///
    /// # Panics
    /// If it is not as it was.
    pub fn rest_and_wake(self: Box<Self>) -> Box<Self> {
        let before = format!("{self:?}");
        let (resting, left) = self.rest(None);
        let (woken, _) = resting.wake(left);
        let after = format!("{woken:?}");
        let same = before.bytes().zip(after.bytes()).take_while(|(before, after)| before == after).count();
        let around = |text: &str| text.chars().skip(same.saturating_sub(80)).take(160).collect::<String>();
        assert!(before == after, "woken it is not as it was: {:?}, {:?}", around(&before), around(&after));
        woken
    }
}

impl Resting {
    /// The connection as it was, in the box of one that was put to rest if there is one; and the box that is left over.
    pub fn wake(mut self: Box<Self>, spare: Option<SpareConnection>) -> (Box<Connection>, SpareResting) {
        let Self { state, config, pool, congestion, rare } = &mut *self;
        let Rare { controller, ecn, fastopen_key } = rare.take().map(|rare| *rare).unwrap_or_default();
        let from = &mut Reader::new(state);
        let options = SocketOptions::read(from, config, congestion.clone(), fastopen_key);
        let (counters, liveness): (Counters, Liveness) = Compact::read(from);
        let (timers, ts) = Compact::read(from);
        let (fast_open, rcv): (_, Receiver) = Compact::read(from);
        let snd = Sender::wake(from, pool);
        let recovery = Recovery::read(from);
        let path = PathState::wake(from, config, controller).expect("what was not written was kept");
        let mut connection = Connection {
            state: State::Established,
            config: Arc::clone(config),
            options,
            snd,
            rcv,
            recovery,
            path,
            timers,
            ts,
            ecn,
            liveness,
            outcome: Outcome::untouched(),
            user: User::default(),
            counters,
            passive: None,
            fast_open,
        };
        let mut spare = spare.map(|spare| spare.0);
        if let Some(spare) = &mut spare {
            connection.use_places(spare.take_places());
        }
        (put(connection, spare), SpareResting(self))
    }

    /// Memory beside its own, in bytes.
    pub fn memory(&self) -> usize {
        let rare = self.rare.as_ref().map_or(0, |rare| {
            let controller =
                rare.controller.as_ref().map_or(0, |controller| block(size_of_val(&**controller)));
            let ecn = rare.ecn.as_ref().map_or(0, |_| block(size_of::<EcnState>()));
            block(size_of::<Rare>()) + controller + ecn
        });
        block(self.state.len()) + rare
    }
}
