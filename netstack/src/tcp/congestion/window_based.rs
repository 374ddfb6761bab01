//! What the algorithms that grow and reduce a [`Window`] have in common: everything but the rules by
//! which they do.

use super::window::{Before, Window};
use super::{AckSample, CongestionControl, CongestionStart};
use crate::tcp::compact::{Compact, Reader, Writer};
use crate::time::{Duration, Instant};
use std::any::Any;
use std::fmt;

/// The rules of one algorithm.
pub(super) trait Rules: Send + fmt::Debug + 'static {
    /// What a reduction that proves spurious restores beside the window.
    type Saved: Send + fmt::Debug;

    /// Data is about to be sent while `in_flight` bytes are in the network.
    fn on_send(&mut self, now: Instant, in_flight: usize) {
        let _ = (now, in_flight);
    }

    /// Data was acknowledged outside fast recovery: grows the window.
    fn on_ack(&mut self, window: &mut Window, ack: &AckSample);

    /// Congestion: sets the threshold.
    fn reduce(&mut self, window: &mut Window) -> Self::Saved;

    /// The retransmission timer expired, and the threshold is set.
    fn on_timeout(&mut self) {}

    /// The last reduction was spurious.
    fn restore(&mut self, saved: Self::Saved);
}

/// A controller that follows rules of the kind `R`.
#[derive(Debug)]
pub(super) struct WindowBased<R: Rules> {
    pub(super) window: Window,
    pub(super) rules: R,
    /// From before the last reduction. Many connections never see one.
    undo: Option<Box<(Before, R::Saved)>>,
}

impl<R: Rules> WindowBased<R> {
    /// A controller that starts with the window of `start`.
    pub(super) fn new(start: &CongestionStart, rules: R) -> Self {
        Self { window: Window::new(start), rules, undo: None }
    }

    fn reduce(&mut self) {
        let before = self.window.before();
        self.undo = Some(Box::new((before, self.rules.reduce(&mut self.window))));
    }
}

impl<R: Rules<Saved: Compact> + Compact> Compact for WindowBased<R> {
    fn write(&self, to: &mut Writer) {
        let Self { window, rules, undo } = self;
        window.write(to);
        rules.write(to);
        undo.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        let (window, rules, undo) = Compact::read(from);
        Self { window, rules, undo }
    }
}

impl<R: Rules> CongestionControl for WindowBased<R> {
    fn built_in(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn cwnd(&self) -> usize {
        self.window.cwnd
    }

    fn ssthresh(&self) -> usize {
        self.window.ssthresh
    }

    fn set_cwnd(&mut self, bytes: usize) {
        self.window.set(bytes);
    }

    fn on_send(&mut self, now: Instant, in_flight: usize, _app_limited: bool) {
        self.rules.on_send(now, in_flight);
    }

    fn on_ack(&mut self, ack: &AckSample) {
        self.rules.on_ack(&mut self.window, ack);
    }

    fn on_congestion(&mut self, _now: Instant) {
        self.reduce();
    }

    fn on_timeout(&mut self, _now: Instant, first: bool) {
        if first {
            self.reduce();
        }
        self.rules.on_timeout();
        self.window.set(0);
    }

    fn on_undo(&mut self) {
        if let Some(undo) = self.undo.take() {
            let (before, saved) = *undo;
            self.window.undo(before);
            self.rules.restore(saved);
        }
    }

    fn on_idle(&mut self, idle: Duration, rto: Duration, restart_window: usize) {
        self.window.restart(idle, rto, restart_window);
    }

    fn on_unused(&mut self, used: usize) {
        self.window.decay(used);
    }

    fn on_mss_change(&mut self, mss: usize) {
        self.window.on_mss_change(mss);
        self.undo = None;
    }
}
