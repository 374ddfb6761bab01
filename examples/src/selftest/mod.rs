//! What checks a proxy with the kernel at both ends, in network namespaces: servers in that of the process, and
//! clients in another, which has nothing but a TUN device.

mod checks;
mod clients;
mod lab;
mod programs;
mod servers;

pub use checks::Checks;
pub use clients::Clients;
pub use lab::{CLIENT_V4, CLIENT_V6, Lab, lab};
pub use servers::{Addresses, Servers};
