//! The Internet protocols, without I/O: whose an address is, what may come in, and datagrams that
//! come in fragments.

mod addresses;
mod cidr;
mod reassembly;
mod validate;

pub use addresses::{AddressKind, Addresses};
pub use cidr::{Cidr, ParseCidrError};
pub use reassembly::{Inserted, Reassembly, ReassemblyConfig};
pub use validate::{Cast, Martian, Origin, validate};
