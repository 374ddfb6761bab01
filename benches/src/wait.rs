//! Waits for a queue of a TUN device, for those who have no runtime.

use netstack_tun::Tun;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// Waits for the device. epoll rather than poll, which would register with the device again each time.
#[derive(Debug)]
pub(crate) struct Wait {
    epoll: OwnedFd,
}

impl Wait {
    /// For `queue` of `tun`.
    pub(crate) fn new(tun: &Tun, queue: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, tun.queue_fd(queue), epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        Ok(Self { epoll })
    }

    /// Whether a packet arrived within `time`.
    pub(crate) fn readable(&self, time: Duration) -> io::Result<bool> {
        let time = Timespec::try_from(time).map_err(|_| io::ErrorKind::InvalidInput)?;
        let mut events =
            [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
        match epoll::wait(&self.epoll, &mut events[..], Some(&time)) {
            Ok(count) => Ok(count > 0),
            Err(Errno::INTR) => Ok(true),
            Err(err) => Err(err.into()),
        }
    }
}
