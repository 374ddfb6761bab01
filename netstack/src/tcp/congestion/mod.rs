//! Congestion control: how much may be in flight.
//!
//! An algorithm implements [`CongestionControl`], which does window arithmetic and nothing else: which
//! bytes are lost, and when to retransmit them, is for [`recovery`](super::recovery). A stack knows the
//! algorithms in its [`CongestionRegistry`] by their names; `cubic`, `reno` and `bbr` are always in it.
//!
//! Files: `control` is the interface, `registry` maps names to algorithms. Reno (`new_reno`) and CUBIC
//! (`cubic`, with `hystart`) are rules over a common window (`window`, `window_based`); BBR (`bbr`) has
//! a model of the path instead.

mod bbr;
mod control;
mod cubic;
mod hystart;
mod new_reno;
mod registry;
mod reordering_onset;
mod rest;
mod window;
mod window_based;

#[cfg(test)]
mod testing;

pub(super) use rest::{read, write};

pub use control::{AckSample, CongestionControl, CongestionStart};
pub use registry::{CongestionChoice, CongestionError, CongestionRegistry};
