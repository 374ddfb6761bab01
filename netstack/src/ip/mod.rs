//! The Internet protocols, without I/O: what may come in, and datagrams that come in fragments.

mod cidr;
mod reassembly;
mod validate;

pub use cidr::{Cidr, ParseCidrError};
pub use reassembly::{Reassembly, ReassemblyConfig};
pub use validate::{Cast, Martian, Origin, OwnAddresses, validate};
