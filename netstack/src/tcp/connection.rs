//! A connection from ESTABLISHED on: the struct of its parts, and one file for each thing that happens to
//! it.
//!
//! Segments come in through [`on_segment`], which hands them on to [`ack`] and [`text`]; time through
//! [`on_timeout`]; segments leave through [`transmit`], and [`transmitted`] takes note of them. What the
//! user does is in [`user`], and the end in [`ending`]. Each part owns its fields: these files ask the
//! parts, and pass on to each what it has to know of the others.

mod ack;
#[cfg(any(test, feature = "simulation"))]
mod check;
mod counters;
mod ending;
mod handshake;
mod icmp;
mod info;
mod liveness;
mod memory;
mod on_segment;
mod on_timeout;
mod outcome;
mod path;
mod prediction;
mod rest;
mod segment;
#[cfg(test)]
mod testing;
mod text;
mod timing;
mod transmit;
mod transmitted;
mod user;
mod window;

pub use handshake::FastOpenSyn;
pub(super) use handshake::SynDataSent;
pub use memory::Pruned;
pub use outcome::Completion;
pub use prediction::QuietAck;
pub use rest::{Resting, SpareConnection, SpareResting};

use counters::Counters;
use liveness::Liveness;
use outcome::Outcome;

use super::ecn::{EcnState, SecondSyn};
use super::error::TcpError;
use super::handshake::{Established, FastOpenNotes, PassiveOpen};
use super::options::SocketOptions;
use super::path::{PathSetup, PathState};
use super::receive::{Due, Receiver, ReceiverSetup};
use super::recovery::Recovery;
use super::reset::Reset;
use super::send::{Sender, SenderSetup};
use super::seq::Seq;
use super::setup::Setup;
use super::state::State;
use super::timers::Timers;
use super::timestamps::{TIMESTAMPS_LEN, TimestampState};
use crate::config::Config;
use crate::readiness::Events;
use crate::reasons::{DropReason, EndReason, ResetReason};
use crate::time::Instant;
use crate::trace::TimerKind;
use crate::wire::Segment;
use std::ops::ControlFlow;
use std::sync::Arc;

/// A TCP connection that completed its handshake.
///
/// The methods fall into groups. *In*: [`on_segment`](Self::on_segment),
/// [`on_timeout`](Self::on_timeout), [`on_icmp_error`](Self::on_icmp_error). *Out*:
/// [`poll_transmit`](Self::poll_transmit) with [`on_transmitted`](Self::on_transmitted),
/// [`poll_timeout`](Self::poll_timeout), [`take_events`](Self::take_events). *User*:
/// [`read`](Self::read), [`write`](Self::write), [`shutdown`](Self::shutdown),
/// [`close`](Self::close), [`abort`](Self::abort). After any of the first and the last group, call
/// those of the second until they have no more to say.
#[derive(Debug)]
pub struct Connection {
    state: State,
    config: Arc<Config>,
    options: SocketOptions,
    snd: Sender,
    rcv: Receiver,
    /// What is in flight, and what to do about losses.
    recovery: Recovery,
    /// What is known of the path, and what follows for how much may be sent.
    path: PathState,
    timers: Timers,
    /// The timestamps option, where it was negotiated.
    ts: Option<TimestampState>,
    /// ECN, where it was negotiated.
    ecn: Option<Box<EcnState>>,
    liveness: Liveness,
    outcome: Outcome,
    user: User,
    counters: Counters,
    /// The handshake, where Fast Open made the connection before it was over.
    passive: Option<Box<PassiveOpen>>,
    fast_open: FastOpenNotes,
}

/// What the user still does with a connection.
#[derive(Clone, Copy, Debug, Default)]
struct User {
    /// Whether the user shut reading down.
    read_shut: bool,
    /// Whether no user holds the connection any more.
    orphan: bool,
}

/// Whether to go on with the next step of a segment; if not, why it is dropped, if it is.
type Step<T = ()> = ControlFlow<Option<DropReason>, T>;

const NEXT: Step = ControlFlow::Continue(());
const DONE: Step = ControlFlow::Break(None);

/// Nothing more is done with a segment, for this reason.
const fn dropped<T>(reason: DropReason) -> Step<T> {
    ControlFlow::Break(Some(reason))
}

impl Connection {
    pub(super) fn new(now: Instant, from: Established, setup: Setup<'_>) -> Box<Self> {
        let Setup { options, config, pool } = setup;
        let Established { iss, irs, path, negotiated, snd_wnd, offered, rtt, syn_timeouts, ecn, fast_open } =
            from;
        let (snd_una, rcv_nxt) = (Seq::initial(iss) + 1, Seq::initial(irs) + 1);
        let path = PathSetup {
            path,
            max_segment: negotiated.max_segment,
            options_len: if negotiated.ts.is_some() { TIMESTAMPS_LEN } else { 0 },
            rtt,
            syn_timeouts,
            sack: negotiated.sack,
            seed: seed(snd_una, rcv_nxt),
        };
        let path = PathState::new(now, &path, options, config);
        let snd = SenderSetup {
            snd_una,
            wl1: rcv_nxt,
            snd_wnd,
            scale: negotiated.peer_scale,
            mss: path.size().mss(),
            buffer_size: options.send_buffer_size,
        };
        let mut snd = Sender::new(now, snd, config, pool);
        snd.tune(path.cwnd());
        let rcv = ReceiverSetup {
            rcv_nxt,
            scale: negotiated.our_scale,
            offered,
            sack: negotiated.sack,
            advertised_mss: negotiated.advertised_mss,
            buffer_size: options.recv_buffer_size,
            clamp: options.window_clamp,
            rtt,
        };
        let mut connection = Box::new(Self {
            state: State::Established,
            config: Arc::clone(config),
            options: options.clone(),
            snd,
            rcv: Receiver::new(now, rcv, config),
            recovery: Recovery::new(negotiated.sack, snd_una),
            path,
            timers: Timers::default(),
            ts: negotiated.ts,
            ecn,
            liveness: Liveness::new(now),
            outcome: Outcome::new(),
            user: User::default(),
            counters: Counters::new(now),
            passive: None,
            fast_open,
        });
        connection.arm_keepalive(now);
        connection
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }

    /// The earliest time at which [`Connection::on_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        // Asked for after every segment: a deadline that never comes needs no branch.
        let never = Instant::FAR_FUTURE;
        let ack = match self.rcv.ack_due() {
            Due::At(at) => at,
            _ => never,
        };
        let others = [self.recovery.reorder_deadline(), self.path.deadline(), self.syn_ack_deadline()];
        let first =
            others.iter().fold(self.timers.next().min(ack), |first, at| first.min(at.unwrap_or(never)));
        (first != never).then_some(first)
    }

    /// The timer that is due first, and when. Delayed acknowledgments and pacing are not counted.
    pub fn next_timer(&self) -> Option<(TimerKind, Instant)> {
        let reorder = self.recovery.reorder_deadline().map(|at| (TimerKind::Reorder, at));
        let syn_ack = self.syn_ack_deadline().map(|at| (TimerKind::Handshake, at));
        self.timers.first().into_iter().chain(reorder).chain(syn_ack).min_by_key(|(_, at)| *at)
    }

    /// What happened since the last call. To be asked after [`Connection::poll_transmit`].
    pub fn take_events(&mut self) -> Events {
        self.follow_room();
        self.outcome.take_events()
    }

    /// How much of the connection the stack still needs, once what is left to send has been sent.
    pub fn completion(&self) -> Completion {
        self.outcome.completion()
    }

    /// Whether no user holds the connection.
    pub fn is_orphan(&self) -> bool {
        self.user.orphan
    }

    /// Whether the connection waits for the third segment of its handshake.
    fn is_opening(&self) -> bool {
        self.passive.as_ref().is_some_and(|passive| passive.is_open())
    }

    /// When the SYN-ACK must be sent again. Not once the connection is over, even if its reset waits for a
    /// full device.
    fn syn_ack_deadline(&self) -> Option<Instant> {
        self.passive.as_ref().filter(|_| self.state != State::Closed)?.deadline()
    }

    /// `TCP_NOTSENT_LOWAT` as it counts, in bytes.
    fn notsent_lowat(&self) -> usize {
        self.options.notsent_lowat.unwrap_or(self.config.notsent_lowat).min(self.snd.unsent_share())
    }

    /// Sends a challenge ACK, at most one in each interval (RFC 5961 §7; Linux's limit per socket,
    /// which unlike a global one reveals nothing to an attacker).
    fn challenge(&mut self, now: Instant, seg: &Segment) {
        if let Some(passive) = self.passive.as_mut().filter(|passive| passive.is_open())
            && seg.is_syn()
            && !seg.is_ack()
        {
            if passive.on_syn(now, seg, &self.config) == SecondSyn::Contradiction {
                let reason = ResetReason::TcpInvalidSyn;
                self.outcome.set_reset(Reset::answer(seg, reason));
                self.enter_closed(EndReason::by_reset(reason), Some(TcpError::Reset));
            }
            return;
        }
        if seg.payload_len > 0 && !seg.is_syn() && !seg.is_rst() {
            // An answer to data is an ordinary acknowledgment.
            self.rcv.acknowledge_alone();
            return;
        }
        self.rcv.challenge(now, self.config.challenge_ack_interval);
        if let Some(ecn) = &mut self.ecn
            && ecn.repeats_syn_ack(seg)
            && self.rcv.ack_is_urgent()
        {
            ecn.on_syn_ack(seg);
        }
    }

    /// Chance for congestion control, at this moment.
    fn seed(&self) -> u64 {
        seed(self.snd.una(), self.rcv.nxt())
    }
}

/// Chance for congestion control. The numbers that both ends chose at random are all that is needed:
/// two connections seldom have the same, and nobody gains by guessing when a probe begins.
fn seed(una: Seq, rcv_nxt: Seq) -> u64 {
    (u64::from(una.wire().raw()) << 32) | u64::from(rcv_nxt.wire().raw())
}
