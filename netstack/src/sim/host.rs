//! A host: a stack and its software on a runtime of their own, whose time passes when the net says so.

use super::Result;
use super::links::Shared;
use super::names::Names;
use super::nic::Nic;
use super::seed::mix;
use super::sink::Inbox;
use crate::config::Config;
use crate::net::idle::{Idle, next_deadline};
use crate::net::{BindGuard, Resolver, Stack};
use crate::stack::Interface;
use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinHandle, LocalSet};

/// Nanoseconds of a tick of tokio's timers.
pub(super) const TICK: u64 = 1_000_000;

/// What runs on a host.
pub(super) type Software = Pin<Box<dyn Future<Output = Result>>>;

/// What a host is made of each time it is switched on.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) number: usize,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) config: Config,
}

/// A host that is on.
pub(super) struct Machine {
    number: usize,
    /// What is dropped first is what runs.
    local: Option<LocalSet>,
    software: Option<JoinHandle<Result>>,
    bound: Option<BindGuard>,
    stack: Option<Stack>,
    runtime: Option<Runtime>,
    idle: Arc<Idle>,
    inbox: Arc<Inbox>,
    nic: Arc<Nic>,
    net: Arc<Shared>,
    /// When its stack began, by the clock of the net.
    stack_origin: u64,
    /// The clock of the net when it last ran.
    clock: u64,
    /// It has not run since something happened to it.
    dirty: bool,
}

impl Machine {
    /// Switches a host on. It was on `boots` times before.
    pub(super) fn boot(
        plan: &Plan,
        boots: u64,
        net: &Arc<Shared>,
        names: &Arc<Names>,
        software: Option<Software>,
    ) -> io::Result<Self> {
        let now = net.now();
        let inbox = Arc::new(Inbox::new());
        let nic = Arc::new(Nic::new(plan.number, Arc::clone(&inbox), Arc::clone(net)));
        let idle = Arc::new(Idle::default());
        let resting = Arc::clone(&idle);
        let runtime = Builder::new_current_thread()
            // The descriptors of the kernel do not know the time of the net, and each look at them is a system call.
            .enable_time()
            .start_paused(true)
            .on_thread_park(move || resting.on_park())
            .build()?;
        let local = LocalSet::new();
        // The runtime began with the tick, so that the timers of all hosts are due at the same times.
        let origin = now / TICK * TICK;
        let stack = local.block_on(&runtime, async {
            tokio::time::advance(Duration::from_nanos(now - origin)).await;
            let seed = mix(net.seed, &[plan.number as u64, boots]);
            let config = plan.config.clone().with(|config| config.seed = Some(seed));
            let interface =
                plan.addresses.iter().fold(Interface::new(Arc::clone(&nic) as _), |interface, ip| {
                    // The other end of the device takes every packet, whatever its next hop is.
                    let (len, gateway) = if ip.is_ipv4() { (32, "0.0.0.0") } else { (128, "::") };
                    interface.address(&format!("{ip}/{len}")).gateway(gateway)
                });
            Stack::builder()
                .name(&plan.name)
                .interface(interface.name("eth0"))
                .config(config)
                .resolver(Resolver::Custom(Arc::clone(names) as _))
                .build()
        })?;
        let bound = stack.bind_runtime(runtime.handle())?;
        let software = software.map(|software| local.spawn_local(software));
        net.set_inbox(plan.number, Some(Arc::clone(&inbox)));
        Ok(Self {
            number: plan.number,
            local: Some(local),
            software,
            bound: Some(bound),
            stack: Some(stack),
            runtime: Some(runtime),
            idle,
            inbox,
            nic,
            net: Arc::clone(net),
            stack_origin: now,
            clock: now,
            dirty: true,
        })
    }

    pub(super) fn stack(&self) -> &Stack {
        self.stack.as_ref().expect("a machine that is on has a stack")
    }

    /// When a deadline of its stack is, by the clock of the net.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        Some(self.stack_origin + next_deadline(self.stack().core())?.as_nanos())
    }

    /// When a timer of tokio may be due.
    pub(super) fn next_tick(&self) -> u64 {
        (self.clock / TICK + 1) * TICK
    }

    /// Whether it has something to do at `now`.
    pub(super) fn has_to_run(&self, now: u64) -> bool {
        self.dirty
            // Nobody receives once the stack has ended.
            || !self.inbox.is_empty() && !self.is_shut_down()
            || self.next_tick() <= now
            || self.clock < now && self.next_deadline().is_some_and(|at| at <= now)
    }

    /// Something happened that it may want to react to.
    pub(super) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Lets it do what it can do at `now`.
    pub(super) fn run(&mut self, now: u64) {
        self.dirty = false;
        let passes = Duration::from_nanos(now - self.clock);
        self.clock = now;
        if self.next_deadline().is_some_and(|at| at <= now) {
            self.stack().core().wakeups.all();
        }
        let (Some(local), Some(runtime)) = (&self.local, &self.runtime) else { return };
        local.block_on(runtime, async {
            if !passes.is_zero() {
                tokio::time::advance(passes).await;
            }
            if !self.inbox.is_empty() {
                self.inbox.signal.raise_readable();
            }
            self.idle.busy();
            poll_fn(|cx| self.idle.poll_rest(cx)).await;
        });
    }

    /// What the software ended with, once it has: then it is asked no more.
    pub(super) fn take_outcome(&mut self) -> Option<Result> {
        let ended = self.software.take_if(|software| software.is_finished())?;
        let runtime = self.runtime.as_ref()?;
        match runtime.block_on(tokio::task::unconstrained(ended)) {
            Ok(outcome) => Some(outcome),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Begins to end the stack in an orderly way, within `limit`.
    pub(super) fn begin_shutdown(&mut self, limit: Duration) {
        let stack = self.stack().clone();
        if let Some(local) = &self.local {
            local.spawn_local(async move { stack.shutdown(limit).await });
        }
        self.dirty = true;
    }

    /// Whether the stack has ended.
    pub(super) fn is_shut_down(&self) -> bool {
        self.stack().core().lifecycle() == crate::net::Lifecycle::Stopped
    }
}

/// Without power: what runs is dropped, and nothing goes out.
impl Drop for Machine {
    fn drop(&mut self) {
        self.nic.unplug();
        self.net.set_inbox(self.number, None);
        let runtime = self.runtime.take();
        let entered = runtime.as_ref().map(Runtime::enter);
        self.software = None;
        drop(self.local.take());
        drop(self.bound.take());
        drop(self.stack.take());
        drop(entered);
        drop(runtime);
        self.inbox.clear();
    }
}
