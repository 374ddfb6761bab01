//! What becomes known of the path: the sizes of packets, and what is left for the next connection.

use super::Connection;
use crate::config::MtuDiscover;
use crate::tcp::error::TcpError;
use crate::tcp::path::{MtuReport, PathMetrics, ProbeFate};
use crate::tcp::recovery::CongestionState;
use crate::tcp::seq::Seq;
use crate::tcp::state::State;
use crate::time::Instant;
use crate::wire::AccEcn;

/// Segments that the congestion window must have before a probe is sent: with fewer, a lost probe
/// could not be distinguished from congestion by duplicate acknowledgments (RFC 4821 §7.4; Linux's number).
const PROBE_CWND: usize = 11;

/// Segments that follow a probe at once, so that its loss is found out (RFC 4821 §7.4: reordering
/// threshold plus one).
const SEGMENTS_BEHIND_PROBE: usize = 4;

/// What to do about probing before new data is sent.
pub(super) enum MtuProbe {
    /// Send new data as usual.
    No,
    /// Send nothing: the window must drain a little first, then a probe goes.
    Wait,
    /// Send so many bytes of new data in one segment, more than the MSS.
    Send(usize),
}

impl Connection {
    /// The MTU of the path in bytes, as far as it is known (`IP_MTU`).
    pub fn path_mtu(&self) -> usize {
        self.path.size().path()
    }

    /// Whether packets must not be fragmented on the way (`ip_dont_fragment` in Linux).
    pub fn dont_fragment(&self) -> bool {
        match self.options.mtu_discover {
            MtuDiscover::Dont | MtuDiscover::Interface | MtuDiscover::Omit => false,
            MtuDiscover::Want => !self.path.size().is_locked(),
            MtuDiscover::Do | MtuDiscover::Probe => true,
        }
    }

    /// The stack knows another MTU of the path now.
    pub fn on_path_mtu(&mut self, known: MtuReport) {
        if self.follows_path_mtu() {
            self.path.size_mut().on_path_mtu(known);
            self.follow_size();
        }
    }

    /// The interface takes packets of so many bytes now. Every connection follows that, whatever it makes of what
    /// routers say (`dst_mtu` in Linux is never more).
    pub fn on_interface_mtu(&mut self, bytes: usize) {
        if self.state != State::Closed {
            self.path.size_mut().on_path_mtu(MtuReport { bytes, fragments: false });
            self.follow_size();
        }
    }

    /// The stack knows another MTU of the path now, because a packet of this connection was too big for
    /// it. What is in flight and too long was dropped as well, and is cut anew and sent at once. That is
    /// no sign of congestion (RFC 1191 §6.4, RFC 8201 §5.4).
    ///
    /// Linux does so whenever ICMP says it; RFC 5927 §7.2 would wait for a retransmission first, once
    /// larger packets have arrived.
    pub fn on_packet_too_big(&mut self, known: MtuReport) {
        if !self.follows_path_mtu() {
            return;
        }
        let before = self.path.size().path();
        self.path.size_mut().on_path_mtu(known);
        if known.bytes < before && self.dont_fragment() {
            self.outcome.set_soft_error(Some(TcpError::MessageSize));
        }
        if self.follow_size() {
            self.resend_too_long();
        }
    }

    /// What to remember of the path when this connection ends in order, `known` being what earlier
    /// ones left.
    pub fn metrics(&self, known: PathMetrics) -> PathMetrics {
        self.path.metrics(known, self.snd.mss(), self.recovery.state())
    }

    /// Before new data is sent: whether to probe for a larger MTU with it (RFC 4821 §7.4, with the
    /// conditions of Linux's `tcp_mtu_probe`).
    pub(super) fn next_mtu_probe(&mut self, now: Instant) -> MtuProbe {
        if !self.path.size().is_searching() {
            return MtuProbe::No;
        }
        let mss = self.snd.mss();
        let quiet = self.recovery.state() == CongestionState::Open
            && self.path.cwnd() >= PROBE_CWND * mss
            && self.rcv.sack_blocks(1).is_empty();
        if !quiet {
            return MtuProbe::No;
        }
        let overhead = self.acc_ecn(now).as_ref().map_or(0, AccEcn::len_on_wire);
        let Some(len) = self.path.next_mtu_probe(now, overhead) else { return MtuProbe::No };
        // Enough to follow that the loss of the probe would show.
        let needed = len + SEGMENTS_BEHIND_PROBE * mss;
        if len + overhead <= mss || !self.snd.has_for_mtu_probe(len, needed) {
            return MtuProbe::No;
        }
        let pipe = self.recovery.pipe(mss);
        if pipe + len + mss > self.path.cwnd() {
            return if pipe == 0 { MtuProbe::No } else { MtuProbe::Wait };
        }
        MtuProbe::Send(len)
    }

    /// A probe with the text `start..end`, and `overhead` bytes of unusual options, was sent.
    pub(super) fn on_mtu_probe_sent(&mut self, start: Seq, end: Seq, overhead: usize) {
        if self.path.size_mut().on_probe_sent(end, end.since(start) + overhead) {
            self.recovery.on_mtu_probe_sent(start);
        }
    }

    /// After an acknowledgment: what became of the probe, if one is in flight.
    pub(super) fn follow_mtu_probe(&mut self) {
        let lost = !self.recovery.has_mtu_probe();
        match self.path.size_mut().follow_probe(self.snd.una(), lost) {
            ProbeFate::Open => {}
            ProbeFate::Lost => self.resend_too_long(),
            ProbeFate::Passed => {
                self.recovery.forget_mtu_probe();
                self.follow_size();
            }
        }
    }

    /// The retransmission timer expired: a probe that was in flight showed nothing (RFC 4821 §7.6.3).
    pub(super) fn forget_mtu_probe(&mut self) {
        self.recovery.forget_mtu_probe();
        self.path.size_mut().forget_probe();
    }

    /// Data was sent again for longer than `retries1` stands for and nothing came back: perhaps
    /// nothing that large passes, and no ICMP message says so.
    pub(super) fn on_black_hole(&mut self, now: Instant) {
        self.path.on_black_hole(now);
        self.follow_size();
    }

    fn follows_path_mtu(&self) -> bool {
        self.options.mtu_discover.follows_icmp() && self.state != State::Closed
    }

    /// Takes over the MSS that the sizes allow. Whether it is smaller now.
    fn follow_size(&mut self) -> bool {
        let old = self.snd.mss();
        let new = self.path.follow_size(old);
        self.snd.set_mss(new);
        new < old
    }

    /// Marks what is in flight in segments that are too long now, to be sent again in shorter ones.
    fn resend_too_long(&mut self) {
        self.recovery.on_mtu_reduced(self.snd.mss(), self.snd.nxt());
    }
}
