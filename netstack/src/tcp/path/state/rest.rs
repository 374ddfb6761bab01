//! What a connection at rest knows of its path.

use super::PathState;
use crate::config::Config;
use crate::tcp::compact::{Compact, Reader, Writer};
use crate::tcp::congestion::{self, CongestionControl};
use std::sync::Arc;

impl PathState {
    /// Writes what is known. Returns the congestion control if that was not written and must be kept.
    pub(in crate::tcp) fn rest(self, to: &mut Writer) -> Option<Box<dyn CongestionControl>> {
        let Self { config: _, rtt, cc, pacer, spread_until, max_rate, size } = self;
        rtt.write(to);
        pacer.write(to);
        (spread_until, max_rate).write(to);
        size.write(to);
        let written = congestion::write(&*cc, to);
        (!written).then_some(cc)
    }

    /// What [`PathState::rest`] wrote, with what it returned.
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
