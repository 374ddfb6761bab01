//! What threads do to one another, in the schedules that shuttle tries out: `.ci/shuttle`.
//!
//! A waiter whose wake-up is lost waits for ever, which shuttle reports as a deadlock.

use super::error::Cause;
use super::handover::{Handover, Progress, Work};
use super::readiness::{Direction, Registration};
use super::wakeups::Wakeups;
use crate::config::Config;
use crate::device::{Device, Pair, PairConfig, Readiness, Signal};
use crate::readiness::Events;
use crate::stack::{Batch, Cell, Engine, Family, Interface, Observer, QueueId, Unconnected};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Published, Rank, Snapshot};
use crate::tcp::State;
use crate::time::{Duration, Instant};
use shuttle::future::block_on;
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler};
use shuttle::sync::Mutex;
use shuttle::thread;
use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::Interest;

/// Tries a test in many schedules: at random, and with few changes of who is preferred, which finds what
/// needs an order that chance seldom brings. `NETSTACK_SCHEDULES` says how many of each; with
/// `NETSTACK_REPLAY`, the path of a file, the one schedule in it is run.
fn explore(share: usize, test: fn()) {
    let mut config = shuttle::Config::new();
    // An engine is driven on this stack.
    config.stack_size = 1 << 20;
    if let Some(path) = std::env::var_os("NETSTACK_REPLAY") {
        let replayed = ReplayScheduler::new_from_file(path).expect("a file with a schedule");
        shuttle::Runner::new(replayed, config).run(test);
        return;
    }
    let schedules: usize =
        std::env::var("NETSTACK_SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000);
    let schedules = (schedules / share).max(1);
    shuttle::Runner::new(RandomScheduler::new(schedules), config.clone()).run(test);
    shuttle::Runner::new(PctScheduler::new(3, schedules), config).run(test);
}

fn would_block<T>() -> io::Result<T> {
    Err(io::ErrorKind::WouldBlock.into())
}

/// Items that a source adds and readers take; the socket behind a registration.
#[derive(Default)]
struct Items(AtomicUsize);

impl Items {
    fn add(&self, registration: &Registration) {
        self.0.fetch_add(1, Ordering::SeqCst);
        registration.on_ready(Events::READABLE);
    }

    fn take(&self) -> io::Result<()> {
        let taken = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |items| items.checked_sub(1));
        taken.map(drop).or_else(|_| would_block())
    }
}

fn with_source(items: usize) -> (Arc<Registration>, Arc<Items>, thread::JoinHandle<()>) {
    let (registration, source) = (Arc::new(Registration::new()), Arc::new(Items::default()));
    let theirs = (Arc::clone(&registration), Arc::clone(&source));
    let thread = thread::spawn(move || (0..items).for_each(|_| theirs.1.add(&theirs.0)));
    (registration, source, thread)
}

/// Readiness is not cleared after an event, and no event passes a waiter in its slot.
#[test]
fn a_reader_in_the_slot_gets_every_item() {
    explore(1, || {
        let (registration, items, source) = with_source(3);
        for _ in 0..3 {
            let take = poll_fn(|cx| registration.poll_io(cx, Direction::Read, |_| items.take()));
            block_on(take).unwrap();
        }
        source.join().unwrap();
        assert!(items.take().is_err());
    });
}

/// The same in the list, where several wait, and beside one in the slot.
#[test]
fn readers_in_the_list_and_in_the_slot_share_all_items() {
    explore(1, || {
        let (registration, items, source) = with_source(3);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (registration, items) = (Arc::clone(&registration), Arc::clone(&items));
                thread::spawn(move || {
                    block_on(registration.async_io(Interest::READABLE, || items.take())).unwrap();
                })
            })
            .collect();
        let take = poll_fn(|cx| registration.poll_io(cx, Direction::Read, |_| items.take()));
        block_on(take).unwrap();
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        source.join().unwrap();
        assert!(items.take().is_err());
    });
}

/// One who gives up does not take another's wake-up along.
#[test]
fn a_waiter_that_leaves_takes_no_wake_up_along() {
    explore(1, || {
        let (registration, items, source) = with_source(1);
        let leaving = {
            let registration = Arc::clone(&registration);
            thread::spawn(move || {
                let mut ready = Box::pin(registration.ready(Interest::READABLE));
                let mut cx = Context::from_waker(Waker::noop());
                let _ = ready.as_mut().poll(&mut cx);
                thread::yield_now();
            })
        };
        block_on(registration.async_io(Interest::READABLE, || items.take())).unwrap();
        leaving.join().unwrap();
        source.join().unwrap();
    });
}

#[test]
fn the_end_of_a_stack_ends_every_wait() {
    explore(1, || {
        let registration = Arc::new(Registration::new());
        let waiters: Vec<_> = (0..2)
            .map(|n| {
                let registration = Arc::clone(&registration);
                thread::spawn(move || {
                    if n == 0 {
                        let wait = poll_fn(|cx| registration.poll_ready(cx, Direction::Write));
                        assert!(block_on(wait).is_err());
                    } else {
                        assert!(block_on(registration.ready(Interest::WRITABLE)).is_err());
                    }
                })
            })
            .collect();
        registration.shut_down(Cause::ShutDown);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    });
}

/// Two threads, each of which adds two items and raises the signal for each.
fn two_that_bring_two(signal: &Arc<Signal>, items: &Arc<Items>) -> [thread::JoinHandle<()>; 2] {
    [(); 2].map(|()| {
        let (signal, items) = (Arc::clone(signal), Arc::clone(items));
        thread::spawn(move || {
            for _ in 0..2 {
                items.0.fetch_add(1, Ordering::SeqCst);
                signal.raise_readable();
            }
        })
    })
}

#[test]
fn a_signal_reaches_who_waits_for_it() {
    explore(1, || {
        let (signal, items) = (Arc::new(Signal::new()), Arc::new(Items::default()));
        let sources = two_that_bring_two(&signal, &items);
        let mut taken = 0;
        while taken < 4 {
            match items.take() {
                Ok(()) => taken += 1,
                Err(_) => block_on(poll_fn(|cx| signal.poll_readable(cx))),
            }
        }
        sources.into_iter().for_each(|source| source.join().unwrap());
    });
}

/// A queue of items that is served by the threads that bring them.
struct Served {
    items: Arc<Items>,
    signal: Arc<Signal>,
    taken: Arc<AtomicUsize>,
}

impl Work for Served {
    fn defers(&mut self) -> bool {
        false
    }

    fn turn(&mut self, waker: &Waker) -> Progress {
        self.signal.take_readable();
        self.look();
        let waits = self.signal.poll_readable(&mut Context::from_waker(waker)).is_pending();
        if waits { Progress::Waits } else { Progress::Again }
    }

    fn leave(&mut self, _: &Waker) {
        unreachable!("there is too little to do");
    }

    fn look(&mut self) -> bool {
        while self.items.take().is_ok() {
            self.taken.fetch_add(1, Ordering::SeqCst);
        }
        true
    }
}

#[test]
fn what_threads_bring_to_a_queue_is_served_by_one_of_them() {
    explore(1, || {
        let (signal, items) = (Arc::new(Signal::new()), Arc::new(Items::default()));
        let taken = Arc::new(AtomicUsize::new(0));
        let served =
            Served { items: Arc::clone(&items), signal: Arc::clone(&signal), taken: Arc::clone(&taken) };
        let waker = Handover::new(served).inline();
        assert!(signal.poll_readable(&mut Context::from_waker(&waker)).is_pending());
        drop(waker);
        let sources = two_that_bring_two(&signal, &items);
        sources.into_iter().for_each(|source| source.join().unwrap());
        assert_eq!(taken.load(Ordering::SeqCst), 4, "no task is needed");
    });
}

#[test]
fn a_snapshot_is_never_older_than_what_is_known() {
    explore(1, || {
        let published = Arc::new(Published::new(Rank::Leaf, 0usize));
        let told = Arc::new(AtomicUsize::new(0));
        let (theirs, tells) = (Arc::clone(&published), Arc::clone(&told));
        let writer = thread::spawn(move || {
            for n in 1..=3 {
                theirs.change(|value| *value = n);
                tells.store(n, Ordering::SeqCst);
            }
        });
        let mut snapshot = Snapshot::default();
        let mut last = 0;
        for _ in 0..4 {
            let known = told.load(Ordering::SeqCst);
            let read = *published.read(&mut snapshot);
            assert!(read >= known && read >= last);
            last = read;
        }
        writer.join().unwrap();
        assert_eq!(*published.read(&mut snapshot), 3);
    });
}

/// The queue of both stacks.
const QUEUE: QueueId = QueueId { interface: 0, queue: 0 };
const START: Instant = Instant::from_millis(1_000_000);
/// More than the buffers hold, so that both sides have to wait.
const BYTES: usize = 30_000;

/// What went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    Packets,
    /// Nothing but time, or somebody who woke the driver.
    Time,
}

/// A stack, and what wakes its driver.
struct Host {
    engine: Arc<Engine>,
    device: Arc<Pair>,
    wakeups: Arc<Wakeups>,
}

impl Host {
    fn new(number: u8, device: Pair) -> Self {
        let device = Arc::new(device);
        let config = Config {
            seed: Some(number.into()),
            loopback: false,
            recv_buffer_initial: 8_192,
            recv_buffer_max: 8_192,
            send_buffer_initial: 8_192,
            send_buffer_max: 8_192,
            // What is lost by a mistake is not to be sent again before its time.
            early_retrans: false,
            delayed_ack_max: Duration::from_millis(40),
            ..Config::default()
        };
        let interface = Interface::new(Arc::clone(&device) as Arc<dyn Device>)
            .address(&format!("10.0.0.{}/24", number + 1));
        let engine = Engine::new(config, vec![interface]).unwrap();
        let wakeups = Arc::new(Wakeups::new(engine.core().queues()));
        engine.core().set_driver_hook(Arc::clone(&wakeups) as _);
        Self { engine, device, wakeups }
    }

    fn signal(&self) -> &Signal {
        match self.device.readiness(0) {
            Readiness::Signal(signal) => signal,
            #[cfg(unix)]
            Readiness::Fd(_) => unreachable!("a pair has no file descriptor"),
        }
    }

    /// Does what can be done at once, and says whether packets moved or time alone; pending once there is
    /// nothing to do.
    fn poll_drive(&self, cx: &mut Context<'_>, now: Instant, out: &mut Batch) -> Poll<Moved> {
        if self.engine.next_deadline().is_some_and(|at| at <= now) {
            self.engine.on_timer(now, out);
            out.deliver(&self.engine);
            return Poll::Ready(Moved::Time);
        }
        let mut received = false;
        for _ in 0..2 {
            let mut packet = self.engine.core().pool().take();
            let Ok(meta) = self.device.receive(now, 0, &mut packet) else { break };
            self.engine.on_packet(now, QUEUE, packet, meta, out);
            received = true;
        }
        if received || out.has_held_back() {
            self.engine.end_batch(now, out);
            out.deliver(&self.engine);
            return Poll::Ready(Moved::Packets);
        }
        let mut full = false;
        if self.engine.has_waiting(QUEUE) {
            full = !self.engine.on_writable(now, QUEUE, out);
            out.deliver(&self.engine);
            if !full {
                return Poll::Ready(Moved::Packets);
            }
        }
        let woken = [
            self.signal().poll_readable(cx),
            self.wakeups.poll_queue(0, cx),
            self.wakeups.poll_deadline(cx),
            if full { self.signal().poll_writable(cx) } else { Poll::Pending },
        ];
        if woken.iter().any(Poll::is_ready) { Poll::Ready(Moved::Time) } else { Poll::Pending }
    }
}

/// The time of all threads. It stands still during a call, as if that took no time: a call in which a thread
/// is suspended sends with the time of its beginning, and keeps the acknowledgment from the connection that it
/// has locked. Were time to pass meanwhile, a retransmission would be right.
struct Clock(Mutex<Time>);

struct Time {
    now: Instant,
    /// How many calls are under way.
    calls: usize,
    /// The driver, which waits for their end.
    waiting: Option<Waker>,
}

impl Clock {
    fn new(now: Instant) -> Self {
        Self(Mutex::new(Time { now, calls: 0, waiting: None }))
    }

    fn now(&self) -> Instant {
        self.0.lock().unwrap().now
    }

    fn during<T>(&self, call: impl FnOnce(Instant) -> T) -> T {
        let now = {
            let mut time = self.0.lock().unwrap();
            time.calls += 1;
            time.now
        };
        let result = call(now);
        let waiting = {
            let mut time = self.0.lock().unwrap();
            time.calls -= 1;
            if time.calls == 0 { time.waiting.take() } else { None }
        };
        if let Some(driver) = waiting {
            driver.wake();
        }
        result
    }

    /// Moves on to `at`; pending during a call.
    fn poll_pass(&self, cx: &mut Context<'_>, at: Instant) -> Poll<()> {
        let mut time = self.0.lock().unwrap();
        if time.calls > 0 {
            time.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        time.now = time.now.max(at);
        Poll::Ready(())
    }
}

/// Drives both stacks until `done`. Time passes while there is nothing else to do, up to a delayed
/// acknowledgment and not to a retransmission or a probe of the window, which would make up for what was
/// forgotten.
fn drive(hosts: &[Host; 2], clock: &Clock, done: &AtomicBool) {
    // The first timer that makes up for something rings 200 ms after the last packet.
    const LONGEST: Duration = Duration::from_millis(150);
    let (mut busy_at, mut outs) = (START, [Batch::new(), Batch::new()]);
    outs.iter_mut().for_each(Batch::let_answers_go_first);
    block_on(poll_fn(|cx| {
        loop {
            if done.load(Ordering::SeqCst) {
                return Poll::Ready(());
            }
            let now = clock.now();
            let mut idle = true;
            for (host, out) in hosts.iter().zip(&mut outs) {
                let moved = host.poll_drive(cx, now, out);
                idle &= moved.is_pending();
                if moved == Poll::Ready(Moved::Packets) {
                    busy_at = now;
                }
            }
            if !idle {
                continue;
            }
            let next = hosts.iter().filter_map(|host| host.engine.next_deadline()).min();
            match next.filter(|at| *at <= busy_at + LONGEST) {
                Some(at) => ready!(clock.poll_pass(cx, at)),
                None => return Poll::Pending,
            }
        }
    }));
}

/// A connection from the first host to the second, made by one thread.
fn connect(hosts: &[Host; 2], observers: [&Arc<Registration>; 2]) -> [Arc<Cell>; 2] {
    let [client, server] = hosts;
    let listener = {
        let mut socket = Unconnected::new(server.engine.core(), server.engine.tcp(), Family::V4);
        let address = "10.0.0.2:80".parse().unwrap();
        server.engine.tcp().bind(server.engine.core(), &mut socket, address).unwrap();
        let observer = Arc::new(Registration::new());
        server.engine.with_tcp(START, |tcp, turn| tcp.listen(turn, socket, 1, observer)).unwrap()
    };
    let socket = Unconnected::new(client.engine.core(), client.engine.tcp(), Family::V4);
    let observer: Arc<dyn Observer> = Arc::clone(observers[0]) as _;
    let near = client
        .engine
        .with_tcp(START, |tcp, turn| tcp.connect(turn, socket, "10.0.0.2:80".parse().unwrap(), observer))
        .unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    let mut outs = [Batch::new(), Batch::new()];
    while near.state() != State::Established || listener.accept_queue_len() == 0 {
        for (host, out) in hosts.iter().zip(&mut outs) {
            let _ = host.poll_drive(&mut cx, START, out);
        }
    }
    let (far, _) = server.engine.with_tcp(START, |tcp, turn| tcp.accept(turn, &listener)).unwrap();
    far.set_observer(Arc::clone(observers[1]) as _);
    [near, far]
}

fn byte(position: usize) -> u8 {
    (position % 251) as u8
}

/// One thread writes, one reads, one drives both stacks, over a cable that holds few packets: nobody is
/// forgotten who waits for room, for data or for the device; nothing that came while a connection was locked
/// is left in its backlog, for which a retransmission would have to make up.
#[test]
fn a_writer_a_reader_and_a_driver_get_all_bytes_across() {
    explore(5, || {
        let (a, b) = Pair::new(PairConfig { queue: 2, mtu: 1500, offloads: true });
        let hosts = Arc::new([Host::new(0, a), Host::new(1, b)]);
        let [writable, readable] =
            [Events::WRITABLE, Events::NONE].map(|on| Arc::new(Registration::assuming(on)));
        let [near, far] = connect(&hosts, [&writable, &readable]);
        let clock = Arc::new(Clock::new(START));
        let done = Arc::new(AtomicBool::new(false));
        let driver = {
            let (hosts, clock, done) = (Arc::clone(&hosts), Arc::clone(&clock), Arc::clone(&done));
            thread::spawn(move || drive(&hosts, &clock, &done))
        };
        let writer = {
            let (hosts, clock, near) = (Arc::clone(&hosts), Arc::clone(&clock), Arc::clone(&near));
            thread::spawn(move || {
                let bytes: Vec<u8> = (0..BYTES).map(byte).collect();
                let mut written = 0;
                while written < BYTES {
                    let attempt = |_| {
                        clock.during(|now| {
                            hosts[0].engine.with_tcp(now, |tcp, turn| {
                                tcp.write(turn, &near, &[IoSlice::new(&bytes[written..])])
                            })
                        })
                    };
                    let mut attempt = attempt;
                    written +=
                        block_on(poll_fn(|cx| writable.poll_io(cx, Direction::Write, &mut attempt))).unwrap();
                }
            })
        };
        let mut read = 0;
        while read < BYTES {
            let mut to = [0; 5_000];
            let attempt = || {
                clock.during(|now| {
                    hosts[1]
                        .engine
                        .with_tcp(now, |tcp, turn| tcp.read(turn, &far, &mut [IoSliceMut::new(&mut to)]))
                })
            };
            let got = block_on(readable.async_io(Interest::READABLE, attempt)).unwrap();
            assert!(to[..got].iter().enumerate().all(|(n, got)| *got == byte(read + n)), "after {read}");
            read += got;
        }
        writer.join().unwrap();
        done.store(true, Ordering::SeqCst);
        hosts.iter().for_each(|host| host.wakeups.all());
        driver.join().unwrap();
        assert!(near.pop_backlog().is_none() && far.pop_backlog().is_none(), "left in a backlog");
        let info = hosts[0].engine.with_tcp(clock.now(), |tcp, turn| tcp.info(turn, &near)).unwrap();
        assert_eq!(info.total_retrans, 0, "sent again");
    });
}
