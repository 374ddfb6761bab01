//! The table of calls that packetdrill makes: `struct packetdrill_interface` of its `packetdrill.h`.
//!
//! The first parameter of every function is the userdata, which is not used, because there is one
//! world in the process. Errors are -1 with `errno`. No panic leaves a function, because it would
//! unwind through C frames.

use crate::blocking::Adapter;
use crate::flags::Flags;
use crate::poll::Ready;
use crate::preload::{close_kernel, copy_out, exit_with_failure};
use crate::sysctl::Sysctls;
use crate::world::World;
use crate::{Call, Errno, address};
use libc::{
    c_char, c_int, c_long, c_longlong, c_uint, c_ulong, c_void, epoll_event, iovec, loff_t, msghdr, nfds_t,
    pollfd, size_t, sockaddr, socklen_t, ssize_t, timeval,
};
use netstack::time::Duration;
use std::ffi::CStr;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::IntoRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The type of the userdata.
type User = *mut c_void;

/// The table. fcntl and ioctl are variadic in C; on x86-64 and AArch64 Linux a function of fixed
/// arity may be called as one, and the argument that may be missing is used only where it is there.
#[repr(C)]
#[derive(Debug)]
#[expect(missing_docs, reason = "the calls of these names")]
pub struct Interface {
    pub userdata: User,
    pub free: unsafe extern "C" fn(User),
    pub socket: unsafe extern "C" fn(User, c_int, c_int, c_int) -> c_int,
    pub bind: unsafe extern "C" fn(User, c_int, *const sockaddr, socklen_t) -> c_int,
    pub listen: unsafe extern "C" fn(User, c_int, c_int) -> c_int,
    pub accept: unsafe extern "C" fn(User, c_int, *mut sockaddr, *mut socklen_t) -> c_int,
    pub connect: unsafe extern "C" fn(User, c_int, *const sockaddr, socklen_t) -> c_int,
    pub read: unsafe extern "C" fn(User, c_int, *mut c_void, size_t) -> ssize_t,
    pub readv: unsafe extern "C" fn(User, c_int, *const iovec, c_int) -> ssize_t,
    pub recv: unsafe extern "C" fn(User, c_int, *mut c_void, size_t, c_int) -> ssize_t,
    pub recvfrom: unsafe extern "C" fn(
        User,
        c_int,
        *mut c_void,
        size_t,
        c_int,
        *mut sockaddr,
        *mut socklen_t,
    ) -> ssize_t,
    pub recvmsg: unsafe extern "C" fn(User, c_int, *mut msghdr, c_int) -> ssize_t,
    pub write: unsafe extern "C" fn(User, c_int, *const c_void, size_t) -> ssize_t,
    pub writev: unsafe extern "C" fn(User, c_int, *const iovec, c_int) -> ssize_t,
    pub send: unsafe extern "C" fn(User, c_int, *const c_void, size_t, c_int) -> ssize_t,
    pub sendto: unsafe extern "C" fn(
        User,
        c_int,
        *const c_void,
        size_t,
        c_int,
        *const sockaddr,
        socklen_t,
    ) -> ssize_t,
    pub sendmsg: unsafe extern "C" fn(User, c_int, *const msghdr, c_int) -> ssize_t,
    pub fcntl: unsafe extern "C" fn(User, c_int, c_int, c_long) -> c_int,
    pub ioctl: unsafe extern "C" fn(User, c_int, c_ulong, *mut c_int) -> c_int,
    pub close: unsafe extern "C" fn(User, c_int) -> c_int,
    pub shutdown: unsafe extern "C" fn(User, c_int, c_int) -> c_int,
    pub getsockopt: unsafe extern "C" fn(User, c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int,
    pub setsockopt: unsafe extern "C" fn(User, c_int, c_int, c_int, *const c_void, socklen_t) -> c_int,
    pub poll: unsafe extern "C" fn(User, *mut pollfd, nfds_t, c_int) -> c_int,
    pub netdev_send: unsafe extern "C" fn(User, *const c_void, size_t) -> c_int,
    pub netdev_receive: unsafe extern "C" fn(User, *mut c_void, *mut size_t, *mut c_longlong) -> c_int,
    pub usleep: unsafe extern "C" fn(User, c_uint) -> c_int,
    pub gettimeofday: unsafe extern "C" fn(User, *mut timeval, *mut c_void) -> c_int,
    pub epoll_create: unsafe extern "C" fn(User, c_int) -> c_int,
    pub epoll_ctl: unsafe extern "C" fn(User, c_int, c_int, c_int, *mut epoll_event) -> c_int,
    pub epoll_wait: unsafe extern "C" fn(User, c_int, *mut epoll_event, c_int, c_int) -> c_int,
    pub pipe: unsafe extern "C" fn(User, *mut c_int) -> c_int,
    pub splice: unsafe extern "C" fn(User, c_int, *mut loff_t, c_int, *mut loff_t, size_t, c_uint) -> c_int,
}

/// What packetdrill calls when it has loaded the library.
///
/// # Safety
/// `flags` is null or a string of C; `out` is valid for writing an [`Interface`].
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn packetdrill_interface_init(flags: *const c_char, out: *mut Interface) {
    let text = if flags.is_null() {
        String::new()
    } else {
        // SAFETY: not null, so by the caller's promise a string of C.
        unsafe { CStr::from_ptr(flags) }.to_string_lossy().into_owned()
    };
    match Flags::parse(&text) {
        Ok(flags) => drop(Adapter::install(World::new(flags, Sysctls::read())).lock()),
        Err(error) => {
            eprintln!("netstack-packetdrill: {error}");
            exit_with_failure();
        }
    }
    // SAFETY: the caller's promise.
    unsafe { out.write(TABLE) };
}

const TABLE: Interface = Interface {
    userdata: std::ptr::null_mut(),
    free,
    socket,
    bind,
    listen,
    accept,
    connect,
    read,
    readv,
    recv,
    recvfrom,
    recvmsg,
    write,
    writev,
    send,
    sendto,
    sendmsg,
    fcntl,
    ioctl,
    close,
    shutdown,
    getsockopt,
    setsockopt,
    poll,
    netdev_send,
    netdev_receive,
    usleep,
    gettimeofday,
    epoll_create,
    epoll_ctl,
    epoll_wait,
    pipe,
    splice,
};

/// Sets `errno`, and returns -1.
pub(crate) fn fail(errno: c_int) -> c_int {
    // SAFETY: glibc's errno is a valid place of this thread.
    unsafe { *libc::__errno_location() = errno };
    -1
}

/// Runs a call against the world; a panic becomes `EIO`, with its message on standard error.
fn run<R>(call: impl FnOnce(&'static Adapter) -> Call<R>) -> Call<R> {
    let adapter = Adapter::get().ok_or(Errno(libc::ENOTSOCK))?;
    catch_unwind(AssertUnwindSafe(|| call(adapter))).unwrap_or(Err(Errno(libc::EIO)))
}

fn int(result: Call) -> c_int {
    result.unwrap_or_else(|errno| fail(errno.0))
}

fn size(result: Call<usize>) -> ssize_t {
    match result {
        Ok(n) => n.cast_signed(),
        Err(errno) => fail(errno.0) as ssize_t,
    }
}

/// Stores a value as getsockopt does.
///
/// # Safety
/// `len` is null or valid; if it is valid, `value` is valid for writing as many bytes as it says.
pub(crate) unsafe fn store(result: Call<Vec<u8>>, value: *mut c_void, len: *mut socklen_t) -> c_int {
    match result {
        Err(errno) => fail(errno.0),
        Ok(_) if len.is_null() => fail(libc::EFAULT),
        Ok(bytes) => {
            // SAFETY: not null, and the caller's promise about both.
            unsafe { *len = copy_out(&bytes, value, *len as size_t) as socklen_t };
            0
        }
    }
}

/// The descriptor that stands for a file: one of the kernel, so that packetdrill may close it.
fn open_descriptor() -> Call {
    Ok(std::fs::File::open("/dev/null")?.into_raw_fd())
}

/// Opens a descriptor for what `make` makes, and closes it if that fails.
fn with_descriptor<R>(make: impl FnOnce(c_int) -> Call<R>) -> Call<(c_int, R)> {
    let fd = open_descriptor()?;
    make(fd).map(|made| (fd, made)).inspect_err(|_| {
        close_kernel(fd);
    })
}

/// Memory of the caller.
///
/// # Safety
/// `data` is null, or valid for reading `len` bytes for as long as the slice is used.
unsafe fn bytes<'a>(data: *const c_void, len: size_t) -> Call<&'a [u8]> {
    match (data.is_null(), len) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Errno(libc::EFAULT)),
        // SAFETY: not null; the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(data.cast(), len) }),
    }
}

/// Memory of the caller, to be written.
///
/// # Safety
/// As for [`bytes`], for writing, and nobody else uses it meanwhile.
unsafe fn bytes_mut<'a>(data: *mut c_void, len: size_t) -> Call<&'a mut [u8]> {
    match (data.is_null(), len) {
        (_, 0) => Ok(&mut []),
        (true, _) => Err(Errno(libc::EFAULT)),
        // SAFETY: not null; the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts_mut(data.cast(), len) }),
    }
}

/// The vector of a readv or writev.
///
/// # Safety
/// `vector` is null, or valid for reading `count` elements.
unsafe fn vector<'a>(vector: *const iovec, count: size_t) -> Call<&'a [iovec]> {
    match (vector.is_null(), count) {
        (_, 0) => Ok(&[]),
        (true, _) => Err(Errno(libc::EFAULT)),
        // SAFETY: not null; the caller's promise.
        (false, _) => Ok(unsafe { std::slice::from_raw_parts(vector, count) }),
    }
}

/// # Safety
/// `data` holds `count` vectors of memory that may be written.
unsafe fn receive(fd: c_int, data: *const iovec, count: size_t, flags: c_int) -> ssize_t {
    size(run(|adapter| {
        // SAFETY: the caller's promise.
        let data = unsafe { vector(data, count) }?;
        let bufs: Call<Vec<_>> = data
            .iter()
            // SAFETY: the caller's promise.
            .map(|part| unsafe { bytes_mut(part.iov_base, part.iov_len) }.map(IoSliceMut::new))
            .collect();
        adapter.receive(fd, &mut bufs?, flags)
    }))
}

/// # Safety
/// `data` holds `count` vectors of memory that may be read.
unsafe fn transmit(fd: c_int, data: *const iovec, count: size_t, flags: c_int) -> ssize_t {
    size(run(|adapter| {
        // SAFETY: the caller's promise.
        let data = unsafe { vector(data, count) }?;
        let bufs: Call<Vec<_>> = data
            .iter()
            // SAFETY: the caller's promise.
            .map(|part| unsafe { bytes(part.iov_base, part.iov_len) }.map(IoSlice::new))
            .collect();
        adapter.send(fd, &mut bufs?, flags)
    }))
}

/// A socket address in memory of the caller.
#[derive(Clone, Copy)]
struct Address {
    start: *const sockaddr,
    len: socklen_t,
}

/// As [`transmit`], for a call with an address: `MSG_FASTOPEN` connects to it, and otherwise a stream
/// ignores it.
///
/// # Safety
/// As [`transmit`]; the address is valid for its length.
unsafe fn transmit_to(
    fd: c_int,
    data: *const iovec,
    count: size_t,
    flags: c_int,
    address: Address,
) -> ssize_t {
    size(run(|adapter| {
        // SAFETY: the caller's promise.
        let (data, address) =
            unsafe { (vector(data, count)?, bytes(address.start.cast(), address.len as size_t)?) };
        let bufs: Call<Vec<_>> = data
            .iter()
            // SAFETY: the caller's promise.
            .map(|part| unsafe { bytes(part.iov_base, part.iov_len) }.map(IoSlice::new))
            .collect();
        let to = if flags & libc::MSG_FASTOPEN == 0 { None } else { address::decode(address)? };
        adapter.send_to(fd, &mut bufs?, flags, to)
    }))
}

/// The script has ended. Packets that the stack sent and no line expected are a failure, which the
/// tool does not check.
unsafe extern "C" fn free(_: User) {
    let left = run(|adapter| Ok(adapter.lock().world.leftovers().to_vec()));
    let Ok(left) = left else { return };
    if !left.is_empty() {
        for packet in &left {
            eprintln!(
                "netstack-packetdrill: no line of the script expects this packet, sent at {:?}: {}",
                packet.at,
                crate::device::describe(&packet.bytes)
            );
        }
        exit_with_failure();
    }
}

unsafe extern "C" fn socket(_: User, domain: c_int, kind: c_int, protocol: c_int) -> c_int {
    int(run(|adapter| with_descriptor(|fd| adapter.socket(fd, domain, kind, protocol)).map(|(fd, _)| fd)))
}

unsafe extern "C" fn bind(_: User, fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    int(run(|adapter| {
        // SAFETY: bind(2): `address` is valid for `len` bytes.
        let address = unsafe { bytes(address.cast(), len as size_t) }?;
        adapter.bind(fd, address::decode(address)?)
    }))
}

unsafe extern "C" fn listen(_: User, fd: c_int, backlog: c_int) -> c_int {
    int(run(|adapter| adapter.listen(fd, backlog)))
}

unsafe extern "C" fn accept(_: User, fd: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
    int(run(|adapter| {
        let (accepted, peer) = with_descriptor(|accepted| adapter.accept(fd, accepted))?;
        if !address.is_null() && !len.is_null() {
            let peer = address::encode(peer);
            // SAFETY: accept(2): `address` is valid for the bytes that `len` says.
            unsafe {
                copy_out(&peer, address.cast(), *len as size_t);
                *len = peer.len() as socklen_t;
            }
        }
        Ok(accepted)
    }))
}

unsafe extern "C" fn connect(_: User, fd: c_int, address: *const sockaddr, len: socklen_t) -> c_int {
    int(run(|adapter| {
        // SAFETY: connect(2): `address` is valid for `len` bytes.
        let address = unsafe { bytes(address.cast(), len as size_t) }?;
        adapter.connect(fd, address::decode(address)?)
    }))
}

unsafe extern "C" fn read(_: User, fd: c_int, data: *mut c_void, len: size_t) -> ssize_t {
    let part = iovec { iov_base: data, iov_len: len };
    // SAFETY: read(2): `data` is valid for `len` bytes.
    unsafe { receive(fd, &raw const part, 1, 0) }
}

unsafe extern "C" fn readv(_: User, fd: c_int, data: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: readv(2): `data` holds `count` vectors.
    unsafe { receive(fd, data, count.max(0) as size_t, 0) }
}

unsafe extern "C" fn recv(_: User, fd: c_int, data: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
    let part = iovec { iov_base: data, iov_len: len };
    // SAFETY: recv(2): `data` is valid for `len` bytes.
    unsafe { receive(fd, &raw const part, 1, flags) }
}

unsafe extern "C" fn recvfrom(
    _: User,
    fd: c_int,
    data: *mut c_void,
    len: size_t,
    flags: c_int,
    _address: *mut sockaddr,
    address_len: *mut socklen_t,
) -> ssize_t {
    let part = iovec { iov_base: data, iov_len: len };
    // SAFETY: recvfrom(2): `data` is valid for `len` bytes, `address_len` is null or valid.
    unsafe {
        if !address_len.is_null() {
            // A stream returns no address.
            *address_len = 0;
        }
        receive(fd, &raw const part, 1, flags)
    }
}

unsafe extern "C" fn recvmsg(_: User, fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
    // SAFETY: recvmsg(2): `message` is valid, and so are the vectors in it.
    unsafe {
        let message = &mut *message;
        let received = receive(fd, message.msg_iov, message.msg_iovlen, flags);
        if received >= 0 {
            message.msg_namelen = 0;
            message.msg_controllen = 0;
            message.msg_flags = 0;
        }
        received
    }
}

unsafe extern "C" fn write(_: User, fd: c_int, data: *const c_void, len: size_t) -> ssize_t {
    let part = iovec { iov_base: data.cast_mut(), iov_len: len };
    // SAFETY: write(2): `data` is valid for `len` bytes.
    unsafe { transmit(fd, &raw const part, 1, 0) }
}

unsafe extern "C" fn writev(_: User, fd: c_int, data: *const iovec, count: c_int) -> ssize_t {
    // SAFETY: writev(2): `data` holds `count` vectors.
    unsafe { transmit(fd, data, count.max(0) as size_t, 0) }
}

unsafe extern "C" fn send(_: User, fd: c_int, data: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    let part = iovec { iov_base: data.cast_mut(), iov_len: len };
    // SAFETY: send(2): `data` is valid for `len` bytes.
    unsafe { transmit(fd, &raw const part, 1, flags) }
}

unsafe extern "C" fn sendto(
    _: User,
    fd: c_int,
    data: *const c_void,
    len: size_t,
    flags: c_int,
    address: *const sockaddr,
    address_len: socklen_t,
) -> ssize_t {
    let part = iovec { iov_base: data.cast_mut(), iov_len: len };
    // SAFETY: sendto(2): `data` is valid for `len` bytes, the address for `address_len`.
    unsafe { transmit_to(fd, &raw const part, 1, flags, Address { start: address, len: address_len }) }
}

unsafe extern "C" fn sendmsg(_: User, fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
    // SAFETY: sendmsg(2): `message` is valid, and so are the vectors in it.
    unsafe {
        let message = &*message;
        let to = Address { start: message.msg_name.cast_const().cast(), len: message.msg_namelen };
        transmit_to(fd, message.msg_iov, message.msg_iovlen, flags, to)
    }
}

unsafe extern "C" fn fcntl(_: User, fd: c_int, command: c_int, argument: c_long) -> c_int {
    int(run(|adapter| adapter.fcntl(fd, command, argument)))
}

unsafe extern "C" fn ioctl(_: User, fd: c_int, request: c_ulong, argument: *mut c_int) -> c_int {
    int(run(|adapter| {
        let value = adapter.ioctl(fd, request)?;
        // SAFETY: each request that the adapter knows comes with a place for an int.
        unsafe { argument.write(value) };
        Ok(0)
    }))
}

unsafe extern "C" fn close(_: User, fd: c_int) -> c_int {
    int(run(|adapter| {
        adapter.close(fd)?;
        Ok(close_kernel(fd))
    }))
}

unsafe extern "C" fn shutdown(_: User, fd: c_int, how: c_int) -> c_int {
    int(run(|adapter| adapter.shutdown(fd, how)))
}

unsafe extern "C" fn getsockopt(
    _: User,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    let result = run(|adapter| adapter.option(fd, level, name));
    // SAFETY: getsockopt(2): `len` is valid, and `value` for as many bytes as it says.
    unsafe { store(result, value, len) }
}

unsafe extern "C" fn setsockopt(
    _: User,
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    len: socklen_t,
) -> c_int {
    int(run(|adapter| {
        // SAFETY: setsockopt(2): `value` is valid for `len` bytes.
        let value = unsafe { bytes(value, len as size_t) }?;
        adapter.set_option(fd, level, name, value)
    }))
}

unsafe extern "C" fn poll(_: User, fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    int(run(|adapter| {
        let fds = if count == 0 {
            &mut []
        } else {
            // SAFETY: poll(2): `fds` holds `count` elements.
            unsafe { std::slice::from_raw_parts_mut(fds, count as size_t) }
        };
        adapter.poll(fds, timeout)
    }))
}

unsafe extern "C" fn netdev_send(_: User, packet: *const c_void, len: size_t) -> c_int {
    int(run(|adapter| {
        // SAFETY: packetdrill.h: `packet` is valid for `len` bytes.
        let packet = unsafe { bytes(packet, len) }?;
        adapter.inject(packet).map(|()| 0)
    }))
}

/// If no packet can come any more, the length is 0, which packetdrill treats as a bad packet and so
/// a failure. It would retry after an error, for ever.
unsafe extern "C" fn netdev_receive(
    _: User,
    packet: *mut c_void,
    len: *mut size_t,
    time_usecs: *mut c_longlong,
) -> c_int {
    int(run(|adapter| {
        let sent = adapter.next_packet();
        if sent.is_none() {
            eprintln!("netstack-packetdrill: the script expects a packet, and none is to come");
        }
        let (bytes, at) = sent.map_or((Vec::new(), adapter.time()), |sent| (sent.bytes, sent.at));
        // SAFETY: packetdrill.h: `len` and `time_usecs` are valid, `packet` for the bytes that `len` says.
        unsafe {
            *len = copy_out(&bytes, packet, *len);
            *time_usecs = at.as_micros().cast_signed();
        }
        Ok(0)
    }))
}

unsafe extern "C" fn usleep(_: User, micros: c_uint) -> c_int {
    int(run(|adapter| {
        adapter.pass(Duration::from_micros(micros.into()));
        Ok(0)
    }))
}

unsafe extern "C" fn gettimeofday(_: User, time: *mut timeval, _zone: *mut c_void) -> c_int {
    int(run(|adapter| {
        let micros = adapter.time().as_micros().cast_signed();
        let now = timeval { tv_sec: micros / 1_000_000, tv_usec: micros % 1_000_000 };
        // SAFETY: gettimeofday(2): `time` is valid.
        unsafe { time.write(now) };
        Ok(0)
    }))
}

unsafe extern "C" fn epoll_create(_: User, size: c_int) -> c_int {
    int(run(|adapter| {
        if size <= 0 {
            return Err(Errno(libc::EINVAL));
        }
        let fd = open_descriptor()?;
        adapter.epoll_create(fd);
        Ok(fd)
    }))
}

unsafe extern "C" fn epoll_ctl(_: User, epfd: c_int, op: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    int(run(|adapter| {
        // SAFETY: epoll_ctl(2): `event` is null or valid.
        let event = unsafe { event.as_ref() };
        adapter.epoll_ctl(epfd, op, fd, event.map(|event| Ready { events: event.events, data: event.u64 }))
    }))
}

unsafe extern "C" fn epoll_wait(
    _: User,
    epfd: c_int,
    events: *mut epoll_event,
    max: c_int,
    timeout: c_int,
) -> c_int {
    int(run(|adapter| {
        let max = usize::try_from(max).ok().filter(|max| *max > 0).ok_or(Errno(libc::EINVAL))?;
        let ready = adapter.epoll_wait(epfd, max, timeout)?;
        for (at, ready) in ready.iter().enumerate() {
            let event = epoll_event { events: ready.events, u64: ready.data };
            // SAFETY: epoll_wait(2): `events` has room for `max`, and there are not more.
            unsafe { events.add(at).write(event) };
        }
        Ok(ready.len() as c_int)
    }))
}

/// Not a call of TCP.
unsafe extern "C" fn pipe(_: User, _fds: *mut c_int) -> c_int {
    fail(libc::EOPNOTSUPP)
}

/// Not a call of TCP.
unsafe extern "C" fn splice(
    _: User,
    _from: c_int,
    _from_at: *mut loff_t,
    _to: c_int,
    _to_at: *mut loff_t,
    _len: size_t,
    _flags: c_uint,
) -> c_int {
    fail(libc::EOPNOTSUPP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_table_has_the_layout_of_packetdrill() {
        let pointer = size_of::<*const ()>();
        assert_eq!(size_of::<Interface>(), 33 * pointer);
        #[cfg(target_pointer_width = "64")]
        assert_eq!(size_of::<Interface>(), 264);
        for (at, offset) in [
            (1, offset_of!(Interface, free)),
            (7, offset_of!(Interface, read)),
            (12, offset_of!(Interface, write)),
            (17, offset_of!(Interface, fcntl)),
            (23, offset_of!(Interface, poll)),
            (25, offset_of!(Interface, netdev_receive)),
            (27, offset_of!(Interface, gettimeofday)),
            (32, offset_of!(Interface, splice)),
        ] {
            assert_eq!(offset, at * pointer);
        }
    }
}
