//! The reactor: one task per device queue, and one for the engine's deadlines.
//!
//! A queue's task receives packets in bounded batches and gives them to the engine, serves the
//! connections that wait for room in the device once there is some, and calls the device at its own
//! deadlines.
//! It never transmits on behalf of an application that could do so itself.

use crate::device::{Device, Readiness, Signal};
use crate::net::alarm::{Alarm, Precision};
use crate::net::core::{Core, Lifecycle};
use crate::net::handover::{Handover, Progress, Scope, Work};
use crate::net::polling::Polling;
use crate::net::wakeups::Wakeups;
use crate::stack::{Batch, QueueId};
use crate::time::{Duration, Instant};
use std::future::Future;
use std::io;
#[cfg(unix)]
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
#[cfg(unix)]
use tokio::io::{Interest, unix::AsyncFd};
use tokio::runtime::is_rt_shutdown_err;

/// Packets received in one batch at most: some tens amortise the acknowledgments and wake-ups of a
/// batch, more would only make the application wait.
const BATCH_PACKETS: usize = 64;
/// Bytes received in one batch at most: four super-segments, so that the application reads them
/// while they are in the cache, and the peer has its acknowledgment before its window is used up.
const BATCH_BYTES: usize = 256 << 10;
/// Times in a row that receiving may be interrupted before the task waits.
const MAX_INTERRUPTIONS: u8 = 16;
/// Times in a row that a device may say that it takes packets and take none before the task waits.
const MAX_REFUSALS: u8 = 4;
/// How long the task waits before it tries a device again that promises what it does not keep.
const PAUSE: Duration = Duration::from_millis(1);
/// The engine's deadlines, and the end of a stack that was abandoned.
pub(crate) struct DeadlineTask {
    pub(crate) core: Arc<Core>,
    alarm: Alarm,
    effects: Batch,
}

impl DeadlineTask {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core, alarm: Alarm::new(Precision::Near), effects: Batch::new() }
    }
}

impl Future for DeadlineTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { core, alarm, effects } = self.get_mut();
        loop {
            let now = core.clock.now();
            // The engine first, so that what is due is sent before the stack decides that it is over.
            if core.engine.next_deadline().is_some_and(|at| at <= now) {
                core.engine.on_timer(now, effects);
                effects.deliver(&core.engine);
            }
            if core.finish_if_abandoned(now) {
                return Poll::Ready(());
            }
            let next = core.engine.next_deadline().into_iter().chain(core.next_check(now)).min();
            let due = next.is_some_and(|at| alarm.poll(&core.clock, at, cx).is_ready());
            if due && core.clock.now() > now {
                continue;
            }
            if due {
                // A deadline that has passed and is not served: give the others a turn.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if core.wakeups.poll_deadline(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

/// The task of one queue of one device.
pub(crate) struct QueueTask {
    handover: Arc<Handover<QueueWork>>,
    /// Serves the queue in the thread that wakes it, where that is possible.
    inline: Option<Waker>,
    wakeups: Arc<Wakeups>,
    index: usize,
}

impl QueueTask {
    /// The task for the queue at `index` of the stack's list. Must be called in the runtime that
    /// will run it.
    pub(crate) fn new(core: Arc<Core>, index: usize) -> io::Result<Self> {
        // In paused time everything has its turn in the order in which the runtime gives it.
        let runs = core.clock.runs();
        let wakeups = Arc::clone(&core.wakeups);
        let mut work = QueueWork::new(core, index)?;
        let inline = runs && work.io.is_inline(work.queue());
        work.inline.possible = inline;
        let handover = Handover::new(work);
        let inline = inline.then(|| handover.inline());
        if let Some(waker) = &inline
            && let Some(mut work) = handover.take()
        {
            // The thread may block before the task has had its first turn.
            wakeups.set_inline(index, waker);
            work.arm(Room::Enough, &mut Context::from_waker(waker));
            if handover.put_back(work) {
                waker.wake_by_ref();
            }
        }
        Ok(Self { handover, inline, wakeups, index })
    }
}

impl QueueTask {
    /// Lets who writes to the queue receive from it, which saves turns of the runtime that both run on.
    pub(crate) fn let_writers_look(&self) {
        // Who serves a device in memory does so at once.
        if self.inline.is_none() {
            self.wakeups.set_looks(self.index, Arc::clone(&self.handover) as _);
        }
    }
}

impl Drop for QueueTask {
    /// What the current runtime knows of the device goes with the task.
    fn drop(&mut self) {
        self.handover.close();
    }
}

impl Future for QueueTask {
    type Output = ();

    /// One batch per poll, so that other tasks of the runtime have their turn in between.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        // Dropped last: what this turn makes due comes after it.
        let _scope = this.inline.as_ref().and_then(|_| Scope::enter());
        this.handover.set_task(cx.waker());
        this.wakeups.came(this.index);
        let Some(mut work) = this.handover.take() else {
            // Who has it looks again, or wakes this task.
            return Poll::Pending;
        };
        let signals = this.inline.as_ref().unwrap_or(cx.waker());
        let outcome = work.poll(cx, &mut Context::from_waker(signals));
        if this.handover.put_back(work) {
            cx.waker().wake_by_ref();
        }
        outcome
    }
}

/// What is done for one queue of one device.
struct QueueWork {
    core: Arc<Core>,
    /// Position in the stack's list of queues.
    index: usize,
    id: QueueId,
    io: QueueIo,
    alarm: Alarm,
    /// Of the device's deadlines, the one that was served last.
    served: Option<Instant>,
    /// When to go on with a device that is to be left alone for a while.
    pause: Option<Instant>,
    pause_alarm: Alarm,
    /// The device said that it takes packets.
    promised: bool,
    /// Attempts to transmit in a row that it refused after it had said so.
    refusals: u8,
    /// The device hung up, and was looked at for that reason.
    hung_up: bool,
    /// What it failed with when somebody else than the task looked.
    failure: Option<io::Error>,
    effects: Batch,
    polling: Polling,
    inline: Inline,
}

/// Whether a thread that raises an event serves the queue itself.
#[derive(Debug, Default)]
struct Inline {
    /// It may.
    possible: bool,
    /// Turns for which bulk is assumed: large packets are better received several at once, since one acknowledgment
    /// answers them.
    bulk: u8,
}

/// Turns without large packets after which a bulk transfer is over. Between them there are the ends of writes.
const BULK_TURNS: u8 = 4;
/// Packets of a batch that are longer than this, on average, are a bulk transfer.
const BULK: usize = 8 * 1024;

/// Packets of a batch that one look at the clock serves at most: some microseconds.
const SAME_TIME: usize = 16;

/// How the task waits for its queue.
enum QueueIo {
    Signal(Arc<dyn Device>),
    #[cfg(unix)]
    Fd(Arc<dyn Device>, QueueFd),
}

/// The descriptor of a queue: a duplicate of the device's, so that it stays open and the same whatever the device does.
///
/// Nearly always it can be written, and each packet that comes would be reported as two events, the second of them when
/// the packet was read already: so that is asked for by a descriptor of its own, which is made when the device is full
/// for the first time.
#[cfg(unix)]
struct QueueFd {
    readable: AsyncFd<OwnedFd>,
    writable: Option<AsyncFd<OwnedFd>>,
}

#[cfg(unix)]
impl QueueFd {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { readable: watch(fd, Interest::READABLE)?, writable: None })
    }

    /// None if the process may have no more descriptors.
    fn writable(&mut self) -> Option<&AsyncFd<OwnedFd>> {
        if self.writable.is_none() {
            let fd = self.readable.get_ref().try_clone();
            self.writable = fd.and_then(|fd| watch(fd, Interest::WRITABLE)).ok();
        }
        self.writable.as_ref()
    }
}

#[cfg(unix)]
fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "this crate forbids the kind of block that the replacement needs; an OwnedFd \
                  that is never taken out upholds its contract"
    )]
    AsyncFd::with_interest(fd, interest)
}

impl QueueIo {
    fn new(device: Arc<dyn Device>, queue: usize) -> io::Result<Self> {
        #[cfg(unix)]
        if let Readiness::Fd(fd) = device.readiness(queue) {
            let fd = QueueFd::new(fd.try_clone_to_owned()?)?;
            return Ok(Self::Fd(device, fd));
        }
        let _ = queue;
        Ok(Self::Signal(device))
    }

    fn device(&self) -> &dyn Device {
        match self {
            Self::Signal(device) => device.as_ref(),
            #[cfg(unix)]
            Self::Fd(device, _) => device.as_ref(),
        }
    }

    fn is_fd(&self) -> bool {
        !matches!(self, Self::Signal(_))
    }

    /// Whether the thread that raises an event may receive from the queue.
    fn is_inline(&self, queue: usize) -> bool {
        match self {
            Self::Signal(device) => {
                matches!(device.readiness(queue), Readiness::Signal(signal) if signal.is_inline())
            }
            #[cfg(unix)]
            Self::Fd(..) => false,
        }
    }

    /// Waits until the queue may be readable. The queue was found empty just now.
    fn poll_readable(&self, queue: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Signal(device) => poll_signal(device.as_ref(), queue, |signal| signal.poll_readable(cx)),
            #[cfg(unix)]
            Self::Fd(_, fd) => fd.readable.poll_read_ready(cx).map_ok(|mut guard| guard.clear_ready()),
        }
    }

    /// Waits until the queue may be writable. The queue was found full just now.
    fn poll_writable(&mut self, queue: usize, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Signal(device) => poll_signal(device.as_ref(), queue, |signal| signal.poll_writable(cx)),
            #[cfg(unix)]
            Self::Fd(_, fd) => match fd.writable() {
                Some(fd) => fd.poll_write_ready(cx).map_ok(|mut guard| guard.clear_ready()),
                // As from a device that promises what it does not keep: it is tried again, with pauses.
                None => Poll::Ready(Ok(())),
            },
        }
    }

    /// Waits until a descriptor reports an error, which is how the end of a device shows that has nothing to read. To
    /// tokio it means that nothing can be written any more.
    fn poll_hang_up(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Signal(_) => Poll::Pending,
            #[cfg(unix)]
            Self::Fd(_, fd) => fd.readable.poll_write_ready(cx).map_ok(drop),
        }
    }
}

fn poll_signal(
    device: &dyn Device,
    queue: usize,
    poll: impl FnOnce(&Signal) -> Poll<()>,
) -> Poll<io::Result<()>> {
    match device.readiness(queue) {
        Readiness::Signal(signal) => poll(signal).map(Ok),
        #[cfg(unix)]
        Readiness::Fd(_) => Poll::Ready(Err(io::Error::other("the device changed how it is waited for"))),
    }
}

/// How a batch ended.
enum BatchEnd {
    /// The queue is empty, after this many packets.
    Drained(usize),
    /// The limit of a batch, or of a queue of datagrams, after this many packets; there may be more.
    Full(usize),
    /// Receiving is interrupted all the time.
    Interrupted,
    /// The device cannot be used any more.
    Failed(io::Error),
}

/// Room in the device, for the connections that wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// None waits.
    Enough,
    /// Some wait for their next turn only.
    ForMore,
    /// The device is full.
    None,
}

impl QueueWork {
    fn new(core: Arc<Core>, index: usize) -> io::Result<Self> {
        let id = core.wakeups.queue_id(index);
        let device = core.engine.core().device(id.interface);
        let device = device.ok_or_else(|| crate::error::os(libc::ENODEV))?;
        let io = QueueIo::new(device, usize::from(id.queue))?;
        let polling = Polling::new(core.engine.core().config().busy_poll);
        let mut effects = Batch::new();
        effects.keep_buffer(core.engine.core().pool().take());
        if io.is_fd() {
            effects.let_answers_go_first();
        }
        Ok(Self {
            core,
            index,
            id,
            io,
            alarm: Alarm::new(Precision::Exact),
            served: None,
            pause: None,
            pause_alarm: Alarm::new(Precision::Millisecond),
            promised: false,
            refusals: 0,
            hung_up: false,
            failure: None,
            effects,
            polling,
            inline: Inline::default(),
        })
    }

    fn queue(&self) -> usize {
        usize::from(self.id.queue)
    }

    /// Receives packets. `now` becomes the time of the end.
    fn receive_batch(&mut self, now: &mut Instant) -> BatchEnd {
        let mut packets = 0;
        let end = self.receive_packets(now, &mut packets);
        // One packet takes no time to speak of.
        if packets > 1 {
            *now = self.core.clock.now();
        }
        end
    }

    fn receive_packets(&mut self, now: &mut Instant, packets: &mut usize) -> BatchEnd {
        let mut bytes = 0;
        let end = self.receive_up_to(now, packets, &mut bytes);
        if *packets > 0 {
            let bulk = bytes > *packets * BULK;
            self.inline.bulk = if bulk { BULK_TURNS } else { self.inline.bulk.saturating_sub(1) };
        }
        end
    }

    fn receive_up_to(&mut self, now: &mut Instant, packets: &mut usize, bytes: &mut usize) -> BatchEnd {
        let mut interruptions = 0;
        // Often it is one packet whose answer somebody waits for. That comes before the look for more, where the
        // look is a system call.
        let one = self.polling.takes_one() && self.io.is_fd();
        let most = if one { 1 } else { BATCH_PACKETS };
        while *packets < most && *bytes < BATCH_BYTES {
            // A few packets have the same time, unless one of them made us send: on a short path the answer to
            // that may be among the next ones, and its round trip is measured.
            if *packets % SAME_TIME == SAME_TIME - 1 || self.effects.has_transmitted() {
                *now = self.core.clock.now();
            }
            let mut buf = self.effects.next_buffer(self.core.engine.core().pool());
            match self.io.device().receive(*now, self.queue(), &mut buf) {
                Ok(meta) => {
                    *packets += 1;
                    *bytes += meta.len;
                    self.core.engine.on_packet(*now, self.id, buf, meta, &mut self.effects);
                    if self.effects.is_crowded() {
                        return BatchEnd::Full(*packets);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.effects.keep_buffer(buf);
                    // The packet that ended the last connection came in a buffer too.
                    self.core.engine.trim_if_idle();
                    if *bytes > *packets * BULK {
                        self.polling.takes_several();
                    } else {
                        self.polling.on_drained(*packets);
                    }
                    return BatchEnd::Drained(*packets);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    self.effects.keep_buffer(buf);
                    interruptions += 1;
                    if interruptions == MAX_INTERRUPTIONS {
                        return BatchEnd::Interrupted;
                    }
                }
                Err(error) => return BatchEnd::Failed(error),
            }
        }
        BatchEnd::Full(*packets)
    }

    fn fail(&mut self, error: &io::Error) {
        self.core.wakeups.mark_dead(self.index);
        self.core.engine.on_device_error(self.core.clock.now(), self.id, error, &mut self.effects);
        self.effects.deliver(&self.core.engine);
    }

    /// Sends for the connections that wait for room in the device, once for each.
    fn serve_waiting(&mut self, now: Instant) -> Room {
        if !self.core.engine.has_waiting(self.id) {
            self.refusals = 0;
            return Room::Enough;
        }
        let takes = self.core.engine.on_writable(now, self.id, &mut self.effects);
        let promised = std::mem::take(&mut self.promised);
        if takes || self.effects.has_transmitted() {
            self.refusals = 0;
        } else if promised {
            self.refusals = self.refusals.saturating_add(1);
        }
        self.effects.deliver(&self.core.engine);
        if !self.core.engine.has_waiting(self.id) {
            self.refusals = 0;
            return Room::Enough;
        }
        if takes { Room::ForMore } else { Room::None }
    }

    /// The device's own deadlines, which the task of its first queue serves.
    fn poll_device_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.id.queue != 0 {
            return Poll::Pending;
        }
        let Some(at) = self.io.device().next_deadline() else { return Poll::Pending };
        let now = self.core.clock.now();
        if at <= now {
            // One that is not over once it was served does not become so by serving it all the time.
            let at = Some(at);
            if self.served == at {
                self.pause.get_or_insert(now + PAUSE);
                return Poll::Pending;
            }
            self.served = at;
            self.io.device().on_deadline(now);
            return Poll::Ready(());
        }
        self.alarm.poll(&self.core.clock, at, cx)
    }

    /// Forgets the events that brought the task here, before it looks at the queue. What happens
    /// from now on is a new event; what happened before is found by looking.
    fn take_events(&self, cx: &mut Context<'_>) {
        if let QueueIo::Signal(device) = &self.io
            && let Readiness::Signal(signal) = device.readiness(self.queue())
        {
            signal.take_readable();
        } else {
            // Whether there was an event does not matter, and an error comes back when waiting.
            let _ = self.io.poll_readable(self.queue(), cx);
        }
        self.core.wakeups.take_queue(self.index);
    }

    /// Waits for the next event of the device; ready if there has been one already.
    fn poll_events(&mut self, room: Room, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let queue = self.queue();
        let readable = self.io.poll_readable(queue, cx);
        let writable = match room {
            Room::None if self.refusals < MAX_REFUSALS => {
                let writable = self.io.poll_writable(queue, cx);
                self.promised = writable.is_ready();
                writable
            }
            Room::None => {
                // What is tried after the pause counts, too: one that keeps a promise ends it.
                self.promised = true;
                self.pause.get_or_insert_with(|| self.core.clock.now() + PAUSE);
                Poll::Pending
            }
            _ if self.hung_up => Poll::Pending,
            _ => {
                let hung_up = self.io.poll_hang_up(cx);
                self.hung_up = hung_up.is_ready();
                hung_up
            }
        };
        any([readable, writable])
    }

    /// Waits for the next time at which there is something to do; ready if it has come.
    fn poll_times(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let due = self.poll_device_deadline(cx).map(Ok);
        let pause = match self.pause {
            Some(at) => self.pause_alarm.poll(&self.core.clock, at, cx).map(Ok),
            None => Poll::Pending,
        };
        if pause.is_ready() {
            (self.pause, self.served) = (None, None);
        }
        any([due, pause])
    }

    /// Whether only the task can wait for what comes next.
    fn has_times(&self) -> bool {
        self.pause.is_some() || (self.id.queue == 0 && self.io.device().next_deadline().is_some())
    }

    /// Receives a batch and does what follows from it. Says how it ended, and whether who reads should have a turn.
    fn receive_and_deliver(&mut self, now: &mut Instant) -> (BatchEnd, bool) {
        let batch = self.receive_batch(now);
        let crowded = self.effects.take_crowded();
        self.core.engine.end_batch(*now, &mut self.effects);
        self.effects.deliver(&self.core.engine);
        (batch, crowded || self.effects.has_held_back())
    }

    /// Receives a batch, if there is one. False if the task has something to do.
    fn receive_quickly(&mut self) -> bool {
        if self.core.lifecycle() == Lifecycle::Stopped || self.core.wakeups.is_dead(self.index) {
            return false;
        }
        // There is no answer that somebody waits for.
        self.polling.takes_several();
        let mut now = self.core.clock.now();
        let (batch, crowded) = self.receive_and_deliver(&mut now);
        match batch {
            BatchEnd::Failed(error) => {
                self.failure = Some(error);
                false
            }
            BatchEnd::Interrupted => false,
            BatchEnd::Drained(_) | BatchEnd::Full(_) => !crowded,
        }
    }

    /// Serves the queue: one batch.
    fn serve(&mut self, cx: &mut Context<'_>) -> Served {
        self.take_events(cx);
        // Afterwards, since the end of the stack is an event, too.
        if self.core.lifecycle() == Lifecycle::Stopped || self.core.wakeups.is_dead(self.index) {
            return Served::Over;
        }
        if let Some(error) = self.failure.take() {
            self.fail(&error);
            return Served::Over;
        }
        self.core.wakeups.looked(self.index);
        let mut now = self.core.clock.now();
        let (batch, crowded) = self.receive_and_deliver(&mut now);
        let room = self.serve_waiting(now);
        let packets = match batch {
            BatchEnd::Failed(error) => {
                self.fail(&error);
                return Served::Over;
            }
            BatchEnd::Interrupted => {
                self.pause.get_or_insert(now + PAUSE);
                None
            }
            BatchEnd::Full(packets) => {
                self.polling.looks_again(now, packets);
                return Served::More { room, crowded };
            }
            BatchEnd::Drained(packets) => Some(packets),
        };
        if room == Room::ForMore || self.effects.has_held_back() {
            return Served::More { room, crowded };
        }
        let again = packets.is_some_and(|packets| self.polling.looks_again(now, packets));
        Served::All { again: again && !self.inline.possible, room, crowded }
    }

    /// Makes the signals tell who waits of what comes from now on, whatever there is already.
    fn arm(&mut self, room: Room, cx: &mut Context<'_>) {
        // The second time, what there was is forgotten.
        let _ = self.poll_events(room, cx).is_pending() || self.poll_events(room, cx).is_pending();
    }

    /// In the task of the queue, which `cx` is of; `signals` is for what may be served elsewhere, too.
    fn poll(&mut self, cx: &mut Context<'_>, signals: &mut Context<'_>) -> Poll<()> {
        let (room, crowded) = match self.serve(signals) {
            Served::Over => return Poll::Ready(()),
            Served::More { room, crowded } | Served::All { again: true, room, crowded } => (room, crowded),
            Served::All { again: false, room, crowded } => {
                let events = self.poll_events(room, signals);
                let wakeup = self.core.wakeups.poll_queue(self.index, cx).map(Ok);
                match any([events, wakeup, self.poll_times(cx)]) {
                    Poll::Pending => {
                        self.polling.on_wait();
                        if self.has_times() {
                            self.core.wakeups.has_deadline();
                        }
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(())) => {}
                    // The runtime ends and will drop this task; the device is not to blame.
                    Poll::Ready(Err(error)) if is_rt_shutdown_err(&error) => return Poll::Pending,
                    Poll::Ready(Err(error)) => {
                        self.fail(&error);
                        return Poll::Ready(());
                    }
                }
                (room, crowded)
            }
        };
        if self.inline.possible {
            // The thread may block before the next turn.
            self.arm(room, signals);
            self.core.wakeups.defer(self.index);
        }
        if crowded {
            // Behind all others, the future of `block_on` included, which a task that is always ready would
            // keep waiting for some sixty turns. Forgetting the future does not forget the waker.
            let behind = std::pin::pin!(tokio::task::yield_now());
            let _ = behind.poll(cx);
        } else {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

/// What one look at a queue has left.
enum Served {
    /// The queue or its stack is no more.
    Over,
    /// There may be more packets, or connections that have more to send.
    More { room: Room, crowded: bool },
    /// Nothing. The next look may come at once, though.
    All { again: bool, room: Room, crowded: bool },
}

/// The first of several events, errors before others.
fn any<const N: usize>(events: [Poll<io::Result<()>>; N]) -> Poll<io::Result<()>> {
    let mut any = Poll::Pending;
    for event in events {
        match event {
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) => any = Poll::Ready(Ok(())),
            Poll::Pending => {}
        }
    }
    any
}

/// In any thread that has something for the queue.
impl Work for QueueWork {
    fn defers(&mut self) -> bool {
        self.inline.bulk > 0 && self.core.wakeups.defer(self.index)
    }

    fn turn(&mut self, waker: &Waker) -> Progress {
        let cx = &mut Context::from_waker(waker);
        match self.serve(cx) {
            Served::Over => Progress::Task,
            // Who reads should have a turn before more is received, unless more comes.
            Served::More { room, crowded: true } | Served::All { room, crowded: true, .. } => {
                self.arm(room, cx);
                self.core.wakeups.defer(self.index);
                Progress::Task
            }
            Served::More { .. } => Progress::Again,
            Served::All { room, .. } => match self.poll_events(room, cx) {
                Poll::Ready(Err(_)) => Progress::Task,
                Poll::Ready(Ok(())) => Progress::Again,
                Poll::Pending if self.has_times() => {
                    self.core.wakeups.has_deadline();
                    Progress::Task
                }
                Poll::Pending => Progress::Waits,
            },
        }
    }

    fn look(&mut self) -> bool {
        self.receive_quickly()
    }

    fn leave(&mut self, waker: &Waker) {
        self.arm(Room::Enough, &mut Context::from_waker(waker));
        self.core.wakeups.defer(self.index);
    }
}
