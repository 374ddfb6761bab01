//! Further network namespaces of this process.

use crate::{interface, sys};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::thread;

/// A network namespace in addition to that of the process: another host of a test.
///
/// It exists as long as this value, or a socket or a thread in it. Creating one needs
/// CAP_SYS_ADMIN: root, or root in a user namespace after [`enter_private`](super::enter_private)
/// or within [`isolated`](super::isolated()).
///
/// ```no_run
/// # fn main() -> std::io::Result<()> {
/// use netstack_tun::{interface, netns::Namespace};
///
/// let other = Namespace::new()?;
/// interface::veth_pair("here", "there")?;
/// interface::move_to("there", &other)?;
/// other.run(|| interface::up("there"))??;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// A new, empty namespace with `lo` up.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] without CAP_SYS_ADMIN; the system's.
    pub fn new() -> io::Result<Self> {
        in_thread(|| {
            sys::unshare(libc::CLONE_NEWNET).map_err(|err| super::refused(&err))?;
            let file = File::open("/proc/thread-self/ns/net")?;
            interface::up("lo")?;
            Ok(Self { file })
        })?
    }

    /// The namespace that a path leads to: `/run/netns/NAME` of `ip netns`, or `/proc/PID/ns/net` of a
    /// process.
    ///
    /// # Errors
    /// Those of opening the path. Whether it is a network namespace is seen when it is entered.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self { file: File::open(path)? })
    }

    /// Runs `body` inside, on a thread of its own, and returns its result. Sockets that it creates
    /// and threads that it starts remain in the namespace.
    ///
    /// # Errors
    /// Those of entering the namespace.
    ///
    /// # Panics
    /// If `body` panics.
    pub fn run<T: Send>(&self, body: impl FnOnce() -> T + Send) -> io::Result<T> {
        in_thread(|| {
            sys::set_network_namespace(self.file.as_fd())?;
            Ok(body())
        })?
    }
}

impl AsFd for Namespace {
    /// The descriptor of the namespace, for [`interface::move_to`].
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The namespace of a thread can be changed without a trace: the thread ends with `body`.
fn in_thread<T: Send>(body: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, body)?;
        thread.join().map_err(|panic| std::panic::resume_unwind(panic))
    })
}
