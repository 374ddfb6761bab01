//! The eleven states of RFC 9293 §3.3.2, and the one table of transitions between them.

use std::fmt;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// No connection.
    Closed,
    /// A listener, waiting for a SYN.
    Listen,
    /// A SYN was sent.
    SynSent,
    /// A SYN was received and answered, and the answer was not acknowledged yet.
    SynReceived,
    /// Data flows both ways.
    Established,
    /// Our FIN was sent (or waits behind data), and is not acknowledged yet.
    FinWait1,
    /// Our FIN was acknowledged; the peer may still send.
    FinWait2,
    /// The peer's FIN was received; this side may still send.
    CloseWait,
    /// The FINs of both sides crossed; that of this side was not acknowledged yet.
    Closing,
    /// The peer closed first, then this side, whose FIN was not acknowledged yet.
    LastAck,
    /// Both sides closed, this side first; old segments expire.
    TimeWait,
}

/// The inputs that change the state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// The user listens.
    PassiveOpen,
    /// The user connects; a SYN is sent.
    ActiveOpen,
    /// A SYN without an acceptable ACK arrived.
    Syn,
    /// A SYN with an acceptable ACK arrived.
    SynAck,
    /// Our SYN was acknowledged.
    AckOfSyn,
    /// The user closes, or shuts down writing; a FIN is queued.
    Close,
    /// The peer's FIN was reached in order.
    Fin,
    /// Our FIN was acknowledged.
    AckOfFin,
    /// A reset, an abort, or a timeout that ends the connection.
    Abort,
    /// The 2 MSL of TIME-WAIT are over.
    TimeWaitOver,
}

use Input as I;
use State as S;

/// All transitions; [`State::next`] looks them up here.
const TRANSITIONS: &[(State, Input, State)] = &[
    (S::Closed, I::PassiveOpen, S::Listen),
    (S::Closed, I::ActiveOpen, S::SynSent),
    (S::Listen, I::Syn, S::SynReceived),
    (S::Listen, I::Close, S::Closed),
    (S::SynSent, I::Syn, S::SynReceived),
    (S::SynSent, I::SynAck, S::Established),
    (S::SynSent, I::Close, S::Closed),
    (S::SynReceived, I::AckOfSyn, S::Established),
    (S::SynReceived, I::Close, S::FinWait1),
    (S::Established, I::Close, S::FinWait1),
    (S::Established, I::Fin, S::CloseWait),
    (S::FinWait1, I::AckOfFin, S::FinWait2),
    (S::FinWait1, I::Fin, S::Closing),
    (S::FinWait2, I::Fin, S::TimeWait),
    (S::CloseWait, I::Close, S::LastAck),
    (S::Closing, I::AckOfFin, S::TimeWait),
    (S::LastAck, I::AckOfFin, S::Closed),
    (S::TimeWait, I::TimeWaitOver, S::Closed),
];

impl State {
    /// All states, in the order of RFC 9293.
    pub const ALL: [Self; 11] = [
        Self::Closed,
        Self::Listen,
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait1,
        Self::FinWait2,
        Self::CloseWait,
        Self::Closing,
        Self::LastAck,
        Self::TimeWait,
    ];

    /// The state that `input` leads to, or none if it changes nothing here.
    pub fn next(self, input: Input) -> Option<Self> {
        if input == I::Abort {
            return (self != Self::Closed).then_some(Self::Closed);
        }
        TRANSITIONS.iter().find(|(from, on, _)| (*from, *on) == (self, input)).map(|(_, _, to)| *to)
    }

    /// Whether both sides know each other's sequence numbers (RFC 9293 §3.10.7.4).
    pub fn is_synchronized(self) -> bool {
        !matches!(self, Self::Closed | Self::Listen | Self::SynSent | Self::SynReceived)
    }

    /// Whether the peer may still send data: it has not sent FIN, or not all before it has arrived. In
    /// SYN-RECEIVED only connections that Fast Open made have a user.
    pub fn can_receive(self) -> bool {
        matches!(self, Self::SynReceived | Self::Established | Self::FinWait1 | Self::FinWait2)
    }

    /// Whether the user may still queue data to send.
    pub fn can_send(self) -> bool {
        matches!(self, Self::SynReceived | Self::Established | Self::CloseWait)
    }

    /// Whether our FIN was queued or sent and is not acknowledged.
    pub fn fin_outstanding(self) -> bool {
        matches!(self, Self::FinWait1 | Self::Closing | Self::LastAck)
    }

    /// The name as in RFC 9293 and `ss`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "CLOSED",
            Self::Listen => "LISTEN",
            Self::SynSent => "SYN-SENT",
            Self::SynReceived => "SYN-RECEIVED",
            Self::Established => "ESTABLISHED",
            Self::FinWait1 => "FIN-WAIT-1",
            Self::FinWait2 => "FIN-WAIT-2",
            Self::CloseWait => "CLOSE-WAIT",
            Self::Closing => "CLOSING",
            Self::LastAck => "LAST-ACK",
            Self::TimeWait => "TIME-WAIT",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The table as lines of text, one state each; the module's documentation holds them.
#[cfg(test)]
fn diagram() -> String {
    let mut text = String::new();
    for from in State::ALL {
        let arrows: Vec<_> = TRANSITIONS
            .iter()
            .filter(|(state, _, _)| *state == from)
            .map(|(_, on, to)| format!("{on:?} -> {to}"))
            .collect();
        text.push_str(&format!("{:<13} {}\n", from.name(), arrows.join(", ")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_diagram_is_the_table() {
        let docs: String = include_str!("mod.rs")
            .lines()
            .skip_while(|line| *line != "//! ```text")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| format!("{}\n", line.trim_start_matches("//! ")))
            .collect();
        assert_eq!(docs, diagram(), "the diagram in tcp/mod.rs is out of date");
    }

    #[test]
    fn every_state_can_be_reached_and_left() {
        for state in State::ALL {
            if state != S::Closed {
                assert!(TRANSITIONS.iter().any(|t| t.2 == state), "{state} is never entered");
                assert_eq!(state.next(I::Abort), Some(S::Closed));
            }
        }
        assert_eq!(S::Closed.next(I::Abort), None);
    }

    #[test]
    fn no_state_has_two_ways_for_one_input() {
        for (i, a) in TRANSITIONS.iter().enumerate() {
            for b in &TRANSITIONS[i + 1..] {
                assert!((a.0, a.1) != (b.0, b.1), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn closes_cross() {
        let path = |from: State, inputs: &[Input]| inputs.iter().try_fold(from, |s, i| s.next(*i));
        assert_eq!(path(S::Established, &[I::Close, I::AckOfFin, I::Fin]), Some(S::TimeWait));
        assert_eq!(path(S::Established, &[I::Close, I::Fin, I::AckOfFin]), Some(S::TimeWait));
        assert_eq!(path(S::Established, &[I::Fin, I::Close, I::AckOfFin]), Some(S::Closed));
        assert_eq!(path(S::CloseWait, &[I::Fin]), None, "a second FIN changes nothing");
    }
}
