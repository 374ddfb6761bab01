//! The functions of libc that packetdrill calls directly and not through its table, replaced by
//! `LD_PRELOAD`.
//!
//! The library is loaded into the shell commands of a script too, where these must do what libc's
//! do. They call the kernel directly: libc's own have the same names.

use crate::abi::{fail, store};
use crate::blocking::Adapter;
use libc::{c_char, c_int, c_long, c_void, clock_t, pthread_t, size_t, socklen_t, tms};
use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};

/// The clock ticks that [`times`] reports: one more with each call, so that no caller waits for
/// one.
static TICKS: AtomicI64 = AtomicI64::new(0);

/// getsockopt(2): assertions in scripts read `TCP_INFO` with it.
///
/// # Safety
/// As for libc's.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn getsockopt(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
) -> c_int {
    let ours = Adapter::get().filter(|adapter| adapter.lock().world.has(fd));
    match ours {
        Some(adapter) => {
            let result = adapter.option(fd, level, name);
            // SAFETY: the caller's promise about `value` and `len` is libc's.
            unsafe { store(result, value, len) }
        }
        // SAFETY: the arguments are passed on as they came.
        None => unsafe { libc::syscall(libc::SYS_getsockopt, fd, level, name, value, len) as c_int },
    }
}

/// times(2): packetdrill waits at its start until ten ticks of real time have passed.
///
/// # Safety
/// As for libc's.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn times(buf: *mut tms) -> clock_t {
    if Adapter::get().is_some() && buf.is_null() {
        return TICKS.fetch_add(1, Ordering::Relaxed);
    }
    // SAFETY: the argument is passed on as it came.
    unsafe { libc::syscall(libc::SYS_times, buf) }
}

/// mlockall(2): packetdrill locks its memory to keep time, which we do not need, and which asks for a
/// privilege.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn mlockall(_flags: c_int) -> c_int {
    0
}

/// system(3): packetdrill runs the commands of a script with it. They may read the counters. They
/// are written for bash: in other shells, `&>` starts a background job, which may end at any time.
///
/// # Safety
/// As for libc's.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn system(command: *const c_char) -> c_int {
    if command.is_null() {
        return 1;
    }
    if let Some(adapter) = Adapter::get()
        && let Some(counters) = adapter.lock().world.counters()
    {
        crate::nstat::write_down(&counters);
    }
    // SAFETY: the caller's promise is libc's: a string of C.
    let command = OsStr::from_bytes(unsafe { CStr::from_ptr(command) }.to_bytes());
    let run = |shell| Command::new(shell).arg("-c").arg(command).status();
    match run("bash").or_else(|_| run("sh")) {
        Ok(status) => status.into_raw(),
        Err(error) => fail(error.raw_os_error().unwrap_or(libc::ENOENT)),
    }
}

/// pthread_join(3): packetdrill ends its second thread when the script is over, before it takes the
/// connections down with resets of its own. The packets that the stack has sent until then belong
/// to the script.
///
/// # Safety
/// As for libc's.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn pthread_join(thread: pthread_t, result: *mut *mut c_void) -> c_int {
    type Join = unsafe extern "C" fn(pthread_t, *mut *mut c_void) -> c_int;
    if let Some(adapter) = Adapter::get() {
        adapter.lock().world.end_script();
    }
    // SAFETY: the name is a string of C.
    let next = unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_join".as_ptr()) };
    if next.is_null() {
        return libc::EINVAL;
    }
    // SAFETY: what follows us under this name is libc's, which has this type; null was excluded.
    let next = unsafe { std::mem::transmute::<*mut c_void, Join>(next) };
    // SAFETY: the arguments are passed on as they came.
    unsafe { next(thread, result) }
}

/// Closes a descriptor of the kernel.
pub(crate) fn close_kernel(fd: c_int) -> c_int {
    // SAFETY: close(2) touches no memory of ours; the descriptor is one that `abi` opened, or
    // packetdrill's own.
    let result: c_long = unsafe { libc::syscall(libc::SYS_close, fd) };
    if result < 0 { fail(libc::EBADF) } else { 0 }
}

/// Ends the process: the one way in which free() can report a failure.
pub(crate) fn exit_with_failure() -> ! {
    // SAFETY: _exit(2) does not return. Exit handlers are skipped on purpose: packetdrill's state is
    // half taken down.
    unsafe { libc::_exit(1) }
}

/// Copies `bytes` to `to`, as much as `room` allows; the length that was copied.
///
/// # Safety
/// `to` is valid for `room` bytes of writing.
pub(crate) unsafe fn copy_out(bytes: &[u8], to: *mut c_void, room: size_t) -> size_t {
    let n = bytes.len().min(room);
    if n > 0 {
        // SAFETY: the caller vouches for `room` bytes, and `n` is not more; the source is a slice.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to.cast(), n) };
    }
    n
}
