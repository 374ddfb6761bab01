//! What SYNs offer, and what both ends agree on.

use crate::config::Config;
use crate::tcp::options::SocketOptions;
use crate::tcp::path::{Path, PathMetrics, payload_of};
use crate::tcp::receive::window_limit;
use crate::tcp::timestamps::{TIMESTAMPS_LEN, TimestampState, clock};
use crate::tcp::window::WindowScale;
use crate::time::Instant;
use crate::wire::{Flags, Options, Segment, SeqNum, Timestamps};

/// However small the path, this much is advertised (`route.min_adv_mss` in Linux).
const MIN_ADVERTISED_MSS: usize = 256;

/// What our SYN or SYN-ACK offers. Small, since each half-open connection has one: lengths are of packets, and
/// fit into 32 bits.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    path: KnownPath,
    /// The largest segment to send, whatever the peer takes: what the interface and the user allow.
    max_segment: u32,
    /// The MSS that we advertise: the same, until a router refuses our SYN.
    advertised_mss: u32,
    /// The window of the SYN, in bytes. It is never scaled (RFC 7323 §2.2).
    window: u16,
    scale: Option<WindowScale>,
    sack: bool,
    timestamps: bool,
    /// Offset of our timestamp clock.
    ts_offset: u32,
    min_mss: u32,
}

/// A [`Path`] in little memory: of most, nothing was measured.
#[derive(Clone, Debug)]
struct KnownPath {
    mtu: u32,
    pmtu: u32,
    fragments: bool,
    ipv6: bool,
    metrics: Option<Box<PathMetrics>>,
}

impl KnownPath {
    fn new(path: Path) -> Self {
        let Path { mtu, pmtu, fragments, ipv6, metrics } = path;
        let metrics = (metrics != PathMetrics::default()).then(|| Box::new(metrics));
        Self { mtu: mtu as u32, pmtu: pmtu as u32, fragments, ipv6, metrics }
    }

    fn path(&self) -> Path {
        let Self { mtu, pmtu, fragments, ipv6, .. } = *self;
        let metrics = self.metrics.as_deref().copied().unwrap_or_default();
        Path { mtu: mtu as usize, pmtu: pmtu as usize, fragments, ipv6, metrics }
    }
}

impl Offer {
    /// What a SYN offers, or the SYN-ACK that answers a `syn` with these options.
    pub(super) fn new(
        path: Path,
        options: &SocketOptions,
        ts_offset: u32,
        syn: Option<&Options>,
        config: &Config,
    ) -> Self {
        let limit = options.max_segment_size.map_or(usize::MAX, usize::from);
        let max_segment = path.max_segment().min(limit);
        let clamp = options.window_clamp.unwrap_or(usize::MAX);
        let limit = window_limit(options.recv_buffer_size, config.recv_buffer_initial);
        let space = limit.min(clamp);
        // Whole segments, as Linux offers: a partial one could never be used. Timestamps are known to take
        // their room once the peer's SYN was seen (tcp_select_initial_window and its callers).
        let stamped = config.timestamps && syn.is_some_and(|syn| syn.timestamps.is_some());
        let segment = max_segment.saturating_sub(if stamped { TIMESTAMPS_LEN } else { 0 }).max(1);
        let whole = if space > segment { space / segment * segment } else { space };
        let window = whole.min(usize::from(u16::MAX));
        let largest = options.recv_buffer_size.unwrap_or(config.recv_buffer_max).min(clamp);
        Self {
            path: KnownPath::new(path),
            max_segment: max_segment as u32,
            advertised_mss: max_segment as u32,
            window: window as u16,
            scale: config.window_scaling.then(|| WindowScale::for_window(largest)),
            sack: config.sack,
            timestamps: config.timestamps,
            ts_offset,
            min_mss: config.min_snd_mss,
        }
    }

    /// Offers a window of `bytes` at most: there is little memory.
    pub(super) fn limit_window(&mut self, bytes: usize) {
        self.window = self.window.min(u16::try_from(bytes).unwrap_or(u16::MAX));
    }

    /// The way to the peer.
    pub(super) fn path(&self) -> Path {
        self.path.path()
    }

    /// The MSS that we advertise.
    pub(super) fn advertised_mss(&self) -> usize {
        self.advertised_mss as usize
    }

    /// The window of the SYN, in bytes.
    pub(super) fn window(&self) -> usize {
        self.window.into()
    }

    /// A router forwards packets of `mtu` bytes at most. Says whether that is less than was known. The SYN
    /// that is then repeated asks for segments that fit too, as Linux's does; what is known of a path before
    /// a connection is opened does not lower what it advertises (RFC 9293 §3.7.1).
    pub(super) fn on_packet_too_big(&mut self, mtu: usize) -> bool {
        let less = mtu < self.path.pmtu as usize;
        if less {
            self.path.pmtu = mtu as u32;
            let fits = payload_of(mtu, self.path.ipv6).max(MIN_ADVERTISED_MSS);
            self.advertised_mss = self.advertised_mss.min(fits as u32);
        }
        less
    }

    /// Whether `tsecr` echoes a timestamp of ours that was sent between `first` and `last`. So does
    /// everything where we send none.
    pub(super) fn echoes(&self, tsecr: u32, first: Instant, last: Instant) -> bool {
        let (first, last) = (clock(first, self.ts_offset), clock(last, self.ts_offset));
        !self.timestamps || tsecr.wrapping_sub(first) <= last.wrapping_sub(first)
    }

    /// The options of a SYN, or of the SYN-ACK that answers `syn`: there, only what the SYN offered
    /// (RFC 7323 §2.2 and §3.2, RFC 2018 §2).
    fn options(&self, now: Instant, syn: Option<&Options>) -> Options {
        let theirs = |offered: fn(&Options) -> bool| syn.is_none_or(offered);
        let echo = syn.and_then(|syn| syn.timestamps).map_or(0, |ts| ts.tsval);
        let timestamps = self.timestamps && theirs(|syn| syn.timestamps.is_some());
        Options {
            mss: Some(self.advertised_mss as u16),
            window_scale: self
                .scale
                .filter(|_| theirs(|syn| syn.window_scale.is_some()))
                .map(WindowScale::shift),
            sack_permitted: self.sack && theirs(|syn| syn.sack_permitted),
            timestamps: timestamps.then(|| Timestamps { tsval: clock(now, self.ts_offset), tsecr: echo }),
            ..Options::default()
        }
    }

    /// A SYN.
    pub(super) fn syn(&self, now: Instant, iss: SeqNum) -> Segment {
        self.segment(iss, SeqNum::default(), Flags::SYN, self.options(now, None))
    }

    /// The SYN-ACK that answers a SYN with the number `irs` and the options `syn`.
    pub(super) fn syn_ack(&self, now: Instant, iss: SeqNum, irs: SeqNum, syn: &Options) -> Segment {
        self.segment(iss, irs + 1, Flags::SYN.with(Flags::ACK), self.options(now, Some(syn)))
    }

    /// An acknowledgment while nothing but SYNs has passed; `theirs` are the options of the peer's SYN.
    pub(super) fn acknowledgment(&self, now: Instant, iss: SeqNum, irs: SeqNum, theirs: &Options) -> Segment {
        let agreed = self.agree(now, theirs);
        let timestamps = agreed.ts.map(|ts| ts.option(now));
        let window = agreed.our_scale.to_wire(self.window());
        let options = Options { timestamps, ..Options::default() };
        Segment { window, ..self.segment(iss + 1, irs + 1, Flags::ACK, options) }
    }

    fn segment(&self, seq: SeqNum, ack: SeqNum, flags: Flags, options: Options) -> Segment {
        Segment { window: self.window, options, ..Segment::new(flags, seq, ack) }
    }

    /// What holds once the peer's SYN or SYN-ACK with `theirs` is known.
    pub(super) fn agree(&self, now: Instant, theirs: &Options) -> Negotiated {
        let scales = self.scale.zip(theirs.window_scale);
        let peer_mss = usize::from(theirs.mss.unwrap_or_else(|| self.path().default_mss()));
        let ts = theirs
            .timestamps
            .filter(|_| self.timestamps)
            .map(|ts| TimestampState::new(now, self.ts_offset, ts.tsval));
        Negotiated {
            // RFC 9293 MUST-16, and Linux's floor against peers that would have us send a header
            // for every few bytes (tcp_min_snd_mss).
            max_segment: peer_mss.min(self.max_segment as usize).max(self.min_mss as usize),
            advertised_mss: self.advertised_mss(),
            our_scale: scales.map_or(WindowScale::NONE, |(ours, _)| ours),
            peer_scale: scales.map_or(WindowScale::NONE, |(_, theirs)| WindowScale::from_option(theirs)),
            sack: self.sack && theirs.sack_permitted,
            ts,
        }
    }
}

/// What both ends agreed on.
#[derive(Clone, Debug)]
pub(in crate::tcp) struct Negotiated {
    /// The largest segment to send, without regard to options.
    pub(in crate::tcp) max_segment: usize,
    /// The MSS that we advertised.
    pub(in crate::tcp) advertised_mss: usize,
    pub(in crate::tcp) our_scale: WindowScale,
    pub(in crate::tcp) peer_scale: WindowScale,
    pub(in crate::tcp) sack: bool,
    pub(in crate::tcp) ts: Option<TimestampState>,
}
