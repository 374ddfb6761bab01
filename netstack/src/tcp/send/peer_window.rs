//! The window that the peer offers.

use crate::tcp::compact::compact;
use crate::tcp::seq::Seq;
use crate::tcp::window::WindowScale;

/// The send window of RFC 9293 §3.3.1.
#[derive(Debug)]
pub(super) struct PeerWindow {
    /// SND.WND: the window that the peer offers from SND.UNA on, in bytes.
    snd_wnd: usize,
    /// SND.WL1: the sequence number of the segment that last updated the window.
    wl1: Seq,
    /// The largest window that the peer ever offered, in bytes.
    max_wnd: usize,
    /// The peer's window scale.
    scale: WindowScale,
}

compact!(PeerWindow { snd_wnd, wl1, max_wnd, scale });

impl PeerWindow {
    /// The window `snd_wnd` came with the segment at `wl1`.
    pub(super) fn new(snd_wnd: usize, wl1: Seq, scale: WindowScale) -> Self {
        Self { snd_wnd, wl1, max_wnd: snd_wnd, scale }
    }

    pub(super) fn wnd(&self) -> usize {
        self.snd_wnd
    }

    pub(super) fn max_wnd(&self) -> usize {
        self.max_wnd
    }

    pub(super) fn scale(&self) -> WindowScale {
        self.scale
    }

    /// Whether the window `field` of a segment at `seq` is news, also if it is the same window again.
    pub(super) fn is_news(&self, seq: Seq, field: u16, advances: bool) -> bool {
        let window = self.scale.from_wire(field);
        // Linux's condition: newer by acknowledgment or by sequence number; of two with equal
        // numbers the one that opens the window, or closes it entirely.
        advances || seq > self.wl1 || (seq == self.wl1 && (window > self.snd_wnd || window == 0))
    }

    /// A segment at `seq` carries the window `field`, with an acknowledgment that `advances` or not. Says
    /// whether that [is news](Self::is_news).
    pub(super) fn update(&mut self, seq: Seq, field: u16, advances: bool) -> bool {
        let newer = self.is_news(seq, field, advances);
        if newer {
            let window = self.scale.from_wire(field);
            self.wl1 = seq;
            self.max_wnd = self.max_wnd.max(window);
            self.snd_wnd = window;
        }
        newer
    }
}
