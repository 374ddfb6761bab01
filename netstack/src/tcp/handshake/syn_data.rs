//! Fast Open from the client's side (RFC 7413 §4.2): what the first SYN carries beside the SYN, and
//! what the answer to it says of that.

use super::fast_open::{FastOpenFail, FastOpenNotes, FastOpenReport, SynDataFate, is_suspicious};
use crate::memory::block;
use crate::wire::{FastOpenOption, Options};
use std::io::IoSlice;

/// Bytes that stay free in a SYN with data, for options that something on the way may add (as Linux
/// has it, which also covers our own).
const OPTION_SPACE: usize = 40;

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
pub(super) struct SynData {
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
    /// Its memory, in bytes.
    pub(super) fn memory(&self) -> usize {
        block(size_of::<Self>()) + block(self.data.capacity())
    }

    /// `limit` is the largest segment that the path and the options of the socket allow, in bytes.
    pub(super) fn new(attempt: FastOpenAttempt, limit: usize) -> Self {
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
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Takes the first write, as much of it as fits into the SYN.
    pub(super) fn write(&mut self, bufs: &[IoSlice<'_>]) -> usize {
        for buf in bufs {
            let room = self.space - self.data.len();
            self.data.extend_from_slice(&buf[..buf.len().min(room)]);
        }
        self.waiting = false;
        self.data.len()
    }

    /// The SYN leaves without data after all.
    pub(super) fn go(&mut self) {
        self.waiting = false;
    }

    /// The option that the next SYN carries.
    pub(super) fn option(&self) -> Option<FastOpenOption> {
        self.option.filter(|_| !self.gone)
    }

    /// The data that the next SYN carries.
    pub(super) fn payload(&self) -> &[u8] {
        if self.gone { &[] } else { &self.data }
    }

    /// A SYN left.
    pub(super) fn on_transmitted(&mut self) {
        self.gone = true;
    }

    /// Bytes of data that an answer may acknowledge.
    pub(super) fn sent(&self) -> usize {
        if self.gone { self.data.len() } else { 0 }
    }

    /// Whether a SYN left.
    pub(super) fn is_gone(&self) -> bool {
        self.gone
    }

    /// All that was written.
    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// A SYN was not answered in time, after `before` others; `last` if this ends the attempt.
    pub(super) fn on_timeout(&mut self, before: u32, last: bool) {
        // Something that drops every SYN after one with data is worth a pause for all destinations.
        self.suspicion |= is_suspicious(before, last);
    }

    /// Takes the suspicion that Fast Open is being swallowed.
    pub(super) fn take_suspicion(&mut self) -> bool {
        std::mem::take(&mut self.suspicion)
    }

    /// What the answer says: `theirs` are its options, `acked` the bytes of data that it
    /// acknowledges, and `lost` says that a SYN was sent more than once.
    pub(super) fn report(&self, theirs: &Options, acked: usize, lost: bool) -> FastOpenReport {
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
    pub(super) fn notes(&self, acked: usize, lost: bool) -> FastOpenNotes {
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
