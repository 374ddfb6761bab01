//! How large the packets of a connection may be: what ICMP says of the path (RFC 1191, RFC 8201), and
//! what probing finds out where ICMP does not come through (RFC 4821).
//!
//! The two sizes that count are [`PacketSize::path`], the path's MTU as the stack knows it, and the
//! lower end of the search, if probing is on. The smaller one, and what the peer takes, make the MSS.
//! The MSS that we advertise has nothing to do with it.

use super::known::{MtuReport, Path, payload_of};
use crate::config::{Config, MtuProbing};
use crate::tcp::compact::compact;
use crate::tcp::seq::Seq;
use crate::time::Instant;

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

compact!(PacketSize { ipv6, locked, options, max_segment, min_segment, path, search });

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

compact!(Search { low, high, probe, since });

/// A probe in flight.
#[derive(Clone, Copy, Debug)]
struct ProbeOut {
    end: Seq,
    /// Bytes of the packet.
    size: usize,
}

compact!(ProbeOut { end, size });

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tcp) enum ProbeFate {
    /// It is on its way, or there is none.
    Open,
    /// It was too large.
    Lost,
    /// It arrived.
    Passed,
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

    /// Whether routers may fragment, because the path claims to be too small for anything else.
    pub(in crate::tcp) fn is_locked(&self) -> bool {
        self.locked
    }

    /// Payload bytes of a full segment with the usual options, Eff.snd.MSS of RFC 9293 §3.7.1.
    pub(in crate::tcp) fn mss(&self) -> usize {
        let found = self.search.as_ref().map_or(usize::MAX, |search| search.low);
        self.mss_of(self.path.min(found))
    }

    /// The stack knows another MTU of the path now.
    pub(in crate::tcp) fn on_path_mtu(&mut self, known: MtuReport) {
        let MtuReport { bytes: mtu, fragments } = known;
        self.locked = fragments;
        self.path = mtu;
        if let Some(search) = &mut self.search {
            search.high = search.high.min(mtu);
            search.low = search.low.min(search.high);
        }
    }

    /// Whether larger sizes are looked for.
    pub(in crate::tcp) fn is_searching(&self) -> bool {
        self.search.is_some()
    }

    /// Payload bytes of the probe that is to be sent next beside `overhead` bytes of unusual options,
    /// if one is: none while another is out, or once the search is over.
    pub(in crate::tcp) fn next_probe(
        &mut self,
        now: Instant,
        overhead: usize,
        config: &Config,
    ) -> Option<usize> {
        let most = self.mtu_of(self.mss_of(self.path));
        let search = self.search.as_mut().filter(|search| search.probe.is_none())?;
        if search.high.saturating_sub(search.low) < config.mtu_probe_threshold as usize {
            // Found. RFC 4821 §7.3: the path may have become better after a while.
            if now - search.since >= config.mtu_probe_interval {
                search.since = now;
                search.high = most;
            }
            return None;
        }
        let middle = usize::midpoint(search.low, search.high);
        Some(self.mss_of(middle).saturating_sub(overhead))
    }

    /// A probe was sent that ends at `end`, with `len` bytes of payload and unusual options. Whether
    /// one was asked for.
    pub(in crate::tcp) fn on_probe_sent(&mut self, end: Seq, len: usize) -> bool {
        let size = self.mtu_of(len);
        if let Some(search) = &mut self.search {
            search.probe = Some(ProbeOut { end, size });
        }
        self.is_searching()
    }

    /// What became of the probe, now that all before `una` is acknowledged. `lost` says that the probe
    /// was lost, and nothing beside it.
    pub(in crate::tcp) fn follow_probe(&mut self, una: Seq, lost: bool) -> ProbeFate {
        let Some(search) = &mut self.search else { return ProbeFate::Open };
        let Some(probe) = search.probe else { return ProbeFate::Open };
        if lost {
            // Too big. Neighbours that arrived say that it was not congestion (RFC 4821 §7.6.2).
            search.high = probe.size - 1;
            search.probe = None;
            ProbeFate::Lost
        } else if una >= probe.end {
            search.low = probe.size;
            search.probe = None;
            ProbeFate::Passed
        } else {
            ProbeFate::Open
        }
    }

    /// A probe that was in flight showed nothing (RFC 4821 §7.6.3).
    pub(in crate::tcp) fn forget_probe(&mut self) {
        if let Some(search) = &mut self.search {
            search.probe = None;
        }
    }

    /// Perhaps nothing as large as what is sent passes, and no ICMP message says so (RFC 4821 §7.7). Starts the
    /// search, or goes further down (`tcp_mtu_probing` in Linux).
    pub(in crate::tcp) fn on_black_hole(&mut self, now: Instant, config: &Config) {
        if config.mtu_probing == MtuProbing::Off {
            return;
        }
        let (base, floor) = (config.base_mss as usize, config.mtu_probe_floor as usize);
        let Some(low) = self.search.as_ref().map(|search| search.low) else {
            self.start_search(now, config);
            return;
        };
        let mss = (self.mss_of(low) / 2).min(base).max(floor).max(self.min_segment);
        let low = self.mtu_of(mss);
        if let Some(search) = &mut self.search {
            search.low = low.min(search.low);
        }
    }

    /// The MSS that goes with packets of `mtu` bytes. The usual options come off (RFC 9293 §3.7.1);
    /// the floor is Linux's, against peers and routers that would have us send crumbs. What is longer than
    /// `mtu` passes only where routers may fragment.
    fn mss_of(&self, mtu: usize) -> usize {
        let fits = payload_of(mtu, self.ipv6);
        let floor = if self.locked { self.min_segment } else { self.min_segment.min(fits) };
        let segment = fits.min(self.max_segment).max(floor);
        segment.saturating_sub(self.options).max(8)
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
