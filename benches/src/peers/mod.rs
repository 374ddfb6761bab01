//! Other stacks, as their documentation advises. What it leaves open is chosen in their favour: reads and copies are
//! large, and a device's descriptor is read and written without a crate in between.
//!
//! All but smoltcp, which the benches in memory need as well, take the feature `peers`.

#[cfg(feature = "peers")]
mod device;
#[cfg(feature = "peers")]
pub(crate) mod ipstack;
#[cfg(feature = "peers")]
pub(crate) mod netstack_smoltcp;
pub(crate) mod smoltcp;
#[cfg(feature = "peers")]
pub(crate) mod tcp_ip;
