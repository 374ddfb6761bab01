//! The last thing before a connection is unlocked.

use super::{Held, Progress};
use crate::readiness::Events;
use crate::reasons::EndReason;
use crate::stack::deadlines::Timer;
use crate::stack::tcp::cell::{Stage, Tail};
use crate::stack::tcp::deadline::Deadline;
use crate::stack::tcp::demux::TimeWaitEntry;
use crate::stack::tcp::ends::ConnectionEnd;
use crate::stack::tcp::send::packets_of_time_wait;
use crate::tcp::Completion;
use crate::time::Instant;
use crate::trace::EventKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Held<'_, '_> {
    /// Sends what there is to send, notifies the observer, takes a connection that is over out of the
    /// tables, and arms its deadline.
    pub(super) fn settle(&mut self) -> Progress {
        let progress = self.transmit();
        self.state.sent_in_hold = 0;
        self.state.tail = Tail::Waits;
        let events = match &mut self.state.stage {
            Stage::Connected(connection) => connection.take_events(),
            Stage::Opening(_) | Stage::Over(_) => Events::NONE,
        };
        self.note_windows();
        self.tcp.settle_fast_open(self.turn, &mut self.state);
        // The last acknowledgment or reset goes first.
        if progress == Progress::Done {
            self.remove_completed();
        }
        self.count_undelivered();
        if !events.is_empty() && !self.state.orphan {
            self.notify(events);
        }
        self.arm();
        progress
    }

    /// Notes the windows, if anybody wants to know of them and they have changed.
    fn note_windows(&mut self) {
        let state = &mut *self.state;
        if let Stage::Connected(connection) = &state.stage
            && state.watch.is_on()
        {
            state.watch.note_windows(self.turn, || self.cell.about(), connection.windows());
        }
    }

    /// Counts the connection among those that have something to deliver, or not any more.
    #[inline(always)]
    pub(super) fn count_undelivered(&mut self) {
        let has_some = self.state.has_undelivered();
        if has_some != self.state.delivers {
            self.state.delivers = has_some;
            self.change_undelivered(has_some);
        }
    }

    fn change_undelivered(&self, has_some: bool) {
        let undelivered = &self.tcp.undelivered;
        if has_some {
            undelivered.fetch_add(1, Ordering::Release);
        } else {
            undelivered.fetch_sub(1, Ordering::Release);
        }
    }

    #[inline(always)]
    pub(super) fn arm(&mut self) {
        if !self.state.attached {
            return;
        }
        let deadline = match &self.state.stage {
            Stage::Connected(connection) => connection.poll_timeout(),
            Stage::Opening(opening) => opening.poll_timeout(),
            Stage::Over(_) => None,
        };
        if let Some(at) = self.or_rest(deadline) {
            let target = || Deadline::Cell(Arc::downgrade(self.cell));
            self.turn.out.deadline_moved(self.tcp.deadlines.arm(&mut self.state.timer, at, target));
        }
    }

    /// The deadline, or when the connection is to be put to rest if that is earlier. While an earlier deadline is armed,
    /// as mostly, it is time to ask when that has fired.
    #[inline]
    fn or_rest(&self, deadline: Option<Instant>) -> Option<Instant> {
        if self.state.timer.is_armed() {
            return deadline;
        }
        let rest = self.state.rests_at(self.turn.now);
        deadline.into_iter().chain(rest).min()
    }

    /// Takes a connection that is over out of the tables, or leaves a TIME-WAIT entry there.
    fn remove_completed(&mut self) {
        let Stage::Connected(connection) = &self.state.stage else { return };
        if !self.state.attached {
            return;
        }
        match connection.completion() {
            Completion::Running => {}
            Completion::TimeWait => self.enter_time_wait(),
            Completion::Closed => {
                if connection.ended_in_order() {
                    self.save_metrics();
                }
                self.retire();
            }
        }
    }

    /// Remembers what the connection measured.
    fn save_metrics(&self) {
        if let Stage::Connected(connection) = &self.state.stage {
            let remote = self.cell.key().remote();
            self.tcp.metrics.learn(self.turn.now, remote, |known| connection.metrics(known));
        }
    }

    /// Takes a connection out of the tables: nothing more is sent or accepted for it. The
    /// application can still read.
    pub(super) fn retire(&mut self) {
        if std::mem::replace(&mut self.state.attached, false) {
            self.tcp.demux.remove(self.cell);
            self.detached();
        }
    }

    /// Leaves no more than a TIME-WAIT entry in the table.
    fn enter_time_wait(&mut self) {
        self.save_metrics();
        let Stage::Connected(connection) = &mut self.state.stage else { return };
        if self.tcp.demux.time_waits() >= self.turn.core.config().max_time_wait as usize {
            // tcp_time_wait in Linux: the state is skipped.
            self.tcp.counters.time_wait_overflow.bump();
            self.retire();
            return;
        }
        let entry = TimeWaitEntry {
            record: connection.time_wait(self.turn.now),
            timer: Timer::default(),
            binding: self.state.bound.binding.take(),
            queue: self.cell.queue(),
            packets: packets_of_time_wait(self.turn.core, self.cell.packets()),
            latest: self.turn.now,
        };
        self.state.attached = false;
        if self.tcp.demux.insert_time_wait(self.cell, Box::new(entry)).is_ok() {
            self.tcp.counters.time_waited.bump();
            self.tcp.arm_time_wait(self.turn, self.cell.key());
        }
        self.detached();
    }

    /// The connection has ended.
    fn record_end(&mut self) {
        let reason = self.state.end_reason().unwrap_or(EndReason::Finished);
        self.state.end = Some(reason);
        self.tcp.ends.push(ConnectionEnd::of(self.cell, &self.state, self.turn.now, reason));
        self.note(|| EventKind::Ended(reason));
    }

    /// Gives up what a connection holds while it is in the table.
    fn detached(&mut self) {
        self.record_end();
        self.tcp.detach_fast_open(self.turn.core, self.cell, &mut self.state);
        self.tcp.deadlines.disarm(&mut self.state.timer);
        self.stop_waiting();
        self.state.bound.binding = None;
        if self.state.orphan {
            self.tcp.orphans.fetch_sub(1, Ordering::Relaxed);
        }
        self.count_undelivered();
        self.tcp.trim_if_idle(self.turn.core);
    }
}
