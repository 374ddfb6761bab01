//! The echo requests that wait for the application.

use super::flow::QueueId;
use super::hooks::{Observer, Subject};
use crate::icmp::{EchoRequest, parse_echo_request};
use crate::sync::{Mutex, Rank};
use crate::wire::IpHeader;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

/// Requests that wait for the application at most. The largest, of 64 KiB, would take 16 MiB.
const LIMIT: usize = 256;

/// The echo requests that wait for the application.
pub struct EchoQueue {
    waiting: Mutex<VecDeque<HeldEcho>>,
    observer: Arc<dyn Observer>,
}

impl EchoQueue {
    pub(super) fn new(observer: Arc<dyn Observer>) -> Self {
        Self { waiting: Mutex::new(Rank::Leaf, VecDeque::new()), observer }
    }

    /// Takes the request that has waited longest.
    ///
    /// # Errors
    /// `WouldBlock` if none waits.
    pub fn pop(&self) -> io::Result<HeldEcho> {
        self.waiting.lock().pop_front().ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    /// False if it is full.
    pub(super) fn push(&self, request: HeldEcho) -> bool {
        let mut waiting = self.waiting.lock();
        let fits = waiting.len() < LIMIT;
        if fits {
            waiting.push_back(request);
        }
        fits
    }

    /// Drops what waits.
    pub(super) fn clear(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        drop(waiting);
    }
}

impl Subject for EchoQueue {
    fn observer(&self) -> Option<&dyn Observer> {
        Some(&*self.observer)
    }
}

impl fmt::Debug for EchoQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EchoQueue").field("waiting", &self.waiting.lock().len()).finish_non_exhaustive()
    }
}

/// An echo request that the application answers.
#[derive(Debug)]
pub struct HeldEcho {
    pub(super) from: QueueId,
    pub(super) header: IpHeader,
    /// The whole packet.
    pub(super) bytes: Box<[u8]>,
}

impl HeldEcho {
    /// The host that sent it.
    pub fn src(&self) -> IpAddr {
        self.header.src
    }

    /// The host that it is for.
    pub fn dst(&self) -> IpAddr {
        self.header.dst
    }

    /// Its time to live, or hop limit.
    pub fn hop_limit(&self) -> u8 {
        self.header.hop_limit
    }

    /// Its other values.
    ///
    /// # Panics
    /// Never: what is held is an echo request.
    pub fn request(&self) -> EchoRequest<'_> {
        parse_echo_request(&self.header, &self.bytes).expect("it was read as an echo request when it arrived")
    }
}
