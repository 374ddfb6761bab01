//! All sockets of TCP, as rows of a list.

use super::Tcp;
use super::cell::{Cell, Stage};
use super::listening::Listener;
use crate::stack::socket_info::{SocketInfo, SocketTimer, TransferInfo};
use crate::tcp::{Connection, State};
use crate::time::Instant;
use crate::trace::TimerKind;

impl Tcp {
    /// All sockets: listeners, connections, and what is left of connections in TIME-WAIT.
    pub fn sockets(&self, now: Instant) -> Vec<SocketInfo> {
        let listeners = self.demux.all_listeners();
        let cells = self.demux.all_cells();
        let mut rows: Vec<_> = listeners.iter().map(|listener| of_listener(listener)).collect();
        rows.extend(cells.iter().map(|cell| of_cell(cell, now)));
        rows.extend(self.demux.all_time_waits().into_iter().map(|(key, at)| SocketInfo {
            remote: Some(key.remote_addr(false)),
            timer: Some(SocketTimer::new("timewait", at - now, 0)),
            ..SocketInfo::new("tcp", name(State::TimeWait), key.local_addr(false))
        }));
        rows
    }
}

fn of_listener(listener: &Listener) -> SocketInfo {
    let queues = listener.queues();
    SocketInfo {
        owner: listener.options().owner,
        recv_queue: queues.accept_queue,
        send_queue: queues.backlog,
        ..SocketInfo::new("tcp", name(State::Listen), listener.local_addr())
    }
}

fn of_cell(cell: &Cell, now: Instant) -> SocketInfo {
    let row = SocketInfo {
        remote: Some(cell.remote_addr()),
        ..SocketInfo::new("tcp", name(cell.state()), cell.local_addr())
    };
    cell.look(|state| match &state.stage {
        Stage::Opening(opening) => SocketInfo {
            owner: opening.options().owner,
            timer: opening.poll_timeout().map(|at| SocketTimer::new("on", at - now, 0)),
            ..row
        },
        Stage::Connected(connection) => of_connection(row, connection, now),
        Stage::Over(_) => row,
    })
}

fn of_connection(row: SocketInfo, connection: &Connection, now: Instant) -> SocketInfo {
    let info = connection.info(now);
    let timer = connection.next_timer();
    SocketInfo {
        owner: connection.options().owner,
        recv_queue: connection.unread(),
        send_queue: connection.unacked(),
        timer: timer.map(|(kind, at)| {
            SocketTimer::new(timer_name(kind), at - now, info.retransmits.max(info.probes))
        }),
        transfer: Some(TransferInfo {
            congestion: connection.options().congestion.name().to_string(),
            rtt: info.rtt,
            rttvar: info.rttvar,
            rto: info.rto,
            mss: info.snd_mss,
            cwnd: info.snd_cwnd,
            ssthresh: info.snd_ssthresh,
            bytes_acked: info.bytes_acked,
            bytes_received: info.bytes_received,
            retransmits: info.total_retrans,
            unacked: info.unacked,
        }),
        ..row
    }
}

/// The name of a timer in `ss`.
fn timer_name(kind: TimerKind) -> &'static str {
    match kind {
        TimerKind::Keepalive => "keepalive",
        TimerKind::Persist => "persist",
        _ => "on",
    }
}

/// The name of a state in `ss`.
fn name(state: State) -> &'static str {
    match state {
        State::Closed => "UNCONN",
        State::Listen => "LISTEN",
        State::SynSent => "SYN-SENT",
        State::SynReceived => "SYN-RECV",
        State::Established => "ESTAB",
        State::FinWait1 => "FIN-WAIT-1",
        State::FinWait2 => "FIN-WAIT-2",
        State::CloseWait => "CLOSE-WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST-ACK",
        State::TimeWait => "TIME-WAIT",
    }
}
