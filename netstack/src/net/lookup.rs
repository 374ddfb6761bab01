//! Resolution of names and address literals.

use crate::net::park::block_on;
use crate::net::resolver::Resolver;
use crate::net::stack::Stack;
pub(crate) use sealed::Target;
use sealed::ToTarget;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use tokio::runtime::Handle;

/// Types that can be resolved to socket addresses. They are the same as those of
/// `tokio::net::ToSocketAddrs`.
///
/// Addresses and literals are resolved immediately. Names are resolved by the [`Resolver`] of the stack, which
/// by default is that of the host.
///
/// The trait is sealed.
pub trait ToSocketAddrs: ToTarget {}

impl<T: ToTarget + ?Sized> ToSocketAddrs for T {}

/// Resolves `host` to the addresses that a constructor would try, in the same order: by the resolver of the
/// current stack ([`Stack::current`]), or by that of the host if there is none.
///
/// # Errors
/// - [`io::ErrorKind::InvalidInput`] if a string is not of the form `host:port`.
/// - [`io::ErrorKind::Unsupported`] for a name outside a tokio runtime or in paused time, if the resolver is
///   that of the host.
/// - Errors of the resolver.
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
    let resolver = Stack::try_current().map(|stack| stack.core().resolver().clone()).unwrap_or_default();
    Ok(resolve(&resolver, target).await?.into_iter())
}

/// The addresses of what [`ToTarget::to_target`] found.
///
/// The future does not borrow the value that names the target: a future that did would be `Send` only
/// for a value that is `Sync`.
pub(crate) async fn resolve(resolver: &Resolver, target: io::Result<Target>) -> io::Result<Vec<SocketAddr>> {
    match target? {
        Target::Address(address) => Ok(vec![address]),
        Target::Addresses(addresses) => Ok(addresses),
        Target::Name(name, port) => {
            let found = resolver.lookup(&name).await?;
            Ok(found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
        }
    }
}

/// The first of the addresses that [`resolve`] gives. To give the one address of a datagram allocates nothing.
pub(crate) async fn resolve_first(
    resolver: &Resolver,
    target: io::Result<Target>,
) -> io::Result<Option<SocketAddr>> {
    match target? {
        Target::Address(address) => Ok(Some(address)),
        target => Ok(resolve(resolver, Ok(target)).await?.first().copied()),
    }
}

/// As [`resolve`], blocking the thread. It needs no runtime for the resolver of the host.
pub(crate) fn resolve_blocking(
    resolver: &Resolver,
    target: io::Result<Target>,
) -> io::Result<Vec<SocketAddr>> {
    match (target?, resolver) {
        (Target::Name(name, port), Resolver::Host) if Handle::try_current().is_err() => {
            Ok(std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), port))?.collect())
        }
        (target, _) => block_on(resolve(resolver, Ok(target)), None).expect("it waits without a limit"),
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
        Address(SocketAddr),
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
    Ok(Target::Address(address.into()))
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
        resolve(&Resolver::Host, host.to_target()).await.unwrap().iter().map(ToString::to_string).collect()
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
            let error = resolve(&Resolver::Host, text.to_target()).await.unwrap_err();
            assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::InvalidInput, what.to_owned()));
        }
        assert_eq!(none_worked(None).to_string(), "could not resolve to any address");
    }
}
