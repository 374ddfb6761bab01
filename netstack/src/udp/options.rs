//! What a UDP socket can be set to.

use crate::config::{Config, MtuDiscover};

/// The options of a UDP socket, but for those of [`PacketOptions`](crate::ip::PacketOptions). An IPv6 socket has those
/// of both families, since it may send over both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    /// `SO_BROADCAST`: whether the socket may send to broadcast addresses. Default off.
    pub broadcast: bool,
    /// `IP_MULTICAST_TTL`. With 0, packets to groups do not leave the stack. Default 1.
    pub multicast_ttl: u8,
    /// `IPV6_MULTICAST_HOPS`. With 0, packets to groups do not leave the stack. Default 1.
    pub multicast_hops: u8,
    /// `IP_MULTICAST_LOOP`: whether members in this stack get what the socket sends to their group.
    /// Default on.
    pub multicast_loop_v4: bool,
    /// `IPV6_MULTICAST_LOOP`. Default on.
    pub multicast_loop_v6: bool,
    /// `IP_MULTICAST_ALL` and `IPV6_MULTICAST_ALL`: whether the socket gets what is sent to groups that
    /// only others in this stack have joined. Default on.
    pub multicast_all: bool,
    /// `IP_RECVTOS`: whether the receiver is told the type of service of what comes over IPv4. Default off.
    pub recv_tos: bool,
    /// `IPV6_RECVTCLASS`: whether the receiver is told the traffic class of what comes over IPv6. Default off.
    pub recv_tclass: bool,
    /// A number of the application's, which [`SocketInfo::owner`](crate::stack::SocketInfo::owner) shows.
    /// Default 0, none.
    pub owner: u32,
    /// `IP_MTU_DISCOVER` and `IPV6_MTU_DISCOVER`. Default [`Config::mtu_discover`].
    pub mtu_discover: MtuDiscover,
}

impl UdpOptions {
    /// The defaults of a stack with these settings.
    pub fn new(config: &Config) -> Self {
        Self {
            broadcast: false,
            multicast_ttl: 1,
            multicast_hops: 1,
            multicast_loop_v4: true,
            multicast_loop_v6: true,
            multicast_all: true,
            recv_tos: false,
            recv_tclass: false,
            owner: 0,
            mtu_discover: config.mtu_discover,
        }
    }
}
