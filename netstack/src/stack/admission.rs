//! The answer to the last question whether a packet may come in.

use super::flow::FlowKey;
use crate::ip::Cast;

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
    /// The destination and the source, as the local and the remote end.
    hosts: FlowKey,
    cast: Cast,
}

impl Admission {
    /// To how many a packet is addressed that came in on `interface`, if the last one was between the same hosts, and
    /// the stack's addresses were not changed since.
    #[inline]
    pub(super) fn of(&self, interface: u16, hosts: &FlowKey, changes: u64) -> Option<Cast> {
        let last = self.last.as_ref()?;
        let same = last.interface == interface && last.changes == changes && last.hosts.has_hosts_of(hosts);
        same.then_some(last.cast)
    }

    /// A packet was admitted. `changes` was asked before.
    pub(super) fn note(&mut self, interface: u16, hosts: &FlowKey, changes: u64, cast: Cast) {
        self.last = Some(Admitted { interface, changes, hosts: *hosts, cast });
    }
}
