//! What happens to the interfaces of a stack.

use crate::ip::Cidr;
use crate::stack::IpRoute;
use std::fmt;

/// What happened to an interface: an item of [`Monitor`](super::Monitor).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NetworkEvent {
    /// It is new.
    InterfaceAdded {
        /// Its name.
        interface: String,
    },
    /// It was removed.
    InterfaceRemoved {
        /// The name that it had.
        interface: String,
    },
    /// It was taken down.
    InterfaceDown {
        /// Its name.
        interface: String,
    },
    /// It was brought up.
    InterfaceUp {
        /// Its name.
        interface: String,
    },
    /// Its device is gone.
    DeviceFailed {
        /// Its name.
        interface: String,
        /// What the device failed with.
        error: String,
    },
    /// It has another MTU.
    MtuChanged {
        /// Its name.
        interface: String,
        /// In bytes.
        mtu: usize,
    },
    /// It has another address.
    AddressAdded {
        /// Its name.
        interface: String,
        /// The address.
        address: Cidr,
    },
    /// It does not have an address any more.
    AddressRemoved {
        /// Its name.
        interface: String,
        /// The address.
        address: Cidr,
    },
    /// It accepts packets for another prefix.
    AnyIpAdded {
        /// Its name.
        interface: String,
        /// The prefix.
        prefix: Cidr,
    },
    /// It does not accept packets for a prefix any more.
    AnyIpRemoved {
        /// Its name.
        interface: String,
        /// The prefix.
        prefix: Cidr,
    },
    /// Another route leads through it.
    RouteAdded {
        /// Its name.
        interface: String,
        /// The route.
        route: IpRoute,
    },
    /// A route does not lead through it any more.
    RouteRemoved {
        /// Its name.
        interface: String,
        /// The route.
        route: IpRoute,
    },
    /// So many events were missed, because nobody looked for too long.
    Missed(u64),
}

impl fmt::Display for NetworkEvent {
    /// Much as `ip monitor` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InterfaceAdded { interface } => write!(f, "{interface}: added"),
            Self::InterfaceRemoved { interface } => write!(f, "Deleted {interface}"),
            Self::InterfaceDown { interface } => write!(f, "{interface}: state DOWN"),
            Self::InterfaceUp { interface } => write!(f, "{interface}: state UP"),
            Self::DeviceFailed { interface, error } => write!(f, "{interface}: failed: {error}"),
            Self::MtuChanged { interface, mtu } => write!(f, "{interface}: mtu {mtu}"),
            Self::AddressAdded { interface, address } => write!(f, "{interface}: inet {address}"),
            Self::AddressRemoved { interface, address } => write!(f, "Deleted {interface}: inet {address}"),
            Self::AnyIpAdded { interface, prefix } => write!(f, "{interface}: any {prefix}"),
            Self::AnyIpRemoved { interface, prefix } => write!(f, "Deleted {interface}: any {prefix}"),
            Self::RouteAdded { interface, route } => write!(f, "{route} dev {interface}"),
            Self::RouteRemoved { interface, route } => write!(f, "Deleted {route} dev {interface}"),
            Self::Missed(events) => write!(f, "{events} events were missed"),
        }
    }
}
