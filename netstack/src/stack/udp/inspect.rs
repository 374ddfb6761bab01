//! What the tables of UDP hold, and whether it is consistent, for simulations.

use super::Udp;
use crate::stack::core::Core;

/// What a stack holds for datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UdpInspection {
    /// Sockets in the table, flows among them.
    pub sockets: usize,
    /// Flows in the table.
    pub flows: usize,
    /// Forwarders.
    pub forwarders: usize,
    /// Ports in use.
    pub ports: usize,
    /// Armed deadlines.
    pub deadlines: usize,
    /// Sockets that wait for a device.
    pub waiting: usize,
}

impl Udp {
    /// What there is, when everything that can be done has been done.
    pub(in crate::stack) fn inspect(&self, core: &Core) -> Result<UdpInspection, String> {
        let all = self.table.all();
        let flows = all.iter().filter(|cell| cell.hold(|state| state.flow().is_some())).count();
        let forwarders = self.forwarders.all();
        let found = UdpInspection {
            sockets: self.table.len(),
            flows,
            forwarders: forwarders.len(),
            ports: self.ports.len(),
            deadlines: self.deadlines.len(),
            waiting: (0..core.interfaces().queue_count()).map(|queue| self.waiting.len(queue)).sum(),
        };
        if found.sockets != all.len() {
            return Err(format!("{} sockets are in the table, and {} are counted", all.len(), found.sockets));
        }
        if found.deadlines != flows {
            return Err(format!("there are {flows} flows, and {} deadlines are armed", found.deadlines));
        }
        // A forwarder that is gone may have left flows to applications.
        let counted: usize = forwarders.iter().map(|forwarder| forwarder.stats().flows).sum();
        if counted > flows {
            return Err(format!("there are {flows} flows, and forwarders count {counted}"));
        }
        Ok(found)
    }
}
