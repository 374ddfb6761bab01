//! The congestion control of a connection at rest.

use super::CongestionControl;
use super::cubic::Cubic;
use super::new_reno::NewReno;
use super::window_based::WindowBased;
use crate::tcp::compact::{Compact, Reader, Writer, compact};

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Nothing: the controller is kept as it is.
    Other,
    Cubic,
    NewReno,
}

compact!(
    enum Kind {
        Other,
        Cubic,
        NewReno,
    }
);

/// Writes the state of a controller, and says whether that is all of it. BBR, and what is registered, must be kept.
pub(in crate::tcp) fn write(controller: &dyn CongestionControl, to: &mut Writer) -> bool {
    let known = controller.built_in();
    if let Some(cubic) = known.and_then(|known| known.downcast_ref::<WindowBased<Cubic>>()) {
        Kind::Cubic.write(to);
        cubic.write(to);
    } else if let Some(reno) = known.and_then(|known| known.downcast_ref::<WindowBased<NewReno>>()) {
        Kind::NewReno.write(to);
        reno.write(to);
    } else {
        Kind::Other.write(to);
        return false;
    }
    true
}

/// The controller whose state [`write()`] wrote; none if it was kept.
pub(in crate::tcp) fn read(from: &mut Reader<'_>) -> Option<Box<dyn CongestionControl>> {
    match Kind::read(from) {
        Kind::Other => None,
        Kind::Cubic => Some(Box::new(WindowBased::<Cubic>::read(from))),
        Kind::NewReno => Some(Box::new(WindowBased::<NewReno>::read(from))),
    }
}
