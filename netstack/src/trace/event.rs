//! Events, and who is told of them.

use crate::reasons::{DropReason, EndReason, ResetReason};
use crate::time::Instant;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Who is told what happens in a stack.
///
/// Called with no lock held, by whichever thread did what happened. The events of one thread come in their
/// order; those of several threads are ordered by [`TraceEvent::at`] only.
pub trait Trace: Send + Sync {
    /// Something happened.
    fn event(&self, event: &TraceEvent);
}

/// Something that happened in a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceEvent {
    /// When, by the stack's clock.
    pub at: Instant,
    /// To whom.
    pub about: About,
    /// What.
    pub kind: EventKind,
}

impl TraceEvent {
    /// What happened to whom, and when.
    pub const fn new(at: Instant, about: About, kind: EventKind) -> Self {
        Self { at, about, kind }
    }
}

/// To whom something happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct About {
    /// The number of the connection, [`Cell::id`](crate::stack::Cell::id); none if there is none, or only
    /// half of one.
    pub connection: Option<u64>,
    /// The local address and port; none in a packet that could not be read. The port is 0 where no port
    /// was looked at.
    pub local: Option<SocketAddr>,
    /// The remote address and port.
    pub remote: Option<SocketAddr>,
}

impl About {
    /// A packet that could not be read.
    pub const NOTHING: Self = Self { connection: None, local: None, remote: None };

    /// A packet from `remote` to `local`.
    pub const fn hosts(local: IpAddr, remote: IpAddr) -> Self {
        Self::ends(SocketAddr::new(local, 0), SocketAddr::new(remote, 0))
    }

    /// What may become a connection.
    pub const fn ends(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { connection: None, local: Some(local), remote: Some(remote) }
    }

    /// The connection with this number.
    #[must_use]
    pub const fn connection(self, id: u64) -> Self {
        Self { connection: Some(id), ..self }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A TCP segment arrived.
    SegmentIn(SegmentInfo),
    /// A TCP segment was sent.
    SegmentOut(SegmentInfo),
    /// A TCP segment was sent again.
    Retransmitted(SegmentInfo),
    /// A timer expired.
    Timer(TimerKind),
    /// A window has another size now.
    Window(Windows),
    /// The application called.
    Call(Call),
    /// A packet was dropped.
    Dropped(DropReason),
    /// A reset was sent.
    Reset(ResetReason),
    /// The connection ended. Where a TIME-WAIT state follows, that is not waited for.
    Ended(EndReason),
}

impl EventKind {
    /// A name for it, of small letters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SegmentIn(_) => "in",
            Self::SegmentOut(_) => "out",
            Self::Retransmitted(_) => "again",
            Self::Timer(_) => "timer",
            Self::Window(_) => "window",
            Self::Call(_) => "call",
            Self::Dropped(_) => "drop",
            Self::Reset(_) => "reset",
            Self::Ended(_) => "end",
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.name())?;
        match self {
            Self::SegmentIn(segment) | Self::SegmentOut(segment) | Self::Retransmitted(segment) => {
                segment.fmt(f)
            }
            Self::Timer(timer) => f.write_str(timer.name()),
            Self::Window(windows) => windows.fmt(f),
            Self::Call(call) => call.fmt(f),
            Self::Dropped(reason) => write!(f, "{}: {reason}", reason.name()),
            Self::Reset(reason) => write!(f, "{}: {reason}", reason.name()),
            Self::Ended(reason) => reason.fmt(f),
        }
    }
}

/// A TCP segment in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// The flags as in the header: FIN is 1, SYN 2, RST 4, PSH 8, ACK 16.
    pub flags: u16,
    /// The window field, without the scale.
    pub window: u16,
    /// The sequence number.
    pub seq: u32,
    /// The acknowledgment number.
    pub ack: u32,
    /// Bytes of payload; that of a super-segment counts as one.
    pub len: u32,
}

impl SegmentInfo {
    /// A segment with `flags`, `seq` and `ack`, which are the numbers of its header.
    pub const fn new(flags: u16, seq: u32, ack: u32) -> Self {
        Self { flags, window: 0, seq, ack, len: 0 }
    }

    /// The same with a window and a payload.
    #[must_use]
    pub const fn with(self, window: u16, len: u32) -> Self {
        Self { window, len, ..self }
    }

    /// The letters that tcpdump has for the flags.
    pub fn letters(&self) -> impl fmt::Display + use<> {
        Letters(self.flags)
    }
}

impl fmt::Display for SegmentInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { window, seq, ack, len, .. } = self;
        write!(f, "[{}] seq {seq} ack {ack} win {window} len {len}", self.letters())
    }
}

struct Letters(u16);

impl fmt::Display for Letters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: [(u16, &str); 9] =
            [(2, "S"), (1, "F"), (4, "R"), (8, "P"), (16, "."), (32, "U"), (64, "E"), (128, "W"), (256, "e")];
        LETTERS.iter().filter(|(bit, _)| self.0 & bit != 0).try_for_each(|(_, letter)| f.write_str(letter))
    }
}

/// Windows in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Windows {
    /// The peer's: what it offers.
    pub send: u32,
    /// The congestion window.
    pub congestion: u32,
    /// Ours: what we offer.
    pub receive: u32,
}

impl Windows {
    /// Windows in bytes; what does not fit is as large as can be.
    pub fn new(send: usize, congestion: usize, receive: usize) -> Self {
        let fit = |bytes| u32::try_from(bytes).unwrap_or(u32::MAX);
        Self { send: fit(send), congestion: fit(congestion), receive: fit(receive) }
    }
}

impl fmt::Display for Windows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { send, congestion, receive } = self;
        write!(f, "send {send} congestion {congestion} receive {receive}")
    }
}

/// What an application asked of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Call {
    /// connect
    Connect,
    /// accept
    Accept,
    /// read, with how many bytes it got.
    Read(u32),
    /// write, with how many bytes it gave.
    Write(u32),
    /// shutdown
    Shutdown {
        /// Of reading.
        read: bool,
        /// Of writing.
        write: bool,
    },
    /// setsockopt
    SetOptions,
    /// The last handle is gone.
    Close,
    /// The connection is to be reset.
    Abort,
}

impl Call {
    /// A name for it, of small letters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Accept => "accept",
            Self::Read(_) => "read",
            Self::Write(_) => "write",
            Self::Shutdown { .. } => "shutdown",
            Self::SetOptions => "set_options",
            Self::Close => "close",
            Self::Abort => "abort",
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Read(bytes) | Self::Write(bytes) => write!(f, " {bytes}"),
            Self::Shutdown { read: true, write: true } => f.write_str(" both"),
            Self::Shutdown { read: true, .. } => f.write_str(" read"),
            Self::Shutdown { .. } => f.write_str(" write"),
            Self::Connect | Self::Accept | Self::SetOptions | Self::Close | Self::Abort => Ok(()),
        }
    }
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum TimerKind {
    /// The SYN, or the SYN-ACK of Fast Open, was not answered.
    Handshake,
    /// An acknowledgment was delayed long enough.
    DelayedAck,
    /// What is missing does not come any more, so RACK takes it for lost.
    Reorder,
    /// The tail of a flight is not acknowledged: a probe (RFC 8985 §7).
    TailLoss,
    /// What was sent is not acknowledged (RFC 6298).
    Retransmit,
    /// The window is closed: a probe.
    Persist,
    /// The peer was silent: a keep-alive probe.
    Keepalive,
    /// The time of `SO_LINGER` is over.
    Linger,
}

impl TimerKind {
    const ALL: [Self; 8] = [
        Self::Handshake,
        Self::DelayedAck,
        Self::Reorder,
        Self::TailLoss,
        Self::Retransmit,
        Self::Persist,
        Self::Keepalive,
        Self::Linger,
    ];

    /// A name for it, of small letters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::DelayedAck => "delayed_ack",
            Self::Reorder => "reorder",
            Self::TailLoss => "tail_loss",
            Self::Retransmit => "retransmit",
            Self::Persist => "persist",
            Self::Keepalive => "keepalive",
            Self::Linger => "linger",
        }
    }
}

/// Timers that expired at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerSet(u8);

impl TimerSet {
    /// Adds one.
    pub fn insert(&mut self, timer: TimerKind) {
        self.0 |= 1 << timer as u8;
    }

    /// The timers, in the order of [`TimerKind`].
    pub fn iter(self) -> impl Iterator<Item = TimerKind> {
        TimerKind::ALL.into_iter().filter(move |timer| self.0 & 1 << *timer as u8 != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_as_what_happened() {
        for (kind, text) in [
            (
                EventKind::SegmentIn(SegmentInfo::new(18, 7, 8).with(100, 0)),
                "in [S.] seq 7 ack 8 win 100 len 0",
            ),
            (EventKind::Timer(TimerKind::TailLoss), "timer tail_loss"),
            (
                EventKind::Window(Windows::new(1, 2, usize::MAX)),
                "window send 1 congestion 2 receive 4294967295",
            ),
            (EventKind::Call(Call::Read(5)), "call read 5"),
            (EventKind::Call(Call::Shutdown { read: true, write: true }), "call shutdown both"),
            (EventKind::Dropped(DropReason::TcpCsum), "drop TcpCsum: bad TCP checksum"),
            (EventKind::Reset(ResetReason::TcpAbortOnLinger), "reset TcpAbortOnLinger: SO_LINGER"),
            (EventKind::Ended(EndReason::ResetByPeer), "end reset by the peer"),
        ] {
            assert_eq!(kind.to_string(), text);
        }
    }

    #[test]
    fn a_set_of_timers_has_each_once() {
        let mut set = TimerSet::default();
        assert_eq!(set.iter().count(), 0);
        for timer in [TimerKind::Linger, TimerKind::Handshake, TimerKind::Linger] {
            set.insert(timer);
        }
        assert!(set.iter().eq([TimerKind::Handshake, TimerKind::Linger]));
        TimerKind::ALL.into_iter().for_each(|timer| set.insert(timer));
        assert!(set.iter().eq(TimerKind::ALL));
    }
}
