//! Multicast groups that sockets of the stack have joined.
//!
//! Nothing is sent for a membership, neither IGMP nor MLD: the devices of this stack end in a system that
//! forwards to it what it is told to, and does not ask who listens.

use crate::sync::{Rank, RwLock};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All hosts of a link (RFC 1112 §4), who are members without joining.
const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);
/// All nodes of a link, and of an interface (RFC 4291 §2.7.1).
const ALL_NODES: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1)];

/// The groups of a stack.
#[derive(Debug)]
pub(super) struct Groups {
    /// How many sockets have joined, by group and interface.
    members: RwLock<HashMap<(IpAddr, u16), usize>>,
}

impl Groups {
    pub(super) fn new() -> Self {
        Self { members: RwLock::new(Rank::Leaf, HashMap::new()) }
    }

    /// One more socket is a member of `group` on an interface.
    pub(super) fn join(&self, group: IpAddr, interface: u16) {
        *self.members.write().entry((group, interface)).or_default() += 1;
    }

    /// One of the sockets that joined is a member no more.
    pub(super) fn leave(&self, group: IpAddr, interface: u16) {
        let mut members = self.members.write();
        if let Some(count) = members.get_mut(&(group, interface)) {
            *count -= 1;
            if *count == 0 {
                members.remove(&(group, interface));
            }
        }
    }

    /// Whether the stack takes what is sent to `group` on an interface.
    pub(super) fn is_member(&self, group: IpAddr, interface: u16) -> bool {
        let always = match group {
            IpAddr::V4(group) => group == ALL_HOSTS,
            IpAddr::V6(group) => ALL_NODES.contains(&group),
        };
        always || self.members.read().contains_key(&(group, interface))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_left_when_its_last_member_leaves() {
        let groups = Groups::new();
        let group: IpAddr = "239.1.2.3".parse().unwrap();
        groups.join(group, 0);
        groups.join(group, 0);
        groups.leave(group, 0);
        assert!(groups.is_member(group, 0));
        assert!(!groups.is_member(group, 1), "on another interface");
        groups.leave(group, 0);
        groups.leave(group, 0);
        assert!(!groups.is_member(group, 0));
        assert!(groups.members.read().is_empty());
    }

    #[test]
    fn everybody_is_a_member_of_all_hosts() {
        let groups = Groups::new();
        for (group, member) in
            [("224.0.0.1", true), ("ff02::1", true), ("224.0.0.2", false), ("ff02::2", false)]
        {
            assert_eq!(groups.is_member(group.parse().unwrap(), 3), member, "{group}");
        }
    }
}
