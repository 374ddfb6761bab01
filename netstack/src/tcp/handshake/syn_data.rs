//! Fast Open from the client's side (RFC 7413 §4.2): what the first SYN carries beside the SYN, and
//! what the answer to it says of that.

use super::fast_open::{FastOpenFail, FastOpenNotes, FastOpenReport, SynDataFate};
use crate::tcp::connection::Connection;
use crate::time::Instant;
use crate::wire::{FastOpenOption, Options};
use std::io::IoSlice;

/// Bytes that stay free in a SYN with data, for options that something on the way may add (as Linux
/// has it, which also covers our own).
const OPTION_SPACE: usize = 40;

/// Time-outs in a row that make Fast Open suspect (tcp_fastopen_active_detect_blackhole in Linux).
const SUSPICIOUS_TIMEOUTS: u32 = 2;

/// How an active open uses Fast Open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastOpenAttempt {
    /// The SYN asks for a cookie, and carries no data.
    Request {
        /// Whether to use the experimental form of the option.
        experimental: bool,
    },
    /// The first write leaves with the SYN.
    Data {
        /// The server's cookie, in the form of the option that it came in; none where the server
        /// takes data without one.
        option: Option<FastOpenOption>,
        /// The MSS that the server offered last, in bytes, if that is known.
        mss: Option<u16>,
    },
}

/// The Fast Open of one active open.
#[derive(Debug)]
pub(in crate::tcp) struct SynData {
    option: Option<FastOpenOption>,
    /// Whether the SYN waits for the first write.
    waiting: bool,
    /// Bytes that the SYN may carry.
    space: usize,
    /// What was written before the connection stood. The SYN's acknowledgment covers it or not.
    data: Vec<u8>,
    /// Whether a SYN left. The option and the data are in the first one only: whatever swallows a
    /// SYN may do so for them (RFC 7413 §4.2.1, §4.2.2).
    gone: bool,
    suspicion: bool,
}

impl SynData {
    /// `limit` is the largest segment that the path and the options of the socket allow, in bytes.
    pub(in crate::tcp) fn new(attempt: FastOpenAttempt, limit: usize) -> Self {
        let (option, waiting, space) = match attempt {
            FastOpenAttempt::Request { experimental } => {
                (Some(FastOpenOption { cookie: None, experimental }), false, 0)
            }
            FastOpenAttempt::Data { option, mss } => {
                let mss = mss.map_or(limit, usize::from).min(limit);
                (option, true, mss.saturating_sub(OPTION_SPACE))
            }
        };
        Self { option, waiting, space, data: Vec::new(), gone: false, suspicion: false }
    }

    /// Whether the SYN waits for the first write.
    pub(in crate::tcp) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Takes the first write, as much of it as fits into the SYN.
    pub(in crate::tcp) fn write(&mut self, bufs: &[IoSlice<'_>]) -> usize {
        for buf in bufs {
            let room = self.space - self.data.len();
            self.data.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        self.waiting = false;
        self.data.len()
    }

    /// The SYN leaves without data after all.
    pub(in crate::tcp) fn go(&mut self) {
        self.waiting = false;
    }

    /// The option that the next SYN carries.
    pub(in crate::tcp) fn option(&self) -> Option<FastOpenOption> {
        self.option.filter(|_| !self.gone)
    }

    /// The data that the next SYN carries.
    pub(in crate::tcp) fn payload(&self) -> &[u8] {
        if self.gone { &[] } else { &self.data }
    }

    /// A SYN left.
    pub(in crate::tcp) fn on_transmitted(&mut self) {
        self.gone = true;
    }

    /// Bytes of data that an answer may acknowledge.
    pub(in crate::tcp) fn sent(&self) -> usize {
        if self.gone { self.data.len() } else { 0 }
    }

    /// Whether a SYN left.
    pub(in crate::tcp) fn is_gone(&self) -> bool {
        self.gone
    }

    /// All that was written.
    pub(in crate::tcp) fn data(&self) -> &[u8] {
        &self.data
    }

    /// A SYN was not answered in time, after `before` others; `last` if this ends the attempt.
    pub(in crate::tcp) fn on_timeout(&mut self, before: u32, last: bool) {
        // Something that drops every SYN after one with data is worth a pause for all destinations.
        self.suspicion |= is_suspicious(before, last);
    }

    /// Takes the suspicion that Fast Open is being swallowed.
    pub(in crate::tcp) fn take_suspicion(&mut self) -> bool {
        std::mem::take(&mut self.suspicion)
    }

    /// What the answer says: `theirs` are its options, `acked` the bytes of data that it
    /// acknowledges, and `lost` says that a SYN was sent more than once.
    pub(in crate::tcp) fn report(&self, theirs: &Options, acked: usize, lost: bool) -> FastOpenReport {
        // A cookie that nobody asked for is none of ours.
        let cookie = theirs.fast_open.filter(|answer| self.option.is_some() && answer.cookie.is_some());
        let asked = self.option.filter(|option| option.cookie.is_none());
        FastOpenReport {
            mss: theirs.mss,
            cookie,
            // After a time-out the answer may be one to the SYN without the option.
            ignored: asked.filter(|_| cookie.is_none() && !lost).map(|option| option.experimental),
            data: match self.sent() {
                0 => SynDataFate::None,
                sent if acked == sent => SynDataFate::Acked,
                _ if lost && cookie.is_none() => SynDataFate::Lost,
                _ if acked > 0 => SynDataFate::Partial,
                _ => SynDataFate::Refused,
            },
        }
    }

    /// What the connection remembers.
    pub(in crate::tcp) fn notes(&self, acked: usize, lost: bool) -> FastOpenNotes {
        let sent = self.sent();
        let refused = sent > acked;
        FastOpenNotes {
            active: self.option.is_some() || sent > 0,
            syn_data_acked: sent > 0 && !refused,
            client_fail: match self.option {
                _ if refused && lost => FastOpenFail::SynRetransmitted,
                _ if refused => FastOpenFail::DataNotAcked,
                Some(FastOpenOption { cookie: None, .. }) => FastOpenFail::CookieUnavailable,
                _ => FastOpenFail::None,
            },
            suspicion: self.suspicion,
        }
    }
}

/// Whether a time-out after `before` others in a row, which is the `last` one or not, makes Fast Open
/// suspect: Linux is conservative and waits for the third, or for the end of the connection.
pub(in crate::tcp) fn is_suspicious(before: u32, last: bool) -> bool {
    before == SUSPICIOUS_TIMEOUTS || (before < SUSPICIOUS_TIMEOUTS && last)
}

impl Connection {
    /// The SYN carried the first `sent` bytes of `data`, and its answer acknowledges `acked` of them.
    ///
    /// The others go again at once, without the option. Something other than congestion lost them,
    /// so the window stays as it is (Linux's tcp_non_congestion_loss_retransmit).
    pub(in crate::tcp) fn take_syn_data(&mut self, now: Instant, data: &[u8], sent: usize, acked: usize) {
        let start = self.snd.snd_una;
        if data.is_empty() {
            return;
        }
        self.snd.buffer.open_record();
        self.snd.buffer.write(&[IoSlice::new(data)], 0, usize::MAX);
        self.snd.push();
        if sent == 0 {
            return;
        }
        let end = start + sent;
        self.snd.on_sent(now, end, false, false);
        self.counters.data_segs_out += 1;
        self.counters.bytes_sent += sent as u64;
        self.counters.bytes_acked += acked as u64;
        self.snd.on_ack(start + acked);
        if acked < sent {
            self.recovery.on_sent(now, start + acked, end, self.snd.mss);
            self.recovery.on_refused(now, end);
        }
    }

    /// Whether Fast Open was used for a SYN of ours, and no data ever came back.
    pub(in crate::tcp) fn heard_nothing(&self) -> bool {
        self.fast_open.active && self.counters.data_segs_in == 0
    }

    /// The connection ends. If all that came was a FIN with something missing before it, something on
    /// the way swallowed the answer (tcp_fastopen_active_disable_ofo_check in Linux).
    pub(in crate::tcp) fn suspect_lone_fin(&mut self) {
        self.fast_open.suspicion |= self.heard_nothing() && self.rcv.fin_is_ahead();
    }

    /// Takes the suspicion that something on the way swallows what follows a SYN with data.
    pub fn take_fast_open_suspicion(&mut self) -> bool {
        std::mem::take(&mut self.fast_open.suspicion)
    }

    /// Whether Fast Open was used for a SYN of ours, and data came back.
    pub fn fast_open_worked(&self) -> bool {
        self.fast_open.active && self.counters.data_segs_in > 0
    }
}
