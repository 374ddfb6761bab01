//! The current stack: the one that constructors without a stack argument use.
//!
//! The innermost selection wins: [`Stack::scope`] and [`Stack::enter`], then
//! [`Stack::bind_runtime`], then [`Stack::install`]. Without any of them, constructors return an
//! error.

use super::Stack;
use crate::sync::{Mutex, Rank};
use futures_core::Stream;
use pin_project_lite::pin_project;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use tokio::runtime::{Handle, Id};
use tokio::task::JoinHandle;

/// The error of [`Stack::install`]: another stack has been installed before.
#[derive(Debug)]
pub struct AlreadyInstalled(
    /// The stack that was not installed.
    pub Stack,
);

impl fmt::Display for AlreadyInstalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("another netstack stack is installed already")
    }
}

impl std::error::Error for AlreadyInstalled {}

impl From<AlreadyInstalled> for io::Error {
    fn from(error: AlreadyInstalled) -> Self {
        Self::new(io::ErrorKind::AlreadyExists, error.to_string())
    }
}

impl Stack {
    /// Makes this stack the default of the process. A later call replaces it only after it has
    /// ended, because it was shut down or because its runtime ended.
    ///
    /// From then on the process owns a handle to the stack. This does not keep the process running.
    ///
    /// # Errors
    /// [`AlreadyInstalled`], which contains the stack.
    ///
    /// # Examples
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// netstack::Stack::builder().build()?.install()?;
    /// let listener = netstack::net::TcpListener::bind("127.0.0.1:0").await?;
    /// assert!(listener.local_addr()?.ip().is_loopback());
    /// # Ok(())
    /// # }
    /// ```
    pub fn install(&self) -> Result<(), AlreadyInstalled> {
        let mut installed = INSTALLED.lock();
        if installed.as_ref().is_some_and(|stack| stack.core().ensure_open().is_ok()) {
            return Err(AlreadyInstalled(self.clone()));
        }
        let old = installed.replace(self.clone());
        drop(installed);
        drop(old);
        Ok(())
    }

    /// Makes this stack the default of all code that runs on `runtime` until the guard is dropped:
    /// its tasks on every worker, the tasks that they spawn, and blocking calls. The guard may be
    /// sent to other threads. A later binding of the same runtime overrides an earlier one.
    ///
    /// # Errors
    /// If the stack has ended.
    pub fn bind_runtime(&self, runtime: &Handle) -> io::Result<BindGuard> {
        self.core().ensure_open()?;
        let guard = NEXT_GUARD.fetch_add(1, Ordering::Relaxed);
        BOUND.lock().push(Bound { runtime: runtime.id(), guard, stack: self.clone() });
        Ok(BindGuard { guard, _override: Override::new() })
    }

    /// Makes this stack the default of this thread until the guard is dropped. It is meant for
    /// `main` and for synchronous tests. It does not apply to tasks that a multi-threaded runtime
    /// runs on other threads; use [`Stack::bind_runtime`] or [`Stack::scope`] for those.
    ///
    /// # Examples
    /// ```
    /// use netstack::{Driver, Stack, net::TcpSocket};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let stack = Stack::builder().driver(Driver::Thread).build()?;
    /// let _entered = stack.enter();
    /// let socket = TcpSocket::new_v4()?;
    /// # drop(socket);
    /// # Ok(())
    /// # }
    /// ```
    pub fn enter(&self) -> EnterGuard {
        EnterGuard { _entry: Entry::new(self), _override: Override::new() }
    }

    /// Makes this stack the default of `future`, wherever it is polled, but not of the tasks that it
    /// spawns: see [`Stack::spawn`].
    pub fn scope<F>(&self, future: F) -> Scoped<F> {
        Scoped { future, stack: self.clone(), counted: Override::new() }
    }

    /// Spawns `future` with this stack as its default: `tokio::spawn(stack.scope(future))`.
    ///
    /// # Panics
    /// Outside of a tokio runtime, as [`tokio::spawn`] does.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.scope(future))
    }

    /// The current stack, which constructors without a stack argument use: see
    /// [above](Stack#which-stack-a-socket-belongs-to).
    ///
    /// # Errors
    /// [`io::ErrorKind::Unsupported`] if there is no current stack.
    pub fn current() -> io::Result<Self> {
        Self::try_current().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::Unsupported,
                "no netstack stack here: use Stack::install, bind_runtime, enter or scope",
            )
        })
    }

    /// The current stack, if any.
    pub fn try_current() -> Option<Self> {
        let overridden = OVERRIDES.load(Ordering::Relaxed) != 0;
        overridden.then(|| entered().or_else(bound)).flatten().or_else(|| INSTALLED.lock().clone())
    }
}

/// The guard of [`Stack::bind_runtime`], which unbinds the stack when it is dropped.
#[derive(Debug)]
#[must_use = "the binding ends when the guard is dropped"]
pub struct BindGuard {
    guard: u64,
    _override: Override,
}

impl Drop for BindGuard {
    fn drop(&mut self) {
        let mut bound = BOUND.lock();
        let mine = bound.iter().position(|bound| bound.guard == self.guard).map(|at| bound.remove(at));
        drop(bound);
        drop(mine);
    }
}

/// The guard of [`Stack::enter`]. It cannot be sent to another thread.
#[derive(Debug)]
#[must_use = "the stack is left when the guard is dropped"]
pub struct EnterGuard {
    _entry: Entry,
    _override: Override,
}

pin_project! {
    /// A future or stream with a default stack, made by [`Stack::scope`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scoped<F> {
        #[pin]
        future: F,
        stack: Stack,
        counted: Override,
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = Entry::new(this.stack);
        this.future.poll(cx)
    }
}

impl<S: Stream> Stream for Scoped<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        let _entered = Entry::new(this.stack);
        this.future.poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.future.size_hint()
    }
}

/// Runs `future` with `stack` as the default of the whole runtime, and then waits until all data
/// that it wrote has been acknowledged, for at most
/// [`Config::exit_drain`](crate::Config::exit_drain).
///
/// Use it as the body of `main`, so that written data is delivered before `main` returns.
///
/// # Errors
/// If the stack has ended.
///
/// # Examples
/// ```
/// use netstack::Stack;
/// use netstack::net::{TcpListener, TcpStream};
///
/// #[tokio::main]
/// async fn main() -> std::io::Result<()> {
///     let stack = Stack::builder().build()?;
///     netstack::run(stack, async {
///         let listener = TcpListener::bind("127.0.0.1:0").await?;
///         let addr = listener.local_addr()?;
///         let client = tokio::spawn(async move { TcpStream::connect(addr).await });
///         listener.accept().await?;
///         client.await?.map(drop)
///     })
///     .await?
/// }
/// ```
pub async fn run<F: Future>(stack: Stack, future: F) -> io::Result<F::Output> {
    let output = {
        let _bound = stack.bind_runtime(&Handle::current())?;
        stack.scope(future).await
    };
    stack.drain(stack.core().exit_drain()).await;
    Ok(output)
}

/// Scopes and bindings that exist in the process: while there are none, the installed stack is the
/// only candidate, and this is the only thing to look at before it.
static OVERRIDES: AtomicUsize = AtomicUsize::new(0);

/// The installed stack.
static INSTALLED: Mutex<Option<Stack>> = Mutex::new(Rank::Leaf, None);

/// Stacks bound to runtimes, each with the number of its guard; the latest of a runtime counts. A
/// process has few runtimes.
static BOUND: Mutex<Vec<Bound>> = Mutex::new(Rank::Leaf, Vec::new());

static NEXT_GUARD: AtomicU64 = AtomicU64::new(0);

struct Bound {
    runtime: Id,
    guard: u64,
    stack: Stack,
}

/// Counts in [`OVERRIDES`] while it lives.
#[derive(Debug)]
struct Override;

impl Override {
    fn new() -> Self {
        OVERRIDES.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Override {
    fn drop(&mut self) {
        OVERRIDES.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The stacks that a thread has entered, each with the number of its entry.
struct Entries {
    next: u64,
    entries: Vec<(u64, Stack)>,
}

thread_local! {
    static ENTERED: RefCell<Entries> = const { RefCell::new(Entries { next: 0, entries: Vec::new() }) };
}

/// A stack is entered while this lives, on the thread that made it.
#[derive(Debug)]
struct Entry {
    number: u64,
    not_send: PhantomData<*const ()>,
}

impl Entry {
    fn new(stack: &Stack) -> Self {
        let enter = |entered: &RefCell<Entries>| {
            let mut entered = entered.borrow_mut();
            entered.next += 1;
            let number = entered.next;
            entered.entries.push((number, stack.clone()));
            number
        };
        // While the thread ends the list is gone, and no code runs that could look at it.
        Self { number: ENTERED.try_with(enter).unwrap_or(0), not_send: PhantomData }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mine = ENTERED.try_with(|entered| {
            let entries = &mut entered.borrow_mut().entries;
            // Guards may be dropped in any order.
            let at = entries.iter().rposition(|(number, _)| *number == self.number)?;
            Some(entries.remove(at))
        });
        drop(mine);
    }
}

fn entered() -> Option<Stack> {
    // Gone while the thread ends: then nothing is entered.
    ENTERED.try_with(|entered| entered.borrow().entries.last().map(|(_, stack)| stack.clone())).ok().flatten()
}

fn bound() -> Option<Stack> {
    let runtime = Handle::try_current().ok()?.id();
    BOUND.lock().iter().rev().find(|bound| bound.runtime == runtime).map(|bound| bound.stack.clone())
}
