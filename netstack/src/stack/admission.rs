//! The answer to the last question whether a packet may come in.

use super::flow::same_address;
use crate::ip::Cast;
use crate::wire::IpHeader;
use std::net::IpAddr;

/// The addresses of the last packet that was admitted. Most packets have the same as the one before.
#[derive(Debug, Default)]
pub(super) struct Admission {
    last: Option<Admitted>,
}

#[derive(Debug)]
struct Admitted {
    interface: u16,
    /// The count of changes of the stack's addresses at that time.
    changes: u64,
    src: IpAddr,
    dst: IpAddr,
    cast: Cast,
}

impl Admission {
    /// To how many a packet is addressed that came in on `interface`, if the last one had the same addresses, and
    /// the stack's were not changed since.
    #[inline]
    pub(super) fn of(&self, interface: u16, header: &IpHeader, changes: u64) -> Option<Cast> {
        let last = self.last.as_ref()?;
        let same = last.interface == interface
            && last.changes == changes
            && same_address(&last.src, &header.src)
            && same_address(&last.dst, &header.dst);
        same.then_some(last.cast)
    }

    /// A packet was admitted. `changes` was asked before.
    pub(super) fn note(&mut self, interface: u16, header: &IpHeader, changes: u64, cast: Cast) {
        let (src, dst) = (header.src, header.dst);
        self.last = Some(Admitted { interface, changes, src, dst, cast });
    }
}
