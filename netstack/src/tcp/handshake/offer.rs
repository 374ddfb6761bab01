//! What SYNs offer, and what both ends agree on.

use crate::config::Config;
use crate::tcp::options::SocketOptions;
use crate::tcp::path::Path;
use crate::tcp::receive::window_limit;
use crate::tcp::timestamps::{TimestampState, clock};
use crate::tcp::window::WindowScale;
use crate::time::Instant;
use crate::wire::{Flags, Options, Segment, SeqNum, Timestamps};

/// What our SYN or SYN-ACK offers.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    path: Path,
    /// The MSS that we advertise, and the largest segment to send, whatever the peer takes: what the
    /// interface and the user allow.
    max_segment: usize,
    /// The window of the SYN, in bytes. It is never scaled (RFC 7323 §2.2).
    window: usize,
    scale: Option<WindowScale>,
    sack: bool,
    timestamps: bool,
    /// Offset of our timestamp clock.
    ts_offset: u32,
    min_mss: usize,
}

impl Offer {
    pub(super) fn new(path: Path, options: &SocketOptions, ts_offset: u32, config: &Config) -> Self {
        let limit = options.max_segment_size.map_or(usize::MAX, usize::from);
        let max_segment = path.max_segment().min(limit);
        let clamp = options.window_clamp.unwrap_or(usize::MAX);
        let size = options.recv_buffer_size.unwrap_or(config.recv_buffer_initial);
        let most = window_limit(size).min(clamp).min(usize::from(u16::MAX));
        // Whole segments, as Linux offers: a partial one could never be used.
        let window = if most > max_segment { most / max_segment * max_segment } else { most };
        let largest = options.recv_buffer_size.unwrap_or(config.recv_buffer_max).min(clamp);
        Self {
            path,
            max_segment,
            window,
            scale: config.window_scaling.then(|| WindowScale::for_window(largest)),
            sack: config.sack,
            timestamps: config.timestamps,
            ts_offset,
            min_mss: config.min_snd_mss as usize,
        }
    }

    /// The way to the peer.
    pub(super) fn path(&self) -> Path {
        self.path
    }

    /// The MSS that we advertise.
    pub(super) fn advertised_mss(&self) -> usize {
        self.max_segment
    }

    /// The window of the SYN, in bytes.
    pub(super) fn window(&self) -> usize {
        self.window
    }

    /// A router forwards packets of `mtu` bytes at most. Says whether that is less than was known.
    pub(super) fn on_packet_too_big(&mut self, mtu: usize) -> bool {
        let less = mtu < self.path.pmtu;
        if less {
            self.path.pmtu = mtu;
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
            mss: Some(self.max_segment as u16),
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
        let window = agreed.our_scale.to_wire(self.window);
        let options = Options { timestamps, ..Options::default() };
        Segment { window, ..self.segment(iss + 1, irs + 1, Flags::ACK, options) }
    }

    fn segment(&self, seq: SeqNum, ack: SeqNum, flags: Flags, options: Options) -> Segment {
        let window = u16::try_from(self.window).unwrap_or(u16::MAX);
        Segment { window, options, ..Segment::new(flags, seq, ack) }
    }

    /// What holds once the peer's SYN or SYN-ACK with `theirs` is known.
    pub(super) fn agree(&self, now: Instant, theirs: &Options) -> Negotiated {
        let scales = self.scale.zip(theirs.window_scale);
        let peer_mss = usize::from(theirs.mss.unwrap_or_else(|| self.path.default_mss()));
        let ts = theirs
            .timestamps
            .filter(|_| self.timestamps)
            .map(|ts| TimestampState::new(now, self.ts_offset, ts.tsval));
        Negotiated {
            // RFC 9293 MUST-16, and Linux's floor against peers that would have us send a header
            // for every few bytes (tcp_min_snd_mss).
            max_segment: peer_mss.min(self.max_segment).max(self.min_mss),
            advertised_mss: self.max_segment,
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
