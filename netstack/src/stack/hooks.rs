//! The hooks that the stack calls: observers of sockets, and its driver. They are called with no
//! lock held.

use super::flow::QueueId;
use crate::readiness::Events;

/// The observer of a socket, which is notified of its events. It is called with no lock held.
pub trait Observer: Send + Sync {
    /// Something happened: edges, not levels.
    fn on_ready(&self, ready: Events);
}

/// A socket, or something like one, that may have an observer.
pub(crate) trait Subject: Send + Sync {
    /// Its observer.
    fn observer(&self) -> Option<&dyn Observer>;
}

/// The driver, which sleeps until the next deadline and waits for devices to become writable. It is
/// called with no lock held.
pub trait DriverHook: Send + Sync {
    /// The earliest deadline is now before what [`Engine::next_deadline`](super::Engine::next_deadline)
    /// said last.
    fn deadline_moved(&self);
    /// A socket waits until `queue` takes packets: call
    /// [`Engine::on_writable`](super::Engine::on_writable) when it does.
    fn waiting(&self, queue: QueueId);
    /// The device of the interface with this number is gone.
    fn interface_failed(&self, interface: u16) {
        let _ = interface;
    }
}
