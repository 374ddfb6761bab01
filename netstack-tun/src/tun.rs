//! The TUN device.

use crate::attach::{self, Attached};
use crate::config::TunConfig;
use crate::{sys, vnet};
use arrayvec::ArrayVec;
use netstack::buffer::{MAX_PIECES, PacketBuf};
use netstack::device::{Capabilities, Device, Readiness, RxMeta, TxPacket};
use netstack::time::Instant;
use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};

/// Packets of up to so many bytes are handed to the kernel in one piece.
const GATHERED: usize = 2048;

/// A Linux TUN device: a network interface whose wire ends in this process.
///
/// Packets that the kernel routes to the interface are [received](Device::receive) here, and
/// packets that are [transmitted](Device::transmit) here arrive at the kernel. Dropping this closes
/// the device, which removes the interface unless it is persistent.
///
/// # Lost packets
/// A network may lose packets, so a packet that the kernel does not accept is not an error: it is
/// lost, and counted by [`Tun::refused`]. That is the case while the interface is down (`EIO`),
/// when the kernel is out of memory (`ENOMEM`, `ENOBUFS`), and for one that it finds malformed
/// (`EINVAL`), too long (`EMSGSIZE`) or not allowed (`EPERM`).
///
/// When the interface is deleted, every operation fails with [`io::ErrorKind::NotConnected`].
#[derive(Debug)]
pub struct Tun {
    name: String,
    queues: Box<[File]>,
    mtu: usize,
    offload: bool,
    udp_offload: bool,
    created: bool,
    refused: AtomicU64,
}

impl Tun {
    /// Creates the device that `config` describes, or attaches to it if it exists, in the network
    /// namespace of this thread or in [`TunConfig::namespace`].
    ///
    /// A device that is created gets the MTU, queue length and addresses of `config` or their
    /// defaults, and is brought up. For an existing device (created by `ip tuntap add`, for
    /// example) only the settings in `config` are changed: it is brought up if `config` has
    /// addresses, and not changed otherwise. Attaching requires no privilege other than being the
    /// owner of the device.
    ///
    /// # Errors
    /// One line that says what to do. A failure leaves nothing behind.
    /// - [`io::ErrorKind::Unsupported`]: the kernel offers no TUN devices.
    /// - [`io::ErrorKind::PermissionDenied`]: `/dev/net/tun` is not accessible to this user,
    ///   CAP_NET_ADMIN is missing, or the device belongs to another user.
    /// - [`io::ErrorKind::ResourceBusy`]: another process uses the device.
    /// - [`io::ErrorKind::InvalidInput`]: an invalid name or number of queues, or an existing
    ///   interface that is not a TUN device with these queues.
    pub fn open(config: &TunConfig) -> io::Result<Self> {
        let Attached { name, queues, mtu, created, udp_offload } = attach::attach(config)?;
        let (offload, refused) = (config.offload, AtomicU64::new(0));
        Ok(Self { name, queues, mtu, offload, udp_offload, created, refused })
    }

    /// Takes the descriptor of a TUN device that somebody else has opened and set up: a parent process with
    /// more privileges, a container runtime, Android's `VpnService`. It becomes non-blocking.
    ///
    /// `mtu` is that of the interface, in bytes. `offload` says whether a virtio header is in front of each
    /// packet (`IFF_VNET_HDR`), and then leaves checksums and segmentation to the device, in both
    /// directions; the device has to be without packet information (`IFF_NO_PI`). Other descriptors
    /// that exchange one packet in each call, such as one of a `SOCK_SEQPACKET` socket pair, can be used
    /// in the same way.
    ///
    /// The name is empty if this process may not ask for it. [`Tun::created`] is false, and dropping the
    /// device closes the descriptor, which removes an interface that is not persistent.
    ///
    /// ```no_run
    /// # fn main() -> std::io::Result<()> {
    /// use netstack_tun::Tun;
    /// use std::os::fd::{FromRawFd, OwnedFd};
    ///
    /// // What the parent process has left open as descriptor 3.
    /// # #[cfg(any())]
    /// let fd = unsafe { OwnedFd::from_raw_fd(3) };
    /// # let fd = OwnedFd::from(std::fs::File::open("/dev/net/tun")?);
    /// let tun = Tun::from_fd(fd, 1500, false)?;
    /// # drop(tun);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if it is a TUN device that frames packets in another way, or a TAP
    /// device; the system's.
    pub fn from_fd(fd: OwnedFd, mtu: usize, offload: bool) -> io::Result<Self> {
        let file = File::from(fd);
        let (name, udp_offload) = attach::adopt(&file, offload)?.unwrap_or_default();
        let queues = Box::new([file]);
        Ok(Self { name, queues, mtu, offload, udp_offload, created: false, refused: AtomicU64::new(0) })
    }

    /// As [`Tun::from_fd`], of the descriptor with this number, which a parent process has left open and which
    /// nothing else in this process uses. A program gets it on its command line, say.
    ///
    /// The device has a duplicate: the descriptor itself stays open until the process ends.
    ///
    /// # Errors
    /// As [`Tun::from_fd`]; `EBADF` if there is no such descriptor.
    pub fn inherit(fd: RawFd, mtu: usize, offload: bool) -> io::Result<Self> {
        let fd = sys::duplicate(fd)
            .map_err(|err| io::Error::new(err.kind(), format!("cannot use descriptor {fd}: {err}")))?;
        Self::from_fd(fd, mtu, offload)
    }

    /// The name of the interface; empty for a descriptor of which it is not known.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The MTU in bytes, as it was when the device was opened.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// Number of queues.
    pub fn queues(&self) -> usize {
        self.queues.len()
    }

    /// Whether checksums and segmentation are left to the device.
    pub fn offload(&self) -> bool {
        self.offload
    }

    /// Whether several UDP datagrams that are one packet are divided by the device, and combined: so with
    /// offloads and Linux 6.2 or later (`TUN_F_USO4`, `TUN_F_USO6`).
    pub fn udp_offload(&self) -> bool {
        self.udp_offload
    }

    /// Whether [`Tun::open`] created the interface, and did not attach to an existing one.
    pub fn created(&self) -> bool {
        self.created
    }

    /// Packets that the kernel has refused since the device was opened; see [Lost
    /// packets](Tun#lost-packets).
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// The non-blocking file descriptor of `queue`, to wait on.
    ///
    /// # Panics
    /// If there is no such queue.
    pub fn queue_fd(&self, queue: usize) -> BorrowedFd<'_> {
        self.queues[queue].as_fd()
    }

    fn explain(&self, err: io::Error) -> io::Error {
        match err.raw_os_error() {
            Some(libc::EBADFD | libc::ENODEV) => {
                io::Error::new(io::ErrorKind::NotConnected, format!("TUN device {} is gone", self.name))
            }
            // EAGAIN is on the hot path, so it is passed on unchanged, without an allocation.
            _ => err,
        }
    }

    /// Converts an error of `write` to a lost packet if the device is still usable.
    fn write_failed(&self, err: io::Error) -> io::Result<()> {
        match err.raw_os_error() {
            Some(libc::EIO | libc::EINVAL | libc::ENOMEM | libc::ENOBUFS | libc::EMSGSIZE | libc::EPERM) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(self.explain(err)),
        }
    }
}

impl Device for Tun {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: self.mtu,
            queues: self.queues.len(),
            checksum_offload: self.offload,
            segmentation_offload: self.offload,
            udp_segmentation_offload: self.udp_offload,
            point_to_point: true,
        }
    }

    fn receive(&self, _now: Instant, queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        let file = &self.queues[queue];
        // Who drives the device may use one buffer for all packets.
        buf.reset();
        if !self.offload {
            let len = rustix::io::read(file, buf.bytes_mut()).map_err(|err| self.explain(err.into()))?;
            return Ok(RxMeta { len, ..RxMeta::default() });
        }
        // In one piece: readv(2) costs 60 to 70 ns more, and as much again to say that nothing is there.
        let read = rustix::io::read(file, buf.bytes_mut()).map_err(|err| self.explain(err.into()))?;
        let len = read.checked_sub(vnet::HEADER_LEN).ok_or(io::ErrorKind::UnexpectedEof)?;
        let Some(header) = buf.bytes().first_chunk() else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        let meta = vnet::decode(header, len);
        buf.skip(vnet::HEADER_LEN);
        Ok(meta)
    }

    fn transmit(&self, _now: Instant, queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        if packet.payload.len() > MAX_PIECES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a packet in too many pieces"));
        }
        if !self.offload && (packet.checksum.is_some() || packet.gso.is_some()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "work left to a TUN device that was opened without offloads",
            ));
        }
        let vnet_header = vnet::encode(packet)?;
        let front = if self.offload { vnet_header.as_slice() } else { &[] };
        let expected = front.len() + packet.len();
        let file = &self.queues[queue];
        let written = if expected <= GATHERED {
            // write(2) of one piece costs 100 ns less than writev(2), and a copy of so few bytes 30 at most.
            let mut whole = ArrayVec::<u8, GATHERED>::new();
            let pieces = [front, packet.header];
            for piece in pieces.iter().chain(packet.payload) {
                whole.try_extend_from_slice(piece).map_err(|_| io::ErrorKind::InvalidInput)?;
            }
            rustix::io::write(file, &whole)
        } else {
            let mut slices = [IoSlice::new(&[]); 2 + MAX_PIECES];
            slices[0] = IoSlice::new(front);
            slices[1] = IoSlice::new(packet.header);
            for (slice, piece) in slices[2..].iter_mut().zip(packet.payload) {
                *slice = IoSlice::new(piece);
            }
            rustix::io::writev(file, &slices[usize::from(front.is_empty())..2 + packet.payload.len()])
        };
        match written {
            Ok(written) if written == expected => Ok(()),
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(err) => self.write_failed(err.into()),
        }
    }

    fn readiness(&self, queue: usize) -> Readiness<'_> {
        Readiness::Fd(self.queue_fd(queue))
    }
}
