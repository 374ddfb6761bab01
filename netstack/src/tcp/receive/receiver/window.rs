//! The window that is offered to the peer.

use super::Receiver;
#[cfg(test)]
use super::WindowScale;
use crate::tcp::seq::Seq;

impl Receiver {
    /// RCV.WND: how much the peer may still send, as far as it was ever offered.
    pub(in crate::tcp) fn wnd(&self) -> usize {
        self.right_edge.since(self.rcv_nxt)
    }

    /// The window field of the next segment. Call [`Receiver::on_ack_sent`] when it is sent.
    pub(in crate::tcp) fn window_field(&self) -> u16 {
        let window = self.select_window();
        let field = self.scale.to_wire(window);
        let offered = self.scale.from_wire(field);
        // What was offered must stay offered, and what is open must not be scaled away, so an odd
        // rest is rounded up (as in Linux); the right edge is where this field says it is.
        let odd = offered < self.wnd() || (offered == 0 && window > 0);
        // Each rounding moves the edge to the right. Were it done whether or not there is room, a
        // peer that sends less than the granularity at a time would never see the window close.
        // RFC 7323 §2.4 lets the window seem to shrink by that much; what comes is still taken.
        let room = offered < self.free();
        if odd && room && field < u16::MAX { field + 1 } else { field }
    }

    /// A segment with `field` as its window was sent: what it offers stays offered.
    pub(in crate::tcp) fn on_window_sent(&mut self, field: u16) {
        self.right_edge = self.right_edge.max(self.rcv_nxt + self.scale.from_wire(field));
    }

    /// An acknowledgment with `field` as its window was sent.
    pub(in crate::tcp) fn on_ack_sent(&mut self, field: u16) {
        self.on_window_sent(field);
        self.opening = false;
        self.last_ack_sent = self.rcv_nxt;
        self.duplicate = None;
        self.ack.on_sent();
        if self.free() < self.most() / 2 {
            self.ack.end_quick();
        }
    }

    /// A SYN-ACK that offers `window` bytes was sent. That is never scaled (RFC 7323 §2.2).
    pub(in crate::tcp) fn on_syn_ack_sent(&mut self, window: usize) {
        self.right_edge = self.right_edge.max(self.rcv_nxt + window);
        self.last_ack_sent = self.rcv_nxt;
        self.opening = true;
        self.ack.cancel();
    }

    /// What one in the window field stands for, in bytes.
    pub(in crate::tcp) fn window_unit(&self) -> usize {
        self.scale.from_wire(1)
    }

    /// RCV.NXT of the last acknowledgment that was sent.
    pub(in crate::tcp) fn last_ack_sent(&self) -> Seq {
        self.last_ack_sent
    }

    /// Whether more than one full segment is unacknowledged and the window can follow.
    pub(super) fn full_segments_unacked(&self) -> bool {
        self.rcv_nxt.since(self.last_ack_sent) > self.rcv_mss
            && (self.useful_room() >= self.wnd() || self.buffer.is_empty())
    }

    /// The window to offer now, in bytes. It moves its right edge never to the left, and to the
    /// right only by a useful amount (RFC 9293 §3.8.6.2.2).
    pub(super) fn select_window(&self) -> usize {
        self.useful_room().max(self.wnd())
    }

    /// The largest window, in bytes.
    pub(super) fn most(&self) -> usize {
        // More than the window field can say would never be offered.
        self.space.most().min(self.scale.from_wire(u16::MAX))
    }

    /// The limit of the window, in bytes.
    pub(in crate::tcp) fn limit(&self) -> usize {
        self.space.limit()
    }

    /// `SO_RCVBUF` was set.
    pub(in crate::tcp) fn set_buffer_size(&mut self, size: usize) {
        self.space.set_size(size);
    }

    /// `TCP_WINDOW_CLAMP` was set.
    pub(in crate::tcp) fn set_clamp(&mut self, clamp: Option<usize>) {
        self.space.set_clamp(clamp);
    }

    /// Our window scale.
    #[cfg(test)]
    pub(in crate::tcp) fn scale(&self) -> WindowScale {
        self.scale
    }

    /// Room that the reader left, in bytes.
    fn free(&self) -> usize {
        self.most().saturating_sub(self.buffer.len())
    }

    /// Room for the peer, or nothing if it is too little to be worth a segment.
    fn useful_room(&self) -> usize {
        let free = self.free();
        let useful = self.rcv_mss.min(self.most() / 2).max(self.most() / 16);
        if free < useful { 0 } else { free }
    }
}
