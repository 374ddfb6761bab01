//! How much of the congestion window is used, and what follows for the window and for the send buffer.

use super::Connection;
use crate::readiness::Events;
use crate::tcp::recovery::CongestionState;
use crate::tcp::send::RoomNews;
use crate::time::Instant;

impl Connection {
    /// Marks what is in flight if there was room for more and nothing to send: its acknowledgments
    /// will not show the path's rate (draft-ietf-ccwg-bbr §4.1.1.3). To be asked before something
    /// changes what there is to send.
    pub(super) fn note_app_limited(&mut self) {
        let mss = self.snd.mss();
        let pipe = self.recovery.pipe(mss);
        let idle = self.snd.unsent() < mss && self.recovery.board().lost() == 0;
        if idle && pipe < self.path.cwnd() {
            self.recovery.mark_app_limited(pipe);
        }
    }

    /// Congestion window validation, as Linux does it (`tcp_cwnd_validate`): a window that is not
    /// used must not grow, and shrinks when it was not used for an RTO. `limited` says that it holds
    /// something back now.
    pub(super) fn validate_cwnd(&mut self, now: Instant, limited: bool) {
        self.snd.note_window_usage(self.recovery.outstanding(), limited);
        let full = self.is_cwnd_limited();
        let Some(used) = self.snd.unused_for(now, self.path.rto(), full) else { return };
        let by_choice = self.recovery.state() == CongestionState::Open && !self.snd.wants_room();
        if by_choice {
            self.path.on_window_unused(used, self.snd.mss());
        }
    }

    /// Whether the congestion window limits what is sent, so that it may grow.
    pub(super) fn is_cwnd_limited(&self) -> bool {
        self.snd.is_cwnd_limited(self.path.cwnd(), self.path.slow_start_until())
    }

    /// RFC 5681 §4.1: after a pause longer than the RTO, the window says nothing of the path.
    pub(super) fn restart_after_idle(&mut self, now: Instant) {
        let paused = self.recovery.outstanding() == 0 && self.counters.data_segs_out > 0;
        if paused && self.path.on_pause(self.snd.idle_for(now), self.snd.mss()) {
            self.snd.restart_usage(now);
        }
    }

    /// If recovery has come from `before` to a state that begins with a reduction of the window, the
    /// peer is notified (RFC 3168 §6.1.2).
    pub(super) fn note_reduction(&mut self, before: CongestionState) {
        use CongestionState::{Cwr, Loss, Recovery};
        let now = self.recovery.state();
        let reduced = matches!(now, Cwr | Recovery | Loss) && now != before;
        if let Some(ecn) = &mut self.ecn
            && reduced
        {
            ecn.on_reduced();
        }
    }

    /// In a recovery that has come from `before`, and at its end, the window may have opened at once.
    pub(super) fn note_recovering(&mut self, now: Instant, before: CongestionState) {
        if matches!(before, CongestionState::Recovery | CongestionState::Loss) {
            self.path.on_recovering(now, self.recovery.pipe(self.snd.mss()));
        }
    }

    /// Follows what may have made room in the send buffer since the last call.
    pub(super) fn follow_room(&mut self) {
        match self.snd.take_room_news() {
            RoomNews::None => {}
            RoomNews::Sent => self.notice_room(),
            RoomNews::Acked => {
                let pipe = self.recovery.pipe(self.snd.mss());
                self.snd.grow(self.path.cwnd(), pipe);
                self.notice_room();
            }
        }
    }

    /// Notifies the user who was refused room that there is some now (`tcp_check_space`).
    pub(super) fn notice_room(&mut self) {
        let (last_received, outstanding) = (self.liveness.last_received(), self.recovery.outstanding());
        if self.snd.take_room(last_received, outstanding, self.notsent_lowat()) {
            self.outcome.notify(Events::WRITABLE);
        }
    }
}
