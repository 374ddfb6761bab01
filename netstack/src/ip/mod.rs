//! The Internet protocols, without I/O: the classification of addresses, the validation of received
//! packets, cutting datagrams into fragments, and
//! putting them together.

// What peers send is read here: nothing of it panics, by construction. Tests may.
#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::unwrap_used))]

mod addresses;
mod cidr;
mod fragment;
mod options;
mod packet_options;
mod reassembly;
mod validate;

pub use addresses::{AddressKind, Addresses};
pub use cidr::{Cidr, ParseCidrError};
pub use fragment::fragment;
pub use options::{OptionsV4, check_options_v4};
pub use packet_options::PacketOptions;
pub use reassembly::{Inserted, Reassembly, ReassemblyConfig};
pub use validate::{Cast, Martian, Origin, validate};
