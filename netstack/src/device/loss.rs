//! Packets that a device loses without being unusable.

use crate::error::native;
use std::error::Error;
use std::fmt;
use std::io;

/// What [`Device::transmit`](super::Device::transmit) fails with, as an [`io::Error`], if this one packet is
/// lost and the device goes on.
///
/// ```
/// use netstack::device::PacketLost;
/// use std::io;
///
/// fn transmit(fits: bool) -> io::Result<()> {
///     if fits { Ok(()) } else { Err(PacketLost.into()) }
/// }
/// # assert!(transmit(false).is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PacketLost;

impl fmt::Display for PacketLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the device lost the packet")
    }
}

impl Error for PacketLost {}

impl From<PacketLost> for io::Error {
    fn from(lost: PacketLost) -> Self {
        Self::other(lost)
    }
}

/// Whether a transmission that failed so is the loss of a packet, and not the end of the device: it said
/// so, or the error number is one that a socket or a TUN device has for a single packet or for a while.
pub(crate) fn is_loss(error: &io::Error) -> bool {
    match error.raw_os_error() {
        // Too long, no memory, a firewall, malformed; EIO and ENETDOWN: the interface is down, and may come up again.
        Some(number) => [
            libc::EMSGSIZE,
            libc::ENOBUFS,
            libc::ENOMEM,
            libc::EPERM,
            libc::EINVAL,
            libc::EIO,
            libc::ENETDOWN,
        ]
        .into_iter()
        .any(|lost| native(lost) == number),
        None => error.get_ref().is_some_and(|inner| inner.is::<PacketLost>()),
    }
}
