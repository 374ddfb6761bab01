//! Who turns names into addresses.

use crate::net::clock;
use std::collections::HashMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;

/// Who turns the names that the sockets of a stack are given into addresses:
/// [`StackBuilder::resolver`](crate::StackBuilder::resolver).
///
/// For each of them `localhost` is 127.0.0.1 and then ::1, except that [`Resolver::Host`] leaves it to the host
/// while time is not paused.
///
/// # Examples
/// ```
/// use netstack::Stack;
/// use netstack::net::Resolver;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let names = Resolver::fixed([("server.test", "127.0.0.1".parse().unwrap())]);
/// let stack = Stack::builder().resolver(names).build()?;
/// let listener = stack.listen("127.0.0.1:80").await?;
/// let stream = stack.connect("server.test:80").await?;
/// # drop((listener, stream));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Resolver {
    /// The resolver of the host, on a blocking thread of the current tokio runtime. In paused time, and where
    /// there is no runtime, it resolves `localhost` only.
    #[default]
    Host,
    /// These names and no others. Upper and lower case are the same.
    Fixed(HashMap<String, Vec<IpAddr>>),
    /// The application.
    Custom(Arc<dyn Resolve>),
}

/// Turns names into addresses.
pub trait Resolve: Send + Sync {
    /// The addresses of `name`, in the order in which they are tried.
    fn resolve<'a>(
        &'a self,
        name: &'a str,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>>;
}

impl Resolver {
    /// [`Resolver::Fixed`] from pairs of a name and an address. A name that is there several times has several
    /// addresses.
    pub fn fixed<N: Into<String>>(names: impl IntoIterator<Item = (N, IpAddr)>) -> Self {
        let mut fixed = HashMap::<String, Vec<IpAddr>>::new();
        for (name, address) in names {
            fixed.entry(name.into()).or_default().push(address);
        }
        Self::Fixed(fixed)
    }

    /// The addresses of a name.
    pub(crate) async fn lookup(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        let in_runtime = Handle::try_current().is_ok();
        let host = matches!(self, Self::Host) && in_runtime && !clock::is_paused();
        if name.eq_ignore_ascii_case("localhost") && !host {
            return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
        }
        match self {
            Self::Host if host => {
                let found = tokio::net::lookup_host((name, 0)).await?;
                Ok(found.map(|address| address.ip()).collect())
            }
            Self::Host if in_runtime => Err(unsupported(
                "the time of the tokio runtime is paused, which the host's resolver cannot follow: give the \
                 stack a resolver",
            )),
            Self::Host => Err(unsupported("resolving a name needs a tokio runtime")),
            Self::Fixed(names) => {
                let found = names.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                let addresses = found.map(|(_, addresses)| addresses.clone());
                addresses.ok_or_else(|| {
                    io::Error::new(io::ErrorKind::NotFound, format!("there is no address for `{name}`"))
                })
            }
            Self::Custom(resolver) => {
                // Behind a mutex that nobody locks, the future is `Sync`, as those of tokio's sockets are.
                let mut asked = Mutex::new(resolver.resolve(name));
                poll_fn(move |cx| asked.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(cx))
                    .await
            }
        }
    }
}

fn unsupported(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text)
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("Host"),
            Self::Fixed(names) => f.debug_tuple("Fixed").field(names).finish(),
            Self::Custom(_) => f.write_str("Custom"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Reversed;

    impl Resolve for Reversed {
        fn resolve<'a>(
            &'a self,
            name: &'a str,
        ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + 'a>> {
            Box::pin(async move {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                let address: String = name.chars().rev().collect();
                address.parse().map(|address| vec![address]).map_err(io::Error::other)
            })
        }
    }

    fn shown(found: io::Result<Vec<IpAddr>>) -> Vec<String> {
        found.unwrap().iter().map(ToString::to_string).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn each_resolver_knows_localhost_and_what_it_is_for() {
        let fixed = Resolver::fixed(
            [("a.test", "10.0.0.1"), ("a.test", "fd00::1"), ("b.test", "10.0.0.2")]
                .map(|(name, address)| (name, address.parse().unwrap())),
        );
        let custom = Resolver::Custom(Arc::new(Reversed));
        for resolver in [&Resolver::Host, &fixed, &custom] {
            assert_eq!(shown(resolver.lookup("LocalHost").await), ["127.0.0.1", "::1"], "{resolver:?}");
        }
        assert_eq!(shown(fixed.lookup("A.test").await), ["10.0.0.1", "fd00::1"]);
        assert_eq!(fixed.lookup("c.test").await.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(shown(custom.lookup("1.0.0.01").await), ["10.0.0.1"]);
        let error = Resolver::Host.lookup("a.test").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported, "{error}");
    }
}
