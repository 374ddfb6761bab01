//! Network namespaces without root: a private network for a program, a test or a second host.
//!
//! Without the right to create network namespaces, a process can create a user namespace and, as
//! root of that, network namespaces in it; most distributions permit that. Everything in this
//! module works either way.
//!
//! - [`enter_private`] moves a program into a private namespace, at the beginning of `main`.
//! - [`isolated()`] runs a test in one, although the test runner has threads.
//! - [`Namespace`] is a further namespace in addition to that of the process: another host.

mod isolated;
mod namespace;

pub use isolated::{Isolated, isolated, isolated_within};
pub use namespace::Namespace;

use crate::{attach, sys};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The errno with which a forked child reports that it entered a namespace, and did not call exec.
const ENTERED: i32 = libc::ECANCELED;

/// Moves the process to a private network namespace, and brings `lo` up there.
///
/// Without CAP_SYS_ADMIN, the process first enters a user namespace in which it is root. Its rights
/// over files do not change.
///
/// Call it at the beginning of `main`, before anything starts a thread (such as tokio's runtime),
/// because only the calling thread enters the namespace.
///
/// ```no_run
/// fn main() -> std::io::Result<()> {
///     netstack_tun::netns::enter_private()?;
///     let tun = netstack_tun::Tun::open(&netstack_tun::TunConfig::new("tun0"))?;
///     // ... start the runtime, build the stack on `tun`
///     # drop(tun);
///     Ok(())
/// }
/// ```
///
/// # Errors
/// The process is as it was before.
/// - [`io::ErrorKind::InvalidInput`]: the process has threads.
/// - [`io::ErrorKind::PermissionDenied`]: the system does not permit this user to create
///   namespaces.
/// - [`io::ErrorKind::Unsupported`]: the kernel has no namespaces.
pub fn enter_private() -> io::Result<()> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    if threads > 1 {
        let text = format!(
            "a private namespace must be entered before the process starts threads, and it has {threads}: call \
             netns::enter_private first in main"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    // Entering takes several steps. A child tries them all first, because they cannot be undone.
    probe()?;
    Entry::prepare().enter().map_err(|err| refused(&err))
}

/// Whether a private namespace with a TUN device is available.
///
/// # Errors
/// Why not, in one line, with the kinds of [`enter_private`]; also if `/dev/net/tun` cannot be
/// opened.
pub fn available() -> io::Result<()> {
    attach::open_file()?;
    probe()
}

/// Sets a variable of the kernel in the network namespace of this thread: `net.ipv4.tcp_rmem`, or
/// `net/ipv4/conf/eth0.1/forwarding` if names contain dots.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if `name` is not one of `net`; otherwise those of writing
/// `/proc/sys/net/...`, with the name.
pub fn sysctl(name: &str, value: &str) -> io::Result<()> {
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let mut parts = path.split('/');
    if parts.next() != Some("net") || parts.any(|part| part.is_empty() || part == "..") {
        let text = format!("{name} is not a variable of the network (net.…)");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    std::fs::write(format!("/proc/sys/{path}"), value)
        .map_err(|err| io::Error::new(err.kind(), format!("setting {name} to {value}: {err}")))
}

/// Tries in a forked child whether namespaces can be entered.
fn probe() -> io::Result<()> {
    // The program is never executed.
    let mut command = Command::new("/proc/self/exe");
    let entry = Entry::prepare();
    before_exec(&mut command, move || {
        entry.enter()?;
        Err(io::Error::from_raw_os_error(ENTERED))
    });
    match command.spawn() {
        Err(err) if err.raw_os_error() == Some(ENTERED) => Ok(()),
        Err(err) => Err(refused(&err)),
        Ok(mut child) => {
            // Unreachable: the hook always fails, so there was no exec.
            child.kill()?;
            child.wait().map(drop)
        }
    }
}

/// The data for [`Entry::enter`], prepared while allocation is permitted.
struct Entry {
    uid_map: Vec<u8>,
    gid_map: Vec<u8>,
}

impl Entry {
    fn prepare() -> Self {
        let (uid, gid) = sys::effective_ids();
        // Maps root inside to the user outside: root keeps its capabilities across exec.
        Self { uid_map: format!("0 {uid} 1\n").into(), gid_map: format!("0 {gid} 1\n").into() }
    }

    /// Enters fresh namespaces and brings `lo` up. Async-signal-safe: for the child of a process with
    /// threads.
    fn enter(&self) -> io::Result<()> {
        match sys::unshare(libc::CLONE_NEWNET) {
            Err(err) if err.raw_os_error() == Some(libc::EPERM) => self.enter_user_namespace()?,
            other => other?,
        }
        // Some systems (AppArmor) permit a user namespace without capabilities in it, which this
        // call detects.
        sys::bring_loopback_up()
    }

    fn enter_user_namespace(&self) -> io::Result<()> {
        sys::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET)?;
        // user_namespaces(7): without privileges outside, gid_map is writable only after setgroups
        // has been disabled.
        sys::write_file(c"/proc/self/setgroups", b"deny")?;
        sys::write_file(c"/proc/self/uid_map", &self.uid_map)?;
        sys::write_file(c"/proc/self/gid_map", &self.gid_map)
    }
}

/// Has `hook` run in the child of `command`, between fork and exec. It must be async-signal-safe.
fn before_exec(command: &mut Command, hook: impl FnMut() -> io::Result<()> + Send + Sync + 'static) {
    // SAFETY: the child of a process with threads may only do what is async-signal-safe until it calls
    // exec. The callers, all of them in `netns`, pass hooks that call `Entry::enter` and
    // `sys::die_with_parent` alone, which make plain system calls on memory prepared before the fork:
    // they neither allocate nor lock, and an `io::Error` made of an errno does not allocate either.
    unsafe { command.pre_exec(hook) };
}

/// Whether an error of [`Entry::enter`] means that the system does not permit namespaces, and not
/// that something is broken.
fn is_refusal(err: &io::Error) -> bool {
    matches!(
        err.raw_os_error(),
        // ENOSPC and EUSERS: the limit `user.max_user_namespaces`, which may be 0.
        // EINVAL and ENOSYS: a kernel built without.
        Some(libc::EPERM | libc::EACCES | libc::ENOSPC | libc::EUSERS | libc::EINVAL | libc::ENOSYS)
    )
}

fn refused(err: &io::Error) -> io::Error {
    let kind = match err.raw_os_error() {
        Some(libc::EINVAL | libc::ENOSYS) => io::ErrorKind::Unsupported,
        _ if is_refusal(err) => io::ErrorKind::PermissionDenied,
        _ => err.kind(),
    };
    let text =
        format!("this system refuses a private network namespace (user and network namespaces): {err}");
    io::Error::new(kind, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_kinds_that_callers_can_act_on() {
        for (errno, kind) in [
            (libc::EPERM, io::ErrorKind::PermissionDenied),
            (libc::ENOSPC, io::ErrorKind::PermissionDenied),
            (libc::ENOSYS, io::ErrorKind::Unsupported),
        ] {
            let err = io::Error::from_raw_os_error(errno);
            assert!(is_refusal(&err));
            assert_eq!(refused(&err).kind(), kind);
        }
        assert!(!is_refusal(&io::Error::from_raw_os_error(libc::ENOENT)));
    }

    #[test]
    fn only_variables_of_the_network() {
        for name in ["kernel.hostname", "net/../kernel/hostname", "net..x", "", "/net/x"] {
            assert_eq!(sysctl(name, "1").unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }

    #[test]
    fn a_process_with_threads_is_told_so() {
        // The runner of tests has a thread for this test beside its own, unless it runs one at a time.
        std::thread::scope(|scope| {
            let (done, wait) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || wait.recv());
            let err = enter_private().unwrap_err();
            drop(done);
            assert_eq!(err.kind(), io::ErrorKind::InvalidInput);
            assert!(err.to_string().contains("first in main"), "{err}");
        });
    }
}
