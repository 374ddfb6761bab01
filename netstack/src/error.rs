//! Errors of the stack as [`io::Error`], with the error numbers of Linux.

use std::io;

/// `EHOSTDOWN`, where C has it, and the closest to it elsewhere.
#[cfg(unix)]
pub(crate) const EHOSTDOWN: i32 = libc::EHOSTDOWN;
#[cfg(not(unix))]
pub(crate) const EHOSTDOWN: i32 = libc::EHOSTUNREACH;

/// `ENONET`, which only Linux has, and the closest to it elsewhere.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(crate) const ENONET: i32 = libc::ENONET;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(crate) const ENONET: i32 = libc::EHOSTUNREACH;

/// The error with the number `errno` of C, such as `libc::EADDRINUSE`.
pub(crate) fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(native(errno))
}

/// What the system calls an error that C calls `errno`: on Unix the same.
#[cfg(not(windows))]
pub(crate) const fn native(errno: i32) -> i32 {
    errno
}

/// What the system calls an error that C calls `errno`: Windows has numbers of its own, from which [`io::Error`] takes
/// its kind. Its errors of C are those of its C library only.
#[cfg(windows)]
pub(crate) const fn native(errno: i32) -> i32 {
    to_windows(errno)
}

/// The error of Windows and of its sockets that means what `errno` means in C.
#[cfg(any(windows, test))]
const fn to_windows(errno: i32) -> i32 {
    match errno {
        libc::ENOENT => 2,   // ERROR_FILE_NOT_FOUND
        libc::ENFILE => 4,   // ERROR_TOO_MANY_OPEN_FILES
        libc::EPERM => 5,    // ERROR_ACCESS_DENIED
        libc::ENOMEM => 8,   // ERROR_NOT_ENOUGH_MEMORY
        libc::EPROTO => 13,  // ERROR_INVALID_DATA
        libc::ENODEV => 55,  // ERROR_DEV_NOT_EXIST
        libc::EPIPE => 109,  // ERROR_BROKEN_PIPE
        libc::ENOSPC => 112, // ERROR_DISK_FULL
        libc::EEXIST => 183, // ERROR_ALREADY_EXISTS
        libc::EIO => 1117,   // ERROR_IO_DEVICE
        libc::ESRCH => 1168, // ERROR_NOT_FOUND
        // The others are errors of sockets (WSAE…).
        libc::EBADF => 10009,
        libc::EACCES => 10013,
        libc::EINVAL => 10022,
        libc::EAGAIN => 10035,
        libc::EDESTADDRREQ => 10039,
        libc::EMSGSIZE => 10040,
        libc::ENOPROTOOPT => 10042,
        libc::EPROTONOSUPPORT => 10043,
        libc::EOPNOTSUPP => 10045,
        libc::EAFNOSUPPORT => 10047,
        libc::EADDRINUSE => 10048,
        libc::EADDRNOTAVAIL => 10049,
        libc::ENETDOWN => 10050,
        libc::ENETUNREACH => 10051,
        libc::ECONNABORTED => 10053,
        libc::ECONNRESET => 10054,
        libc::ENOBUFS => 10055,
        libc::ENOTCONN => 10057,
        libc::ETIMEDOUT => 10060,
        libc::ECONNREFUSED => 10061,
        libc::EHOSTUNREACH => 10065,
        other => other,
    }
}

/// An error that can be reported more than once, which [`io::Error`] cannot: it is not [`Clone`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// One of the operating system with its own number, of a device for example.
    Os(i32),
    /// One with a text of its own.
    Text(io::ErrorKind, String),
}

impl Failure {
    /// The error with the number `errno` of C.
    pub(crate) const fn os(errno: i32) -> Self {
        Self::Os(native(errno))
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::Os(errno),
            None => Self::Text(error.kind(), error.to_string()),
        }
    }
}

impl From<&Failure> for io::Error {
    fn from(failure: &Failure) -> Self {
        match failure {
            Failure::Os(number) => Self::from_raw_os_error(*number),
            Failure::Text(kind, text) => Self::new(*kind, text.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_reported_alike_each_time() {
        let own = io::Error::new(io::ErrorKind::NotConnected, "the device is gone");
        let failure = Failure::from(&own);
        for _ in 0..2 {
            let again = io::Error::from(&failure);
            assert_eq!((again.kind(), again.to_string()), (own.kind(), own.to_string()));
        }
        assert_eq!(io::Error::from(&Failure::from(&os(libc::ENODEV))).raw_os_error(), Some(libc::ENODEV));
    }

    /// Every error number that the stack gives has one of Windows: the sources are searched for them.
    #[test]
    fn windows_has_a_number_for_each() {
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        let (mut given, mut known) = (std::collections::BTreeSet::new(), String::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    // What tests expect need not be what the stack gives.
                    folders.extend((!path.ends_with("tests")).then_some(path));
                } else if path == std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/error.rs")) {
                    known = std::fs::read_to_string(path).unwrap();
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(path).unwrap();
                    for (at, prefix) in text.match_indices("libc::E") {
                        let name = text[at + prefix.len()..].split(|c: char| !c.is_ascii_uppercase()).next();
                        given.insert(format!("libc::E{}", name.unwrap()));
                    }
                }
            }
        }
        assert!(given.len() > 25, "{given:?}");
        for name in &given {
            assert!(known.contains(&format!("{name} => ")), "{name}");
        }
    }

    #[test]
    fn numbers_of_windows() {
        for (errno, number) in [
            (libc::ECONNREFUSED, 10061),
            (libc::EADDRINUSE, 10048),
            (libc::EPIPE, 109),
            (libc::EINVAL, 10022),
        ] {
            assert_eq!(to_windows(errno), number);
        }
    }
}
