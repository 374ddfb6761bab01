//! The shared library through which google's packetdrill drives netstack, in virtual time.
//!
//! packetdrill plays scripts of socket calls, injected segments and expected segments against a
//! TCP. Loaded with `--so_filename`, this library takes the place of the kernel: the tool makes its
//! calls through a table of function pointers ([`abi`]), and reads the time through the same table.
//! So the library controls the time, a whole script takes little real time, and every run is the
//! same.
//!
//! Nothing here depends on what a script expects. Each call is one of [`netstack::stack::Engine`],
//! each socket option is a field of [`netstack::tcp::SocketOptions`], and options that netstack
//! does not have fail with `ENOPROTOOPT`.
//!
//! - [`world`]: the stack, its clock, the sockets, and the passing of time.
//! - [`blocking`]: blocking calls, and the two threads of packetdrill.
//! - [`sockets`], [`options`], [`poll`]: the calls.
//! - [`flags`], [`sysctl`]: the sources of settings; [`nstat`]: the output of counters.
//! - [`abi`], [`preload`]: the interface to C, and all unsafe code.

pub mod abi;
pub mod address;
pub mod blocking;
pub mod device;
pub mod fast_open;
pub mod flags;
pub mod nstat;
pub mod options;
pub mod poll;
pub mod preload;
pub mod sockets;
pub mod sysctl;
pub mod tcp_info;
pub mod world;

/// An error number of Linux, as calls of the table leave it in `errno`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Self {
        Self(match (error.raw_os_error(), error.kind()) {
            (Some(errno), _) => errno,
            (None, std::io::ErrorKind::WouldBlock) => libc::EAGAIN,
            (None, std::io::ErrorKind::InvalidInput) => libc::EINVAL,
            (None, _) => libc::EIO,
        })
    }
}

/// The result of a call.
pub type Call<T = i32> = Result<T, Errno>;
