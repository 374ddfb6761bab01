//! The sockets that block, as those of `std::net`.

#![expect(clippy::disallowed_methods, reason = "time-outs of calls that block are real time")]
#![cfg(feature = "net")]

use netstack::blocking::{TcpListener, TcpStream, UdpSocket};
use netstack::net::Resolver;
use netstack::{Driver, Stack};
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::thread;
use std::time::{Duration, Instant};

/// How long what should block is watched.
const SHORT: Duration = Duration::from_millis(20);

fn stack() -> Stack {
    let names = Resolver::fixed([("server.test", "127.0.0.1".parse().unwrap())]);
    Stack::builder().driver(Driver::Thread).resolver(names).build().unwrap()
}

fn pair(stack: &Stack) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind_on(stack, "127.0.0.1:0").unwrap();
    let client = TcpStream::connect_on(stack, listener.local_addr().unwrap()).unwrap();
    let (server, peer) = listener.accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    (client, server)
}

#[test]
fn threads_talk_as_with_std() {
    let stack = stack();
    let _entered = stack.enter();
    let listener = TcpListener::bind("server.test:80").unwrap();
    let server = thread::spawn(move || {
        for stream in listener.incoming().take(3) {
            let mut stream = stream.unwrap();
            let mut said = String::new();
            stream.read_to_string(&mut said).unwrap();
            stream.write_all(said.to_uppercase().as_bytes()).unwrap();
        }
    });
    for word in ["one", "two", "three"] {
        let mut stream = TcpStream::connect(("server.test", 80)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), "127.0.0.1:80".parse().unwrap());
        (&stream).write_all(word.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, word.to_uppercase());
    }
    server.join().unwrap();
    assert_eq!(TcpStream::connect("127.0.0.1:81").unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(TcpStream::connect("unknown.test:80").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn without_a_stack_there_is_an_error() {
    for error in [
        TcpStream::connect("127.0.0.1:1").unwrap_err(),
        TcpListener::bind("127.0.0.1:1").unwrap_err(),
        UdpSocket::bind("127.0.0.1:1").unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn time_outs_are_those_of_all_clones() {
    let stack = stack();
    let (client, server) = pair(&stack);
    let mut other = client.try_clone().unwrap();
    client.set_read_timeout(Some(SHORT)).unwrap();
    assert_eq!(other.read_timeout().unwrap(), Some(SHORT));
    let begin = Instant::now();
    assert_eq!(other.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(begin.elapsed() >= SHORT);
    for error in
        [client.set_read_timeout(Some(Duration::ZERO)), client.set_write_timeout(Some(Duration::ZERO))]
    {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    // Without one it waits for ever, which here is until the peer writes.
    client.set_read_timeout(None).unwrap();
    let reader = thread::spawn(move || other.read(&mut [0; 10]).unwrap());
    thread::park_timeout(SHORT);
    assert!(!reader.is_finished());
    (&server).write_all(b"abc").unwrap();
    assert_eq!(reader.join().unwrap(), 3);
    // A clone that goes does not close the stream.
    (&server).write_all(b"d").unwrap();
    let mut buf = [0; 4];
    assert_eq!(client.peek(&mut buf).unwrap(), 1);
    assert_eq!((&client).read(&mut buf).unwrap(), 1);
    drop(server);
    assert_eq!((&client).read(&mut buf).unwrap(), 0);
}

#[test]
fn a_write_blocks_until_all_is_written() {
    let stack = stack();
    let (client, server) = pair(&stack);
    client.set_write_timeout(Some(SHORT)).unwrap();
    // Nobody reads: what fits counts.
    let large = vec![1; 64 << 20];
    let written = (&client).write(&large).unwrap();
    assert!(0 < written && written < large.len(), "{written}");
    assert_eq!((&client).write(&large).unwrap_err().kind(), ErrorKind::WouldBlock);
    client.set_write_timeout(None).unwrap();
    let reader = thread::spawn(move || {
        let (mut buf, mut read) = (vec![0; 1 << 20], 0);
        loop {
            match (&server).read(&mut buf).unwrap() {
                0 => return read,
                n => read += n,
            }
        }
    });
    let more = vec![2; 16 << 20];
    assert_eq!((&client).write(&more).unwrap(), more.len());
    let pieces = [IoSlice::new(b"ab"), IoSlice::new(b"cd")];
    assert_eq!((&client).write_vectored(&pieces).unwrap(), 4);
    drop(client);
    assert_eq!(reader.join().unwrap(), written + more.len() + 4);
}

#[test]
fn nonblocking_sockets_do_not_block() {
    let stack = stack();
    let listener = TcpListener::bind_on(&stack, "127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let client = TcpStream::connect_on(&stack, listener.local_addr().unwrap()).unwrap();
    let (server, _) = loop {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
            accepted => break accepted.unwrap(),
        }
    };
    client.set_nonblocking(true).unwrap();
    assert_eq!((&client).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    // What was accepted blocks.
    server.set_read_timeout(Some(SHORT)).unwrap();
    let begin = Instant::now();
    assert_eq!((&server).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(begin.elapsed() >= SHORT);
}

#[test]
fn a_connection_has_a_limit_and_an_inside() {
    let stack = stack();
    let _entered = stack.enter();
    let down = netstack::device::LinkConfig { down: true, ..Default::default() };
    let (device, _peer) = netstack::device::Link::pair(down.clone(), down);
    let interface = netstack::Interface::new(std::sync::Arc::new(device)).name("down").address("10.0.0.1/24");
    stack.add_interface(interface).unwrap();
    let begin = Instant::now();
    let addr = "10.0.0.2:80".parse().unwrap();
    assert_eq!(TcpStream::connect_timeout(&addr, SHORT).unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(begin.elapsed() >= SHORT);
    assert_eq!(
        TcpStream::connect_timeout(&addr, Duration::ZERO).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    let (client, _server) = pair(&stack);
    client.set_nodelay(true).unwrap();
    assert!(client.get_ref().nodelay().unwrap());
    let clone = client.try_clone().unwrap();
    let client = client.try_into_inner().unwrap_err();
    drop(clone);
    assert!(client.try_into_inner().is_ok());
}

/// A budget of tokio does not run out in here.
#[test]
fn blocking_inside_of_a_task_goes_on() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let stack = stack();
    runtime.block_on(async {
        for _ in 0..2 {
            let (client, server) = pair(&stack);
            for _ in 0..300 {
                (&client).write_all(&[1]).unwrap();
                (&server).read_exact(&mut [0]).unwrap();
            }
        }
    });
}

#[test]
fn datagrams() {
    let stack = stack();
    let server = UdpSocket::bind_on(&stack, "127.0.0.1:0").unwrap();
    let client = UdpSocket::bind_on(&stack, "127.0.0.1:0").unwrap();
    let (server_addr, client_addr) = (server.local_addr().unwrap(), client.local_addr().unwrap());
    let echo = thread::spawn(move || {
        let mut buf = [0; 100];
        let (len, peer) = server.recv_from(&mut buf).unwrap();
        server.send_to(&buf[..len], peer).unwrap();
        server
    });
    client.send_to(b"hello", ("server.test", server_addr.port())).unwrap();
    let mut buf = [0; 100];
    assert_eq!(client.peek_from(&mut buf).unwrap(), (5, server_addr));
    assert_eq!(client.recv_from(&mut buf).unwrap(), (5, server_addr));
    let server = echo.join().unwrap();
    client.connect(server_addr).unwrap();
    server.connect(client_addr).unwrap();
    client.send(b"x").unwrap();
    let clone = server.try_clone().unwrap();
    assert_eq!((clone.peek(&mut buf).unwrap(), clone.recv(&mut buf).unwrap()), (1, 1));
    server.set_read_timeout(Some(SHORT)).unwrap();
    assert_eq!(clone.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.set_nonblocking(true).unwrap();
    server.set_read_timeout(None).unwrap();
    assert_eq!(clone.recv(&mut buf).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(client.send(&vec![0; 70_000]).unwrap_err().raw_os_error(), Some(90), "EMSGSIZE");
    client.set_broadcast(true).unwrap();
    client.set_ttl(3).unwrap();
    assert!(client.broadcast().unwrap() && client.get_ref().ttl().unwrap() == 3);
}
