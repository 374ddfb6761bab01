//! The events of a stack for the crate `tracing`.

use super::event::{About, EventKind, Trace, TraceEvent};
use ::tracing::{Level, debug, enabled, field, trace};
use std::net::SocketAddr;

/// Hands what happens in a stack on to the crate [`tracing`](https://docs.rs/tracing), with the target
/// `netstack`.
///
/// Drops, resets and ends have the level DEBUG, everything else has TRACE. The fields are `at` in
/// nanoseconds of the stack's clock, `event`, `connection`, `local` and `remote`, as far as they are known;
/// drops, resets and ends have a `reason`. The message is the event as text.
///
/// # Examples
/// ```
/// use netstack::Stack;
/// use netstack::trace::Tracing;
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let stack = Stack::builder().trace(Arc::new(Tracing)).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Tracing;

impl Trace for Tracing {
    fn event(&self, event: &TraceEvent) {
        let TraceEvent { at, about, kind } = event;
        let About { connection, local, remote } = about;
        let reason = match kind {
            EventKind::Dropped(reason) => Some(reason.name()),
            EventKind::Reset(reason) => Some(reason.name()),
            EventKind::Ended(reason) => Some(reason.name()),
            _ => None,
        };
        let (at, event, local, remote) = (at.as_nanos(), kind.name(), shown(local), shown(remote));
        match reason {
            Some(reason) => {
                debug!(target: "netstack", at, event, connection, local, remote, reason, "{kind}");
            }
            None if enabled!(target: "netstack", Level::TRACE) => {
                trace!(target: "netstack", at, event, connection, local, remote, "{kind}");
            }
            None => {}
        }
    }
}

/// An address as a field, if it is known.
fn shown(address: &Option<SocketAddr>) -> Option<field::DisplayValue<&SocketAddr>> {
    address.as_ref().map(field::display)
}
