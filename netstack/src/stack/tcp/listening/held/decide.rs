//! What the application decides about a SYN that its listener holds.

use super::{HeldListener, arm, with_cookie};
use crate::icmp::{Undelivered, Unreachable, emit_unreachable};
use crate::ip::Cast;
use crate::reasons::ResetReason;
use crate::stack::egress::{quote_room, send_icmp_error};
use crate::stack::flow::{FlowKey, QueueId};
use crate::stack::icmp_limit::Cause;
use crate::stack::tcp::Tcp;
use crate::stack::tcp::cell::Cell;
use crate::stack::tcp::demux::Flow;
use crate::stack::tcp::listening::half_open::Place;
use crate::stack::tcp::listening::listener::{Listener, Tally};
use crate::stack::tcp::listening::pending_syn::{PendingState, PendingSyn, Rejection};
use crate::stack::tcp::reset::Receiver;
use crate::stack::turn::Turn;
use crate::tcp::{Connection, FastOpenSyn, Setup, TcpError};
use crate::wire::{
    ChecksumMode, FastOpenOption, HeaderBuf, IpMeta, Segment, TcpDatagram, emit_tcp, parse_ip,
};
use std::io;
use std::sync::Arc;

impl Tcp {
    /// Accepts the peer: the SYN-ACK is sent, and the handshake continues. With Fast Open the
    /// connection is open at once. Only the first decision has an effect.
    pub fn answer_pending(&self, turn: &mut Turn<'_>, pending: &Arc<PendingSyn>) {
        let Some(listener) = self.listener_of(pending) else { return };
        let mut held = HeldListener::new(self, turn, &listener);
        {
            let mut progress = pending.progress();
            if !matches!(*progress, PendingState::Undecided) {
                return;
            }
            *progress = PendingState::Answered;
        }
        held.release(pending);
    }

    /// The result of the handshake; none while it is in progress. A connection is returned once.
    pub fn pending_result(&self, pending: &PendingSyn) -> Option<io::Result<Arc<Cell>>> {
        let mut progress = pending.progress();
        match &*progress {
            PendingState::Undecided | PendingState::Answered => None,
            PendingState::Over(failure) => Some(Err(failure.into())),
            PendingState::Established(_) => {
                let taken = PendingState::Over(TcpError::Aborted.into());
                match std::mem::replace(&mut *progress, taken) {
                    PendingState::Established(cell) => Some(Ok(cell)),
                    _ => None,
                }
            }
        }
    }

    /// Rejects the peer. If the handshake is complete already, the connection is reset.
    pub fn reject_pending(&self, turn: &mut Turn<'_>, pending: &PendingSyn, how: Rejection) {
        // The listener is locked first: it may be about to complete the handshake.
        let listener = self.listener_of(pending);
        let mut held = listener.as_ref().map(|listener| HeldListener::new(self, turn, listener));
        let before = {
            let mut progress = pending.progress();
            match &*progress {
                PendingState::Over(_) => return,
                _ => std::mem::replace(&mut *progress, PendingState::Over(TcpError::Aborted.into())),
            }
        };
        match (before, &mut held) {
            (PendingState::Established(cell), _) => {
                drop(held);
                self.reset(turn, &cell, Some(ResetReason::Rejected));
            }
            (PendingState::Undecided | PendingState::Answered, Some(held)) => held.turn_away(pending, how),
            (_, _) => {}
        }
    }

    /// The listener that holds a SYN; none once the SYN is over or the connection is there.
    fn listener_of(&self, pending: &PendingSyn) -> Option<Arc<Listener>> {
        self.demux.with_flow(pending.key(), |flow| match flow {
            Some(Flow::HalfOpen(listener, _)) => Some(Arc::clone(listener)),
            Some(Flow::Cell(_) | Flow::TimeWait(_)) | None => None,
        })
    }
}

impl HeldListener<'_, '_> {
    /// The application wants the connection: the handshake goes on.
    fn release(&mut self, pending: &Arc<PendingSyn>) {
        let (now, config, key) = (self.turn.now, self.turn.core.config(), pending.key());
        let Some(place) = self.place_of(key) else { return };
        let Some(half_open) = self.state.syn_queue.get_mut(place) else { return };
        let syn_ack = with_cookie(half_open.entry.release(now, config), pending.cookie());
        if let Some((syn, option)) = pending.fast_open() {
            self.open(pending, place, &syn, option);
            return;
        }
        let queue = half_open.queue;
        arm(self.tcp, self.turn, self.listener, place, half_open);
        self.send(queue, key, &syn_ack);
    }

    /// Fast Open where the application decides: makes a connection of the SYN and gives it to the
    /// caller. The SYN-ACK is the first thing that it sends.
    fn open(
        &mut self,
        pending: &Arc<PendingSyn>,
        place: Place,
        syn: &Segment,
        option: Option<FastOpenOption>,
    ) {
        let Some(mut half_open) = self.state.syn_queue.remove(place) else { return };
        self.tcp.deadlines.disarm(&mut half_open.timer);
        let core = self.turn.core;
        let setup = Setup { options: &self.state.options, config: core.config(), pool: core.pool() };
        let payload = core.pool().copy_of(pending.fast_open_data());
        let syn = FastOpenSyn { segment: syn, payload, cookie: option };
        let mut connection = Connection::accept_fast_open(self.turn.now, half_open.entry, syn, setup);
        connection.on_accepted();
        let queue = Arc::clone(self.listener.fast_open());
        let cell = self.child(*pending.key(), half_open.queue, connection, Some(queue));
        let Some(cell) = cell.filter(|cell| self.adopt(cell, None)) else {
            self.tcp.counters.fast_open_passive_fails.bump();
            pending.over(TcpError::Aborted.into(), self.turn.out);
            return;
        };
        pending.hand_over_place();
        self.count(Tally::PassiveOpen);
        self.tcp.counters.fast_open_passive.bump();
        pending.established(cell, self.turn.out);
    }

    fn turn_away(&mut self, pending: &PendingSyn, how: Rejection) {
        let key = pending.key();
        if how == Rejection::Silence {
            self.silence(key);
            return;
        }
        let Some(half_open) = self.take_half_open(key) else { return };
        self.count(Tally::EmbryonicReset);
        match how {
            Rejection::Unreachable(reason) => self.send_unreachable(half_open.queue, pending, reason),
            Rejection::Reset | Rejection::Silence => {
                let to = Receiver { queue: half_open.queue, key, marks: self.state.marks() };
                let reset = half_open.entry.reset();
                self.tcp.send_reset(self.turn, &to, &reset, ResetReason::Rejected);
            }
        }
    }

    /// The application does not want the connection and does not say so: the entry absorbs what the
    /// peer repeats until its time is over.
    fn silence(&mut self, key: &FlowKey) {
        let Some(place) = self.place_of(key) else { return };
        let half_open = self.state.syn_queue.get_mut(place);
        if let Some(pending) = half_open.and_then(|half_open| half_open.pending.take()) {
            self.withdraw(&pending);
        }
    }

    /// An ICMP error about a SYN. It quotes what an error must: addresses, ports and sequence number
    /// (RFC 792, RFC 4443 §3.1).
    fn send_unreachable(&mut self, queue: QueueId, pending: &PendingSyn, reason: Unreachable) {
        let FlowKey { local_port, remote_port, .. } = *pending.key();
        let (local, remote) = (pending.key().local(), pending.key().remote());
        let hop_limit = self.turn.core.config().default_ttl;
        let mut packet = HeaderBuf::new();
        let ip = IpMeta::new(remote, local, hop_limit);
        let full = ChecksumMode::Full;
        emit_tcp(
            &mut packet,
            &TcpDatagram {
                ip: &ip,
                src_port: remote_port,
                dst_port: local_port,
                segment: pending.syn(),
                payload: &[],
            },
            full,
        );
        let Ok(header) = parse_ip(&packet) else { return };
        let mut message = Vec::new();
        let ip = IpMeta::new(local, remote, hop_limit);
        let room = quote_room(self.turn.core, queue, &header);
        let bytes = &packet[..packet.len().min(room)];
        let undelivered = Undelivered { header: &header, bytes, cast: Cast::Unicast };
        if emit_unreachable(&mut message, reason, &undelivered, self.turn.core.addresses(), &ip) {
            send_icmp_error(self.turn, queue, remote, &message, Cause::Application);
        }
    }
}
