//! Readiness and wakers of one socket, as tokio keeps them.
//!
//! The engine says that something *happened*; tokio's users rely on more: a flag that stays set
//! until an attempt finds nothing. [`Registration`] keeps that flag beside the real state of the
//! socket, with a tick that counts events, so that an attempt that found nothing cannot clear an
//! event that came while it was looking.
//!
//! Wakers are kept as tokio keeps them: one slot for the `poll_*` methods that read, one for those
//! that write (the latest caller wins), and a list of any length for the `async` methods. They are
//! cloned, dropped and called with no lock held, because each of the three may run foreign code.

use crate::net::error::Cause;
use crate::readiness::Events;
use crate::stack::Observer;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{Mutex, Rank};
use arrayvec::ArrayVec;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use tokio::io::{Interest, Ready};
use tokio::task::coop;

/// The bits of [`Events`] that are readiness; the others are the engine's own business.
const FLAGS: u64 = 0x1f;
/// Set once the stack is over: every wait ends with an error from then on.
const SHUTDOWN: u64 = 1 << 8;
/// Set beside it if the stack is over because its runtime is.
const RUNTIME_ENDED: u64 = 1 << 9;
/// Set for a socket that an error does not end. It never changes.
const DATAGRAMS: u64 = 1 << 10;
/// One event. The tick fills the bits from here on and may wrap.
const TICK: u64 = 1 << 11;

/// Places for waiters that stay once they were used.
const KEPT: usize = 2;
/// Wakers called in one go, between two holds of the lock.
const WAKE_BATCH: usize = 32;

/// Which of the two waker slots, and which flags end the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

impl Direction {
    fn mask(self) -> Events {
        match self {
            Self::Read => Events::READABLE | Events::READ_CLOSED,
            Self::Write => Events::WRITABLE | Events::WRITE_CLOSED,
        }
    }
}

/// A look at the flags: what was set, and as of which event.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    word: u64,
    ready: Events,
}

impl Seen {
    /// The flags in tokio's type.
    pub(crate) fn ready(self) -> Ready {
        let table = [
            (Events::READABLE, Ready::READABLE),
            (Events::WRITABLE, Ready::WRITABLE),
            (Events::READ_CLOSED, Ready::READ_CLOSED),
            (Events::WRITE_CLOSED, Ready::WRITE_CLOSED),
            (Events::ERROR, Ready::ERROR),
        ];
        table
            .iter()
            .filter(|(event, _)| self.ready.contains(*event))
            .fold(Ready::EMPTY, |all, (_, ready)| all | *ready)
    }
}

/// The events that satisfy an interest: the closed states count as the open ones do.
fn mask(interest: Interest) -> Events {
    let mut mask = Events::NONE;
    if interest.is_readable() {
        mask |= Direction::Read.mask();
    }
    if interest.is_writable() {
        mask |= Direction::Write.mask();
    }
    if interest.is_error() {
        mask |= Events::ERROR;
    }
    mask
}

/// Whose waker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Nobody's: to be used again.
    Free,
    /// Of the `poll_*` methods of a direction, the latest caller.
    Poll(Direction),
    /// Of one future of the `async` methods.
    Future,
}

/// One who waits.
#[derive(Debug)]
struct Waiter {
    whose: Whose,
    mask: Events,
    /// None once it was called.
    waker: Option<Waker>,
}

/// Those who wait. A slice and not a vector, since most sockets have one or two.
#[derive(Debug, Default)]
struct Waiters(Box<[Waiter]>);

impl Waiters {
    /// Takes up to [`WAKE_BATCH`] wakers that wait for any of `happened`; whether there are more.
    fn take(&mut self, happened: Events, batch: &mut ArrayVec<Waker, WAKE_BATCH>) -> bool {
        for waiter in &mut self.0 {
            if waiter.waker.is_some() && happened.intersects(waiter.mask) {
                if batch.is_full() {
                    return true;
                }
                batch.extend(waiter.waker.take());
            }
        }
        false
    }

    fn will_wake(&self, at: usize, cx: &Context<'_>) -> bool {
        self.0[at].waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()))
    }

    fn position(&self, whose: Whose) -> Option<usize> {
        self.0.iter().position(|waiter| waiter.whose == whose)
    }

    /// Puts a waiter at an index, or where there is a place. Gives the index, and who was there before.
    fn put(&mut self, at: Option<usize>, waiter: Waiter) -> (usize, Waiter) {
        let at = at.or_else(|| self.position(Whose::Free)).unwrap_or_else(|| {
            let len = self.0.len();
            // One more while they are few; then as a vector grows.
            self.resize(if len < KEPT { len + 1 } else { 2 * len });
            len
        });
        (at, std::mem::replace(&mut self.0[at], waiter))
    }

    /// Takes a waiter out. The others keep their indices.
    fn remove(&mut self, at: usize) -> Option<Waker> {
        self.0[at].whose = Whose::Free;
        let waker = self.0[at].waker.take();
        if self.0.len() > KEPT {
            // They leave in any order: what is free at the end is given back.
            let used = self.0.iter().rposition(|waiter| waiter.whose != Whose::Free).map_or(0, |at| at + 1);
            if used <= self.0.len() / 4 {
                self.resize(used.max(KEPT));
            }
        }
        waker
    }

    fn resize(&mut self, len: usize) {
        let mut waiters = std::mem::take(&mut self.0).into_vec();
        waiters.reserve_exact(len.saturating_sub(waiters.len()));
        waiters.resize_with(len, || Waiter { whose: Whose::Free, mask: Events::NONE, waker: None });
        self.0 = waiters.into_boxed_slice();
    }
}

/// Readiness and wakers of one socket; the engine's [`Observer`].
#[derive(Debug)]
pub(crate) struct Registration {
    /// Flags, the shutdown bit and the tick.
    word: AtomicU64,
    waiters: Mutex<Waiters>,
}

impl Registration {
    /// Nothing has happened yet.
    pub(crate) fn new() -> Self {
        Self::assuming(Events::NONE)
    }

    /// As if `ready` had happened. An accepted connection is writable and often holds the peer's
    /// first bytes; a wrong guess costs one attempt that finds nothing.
    pub(crate) fn assuming(ready: Events) -> Self {
        Self {
            word: AtomicU64::new(u64::from(ready.bits()) & FLAGS),
            waiters: Mutex::new(Rank::Readiness, Waiters::default()),
        }
    }

    /// Of a socket for datagrams: it can send, and goes on after an error.
    pub(crate) fn for_datagrams() -> Self {
        Self { word: AtomicU64::new(u64::from(Events::WRITABLE.bits()) | DATAGRAMS), ..Self::new() }
    }

    /// Ends every wait, now and later, with the error of a stack that is over.
    pub(crate) fn shut_down(&self, cause: Cause) {
        let bits = match cause {
            Cause::RuntimeEnded => SHUTDOWN | RUNTIME_ENDED,
            Cause::ShutDown => SHUTDOWN,
        };
        // The first cause counts.
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            (word & SHUTDOWN == 0).then_some(word | bits)
        });
        self.wake(Events::from_bits(FLAGS as u16));
    }

    /// Whether the stack is over.
    pub(crate) fn is_over(&self) -> bool {
        self.word.load(Ordering::Acquire) & SHUTDOWN != 0
    }

    fn wake(&self, happened: Events) {
        let mut batch = ArrayVec::new();
        loop {
            let more = self.waiters.lock().take(happened, &mut batch);
            batch.drain(..).for_each(Waker::wake);
            if !more {
                return;
            }
        }
    }

    fn look(&self, mask: Events) -> io::Result<Seen> {
        let word = self.word.load(Ordering::Acquire);
        if word & SHUTDOWN != 0 {
            let ended = word & RUNTIME_ENDED != 0;
            return Err(if ended { Cause::RuntimeEnded } else { Cause::ShutDown }.error());
        }
        Ok(Seen { word, ready: Events::from_bits((word & FLAGS) as u16 & mask.bits()) })
    }

    /// Takes back the flags of `seen`, unless something happened since. The closed states stay:
    /// they are final.
    pub(crate) fn clear(&self, seen: Seen) {
        let closed = u64::from((Events::READ_CLOSED | Events::WRITE_CLOSED).bits());
        let cleared = u64::from(seen.ready.bits()) & !closed;
        // A failed exchange means that an event came or another attempt cleared other flags; only
        // the first must stop us.
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            (word / TICK == seen.word / TICK).then_some(word & !cleared)
        });
    }

    /// Waits in the waker slot of `direction`. Costs one unit of tokio's cooperative budget.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>, direction: Direction) -> Poll<io::Result<Seen>> {
        let budget = ready!(coop::poll_proceed(cx));
        let mut seen = self.look(direction.mask())?;
        if seen.ready.is_empty() {
            self.set_slot(cx, direction);
            // What happened before the waker was in its slot woke nobody.
            seen = self.look(direction.mask())?;
            if seen.ready.is_empty() {
                return Poll::Pending;
            }
        }
        budget.made_progress();
        Poll::Ready(Ok(seen))
    }

    fn set_slot(&self, cx: &mut Context<'_>, direction: Direction) {
        let whose = Whose::Poll(direction);
        let known = {
            let waiters = self.waiters.lock();
            waiters.position(whose).is_some_and(|at| waiters.will_wake(at, cx))
        };
        if !known {
            let waiter = Waiter { whose, mask: direction.mask(), waker: Some(cx.waker().clone()) };
            let mut waiters = self.waiters.lock();
            let at = waiters.position(whose);
            let old = waiters.put(at, waiter);
            drop(waiters);
            drop(old);
        }
    }

    /// Waits until one of the states of `interest` holds, in the list of waiters.
    pub(crate) fn ready(&self, interest: Interest) -> ReadyFuture<'_> {
        ReadyFuture { registration: self, mask: mask(interest), slot: None }
    }

    /// Attempts until the outcome is not "would block", waiting in the slot of `direction`.
    pub(crate) fn poll_io<R>(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        mut attempt: impl FnMut(Seen) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        loop {
            let seen = ready!(self.poll_ready(cx, direction))?;
            match attempt(seen) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear(seen),
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    /// Attempts until the outcome is not "would block", waiting in the list of waiters.
    pub(crate) async fn async_io<R>(
        &self,
        interest: Interest,
        mut attempt: impl FnMut() -> io::Result<R>,
    ) -> io::Result<R> {
        loop {
            let mut seen = self.look(mask(interest))?;
            if seen.ready.is_empty() {
                seen = self.ready(interest).await?;
            }
            let budget = std::future::poll_fn(coop::poll_proceed).await;
            match attempt() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear(seen),
                outcome => {
                    budget.made_progress();
                    return outcome;
                }
            }
        }
    }

    /// Attempts once, if the flags of `interest` are set at all.
    pub(crate) fn try_io<R>(
        &self,
        interest: Interest,
        attempt: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        let seen = self.look(mask(interest))?;
        if seen.ready.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let outcome = attempt();
        if outcome.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock) {
            self.clear(seen);
        }
        outcome
    }
}

impl Observer for Registration {
    fn on_ready(&self, happened: Events) {
        let mut happened = happened;
        if self.word.load(Ordering::Relaxed) & DATAGRAMS != 0 && happened.intersects(Events::ERROR) {
            // Who sends and who receives are told of it, and neither state is final.
            happened |= Events::READABLE | Events::WRITABLE;
        } else if happened.intersects(Events::ERROR | Events::HANGUP) {
            // As epoll's HUP: a connection that is over neither blocks a reader nor a writer.
            happened |= Direction::Read.mask() | Direction::Write.mask();
        }
        let flags = u64::from(happened.bits()) & FLAGS;
        if flags == 0 {
            return;
        }
        // The tick may carry out of the word; it never carries into the flags.
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            Some((word | flags).wrapping_add(TICK))
        });
        self.wake(happened);
    }
}

/// Future of [`Registration::ready`].
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub(crate) struct ReadyFuture<'a> {
    registration: &'a Registration,
    mask: Events,
    /// Index of this waiter in the list, once it is there.
    slot: Option<usize>,
}

impl ReadyFuture<'_> {
    fn enlist(&mut self, cx: &mut Context<'_>) {
        let waiters = &self.registration.waiters;
        if self.slot.is_some_and(|slot| waiters.lock().will_wake(slot, cx)) {
            return;
        }
        let waiter = Waiter { whose: Whose::Future, mask: self.mask, waker: Some(cx.waker().clone()) };
        let (slot, old) = waiters.lock().put(self.slot, waiter);
        self.slot = Some(slot);
        drop(old);
    }
}

impl Future for ReadyFuture<'_> {
    type Output = io::Result<Seen>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Seen>> {
        let mut seen = self.registration.look(self.mask)?;
        if seen.ready.is_empty() {
            self.enlist(cx);
            // What happened before the waker was in the list woke nobody.
            seen = self.registration.look(self.mask)?;
        }
        if seen.ready.is_empty() { Poll::Pending } else { Poll::Ready(Ok(seen)) }
    }
}

impl Drop for ReadyFuture<'_> {
    fn drop(&mut self) {
        let Some(slot) = self.slot else { return };
        let old = self.registration.waiters.lock().remove(slot);
        drop(old);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn waker() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    fn would_block() -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    #[test]
    fn a_flag_stays_until_an_attempt_finds_nothing() {
        let registration = Registration::new();
        assert_eq!(
            registration
                .try_io(Interest::READABLE, || -> io::Result<()> { panic!("not ready") })
                .unwrap_err()
                .kind(),
            io::ErrorKind::WouldBlock
        );
        registration.on_ready(Events::READABLE);
        assert_eq!(registration.try_io(Interest::READABLE, || Ok(7)).unwrap(), 7);
        assert!(registration.try_io(Interest::READABLE, would_block).is_err());
        assert!(registration.look(Direction::Read.mask()).unwrap().ready.is_empty());
    }

    #[test]
    fn an_event_during_an_attempt_is_not_lost() {
        let registration = Registration::assuming(Events::READABLE);
        let outcome = registration.try_io(Interest::READABLE, || {
            registration.on_ready(Events::READABLE);
            would_block()
        });
        assert!(outcome.is_err());
        assert!(registration.look(Events::READABLE).unwrap().ready.contains(Events::READABLE));
    }

    #[test]
    fn closed_states_are_final() {
        let registration = Registration::new();
        registration.on_ready(Events::READABLE | Events::READ_CLOSED);
        let _ = registration.try_io(Interest::READABLE, would_block);
        let seen = registration.look(Direction::Read.mask()).unwrap();
        assert_eq!(seen.ready, Events::READ_CLOSED);
    }

    #[test]
    fn the_slots_keep_the_latest_waker_and_the_list_keeps_all() {
        let registration = Registration::new();
        let (first, first_waker) = waker();
        let (second, second_waker) = waker();
        for waker in [&first_waker, &second_waker] {
            let mut cx = Context::from_waker(waker);
            assert!(registration.poll_ready(&mut cx, Direction::Read).is_pending());
        }
        let mut futures: Vec<_> =
            (0..WAKE_BATCH + 8).map(|_| registration.ready(Interest::READABLE)).collect();
        let (all, all_waker) = waker();
        for future in &mut futures {
            assert!(Pin::new(future).poll(&mut Context::from_waker(&all_waker)).is_pending());
        }
        registration.on_ready(Events::WRITABLE);
        assert_eq!(all.0.load(Ordering::SeqCst), 0, "nobody waits to write");
        registration.on_ready(Events::READABLE);
        assert_eq!(first.0.load(Ordering::SeqCst), 0);
        assert_eq!(second.0.load(Ordering::SeqCst), 1);
        assert_eq!(all.0.load(Ordering::SeqCst), WAKE_BATCH + 8);
        drop(futures);
        assert!(registration.waiters.lock().0.len() <= 4 && size_of::<Waiter>() <= 24);
    }

    #[test]
    fn shutting_down_ends_waits_for_good() {
        let registration = Registration::new();
        let (count, waker) = waker();
        let mut cx = Context::from_waker(&waker);
        let mut future = registration.ready(Interest::WRITABLE);
        assert!(Pin::new(&mut future).poll(&mut cx).is_pending());
        registration.shut_down(Cause::RuntimeEnded);
        assert_eq!(count.0.load(Ordering::SeqCst), 1);
        for _ in 0..2 {
            let Poll::Ready(Err(error)) = registration.poll_ready(&mut cx, Direction::Read) else {
                panic!("the stack is over")
            };
            assert!(tokio::runtime::is_rt_shutdown_err(&error));
            registration.on_ready(Events::READABLE);
        }
    }

    #[test]
    fn an_error_of_a_datagram_socket_is_over_once_it_was_looked_for() {
        let registration = Registration::for_datagrams();
        registration.on_ready(Events::ERROR);
        let all = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
        let seen = registration.look(mask(all)).unwrap();
        assert!(seen.ready().is_readable() && seen.ready().is_writable() && seen.ready().is_error());
        assert!(!seen.ready().is_read_closed() && !seen.ready().is_write_closed());
        registration.clear(seen);
        assert!(registration.look(mask(all)).unwrap().ready.is_empty());
    }

    #[test]
    fn an_error_ends_every_kind_of_wait() {
        let registration = Registration::new();
        registration.on_ready(Events::ERROR);
        let all = Interest::READABLE | Interest::WRITABLE | Interest::ERROR;
        let seen = registration.look(mask(all)).unwrap().ready();
        assert!(seen.is_read_closed() && seen.is_write_closed() && seen.is_error());
        assert!(seen.is_readable() && seen.is_writable());
    }

    /// Unparks a thread.
    struct Unpark(std::thread::Thread);

    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
        let mut future = std::pin::pin!(future);
        loop {
            match future.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(output) => return output,
                Poll::Pending => std::thread::park(),
            }
        }
    }

    /// Whatever the source did before it told of an event is seen by who was told, on any processor: Miri and
    /// ThreadSanitizer run this.
    #[test]
    fn threads_see_what_an_event_is_about() {
        const ITEMS: usize = if cfg!(miri) { 8 } else { 10_000 };
        let (registration, items) = (Registration::new(), AtomicUsize::new(0));
        let take = || {
            let taken =
                items.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |items| items.checked_sub(1));
            taken.or_else(|_| would_block())
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..2 * ITEMS {
                    items.fetch_add(1, Ordering::Relaxed);
                    registration.on_ready(Events::READABLE);
                }
            });
            scope.spawn(|| {
                for _ in 0..ITEMS {
                    let take =
                        std::future::poll_fn(|cx| registration.poll_io(cx, Direction::Read, |_| take()));
                    block_on(take).unwrap();
                }
            });
            for _ in 0..ITEMS {
                block_on(registration.async_io(Interest::READABLE, take)).unwrap();
            }
        });
        assert_eq!(items.load(Ordering::Relaxed), 0);
    }
}
