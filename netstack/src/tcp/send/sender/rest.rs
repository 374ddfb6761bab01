//! A sender at rest.

use super::Sender;
use crate::buffer::Pool;
use crate::tcp::compact::{Compact, Reader, Writer};
use crate::tcp::send::send_buffer::SendBuffer;
use std::sync::Arc;

impl Sender {
    /// Whether nothing is queued, in flight or waited for.
    pub(in crate::tcp) fn is_at_rest(&self) -> bool {
        self.snd_una == self.snd_nxt
            && self.buffer.is_at_rest()
            && self.fin.is_none()
            && !self.wants_room()
            && self.is_room_settled()
    }

    /// Where its buffers come from.
    pub(in crate::tcp) fn pool(&self) -> &Arc<Pool> {
        self.buffer.pool()
    }

    /// Writes the state of a sender [at rest](Self::is_at_rest).
    pub(in crate::tcp) fn rest(&self, to: &mut Writer) {
        let Self {
            snd_una,
            snd_nxt,
            window,
            mss,
            buffer,
            fin,
            last_small,
            last_sent,
            pushed,
            space,
            usage,
            writing,
            forced,
            chrono,
        } = self;
        [*snd_una, *snd_nxt, buffer.end(), *last_small, *pushed].write(to);
        last_sent.write(to);
        window.write(to);
        (*mss, *fin, *forced).write(to);
        space.write(to);
        usage.write(to);
        writing.write(to);
        chrono.write(to);
    }

    /// The sender of which [`Sender::rest`] wrote the state.
    pub(in crate::tcp) fn wake(from: &mut Reader<'_>, pool: &Arc<Pool>) -> Self {
        let [snd_una, snd_nxt, end, last_small, pushed] = Compact::read(from);
        let (last_sent, window) = Compact::read(from);
        let (mss, fin, forced) = Compact::read(from);
        let (space, usage) = Compact::read(from);
        let (writing, chrono) = Compact::read(from);
        Self {
            snd_una,
            snd_nxt,
            window,
            mss,
            buffer: SendBuffer::new(end, Arc::clone(pool)),
            fin,
            last_small,
            last_sent,
            pushed,
            space,
            usage,
            writing,
            forced,
            chrono,
        }
    }
}
