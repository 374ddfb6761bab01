//! The shared library through which google's packetdrill drives netstack, in virtual time.
//!
//! packetdrill plays scripts of socket calls, injected segments and expected segments against a
//! TCP. Loaded with `--so_filename`, this library takes the place of the kernel: the tool makes its
//! calls through a table of function pointers ([`abi`]), and asks the same table for the time. So
//! the time is ours, a whole script runs in moments, and every run is the same.
//!
//! Nothing here knows what a script wants. Each call ends in [`netstack::stack::Engine`], each socket
//! option in the field of [`netstack::tcp::SocketOptions`] behind it, and what netstack does not
//! have fails with `ENOPROTOOPT`.
//!
//! - [`world`]: the stack, its clock, the sockets, and how time goes on.
//! - [`blocking`]: calls that wait, and the two threads of packetdrill.
//! - [`sockets`], [`options`], [`poll`]: the calls.
//! - [`flags`], [`sysctl`]: where the settings come from; [`nstat`]: where the counters go.
//! - [`abi`], [`preload`]: the edge to C, and all unsafe code.

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

/// What a call gives.
pub type Call<T = i32> = Result<T, Errno>;
