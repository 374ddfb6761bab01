//! What a connection at rest knows of its path.

use super::PathState;
use crate::config::Config;
use crate::tcp::compact::{Compact, Reader, Writer};
use crate::tcp::congestion::{self, CongestionControl};
use std::sync::Arc;

impl PathState {
    /// Writes what is known. False if that is without the congestion control, which must be kept.
    pub(in crate::tcp) fn rest(&self, to: &mut Writer) -> bool {
        let Self { config: _, rtt, cc, pacer, spread_until, max_rate, size } = self;
        rtt.write(to);
        pacer.write(to);
        (*spread_until, *max_rate).write(to);
        size.write(to);
        congestion::write(&**cc, to)
    }

    /// The congestion control.
    pub(in crate::tcp) fn into_controller(self) -> Box<dyn CongestionControl> {
        self.cc
    }

    /// What [`PathState::rest`] wrote, with the congestion control if that was kept.
    pub(in crate::tcp) fn wake(
        from: &mut Reader<'_>,
        config: &Arc<Config>,
        kept: Option<Box<dyn CongestionControl>>,
    ) -> Option<Self> {
        let (rtt, pacer) = Compact::read(from);
        let ((spread_until, max_rate), size) = Compact::read(from);
        let cc = congestion::read(from).or(kept)?;
        Some(Self { config: Arc::clone(config), rtt, cc, pacer, spread_until, max_rate, size })
    }
}
