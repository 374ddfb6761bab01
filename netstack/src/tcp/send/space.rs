//! How much may be written before it is acknowledged (`SO_SNDBUF`), and who waits for room.

use crate::config::Config;
use crate::tcp::compact::compact;

/// What auto-tuning takes a segment in flight to cost beside its payload: headers and
/// `skb_shared_info`, which come to the next power of two with it, and the `sk_buff`.
const SEGMENT_COST: usize = 640;
const SEGMENT_BUFFER: usize = 256;

/// Segments that the buffer has room for at least, where auto-tuning sizes it (`TCP_INIT_CWND`).
const MIN_TUNED_SEGMENTS: usize = 10;

/// The limit of the send buffer.
#[derive(Debug)]
pub(super) struct SendSpace {
    /// Upper limit of what the buffer costs, in bytes (`sk_sndbuf`).
    limit: usize,
    /// Whether `SO_SNDBUF` fixed the limit.
    locked: bool,
    /// Upper limit of what auto-tuning gives.
    max_limit: usize,
    /// Upper limit of all that under memory pressure.
    allowance: usize,
    /// The same of what is unsent, in bytes: its share of what the connections of the stack may keep waiting together.
    unsent_share: usize,
    /// Whether the user was refused room and waits for it (`SOCK_NOSPACE`).
    wanted: bool,
    /// Whether something happened that may have made room for a user who waits for it.
    news: RoomNews,
}

compact!(SendSpace { limit, locked, max_limit, allowance, unsent_share, wanted, news });

/// What may have made room in the send buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tcp) enum RoomNews {
    /// Nothing.
    None,
    /// Less is unsent.
    Sent,
    /// An acknowledgment came.
    Acked,
}

compact!(
    enum RoomNews {
        None,
        Sent,
        Acked,
    }
);

impl SendSpace {
    /// `size` is `SO_SNDBUF` as the user set it.
    pub(super) fn new(size: Option<usize>, config: &Config) -> Self {
        Self {
            limit: size.map_or(config.send_buffer_initial, doubled),
            locked: size.is_some(),
            max_limit: config.send_buffer_max,
            allowance: usize::MAX,
            unsent_share: usize::MAX,
            wanted: false,
            news: RoomNews::None,
        }
    }

    /// Whether another record may be begun if the buffer costs `cost`.
    pub(super) fn has_room(&self, cost: usize) -> bool {
        cost < self.limit.min(self.allowance)
    }

    /// What the queue may hold at the moment, in bytes.
    pub(super) fn allowance(&self) -> usize {
        self.allowance
    }

    /// Under memory pressure the queue may hold so much. That may have made room.
    pub(super) fn set_allowance(&mut self, allowance: usize) {
        if allowance > self.allowance {
            self.note(RoomNews::Sent);
        }
        self.allowance = allowance;
    }

    /// Whether a third of the buffer is free if it costs `cost` (Linux's `sk_stream_is_writeable`).
    pub(super) fn is_writable(&self, cost: usize) -> bool {
        let room = self.limit.min(self.allowance).saturating_sub(cost);
        room > 0 && room >= cost / 2
    }

    /// The most that may be unsent, in bytes, beside `TCP_NOTSENT_LOWAT`.
    pub(super) fn unsent_share(&self) -> usize {
        // Who sets SO_SNDBUF has said how much is to wait.
        if self.locked { usize::MAX } else { self.unsent_share }
    }

    /// So much may be unsent from now on.
    pub(super) fn set_unsent_share(&mut self, share: usize) {
        if share > self.unsent_share {
            self.note(RoomNews::Sent);
        }
        self.unsent_share = share;
    }

    /// Whether a user waits for room.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    pub(super) fn set_wanted(&mut self, wanted: bool) {
        self.wanted = wanted;
    }

    pub(super) fn note(&mut self, news: RoomNews) {
        self.news = self.news.max(news);
    }

    /// What may have made room since the last call of [`SendSpace::take_news`].
    pub(super) fn news(&self) -> RoomNews {
        self.news
    }

    pub(super) fn take_news(&mut self) -> RoomNews {
        std::mem::replace(&mut self.news, RoomNews::None)
    }

    /// The congestion window is `cwnd` bytes: twice as many segments may be buffered, so that there is
    /// always something to send while the user is being woken. Each counts for the memory that it
    /// would take if it were written on its own (Linux's `tcp_sndbuf_expand`).
    pub(super) fn tune(&mut self, cwnd: usize, mss: usize) {
        // Not under memory pressure, as in Linux.
        if !self.locked && self.allowance == usize::MAX {
            let segment = (mss + SEGMENT_COST).next_power_of_two() + SEGMENT_BUFFER;
            let segments = (cwnd / mss).max(MIN_TUNED_SEGMENTS);
            let wanted = segments.saturating_mul(2 * segment).min(self.max_limit);
            self.limit = self.limit.max(wanted);
        }
    }

    /// `SO_SNDBUF` was set to `size`.
    pub(super) fn set_limit(&mut self, size: usize) {
        self.locked = true;
        self.limit = doubled(size);
    }
}

/// `SO_SNDBUF` allows for twice what the user set, since the memory around the data counts as well
/// (socket(7)).
fn doubled(size: usize) -> usize {
    size.saturating_mul(2)
}
