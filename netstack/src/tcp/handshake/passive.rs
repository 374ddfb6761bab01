//! Fast Open from the server's side (RFC 7413 §4.2.2): a connection that exists from the SYN on,
//! because the SYN brought a good cookie. It is in SYN-RECEIVED, its user may read what the SYN
//! carried and answer it, and what is left of the handshake goes on beside that.

use super::fast_open::FastOpenNotes;
use super::syn_queue::{Patience, SynEntry, SynStep, SynTimeout};
use crate::buffer::{Chunk, Pool};
use crate::config::Config;
use crate::tcp::connection::{Connection, DONE, Established, NEXT, Step};
use crate::tcp::error::TcpError;
use crate::tcp::receive::AckPolicy;
use crate::tcp::state::{Input, State};
use crate::time::Instant;
use crate::wire::{FastOpenOption, Segment, SeqNum};
use std::sync::Arc;

/// What a connection in SYN-RECEIVED needs for its handshake.
#[derive(Debug)]
pub(in crate::tcp) struct PassiveOpen {
    /// The SYN-ACK and its time-outs.
    entry: SynEntry,
    /// What the SYN-ACK acknowledges: the SYN and its data.
    ack: SeqNum,
    /// A fresh cookie for the first SYN-ACK, if the client's was an old one.
    option: Option<FastOpenOption>,
    /// Whether the SYN-ACK must be sent.
    due: bool,
    /// Whether a user holds the connection.
    accepted: bool,
    /// The third segment has come: this is only kept until the stack has heard of it.
    over: bool,
}

/// How the wait for the third segment of a Fast Open handshake ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassiveEnd {
    /// It came, or the connection was closed on this side or timed out.
    Done,
    /// The peer reset the connection, which a user held already. Forgers of addresses cause such
    /// resets (RFC 7413 §5.1).
    Reset,
}

/// One retransmission more than usual, as in Linux: a user may depend on the connection already.
fn patience(config: &Config) -> Patience {
    Patience { retries: config.synack_retries + 1, defer_accept: 0 }
}

impl SynEntry {
    /// The connection at once, from a SYN with a good cookie, or where none is asked for. `payload`
    /// is the SYN's data, and `option` a cookie for the SYN-ACK.
    pub fn establish_fast(
        self,
        now: Instant,
        syn: &Segment,
        payload: Chunk,
        option: Option<FastOpenOption>,
        setup: (&crate::tcp::SocketOptions, &Arc<Config>, &Arc<Pool>),
    ) -> Box<Connection> {
        let (options, config, pool) = setup;
        let negotiated = self.negotiated(now);
        let from = Established {
            iss: self.iss(),
            irs: syn.seq,
            // The window of a SYN is never scaled (RFC 7323 §2.2).
            snd_wnd: usize::from(syn.window),
            negotiated,
            offered: self.offered(),
            rtt: None,
            syn_timeouts: 0,
            path: self.path(),
        };
        let mut connection = Connection::new(now, from, options.clone(), config, pool);
        connection.state = State::SynReceived;
        let carried_data = !payload.is_empty();
        connection.take_syn_text(now, syn, payload);
        connection.fast_open = FastOpenNotes { syn_data_acked: carried_data, ..FastOpenNotes::default() };
        connection.passive = Some(Box::new(PassiveOpen {
            ack: connection.rcv.rcv_nxt.wire(),
            entry: self,
            option,
            due: true,
            accepted: false,
            over: false,
        }));
        connection
    }
}

impl Connection {
    /// Whether the connection waits for the third segment of its handshake.
    pub(in crate::tcp) fn is_opening(&self) -> bool {
        self.passive.as_ref().is_some_and(|passive| !passive.over)
    }

    /// A user holds the connection now.
    pub fn on_accepted(&mut self) {
        if let Some(passive) = &mut self.passive {
            passive.accepted = true;
        }
    }

    /// How the handshake of a connection that Fast Open made ended: once, when it has.
    pub fn take_passive_end(&mut self) -> Option<PassiveEnd> {
        let passive = self.passive.as_ref()?;
        if !passive.over && self.state != State::Closed {
            return None;
        }
        let reset = !passive.over && passive.accepted && self.error_was_reset;
        self.passive = None;
        Some(if reset { PassiveEnd::Reset } else { PassiveEnd::Done })
    }

    /// Takes the text, and the FIN, of a segment that also carries SYN.
    pub(in crate::tcp) fn take_syn_text(&mut self, now: Instant, seg: &Segment, payload: Chunk) {
        let seq = self.rcv.rcv_nxt;
        if self.take_text(now, seg, seq, payload).is_continue() {
            let _ = self.check_fin(now, seg, seq);
        }
        // The rhythm of acknowledgments is learnt from what follows (as in Linux).
        self.rcv.ack = AckPolicy::new(&self.config);
    }

    /// The SYN-ACK, if it must be sent.
    pub(in crate::tcp) fn next_syn_ack(&self, now: Instant) -> Option<Segment> {
        let passive = self.passive.as_ref().filter(|passive| passive.due && !passive.over)?;
        let mut segment = passive.entry.syn_ack(now);
        segment.ack = passive.ack;
        segment.options.fast_open = passive.option;
        if passive.option.is_some() {
            // Both do not fit.
            segment.options.acc_ecn = None;
        }
        Some(segment)
    }

    /// The SYN-ACK was sent.
    pub(in crate::tcp) fn on_syn_ack_transmitted(&mut self, segment: &Segment) {
        if let Some(passive) = &mut self.passive {
            passive.due = false;
            // What is sent again carries no option (RFC 7413 §4.2.2).
            passive.option = None;
        }
        self.rcv.on_syn_ack_sent(usize::from(segment.window));
    }

    /// The SYN came once more: its data is here already.
    pub(in crate::tcp) fn answer_syn(&mut self, now: Instant, seg: &Segment) {
        let config = Arc::clone(&self.config);
        if let Some(passive) = &mut self.passive {
            let step = passive.entry.on_segment(now, seg, patience(&config), &config);
            passive.due |= matches!(step, SynStep::Repeat(_));
        }
    }

    /// When the SYN-ACK must be sent again.
    pub(in crate::tcp) fn syn_ack_deadline(&self) -> Option<Instant> {
        self.passive.as_ref().filter(|passive| !passive.over).map(|passive| passive.entry.deadline())
    }

    /// The SYN-ACK was not answered in time. Until it is, data is not sent again: whatever lost the
    /// one would lose the other (tcp_fastopen_synack_timer in Linux).
    pub(in crate::tcp) fn on_syn_ack_timeout(&mut self, now: Instant) {
        let config = Arc::clone(&self.config);
        let Some(passive) = self.passive.as_mut().filter(|passive| !passive.over) else { return };
        match passive.entry.on_timeout(now, patience(&config), &config) {
            SynTimeout::Nothing | SynTimeout::Wait => {}
            SynTimeout::GiveUp => self.enter_closed(Some(TcpError::TimedOut)),
            SynTimeout::Retransmit(_) => {
                passive.due = true;
                // RFC 5681 §3.1: after a second loss the window starts from one segment.
                if passive.entry.timeouts() == 2 && self.recovery.board.outstanding() > 0 {
                    let snd_nxt = self.snd.snd_nxt;
                    let snd_una = self.snd.snd_una;
                    self.recovery.on_timeout(now, snd_una, snd_nxt, self.snd.mss, self.cc.as_mut());
                }
            }
        }
    }

    /// Fifth, in SYN-RECEIVED: the third segment of the handshake acknowledges our SYN and perhaps
    /// data behind it (RFC 9293 §3.10.7.4).
    pub(in crate::tcp) fn check_third_segment(&mut self, now: Instant, seg: &Segment) -> Step {
        let Some(passive) = self.passive.as_mut().filter(|passive| !passive.over) else { return NEXT };
        if !seg.is_ack() {
            return DONE;
        }
        let ack = self.snd.snd_una.nearest(seg.ack);
        if ack < self.snd.snd_una || ack > self.snd.snd_nxt {
            self.reset = seg.reset_for_unknown();
            return DONE;
        }
        passive.over = true;
        passive.due = false;
        self.ecn = passive.entry.ecn().on_ack(seg, &self.config);
        if let Some(sample) = passive.entry.rtt(now) {
            self.rtt.on_sample(now, sample, 1);
        } else {
            self.rtt.after_syn_timeout();
        }
        // In FIN-WAIT-1 the user has closed already.
        if self.state == State::SynReceived {
            self.state = self.state.next(Input::AckOfSyn).expect("SYN-RECEIVED takes the ACK of its SYN");
        }
        self.ecn = passive.entry.ecn().on_ack(seg, &self.config);
        self.rearm_retransmit(now);
        NEXT
    }

    /// Whether an ICMP error ends the connection: while nobody has accepted it, an error about the
    /// SYN-ACK or what follows it does, as for any half-open connection (tcp_v4_err in Linux).
    pub(in crate::tcp) fn ends_by_icmp(&self, seq: SeqNum) -> bool {
        self.passive.as_ref().is_some_and(|passive| !passive.accepted) && self.is_of_opening(seq)
    }

    /// Whether `seq` is of the SYN-ACK, or of what follows it, and the third segment is not here.
    pub(in crate::tcp) fn is_of_opening(&self, seq: SeqNum) -> bool {
        self.passive.as_ref().is_some_and(|passive| {
            let span = self.snd.snd_nxt.wire() - passive.entry.iss();
            !passive.over && seq - passive.entry.iss() < span
        })
    }
}
