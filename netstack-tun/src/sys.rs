//! All system calls that have no safe form in `std`. This is the only module with unsafe code,
//! except for the hook in [`crate::netns`] that runs between fork and exec.

use std::ffi::{CStr, c_int, c_ulong};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// The device file for TUN devices.
pub(crate) const TUN_PATH: &str = "/dev/net/tun";

/// The longest name of an interface in bytes: `IFNAMSIZ` without the terminating zero.
pub(crate) const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// `libc` has it in a type that `ioctl` takes only on some systems.
const SIOCSIFFLAGS: libc::Ioctl = 0x8914;

fn check(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// An unattached, non-blocking TUN file. It belongs to the network namespace of this thread.
pub(crate) fn open_tun() -> io::Result<File> {
    // `std` adds O_CLOEXEC itself.
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN_PATH)
}

/// An `ifreq` with this name, otherwise zero.
fn ifreq(name: &str) -> libc::ifreq {
    // SAFETY: `ifreq` is plain C data, and all-zero bytes are a valid value of each of its fields
    // (null pointers included).
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // zip stops one short of the array, so the name stays terminated.
    for (to, from) in request.ifr_name[..MAX_NAME].iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

/// Creates the device `name`, or attaches to it, and returns the name that the kernel selected.
pub(crate) fn tun_set_iff(tun: &File, name: &str, flags: c_int) -> io::Result<String> {
    let mut request = ifreq(name);
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one `ifreq`, which `request` is and which outlives the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })?;
    name_of(&request)
}

/// The name that the kernel has put into an `ifreq`.
fn name_of(request: &libc::ifreq) -> io::Result<String> {
    let name = request.ifr_name.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    String::from_utf8(name).map_err(|err| io::Error::new(io::ErrorKind::InvalidData, err))
}

/// A duplicate of the descriptor with this number, which is closed when another program is executed.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_DUPFD_CLOEXEC takes its argument by value and touches no memory of ours; a number that is not
    // that of an open descriptor is an error.
    let fd = check(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just opened it for this call, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes reads and writes of `file` return at once.
pub(crate) fn set_nonblocking(file: &File) -> io::Result<()> {
    // SAFETY: F_GETFL touches no memory of ours, and `file` is open.
    let flags = check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes its argument by value and touches no memory of ours.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) }).map(drop)
}

/// The name and the `IFF_*` flags of the device that `tun` is attached to.
pub(crate) fn tun_get_iff(tun: &File) -> io::Result<(String, c_int)> {
    let mut request = ifreq("");
    // SAFETY: TUNGETIFF writes one `ifreq`, which `request` is and which outlives the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    // SAFETY: TUNGETIFF filled in `ifru_flags`; and any bytes are a valid `c_short`.
    let flags = c_int::from(unsafe { request.ifr_ifru.ifru_flags } as u16);
    Ok((name_of(&request)?, flags))
}

/// Sets which offloads (`TUN_F_*`) the reader of the device accepts.
pub(crate) fn tun_set_offload(tun: &File, offloads: u32) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value and touches no memory of ours.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, c_ulong::from(offloads)) }).map(drop)
}

/// Sets the length of the virtio-net header.
pub(crate) fn tun_set_vnet_header_size(tun: &File, size: c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one `int`, which `size` is and which outlives the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) }).map(drop)
}

/// Sets the byte order of the virtio-net header to this machine's.
pub(crate) fn tun_set_vnet_native_endian(tun: &File) -> io::Result<()> {
    let little_endian: c_int = 0;
    // SAFETY: TUNSETVNETLE reads one `int`, which outlives the call.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETLE, &raw const little_endian) }).map(drop)
}

/// A socket for rtnetlink, in the network namespace of this thread. Reading and writing a [`File`]
/// serves: without an address, a netlink socket sends to the kernel.
pub(crate) fn netlink_socket() -> io::Result<File> {
    // SAFETY: `socket` touches no memory of ours.
    let fd = check(unsafe {
        libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE)
    })?;
    // SAFETY: the kernel just gave us `fd`, open, and nobody else knows of it.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// Moves to new namespaces: `CLONE_NEWUSER` the whole process (which must have one thread),
/// `CLONE_NEWNET` this thread. Async-signal-safe.
pub(crate) fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: with the flags for namespaces `unshare` touches neither memory nor descriptors.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Moves this thread to the network namespace that `namespace` refers to.
pub(crate) fn set_network_namespace(namespace: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `setns` with CLONE_NEWNET touches neither memory nor descriptors.
    check(unsafe { libc::setns(namespace.as_fd().as_raw_fd(), libc::CLONE_NEWNET) }).map(drop)
}

/// Brings `lo` up in the network namespace of this thread. Async-signal-safe: what
/// [`crate::interface::up`] does, without an allocation.
pub(crate) fn bring_loopback_up() -> io::Result<()> {
    // SAFETY: `socket` touches no memory of ours.
    let fd = check(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel just gave us `fd`, open, and nobody else knows of it.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let mut request = ifreq("lo");
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which `request` is and which outlives the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCSIFFLAGS, &raw const request) }).map(drop)
}

/// The effective user and group.
pub(crate) fn effective_ids() -> (libc::uid_t, libc::gid_t) {
    // SAFETY: both always succeed and touch no memory of ours.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Writes `bytes` to the existing file `path` in one call. Async-signal-safe: it neither allocates
/// nor locks.
pub(crate) fn write_file(path: &CStr, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: `path` is a terminated string that outlives the call.
    let fd = check(unsafe { libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) })?;
    // SAFETY: the kernel just gave us `fd`, open, and nobody else knows of it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: `bytes` is readable for its whole length, and `fd` is open.
    let written = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    match usize::try_from(written) {
        Ok(n) if n == bytes.len() => Ok(()),
        Ok(_) => Err(io::Error::from_raw_os_error(libc::EIO)),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Makes the kernel kill this process when the thread that forked it ends. Async-signal-safe.
pub(crate) fn die_with_parent() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes its argument by value and touches no memory of ours.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong) }).map(drop)
}

/// Gives memory that was freed back to the system, as far as whole pages are free (malloc_trim(3)). Whether any was.
#[cfg(target_env = "gnu")]
pub(crate) fn trim_heap() -> bool {
    // SAFETY: malloc_trim takes a number by value, touches only memory that is free, and may be called by any
    // thread at any time (it is MT-safe).
    unsafe { libc::malloc_trim(0) == 1 }
}
