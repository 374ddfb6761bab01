//! [`Net`].

use super::Result;
use super::host::{Machine, Plan, Software};
use super::links::{Links, Shared};
use super::names::Names;
use super::seed::mix;
use super::sink::Sink;
use crate::config::Config;
use crate::device::{LinkConfig, PcapTap, SnapLen};
use crate::net::Stack;
use std::fmt;
use std::future::Future;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Turns of all hosts at one time that no sound software takes.
const MOST_TURNS: u32 = 100_000;

/// Builds a [`Net`].
#[must_use = "a builder does nothing until `build` is called"]
pub struct NetBuilder {
    seed: u64,
    link: LinkConfig,
    duration: Duration,
    config: Config,
    capture: Option<Box<dyn Write + Send>>,
}

/// Hosts and the paths between them, in virtual time: see [the module](super).
pub struct Net {
    links: Links,
    names: Arc<Names>,
    hosts: Vec<Host>,
    config: Config,
    duration: Duration,
}

struct Host {
    plan: Plan,
    machine: Option<Machine>,
    boots: u64,
    role: Role,
}

/// Whether what runs on a host can be begun again.
enum Role {
    Host(Box<dyn Fn() -> Software>),
    Client { is_over: bool },
}

impl NetBuilder {
    /// The seed of all that is left to chance. Default 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The impairments of each path that [`Links::set_link`] does not change. Default none: packets take no time.
    pub fn link(mut self, config: LinkConfig) -> Self {
        self.link = config;
        self
    }

    /// How much virtual time [`Net::run`] may take. Default 10 seconds.
    pub fn simulation_duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }

    /// The settings of the stacks of hosts that are added. Their seed is the net's.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Writes every packet that a host sends to a pcapng capture, with the time since the net began.
    pub fn capture(mut self, writer: impl Write + Send + 'static) -> Self {
        self.capture = Some(Box::new(writer));
        self
    }

    /// A net without hosts.
    ///
    /// # Errors
    /// If the header of the capture cannot be written.
    pub fn build(self) -> io::Result<Net> {
        let Self { seed, link, duration, config, capture } = self;
        let tap = |writer| PcapTap::new(Arc::new(Sink::capturing()), writer, SnapLen::default());
        let capture = capture.map(tap).transpose()?;
        let links = Links { shared: Arc::new(Shared::new(seed, link, capture)) };
        Ok(Net { links, names: Arc::new(Names::new()), hosts: Vec::new(), config, duration })
    }
}

impl fmt::Debug for NetBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, link, duration, config: _, capture } = self;
        f.debug_struct("NetBuilder")
            .field("seed", seed)
            .field("link", link)
            .field("duration", duration)
            .field("capture", &capture.is_some())
            .finish_non_exhaustive()
    }
}

/// Hosts.
impl Net {
    /// A builder.
    pub fn builder() -> NetBuilder {
        NetBuilder {
            seed: 0,
            link: LinkConfig::default(),
            duration: Duration::from_secs(10),
            config: Config::default(),
            capture: None,
        }
    }

    /// Adds a host, and switches it on. `software` gives what runs on it, now and after each [`Net::bounce`]. If that
    /// fails, so does [`Net::run`]; if it ends, the host stays.
    ///
    /// `ip` is the address of the host, or several with commas in between. Other hosts find it by its name.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if another host has the name or an address;
    /// [`io::ErrorKind::InvalidInput`] if `ip` is no address; those of building a stack.
    pub fn host<S, F>(&mut self, name: &str, ip: &str, software: S) -> io::Result<()>
    where
        S: Fn() -> F + 'static,
        F: Future<Output = Result> + 'static,
    {
        self.add(name, ip, Role::Host(Box::new(move || Box::pin(software()))), None)
    }

    /// Adds a host for whose software [`Net::run`] waits. It runs once.
    ///
    /// # Errors
    /// As [`Net::host`].
    pub fn client<F>(&mut self, name: &str, ip: &str, software: F) -> io::Result<()>
    where
        F: Future<Output = Result> + 'static,
    {
        self.add(name, ip, Role::Client { is_over: false }, Some(Box::pin(software)))
    }

    fn add(&mut self, name: &str, ip: &str, role: Role, software: Option<Software>) -> io::Result<()> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, format!("`{ip}`: {error}"));
        let parse = |ip: &str| ip.trim().parse::<IpAddr>().map_err(invalid);
        let addresses = ip.split(',').map(parse).collect::<io::Result<Vec<_>>>()?;
        let number = self.links.shared.add(name, &addresses)?;
        self.names.insert(name, &addresses);
        let plan = Plan { name: name.to_owned(), number, addresses, config: self.config.clone() };
        let mut host = Host { plan, machine: None, boots: 0, role };
        host.boot(&self.links.shared, &self.names, software)?;
        self.hosts.push(host);
        Ok(())
    }

    /// Switches a host off at once: what runs on it is dropped, and its connections are silent. Nothing happens if it
    /// is off. A client that crashes is over.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn crash(&mut self, name: &str) {
        let host = self.find(name);
        host.machine = None;
        if let Role::Client { is_over } = &mut host.role {
            *is_over = true;
        }
    }

    /// Switches a host on, after switching it off if it is on: its software starts again, on a stack that knows of
    /// nothing.
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if it is a client, which runs once; those of building a stack.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn bounce(&mut self, name: &str) -> io::Result<()> {
        let (shared, names) = (Arc::clone(&self.links.shared), Arc::clone(&self.names));
        let host = self.find(name);
        if matches!(host.role, Role::Client { .. }) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "a client runs once"));
        }
        host.machine = None;
        host.boot(&shared, &names, None)
    }

    /// Whether a host is on.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn is_host_running(&mut self, name: &str) -> bool {
        self.find(name).machine.is_some()
    }

    /// The stack of a host that is on, to look at its counters and sockets.
    ///
    /// # Panics
    /// If there is no such host.
    pub fn stack(&mut self, name: &str) -> Option<Stack> {
        let machine = self.find(name).machine.as_mut()?;
        // Its holder may do something with it.
        machine.touch();
        Some(machine.stack().clone())
    }

    /// A seed for what a program leaves to chance itself. It depends on `what` and on the seed of the net.
    pub fn seed_of(&self, what: &str) -> u64 {
        let parts: Vec<u64> = what.bytes().map(u64::from).collect();
        mix(self.links.shared.seed, &parts)
    }

    fn find(&mut self, name: &str) -> &mut Host {
        let found = self.hosts.iter_mut().find(|host| host.plan.name.eq_ignore_ascii_case(name));
        found.unwrap_or_else(|| panic!("there is no host `{name}`"))
    }
}

impl Host {
    fn boot(&mut self, net: &Arc<Shared>, names: &Arc<Names>, client: Option<Software>) -> io::Result<()> {
        let software = match &self.role {
            Role::Host(software) => Some(software()),
            Role::Client { .. } => client,
        };
        self.machine = Some(Machine::boot(&self.plan, self.boots, net, names, software)?);
        self.boots += 1;
        Ok(())
    }

    fn is_unfinished_client(&self) -> bool {
        matches!(self.role, Role::Client { is_over: false })
    }
}

/// Time.
impl Net {
    /// Lets time pass until the software of all clients has ended.
    ///
    /// # Errors
    /// The first error that the software of a client or of a host ends with; an error if the clients have not ended
    /// within [`NetBuilder::simulation_duration`].
    ///
    /// # Panics
    /// If the software of a host or client panics.
    pub fn run(&mut self) -> Result {
        while !self.step()? {
            if self.elapsed() > self.duration {
                return Err(format!(
                    "ran for {:?} without completing: {}",
                    self.elapsed(),
                    self.unfinished().join(", ")
                )
                .into());
            }
        }
        Ok(())
    }

    /// Goes to the next time at which anything can happen, and lets happen what does. Returns whether the software of
    /// all clients has ended.
    ///
    /// That is a deadline of a stack, the arrival of a packet, or the next whole millisecond, since the timers of
    /// applications are known to their runtimes only.
    ///
    /// # Errors
    /// The first error that the software of a client or of a host ends with.
    ///
    /// # Panics
    /// As [`Net::run`].
    pub fn step(&mut self) -> Result<bool> {
        let now = self.next_time();
        self.links.shared.advance(now);
        let mut turns = 0;
        loop {
            let mut ran = false;
            for host in &mut self.hosts {
                let Some(machine) = host.machine.as_mut().filter(|machine| machine.has_to_run(now)) else {
                    continue;
                };
                machine.run(now);
                ran = true;
                let Some(outcome) = machine.take_outcome() else { continue };
                if let Role::Client { is_over } = &mut host.role {
                    *is_over = true;
                }
                outcome.map_err(|error| format!("{}: {error}", host.plan.name))?;
            }
            // What takes no time has arrived.
            self.links.shared.advance(now);
            if !ran {
                break;
            }
            turns += 1;
            if turns == MOST_TURNS {
                return Err(format!("the hosts do not come to rest at {:?}", self.elapsed()).into());
            }
        }
        Ok(!self.hosts.iter().any(Host::is_unfinished_client))
    }

    /// Lets `time` pass, whether or not clients end meanwhile.
    ///
    /// # Errors
    /// As [`Net::step`].
    ///
    /// # Panics
    /// As [`Net::run`].
    pub fn run_for(&mut self, time: Duration) -> Result {
        let end = self.elapsed() + time;
        // The last step goes no further, since every millisecond is one.
        while self.elapsed() < end {
            self.step()?;
        }
        Ok(())
    }

    /// The time since the net began.
    pub fn elapsed(&self) -> Duration {
        self.links.elapsed()
    }

    /// The paths between the hosts: partitions, delays, losses. The handle can be given to the software of a host.
    pub fn links(&self) -> Links {
        self.links.clone()
    }

    /// Ends the stacks of all hosts in an orderly way: their connections are closed, and reset if they are not over
    /// after `limit`. Then the hosts are off.
    ///
    /// A net that is dropped switches its hosts off as [`Net::crash`] does.
    ///
    /// # Errors
    /// As [`Net::step`]; the error that ended the capture.
    ///
    /// # Panics
    /// As [`Net::run`].
    pub fn shutdown(mut self, limit: Duration) -> Result {
        for machine in self.hosts.iter_mut().filter_map(|host| host.machine.as_mut()) {
            machine.begin_shutdown(limit);
        }
        let is_left = |host: &Host| host.machine.as_ref().is_some_and(|machine| !machine.is_shut_down());
        // What fails now fails because its stack is over.
        while self.hosts.iter().any(is_left) {
            let _ = self.step();
        }
        match self.links.shared.capture_error() {
            Some(error) => Err(error.into()),
            None => Ok(()),
        }
    }

    fn next_time(&self) -> u64 {
        let now = self.links.shared.now();
        let machines = || self.hosts.iter().filter_map(|host| host.machine.as_ref());
        if machines().any(|machine| machine.has_to_run(now)) {
            return now;
        }
        let ticks = machines().map(Machine::next_tick);
        let deadlines = machines().filter_map(Machine::next_deadline);
        let next =
            ticks.chain(deadlines).chain(self.links.shared.next_arrival()).filter(|at| *at > now).min();
        next.unwrap_or(now + super::host::TICK)
    }

    fn unfinished(&self) -> Vec<&str> {
        let unfinished = self.hosts.iter().filter(|host| host.is_unfinished_client());
        unfinished.map(|host| host.plan.name.as_str()).collect()
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("hosts", &self.hosts.iter().map(|host| &host.plan.name).collect::<Vec<_>>())
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}
