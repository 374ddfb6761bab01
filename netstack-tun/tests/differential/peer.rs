//! The peer whom the test plays: it brings the host's connection to a state, and keeps count.

use crate::script::SeqAnchor;
use crate::segment::Outgoing;
use crate::segment::{ACK, CWR, ECE, FIN, Fault, Incoming, PSH, RST, SYN, Segment};
use crate::system::{Call, Flow, Settings, System};

/// The peer's initial sequence number: the numbers wrap soon after.
const PEER_ISS: u32 = 0xffff_fe00;
/// What stands for the host's number where it has not said any.
const NO_ISS: u32 = 0x5000_0000;
/// The peer's clock at the beginning.
const CLOCK: u32 = 0x1000_0000;
/// The shift of the peer's window.
const SHIFT: u8 = 4;
/// What the peer offers as its MSS.
pub(crate) const MSS: u16 = 1000;
/// Where the data that comes too early begins, and its length.
pub(crate) const HOLE: u32 = 100;
pub(crate) const EARLY: usize = 200;
/// What the host has written and the peer has not acknowledged: a full segment, and something more.
const UNACKED: usize = 1500;

/// The states of the host's connection in which odd segments arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum States {
    /// No socket.
    Closed,
    Listen,
    SynSent,
    /// A listener with a half-open connection, or with the cookie for one.
    SynReceived,
    SimultaneousOpen,
    /// Opened by the peer.
    Established,
    /// Opened by the host.
    EstablishedActive,
    /// With data that the application has not read.
    Unread,
    /// With data that the peer has not acknowledged.
    Unacked,
    /// With data behind a hole.
    Early,
    /// With a receive buffer that is full.
    ClosedWindow,
    /// With data that waits for the peer's window.
    PeerClosedWindow,
    FinWait1,
    /// Data before the FIN is not acknowledged either.
    FinWait1Unacked,
    FinWait1Orphan,
    FinWait2,
    FinWait2Orphan,
    CloseWait,
    /// With data that the application has not read.
    CloseWaitUnread,
    Closing,
    LastAck,
    TimeWait,
}

impl States {
    pub(crate) const ALL: [Self; 22] = [
        Self::Closed,
        Self::Listen,
        Self::SynSent,
        Self::SynReceived,
        Self::SimultaneousOpen,
        Self::Established,
        Self::EstablishedActive,
        Self::Unread,
        Self::Unacked,
        Self::Early,
        Self::ClosedWindow,
        Self::PeerClosedWindow,
        Self::FinWait1,
        Self::FinWait1Unacked,
        Self::FinWait1Orphan,
        Self::FinWait2,
        Self::FinWait2Orphan,
        Self::CloseWait,
        Self::CloseWaitUnread,
        Self::Closing,
        Self::LastAck,
        Self::TimeWait,
    ];
}

/// How things stand between the two.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    /// The peer's initial sequence number.
    pub(crate) irs: u32,
    /// The host's.
    pub(crate) iss: u32,
    /// What the host has acknowledged.
    pub(crate) rcv_nxt: u32,
    /// The end of the window that the host has offered.
    pub(crate) window_end: u32,
    /// What the peer has acknowledged in earnest.
    pub(crate) snd_una: u32,
    /// The end of what the host has sent.
    pub(crate) snd_nxt: u32,
    /// Whether timestamps were agreed on.
    pub(crate) stamps: bool,
    /// The peer's clock.
    pub(crate) clock: u32,
    /// The host's last TSval.
    pub(crate) echo: u32,
    /// The shift of the host's window.
    shift: u8,
    /// `rcv_nxt` at the end of the setup: what the answers are relative to.
    pub(crate) peer_base: u32,
    /// `snd_nxt` at the end of the setup, or of the SYN that came later.
    pub(crate) host_base: u32,
    /// Bytes that the host has not read at the end of the setup.
    pub(crate) filled: usize,
    /// Segments that were sent relative to the end of the window, which is not the same for every host: where
    /// each begins and ends, and what to add to have it as if all windows were alike.
    by_window: Vec<(u32, u32, u32)>,
}

/// Where the window ends for the comparison, from `rcv_nxt` before the first odd segment; and how far before
/// that the stream begins, if a buffer was filled.
const NOMINAL_WINDOW: u32 = 100_000;

impl Phase {
    /// The byte that the peer's stream has at a place.
    pub(crate) fn byte(&self, seq: u32) -> u8 {
        (seq.wrapping_sub(self.peer_base) % 249) as u8
    }

    /// Takes note of a segment whose place depends on how large the host's window is, or its buffer.
    pub(crate) fn note_place(&mut self, segment: &Outgoing, relative_to: SeqAnchor) {
        let nominal = match relative_to {
            SeqAnchor::Nxt => return,
            SeqAnchor::WindowEnd => self.peer_base.wrapping_add(NOMINAL_WINDOW).wrapping_sub(self.window_end),
            SeqAnchor::Irs if self.filled == 0 => return,
            SeqAnchor::Irs => self.peer_base.wrapping_sub(NOMINAL_WINDOW).wrapping_sub(self.irs),
        };
        // SYN and FIN take a number each.
        let end = segment.seq.wrapping_add(segment.payload.len() as u32 + 2);
        self.by_window.push((segment.seq, end, nominal));
    }

    /// A number of the peer as it would be if all windows were alike.
    pub(crate) fn nominal(&self, number: u32) -> u32 {
        let within = |from: u32, to: u32| number.wrapping_sub(from) <= to.wrapping_sub(from);
        let found = self.by_window.iter().find(|(from, to, _)| within(*from, *to));
        found.map_or(number, |(_, _, nominal)| number.wrapping_add(*nominal))
    }

    /// Takes note of what the host sent.
    fn on_segment(&mut self, segment: &Segment) {
        let end = segment.seq.wrapping_add(segment.len());
        if let Some((value, _)) = segment.timestamps() {
            self.echo = value;
        }
        if segment.is(RST) {
            return;
        }
        if segment.is(SYN) {
            if segment.seq != self.iss {
                self.iss = segment.seq;
                self.snd_una = end;
                self.snd_nxt = end;
                self.host_base = end;
            }
            self.shift = segment.option(3).map_or(0, |body| body[0]);
            self.stamps = segment.timestamps().is_some();
        }
        if end.wrapping_sub(self.snd_nxt).cast_signed() > 0 {
            self.snd_nxt = end;
        }
        if segment.is(ACK) {
            let shift = if segment.is(SYN) { 0 } else { self.shift };
            self.rcv_nxt = segment.ack;
            self.window_end = segment.ack.wrapping_add(u32::from(segment.window) << shift);
        }
    }
}

/// The peer.
pub(crate) struct Peer<'a> {
    pub(crate) system: &'a mut dyn System,
    settings: Settings,
    flow: Flow,
    pub(crate) phase: Phase,
    /// The peer's next sequence number.
    nxt: u32,
}

impl<'a> Peer<'a> {
    /// Brings the connection of a fresh host to a state.
    ///
    /// # Panics
    /// If the host does not do what it must for that.
    pub(crate) fn in_state(system: &'a mut dyn System, settings: &Settings, state: States) -> Self {
        let flow = system.begin(settings);
        let phase = Phase {
            irs: PEER_ISS,
            iss: NO_ISS,
            rcv_nxt: PEER_ISS.wrapping_add(1),
            window_end: PEER_ISS.wrapping_add(1),
            snd_una: NO_ISS,
            snd_nxt: NO_ISS,
            stamps: false,
            clock: CLOCK,
            echo: 0,
            shift: 0,
            peer_base: PEER_ISS.wrapping_add(1),
            host_base: NO_ISS,
            filled: 0,
            by_window: Vec::new(),
        };
        let mut peer = Self { system, settings: *settings, flow, phase, nxt: PEER_ISS };
        peer.bring_to(state);
        peer.phase.peer_base = peer.phase.rcv_nxt;
        peer.phase.host_base = peer.phase.snd_nxt;
        peer.phase.clock += 100;
        peer
    }

    fn bring_to(&mut self, state: States) {
        match state {
            States::Closed => {}
            States::Listen => {
                self.call(Call::Listen);
            }
            States::SynSent => self.host_connects(),
            States::SynReceived => {
                self.call(Call::Listen);
                self.syn();
            }
            States::SimultaneousOpen => {
                self.host_connects();
                self.syn();
            }
            States::Established => self.accepted(),
            States::EstablishedActive => self.connected(),
            States::Unread => {
                self.accepted();
                self.in_order(ACK | PSH, 300);
                self.in_order(ACK | PSH, 50);
                self.phase.filled = 350;
            }
            States::Unacked => {
                self.accepted();
                self.host_writes(UNACKED);
            }
            States::Early => {
                self.accepted();
                let early = self.segment(ACK | PSH, self.nxt.wrapping_add(HOLE), EARLY);
                let answer = self.exchange(&early);
                assert_eq!(answer[0].ack, self.nxt, "the hole is asked for");
            }
            States::ClosedWindow => {
                self.accepted();
                self.fill();
            }
            States::PeerClosedWindow => {
                self.accepted();
                let mut closed = self.segment(ACK, self.nxt, 0);
                closed.window = 0;
                self.exchange(&closed);
                self.host_writes(UNACKED);
            }
            States::FinWait1 => {
                self.accepted();
                self.host_fin(Call::ShutdownWrite);
            }
            States::FinWait1Unacked => {
                self.accepted();
                self.host_writes(UNACKED);
                self.host_fin(Call::ShutdownWrite);
            }
            States::FinWait1Orphan => {
                self.accepted();
                self.host_fin(Call::Close);
            }
            States::FinWait2 => {
                self.accepted();
                self.host_fin(Call::ShutdownWrite);
                self.acknowledge();
            }
            States::FinWait2Orphan => {
                self.accepted();
                self.host_fin(Call::Close);
                self.acknowledge();
            }
            States::CloseWait => {
                self.accepted();
                self.fin();
            }
            States::CloseWaitUnread => {
                self.accepted();
                self.in_order(ACK | PSH, 300);
                self.phase.filled = 300;
                self.fin();
            }
            States::Closing => {
                self.accepted();
                self.host_fin(Call::ShutdownWrite);
                self.fin();
            }
            States::LastAck => {
                self.accepted();
                self.fin();
                self.host_fin(Call::Close);
            }
            States::TimeWait => {
                self.accepted();
                self.host_fin(Call::Close);
                self.acknowledge();
                self.fin();
            }
        }
    }

    /// A call that must succeed.
    fn call(&mut self, call: Call) -> Vec<Segment> {
        self.system.call(call).unwrap_or_else(|errno| panic!("{call:?} failed: error {errno}"));
        self.take()
    }

    /// What the host has sent, noted.
    fn take(&mut self) -> Vec<Segment> {
        let sent = self.system.take_sent();
        sent.iter()
            .map(|packet| match Incoming::parse(packet) {
                Incoming::Tcp(segment) => {
                    self.phase.on_segment(&segment);
                    segment
                }
                Incoming::Other(bytes) => panic!("not TCP: {bytes:02x?}"),
            })
            .collect()
    }

    /// Sends a segment and takes what comes back.
    fn exchange(&mut self, segment: &Outgoing) -> Vec<Segment> {
        self.system.inject(&segment.packet(&self.flow));
        self.take()
    }

    /// Sends an odd segment and takes what comes back, of any kind.
    pub(crate) fn try_out(&mut self, segment: &Outgoing) -> Vec<Incoming> {
        self.system.inject(&segment.packet(&self.flow));
        self.take_any()
    }

    /// What the host has sent, of any kind. TCP is noted.
    pub(crate) fn take_any(&mut self) -> Vec<Incoming> {
        let sent = self.system.take_sent();
        sent.iter().map(|packet| Incoming::parse(packet)).collect()
    }

    /// Takes note of an answer.
    pub(crate) fn note(&mut self, segment: &Segment) {
        self.phase.on_segment(segment);
    }

    fn segment(&self, flags: u16, seq: u32, len: usize) -> Outgoing {
        let mut options = Vec::new();
        if flags & SYN != 0 {
            let Settings { timestamps, sack, window_scaling, .. } = self.settings;
            options.extend([2, 4]);
            options.extend(MSS.to_be_bytes());
            if sack {
                options.extend([1, 1, 4, 2]);
            }
            if timestamps {
                options.extend([1, 1]);
                options.extend(self.stamp());
            }
            if window_scaling {
                options.extend([1, 3, 3, SHIFT]);
            }
        } else if self.phase.stamps {
            options.extend([1, 1]);
            options.extend(self.stamp());
        }
        Outgoing {
            flags,
            seq,
            ack: if flags & ACK != 0 { self.phase.snd_una } else { 0 },
            window: 0x4000,
            urgent: 0,
            options,
            payload: (0..len).map(|at| self.phase.byte(seq.wrapping_add(at as u32))).collect(),
            ecn: 0,
            fault: Fault::Nothing,
        }
    }

    fn stamp(&self) -> Vec<u8> {
        [&[8, 10][..], &self.phase.clock.to_be_bytes(), &self.phase.echo.to_be_bytes()].concat()
    }

    /// The host starts to connect.
    fn host_connects(&mut self) {
        let sent = self.call(Call::Connect);
        assert!(sent.len() == 1 && sent[0].is(SYN), "a SYN: {sent:?}");
    }

    /// The peer's SYN, which is answered.
    fn syn(&mut self) {
        let ecn = if self.settings.ecn > 0 { ECE | CWR } else { 0 };
        let answer = self.exchange(&self.segment(SYN | ecn, PEER_ISS, 0));
        assert!(answer.len() == 1 && answer[0].is(SYN | ACK), "a SYN-ACK: {answer:?}");
        self.nxt = PEER_ISS.wrapping_add(1);
    }

    /// The peer opens a connection, and the application takes it.
    fn accepted(&mut self) {
        self.call(Call::Listen);
        self.syn();
        self.acknowledge();
        self.call(Call::Accept);
    }

    /// The host opens a connection.
    fn connected(&mut self) {
        self.host_connects();
        // A host that does not ask for ECN must not be offered it.
        let ecn = if self.settings.ecn == 1 { ECE } else { 0 };
        let answer = self.exchange(&self.segment(SYN | ACK | ecn, PEER_ISS, 0));
        assert!(answer.len() == 1 && answer[0].flags == ACK, "an ACK: {answer:?}");
        self.nxt = PEER_ISS.wrapping_add(1);
    }

    /// Acknowledges all that the host has sent.
    fn acknowledge(&mut self) {
        self.phase.snd_una = self.phase.snd_nxt;
        self.exchange(&self.segment(ACK, self.nxt, 0));
    }

    /// Sends a segment in order, and sees that it is acknowledged. If the acknowledgment is delayed, an old
    /// byte asks for it.
    fn in_order(&mut self, flags: u16, len: usize) {
        let mut answer = self.exchange(&self.segment(flags, self.nxt, len));
        self.nxt = self.nxt.wrapping_add(len as u32 + u32::from(flags & FIN != 0));
        if answer.is_empty() {
            answer = self.exchange(&self.segment(ACK, self.nxt.wrapping_sub(1), 1));
        }
        assert_eq!(answer.last().map(|ack| ack.ack), Some(self.nxt), "it is acknowledged: {answer:?}");
    }

    /// Data until the window is closed.
    fn fill(&mut self) {
        let begin = self.nxt;
        for _ in 0..1_000 {
            let room = self.phase.window_end.wrapping_sub(self.phase.rcv_nxt) as usize;
            if room == 0 {
                self.phase.filled = self.nxt.wrapping_sub(begin) as usize;
                return;
            }
            self.in_order(ACK | PSH, room.min(MSS.into()));
        }
        panic!("the window is never closed");
    }

    fn host_writes(&mut self, len: usize) {
        assert_eq!(self.system.call(Call::Write(len)), Ok(len));
        self.take();
    }

    fn host_fin(&mut self, call: Call) {
        let sent = self.call(call);
        assert!(sent.last().is_some_and(|fin| fin.is(FIN)), "a FIN: {sent:?}");
    }

    /// The peer's FIN.
    fn fin(&mut self) {
        self.in_order(FIN | ACK, 0);
    }
}
