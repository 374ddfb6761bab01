//! The Internet protocols, without I/O: the classification of addresses, the validation of received
//! packets, and the reassembly of fragments.

mod addresses;
mod cidr;
mod reassembly;
mod validate;

pub use addresses::{AddressKind, Addresses};
pub use cidr::{Cidr, ParseCidrError};
pub use reassembly::{Inserted, Reassembly, ReassemblyConfig};
pub use validate::{Cast, Martian, Origin, validate};
