//! Leaving out parts of a plan, to find out which of them a failure needs.

use super::{Door, Ending, FaultKind, PathPlan, Plan, Sockets};
use netstack::Config;
use std::fmt;
use std::str::FromStr;

/// Something that a plan can do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A talk, by its number.
    Talk(usize),
    /// A chat, by its number.
    Chat(usize),
    /// A fault, by its number.
    Fault(usize),
    /// A host with all that concerns it; it stays in the network and does nothing.
    Host(usize),
    /// The unusual settings of a host.
    Settings(usize),
    /// The limits of a host's device.
    Device(usize),
    /// All impairments of paths but their delay.
    Impairments,
    /// All but the first connection of a talk.
    Repetition(usize),
    /// What a talk's applications do unusually: slowness, cancellation, options.
    Habits(usize),
    /// Three quarters of the bytes of a talk, each time.
    Bytes(usize),
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Talk(n) => write!(f, "talk{n}"),
            Self::Chat(n) => write!(f, "chat{n}"),
            Self::Fault(n) => write!(f, "fault{n}"),
            Self::Host(n) => write!(f, "host{n}"),
            Self::Settings(n) => write!(f, "settings{n}"),
            Self::Device(n) => write!(f, "device{n}"),
            Self::Impairments => f.write_str("impairments"),
            Self::Repetition(n) => write!(f, "repetition{n}"),
            Self::Habits(n) => write!(f, "habits{n}"),
            Self::Bytes(n) => write!(f, "bytes{n}"),
        }
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let at = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
        let (name, number) = text.split_at(at);
        let number = || number.parse().map_err(|_| format!("`{text}` lacks a number"));
        Ok(match name {
            "talk" => Self::Talk(number()?),
            "chat" => Self::Chat(number()?),
            "fault" => Self::Fault(number()?),
            "host" => Self::Host(number()?),
            "settings" => Self::Settings(number()?),
            "device" => Self::Device(number()?),
            "impairments" => Self::Impairments,
            "repetition" => Self::Repetition(number()?),
            "habits" => Self::Habits(number()?),
            "bytes" => Self::Bytes(number()?),
            _ => return Err(format!("`{text}` is no part of a plan")),
        })
    }
}

/// What could be left out of a plan, the largest parts first.
pub(crate) fn parts(plan: &Plan) -> Vec<Part> {
    let hosts = || 0..plan.hosts.len();
    let talks = || plan.talks.iter().map(|talk| talk.number);
    let mut all: Vec<_> = hosts().map(Part::Host).collect();
    all.extend(talks().map(Part::Talk));
    all.extend(plan.chats.iter().map(|chat| Part::Chat(chat.number)));
    all.extend(plan.faults.iter().map(|fault| Part::Fault(fault.number)));
    all.push(Part::Impairments);
    all.extend(talks().map(Part::Repetition));
    all.extend(talks().map(Part::Habits));
    all.extend(hosts().map(Part::Device));
    all.extend(hosts().map(Part::Settings));
    all.extend(talks().flat_map(|talk| [Part::Bytes(talk); 4]));
    all
}

impl Plan {
    /// The plan without a part of it; none if that changes nothing.
    pub(crate) fn without(&self, part: Part) -> Option<Self> {
        let mut plan = self.clone();
        let changed = plan.leave_out(part);
        plan.without.push(part);
        changed.then_some(plan)
    }

    fn leave_out(&mut self, part: Part) -> bool {
        let talk = |plan: &Self, number| plan.talks.iter().position(|talk| talk.number == number);
        match part {
            Part::Talk(number) => retain(&mut self.talks, |talk| talk.number != number),
            Part::Chat(number) => retain(&mut self.chats, |chat| chat.number != number),
            Part::Fault(number) => retain(&mut self.faults, |fault| fault.number != number),
            Part::Host(host) => {
                let talks = retain(&mut self.talks, |talk| talk.client != host && talk.server != host);
                let about = |kind: &FaultKind| match *kind {
                    FaultKind::Outage { a, b } | FaultKind::Mtu { a, b, .. } => a == host || b == host,
                    FaultKind::Storm { from, to, .. } => from == host || to == host,
                    _ => kind.host() == Some(host),
                };
                let chats = retain(&mut self.chats, |chat| chat.client != host && chat.server != host);
                retain(&mut self.faults, |fault| !about(&fault.kind)) || talks || chats
            }
            Part::Settings(host) => {
                let Some(host) = self.hosts.get_mut(host) else { return false };
                let seed = host.config.seed;
                let plain = Config::default().with(|config| config.seed = seed);
                std::mem::replace(&mut host.config, plain.clone()) != plain
            }
            Part::Device(host) => {
                let Some(host) = self.hosts.get_mut(host) else { return false };
                let before = (host.ring, host.receive_ring, host.rate, host.ambush, host.mtu);
                (host.ring, host.receive_ring, host.rate, host.ambush, host.mtu) = (256, 1024, None, 0, 1500);
                before != (256, 1024, None, 0, 1500)
            }
            Part::Impairments => {
                let mut changed = false;
                for path in self.paths.iter_mut().flatten() {
                    let plain = PathPlan { delay: path.delay, whole: path.whole, ..PathPlan::default() };
                    changed |= std::mem::replace(path, plain) != plain;
                }
                changed
            }
            Part::Repetition(number) => {
                talk(self, number).is_some_and(|at| std::mem::replace(&mut self.talks[at].connections, 1) > 1)
            }
            Part::Habits(number) => {
                let Some(at) = talk(self, number) else { return false };
                let talk = &mut self.talks[at];
                let before = (talk.slow, talk.cancel, talk.ending, talk.sockets, talk.door);
                (talk.slow, talk.cancel, talk.ending, talk.door) = (0, 0, Ending::Graceful, Door::Own);
                talk.sockets = Sockets {
                    backlog: 128,
                    pending: None,
                    fast_open: false,
                    nodelay: false,
                    keepalive: false,
                    linger: false,
                    send_buffer: None,
                    receive_buffer: None,
                    notsent_lowat: None,
                };
                before != (talk.slow, talk.cancel, talk.ending, talk.sockets, talk.door)
            }
            Part::Bytes(number) => {
                let Some(at) = talk(self, number) else { return false };
                let talk = &mut self.talks[at];
                let before = (talk.up, talk.down);
                (talk.up, talk.down) = (talk.up / 4, talk.down / 4);
                before != (talk.up, talk.down)
            }
        }
    }
}

/// Whether anything was removed.
fn retain<T>(from: &mut Vec<T>, keep: impl FnMut(&T) -> bool) -> bool {
    let before = from.len();
    from.retain(keep);
    before != from.len()
}
