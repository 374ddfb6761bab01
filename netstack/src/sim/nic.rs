//! The device of a host.

use super::links::Shared;
use super::sink::{CAPABILITIES, Inbox};
use crate::buffer::PacketBuf;
use crate::device::{Capabilities, Device, PacketLost, Readiness, RxMeta, TxPacket};
use crate::sync::{Mutex, Rank};
use crate::time::Instant;
use std::io;
use std::sync::Arc;

/// The device of a host that is on.
pub(super) struct Nic {
    host: usize,
    inbox: Arc<Inbox>,
    net: Arc<Shared>,
    /// Set once the host has no power.
    unplugged: Mutex<bool>,
}

impl Nic {
    pub(super) fn new(host: usize, inbox: Arc<Inbox>, net: Arc<Shared>) -> Self {
        Self { host, inbox, net, unplugged: Mutex::new(Rank::InnerDevice, false) }
    }

    /// Nothing goes out any more.
    pub(super) fn unplug(&self) {
        *self.unplugged.lock() = true;
    }
}

impl Device for Nic {
    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    fn receive(&self, _now: Instant, _queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        self.inbox.pop(buf)
    }

    fn transmit(&self, _now: Instant, _queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        if *self.unplugged.lock() {
            return Err(PacketLost.into());
        }
        // The net has a clock for all hosts; that of a stack begins when the host is switched on.
        self.net.send(self.host, packet);
        Ok(())
    }

    /// The net looks by itself who has something to do.
    fn flush(&self, _queue: usize) {}

    fn readiness(&self, _queue: usize) -> Readiness<'_> {
        Readiness::Signal(&self.inbox.signal)
    }
}
