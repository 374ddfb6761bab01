//! The events of a scene: packets that left and arrived, socket calls, and remarks. Also which
//! packets the wire loses.

use super::Side;
use super::connections::Ends;
use netstack::sync::{Mutex, Rank};
use netstack::wire::{Segment, parse_ip, parse_tcp, protocol};
use std::time::Duration;
use tokio::time::Instant;

/// A socket call that took no longer than this, and that was not completed by a packet, is shown in
/// one row with its result.
const AT_ONCE: Duration = Duration::from_millis(1);

/// An event. Events are in the order in which they happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// The packet of this number left its host.
    Departs(usize),
    /// It reached the other one.
    Arrives(usize),
    /// A socket call, or the result of one.
    Call { by: Caller, text: String },
    /// A remark that belongs to the wire.
    Note(String),
}

/// Who makes a socket call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) side: Side,
    /// The lifeline: that of the side, or the third.
    pub(super) line: usize,
    /// The ends of the connection that the call is about.
    pub(super) ends: Option<Ends>,
    /// Of the connections with these ends it is the latest that was there after so many events.
    pub(super) as_of: usize,
}

/// A packet that went on the wire.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) from: Side,
    pub(super) bytes: Vec<u8>,
    pub(super) sent: Duration,
    pub(super) arrived: Option<Duration>,
    /// The wire lost it.
    pub(super) lost: bool,
    /// No host sent it: the experiment put it on the wire.
    pub(super) forged: bool,
}

/// The fate of a packet that leaves a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is delivered. The number is for [`Recording::undo`].
    Passes(usize),
    /// It is lost.
    Lost,
}

/// Which segments to lose.
pub(super) type Matches = Box<dyn Fn(&Segment) -> bool + Send>;

struct Rule {
    from: Side,
    /// The number of packets that it still loses.
    left: usize,
    matches: Matches,
}

#[derive(Default)]
struct State {
    events: Vec<(Duration, Event)>,
    packets: Vec<Packet>,
    /// Packets as the host whose traffic is captured saw them.
    captured: Vec<usize>,
    rules: Vec<Rule>,
    /// The wire carries nothing.
    down: bool,
    /// Hosts that have no power.
    off: [bool; 2],
    /// The scene is over.
    cut: bool,
}

/// The recording of one scene. Times are those of the runtime's clock since the scene began.
pub(super) struct Recording {
    origin: Instant,
    state: Mutex<State>,
}

/// Everything that was recorded.
pub(super) struct Recorded {
    pub(super) events: Vec<(Duration, Event)>,
    pub(super) packets: Vec<Packet>,
    pub(super) captured: Vec<usize>,
}

impl Recording {
    /// Begins now.
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), state: Mutex::new(Rank::Leaf, State::default()) }
    }

    /// Time since the beginning.
    pub(super) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// A packet leaves `from`, unless the wire loses it.
    pub(super) fn departs(&self, from: Side, bytes: &[u8], captured: bool) -> Verdict {
        let now = self.now();
        let mut state = self.state.lock();
        let lost = state.down || state.off[from.other().index()] || state.rule_matches(from, bytes);
        let number =
            state.add(Packet { from, bytes: bytes.to_vec(), sent: now, arrived: None, lost, forged: false });
        state.events.push((now, Event::Departs(number)));
        if captured {
            state.captured.push(number);
        }
        if lost { Verdict::Lost } else { Verdict::Passes(number) }
    }

    /// The packet did not leave after all, because the device is full.
    pub(super) fn undo(&self, number: usize) {
        let mut state = self.state.lock();
        state.events.retain(|(_, event)| !matches!(event, Event::Departs(n) if *n == number));
        state.captured.retain(|n| *n != number);
        // Its number remains in use, and must not be treated as that of a packet in flight.
        state.packets[number].lost = true;
    }

    /// The experiment puts a packet on the wire, as if `from` had sent it.
    pub(super) fn forged(&self, from: Side, bytes: &[u8]) {
        let now = self.now();
        let mut state = self.state.lock();
        let packet =
            Packet { from, bytes: bytes.to_vec(), sent: now, arrived: None, lost: false, forged: true };
        let number = state.add(packet);
        state.events.push((now, Event::Departs(number)));
    }

    /// A packet reaches `at`.
    pub(super) fn arrives(&self, at: Side, bytes: &[u8], captured: bool) {
        let now = self.now();
        let mut state = self.state.lock();
        let under_way = |packet: &Packet| {
            packet.from == at.other() && !packet.lost && packet.arrived.is_none() && packet.bytes == bytes
        };
        // A packet that never left was sent before the recording began.
        let Some(number) = state.packets.iter().position(under_way) else { return };
        state.packets[number].arrived = Some(now);
        state.events.push((now, Event::Arrives(number)));
        if captured {
            state.captured.push(number);
        }
    }

    /// A socket call begins. The number is for [`Recording::returned`].
    pub(super) fn call(&self, side: Side, line: usize, ends: Option<Ends>, text: String) -> usize {
        let now = self.now();
        let mut state = self.state.lock();
        if state.cut {
            // No event has this number.
            return usize::MAX;
        }
        let by = Caller { side, line, ends, as_of: state.events.len() };
        state.events.push((now, Event::Call { by, text }));
        state.events.len() - 1
    }

    /// The call `number` returned `result`, which is shown with the call if it returned at once, and
    /// with a connection with the ends `made` if it made one.
    pub(super) fn returned(&self, number: usize, result: &str, made: Option<Ends>) {
        let now = self.now();
        let mut state = self.state.lock();
        if state.cut {
            return;
        }
        let State { events, packets, .. } = &mut *state;
        let Some((begun, since)) = events.split_at_mut_checked(number.saturating_add(1)) else { return };
        let Some((began, Event::Call { by, text })) = begun.last_mut() else { return };
        by.as_of = number + 1 + since.len();
        by.ends = made.or(by.ends);
        let by = *by;
        let arrival = |event: &(_, _)| matches!(event, (_, Event::Arrives(n)) if packets[*n].from != by.side);
        let whole = if result.is_empty() { text.clone() } else { format!("{text} = {result}") };
        if now - *began < AT_ONCE && !since.iter().any(arrival) {
            *text = whole;
        } else {
            text.push_str(" …");
            state.events.push((now, Event::Call { by, text: whole }));
        }
    }

    /// A remark.
    pub(super) fn note(&self, text: impl Into<String>) {
        let now = self.now();
        self.state.lock().events.push((now, Event::Note(text.into())));
    }

    /// Makes the wire lose the next `count` segments from `from` that match.
    pub(super) fn lose(&self, from: Side, count: usize, matches: Matches) {
        self.state.lock().rules.push(Rule { from, left: count, matches });
    }

    /// Begins or ends an outage.
    pub(super) fn set_down(&self, down: bool) {
        self.state.lock().down = down;
    }

    /// Switches the power of a host off or on.
    pub(super) fn set_off(&self, side: Side, off: bool) {
        self.state.lock().off[side.index()] = off;
    }

    /// Ends the recording.
    pub(super) fn cut(&self) {
        self.state.lock().cut = true;
    }

    /// Whether the scene is over.
    pub(super) fn is_cut(&self) -> bool {
        self.state.lock().cut
    }

    /// All of it so far.
    pub(super) fn recorded(&self) -> Recorded {
        let state = self.state.lock();
        let State { events, packets, captured, .. } = &*state;
        Recorded { events: events.clone(), packets: packets.clone(), captured: captured.clone() }
    }
}

impl State {
    fn add(&mut self, packet: Packet) -> usize {
        self.packets.push(packet);
        self.packets.len() - 1
    }

    fn rule_matches(&mut self, from: Side, bytes: &[u8]) -> bool {
        let Some(segment) = tcp_of(bytes) else { return false };
        for rule in &mut self.rules {
            if rule.left > 0 && rule.from == from && (rule.matches)(&segment) {
                rule.left -= 1;
                return true;
            }
        }
        false
    }
}

/// The TCP header in a packet, if there is one.
fn tcp_of(packet: &[u8]) -> Option<Segment> {
    let ip = parse_ip(packet).ok()?;
    let is_tcp = ip.protocol == protocol::TCP && ip.fragment.is_none();
    is_tcp.then(|| parse_tcp(&packet[ip.payload]).ok()).flatten().map(|(segment, _)| segment)
}
