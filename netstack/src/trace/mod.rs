//! What happens in a stack, event by event: for an observer of all of it ([`Trace`]), and for the
//! [`History`] that a connection keeps of itself.
//!
//! Both are off by default. See [`StackBuilder::trace`](crate::StackBuilder::trace),
//! [`EngineSetup::trace`](crate::stack::EngineSetup::trace) and
//! [`Config::history`](crate::Config::history).

mod event;
mod history;
#[cfg(feature = "tracing")]
mod tracing;

pub use event::{About, Call, EventKind, SegmentInfo, TimerKind, TimerSet, Trace, TraceEvent, Windows};
pub(crate) use history::Ring;
pub use history::{Entry, History};
#[cfg(feature = "tracing")]
pub use tracing::Tracing;
