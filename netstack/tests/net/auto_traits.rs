//! What can be sent, shared, moved and unwound through.

use netstack::net::tcp::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};
use netstack::net::udp::{RecvMeta, Transmit, UnboundUdpSocket};
use netstack::net::{PingSocket, RawSocket, TcpListener, TcpSocket, TcpStream, UdpSocket, lookup_host};
use netstack::{Stack, StackBuilder};
use std::panic::{RefUnwindSafe, UnwindSafe};
use tokio::io::{Interest, ReadBuf};

fn type_is<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
fn value_is<T: Send + Sync>(_: T) {}

#[test]
fn types() {
    type_is::<TcpListener>();
    type_is::<TcpStream>();
    type_is::<TcpSocket>();
    type_is::<ReadHalf<'_>>();
    type_is::<WriteHalf<'_>>();
    type_is::<OwnedReadHalf>();
    type_is::<OwnedWriteHalf>();
    type_is::<ReuniteError>();
    type_is::<UdpSocket>();
    type_is::<PingSocket>();
    type_is::<RawSocket>();
    type_is::<Stack>();
    fn is_send<T: Send + 'static>() {}
    is_send::<StackBuilder>();
    is_send::<netstack::net::BindGuard>();
}

/// Never called: that it compiles is the test.
#[expect(dead_code, reason = "only its types are checked")]
fn futures_of_datagrams(
    stack: &Stack,
    socket: &UdpSocket,
    unbound: UnboundUdpSocket,
    transmit: &Transmit<'_>,
) {
    let addr: std::net::SocketAddr = "127.0.0.1:80".parse().unwrap();
    value_is(unbound);
    value_is(UdpSocket::bind("x"));
    value_is(UdpSocket::bind(addr));
    value_is(UdpSocket::bind_on(stack, addr));
    value_is(stack.udp_socket(addr));
    value_is(socket.connect(String::new()));
    value_is(socket.ready(Interest::READABLE));
    value_is(socket.readable());
    value_is(socket.writable());
    value_is(socket.send(&[]));
    value_is(socket.send_to(&[], addr));
    value_is(socket.recv(&mut []));
    value_is(socket.recv_from(&mut []));
    value_is(socket.recv_buf(&mut Vec::new()));
    value_is(socket.recv_buf_from(&mut Vec::new()));
    value_is(socket.peek(&mut []));
    value_is(socket.peek_from(&mut []));
    value_is(socket.peek_sender());
    value_is(socket.recv_msg(&mut [], &mut [RecvMeta::default()]));
    value_is(socket.send_msg(transmit));
    value_is(socket.async_io(Interest::READABLE, || Ok(())));
}

/// Never called: that it compiles is the test.
#[expect(dead_code, reason = "only its types are checked")]
fn futures(
    stack: &Stack,
    listener: &TcpListener,
    stream: &TcpStream,
    socket: TcpSocket,
    mut read: OwnedReadHalf,
    write: &OwnedWriteHalf,
) {
    let addr: std::net::SocketAddr = "127.0.0.1:80".parse().unwrap();
    value_is(TcpListener::bind("x"));
    value_is(TcpListener::bind(addr));
    value_is(TcpListener::bind_on(stack, addr));
    value_is(listener.accept());
    value_is(TcpStream::connect(String::new()));
    value_is(TcpStream::connect_on(stack, addr));
    value_is(stack.connect(addr));
    value_is(stack.listen(addr));
    value_is(stack.shutdown(std::time::Duration::ZERO));
    value_is(stack.drain(std::time::Duration::ZERO));
    value_is(stack.lookup_host(addr));
    value_is(lookup_host(addr));
    value_is(socket.connect(addr));
    value_is(stream.ready(Interest::READABLE));
    value_is(stream.readable());
    value_is(stream.writable());
    value_is(stream.peek(&mut []));
    value_is(stream.async_io(Interest::READABLE, || Ok(())));
    value_is(read.peek(&mut []));
    value_is(read.readable());
    value_is(write.writable());
    value_is(ReadBuf::new(&mut []));
}

#[tokio::test(flavor = "multi_thread")]
async fn connecting_and_accepting_in_spawned_tasks() {
    let stack = Stack::builder().build().unwrap();
    let _bound = stack.bind_runtime(&tokio::runtime::Handle::current()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let client = tokio::spawn(async move { TcpStream::connect(addr).await });
    let server = tokio::spawn(async move { listener.accept().await });
    assert_eq!(client.await.unwrap().unwrap().local_addr().unwrap(), server.await.unwrap().unwrap().1);
}

/// Shapes in which libraries pass an address on. They compile with tokio's sockets, which ask `Send` of
/// the address and not `Sync`.
mod addresses_that_are_send {
    use netstack::Stack;
    use netstack::net::{PendingListener, TcpListener, TcpStream, ToSocketAddrs, lookup_host};
    use std::future::Future;
    use std::io;
    use std::pin::Pin;

    /// A method of a trait whose future must be `Send`.
    pub(super) trait Dial {
        fn dial<A: ToSocketAddrs + Send>(addr: A) -> impl Future<Output = io::Result<TcpStream>> + Send;
    }

    impl Dial for TcpStream {
        async fn dial<A: ToSocketAddrs + Send>(addr: A) -> io::Result<Self> {
            Self::connect(addr).await
        }
    }

    /// What `async_trait` makes of a method.
    pub(super) fn boxed<'a, A: ToSocketAddrs + Send + 'a>(
        addr: A,
    ) -> Pin<Box<dyn Future<Output = io::Result<TcpListener>> + Send + 'a>> {
        Box::pin(async move { TcpListener::bind(addr).await })
    }

    /// A task.
    pub(super) fn spawned<A: ToSocketAddrs + Send + 'static>(
        stack: Stack,
        addr: A,
    ) -> tokio::task::JoinHandle<io::Result<TcpStream>> {
        tokio::spawn(async move { stack.connect(addr).await })
    }

    /// A function that does more than one thing.
    #[expect(clippy::manual_async_fn, reason = "an async fn does not promise Send")]
    pub(super) fn first_of<A: ToSocketAddrs + Send>(
        stack: &Stack,
        addr: A,
    ) -> impl Future<Output = io::Result<TcpStream>> + Send {
        async move {
            let found = stack.lookup_host(addr).await?.next().ok_or(io::ErrorKind::NotFound)?;
            stack.connect(found).await
        }
    }

    /// Every other constructor that takes an address.
    pub(super) fn others<A: ToSocketAddrs + Send + Copy>(stack: &Stack, addr: A) {
        super::future_is_send(lookup_host(addr));
        super::future_is_send(stack.listen(addr));
        super::future_is_send(TcpListener::bind_on(stack, addr));
        super::future_is_send(TcpStream::connect_on(stack, addr));
        super::future_is_send(TcpStream::connect_with_data(addr, b""));
        super::future_is_send(TcpStream::connect_with_data_on(stack, addr, b""));
        super::future_is_send(PendingListener::bind(addr));
        super::future_is_send(PendingListener::bind_on(stack, addr));
    }
}

fn future_is_send<T: Send>(_: T) {}

#[tokio::test(flavor = "multi_thread")]
async fn futures_are_send_if_the_address_is() {
    use addresses_that_are_send::{Dial, boxed, first_of, others, spawned};
    let stack = Stack::builder().build().unwrap();
    let _bound = stack.bind_runtime(&tokio::runtime::Handle::current()).unwrap();
    let listener = boxed("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    others(&stack, addr);
    let dialled = TcpStream::dial(addr).await.unwrap();
    let spawned = spawned(stack.clone(), addr.to_string()).await.unwrap().unwrap();
    let first = first_of(&stack, ("127.0.0.1", addr.port())).await.unwrap();
    for client in [dialled, spawned, first] {
        assert_eq!(listener.accept().await.unwrap().1, client.local_addr().unwrap());
    }
}
