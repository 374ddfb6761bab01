//! poll and epoll over the levels and the edges of the stack.

use crate::blocking::{Adapter, Blocking};
use crate::world::{File, Kind, Socket, World};
use crate::{Call, Errno};
use netstack::readiness::Events;
use netstack::stack::Observer;
use netstack::time::Duration;
use std::sync::atomic::{AtomicU16, Ordering};

/// The bits of poll, which are those of epoll.
const IN: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM) as u32;
const OUT: u32 = (libc::EPOLLOUT | libc::EPOLLWRNORM) as u32;
const ERR: u32 = libc::EPOLLERR as u32;
const HUP: u32 = libc::EPOLLHUP as u32;
const RDHUP: u32 = libc::EPOLLRDHUP as u32;

/// Bits that are always reported.
const ALWAYS: u32 = ERR | HUP;

/// What has happened to a socket since the last report to epoll.
#[derive(Debug, Default)]
pub struct Watch(AtomicU16);

impl Observer for Watch {
    fn on_ready(&self, ready: Events) {
        self.0.fetch_or(ready.bits(), Ordering::Relaxed);
    }
}

/// An epoll instance.
#[derive(Debug, Default)]
pub struct Epoll {
    interests: Vec<Interest>,
}

#[derive(Debug)]
struct Interest {
    fd: i32,
    events: u32,
    data: u64,
    /// With `EPOLLET`: something happened since it was last reported.
    armed: bool,
}

/// An event as epoll_wait reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The bits.
    pub events: u32,
    /// The data of epoll_ctl.
    pub data: u64,
}

/// tcp_poll of Linux, over the levels or the edges of a connection.
fn bits(events: Events) -> u32 {
    let mut bits = 0;
    for (event, bit) in [
        (Events::READABLE, IN),
        (Events::WRITABLE, OUT),
        (Events::READ_CLOSED, IN | RDHUP),
        (Events::READ_CLOSED | Events::WRITE_CLOSED, HUP),
        (Events::HANGUP, HUP),
        (Events::ERROR, ERR),
    ] {
        if events.contains(event) {
            bits |= bit;
        }
    }
    bits
}

fn levels(socket: &Socket) -> u32 {
    match &socket.kind {
        // A socket that was never connected is treated as one whose connection has ended.
        Kind::Unconnected(_) => libc::EPOLLOUT as u32 | libc::EPOLLWRNORM as u32 | HUP,
        Kind::Connection(cell) => bits(cell.readiness()),
        Kind::Listener(listener) => bits(listener.readiness()),
    }
}

impl World {
    /// Passes the events of sockets to the epoll instances that watch them.
    fn collect_edges(&mut self) {
        let mut edges = Vec::new();
        for (fd, file) in self.files_mut() {
            if let File::Socket(socket) = file {
                edges.push((fd, bits(Events::from_bits(socket.watch.0.swap(0, Ordering::Relaxed)))));
            }
        }
        for (_, file) in self.files_mut() {
            let File::Epoll(epoll) = file else { continue };
            for interest in &mut epoll.interests {
                let happened = edges.iter().find(|(fd, _)| *fd == interest.fd).map_or(0, |(_, bits)| *bits);
                interest.armed |= happened & (interest.events | ALWAYS) != 0;
            }
        }
    }

    fn poll_levels(&mut self, fd: i32) -> Call<u32> {
        self.socket(fd).map(|socket| levels(socket))
    }

    fn ready(&mut self, epfd: i32, max: usize) -> Call<Vec<Ready>> {
        self.collect_edges();
        let File::Epoll(epoll) = self.file(epfd)? else { return Err(Errno(libc::EINVAL)) };
        let mut interests = std::mem::take(&mut epoll.interests);
        interests.retain(|interest| self.has(interest.fd));
        let mut ready = Vec::new();
        for interest in &mut interests {
            let (edge, once) = (libc::EPOLLET as u32, libc::EPOLLONESHOT as u32);
            let waits = interest.events & !(edge | once) != 0;
            let skip = !waits || interest.events & edge != 0 && !interest.armed;
            let bits = self.poll_levels(interest.fd)? & (interest.events | ALWAYS);
            if skip || bits == 0 || ready.len() == max {
                continue;
            }
            interest.armed = false;
            if interest.events & once != 0 {
                interest.events &= edge | once;
            }
            ready.push(Ready { events: bits, data: interest.data });
        }
        if let File::Epoll(epoll) = self.file(epfd)? {
            epoll.interests = interests;
        }
        Ok(ready)
    }

    fn control(&mut self, epfd: i32, op: i32, fd: i32, wanted: Option<Ready>) -> Call {
        self.collect_edges();
        if !self.has(fd) {
            return Err(Errno(libc::EBADF));
        }
        let File::Epoll(epoll) = self.file(epfd)? else { return Err(Errno(libc::EINVAL)) };
        let at = epoll.interests.iter().position(|interest| interest.fd == fd);
        match (op, at, wanted) {
            (libc::EPOLL_CTL_ADD, Some(_), _) => return Err(Errno(libc::EEXIST)),
            (libc::EPOLL_CTL_ADD, None, Some(Ready { events, data })) => {
                epoll.interests.push(Interest { fd, events, data, armed: true });
            }
            (libc::EPOLL_CTL_MOD, Some(at), Some(Ready { events, data })) => {
                epoll.interests[at] = Interest { fd, events, data, armed: true };
            }
            (libc::EPOLL_CTL_DEL, Some(at), _) => drop(epoll.interests.remove(at)),
            (libc::EPOLL_CTL_MOD | libc::EPOLL_CTL_DEL, None, _) => return Err(Errno(libc::ENOENT)),
            _ => return Err(Errno(libc::EINVAL)),
        }
        Ok(0)
    }
}

/// For how long a poll with this timeout in milliseconds blocks. A negative one means for ever.
fn blocking(timeout: i32) -> Blocking {
    match u64::try_from(timeout) {
        Ok(timeout) => Blocking::For(Duration::from_millis(timeout)),
        Err(_) => Blocking::Forever,
    }
}

impl Adapter {
    /// poll(2): fills in `revents` and returns how many have any.
    ///
    /// # Errors
    /// None that a script could cause.
    pub fn poll(&'static self, fds: &mut [libc::pollfd], timeout: i32) -> Call {
        let polled = self.call(
            |_| Ok(blocking(timeout)),
            |world| {
                let mut count = 0;
                for entry in &mut *fds {
                    let wanted = u32::from(entry.events as u16) | ALWAYS;
                    let bits = match world.poll_levels(entry.fd) {
                        _ if entry.fd < 0 => 0,
                        Ok(bits) => bits & wanted,
                        Err(_) => libc::POLLNVAL as u32,
                    };
                    entry.revents = bits as i16;
                    count += i32::from(bits != 0);
                }
                Ok((count > 0).then_some(count))
            },
        );
        polled.or_else(none_in_time)
    }

    /// epoll_create(2), with the descriptor for it.
    pub fn epoll_create(&'static self, fd: i32) {
        self.lock().world.add(fd, File::Epoll(Epoll::default()));
    }

    /// epoll_ctl(2).
    ///
    /// # Errors
    /// `EBADF`, `EEXIST`, `ENOENT`, `EINVAL`.
    pub fn epoll_ctl(&'static self, epfd: i32, op: i32, fd: i32, wanted: Option<Ready>) -> Call {
        self.lock().world.control(epfd, op, fd, wanted)
    }

    /// epoll_wait(2); empty when the time has passed.
    ///
    /// # Errors
    /// `EBADF`, `EINVAL`.
    pub fn epoll_wait(&'static self, epfd: i32, max: usize, timeout: i32) -> Call<Vec<Ready>> {
        let ready = self.call(
            |_| Ok(blocking(timeout)),
            |world| world.ready(epfd, max).map(|ready| (!ready.is_empty()).then_some(ready)),
        );
        ready.or_else(|errno| if errno.0 == libc::EAGAIN { Ok(Vec::new()) } else { Err(errno) })
    }
}

fn none_in_time(errno: Errno) -> Call {
    if errno.0 == libc::EAGAIN { Ok(0) } else { Err(errno) }
}
