//! Echo requests to the addresses of other hosts, which the application answers.

use super::core::Core;
use super::echo_queue::{EchoQueue, HeldEcho};
use super::egress::{send_icmp, send_unreachable_about};
use super::flow::WayBack;
use super::hooks::Observer;
use super::icmp_limit::Cause;
use super::turn::{Arrival, Turn};
use crate::config::EchoPolicy;
use crate::error::os;
use crate::icmp::{Undelivered, Unreachable, emit_echo_reply};
use crate::ip::Cast;
use crate::readiness::Events;
use crate::reasons::DropReason;
use crate::wire::{IpHeader, IpMeta};
use std::io;
use std::sync::Arc;

/// Makes the queue that the stack puts echo requests into.
pub(super) fn open(core: &Core, observer: Arc<dyn Observer>) -> io::Result<Arc<EchoQueue>> {
    core.check_alive()?;
    if core.config().any_ip_echo != EchoPolicy::Forward {
        let text = "`Config::any_ip_echo` does not leave echo requests to the application";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let queue = Arc::new(EchoQueue::new(observer));
    let mut current = core.echo().lock();
    if current.is_some() {
        return Err(os(libc::EADDRINUSE));
    }
    *current = Some(Arc::clone(&queue));
    Ok(queue)
}

/// Nothing is put into `queue` any more, and what waits is dropped.
pub(super) fn close(core: &Core, queue: &Arc<EchoQueue>) {
    let closed = {
        let mut current = core.echo().lock();
        let is_current = current.as_ref().is_some_and(|current| Arc::ptr_eq(current, queue));
        if is_current { current.take() } else { None }
    };
    drop(closed);
    queue.clear();
}

/// Leaves an echo request to the application.
///
/// # Errors
/// If nobody takes it, or there is no room.
pub(super) fn leave(turn: &mut Turn<'_>, arrival: &Arrival<'_>) -> Result<(), DropReason> {
    let queue = turn.core.echo().lock().clone().ok_or(DropReason::EchoIgnored)?;
    let bytes = arrival.bytes.bytes()[..arrival.header.payload.end].into();
    if !queue.push(HeldEcho { from: arrival.from, header: arrival.header.clone(), bytes }) {
        return Err(DropReason::EchoQueueFull);
    }
    turn.out.notify(queue, Events::READABLE);
    Ok(())
}

/// Replies to an echo request in the name of the host that it is for, or reports that this host cannot be
/// reached.
pub(super) fn answer(turn: &mut Turn<'_>, held: &HeldEcho, error: Option<Unreachable>) {
    let IpHeader { src: remote, dst: local, .. } = held.header;
    let queue = turn.core.way_back(held.from, &WayBack { local, remote, bound: None, spread: 0 });
    match error {
        None => {
            let mut reply = Vec::new();
            let ip = IpMeta::new(local, remote, turn.core.config().default_ttl);
            emit_echo_reply(&mut reply, &held.request(), &ip);
            send_icmp(turn, queue, &reply);
        }
        Some(reason) => {
            let packet = Undelivered { header: &held.header, bytes: &held.bytes, cast: Cast::Unicast };
            send_unreachable_about(turn, queue, reason, &packet, Cause::Application);
        }
    }
}
