//! Flows: sockets that a forwarder made of what arrived.

use crate::ip::Cast;
use crate::stack::deadlines::Timer;
use crate::stack::flow::QueueId;
use crate::time::{Duration, Instant};
use crate::wire::{IpHeader, UDP_HEADER_LEN};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What an ICMP error quotes of a packet at most: as much as fits an IPv6 packet of the minimum MTU (RFC 4443
/// §2.4 (c)).
const LONGEST_QUOTE: usize = 1280 - 40 - 8;

/// The part of a socket that makes it a flow.
#[derive(Debug)]
pub(super) struct FlowPart {
    /// Where the client sent to, which is what the socket sends from. It claims no port.
    pub(super) local: SocketAddr,
    /// The queue that the first datagram came in on.
    pub(super) from: QueueId,
    /// For how long nothing may be sent or received before the flow ends.
    pub(super) idle_timeout: Duration,
    last_used: Instant,
    pub(super) timer: Timer,
    progress: Progress,
    quote: Quote,
    end: Option<FlowEnd>,
    /// Whether the application has taken it.
    is_accepted: bool,
    count: Arc<FlowCount>,
    /// Whether it counts, which it does as long as it is open.
    counts: bool,
}

/// What a flow begins with.
#[derive(Debug)]
pub(super) struct NewFlow {
    pub(super) local: SocketAddr,
    pub(super) from: QueueId,
    pub(super) quote: Quote,
    pub(super) idle_timeout: Duration,
}

/// How far the two ends are (`IPS_SEEN_REPLY` and `IPS_ASSURED` of Linux's connection tracking).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing was sent to the client.
    Unanswered,
    /// Something was, and nothing has come from the client since.
    Answered,
    /// The client went on after an answer: its address is not forged.
    Assured,
}

/// How a flow ended that the application did not end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlowEnd {
    /// Nothing was sent or received for too long.
    Idle,
    /// There were too many, and this one was the oldest of those that are not assured.
    Evicted,
}

impl FlowEnd {
    /// What the application is told.
    pub(super) const fn errno(self) -> i32 {
        match self {
            Self::Idle => libc::ETIMEDOUT,
            Self::Evicted => libc::ECONNABORTED,
        }
    }
}

/// The front of the first datagram, which an ICMP error about the flow quotes.
#[derive(Debug)]
pub(super) struct Quote {
    pub(super) header: IpHeader,
    pub(super) bytes: Box<[u8]>,
}

impl Quote {
    /// Of a whole packet.
    pub(super) fn of(header: &IpHeader, packet: &[u8]) -> Self {
        let len = header.payload.end.min(packet.len()).min(LONGEST_QUOTE);
        Self { header: header.clone(), bytes: packet[..len].into() }
    }

    /// Keeps the headers only, by which the client finds its socket.
    fn shorten(&mut self) {
        let len = self.bytes.len().min(self.header.payload.start + UDP_HEADER_LEN);
        self.bytes = self.bytes[..len].into();
    }

    /// To how many it was addressed: groups are not forwarded.
    pub(super) const CAST: Cast = Cast::Unicast;
}

impl FlowPart {
    /// One more of those that `count` counts. The caller has seen that there is room, and keeps others from
    /// taking it.
    pub(super) fn new(now: Instant, flow: NewFlow, count: &Arc<FlowCount>) -> Self {
        let NewFlow { local, from, quote, idle_timeout } = flow;
        count.open.fetch_add(1, Ordering::Relaxed);
        Self {
            local,
            from,
            idle_timeout,
            last_used: now,
            timer: Timer::default(),
            progress: Progress::Unanswered,
            quote,
            end: None,
            is_accepted: false,
            count: Arc::clone(count),
            counts: true,
        }
    }

    /// The application takes it.
    pub(super) fn accept(&mut self) {
        self.is_accepted = true;
    }

    /// A datagram came from the client.
    pub(super) fn on_received(&mut self, now: Instant) {
        self.last_used = now;
        if self.progress == Progress::Answered {
            self.progress = Progress::Assured;
        }
    }

    /// A datagram was sent to the client.
    pub(super) fn on_sent(&mut self, now: Instant) {
        self.last_used = now;
        if self.progress == Progress::Unanswered {
            self.progress = Progress::Answered;
            // An answered flow is seldom refused, and then the headers do.
            self.quote.shorten();
        }
    }

    /// When it has been idle for too long.
    pub(super) fn deadline(&self) -> Instant {
        self.last_used + self.idle_timeout
    }

    pub(super) fn is_assured(&self) -> bool {
        self.progress == Progress::Assured
    }

    pub(super) fn quote(&self) -> &Quote {
        &self.quote
    }

    /// Why it ended, if it did so by itself.
    pub(super) fn end(&self) -> Option<FlowEnd> {
        self.end
    }

    /// It is over, and does not count any more.
    pub(super) fn close(&mut self, end: Option<FlowEnd>) {
        if !std::mem::take(&mut self.counts) {
            return;
        }
        self.end = end;
        self.count.open.fetch_sub(1, Ordering::Relaxed);
        let counter = match end {
            None => return,
            Some(FlowEnd::Idle) => &self.count.timed_out,
            Some(FlowEnd::Evicted) => &self.count.evicted,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        if !self.is_accepted {
            self.count.ended_pending.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Drop for FlowPart {
    fn drop(&mut self) {
        self.close(None);
    }
}

/// What a forwarder counts of its flows.
#[derive(Debug, Default)]
pub(super) struct FlowCount {
    pub(super) open: AtomicUsize,
    /// Flows that ended while they waited to be accepted, and are still listed as waiting.
    pub(super) ended_pending: AtomicUsize,
    /// First datagrams that there was no room for.
    pub(super) dropped: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) evicted: AtomicU64,
}

impl FlowCount {
    /// A flow that ended while it waited is not listed any more.
    pub(super) fn forget_ended(&self) {
        let less = |ended: usize| ended.checked_sub(1);
        let _ = self.ended_pending.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}
