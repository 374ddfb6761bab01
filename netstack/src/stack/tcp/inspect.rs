//! What the tables of TCP hold, and whether it is consistent, for simulations.

use super::Tcp;
use super::cell::{Cell, Stage};
use crate::stack::core::Core;
use crate::time::Instant;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a stack holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Connections in the table.
    pub connections: usize,
    /// Of these, those that no application holds.
    pub orphans: usize,
    /// Connections with something to deliver.
    pub undelivered: usize,
    /// Half-open connections.
    pub half_open: usize,
    /// TIME-WAIT entries.
    pub time_waits: usize,
    /// Listeners.
    pub listeners: usize,
    /// Ports in use.
    pub ports: usize,
    /// Armed deadlines.
    pub deadlines: usize,
    /// Connections that wait for a device.
    pub waiting: usize,
    /// Bytes that were written and are not acknowledged.
    pub queued: usize,
    /// Bytes that were received and not read.
    pub unread: usize,
    /// Memory that received bytes keep, in bytes.
    pub receive_memory: usize,
    /// Pooled packet buffers in use.
    pub buffers: usize,
}

impl Tcp {
    /// What there is at `now`, when everything that can be done has been done.
    pub(in crate::stack) fn inspect(&self, core: &Core, now: Instant) -> Result<Inspection, String> {
        let half_open = self.demux.check()?;
        let listeners = self.demux.all_listeners();
        let mut found = Inspection {
            half_open,
            time_waits: self.demux.time_waits(),
            listeners: listeners.len(),
            ports: self.ports.len(),
            deadlines: self.deadlines.len(),
            waiting: (0..core.interfaces().queue_count()).map(|queue| self.waiting.len(queue)).sum(),
            ..Inspection::default()
        };
        let mut waiting = 0;
        for cell in self.demux.all_cells() {
            waiting += usize::from(self.inspect_cell(&cell, now, &mut found).map_err(|error| {
                let (local, remote) = (cell.local_addr(), cell.remote_addr());
                format!("connection {local} -> {remote} in {:?}: {error}", cell.state())
            })?);
        }
        if waiting != found.waiting {
            return Err(format!("{waiting} connections wait for a device, and {} are listed", found.waiting));
        }
        let orphans = self.orphans.load(Ordering::Relaxed);
        if orphans != found.orphans {
            return Err(format!("{} connections have no owner, and {orphans} are counted", found.orphans));
        }
        let undelivered = self.undelivered.load(Ordering::Relaxed);
        if undelivered != found.undelivered {
            let counted = found.undelivered;
            return Err(format!(
                "{counted} connections have something to deliver, and {undelivered} are counted"
            ));
        }
        let queued: usize = listeners.iter().map(|listener| listener.syn_queue_len()).sum();
        if queued > half_open {
            return Err(format!("{queued} connections are half open, and {half_open} are in the table"));
        }
        Ok(found)
    }

    /// What each connection takes for received by its peer beyond what that has acknowledged: its addresses,
    /// the peer's last, and ranges of sequence numbers.
    #[expect(clippy::type_complexity, reason = "one test reads it, in one place")]
    pub(in crate::stack) fn sacked(&self) -> Vec<(SocketAddr, SocketAddr, Vec<(u32, u32)>)> {
        let mut all = Vec::new();
        for cell in self.demux.all_cells() {
            let ranges = cell.look_connected(|connection| connection.sacked_ranges()).unwrap_or_default();
            if !ranges.is_empty() {
                all.push((cell.local_addr(), cell.remote_addr(), ranges));
            }
        }
        all
    }

    /// The histories of all connections in the table.
    pub(in crate::stack) fn histories(&self) -> Vec<crate::trace::History> {
        self.demux.all_cells().iter().map(|cell| cell.history()).collect()
    }

    /// Whether the connection waits for a device.
    fn inspect_cell(&self, cell: &Arc<Cell>, now: Instant, found: &mut Inspection) -> Result<bool, String> {
        found.connections += 1;
        if cell.backlog_len() > 0 {
            return Err(format!("{} segments were left in the backlog", cell.backlog_len()));
        }
        cell.look(|state| {
            found.orphans += usize::from(state.orphan);
            found.undelivered += usize::from(state.has_undelivered());
            let due = match &state.stage {
                Stage::Connected(connection) => {
                    let holds = match connection.check(now) {
                        Err(_) if state.waiting.is_some() => Ok(Default::default()),
                        outcome => outcome,
                    }?;
                    found.queued += holds.queued;
                    found.unread += holds.unread;
                    found.receive_memory += holds.receive_memory;
                    // The memory behind a window is bounded by four times its payload.
                    if holds.receive_memory > 4 * holds.receive_limit + (256 << 10) {
                        return Err(format!("received bytes hold too much memory: {holds:?}"));
                    }
                    connection.poll_timeout()
                }
                Stage::Opening(opening) => opening.poll_timeout(),
                Stage::Over(_) => return Err("what is over is still in the table".to_owned()),
            };
            match due {
                Some(at) if !self.deadlines.covers(&state.timer, at) => {
                    Err(format!("the deadline at {at:?} is armed for {:?}", state.timer))
                }
                _ => Ok(state.waiting.is_some()),
            }
        })
    }
}
