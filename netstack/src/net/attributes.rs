//! What `#[netstack::test]` and `#[netstack::main]` call. It is for their expansion only, and changes at any time.

use crate::device::{Link, LinkConfig, Loopback};
use crate::net::exact;
use crate::net::idle::Idle;
use crate::net::stack::Stack;
use crate::net::stack::ambient;
use crate::stack::Interface;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle};

pub use crate::net::exact::Advance;
pub use tokio::runtime;
pub use tokio::time;

/// The MTU of a loopback with a link: that of an Ethernet, so that losses are of packets as they are on a wire.
const MTU: usize = 1500;

/// What the arguments of an attribute say.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The text form of what impairs the stack's loopback.
    pub link: Option<&'static str>,
    /// Whether what was written is delivered before the end, as by [`netstack::run`](crate::run).
    pub drains: bool,
}

/// Runs `body` in a runtime of `builder`, with a stack.
///
/// # Panics
/// If the link is not one, or the runtime or the stack cannot be built.
pub fn run<F: Future>(builder: &mut Builder, settings: Settings, body: impl FnOnce(Stack) -> F) -> F::Output {
    let link = settings.link();
    let runtime = builder.enable_all().build().expect("failed to build the runtime");
    runtime.block_on(settings.run(link, body))
}

/// As [`run`], in a runtime of one thread whose time is paused, and which keeps the deadlines of stacks to the
/// nanosecond.
///
/// # Panics
/// As [`run`].
pub fn run_paused<F: Future>(
    builder: &mut Builder,
    settings: Settings,
    advance: &Advance,
    body: impl FnOnce(Stack) -> F,
) -> F::Output {
    let link = settings.link();
    let idle = Arc::new(Idle::default());
    let resting = Arc::clone(&idle);
    let runtime = builder.enable_all().on_thread_park(move || resting.on_park()).build();
    let runtime = runtime.expect("failed to build the runtime");
    runtime.block_on(exact::drive(settings.run(link, body), &idle, advance))
}

/// `tokio::time::advance`, in a box.
pub fn boxed(advance: impl Future<Output = ()> + 'static) -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(advance)
}

impl Settings {
    fn link(self) -> Option<LinkConfig> {
        let parse = |text: &str| text.parse().unwrap_or_else(|error| panic!("`link = {text:?}`: {error}"));
        self.link.map(parse)
    }

    async fn run<F: Future>(self, link: Option<LinkConfig>, body: impl FnOnce(Stack) -> F) -> F::Output {
        let builder = match link {
            Some(link) => {
                let loopback = Link::new(Arc::new(Loopback::new(MTU)), LinkConfig::default(), link);
                Stack::builder().interface(Interface::new(Arc::new(loopback)).name("lo"))
            }
            None => Stack::builder(),
        };
        let stack = builder.build().expect("failed to build the stack");
        let body = body(stack.clone());
        if self.drains {
            return ambient::run(stack, body).await.expect("the stack has just been built");
        }
        let _bound = stack.bind_runtime(&Handle::current()).expect("the stack has just been built");
        stack.scope(body).await
    }
}

/// For how long: the argument of [`Advance`].
pub type Time = Duration;
