//! Runs a script on a host, writes down what the host does in terms that are the same for every host, and
//! finds where two hosts part.

use crate::peer::{Peer, Phase, States};
use crate::script::{AckAnchor, Odd, Script, SeqAnchor};
use crate::segment::{ACK, Incoming, Names, Outgoing, PSH, RST, SYN, Segment};
use crate::system::{Call, Observation, System};
use std::fmt::{self, Write};
use std::time::Duration;

/// What a host did in a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// The answers to each segment.
    pub(crate) steps: Vec<Vec<Answer>>,
    /// Whether the listener had a connection at the end.
    pub(crate) accepted: bool,
    pub(crate) observation: Observation,
    /// What is sent after the application has read all.
    pub(crate) after: Vec<Answer>,
    /// How long it took, on the host's clock.
    pub(crate) took: Duration,
    /// Where each segment was when it came.
    pub(crate) places: Vec<Place>,
}

/// Where a segment is, for the host that it comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The first number, relative to RCV.NXT as the peer knows it.
    pub(crate) seq: i32,
    /// The number after the last.
    pub(crate) end: i32,
    /// The end of the window.
    pub(crate) window: i32,
    /// The acknowledgment, relative to SND.UNA.
    pub(crate) una: i32,
    /// The same, relative to SND.NXT.
    pub(crate) nxt: i32,
    /// Whether an option has a length that cannot be.
    pub(crate) broken_options: bool,
}

impl Place {
    fn of(segment: &Outgoing, phase: &Phase) -> Self {
        let to = |number: u32, base: u32| number.wrapping_sub(base).cast_signed();
        let end = segment.seq.wrapping_add(segment.len());
        Self {
            seq: to(segment.seq, phase.rcv_nxt),
            end: to(end, phase.rcv_nxt),
            window: to(phase.window_end, phase.rcv_nxt),
            una: to(segment.ack, phase.snd_una),
            nxt: to(segment.ack, phase.snd_nxt),
            broken_options: segment.has_broken_options(),
        }
    }
}

/// A sequence or acknowledgment number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    Zero,
    /// The host's new initial sequence number.
    Initial,
    /// Relative to where the two stood before the first odd segment.
    At(i32),
}

/// A packet of the host, without what may differ: initial numbers, clocks, the size of windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Tcp(TcpAnswer),
    Other(Vec<u8>),
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TcpAnswer {
    pub(crate) flags: u16,
    pub(crate) seq: Number,
    pub(crate) ack: Number,
    pub(crate) len: usize,
    /// Whether the payload is what the application wrote.
    pub(crate) sound: bool,
    pub(crate) window: Window,
    pub(crate) urgent: u16,
    pub(crate) options: Vec<String>,
    pub(crate) traffic_class: u8,
    pub(crate) hop_limit: u8,
    pub(crate) dont_fragment: bool,
}

/// The class of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Window {
    Closed,
    Open,
    /// As it is on the wire: on a reset there is one right value.
    Exact(u16),
}

impl Answer {
    fn of(packet: &Incoming, phase: &mut Phase) -> Self {
        let segment = match packet {
            Incoming::Tcp(segment) => segment,
            Incoming::Other(bytes) => return Self::Other(bytes.clone()),
        };
        let initial = segment.is(SYN) && segment.seq != phase.iss;
        let relative = |number: u32, base: u32| match number {
            0 => Number::Zero,
            _ => Number::At(phase.nominal(number).wrapping_sub(base).cast_signed()),
        };
        let options = segment.options.iter().map(|(kind, body)| option(*kind, body, phase)).collect();
        let host_base = phase.host_base;
        let first = segment.seq.wrapping_sub(phase.iss.wrapping_add(1));
        let sound = segment
            .payload
            .iter()
            .enumerate()
            .all(|(at, byte)| *byte == crate::system::written(first.wrapping_add(at as u32) as usize));
        Self::Tcp(TcpAnswer {
            flags: segment.flags,
            seq: if initial { Number::Initial } else { relative(segment.seq, host_base) },
            ack: relative(segment.ack, phase.peer_base),
            len: segment.payload.len(),
            sound,
            window: window(segment),
            urgent: segment.urgent,
            options,
            traffic_class: segment.ip.traffic_class,
            hop_limit: segment.ip.hop_limit,
            dont_fragment: segment.ip.dont_fragment,
        })
    }
}

fn window(segment: &Segment) -> Window {
    if segment.is(RST) {
        Window::Exact(segment.window)
    } else if segment.window == 0 {
        Window::Closed
    } else {
        Window::Open
    }
}

fn option(kind: u8, body: &[u8], phase: &Phase) -> String {
    let words: Vec<u32> = body.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word)).collect();
    match (kind, body.len()) {
        (0, _) => "eol".into(),
        (1, _) => "nop".into(),
        (2, 2) => format!("mss {}", u16::from_be_bytes([body[0], body[1]])),
        (3, 1) => format!("wscale {}", body[0]),
        (4, 0) => "sackOK".into(),
        (5, _) => {
            let edge = |word: &u32| phase.nominal(*word).wrapping_sub(phase.peer_base).cast_signed();
            format!("sack {:?}", words.iter().map(edge).collect::<Vec<_>>())
        }
        (8, 8) if words[1] == 0 => "ts ecr 0".into(),
        (8, 8) => format!("ts ecr {:+}", words[1].wrapping_sub(phase.clock).cast_signed()),
        _ => format!("{kind} {body:02x?}"),
    }
}

/// The segment that ends a script: an old byte, which is answered wherever somebody is there. A cookie takes a
/// sequence number nearby for its own: there it is the acknowledgment that completes the handshake.
pub(crate) fn last_probe(script: &Script) -> Odd {
    if script.settings.cookies {
        return Odd::new(ACK);
    }
    Odd { seq: (SeqAnchor::Nxt, -1), ack: (AckAnchor::Una, 0), len: 1, ..Odd::new(ACK | PSH) }
}

/// Runs a script on a host.
pub(crate) fn run(script: &Script, system: &mut dyn System) -> Trace {
    let mut peer = Peer::in_state(system, &script.settings, script.state);
    let (mut steps, mut places) = (Vec::new(), Vec::new());
    for odd in script.odd.iter().chain([&last_probe(script)]) {
        let segment = odd.resolve(&peer.phase);
        peer.phase.note_place(&segment, odd.seq.0);
        places.push(Place::of(&segment, &peer.phase));
        let packets = peer.try_out(&segment);
        steps.push(answers(&mut peer, &packets));
        peer.phase.clock += 10;
    }
    let listening = matches!(script.state, States::Listen | States::SynReceived | States::TimeWait);
    let accepted = listening && peer.system.call(Call::Accept).is_ok();
    let mut observation = peer.system.observe();
    if let Some(socket) = &mut observation.socket {
        // How much fills a buffer is not the same everywhere.
        let filled = peer.phase.filled;
        socket.unread = socket.unread.saturating_sub(filled);
        socket.data.drain(..filled.min(socket.data.len()));
    }
    let packets = peer.take_any();
    let after = answers(&mut peer, &packets);
    let took = peer.system.elapsed();
    clean_up(&mut peer);
    Trace { steps, accepted, observation, after, took, places }
}

fn answers(peer: &mut Peer<'_>, packets: &[Incoming]) -> Vec<Answer> {
    let each = packets.iter().map(|packet| {
        let answer = Answer::of(packet, &mut peer.phase);
        if let Incoming::Tcp(segment) = packet {
            peer.note(segment);
        }
        answer
    });
    each.collect()
}

/// Takes away what nobody would: an orphan repeats its FIN for minutes.
fn clean_up(peer: &mut Peer<'_>) {
    let reset = Odd { ack: (AckAnchor::Nxt, 0), ..Odd::new(RST | ACK) };
    let segment = reset.resolve(&peer.phase);
    peer.try_out(&segment);
}

/// Where two hosts part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    /// In the answers to a segment.
    Step(usize),
    /// In what the application finds.
    Socket,
    /// In what is sent after it has read.
    After,
}

/// The first difference.
pub(crate) fn difference(kernel: &Trace, ours: &Trace) -> Option<Difference> {
    if let Some(step) = kernel.steps.iter().zip(&ours.steps).position(|(kernel, ours)| kernel != ours) {
        return Some(Difference::Step(step));
    }
    if (kernel.accepted, &kernel.observation) != (ours.accepted, &ours.observation) {
        return Some(Difference::Socket);
    }
    (kernel.after != ours.after).then_some(Difference::After)
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("0"),
            Self::Initial => f.write_str("ISS"),
            Self::At(at) => write!(f, "{at:+}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = match self {
            Self::Tcp(answer) => answer,
            Self::Other(bytes) => return write!(f, "{bytes:02x?}"),
        };
        write!(f, "{} seq {} ack {}", Names(answer.flags), answer.seq, answer.ack)?;
        if answer.len > 0 {
            write!(f, " {}{} bytes", answer.len, if answer.sound { "" } else { " WRONG" })?;
        }
        write!(f, " win {:?}", answer.window)?;
        if answer.urgent != 0 {
            write!(f, " urg {}", answer.urgent)?;
        }
        let options: Vec<&str> =
            answer.options.iter().map(|option| &option[..]).filter(|o| *o != "nop").collect();
        if !options.is_empty() {
            write!(f, " <{}>", options.join(", "))?;
        }
        if answer.traffic_class != 0 {
            write!(f, " tos {}", answer.traffic_class)?;
        }
        if answer.hop_limit != 64 {
            write!(f, " ttl {}", answer.hop_limit)?;
        }
        f.write_str(if answer.dont_fragment { "" } else { " no DF" })
    }
}

/// Both hosts' answers to a script, side by side as far as they part.
pub(crate) fn ladder(script: &Script, kernel: &Trace, ours: &Trace) -> String {
    let mut text = format!("{script}\n");
    let last = last_probe(script);
    for (step, odd) in script.odd.iter().chain([&last]).enumerate() {
        writeln!(text, "  > {odd}").expect("strings take all");
        both(&mut text, &lines(&kernel.steps[step]), &lines(&ours.steps[step]));
    }
    let seen = |trace: &Trace| {
        let mut seen = format!("accepted {}, ", trace.accepted);
        match &trace.observation.socket {
            None => seen.push_str("no socket"),
            Some(socket) => {
                let (mut socket, len) = (socket.clone(), socket.data.len());
                socket.data.truncate(8);
                write!(seen, "{len} bytes {socket:?}").expect("strings take all");
            }
        }
        vec![seen]
    };
    both(&mut text, &seen(kernel), &seen(ours));
    if kernel.after != ours.after {
        text.push_str("  after reading:\n");
        both(&mut text, &lines(&kernel.after), &lines(&ours.after));
    }
    text
}

fn lines(answers: &[Answer]) -> Vec<String> {
    if answers.is_empty() { vec!["nothing".into()] } else { answers.iter().map(Answer::to_string).collect() }
}

fn both(text: &mut String, kernel: &[String], ours: &[String]) {
    if kernel == ours {
        kernel.iter().for_each(|line| writeln!(text, "      both:     {line}").expect("strings take all"));
        return;
    }
    kernel.iter().for_each(|line| writeln!(text, "      kernel:   {line}").expect("strings take all"));
    ours.iter().for_each(|line| writeln!(text, "      netstack: {line}").expect("strings take all"));
}
