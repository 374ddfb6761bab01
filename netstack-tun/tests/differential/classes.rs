//! The differences that are known: each with the rule that permits it, and a script that shows it.
//!
//! CONFORMANCE.md lists them by the same names.

use crate::compare::{Answer, Difference, Place, TcpAnswer, Trace};
use crate::peer::States;
use crate::script::{AckAnchor, Odd, Piece, Script, SeqAnchor, Stamp};
use crate::segment::{ACK, CWR, ECE, FIN, RST, SYN, URG};
use crate::system::Settings;

/// The kind of the option of RFC 2385.
const MD5: u8 = 19;

/// A script on which the two differ.
pub(crate) struct Case<'a> {
    pub(crate) script: &'a Script,
    pub(crate) difference: &'a Difference,
    pub(crate) kernel: &'a Trace,
    pub(crate) ours: &'a Trace,
}

/// A class of differences.
pub(crate) struct Class {
    /// A name in words.
    pub(crate) name: &'static str,
    /// What Linux or an RFC says of it.
    pub(crate) rule: &'static str,
    /// Whether a case is of this class.
    pub(crate) holds: fn(&Case<'_>) -> bool,
    /// A script that shows it.
    pub(crate) example: fn() -> Script,
}

impl Case<'_> {
    /// The segments up to the one whose answers differ, with their places; the last of them is that one. All,
    /// if the difference shows later.
    fn until(&self) -> impl DoubleEndedIterator<Item = (&Odd, &Place)> {
        let count = match self.difference {
            Difference::Step(step) => step + 1,
            Difference::Socket | Difference::After => self.script.odd.len(),
        };
        self.script.odd.iter().zip(&self.kernel.places).take(count)
    }

    /// Whether the answers that differ are the same but for what they SACK.
    fn differs_in_sack_only(&self) -> bool {
        self.differs_in_options_only("sack ")
    }

    /// Whether the answers that differ are the same but for options whose text begins so.
    fn differs_in_options_only(&self, begin: &str) -> bool {
        let &Difference::Step(step) = self.difference else { return false };
        let without = |answers: &[Answer]| {
            let mut answers = answers.to_vec();
            for answer in &mut answers {
                if let Answer::Tcp(answer) = answer {
                    answer.options.retain(|option| option != "nop" && !option.starts_with(begin));
                }
            }
            answers
        };
        without(&self.kernel.steps[step]) == without(&self.ours.steps[step])
    }

    /// The segment whose answers differ, and the answers of both; none if that is the last probe.
    fn step(&self) -> Option<(&Odd, &Place, &[Answer], &[Answer])> {
        let &Difference::Step(step) = self.difference else { return None };
        let odd = self.script.odd.get(step)?;
        Some((odd, &self.kernel.places[step], &self.kernel.steps[step], &self.ours.steps[step]))
    }
}

/// The one segment of an answer.
fn only(answers: &[Answer]) -> Option<&TcpAnswer> {
    match answers {
        [Answer::Tcp(answer)] => Some(answer),
        _ => None,
    }
}

fn is(answers: &[Answer], flags: u16) -> bool {
    only(answers).is_some_and(|answer| answer.flags == flags)
}

/// One acknowledgment and nothing else.
fn is_ack(answers: &[Answer]) -> bool {
    only(answers).is_some_and(|answer| answer.flags & !ECE == ACK)
}

/// The answers without ECE.
fn without_echo(answers: &[Answer]) -> Vec<Answer> {
    let mut answers = answers.to_vec();
    for answer in &mut answers {
        if let Answer::Tcp(answer) = answer {
            answer.flags &= !ECE;
        }
    }
    answers
}

/// A script with all options, on IPv4, without ECN.
fn script<const N: usize>(state: States, odd: [Odd; N]) -> Script {
    let settings = Settings {
        ipv6: false,
        timestamps: true,
        sack: true,
        window_scaling: true,
        ecn: 2,
        cookies: false,
        limited: false,
        receive_buffer: (state == States::ClosedWindow).then_some(4096),
    };
    Script { settings, state, odd: odd.to_vec() }
}

/// All classes.
pub(crate) const CLASSES: &[Class] = &[
    Class {
        name: "a TCP-MD5 option that nobody asked for is skipped",
        rule: "RFC 9293 MUST-6; Linux with CONFIG_TCP_MD5SIG drops the segment (tcp_inbound_md5_hash, \
               TCPMD5Unexpected)",
        holds: |case| {
            let is_md5 = |piece: &Piece| matches!(piece, Piece::Raw(bytes) if bytes.first() == Some(&MD5));
            case.until().any(|(odd, _)| odd.pieces.iter().any(is_md5))
        },
        example: || {
            let mut option = vec![0; 18];
            option[..2].copy_from_slice(&[MD5, 18]);
            let odd =
                Odd { len: 10, pieces: vec![Piece::Raw(option)], stamp: Stamp::Missing, ..Odd::new(ACK) };
            script(States::Established, [odd])
        },
    },
    Class {
        name: "the urgent byte stays in the stream",
        rule: "RFC 6093 §6; Linux takes it out (tcp_check_urg, tcp_urg in net/ipv4/tcp_input.c)",
        holds: |case| {
            // Reading stops at the mark, too.
            let urgent = case.until().any(|(odd, _)| odd.flags & URG != 0);
            *case.difference != Difference::After && urgent && case.step().is_none() && {
                let data =
                    |trace: &Trace| trace.observation.socket.as_ref().map(|socket| socket.data.clone());
                data(case.kernel)
                    .zip(data(case.ours))
                    .is_some_and(|(kernel, ours)| kernel.len() < ours.len() && is_within(&kernel, &ours))
            }
        },
        example: || script(States::Established, [Odd { len: 10, urgent: 2, ..Odd::new(ACK | URG) }]),
    },
    Class {
        name: "the first copy of a byte wins",
        rule: "nobody changes what was received by sending it again; Linux takes text in order whole, and drops what it \
               had queued of it (tcp_data_queue, tcp_ofo_queue)",
        holds: |case| {
            let data = |trace: &Trace| trace.observation.socket.as_ref().map(|socket| socket.data.clone());
            *case.difference == Difference::Socket
                && case.until().any(|(odd, _)| odd.forged)
                && data(case.kernel)
                    .zip(data(case.ours))
                    .is_some_and(|(kernel, ours)| kernel != ours && kernel.len() == ours.len())
        },
        example: || script(States::Early, [Odd { len: 1000, forged: true, ..Odd::new(ACK) }]),
    },
    Class {
        name: "text beyond the window is cut off",
        rule: "RFC 9293 §3.10.7.4 trims to the window; Linux takes a segment that begins in the window whole, or \
               refuses it whole while something is unread (tcp_sequence, TCP_INVALID_END_SEQUENCE)",
        holds: |case| {
            case.until().any(|(odd, place)| {
                odd.flags & RST == 0
                    && odd.flags & ACK != 0
                    && place.seq <= place.window
                    && place.end > place.window
            })
        },
        example: || {
            script(States::Established, [Odd { seq: (SeqAnchor::WindowEnd, -1), len: 300, ..Odd::new(ACK) }])
        },
    },
    Class {
        name: "a reset counts by its own place, whatever it carries",
        rule: "RFC 9293 §3.10.7.4: valid resets are accepted even at a zero window; Linux refuses the segment for \
               text that reaches beyond the window while something is unread (tcp_sequence)",
        holds: |case| {
            case.until().any(|(odd, place)| {
                odd.flags & RST != 0 && place.seq <= place.window && place.end > place.window
            })
        },
        example: || script(States::ClosedWindow, [Odd { len: 2, ..Odd::new(RST) }]),
    },
    Class {
        name: "broken options do not take their segment with them",
        rule: "RFC 9293 MUST-7; Linux with CONFIG_TCP_MD5SIG drops it (tcp_do_parse_auth_options)",
        holds: |case| case.until().any(|(_, place)| place.broken_options),
        example: || {
            let broken = Piece::Raw(vec![30, 200, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
            let odd = Odd { len: 10, pieces: vec![broken], stamp: Stamp::Missing, ..Odd::new(ACK) };
            script(States::Established, [odd])
        },
    },
    Class {
        name: "a FIN is acknowledged sooner or later",
        rule: "RFC 9293 §3.8.6.3 allows to delay it; in Linux a FIN ends quick mode, also for its text (tcp_fin), \
               and what comes next or has CWR may hurry it (__tcp_ack_snd_check)",
        holds: |case| {
            let fin = |(odd, place): (&Odd, &Place)| odd.flags & FIN != 0 && place.seq <= 0 && place.end > 0;
            case.until().any(fin)
                && case.step().is_some_and(|(_, _, kernel, ours)| {
                    (kernel.is_empty() && is_ack(ours)) || (is_ack(kernel) && ours.is_empty())
                })
        },
        example: || script(States::Established, [Odd { len: 10, ..Odd::new(ACK | FIN) }]),
    },
    Class {
        name: "what overlaps a FIN is reported",
        rule: "RFC 2883 §4; Linux forgets all blocks at a FIN in order (tcp_fin), and reports a FIN that lay inside of \
               the text (tcp_ofo_queue)",
        holds: |case| {
            case.until().any(|(odd, _)| odd.flags & (FIN | SYN) == FIN) && case.differs_in_sack_only()
        },
        example: || script(States::Early, [Odd { len: 3000, ..Odd::new(ACK | FIN) }]),
    },
    Class {
        name: "a half-open connection is not ended by what may be forged",
        rule: "RFC 5961 §3.2, §4.2: RST and SYN elsewhere in the window are challenged; Linux drops the entry \
               (embryonic_reset in tcp_check_req)",
        holds: |case| {
            let half_open =
                matches!(case.script.state, States::Listen | States::SynReceived | States::TimeWait);
            half_open
                && case.step().is_some_and(|(odd, place, _, ours)| {
                    odd.flags & (RST | SYN) != 0 && place.seq > -2 && is(ours, ACK)
                })
        },
        example: || script(States::SynReceived, [Odd { seq: (SeqAnchor::Nxt, 5), ..Odd::new(SYN) }]),
    },
    Class {
        name: "a cookie is of one sequence number",
        rule: "RFC 4987 §3.6; Linux adds the number to the cookie, and one nearby gives another MSS \
               (check_tcp_syn_cookie)",
        holds: |case| {
            case.script.settings.cookies
                && case
                    .step()
                    .is_some_and(|(_, place, _, ours)| (-4..=4).contains(&place.seq) && is(ours, RST))
        },
        example: || {
            let mut script =
                script(States::SynReceived, [Odd { seq: (SeqAnchor::Nxt, -1), ..Odd::new(ACK) }]);
            script.settings.cookies = true;
            script
        },
    },
    Class {
        name: "an acknowledgment must acknowledge the SYN that crossed the peer's",
        rule: "RFC 9293 §3.10.7.4, SYN-RECEIVED: SND.UNA < SEG.ACK; Linux takes SEG.ACK = ISS (tcp_ack, \
               tcp_rcv_state_process)",
        holds: |case| {
            case.script.state == States::SimultaneousOpen
                && case.until().any(|(odd, place)| odd.flags & ACK != 0 && place.una == -1)
        },
        example: || {
            script(States::SimultaneousOpen, [Odd { ack: (AckAnchor::Iss, 0), len: 10, ..Odd::new(ACK) }])
        },
    },
    Class {
        name: "a SYN that crossed and comes again gets the SYN-ACK again",
        rule: "RFC 9293 §3.5: it shows that the SYN-ACK was lost; Linux sends a challenge ACK \
               (tcp_validate_incoming)",
        holds: |case| {
            case.script.state == States::SimultaneousOpen
                && case.step().is_some_and(|(odd, place, kernel, ours)| {
                    odd.flags & SYN != 0 && place.seq == -1 && is(kernel, ACK) && is(ours, SYN | ACK)
                })
        },
        example: || script(States::SimultaneousOpen, [Odd { seq: (SeqAnchor::Irs, 0), ..Odd::new(SYN) }]),
    },
    Class {
        name: "text that goes on after the FIN is ignored",
        rule: "RFC 9293 §3.10.7.4, CLOSE-WAIT, CLOSING, LAST-ACK; Linux resets the connection for a segment that \
               begins before the FIN and ends behind it (tcp_rcv_state_process)",
        holds: |case| {
            let closed = matches!(
                case.script.state,
                States::CloseWait | States::CloseWaitUnread | States::Closing | States::LastAck
            );
            closed
                && case.step().is_some_and(|(odd, place, kernel, _)| {
                    let fin = i32::from(odd.flags & FIN != 0);
                    place.seq < 0 && place.end - fin > 0 && is(kernel, RST)
                })
        },
        example: || script(States::CloseWait, [Odd { seq: (SeqAnchor::Nxt, -1), len: 10, ..Odd::new(ACK) }]),
    },
    Class {
        name: "marks and CWR are seen whatever becomes of their segment",
        rule: "RFC 3168 §6.1.3: a CE packet is echoed; Linux looks where it takes the text (tcp_data_queue)",
        holds: |case| {
            let marked = |(odd, _): (&Odd, &Place)| odd.ecn == 3 || odd.flags & CWR != 0;
            case.until().any(marked)
                && match *case.difference {
                    Difference::Step(step) => {
                        let (kernel, ours) = (&case.kernel.steps[step], &case.ours.steps[step]);
                        without_echo(kernel) == without_echo(ours) || (kernel.is_empty() && is_ack(ours))
                    }
                    Difference::Socket | Difference::After => false,
                }
        },
        example: || {
            let odd = Odd { ack: (AckAnchor::Nxt, 0x8000), len: 100, ecn: 3, ..Odd::new(ACK) };
            script(States::Established, [odd])
        },
    },
    Class {
        name: "the SYN-ACK of crossed SYNs offers what the peer's SYN did",
        rule: "RFC 7323 §2.2, §3.2, RFC 2018 §2; Linux repeats what its own SYN offered (tcp_send_synack)",
        holds: |case| {
            case.script.state == States::SynSent
                && case
                    .step()
                    .is_some_and(|(_, _, kernel, ours)| is(kernel, SYN | ACK) && is(ours, SYN | ACK))
        },
        example: || script(States::SynSent, [Odd::new(SYN)]),
    },
    Class {
        name: "the time that is echoed moves with acceptable acknowledgments only",
        rule: "RFC 7323 §4.3; Linux stores it first where it predicts the header (tcp_rcv_established)",
        holds: |case| {
            case.until().any(|(odd, place)| odd.flags & ACK != 0 && place.seq == 0 && place.una < 0)
                && case.differs_in_options_only("ts ")
        },
        example: || {
            let odd = Odd { ack: (AckAnchor::Iss, 0), window: 0, ..Odd::new(ACK) };
            script(States::PeerClosedWindow, [odd])
        },
    },
    Class {
        name: "duplicates are reported once the connection stands",
        rule: "RFC 2883 §4 is about data in a connection; Linux reports them in SYN-RECEIVED of crossed SYNs too \
               (tcp_send_dupack)",
        holds: |case| case.script.state == States::SimultaneousOpen && case.differs_in_sack_only(),
        example: || {
            let odd =
                Odd { seq: (SeqAnchor::Nxt, -1000), ack: (AckAnchor::Una, -10), len: 10, ..Odd::new(ACK) };
            script(States::SimultaneousOpen, [odd])
        },
    },
    Class {
        name: "there is one FIN",
        rule: "RFC 9293 §3.10.7.4, eighth: after the peer's FIN another changes nothing; Linux takes one behind \
               text from before it (tcp_data_queue)",
        holds: |case| {
            case.until().any(|(odd, place)| odd.flags & FIN != 0 && place.seq < 0 && place.end == 1)
                && matches!(
                    case.script.state,
                    States::CloseWait | States::CloseWaitUnread | States::Closing | States::LastAck
                )
        },
        example: || {
            script(States::CloseWait, [Odd { seq: (SeqAnchor::Nxt, -10), len: 10, ..Odd::new(ACK | FIN) }])
        },
    },
    Class {
        name: "what the last acknowledgment carries is seen",
        rule: "RFC 9293 §3.10.7.4: old text and a repeated FIN are acknowledged; Linux goes from CLOSING to \
               TIME-WAIT and drops the rest (tcp_rcv_state_process)",
        holds: |case| {
            case.script.state == States::Closing
                && case.step().is_some_and(|(odd, place, kernel, ours)| {
                    let carries = odd.len > 0 || odd.flags & FIN != 0;
                    carries && place.nxt == 0 && kernel.is_empty() && is(ours, ACK)
                })
        },
        example: || {
            let odd = Odd { seq: (SeqAnchor::Nxt, -1), ack: (AckAnchor::Nxt, 0), ..Odd::new(ACK | FIN) };
            script(States::Closing, [odd])
        },
    },
];

/// Whether the bytes of `part` are in `whole` in their order.
fn is_within(part: &[u8], whole: &[u8]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|byte| whole.any(|other| other == byte))
}

/// The class of a case.
pub(crate) fn class_of(case: &Case<'_>) -> Option<&'static Class> {
    CLASSES.iter().find(|class| (class.holds)(case))
}
