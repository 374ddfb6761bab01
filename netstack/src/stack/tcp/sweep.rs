//! The sweep: as long as the stack is under memory pressure, and once more after it, all connections are held in
//! turn. Under pressure each makes room, also one on which nothing happens; after it, each is told that there is
//! room again, so that nobody waits for what has happened elsewhere. In Linux a writer looks again after a while
//! (`sk_stream_wait_memory`).

use super::Tcp;
use super::cell::Cell;
use super::deadline::Deadline;
use super::hold::End;
use crate::stack::deadlines::Timer;
use crate::stack::turn::Turn;
use crate::sync::{Mutex, Rank};
use crate::time::Duration;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// Connections that are held at a time.
const AT_ONCE: usize = 256;

/// How long others have their turn in between.
const PAUSE: Duration = Duration::from_millis(2);

/// How far the sweep has come.
#[derive(Debug)]
pub(super) struct Sweep {
    /// Whether it goes on. Looked at without the lock.
    runs: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    timer: Timer,
    /// Those of the last shard that are left.
    cells: Vec<Weak<Cell>>,
    /// The next shard of the table.
    shard: usize,
    /// Shards until all have had their turn since the end of the pressure.
    left: usize,
}

impl Sweep {
    pub(super) fn new() -> Self {
        Self { runs: AtomicBool::new(false), state: Mutex::new(Rank::Sweep, State::default()) }
    }
}

#[cfg(feature = "simulation")]
impl Sweep {
    /// Whether it goes on, and so has a deadline.
    pub(super) fn is_running(&self) -> bool {
        self.runs.load(Ordering::Relaxed)
    }
}

impl Tcp {
    /// The stack is under memory pressure: connections are held in turn from now on, if they are not already.
    #[cold]
    pub(super) fn begin_sweep(&self, turn: &mut Turn<'_>) {
        if !self.sweep.runs.load(Ordering::Relaxed) && !self.sweep.runs.swap(true, Ordering::Relaxed) {
            let mut state = self.sweep.state.lock();
            state.left = self.demux.shards();
            self.arm_sweep(turn, &mut state);
        }
    }

    /// A part of the connections has its turn.
    pub(super) fn on_sweep(&self, turn: &mut Turn<'_>) {
        let over = turn.core.memory().review();
        if !over {
            // What nobody uses goes first.
            turn.core.pool().trim();
            self.spares.trim();
        }
        // One at rest has nothing to give, and waits for nothing.
        for cell in self.next_in_sweep(over).iter().filter(|cell| !cell.is_at_rest()) {
            self.hold(turn, cell, End::Settle, |held| held.make_room());
        }
        let mut state = self.sweep.state.lock();
        if over && state.left == 0 && state.cells.is_empty() {
            self.sweep.runs.store(false, Ordering::Relaxed);
        } else {
            self.arm_sweep(turn, &mut state);
        }
    }

    fn next_in_sweep(&self, over: bool) -> Vec<Arc<Cell>> {
        let mut state = self.sweep.state.lock();
        state.timer.fired();
        let (shards, mut chosen) = (self.demux.shards(), Vec::new());
        if !over {
            state.left = shards;
        }
        let mut looked_at = 0;
        while chosen.len() < AT_ONCE {
            if let Some(cell) = state.cells.pop() {
                chosen.extend(cell.upgrade());
                continue;
            }
            if looked_at == shards || (over && state.left == 0) {
                break;
            }
            looked_at += 1;
            let shard = state.shard;
            state.shard = (shard + 1) % shards;
            state.left -= usize::from(over);
            drop(state);
            let cells = self.demux.cells_of(shard);
            state = self.sweep.state.lock();
            state.cells = cells;
        }
        chosen
    }

    fn arm_sweep(&self, turn: &mut Turn<'_>, state: &mut State) {
        let at = turn.now + PAUSE;
        turn.out.deadline_moved(self.deadlines.arm(&mut state.timer, at, || Deadline::Sweep));
    }
}
