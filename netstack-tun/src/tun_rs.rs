//! Devices of the crate `tun-rs`, which knows the TUN devices of many systems.

use arrayvec::ArrayVec;
use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Readiness, RxMeta, TxPacket};
use netstack::time::Instant;
use std::io;
use tun_rs::SyncDevice;

/// Packets of up to so many bytes are put together without an allocation.
const GATHERED: usize = 2048;

/// A TUN device of the crate `tun-rs`, on any system that it supports. Behind the feature `tun-rs-2`.
///
/// The crate creates the device and sets up its interface; dropping this drops it. Each packet is one call in either direction,
/// with a complete checksum: there are no offloads. On Linux, [`Tun`](crate::Tun) has them, and several queues.
///
/// ```no_run
/// use netstack::{Interface, Stack};
/// use netstack_tun::TunRs;
/// use std::sync::Arc;
///
/// # #[tokio::main]
/// # async fn main() -> std::io::Result<()> {
/// // The system is 10.9.0.1, and the stack is 10.9.0.2.
/// let device = tun_rs::DeviceBuilder::new().ipv4("10.9.0.1", 24, None).mtu(1500).build_sync()?;
/// let tun = TunRs::new(device, 1500)?;
/// let stack = Stack::builder().interface(Interface::new(Arc::new(tun)).address("10.9.0.2/24")).build()?;
/// # drop(stack);
/// # Ok(())
/// # }
/// ```
///
/// # What was tested
/// Linux. Of macOS, Windows and Android it is known that the crate builds for them.
pub struct TunRs {
    mtu: usize,
    device: system::Shared,
}

impl std::fmt::Debug for TunRs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TunRs").field("mtu", &self.mtu).finish_non_exhaustive()
    }
}

impl TunRs {
    /// Takes a device that exchanges IP packets. `mtu` is that of its interface, in bytes. It becomes non-blocking.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] if its packets have a header of another kind in front of them, as they have on Linux
    /// with `DeviceBuilder::offload`; the system's.
    pub fn new(device: SyncDevice, mtu: usize) -> io::Result<Self> {
        Ok(Self { mtu, device: system::Shared::new(device)? })
    }

    /// The device, for the functions of its crate that name it and set it up.
    pub fn get_ref(&self) -> &SyncDevice {
        self.device.get_ref()
    }
}

impl Device for TunRs {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: self.mtu,
            queues: 1,
            checksum_offload: false,
            segmentation_offload: false,
            udp_segmentation_offload: false,
            point_to_point: true,
        }
    }

    fn receive(&self, _now: Instant, _queue: usize, buf: &mut PacketBuf) -> io::Result<RxMeta> {
        buf.reset();
        let len = self.device.receive(buf.bytes_mut())?;
        Ok(RxMeta { len, ..RxMeta::default() })
    }

    fn transmit(&self, _now: Instant, _queue: usize, packet: &TxPacket<'_>) -> io::Result<()> {
        if packet.checksum.is_some() || packet.gso.is_some() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "work left to a device without offloads",
            ));
        }
        if packet.len() > GATHERED {
            let mut whole = vec![0; packet.len()];
            packet.copy_to(&mut whole);
            return self.device.transmit(&whole);
        }
        let mut whole = ArrayVec::<u8, GATHERED>::new();
        for piece in std::iter::once(&packet.header).chain(packet.payload) {
            whole.try_extend_from_slice(piece).map_err(|_| io::ErrorKind::InvalidInput)?;
        }
        self.device.transmit(&whole)
    }

    fn readiness(&self, _queue: usize) -> Readiness<'_> {
        self.device.readiness()
    }
}

/// Where a device is a descriptor, which the stack waits for.
#[cfg(unix)]
mod system {
    use super::{Readiness, SyncDevice, io};
    use std::os::fd::AsFd;

    pub(super) struct Shared(SyncDevice);

    impl Shared {
        pub(super) fn new(device: SyncDevice) -> io::Result<Self> {
            #[cfg(target_os = "linux")]
            if device.tcp_gso() {
                let text = "a device of tun-rs with offloads has a virtio header in front of its packets";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            device.set_nonblocking(true)?;
            Ok(Self(device))
        }

        pub(super) fn get_ref(&self) -> &SyncDevice {
            &self.0
        }

        pub(super) fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.recv(buf)
        }

        pub(super) fn transmit(&self, packet: &[u8]) -> io::Result<()> {
            self.0.send(packet).map(drop)
        }

        pub(super) fn readiness(&self) -> Readiness<'_> {
            Readiness::Fd(self.0.as_fd())
        }
    }
}

/// Where there is nothing that a stack could wait for: a thread waits, and signals. Packets are left in the device until
/// the stack takes them.
#[cfg(not(unix))]
mod system {
    use super::{Readiness, SyncDevice, io};
    use netstack::device::{PacketLost, Signal};
    use std::collections::VecDeque;
    use std::sync::{Arc, Condvar, Mutex, PoisonError};
    use std::thread;

    /// Packets that wait for the stack at most. Further ones wait in the device.
    const QUEUE: usize = 256;

    pub(super) struct Shared(Arc<Inner>);

    struct Inner {
        device: SyncDevice,
        signal: Signal,
        received: Mutex<Received>,
        room: Condvar,
    }

    #[derive(Default)]
    struct Received {
        packets: VecDeque<Vec<u8>>,
        /// The stack has dropped its end.
        over: bool,
        /// Why there will be no further packets.
        failed: Option<(io::ErrorKind, String)>,
    }

    impl Shared {
        pub(super) fn new(device: SyncDevice) -> io::Result<Self> {
            let (signal, received, room) = (Signal::new(), Mutex::default(), Condvar::new());
            let inner = Arc::new(Inner { device, signal, received, room });
            let reader = inner.clone();
            thread::Builder::new().name("netstack-tun".to_owned()).spawn(move || reader.read())?;
            Ok(Self(inner))
        }

        pub(super) fn get_ref(&self) -> &SyncDevice {
            &self.0.device
        }

        pub(super) fn receive(&self, buf: &mut [u8]) -> io::Result<usize> {
            let mut received = self.0.received.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(packet) = received.packets.pop_front() else {
                return Err(match &received.failed {
                    Some((kind, text)) => io::Error::new(*kind, text.clone()),
                    None => io::ErrorKind::WouldBlock.into(),
                });
            };
            drop(received);
            self.0.room.notify_one();
            let to = buf.get_mut(..packet.len()).ok_or(io::ErrorKind::InvalidData)?;
            to.copy_from_slice(&packet);
            Ok(packet.len())
        }

        pub(super) fn transmit(&self, packet: &[u8]) -> io::Result<()> {
            match self.0.device.try_send(packet) {
                // It does not say when there is room again.
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => Err(PacketLost.into()),
                result => result.map(drop),
            }
        }

        pub(super) fn readiness(&self) -> Readiness<'_> {
            Readiness::Signal(&self.0.signal)
        }
    }

    impl Drop for Shared {
        fn drop(&mut self) {
            self.0.received.lock().unwrap_or_else(PoisonError::into_inner).over = true;
            self.0.room.notify_one();
            // Ends the call that the thread is in. If it fails, the thread ends with the next packet.
            let _ = self.0.device.shutdown();
        }
    }

    impl Inner {
        fn read(&self) {
            let mut buf = vec![0; usize::from(u16::MAX)];
            loop {
                let result = self.device.recv(&mut buf);
                let mut received = self.received.lock().unwrap_or_else(PoisonError::into_inner);
                while received.packets.len() >= QUEUE && !received.over {
                    received = self.room.wait(received).unwrap_or_else(PoisonError::into_inner);
                }
                if received.over {
                    return;
                }
                let failed = match result {
                    Ok(len) => {
                        received.packets.push_back(buf[..len].to_vec());
                        false
                    }
                    Err(err) => {
                        received.failed = Some((err.kind(), err.to_string()));
                        true
                    }
                };
                drop(received);
                self.signal.raise_readable();
                if failed {
                    return;
                }
            }
        }
    }
}
