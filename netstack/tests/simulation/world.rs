//! The world: hosts, the network between them and what goes wrong, in the order of time.

use crate::host::{MS, Machine, Parts};
use crate::ledger::Ledger;
use crate::network::{Network, Travelling};
use crate::plan::{Fault, FaultKind, Plan};
use crate::rng::mix;
use crate::witness::Witness;
use netstack::memory::Charge;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Once};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000 * MS;

/// For how long a connection that may fail is waited for once everything has happened, and one that may not.
const COMPLETION_LIMIT: u64 = 300 * SECOND;
const STALLED: u64 = 3_600 * SECOND;

/// How long a stack may take to let go of everything.
const TIDY: u64 = 400 * SECOND;

/// Steps at one time that no sound stacks take.
const MOST_STEPS: u64 = 20_000;

thread_local! {
    /// Panics on this thread are remembered.
    static CATCHES: Cell<bool> = const { Cell::new(false) };
    /// The first panic on this thread that nobody has looked at.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Remembers the panics of this thread, those in tasks too, instead of printing them.
pub(crate) fn catch_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if CATCHES.get() {
                let text = format!("panic: {info}\n{}", Backtrace::capture());
                PANIC.with(|panic| {
                    panic.borrow_mut().get_or_insert(text);
                });
            } else {
                usual(info);
            }
        }));
    });
    CATCHES.set(true);
}

/// What comes out of a plan without a failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// A digest of all packets and when they left.
    pub(crate) digest: u64,
    pub(crate) packets: u64,
    /// Packets that came while their connection was locked.
    pub(crate) ambushed: u64,
    /// Nanoseconds.
    pub(crate) time: u64,
}

/// Something that happens by itself.
#[derive(Debug)]
enum Event {
    Arrival(Box<Travelling>),
    /// The device of a host has sent a packet and takes the next one.
    Send(usize),
    Begin(Fault),
    End(Fault),
}

struct Scheduled {
    at: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A host, on or off.
struct Seat {
    machine: Option<Machine>,
    boots: u64,
    /// It has something to do now.
    dirty: bool,
    /// Pauses that last, and when the first of them began.
    pauses: u32,
    paused_at: u64,
    /// When the device is done with what it sends.
    sends_until: u64,
    /// When it is asked again to send. Once, because each time schedules the next.
    asked_at: Option<u64>,
    /// When it wants to run by itself.
    wake: Option<u64>,
    /// What takes the memory of its stack.
    squeezed: Option<Charge>,
}

pub(crate) struct World {
    plan: Arc<Plan>,
    pub(crate) ledger: Arc<Ledger>,
    witness: Witness,
    network: Network,
    seats: Vec<Seat>,
    events: BinaryHeap<Reverse<Scheduled>>,
    scheduled: u64,
    now: u64,
    /// Faults of each kind that last, by their number without their times.
    lasting: HashMap<String, u32>,
    captures: Option<PathBuf>,
    summary: Summary,
}

impl World {
    pub(crate) fn new(plan: Plan, captures: Option<PathBuf>) -> Self {
        let plan = Arc::new(plan);
        let ledger = Ledger::new(&plan);
        let mut world = Self {
            witness: Witness::new(&plan, &ledger),
            network: Network::new(&plan),
            seats: Vec::new(),
            events: BinaryHeap::new(),
            scheduled: 0,
            now: 0,
            lasting: HashMap::new(),
            captures,
            summary: Summary::default(),
            ledger,
            plan,
        };
        for host in 0..world.plan.hosts.len() {
            let machine = Some(world.boot(host, 0));
            world.seats.push(Seat {
                machine,
                boots: 0,
                dirty: true,
                pauses: 0,
                paused_at: 0,
                sends_until: 0,
                asked_at: None,
                wake: None,
                squeezed: None,
            });
        }
        for fault in world.plan.faults.clone() {
            world.schedule(fault.at * MS, Event::Begin(fault));
            world.schedule(fault.until * MS, Event::End(fault));
        }
        world
    }

    fn boot(&self, host: usize, boots: u64) -> Machine {
        Machine::boot(&Parts {
            plan: &self.plan,
            ledger: &self.ledger,
            host,
            boots,
            now: self.now,
            captures: self.captures.clone(),
        })
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.scheduled += 1;
        self.events.push(Reverse(Scheduled { at, number: self.scheduled, event }));
    }

    /// Lets everything happen, up to the end.
    pub(crate) fn run(&mut self) -> Result<Summary, String> {
        let over = self.live().and_then(|()| self.tidy_up());
        over.map_err(|what| format!("at {}.{:06} s: {what}", self.now / SECOND, self.now % SECOND / 1_000))?;
        self.summary.time = self.now;
        Ok(self.summary)
    }

    /// Until all applications are done.
    fn live(&mut self) -> Result<(), String> {
        let faults = self.plan.faults.iter().map(|fault| fault.until);
        let starts = self.plan.talks.iter().map(|talk| talk.start + talk.gap * talk.connections as u64);
        let begun = faults.chain(starts).max().unwrap_or(0) * MS;
        let mut given_up = 0;
        while !self.ledger.is_over() || self.now < begun {
            let until =
                if self.now < begun + COMPLETION_LIMIT { begun + COMPLETION_LIMIT } else { begun + STALLED };
            if self.step(until)? {
                continue;
            }
            let unfinished = self.ledger.unfinished();
            let late = until > begun + COMPLETION_LIMIT;
            if let Some((id, _, record)) = unfinished.iter().find(|(_, excused, _)| late && !excused) {
                return Err(format!("stalled: connection {id:?} is not done: {record}"));
            }
            given_up += u32::from(late);
            if given_up > 2 {
                return Err(format!("stalled: given up and not done: {unfinished:?}"));
            }
            let chats = self.ledger.chats.unfinished();
            if let Some(chat) = chats.first().filter(|_| late && unfinished.is_empty()) {
                return Err(format!("stalled: a chat is not over: {chat}"));
            }
            self.ledger.chats.give_up();
            unfinished
                .iter()
                .filter(|(_, excused, _)| *excused)
                .for_each(|(id, ..)| self.ledger.give_up(*id));
            self.wake_all();
        }
        Ok(())
    }

    /// Closes everything, and checks that nothing is left.
    fn tidy_up(&mut self) -> Result<(), String> {
        self.ledger.check_complete(&self.plan);
        self.ledger.close();
        self.wake_all();
        let until = self.now + TIDY;
        while self.step(until)? {}
        for host in 0..self.seats.len() {
            let Some(machine) = &self.seats[host].machine else { continue };
            self.summary.ambushed += machine.nic.ambushed();
            let mut left = machine.inspect()?;
            machine.check_memory(left.buffers)?;
            // One for the next packet of each queue.
            left.buffers = left.buffers.saturating_sub(2);
            if left != Default::default() {
                return Err(format!("host {host}: everything is closed, and this is left: {left:?}"));
            }
            let left = machine.inspect_datagrams()?;
            if left != Default::default() {
                return Err(format!("host {host}: everything is closed, and of datagrams is left: {left:?}"));
            }
        }
        let machines: Vec<_> = self.seats.iter_mut().filter_map(|seat| seat.machine.take()).collect();
        machines.into_iter().try_for_each(Machine::shut_down)?;
        self.check()
    }

    /// What connections have to tell of themselves: those that are over, and those that are not.
    pub(crate) fn histories(&self) -> Vec<String> {
        let machines = self.seats.iter().filter_map(|seat| seat.machine.as_ref());
        let alive = machines.flat_map(|machine| machine.engine.histories());
        self.ledger.take_histories().into_iter().chain(alive.map(|history| history.to_string())).collect()
    }

    fn wake_all(&mut self) {
        self.seats.iter_mut().for_each(|seat| seat.dirty = true);
    }

    /// Lets everything happen that happens next. False if nothing does before `until`, which it is then.
    fn step(&mut self, until: u64) -> Result<bool, String> {
        let next = if self.seats.iter().any(Seat::runs_now) { Some(self.now) } else { self.next() };
        let Some(next) = next.filter(|next| *next < until) else {
            self.now = until;
            return Ok(false);
        };
        self.now = self.now.max(next);
        for steps in 0.. {
            if steps > MOST_STEPS {
                return Err("busy loop: hosts exchange packets without time passing".to_owned());
            }
            let mut busy = false;
            while self.events.peek().is_some_and(|Reverse(next)| next.at <= self.now) {
                let Reverse(Scheduled { event, .. }) = self.events.pop().expect("there is one");
                self.happen(event)?;
                busy = true;
            }
            for host in 0..self.seats.len() {
                let seat = &mut self.seats[host];
                seat.dirty |= seat.wake.is_some_and(|at| at <= self.now);
                if seat.runs_now() {
                    self.run_host(host)?;
                    busy = true;
                }
            }
            if !busy {
                return Ok(true);
            }
        }
        unreachable!()
    }

    /// When something happens next.
    fn next(&self) -> Option<u64> {
        let wakes = self.seats.iter().filter(|seat| seat.pauses == 0).filter_map(|seat| seat.wake);
        wakes.chain(self.events.peek().map(|Reverse(next)| next.at)).min()
    }

    fn run_host(&mut self, host: usize) -> Result<(), String> {
        let (now, seat) = (self.now, &mut self.seats[host]);
        let Some(machine) = &mut seat.machine else { return Ok(()) };
        seat.dirty = false;
        let outcome = machine.run(now);
        // A panic explains more than what follows from it.
        take_panic()?;
        outcome?;
        let found = machine.inspect()?;
        let waiting = found.waiting + machine.inspect_datagrams()?.waiting;
        for (local, remote) in machine.given_up() {
            // Nobody held it any more, so that nothing of it was promised.
            if let Some((id, _)) = self.ledger.lookup(local, remote) {
                self.ledger.excuse(id, "it was an orphan, and memory was short");
            }
        }
        self.witness.check_sacked(&machine.engine.sacked())?;
        seat.wake = machine.next_wake();
        if waiting > 0 {
            // A reactor that waits for a device that makes false promises looks again after a millisecond.
            let again = now + MS;
            seat.wake = Some(seat.wake.map_or(again, |at| at.min(again)));
        }
        self.send_from(host)?;
        self.check()
    }

    fn check(&self) -> Result<(), String> {
        take_panic()?;
        self.ledger.take_violation().map_or(Ok(()), Err)
    }

    /// Lets the device of a host send what it can.
    fn send_from(&mut self, host: usize) -> Result<(), String> {
        let rate = self.plan.hosts[host].rate;
        let mut leaving = Vec::new();
        let seat = &mut self.seats[host];
        let Some(machine) = &seat.machine else { return Ok(()) };
        while seat.sends_until <= self.now
            && let Some(frame) = machine.nic.take()
        {
            // The ring has room: somebody may wait for that.
            seat.dirty |= machine.nic.has_room_again();
            if let Some(rate) = rate {
                seat.sends_until = self.now + frame.bytes.len() as u64 * SECOND / rate;
            }
            leaving.push(frame);
        }
        if seat.sends_until > self.now && machine.nic.has_to_send() && seat.asked_at.is_none() {
            let at = seat.sends_until;
            seat.asked_at = Some(at);
            self.schedule(at, Event::Send(host));
        }
        let lossy = self.plan.is_lossy(host);
        for frame in leaving {
            let summary = &mut self.summary;
            summary.packets += 1;
            summary.digest = mix(summary.digest ^ self.now ^ (host as u64) << 56);
            for word in frame.bytes.chunks(8) {
                let mut bytes = [0; 8];
                bytes[..word.len()].copy_from_slice(word);
                summary.digest = mix(summary.digest ^ u64::from_le_bytes(bytes));
            }
            self.witness.leaves(self.now, &frame.bytes, lossy)?;
            self.ledger.chats.leaves(&frame.bytes)?;
            let mut arrivals = Vec::new();
            self.network.carry(self.now, host, frame, &mut |travelling| arrivals.push(travelling));
            for travelling in arrivals {
                self.schedule(travelling.at, Event::Arrival(Box::new(travelling)));
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Arrival(travelling) => self.arrive(*travelling),
            Event::Send(host) => {
                self.seats[host].asked_at.take_if(|at| *at <= self.now);
                return self.send_from(host);
            }
            Event::Begin(fault) => return self.begin(fault),
            Event::End(fault) => return self.end(fault),
        }
        Ok(())
    }

    fn arrive(&mut self, travelling: Travelling) {
        let Travelling { to, frame, corrupt, fragment_of, .. } = travelling;
        let seat = &mut self.seats[to];
        let Some(machine) = &seat.machine else { return };
        let in_pieces = fragment_of.is_some();
        let bytes = fragment_of.unwrap_or_else(|| frame.bytes.clone());
        if machine.nic.arrive(frame) {
            seat.dirty = true;
            if !corrupt {
                self.witness.arrives(&bytes);
                if !in_pieces {
                    self.ledger.chats.arrives(&bytes);
                }
            }
        }
    }

    /// How many faults like this one last, after one more or one less of them.
    fn count(&mut self, fault: &Fault, change: i32) -> u32 {
        let count = self.lasting.entry(format!("{:?}", fault.kind)).or_default();
        *count = count.saturating_add_signed(change);
        *count
    }

    fn begin(&mut self, fault: Fault) -> Result<(), String> {
        if self.count(&fault, 1) > 1 {
            return Ok(());
        }
        match fault.kind {
            FaultKind::Outage { a, b } => self.network.set_outage((a, b), true),
            FaultKind::Storm { from, to, path } => self.network.set_storm((from, to), Some(path)),
            FaultKind::Mtu { a, b, mtu } => self.network.set_mtu((a, b), Some(mtu)),
            FaultKind::Reboot { host } => {
                self.ledger.host_is_down(host, "its host is switched off");
                self.ledger.host_lost_its_applications(host, "its host was switched off");
                self.seats[host].wake = None;
                if let Some(machine) = self.seats[host].machine.take() {
                    machine.switch_off()?;
                    take_panic()?;
                }
            }
            FaultKind::Pause { host, .. } => {
                let seat = &mut self.seats[host];
                seat.pauses += 1;
                if seat.pauses == 1 {
                    seat.paused_at = self.now;
                }
                if self.now == 0 {
                    self.ledger.host_is_down(host, "its host has not begun yet");
                }
            }
            FaultKind::ClockJump { host } => {
                let jump = (fault.until - fault.at) * MS;
                let seat = &mut self.seats[host];
                if let Some(machine) = &mut seat.machine {
                    machine.clock_jumps(jump);
                    seat.dirty = true;
                }
            }
            FaultKind::Gone { host } => {
                self.ledger.host_is_down(host, "its device is gone");
                self.ills(host, |ills| ills.gone = true);
            }
            FaultKind::Squeeze { host, full } => {
                let seat = &mut self.seats[host];
                seat.dirty = true;
                seat.squeezed = seat.machine.as_ref().map(|machine| machine.squeeze(full));
            }
            FaultKind::Down { .. }
            | FaultKind::Unaddressed { .. }
            | FaultKind::Closed { .. }
            | FaultKind::SmallMtu { .. } => self.reconfigure(fault.kind, true)?,
            FaultKind::Full { host } => self.ills(host, |ills| ills.full = true),
            FaultKind::Fickle { host } => self.ills(host, |ills| ills.fickle = true),
            FaultKind::Lossy { host } => self.ills(host, |ills| ills.lossy = true),
            FaultKind::Interrupted { host } => self.ills(host, |ills| ills.interrupted = true),
        }
        Ok(())
    }

    /// The connections of a host may not fail any more, unless its device is gone for good.
    fn host_is_up(&self, host: usize) {
        if !self.plan.is_gone(host) {
            self.ledger.host_is_up(host);
        }
    }

    fn end(&mut self, fault: Fault) -> Result<(), String> {
        if self.count(&fault, -1) > 0 {
            return Ok(());
        }
        match fault.kind {
            FaultKind::Outage { a, b } => self.network.set_outage((a, b), false),
            FaultKind::Storm { from, to, .. } => self.network.set_storm((from, to), None),
            FaultKind::Mtu { a, b, .. } => self.network.set_mtu((a, b), None),
            FaultKind::Reboot { host } => {
                // One that is paused serves nobody yet.
                if self.seats[host].pauses == 0 {
                    self.host_is_up(host);
                }
                self.seats[host].boots += 1;
                let machine = self.boot(host, self.seats[host].boots);
                let seat = &mut self.seats[host];
                (seat.machine, seat.dirty) = (Some(machine), true);
                (seat.sends_until, seat.asked_at) = (self.now, None);
            }
            FaultKind::Pause { host, clock_stands } => {
                let (now, seat) = (self.now, &mut self.seats[host]);
                seat.pauses -= 1;
                if seat.pauses == 0 {
                    seat.dirty = true;
                    if let Some(machine) = seat.machine.as_mut().filter(|_| clock_stands) {
                        machine.clock_stood(now - seat.paused_at);
                    }
                    if seat.machine.is_some() {
                        self.host_is_up(host);
                    }
                }
            }
            // The jump is over, and the device does not come back.
            FaultKind::ClockJump { .. } | FaultKind::Gone { .. } => {}
            FaultKind::Squeeze { host, .. } => {
                let seat = &mut self.seats[host];
                seat.dirty = true;
                seat.squeezed = None;
            }
            FaultKind::Down { .. }
            | FaultKind::Unaddressed { .. }
            | FaultKind::Closed { .. }
            | FaultKind::SmallMtu { .. } => self.reconfigure(fault.kind, false)?,
            FaultKind::Full { host } => self.ills(host, |ills| ills.full = false),
            FaultKind::Fickle { host } => self.ills(host, |ills| ills.fickle = false),
            FaultKind::Lossy { host } => self.ills(host, |ills| ills.lossy = false),
            FaultKind::Interrupted { host } => self.ills(host, |ills| ills.interrupted = false),
        }
        Ok(())
    }

    /// Changes the interface of a host, or changes it back.
    fn reconfigure(&mut self, kind: FaultKind, begins: bool) -> Result<(), String> {
        let (host, why) = match kind {
            FaultKind::Down { host } => (host, Some("its interface is down")),
            FaultKind::Unaddressed { host, .. } => (host, Some("its interface has no address")),
            FaultKind::Closed { host } => (host, Some("its interface takes nothing for others")),
            FaultKind::SmallMtu { host, .. } => (host, None),
            _ => return Ok(()),
        };
        match why {
            Some(why) if begins => self.ledger.host_is_cut_off(host, why),
            Some(why) => self.ledger.host_is_joined(host, why),
            None => {}
        }
        let most = self.plan.hosts[host].mtu;
        let seat = &mut self.seats[host];
        let Some(machine) = &seat.machine else { return Ok(()) };
        seat.dirty = true;
        match kind {
            FaultKind::Down { .. } => machine.set_down(begins),
            FaultKind::Unaddressed { v6, .. } => machine.set_address(v6, !begins),
            FaultKind::Closed { .. } => machine.set_any_ip(!begins),
            FaultKind::SmallMtu { mtu, .. } if begins => machine.set_mtu(mtu.min(most)),
            _ => machine.set_mtu(most),
        }
    }

    fn ills(&mut self, host: usize, change: impl FnOnce(&mut crate::nic::Ills)) {
        let seat = &mut self.seats[host];
        if let Some(machine) = &seat.machine {
            machine.nic.change(change);
            seat.dirty = true;
            let now = self.now;
            self.schedule(now, Event::Send(host));
        }
    }
}

impl Seat {
    fn runs_now(&self) -> bool {
        self.dirty && self.pauses == 0 && self.machine.is_some()
    }
}

/// The panic that happened on this thread, if there was one.
fn take_panic() -> Result<(), String> {
    PANIC.with(|panic| panic.borrow_mut().take()).map_or(Ok(()), Err)
}
