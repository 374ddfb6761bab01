//! A host: a stack and applications on a runtime of their own, whose time passes when the world says so.

use crate::apps::{Context, Timers, address, any_prefix};
use crate::idle::Idle;
use crate::ledger::Ledger;
use crate::nic::{Nic, NicSetup};
use crate::plan::{HostPlan, Plan};
use crate::rng::{Rng, mix};
use crate::watchdog;
use netstack::buffer::BUFFER_SIZE;
use netstack::config::MemoryBudget;
use netstack::device::{Device, PcapTap, SnapLen};
use netstack::memory::{Charge, block};
use netstack::net::InterfaceHandle;
use netstack::reasons::{EndReason, ResetReason};
use netstack::stack::{Engine, Inspection, UdpInspection};
use netstack::time::Instant;
use netstack::{Interface, Stack};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

/// Nanoseconds in a millisecond, which is as exact as the timers of a runtime are.
pub(crate) const MS: u64 = 1_000_000;

/// The name of the interface of a host.
const INTERFACE: &str = "net0";

/// The own address of a host, with its network.
fn own_prefix(host: usize, v6: bool) -> String {
    format!("{}/{}", address(host, v6), if v6 { 64 } else { 24 })
}

/// A host that is switched on.
pub(crate) struct Machine {
    pub(crate) nic: Arc<Nic>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) idle: Arc<Idle>,
    index: usize,
    timers: Arc<Timers>,
    stack: Option<Stack>,
    runtime: Option<Runtime>,
    /// When its clock was zero, by the world's clock. Earlier than the beginning of the world, if the clock
    /// jumped.
    origin: i64,
    /// Its clock, in nanoseconds.
    clock: u64,
    /// Calls of its device when a second began, and when that was.
    calls: (u64, u64),
}

/// What a machine is made of.
pub(crate) struct Parts<'a> {
    pub(crate) plan: &'a Arc<Plan>,
    pub(crate) ledger: &'a Arc<Ledger>,
    pub(crate) host: usize,
    /// How often it was switched on before.
    pub(crate) boots: u64,
    pub(crate) now: u64,
    /// Where captures go, if any are wanted.
    pub(crate) captures: Option<PathBuf>,
}

impl Machine {
    /// Switches a host on.
    pub(crate) fn boot(parts: &Parts<'_>) -> Self {
        let Parts { plan, ledger, host, boots, now, captures } = parts;
        let (host, boots) = (*host, *boots);
        let HostPlan { config, offloads, mtu, ring, receive_ring, ambush, .. } = &plan.hosts[host];
        let idle = Arc::new(Idle::default());
        watchdog::watch_over(&idle);
        let rng = Rng::new(plan.seed, 10_000 + host as u64 + (boots << 8));
        let setup = NicSetup {
            mtu: *mtu,
            offloads: *offloads,
            ring: *ring,
            receive_ring: *receive_ring,
            ambush: *ambush,
            rng,
        };
        let nic = Nic::new(setup, Arc::clone(&idle));
        let device: Arc<dyn Device> = match captures {
            Some(directory) => {
                let file = File::create(directory.join(format!("host{host}-{boots}.pcapng")));
                let tap = file.and_then(|file| PcapTap::new(Arc::clone(&nic) as _, file, SnapLen::default()));
                Arc::new(tap.expect("captures can be written").with_origin(Duration::from_nanos(*now)))
            }
            None => Arc::clone(&nic) as _,
        };
        let interface = Interface::new(device)
            .name(INTERFACE)
            .address(&own_prefix(host, false))
            .address(&own_prefix(host, true))
            .any_ip(&any_prefix(host, false))
            .any_ip(&any_prefix(host, true))
            .gateway("10.0.0.254")
            .gateway("fd00::fe");
        let config = config.clone().with(|config| {
            config.seed = config.seed.map(|seed| mix(seed.wrapping_add(boots)));
            config.history = if captures.is_some() { 4_000 } else { 0 };
            // In an ambush a connection is locked, and what was joined may be another's.
            config.gro &= *ambush == 0;
        });
        let resting = Arc::clone(&idle);
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .on_thread_park(move || resting.on_park())
            .build()
            .expect("a runtime");
        let timers = Arc::new(Timers::default());
        let stack = runtime.block_on(async {
            let origin = tokio::time::Instant::now();
            let stack = Stack::builder().interface(interface).config(config).build().expect("a stack");
            let context = Context {
                host,
                stack: stack.clone(),
                plan: Arc::clone(plan),
                ledger: Arc::clone(ledger),
                timers: Arc::clone(&timers),
                origin,
                reports: captures.is_some(),
            };
            context.start(boots == 0);
            stack
        });
        let engine = stack.engine_to_inspect();
        nic.belongs_to(&engine);
        let (stack, runtime) = (Some(stack), Some(runtime));
        let (origin, calls) = (*now as i64, (0, 0));
        Self { nic, engine, idle, index: host, timers, stack, runtime, origin, clock: 0, calls }
    }

    /// The machine's clock at `now`.
    fn clock_at(&self, now: u64) -> u64 {
        (now as i64 - self.origin).max(0) as u64
    }

    /// Lets the machine do what it can do at `now`, after the time since it last did has passed.
    pub(crate) fn run(&mut self, now: u64) -> Result<(), String> {
        let clock = self.clock_at(now);
        let passes = Duration::from_nanos(clock - self.clock);
        self.clock = clock;
        let idle = Arc::clone(&self.idle);
        let runtime = self.runtime.as_ref().expect("a machine that is on");
        let mut rests = runtime.block_on(async {
            if !passes.is_zero() {
                tokio::time::advance(passes).await;
            }
            idle.rest().await
        });
        while rests && self.nic.end_ambush() {
            rests = runtime.block_on(idle.rest());
        }
        let (misuse, calls) = self.nic.tick();
        if let Some(misuse) = misuse {
            return Err(self.about(&misuse));
        }
        if !rests {
            return Err(self.about("busy loop: its tasks never rest"));
        }
        self.check_work(calls)
    }

    /// Checks that the work of a second is bounded.
    fn check_work(&mut self, calls: u64) -> Result<(), String> {
        /// Calls of a device in a second of virtual time at most. A device of 1 Gbit/s with packets of 1,500
        /// bytes takes 83,000 of them, and each comes with some attempts that find nothing.
        const MOST: u64 = 1_000_000;
        let (before, since) = self.calls;
        if self.clock >= since + 1_000 * MS {
            self.calls = (calls, self.clock);
        } else if calls - before > MOST {
            return Err(self.about(&format!("busy loop: its device is called {} times", calls - before)));
        }
        Ok(())
    }

    fn about(&self, what: &str) -> String {
        format!("host {}: {what}", self.index)
    }

    /// Checks the state of the stack, after [`Machine::run`].
    pub(crate) fn inspect(&self) -> Result<Inspection, String> {
        // Timers are as exact as the runtime's.
        let served = Instant::from_nanos(self.clock / MS * MS);
        if let Some(at) = self.engine.next_deadline().filter(|at| *at <= served) {
            return Err(self.about(&format!("lost timer: what was due at {at:?} is not done at {served:?}")));
        }
        self.engine.inspect(served).map_err(|error| self.about(&error))
    }

    /// Checks what the stack has for datagrams, after [`Machine::run`].
    pub(crate) fn inspect_datagrams(&self) -> Result<UdpInspection, String> {
        self.engine.inspect_datagrams().map_err(|error| self.about(&error))
    }

    /// Changes the interface of the stack. What is there already, or is not there, stays so: a host that was
    /// switched off in between begins as it was built.
    fn configure(&self, change: impl FnOnce(&InterfaceHandle) -> io::Result<()>) -> Result<(), String> {
        let runtime = self.runtime.as_ref().expect("a machine that is on");
        let stack = self.stack.as_ref().expect("a machine that is on");
        match runtime.block_on(async { change(&stack.interface(INTERFACE)?) }) {
            Err(error)
                if !matches!(
                    error.raw_os_error(),
                    Some(libc::EEXIST | libc::EADDRNOTAVAIL | libc::ESRCH)
                ) =>
            {
                Err(self.about(&format!("its interface cannot be changed: {error}")))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn set_down(&self, down: bool) -> Result<(), String> {
        self.configure(|interface| if down { interface.set_down() } else { interface.set_up() })
    }

    pub(crate) fn set_address(&self, v6: bool, on: bool) -> Result<(), String> {
        self.configure(|interface| {
            if on {
                interface.add_address(&own_prefix(self.index, v6))
            } else {
                interface.remove_address(address(self.index, v6))
            }
        })
    }

    pub(crate) fn set_any_ip(&self, on: bool) -> Result<(), String> {
        [false, true].into_iter().try_for_each(|v6| {
            let prefix = any_prefix(self.index, v6);
            self.configure(
                |interface| {
                    if on { interface.add_any_ip(&prefix) } else { interface.remove_any_ip(&prefix) }
                },
            )
        })
    }

    pub(crate) fn set_mtu(&self, mtu: usize) -> Result<(), String> {
        self.nic.set_mtu(mtu);
        self.configure(|interface| interface.set_mtu(mtu))
    }

    /// Takes memory of the stack: all but a little, or more than there is.
    pub(crate) fn squeeze(&self, full: bool) -> Charge {
        let memory = self.engine.core().memory();
        let MemoryBudget { pressure, high, .. } = memory.budget();
        Charge::new(memory, if full { high } else { pressure + 1 })
    }

    /// The connections that the stack has given up, since nobody held them and memory was short.
    pub(crate) fn given_up(&self) -> Vec<(SocketAddr, SocketAddr)> {
        if self.engine.counters().abort_on_memory == 0 {
            return Vec::new();
        }
        let given_up = EndReason::Reset(ResetReason::TcpAbortOnMemory);
        let ends = self.engine.recent_ends().into_iter().filter(|end| end.reason == given_up);
        ends.map(|end| (end.local, end.remote)).collect()
    }

    /// Checks that nothing is counted but the `buffers` that are kept for the next packets.
    pub(crate) fn check_memory(&self, buffers: usize) -> Result<(), String> {
        let used = self.engine.core().memory_use().used;
        if used == buffers * block(BUFFER_SIZE) {
            return Ok(());
        }
        Err(self.about(&format!("everything is closed, and {used} bytes are counted with {buffers} buffers")))
    }

    /// When it has to run next at the latest, by the world's clock.
    pub(crate) fn next_wake(&self) -> Option<u64> {
        let deadline = self.engine.next_deadline().map(Instant::as_nanos);
        let by_clock = deadline.into_iter().chain(self.timers.next(self.clock)).min()?;
        let exact = by_clock.div_ceil(MS) * MS;
        Some((exact.max(self.clock + 1) as i64 + self.origin).max(0) as u64)
    }

    /// The clock stood still for so many nanoseconds.
    pub(crate) fn clock_stood(&mut self, nanos: u64) {
        self.origin += nanos as i64;
    }

    /// The clock jumps forward.
    pub(crate) fn clock_jumps(&mut self, nanos: u64) {
        self.origin -= nanos as i64;
    }

    /// Switches the machine off at once. What is left of the stack then?
    pub(crate) fn switch_off(mut self) -> Result<(), String> {
        self.nic.unplug();
        let runtime = self.runtime.take().expect("a machine that is on");
        drop(self.stack.take());
        drop(runtime);
        let left =
            self.engine.inspect(Instant::from_nanos(self.clock)).map_err(|error| self.about(&error))?;
        // What is in TIME-WAIT goes with the stack.
        let waits = left.time_waits;
        let end =
            Inspection { time_waits: waits, deadlines: waits, ports: left.ports, ..Inspection::default() };
        if left == end && left.ports <= waits {
            return Ok(());
        }
        Err(self.about(&format!("a stack whose runtime ended still has {left:?}")))
    }

    /// Ends the stack in an orderly way, and checks that it ends.
    pub(crate) fn shut_down(mut self) -> Result<(), String> {
        let runtime = self.runtime.take().expect("a machine that is on");
        let stack = self.stack.take().expect("a machine that is on");
        runtime.block_on(async {
            stack.shutdown(Duration::from_secs(1)).await;
            drop(stack);
        });
        drop(runtime);
        let left =
            self.engine.inspect(Instant::from_nanos(self.clock)).map_err(|error| self.about(&error))?;
        if left == Inspection::default() {
            return Ok(());
        }
        Err(self.about(&format!("a stack that was shut down still has {left:?}")))
    }
}
