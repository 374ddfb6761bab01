//! Explicit congestion notification: routers mark packets instead of dropping them (RFC 3168), and the
//! receiver says how many were marked (AccECN, RFC 9768).
//!
//! The handshake agrees on one of the two, or on neither: [`Ask`] is what our SYN says, [`Grant`] what a
//! listener answers to one, and [`EcnState`] what a connection then has, which has two halves. As
//! receiver it looks at the ECN field of what arrives and says which segments want an acknowledgment at
//! once; as sender it reads what the peer reports and says whether to slow down. The settings are
//! Linux's `tcp_ecn` and its relatives.

mod accurate;
mod feedback;
mod negotiation;
mod state;

pub use state::EcnMode;

pub(super) use feedback::{AckNeed, Feedback, OptionRoom, SACK_BASE_LEN, SACK_BLOCK_LEN, Text};
pub(super) use negotiation::{Ask, Grant, SecondSyn};
pub(super) use state::EcnState;
