//! Where a socket is found.

use crate::stack::flow::FlowKey;
use crate::udp::Filter;

/// Where a socket is in the table, and what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) port: u16,
    pub(super) filter: Filter,
}

impl Place {
    /// The flow of a socket that is connected from one address of the stack.
    pub(super) fn flow(&self) -> Option<FlowKey> {
        let (peer, peer_port) = self.filter.peer?;
        let local = self.filter.local;
        let single = !local.is_unspecified() && !local.is_multicast();
        single.then(|| FlowKey::new(&local, self.port, &peer, peer_port))
    }
}
