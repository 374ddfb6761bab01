//! Resolution of names and address literals.

use crate::net::clock;
use sealed::{Target, ToTarget};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use tokio::runtime::Handle;

/// Types that can be resolved to socket addresses. They are the same as those of
/// `tokio::net::ToSocketAddrs`.
///
/// Addresses and literals are resolved immediately. Names are resolved by the resolver of the host, on a
/// blocking thread of the current tokio runtime. While the time of that runtime is paused, and where
/// there is no runtime, `localhost` is 127.0.0.1 and then ::1, whatever the host says.
///
/// The trait is sealed.
pub trait ToSocketAddrs: ToTarget {}

impl<T: ToTarget + ?Sized> ToSocketAddrs for T {}

/// Resolves `host` to the addresses that a constructor would try, in the same order.
///
/// # Errors
/// - [`io::ErrorKind::InvalidInput`] if a string is not of the form `host:port`.
/// - [`io::ErrorKind::Unsupported`] for a name outside a tokio runtime.
/// - Errors of the host's resolver.
///
/// # Examples
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let mut found = netstack::net::lookup_host("[::1]:80").await?;
/// assert_eq!(found.next(), Some("[::1]:80".parse().unwrap()));
/// # Ok(())
/// # }
/// ```
pub async fn lookup_host<T: ToSocketAddrs>(host: T) -> io::Result<impl Iterator<Item = SocketAddr>> {
    let target = host.to_target();
    Ok(resolve(target).await?.into_iter())
}

/// The addresses of what [`ToTarget::to_target`] found.
///
/// The future does not borrow the value that names the target: a future that did would be `Send` only
/// for a value that is `Sync`.
pub(crate) async fn resolve(target: io::Result<Target>) -> io::Result<Vec<SocketAddr>> {
    match target? {
        Target::Addresses(addresses) => Ok(addresses),
        // A simulation gives the same on every host, and does not wait for a thread.
        Target::Name(name, port)
            if name.eq_ignore_ascii_case("localhost")
                && (Handle::try_current().is_err() || clock::is_paused()) =>
        {
            Ok(vec![
                SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
                SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
            ])
        }
        Target::Name(name, port) => {
            if Handle::try_current().is_err() {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "resolving a name needs a tokio runtime",
                ));
            }
            Ok(tokio::net::lookup_host((name, port)).await?.collect())
        }
    }
}

/// The outcome of trying addresses one after the other, none of which worked.
pub(crate) fn none_worked(last: Option<io::Error>) -> io::Error {
    last.unwrap_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "could not resolve to any address"))
}

mod sealed {
    use std::io;
    use std::net::SocketAddr;

    /// What a value names.
    #[derive(Debug)]
    #[expect(unnameable_types, reason = "belongs to a sealed trait")]
    pub enum Target {
        Addresses(Vec<SocketAddr>),
        Name(String, u16),
    }

    /// What makes [`ToSocketAddrs`](super::ToSocketAddrs) impossible to implement elsewhere.
    #[expect(unnameable_types, reason = "seals a trait")]
    pub trait ToTarget {
        fn to_target(&self) -> io::Result<Target>;
    }
}

fn one(address: impl Into<SocketAddr>) -> io::Result<Target> {
    Ok(Target::Addresses(vec![address.into()]))
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

fn host_and_port(host: &str, port: u16) -> io::Result<Target> {
    match host.parse::<IpAddr>() {
        Ok(ip) => one((ip, port)),
        Err(_) => Ok(Target::Name(host.to_owned(), port)),
    }
}

impl ToTarget for SocketAddr {
    fn to_target(&self) -> io::Result<Target> {
        one(*self)
    }
}

impl ToTarget for SocketAddrV4 {
    fn to_target(&self) -> io::Result<Target> {
        one(*self)
    }
}

impl ToTarget for SocketAddrV6 {
    fn to_target(&self) -> io::Result<Target> {
        one(*self)
    }
}

impl ToTarget for (IpAddr, u16) {
    fn to_target(&self) -> io::Result<Target> {
        one(*self)
    }
}

impl ToTarget for (Ipv4Addr, u16) {
    fn to_target(&self) -> io::Result<Target> {
        one(*self)
    }
}

impl ToTarget for (Ipv6Addr, u16) {
    fn to_target(&self) -> io::Result<Target> {
        one(*self)
    }
}

impl ToTarget for [SocketAddr] {
    fn to_target(&self) -> io::Result<Target> {
        Ok(Target::Addresses(self.to_vec()))
    }
}

impl ToTarget for str {
    fn to_target(&self) -> io::Result<Target> {
        if let Ok(address) = self.parse::<SocketAddr>() {
            return one(address);
        }
        let (host, port) = self.rsplit_once(':').ok_or_else(|| invalid("invalid socket address"))?;
        host_and_port(host, port.parse().map_err(|_| invalid("invalid port value"))?)
    }
}

impl ToTarget for String {
    fn to_target(&self) -> io::Result<Target> {
        self.as_str().to_target()
    }
}

impl ToTarget for (&str, u16) {
    fn to_target(&self) -> io::Result<Target> {
        host_and_port(self.0, self.1)
    }
}

impl ToTarget for (String, u16) {
    fn to_target(&self) -> io::Result<Target> {
        host_and_port(&self.0, self.1)
    }
}

impl<T: ToTarget + ?Sized> ToTarget for &T {
    fn to_target(&self) -> io::Result<Target> {
        (**self).to_target()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all<T: ToSocketAddrs>(host: T) -> Vec<String> {
        resolve(host.to_target()).await.unwrap().iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn every_type_resolves() {
        let v4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
        let v6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 80, 0, 0);
        assert_eq!(all(v4).await, ["127.0.0.1:80"]);
        assert_eq!(all(SocketAddr::from(v6)).await, ["[::1]:80"]);
        assert_eq!(all((IpAddr::from(*v4.ip()), 1)).await, ["127.0.0.1:1"]);
        assert_eq!(all((*v4.ip(), 1)).await, ["127.0.0.1:1"]);
        assert_eq!(all((*v6.ip(), 1)).await, ["[::1]:1"]);
        assert_eq!(all(&[v4.into(), v6.into()][..]).await, ["127.0.0.1:80", "[::1]:80"]);
        assert_eq!(all("10.0.0.1:5").await, ["10.0.0.1:5"]);
        assert_eq!(all("[fe80::1]:5".to_owned()).await, ["[fe80::1]:5"]);
        assert_eq!(all(("fe80::1", 5)).await, ["[fe80::1]:5"]);
        assert_eq!(all(&("10.0.0.1".to_owned(), 5)).await, ["10.0.0.1:5"]);
    }

    #[tokio::test]
    async fn what_is_no_address_says_so() {
        for (text, what) in [("localhost", "invalid socket address"), ("localhost:x", "invalid port value")] {
            let error = resolve(text.to_target()).await.unwrap_err();
            assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::InvalidInput, what.to_owned()));
        }
        assert_eq!(none_worked(None).to_string(), "could not resolve to any address");
    }
}
