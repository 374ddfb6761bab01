//! Who serves a device queue: the task of the reactor, or a thread that has put packets into it.
//!
//! The kernel works while a program does not. A runtime whose only thread blocks serves nothing, and with it
//! nothing would be delivered, not even over loopback. So the thread that flushes a device in memory serves the
//! queue at its other end itself, once it holds no lock: it is the [`Waker`] of that queue's signal that does it.
//! This also saves a turn of the runtime for each packet.
//!
//! - One thread at a time serves a queue. It takes the queue's work out of its [`Handover`], so that nothing is
//!   locked meanwhile. Others that come leave a mark, and the one that has the work looks again.
//! - One level deep: what serving a queue makes due is served after it, by the same thread.
//! - Bounded: after [`MAX_TURNS`] the rest is left to the tasks of the reactor.
//! - Not at any price: work that is cheaper in larger batches, as that of a bulk transfer, is left to the task
//!   ([`Work::defers`]). If the task does not come, the standby (`net/standby.rs`) notices, and it is done here after all.

use crate::net::wakeups::Look;
use crate::sync::{Mutex, Rank};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt::{self, Debug};
use std::sync::Arc;
use std::task::{Wake, Waker};

/// Turns that one call serves at most. A turn is a batch of up to 64 packets; what one call sets in motion is
/// limited by the windows of its connection, which is less.
const MAX_TURNS: usize = 128;

/// What is done for a queue.
pub(super) trait Work: Send + 'static {
    /// Whether the task should do it, which is cheaper. It is asked again where the task does not come.
    fn defers(&mut self) -> bool;
    /// Does what is there to be done, up to a batch, and makes `waker` know of what comes later.
    fn turn(&mut self, waker: &Waker) -> Progress;
    /// Leaves what there is to the task. `waker` is for what comes.
    fn leave(&mut self, waker: &Waker);
    /// Receives what there is, up to a batch. False if the task has something to do after that.
    fn look(&mut self) -> bool;
}

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing is left; the waker knows of what comes.
    Waits,
    /// There may be more.
    Again,
    /// Only the task can go on: something has to wait for a time, or is over.
    Task,
}

/// The work of one queue, and how to reach the task that does it when nobody else does.
pub(super) struct Handover<W> {
    slot: Mutex<Slot<W>>,
    task: Mutex<Option<Waker>>,
}

struct Slot<W> {
    /// None while somebody does it, and once it is over.
    work: Option<Box<W>>,
    /// Somebody came while the work was out.
    missed: bool,
    /// The task is gone, and the work with it.
    closed: bool,
}

impl<W: Work> Handover<W> {
    pub(super) fn new(work: W) -> Arc<Self> {
        let slot = Slot { work: Some(Box::new(work)), missed: false, closed: false };
        Arc::new(Self { slot: Mutex::new(Rank::Leaf, slot), task: Mutex::new(Rank::Readiness, None) })
    }

    /// The waker that serves the queue in the thread that wakes it.
    pub(super) fn inline(self: &Arc<Self>) -> Waker {
        Waker::from(Arc::clone(self))
    }

    /// Whom to wake where a thread does not go on by itself.
    pub(super) fn set_task(&self, waker: &Waker) {
        let known = self.task.lock().as_ref().is_some_and(|known| known.will_wake(waker));
        if !known {
            let mine = waker.clone();
            let old = self.task.lock().replace(mine);
            drop(old);
        }
    }

    /// The task says again whom to wake when it has its turn.
    fn wake_task(&self) {
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Takes the work out. If somebody else has it, they will look again.
    pub(super) fn take(&self) -> Option<Box<W>> {
        let mut slot = self.slot.lock();
        let work = slot.work.take();
        slot.missed = work.is_none();
        work
    }

    /// Puts the work back. Whether somebody came meanwhile, so that there may be something to do.
    pub(super) fn put_back(&self, work: Box<W>) -> bool {
        let mut slot = self.slot.lock();
        if slot.closed {
            drop(slot);
            drop(work);
            return false;
        }
        slot.work = Some(work);
        std::mem::take(&mut slot.missed)
    }

    /// Drops the work, now or when it is put back: its task has ended.
    pub(super) fn close(&self) {
        let work = {
            let mut slot = self.slot.lock();
            slot.closed = true;
            slot.work.take()
        };
        let task = self.task.lock().take();
        drop((work, task));
    }
}

impl<W: Work> Wake for Handover<W> {
    fn wake(self: Arc<Self>) {
        run(self);
    }
}

impl<W: Work> Look for Handover<W> {
    fn look(&self) {
        // Who has it receives anyway, and need not look once more.
        let work = self.slot.lock().work.take();
        let Some(mut work) = work else { return };
        let done = work.look();
        if self.put_back(work) || !done {
            self.wake_task();
        }
    }
}

impl<W> Debug for Handover<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handover").finish_non_exhaustive()
    }
}

/// A [`Handover`], whatever its work is.
trait Queue: Send + Sync {
    /// One turn, and whether to come back for another.
    fn serve(self: Arc<Self>) -> bool;
    /// Leaves the rest to the task.
    fn leave(self: Arc<Self>);
}

impl<W: Work> Queue for Handover<W> {
    fn serve(self: Arc<Self>) -> bool {
        let Some(mut work) = self.take() else { return false };
        let progress = if work.defers() { Progress::Task } else { work.turn(&self.inline()) };
        let missed = self.put_back(work);
        match progress {
            Progress::Again => true,
            Progress::Waits => missed,
            Progress::Task => {
                self.wake_task();
                false
            }
        }
    }

    fn leave(self: Arc<Self>) {
        if let Some(mut work) = self.take() {
            work.leave(&self.inline());
            self.put_back(work);
        }
        self.wake_task();
    }
}

#[cfg(not(all(test, netstack_shuttle)))]
thread_local! {
    static DUE: RefCell<Due> = const { RefCell::new(Due::NONE) };
}
#[cfg(all(test, netstack_shuttle))]
shuttle::thread_local! {
    static DUE: RefCell<Due> = RefCell::new(Due::NONE);
}

/// The queues that a thread is to serve.
struct Due {
    /// Whether it serves any.
    serves: bool,
    /// Empty if it does not. Its memory stays, since that happens for every packet.
    queues: VecDeque<Arc<dyn Queue>>,
}

impl Due {
    const NONE: Self = Self { serves: false, queues: VecDeque::new() };

    /// The thread serves none any more. Those that are left, for which another scope may begin.
    fn end(&mut self) -> VecDeque<Arc<dyn Queue>> {
        self.serves = false;
        if self.queues.is_empty() { VecDeque::new() } else { std::mem::take(&mut self.queues) }
    }
}

/// Serves what became due on this thread when it is dropped, up to the limit.
pub(super) struct Scope(());

impl Scope {
    /// From now on, queues that become due on this thread wait for the end of the scope. None inside of another.
    pub(super) fn enter() -> Option<Self> {
        let entered = DUE.try_with(|due| !std::mem::replace(&mut due.borrow_mut().serves, true));
        // A scope that is not entered must not be dropped either.
        entered.unwrap_or(false).then(|| Self(()))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let next = || DUE.with(|due| due.borrow_mut().queues.pop_front());
        let mut turns = if std::thread::panicking() { MAX_TURNS } else { 0 };
        while turns < MAX_TURNS
            && let Some(queue) = next()
        {
            turns += 1;
            if Arc::clone(&queue).serve() {
                push(queue);
            }
        }
        let left = DUE.with(|due| due.borrow_mut().end());
        left.into_iter().for_each(|queue| queue.leave());
    }
}

/// Notes that `queue` is due, if this thread serves queues. Gives it back if not.
fn push(queue: Arc<dyn Queue>) -> Option<Arc<dyn Queue>> {
    let mut queue = Some(queue);
    // A thread that ends has no such list any more.
    let _ = DUE.try_with(|due| {
        let mut due = due.borrow_mut();
        if due.serves {
            due.queues.extend(queue.take());
        }
    });
    queue
}

/// Serves `queue` now, or once the queue is served that this thread serves now.
fn run(queue: Arc<dyn Queue>) {
    let Some(queue) = push(queue) else { return };
    match Scope::enter() {
        Some(_scope) => drop(push(queue)),
        None => queue.leave(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Barrier, OnceLock};

    type Turn = Box<dyn FnMut(usize) -> Progress + Send>;

    /// Work that counts its turns and does what a test says.
    struct Scripted {
        turns: Arc<AtomicUsize>,
        turn: Turn,
        defers: bool,
    }

    impl Work for Scripted {
        fn defers(&mut self) -> bool {
            std::mem::take(&mut self.defers)
        }

        fn turn(&mut self, _: &Waker) -> Progress {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed);
            (self.turn)(turn)
        }

        fn leave(&mut self, _: &Waker) {
            self.turns.fetch_add(1000, Ordering::Relaxed);
        }

        fn look(&mut self) -> bool {
            let turn = self.turns.fetch_add(1, Ordering::Relaxed);
            (self.turn)(turn) != Progress::Task
        }
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Work, its turns, and how often its task was woken.
    fn scripted(turn: impl FnMut(usize) -> Progress + Send + 'static) -> Parts {
        let turns = Arc::new(AtomicUsize::new(0));
        let handover =
            Handover::new(Scripted { turns: Arc::clone(&turns), turn: Box::new(turn), defers: false });
        let woken = Arc::new(Count::default());
        handover.set_task(&Waker::from(Arc::clone(&woken)));
        Parts { handover, turns, woken }
    }

    struct Parts {
        handover: Arc<Handover<Scripted>>,
        turns: Arc<AtomicUsize>,
        woken: Arc<Count>,
    }

    impl Parts {
        fn seen(&self) -> (usize, usize) {
            (self.turns.load(Ordering::Relaxed), self.woken.0.load(Ordering::Relaxed))
        }
    }

    #[test]
    fn who_wakes_the_queue_serves_it_until_nothing_is_left() {
        let queue = scripted(|turn| if turn < 3 { Progress::Again } else { Progress::Waits });
        queue.handover.inline().wake();
        assert_eq!(queue.seen(), (4, 0));
        queue.handover.inline().wake_by_ref();
        assert_eq!(queue.seen(), (5, 0));
    }

    #[test]
    fn what_only_the_task_can_do_is_left_to_it() {
        let queue = scripted(|_| Progress::Task);
        queue.handover.inline().wake();
        assert_eq!(queue.seen(), (1, 1));
        queue.handover.inline().wake();
        assert_eq!(queue.seen(), (2, 1), "it has not had its turn yet");
    }

    #[test]
    fn what_is_deferred_is_done_if_the_task_does_not_come() {
        let queue = scripted(|_| Progress::Waits);
        let mut work = queue.handover.take().unwrap();
        work.defers = true;
        queue.handover.put_back(work);
        queue.handover.inline().wake();
        assert_eq!(queue.seen(), (0, 1));
        queue.handover.inline().wake();
        assert_eq!(queue.seen(), (1, 1));
    }

    #[test]
    fn one_call_does_a_bounded_amount_of_work() {
        let queue = scripted(|_| Progress::Again);
        queue.handover.inline().wake();
        assert_eq!(queue.seen(), (MAX_TURNS + 1000, 1));
    }

    #[test]
    fn what_serving_a_queue_makes_due_is_served_after_it() {
        let depth = Arc::new(AtomicUsize::new(0));
        let other: Arc<OnceLock<Waker>> = Arc::default();
        let visit = |depth: &Arc<AtomicUsize>, other: &Arc<OnceLock<Waker>>| {
            let (depth, other) = (Arc::clone(depth), Arc::clone(other));
            move |turn| {
                assert_eq!(depth.fetch_add(1, Ordering::Relaxed), 0, "one level deep");
                if turn < 2 {
                    other.get().expect("a waker").wake_by_ref();
                }
                depth.fetch_sub(1, Ordering::Relaxed);
                Progress::Waits
            }
        };
        let to_right: Arc<OnceLock<Waker>> = Arc::default();
        let left = scripted(visit(&depth, &to_right));
        let right = scripted(visit(&depth, &other));
        to_right.set(right.handover.inline()).unwrap();
        other.set(left.handover.inline()).unwrap();
        left.handover.inline().wake();
        assert_eq!((left.seen(), right.seen()), ((3, 0), (2, 0)));
    }

    #[test]
    fn who_comes_while_a_queue_is_served_makes_its_thread_look_again() {
        let meeting = Arc::new(Barrier::new(2));
        let at = Arc::clone(&meeting);
        let queue = scripted(move |turn| {
            if turn == 0 {
                at.wait();
                at.wait();
            }
            Progress::Waits
        });
        let waker = queue.handover.inline();
        let serving = std::thread::spawn(move || waker.wake());
        meeting.wait();
        queue.handover.inline().wake();
        assert!(queue.handover.take().is_none(), "one at a time");
        assert_eq!(queue.seen(), (1, 0));
        meeting.wait();
        serving.join().unwrap();
        assert_eq!(queue.seen(), (2, 0));
    }

    #[test]
    fn who_looks_receives_and_wakes_the_task_for_the_rest_only() {
        let queue = scripted(|turn| if turn == 0 { Progress::Waits } else { Progress::Task });
        queue.handover.look();
        assert_eq!(queue.seen(), (1, 0));
        queue.handover.look();
        assert_eq!(queue.seen(), (2, 1));
        let work = queue.handover.take().unwrap();
        queue.handover.look();
        assert_eq!(queue.seen(), (2, 1), "another thread has it");
        assert!(!queue.handover.put_back(work), "and need not look again");
    }

    #[test]
    fn nothing_is_served_once_the_task_is_gone() {
        let queue = scripted(|_| Progress::Waits);
        let work = queue.handover.take().unwrap();
        queue.handover.close();
        assert!(!queue.handover.put_back(work));
        queue.handover.inline().wake();
        assert_eq!(queue.seen(), (0, 0));
        assert_eq!(Arc::strong_count(&queue.turns), 1, "the work is dropped");
    }

    #[test]
    fn a_task_that_serves_lets_what_it_makes_due_wait() {
        let queue = scripted(|_| Progress::Waits);
        {
            let scope = Scope::enter();
            assert!(scope.is_some() && Scope::enter().is_none());
            queue.handover.inline().wake();
            assert_eq!(queue.seen(), (0, 0));
        }
        assert_eq!(queue.seen(), (1, 0));
    }
}
