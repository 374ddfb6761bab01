//! What one operation costs through the sockets of an application: with the runtime's share, in real time on a
//! current-thread runtime.

use super::{TIMES, WARM_UP};
use crate::devices::Sink;
use netstack::device::{Pair, PairConfig};
use netstack::net::{TcpListener, TcpStream, UdpSocket};
use netstack::{Interface, Stack};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Builder;

/// Payload of a datagram that fills the MTU.
const DATAGRAM: usize = 1472;

fn block_on<F: Future>(future: F) -> io::Result<F::Output> {
    Ok(Builder::new_current_thread().enable_all().build()?.block_on(future))
}

/// Polls `future`, which does not wait, and counts that.
fn ready<T>(counts: bool, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut future = pin!(future);
    let mut result = Poll::Pending;
    super::run(counts, || result = future.as_mut().poll(&mut Context::from_waker(Waker::noop())));
    match result {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::Error::other("it waits")),
    }
}

/// `send_to` of one datagram, to a device that takes it.
pub(super) fn datagram_out() -> io::Result<()> {
    block_on(async {
        let peer: SocketAddr = ([10, 0, 0, 1], 9).into();
        let interface = Interface::new(Arc::new(Sink::default())).address("10.0.0.2/24");
        let stack = Stack::builder().interface(interface).build()?;
        let socket = UdpSocket::bind_on(&stack, "0.0.0.0:0").await?;
        let bytes = [0x5a; DATAGRAM];
        for n in 0..WARM_UP + TIMES {
            ready(n >= WARM_UP, socket.send_to(&bytes, peer))?;
            // A poll outside of a task has no budget of its own.
            tokio::task::yield_now().await;
        }
        Ok(())
    })?
}

/// Two stacks on one runtime, joined in memory.
fn stacks() -> io::Result<[Stack; 2]> {
    let (a, b) = Pair::new(PairConfig::default());
    let stack = |end: Pair, address| {
        Stack::builder().interface(Interface::new(Arc::new(end)).address(address)).build()
    };
    Ok([stack(a, "10.0.0.1/24")?, stack(b, "10.0.0.2/24")?])
}

/// A datagram from one stack to another one, from the call of `send_to` to the end of `recv_from`, with everything
/// that the runtime and both reactors do.
pub(super) fn datagram_through() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (_stacks, sender, receiver, to) = runtime.block_on(async {
        let stacks = stacks()?;
        let sender = UdpSocket::bind_on(&stacks[0], "10.0.0.1:0").await?;
        let receiver = UdpSocket::bind_on(&stacks[1], "10.0.0.2:9").await?;
        let to = receiver.local_addr()?;
        io::Result::Ok((stacks, sender, receiver, to))
    })?;
    let bytes = [0x5a; DATAGRAM];
    let mut into = [0; 2 * DATAGRAM];
    super::repeat(|counts| {
        let mut result = Ok(());
        super::run(counts, || {
            result = runtime.block_on(async {
                sender.send_to(&bytes, to).await?;
                receiver.recv_from(&mut into).await.map(drop)
            });
        });
        result
    })
}

/// A round trip of one byte between a client and a server, both ends with everything that the runtime and both
/// reactors do.
pub(super) fn round_trip() -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (_stacks, mut client, mut server) = runtime.block_on(async {
        let stacks = stacks()?;
        let listener = TcpListener::bind_on(&stacks[1], "10.0.0.2:80").await?;
        let to = listener.local_addr()?;
        let (client, accepted) = tokio::try_join!(TcpStream::connect_on(&stacks[0], to), listener.accept())?;
        io::Result::Ok((stacks, client, accepted.0))
    })?;
    let mut trip = || {
        runtime.block_on(async {
            let mut byte = [7];
            client.write_all(&byte).await?;
            server.read_exact(&mut byte).await?;
            server.write_all(&byte).await?;
            client.read_exact(&mut byte).await.map(drop)
        })
    };
    super::repeat(|counts| {
        let mut result = Ok(());
        super::run(counts, || result = trip());
        result
    })
}
