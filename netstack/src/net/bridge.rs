//! Bridges between a stack and the sockets of the kernel, for crates that are tied to the types of `tokio::net`
//! (reqwest, sqlx, rumqttc), and for servers that run on the machine.
//!
//! Such a crate connects to the kernel's loopback, and a [`Bridge`] passes on what it says over the stack. Each
//! connection costs two of the kernel's sockets and a copy in either direction.

use crate::net::lookup::ToSocketAddrs;
use crate::net::stack::Stack;
use crate::net::tcp::{PendingListener, TcpStream};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::copy_bidirectional;
use tokio::task::{AbortHandle, JoinSet};

/// How long a bridge waits after an error of accepting that is not of one connection.
const PAUSE: Duration = Duration::from_secs(1);

/// Passes connections on, until it is dropped: then those that are open end, too, with a reset.
///
/// An end of a stream is passed on as one, so that either side can close first, and a reset as a reset.
///
/// # Examples
/// ```
/// use netstack::Stack;
/// use netstack::bridge::Bridge;
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// # #[tokio::main]
/// # async fn main() -> std::io::Result<()> {
/// // A server on a stack.
/// let stack = Stack::builder().build()?;
/// let listener = stack.listen("127.0.0.1:80").await?;
/// tokio::spawn(async move {
///     let (mut stream, _) = listener.accept().await?;
///     stream.write_all(b"hello").await
/// });
/// // A client that knows nothing of stacks.
/// let bridge = Bridge::to_stack(&stack, "127.0.0.1:80").await?;
/// let mut client = tokio::net::TcpStream::connect(bridge.local_addr()).await?;
/// let mut said = String::new();
/// client.read_to_string(&mut said).await?;
/// assert_eq!(said, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a bridge ends when it is dropped"]
pub struct Bridge {
    local: SocketAddr,
    task: AbortHandle,
}

impl Bridge {
    /// Takes connections on a port of the kernel's 127.0.0.1, which is free, and passes them on to `target` over
    /// `stack`. If that cannot be connected to, the client gets a reset.
    ///
    /// # Errors
    /// If there is no such port, or `target` cannot be resolved by the stack.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or in one without its I/O driver.
    pub async fn to_stack<A: ToSocketAddrs>(stack: &Stack, target: A) -> io::Result<Self> {
        let target: Vec<_> = stack.lookup_host(target).await?.collect();
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (local, stack) = (listener.local_addr()?, stack.clone());
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let accepted = listener.accept().await;
                while connections.try_join_next().is_some() {}
                let Ok((client, _)) = accepted else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let (stack, target) = (stack.clone(), target.clone());
                connections.spawn(async move {
                    match TcpStream::connect_on(&stack, &target[..]).await {
                        Ok(server) => splice(server, client).await,
                        Err(_) => drop(client.set_zero_linger()),
                    }
                });
            }
        });
        Ok(Self { local, task: task.abort_handle() })
    }

    /// Takes connections at `local` of `stack` and passes them on to `target` of the kernel. A SYN is answered when
    /// the target is connected, and refused as the target refused it.
    ///
    /// # Errors
    /// As [`PendingListener::bind_on`]; if `target` cannot be resolved by the host.
    ///
    /// # Panics
    /// Outside of a tokio runtime, or in one without its I/O driver.
    pub async fn to_kernel<A, T>(stack: &Stack, local: A, target: T) -> io::Result<Self>
    where
        A: ToSocketAddrs,
        T: tokio::net::ToSocketAddrs,
    {
        let target: Vec<_> = tokio::net::lookup_host(target).await?.collect();
        let listener = PendingListener::bind_on(stack, local).await?;
        let local = listener.local_addr()?;
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            // Accepting fails once the stack is over, or the device.
            while let Ok(pending) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                let target = target.clone();
                connections.spawn(async move {
                    match tokio::net::TcpStream::connect(&target[..]).await {
                        Ok(server) => {
                            if let Ok(client) = pending.accept().await {
                                splice(client, server).await;
                            }
                        }
                        Err(error) => pending.refuse_as(&error),
                    }
                });
            }
            while connections.join_next().await.is_some() {}
        });
        Ok(Self { local, task: task.abort_handle() })
    }

    /// Where connections are taken.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Passes on what either says until both have ended. What ends otherwise is reset on both sides.
async fn splice(ours: TcpStream, theirs: tokio::net::TcpStream) {
    let mut both = Spliced { ours, theirs, ended: false };
    both.ended = copy_bidirectional(&mut both.ours, &mut both.theirs).await.is_ok();
}

struct Spliced {
    ours: TcpStream,
    theirs: tokio::net::TcpStream,
    ended: bool,
}

impl Drop for Spliced {
    fn drop(&mut self) {
        if !self.ended {
            // Of a socket that is over already there is nothing to reset.
            let _ = self.ours.set_zero_linger();
            let _ = self.theirs.set_zero_linger();
        }
    }
}
