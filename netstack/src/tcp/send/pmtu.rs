//! How large the packets of a connection may be: what ICMP says of the path (RFC 1191, RFC 8201), and
//! what probing finds out where ICMP does not come through (RFC 4821).
//!
//! The two sizes that count are [`PacketSize::path`], the path's MTU as the stack knows it, and the
//! lower end of the search, if probing is on. The smaller one, and what the peer takes, make the MSS.
//! The MSS that we advertise has nothing to do with it.

use crate::config::{Config, MtuDiscover, MtuProbing};
use crate::tcp::connection::{Connection, Transmit};
use crate::tcp::error::TcpError;
use crate::tcp::path::{Path, payload_of};
use crate::tcp::recovery::Phase;
use crate::tcp::seq::Seq;
use crate::time::Instant;
use crate::wire::{AccEcn, SeqNum};

/// Segments that the congestion window must have before a probe is sent: with fewer, a lost probe
/// could not be told from congestion by duplicate acknowledgments (RFC 4821 §7.4; Linux's number).
const PROBE_CWND: usize = 11;

/// Segments that follow a probe at once, so that its loss is found out (RFC 4821 §7.4: reordering
/// threshold plus one).
const SEGMENTS_BEHIND_PROBE: usize = 4;

/// How large the packets of a connection may be, in bytes.
#[derive(Debug)]
pub(in crate::tcp) struct PacketSize {
    ipv6: bool,
    /// Routers may fragment: the path claims to be too small for anything else.
    locked: bool,
    /// Bytes of the options that every segment carries.
    options: usize,
    /// The MSS that both ends agreed on, options not counted.
    max_segment: usize,
    /// The smallest MSS that is used (`tcp_min_snd_mss`).
    min_segment: usize,
    /// MTU of the path, headers included, as far as the stack knows it.
    path: usize,
    /// The search, once there is one.
    search: Option<Box<Search>>,
}

/// The search of RFC 4821 §7: packets of `low` bytes pass, those above `high` do not, or could not be
/// used.
#[derive(Debug)]
struct Search {
    low: usize,
    high: usize,
    probe: Option<ProbeOut>,
    /// When the range was last set.
    since: Instant,
}

/// A probe in flight.
#[derive(Clone, Copy, Debug)]
struct ProbeOut {
    end: Seq,
    /// Bytes of the packet.
    size: usize,
}

/// What to do about probing before new data is sent.
pub(in crate::tcp) enum MtuProbe {
    /// Send new data as usual.
    No,
    /// Send nothing: the window must drain a little first, then a probe goes.
    Wait,
    /// Send this.
    Send(Box<Transmit>),
}

impl PacketSize {
    /// The sizes at the start: `max_segment` is the MSS that both ends agreed on, and `options` the
    /// bytes of the options that every segment carries.
    pub(in crate::tcp) fn new(
        now: Instant,
        path: Path,
        max_segment: usize,
        options: usize,
        config: &Config,
    ) -> Self {
        let mut size = Self {
            ipv6: path.ipv6,
            locked: path.fragments,
            options,
            max_segment,
            min_segment: config.min_snd_mss as usize,
            path: path.pmtu,
            search: None,
        };
        if config.mtu_probing == MtuProbing::Always {
            size.start_search(now, config);
        }
        size
    }

    /// The MTU of the path.
    pub(in crate::tcp) fn path(&self) -> usize {
        self.path
    }

    /// Payload bytes of a full segment with the usual options, Eff.snd.MSS of RFC 9293 §3.7.1.
    pub(in crate::tcp) fn mss(&self) -> usize {
        let found = self.search.as_ref().map_or(usize::MAX, |search| search.low);
        self.mss_of(self.path.min(found))
    }

    /// The MSS that goes with packets of `mtu` bytes. The usual options come off (RFC 9293 §3.7.1);
    /// the floor is Linux's, against peers and routers that would have us send crumbs.
    fn mss_of(&self, mtu: usize) -> usize {
        let segment = payload_of(mtu, self.ipv6).min(self.max_segment).max(self.min_segment);
        (segment - self.options).max(8)
    }

    /// Bytes of a packet with `mss` payload bytes and the usual options.
    fn mtu_of(&self, mss: usize) -> usize {
        let headers = if self.ipv6 { 60 } else { 40 };
        mss + self.options + headers
    }

    fn start_search(&mut self, now: Instant, config: &Config) {
        let low = self.mtu_of(config.base_mss as usize);
        let high = self.mtu_of(self.mss_of(self.path));
        self.search = Some(Box::new(Search { low: low.min(high), high, probe: None, since: now }));
    }
}

impl Connection {
    /// The MTU of the path in bytes, as far as it is known (`IP_MTU`).
    pub fn path_mtu(&self) -> usize {
        self.size.path()
    }

    /// Whether packets must not be fragmented on the way (`ip_dont_fragment` in Linux).
    pub fn dont_fragment(&self) -> bool {
        match self.options.mtu_discover {
            MtuDiscover::Dont => false,
            MtuDiscover::Want => !self.size.locked,
            MtuDiscover::Do | MtuDiscover::Probe => true,
        }
    }

    /// Whether `seq` is in flight: an ICMP message that quotes anything else is forged or stale
    /// (RFC 5927 §4.1, RFC 8201 §4).
    pub fn is_in_flight(&self, seq: SeqNum) -> bool {
        let seq = self.snd.snd_una.nearest(seq);
        self.snd.snd_una <= seq && seq < self.snd.snd_nxt
    }

    /// The stack knows another MTU of the path now. `dropped` says that a packet of this connection
    /// was too big for it: then what is in flight and too long was dropped as well, and is cut anew and
    /// sent at once. That is no sign of congestion (RFC 1191 §6.4, RFC 8201 §5.4).
    ///
    /// Linux does so whenever ICMP tells; RFC 5927 §7.2 would wait for a retransmission first, once
    /// larger packets have arrived.
    pub fn on_path_mtu(&mut self, mtu: usize, locked: bool, dropped: bool) {
        if !self.options.mtu_discover.follows_icmp() || self.state == crate::tcp::State::Closed {
            return;
        }
        self.size.locked = locked;
        if dropped && mtu < self.size.path && self.dont_fragment() {
            self.soft_error = Some(TcpError::MessageSize);
        }
        self.size.path = mtu;
        if let Some(search) = &mut self.size.search {
            search.high = search.high.min(mtu);
            search.low = search.low.min(search.high);
        }
        let shrank = self.follow_size();
        if shrank && dropped {
            self.resend_too_long();
        }
    }

    /// Takes over the MSS that the sizes allow. Whether it is smaller now.
    fn follow_size(&mut self) -> bool {
        let (old, new) = (self.snd.mss, self.size.mss());
        if new == old {
            return false;
        }
        // RFC 4821 §4: a larger MSS does not make the window larger, in bytes. With a smaller one it
        // keeps its number of segments, and shrinks (RFC 5681 §3.1).
        let cwnd = self.cc.cwnd();
        self.snd.mss = new;
        self.cc.on_mss_change(new);
        if new > old {
            self.cc.set_cwnd(cwnd.max(new));
        }
        new < old
    }

    /// Marks what is in flight in segments that are too long now, to be sent again in shorter ones.
    fn resend_too_long(&mut self) {
        let (mss, snd_nxt) = (self.snd.mss, self.snd.snd_nxt);
        self.recovery.on_mtu_reduced(mss, snd_nxt);
    }

    /// Before new data is sent: whether to probe for a larger MTU with it (RFC 4821 §7.4, with the
    /// conditions of Linux's `tcp_mtu_probe`).
    pub(in crate::tcp) fn mtu_probe(&mut self, now: Instant) -> MtuProbe {
        if self.size.search.is_none() {
            return MtuProbe::No;
        }
        let mss = self.snd.mss;
        let overhead = self.acc_ecn(now).as_ref().map_or(0, AccEcn::len_on_wire);
        let most = self.size.mtu_of(self.size.mss_of(self.size.path));
        let Some(search) = &mut self.size.search else { return MtuProbe::No };
        let quiet = self.recovery.phase() == Phase::Open
            && self.cc.cwnd() >= PROBE_CWND * mss
            && self.rcv.sack_blocks(1).is_empty();
        if search.probe.is_some() || !quiet {
            return MtuProbe::No;
        }
        if search.high.saturating_sub(search.low) < self.config.mtu_probe_threshold as usize {
            // Found. RFC 4821 §7.3: the path may have become better after a while.
            if now - search.since >= self.config.mtu_probe_interval {
                search.since = now;
                search.high = most;
            }
            return MtuProbe::No;
        }
        let middle = usize::midpoint(search.low, search.high);
        let len = self.size.mss_of(middle).saturating_sub(overhead);
        // Enough to follow that the loss of the probe would show.
        let needed = len + SEGMENTS_BEHIND_PROBE * mss;
        let start = self.snd.snd_nxt;
        if len + overhead <= mss
            || self.snd.unsent() < needed
            || self.snd.window_end().since(start) < needed
            || self.snd.buffer.contiguous(start, len) < len
            || self.snd.buffer.sealed_end(start, start + len) < start + len
        {
            return MtuProbe::No;
        }
        let pipe = self.recovery.pipe(mss);
        if pipe + len + mss > self.cc.cwnd() {
            return if pipe == 0 { MtuProbe::No } else { MtuProbe::Wait };
        }
        MtuProbe::Send(Box::new(self.mtu_probe_segment(now, start, len)))
    }

    /// A probe with the text `start..end`, and `overhead` bytes of unusual options, was sent.
    pub(in crate::tcp) fn on_mtu_probe_sent(&mut self, start: Seq, end: Seq, overhead: usize) {
        let size = self.size.mtu_of(end.since(start) + overhead);
        if let Some(search) = &mut self.size.search {
            search.probe = Some(ProbeOut { end, size });
            self.recovery.mtu_probe = Some(start);
        }
    }

    /// After an acknowledgment: what became of the probe, if one is in flight.
    pub(in crate::tcp) fn follow_mtu_probe(&mut self) {
        let Some(search) = &mut self.size.search else { return };
        let Some(probe) = search.probe else { return };
        if self.recovery.mtu_probe.is_none() {
            // Lost, and nothing else: too big. Neighbours that arrived say that it was not congestion
            // (RFC 4821 §7.6.2).
            search.high = probe.size - 1;
            search.probe = None;
            self.resend_too_long();
        } else if self.snd.snd_una >= probe.end {
            search.low = probe.size;
            search.probe = None;
            self.recovery.mtu_probe = None;
            self.follow_size();
        }
    }

    /// The retransmission timer expired: a probe that was in flight told nothing (RFC 4821 §7.6.3).
    pub(in crate::tcp) fn forget_mtu_probe(&mut self) {
        self.recovery.mtu_probe = None;
        if let Some(search) = &mut self.size.search {
            search.probe = None;
        }
    }

    /// Data was sent again for longer than `retries1` stands for and nothing came back: perhaps
    /// nothing that large passes, and nobody says so (RFC 4821 §7.7). Starts the search, or goes
    /// further down (`tcp_mtu_probing` in Linux).
    pub(in crate::tcp) fn on_black_hole(&mut self, now: Instant) {
        if self.config.mtu_probing == MtuProbing::Off {
            return;
        }
        let (base, floor) = (self.config.base_mss as usize, self.config.mtu_probe_floor as usize);
        let low = self.size.search.as_ref().map(|search| search.low);
        match low {
            None => self.size.start_search(now, &self.config),
            Some(low) => {
                let mss = (self.size.mss_of(low) / 2).min(base).max(floor).max(self.size.min_segment);
                let low = self.size.mtu_of(mss);
                if let Some(search) = &mut self.size.search {
                    search.low = low.min(search.low);
                }
            }
        }
        self.follow_size();
    }
}
