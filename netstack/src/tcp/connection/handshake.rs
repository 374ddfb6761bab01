//! How a connection comes from its handshake; and what is left of the handshake where Fast Open made
//! the connection before it was over.

use super::{Connection, NEXT, Step, dropped};
use crate::buffer::Chunk;
use crate::reasons::{DropReason, EndReason, ResetReason};
use crate::tcp::error::TcpError;
use crate::tcp::handshake::{Established, PassiveEnd, PassiveOpen, PassiveTimeout, SynEntry};
use crate::tcp::receive::FirstAck;
use crate::tcp::reset::Reset;
use crate::tcp::send::{LastSegment, Unit};
use crate::tcp::setup::Setup;
use crate::tcp::state::{Input, State};
use crate::time::Instant;
use crate::wire::{FastOpenOption, Segment, SeqNum};

/// A SYN that makes a connection at once.
#[derive(Debug)]
pub struct FastOpenSyn<'a> {
    /// The SYN.
    pub segment: &'a Segment,
    /// Its data.
    pub payload: Chunk,
    /// A cookie for the SYN-ACK.
    pub cookie: Option<FastOpenOption>,
}

/// What left with our SYN, and what became of it.
#[derive(Clone, Copy, Debug)]
pub(in crate::tcp) struct SynDataSent<'a> {
    /// All that was written before the connection stood.
    pub(in crate::tcp) data: &'a [u8],
    /// Bytes of it that the SYN carried.
    pub(in crate::tcp) sent: usize,
    /// Bytes of those that its answer acknowledges.
    pub(in crate::tcp) acked: usize,
}

impl Connection {
    /// The connection of `entry`, after [`SynStep::Establish`] for `ack` or from a cookie. Give the same
    /// segment to [`Connection::on_segment`] next: it may carry data, a FIN, and a newer window.
    ///
    /// [`SynStep::Establish`]: crate::tcp::SynStep::Establish
    pub fn accept(now: Instant, entry: &SynEntry, ack: &Segment, setup: Setup<'_>) -> Box<Self> {
        Self::passive(now, entry.established(now, ack, setup.config), setup)
    }

    /// A connection that a listener makes, whose option for acknowledgments counts from the start.
    fn passive(now: Instant, from: Established, setup: Setup<'_>) -> Box<Self> {
        let mut connection = Self::new(now, from, setup);
        if !setup.options.quickack {
            connection.rcv.set_quickack(false);
        }
        connection
    }

    /// The connection of `entry` at once, from a SYN with a good cookie, or where none is asked for.
    pub fn accept_fast_open(
        now: Instant,
        entry: SynEntry,
        syn: FastOpenSyn<'_>,
        setup: Setup<'_>,
    ) -> Box<Self> {
        let FastOpenSyn { segment, payload, cookie } = syn;
        let from = entry.established_by_syn(now, usize::from(segment.window));
        let mut connection = Self::passive(now, from, setup);
        connection.state = State::SynReceived;
        if !payload.is_empty() {
            connection.fast_open.on_syn_data_received();
        }
        connection.take_syn_text(now, segment, payload);
        connection.passive = Some(PassiveOpen::new(entry, connection.rcv.nxt().wire(), cookie));
        connection
    }

    /// The connection of a simultaneous open whose user closes it before the peer has acknowledged our SYN.
    /// The peer's SYN, which `entry` remembers, offers a window of `snd_wnd` bytes.
    pub(in crate::tcp) fn in_syn_received(
        now: Instant,
        entry: SynEntry,
        snd_wnd: usize,
        setup: Setup<'_>,
    ) -> Box<Self> {
        let mut connection = Self::new(now, entry.established_by_syn(now, snd_wnd), setup);
        connection.state = State::SynReceived;
        let mut passive = PassiveOpen::new(entry, connection.rcv.nxt().wire(), None);
        passive.on_accepted();
        connection.passive = Some(passive);
        connection
    }

    /// The SYN-ACK was sent before the connection was made.
    pub(in crate::tcp) fn on_syn_ack_sent(&mut self) {
        if let Some(passive) = &mut self.passive {
            passive.on_transmitted();
        }
    }

    /// A user holds the connection now.
    pub fn on_accepted(&mut self) {
        if let Some(passive) = &mut self.passive {
            passive.on_accepted();
        }
    }

    /// How the handshake of a connection that Fast Open made ended: once, when it has.
    pub fn take_passive_end(&mut self) -> Option<PassiveEnd> {
        let over = !self.is_opening() || self.state == State::Closed;
        let passive = self.passive.take_if(|_| over)?;
        // A peer that contradicts its own SYN may be as little there as one that resets.
        let contradiction = EndReason::by_reset(ResetReason::TcpInvalidSyn);
        let by_reset =
            self.outcome.end().is_some_and(|end| end == EndReason::ResetByPeer || end == contradiction);
        Some(passive.end(by_reset))
    }

    /// The peer acknowledged the SYN of an active open, which Linux counts with the bytes.
    pub(in crate::tcp) fn count_acked_syn(&mut self) {
        self.counters.bytes_acked += 1;
    }

    /// Takes the suspicion that something on the way swallows what follows a SYN with data.
    pub fn take_fast_open_suspicion(&mut self) -> bool {
        self.fast_open.take_suspicion()
    }

    /// Whether Fast Open was used for a SYN of ours, and data came back.
    pub fn fast_open_worked(&self) -> bool {
        self.fast_open.is_active() && self.counters.data_segs_in > 0
    }

    /// Takes the text, and the FIN, of a segment that also carries SYN.
    pub(in crate::tcp) fn take_syn_text(&mut self, now: Instant, seg: &Segment, payload: Chunk) {
        let seq = self.rcv.nxt();
        if self.take_text(now, seg, seq, payload).is_continue() {
            let _ = self.check_fin(now, seg, seq);
        }
        self.rcv.restart_acks(&self.config);
    }

    /// Part of what was written before the connection stood left with our SYN.
    ///
    /// What was not acknowledged goes again at once, without the option. Something other than congestion
    /// lost it, so the window stays as it is (Linux's tcp_non_congestion_loss_retransmit).
    pub(in crate::tcp) fn take_syn_data(&mut self, now: Instant, syn: SynDataSent<'_>) {
        let SynDataSent { data, sent, acked } = syn;
        let start = self.snd.una();
        if data.is_empty() {
            return;
        }
        self.snd.queue_syn_data(data);
        if sent == 0 {
            return;
        }
        let end = start + sent;
        self.snd.on_sent(now, end, LastSegment::Full, Unit::SuperSegment);
        self.counters.on_data_sent(sent, 1);
        self.counters.bytes_acked += acked as u64;
        self.snd.on_ack(start + acked);
        if acked < sent {
            self.recovery.on_sent(now, start + acked, end, self.snd.mss());
            self.recovery.on_refused(now, end);
        }
    }

    /// Acknowledges the SYN-ACK of the peer.
    pub(in crate::tcp) fn acknowledge_syn(&mut self, now: Instant, how: FirstAck) {
        self.rcv.acknowledge_syn(now, how);
    }

    /// The peer's SYN came a second time, with the SYN-ACK that answers ours.
    pub(in crate::tcp) fn on_old_syn(&mut self) {
        self.rcv.on_old_syn();
    }

    /// The SYN-ACK, if it must be sent.
    pub(super) fn next_syn_ack(&self, now: Instant) -> Option<Segment> {
        self.passive.as_ref()?.next_syn_ack(now)
    }

    /// The SYN-ACK was sent.
    pub(super) fn on_syn_ack_transmitted(&mut self, segment: &Segment) {
        if let Some(passive) = &mut self.passive {
            passive.on_transmitted();
        }
        self.rcv.on_syn_ack_sent(usize::from(segment.window));
    }

    /// The SYN-ACK was not answered in time. Until it is, data is not sent again: whatever lost the
    /// one would lose the other (tcp_fastopen_synack_timer in Linux).
    pub(super) fn on_syn_ack_timeout(&mut self, now: Instant) {
        let Some(passive) = self.passive.as_mut().filter(|passive| passive.is_open()) else { return };
        match passive.on_timeout(now, &self.config) {
            PassiveTimeout::Wait => {}
            PassiveTimeout::GiveUp => {
                self.enter_closed(EndReason::ConnectTimeout, Some(TcpError::TimedOut));
            }
            PassiveTimeout::Retransmit { timeouts } => {
                // RFC 5681 §3.1: after a second loss the window starts from one segment.
                if timeouts == 2 && self.recovery.outstanding() > 0 {
                    let (una, nxt, mss) = (self.snd.una(), self.snd.nxt(), self.snd.mss());
                    let (_, cc) = self.path.for_recovery();
                    self.recovery.on_timeout(now, una, nxt, mss, cc);
                }
            }
        }
    }

    /// Fifth, in SYN-RECEIVED: the third segment of the handshake acknowledges our SYN and perhaps
    /// data behind it (RFC 9293 §3.10.7.4).
    pub(super) fn check_third_segment(&mut self, now: Instant, seg: &Segment) -> Step {
        let Some(passive) = self.passive.as_mut().filter(|passive| passive.is_open()) else { return NEXT };
        if !seg.is_ack() {
            return dropped(DropReason::TcpFlags);
        }
        let ack = self.snd.una().nearest(seg.ack);
        if ack < self.snd.una() {
            self.outcome.set_reset(Reset::answer(seg, ResetReason::TcpOldAck));
            return dropped(DropReason::TcpOldAck);
        }
        if ack > self.snd.nxt() {
            self.outcome.set_reset(Reset::answer(seg, ResetReason::TcpAckUnsentData));
            return dropped(DropReason::TcpAckUnsentData);
        }
        let third = passive.on_third_segment(now, seg, &self.config);
        self.ecn = third.ecn;
        self.path.on_handshake(now, third.rtt);
        // In FIN-WAIT-1 the user has closed already.
        if self.state == State::SynReceived {
            self.state = self.state.next(Input::AckOfSyn).expect("SYN-RECEIVED takes the ACK of its SYN");
        }
        self.rearm_retransmit(now);
        NEXT
    }

    /// Whether an ICMP error ends the connection: while nobody has accepted it, an error about the
    /// SYN-ACK or what follows it does, as for any half-open connection (tcp_v4_err in Linux).
    pub(super) fn ends_by_icmp(&self, seq: SeqNum) -> bool {
        self.passive.as_ref().is_some_and(|passive| !passive.is_accepted()) && self.is_of_opening(seq)
    }

    /// Whether `seq` is of the SYN-ACK, or of what follows it, and the third segment is not here.
    pub(super) fn is_of_opening(&self, seq: SeqNum) -> bool {
        self.passive.as_ref().is_some_and(|passive| passive.covers(seq, self.snd.nxt().wire()))
    }
}
