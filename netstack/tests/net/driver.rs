//! How drivers run, and how stacks end.

use crate::common::{connect, join, linked, spawn_waiting, stack};
use netstack::net::tcp::TcpKeepalive;
use netstack::net::{TcpListener, TcpStream};
use netstack::{Config, Driver, SockRef, Stack};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, is_rt_shutdown_err};
use tokio::sync::oneshot;

#[test]
fn the_end_of_the_runtime_fails_its_sockets_elsewhere() {
    for runtime in [
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
    ] {
        let (stack, listener, client, server) = runtime.block_on(async {
            let stack = stack();
            let listener = stack.listen("127.0.0.1:0").await.unwrap();
            let (client, server) = join(&stack, &listener).await;
            (stack, listener, client, server)
        });
        let other = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        // The assumption of an accepted stream.
        let _ = server.try_read(&mut [0; 1]);
        let (accepting, is_accepting) =
            spawn_waiting(other.handle(), async move { listener.accept().await.map(drop) });
        let (reading, is_reading) = spawn_waiting(other.handle(), async move { server.readable().await });
        is_accepting.blocking_recv().unwrap();
        is_reading.blocking_recv().unwrap();
        drop(runtime);
        other.block_on(async {
            for outcome in [accepting.await.unwrap(), reading.await.unwrap(), client.writable().await] {
                assert!(is_rt_shutdown_err(&outcome.unwrap_err()));
            }
            assert!(is_rt_shutdown_err(&client.try_write(b"x").unwrap_err()));
            for error in [
                TcpListener::bind_on(&stack, "127.0.0.1:0").await.unwrap_err(),
                TcpStream::connect_on(&stack, "127.0.0.1:1").await.unwrap_err(),
                stack.tcp_socket_v4().unwrap_err(),
            ] {
                assert!(is_rt_shutdown_err(&error), "{error}");
            }
        });
        drop(client);
    }
}

#[test]
fn the_end_of_the_runtime_delivers_to_a_stack_that_goes_on() {
    use netstack::Interface;
    use netstack::device::{Pair, PairConfig};
    use std::sync::Arc;

    let (near, far) = Pair::new(PairConfig::default());
    let far = Interface::new(Arc::new(far)).address("10.0.0.2/24");
    let far = Stack::builder().driver(Driver::Thread).interface(far).build().unwrap();
    let reading = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = reading.block_on(far.listen("10.0.0.2:80")).unwrap();
    let (running, ended) = oneshot::channel::<()>();
    let reader = reading.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // The writer's runtime drops its tasks before anything is read.
        ended.await.unwrap_err();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.map(|_| all)
    });
    let data: Vec<u8> = (0..4_000_000u32).map(|i| (i / 3) as u8).collect();
    // The cable stays when the stack at this end is gone.
    let near = Arc::new(near);
    let written = until_the_buffer_is_full(&data, Arc::clone(&near), running);
    let read = reading.block_on(reader).unwrap().unwrap();
    assert_eq!(read.len(), written);
    assert!(read == data[..written]);

    fn until_the_buffer_is_full(data: &[u8], near: Arc<Pair>, running: oneshot::Sender<()>) -> usize {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let near = Interface::new(near).address("10.0.0.1/24");
            let config = Config::default().with(|config| config.exit_drain = Duration::from_secs(20));
            let stack = Stack::builder().config(config).interface(near).build().unwrap();
            let stream = stack.connect("10.0.0.2:80").await.unwrap();
            tokio::spawn(async move {
                let _running = running;
                std::future::pending::<()>().await;
            });
            let mut written = 0;
            loop {
                match stream.try_write(&data[written..]) {
                    Ok(n) => written += n,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::WouldBlock);
                        assert!((1..data.len()).contains(&written), "{written}");
                        return written;
                    }
                }
            }
        })
    }
}

#[test]
fn a_thread_drives_a_stack_for_any_runtime_and_for_none() {
    let stack = Stack::builder().driver(Driver::Thread).name("thread").build().unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (client, server) = runtime.block_on(connect(&stack));
    drop(runtime);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (mut client, mut server) = (client, server);
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
    });
}

#[test]
fn the_end_of_the_runtime_resets_what_was_not_read() {
    use netstack::Interface;
    use netstack::device::{Pair, PairConfig};
    use std::sync::Arc;

    let (near, far) = Pair::new(PairConfig::default());
    let far = Interface::new(Arc::new(far)).address("10.0.0.2/24");
    let far = Stack::builder().driver(Driver::Thread).interface(far).build().unwrap();
    let other = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = other.block_on(far.listen("10.0.0.2:80")).unwrap();
    // The cable stays when the stack at this end is gone.
    let near = Arc::new(near);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (stream, mut peer) = runtime.block_on(async {
        let near = Interface::new(Arc::clone(&near) as _).address("10.0.0.1/24");
        let stack = Stack::builder().interface(near).build().unwrap();
        let mut stream = stack.connect("10.0.0.2:80").await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        peer.write_all(b"never read").await.unwrap();
        stream.readable().await.unwrap();
        stream.write_all(b"accepted").await.unwrap();
        (stream, peer)
    });
    drop(runtime);
    let mut got = Vec::new();
    let error = other.block_on(peer.read_to_end(&mut got)).unwrap_err();
    assert_eq!((error.kind(), &got[..]), (ErrorKind::ConnectionReset, &b"accepted"[..]));
    let mut left = [0; 16];
    assert_eq!(stream.try_read(&mut left).unwrap(), 10, "what is there can still be read");
    drop(near);
}

#[test]
fn data_that_is_there_can_be_read_after_the_runtime_ended() {
    for runtime in [
        Builder::new_current_thread().enable_all().build().unwrap(),
        Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap(),
    ] {
        let (client, server) = runtime.block_on(async {
            let (client, server) = connect(&stack()).await;
            client.try_write(b"left behind").unwrap();
            server.readable().await.unwrap();
            while server.tcp_info().unwrap().bytes_received < 11 {
                tokio::task::yield_now().await;
            }
            (client, server)
        });
        drop(runtime);
        let mut buf = [0; 6];
        assert_eq!(server.try_read(&mut buf).unwrap(), 6);
        assert_eq!(&buf, b"left b");
        let mut rest = Vec::with_capacity(16);
        assert_eq!(server.try_read_buf(&mut rest).unwrap(), 5);
        assert_eq!(rest, b"ehind");
        assert!(is_rt_shutdown_err(&server.try_read(&mut buf).unwrap_err()), "no end of the stream");
        assert!(is_rt_shutdown_err(&server.try_read(&mut buf).unwrap_err()));
        drop(client);
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_acknowledgment_leaves_a_link_before_shutdown_returns() {
    for client_first in [true, false] {
        let (server, client) = linked("delay=5ms");
        let listener = server.listen("10.0.0.1:7").await.unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await
        });
        let mut stream = client.connect("10.0.0.1:7").await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut echoed = String::new();
        stream.read_to_string(&mut echoed).await.unwrap();
        let begin = tokio::time::Instant::now();
        let limit = Duration::from_secs(10);
        if client_first {
            client.shutdown(limit).await;
            server.shutdown(limit).await;
        } else {
            tokio::join!(client.shutdown(limit), server.shutdown(limit));
        }
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(30), "{client_first}: {took:?}");
        assert_eq!((client.connections(), server.connections()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_closes_sockets_in_the_order_of_their_making() {
    use netstack::Interface;
    use netstack::device::{Link, LinkConfig, PcapTap, SnapLen};
    use std::sync::Arc;

    const CLIENTS: usize = 24;
    let config: LinkConfig = "delay=1ms".parse().unwrap();
    let (near, far) = Link::pair(config.clone(), config);
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    struct Shared(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Shared {
        fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(buf);
            Ok(buf.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let tap = PcapTap::new(Arc::new(near), Shared(Arc::clone(&seen)), SnapLen::default()).unwrap();
    let near = Interface::new(Arc::new(tap)).address("10.0.0.1/24");
    let far = Interface::new(Arc::new(far)).address("10.0.0.2/24");
    let left = Stack::builder().interface(near).build().unwrap();
    let right = Stack::builder().interface(far).build().unwrap();
    let listener = right.listen("10.0.0.2:80").await.unwrap();
    let (mut clients, mut servers) = (Vec::new(), Vec::new());
    for _ in 0..CLIENTS {
        let (client, server) = tokio::join!(left.connect("10.0.0.2:80"), listener.accept());
        clients.push(client.unwrap());
        servers.push(server.unwrap().0);
    }
    let ports: Vec<u16> = clients.iter().map(|client| client.local_addr().unwrap().port()).collect();
    left.shutdown(Duration::from_millis(50)).await;
    // The tap writes what it has.
    drop((clients, left));
    let capture = seen.lock().unwrap().clone();
    assert_eq!(fins_from(&capture, &ports), ports);
}

/// The ports of `ports` in the order in which their FINs are in `capture`, each once: TCP from 10.0.0.1
/// to 10.0.0.2, found by the bytes of the IPv4 header.
fn fins_from(capture: &[u8], ports: &[u16]) -> Vec<u16> {
    let addresses = [10, 0, 0, 1, 10, 0, 0, 2];
    let mut found = Vec::new();
    for at in 12..capture.len().saturating_sub(8 + 20) {
        let header = &capture[at - 12..];
        if header[0] != 0x45 || header[9] != 6 || header[12..20] != addresses {
            continue;
        }
        let port = u16::from_be_bytes([header[20], header[21]]);
        if header[33] & 1 != 0 && ports.contains(&port) && !found.contains(&port) {
            found.push(port);
        }
    }
    found
}

#[tokio::test]
async fn shutdown_says_so_and_frees_the_devices() {
    use netstack::Interface;
    use netstack::device::{Pair, PairConfig};
    use std::sync::Arc;
    for driver in [Driver::Tokio, Driver::Thread] {
        let (near, _far) = Pair::new(PairConfig::default());
        let near = Arc::new(near);
        let interface = Interface::new(Arc::clone(&near) as _).address("10.0.0.1/24");
        let stack = Stack::builder().driver(driver).interface(interface).build().unwrap();
        let (client, server) = connect(&stack).await;
        stack.shutdown(Duration::from_secs(10)).await;
        for error in [
            client.readable().await.unwrap_err(),
            server.try_write(b"x").unwrap_err(),
            stack.listen("127.0.0.1:0").await.unwrap_err(),
        ] {
            assert!(error.to_string().contains("shut down"), "{error}");
            assert!(!error.to_string().contains("Tokio"), "{error}");
        }
        drop((client, server, stack));
        assert_eq!(Arc::strong_count(&near), 1, "nothing of the driver is left: {driver:?}");
    }
}

#[tokio::test]
async fn shutdown_closes_in_order() {
    let (left, right) = {
        use netstack::Interface;
        use netstack::device::{Pair, PairConfig};
        let (a, b) = Pair::new(PairConfig::default());
        let build = |device, address| {
            let interface = Interface::new(std::sync::Arc::new(device)).address(address);
            Stack::builder().interface(interface).build().unwrap()
        };
        (build(a, "10.0.0.1/24"), build(b, "10.0.0.2/24"))
    };
    let listener = left.listen("10.0.0.1:80").await.unwrap();
    let (client, server) = tokio::join!(right.connect("10.0.0.1:80"), listener.accept());
    let (mut client, (server, _)) = (client.unwrap(), server.unwrap());
    server.try_write(b"last words").unwrap();
    // A task that holds its stream does not keep it open.
    let _ = server.try_read(&mut [0; 1]);
    let pending = tokio::spawn(async move { server.readable().await });
    let reader = tokio::spawn(async move {
        let mut text = String::new();
        client.read_to_string(&mut text).await.map(|_| text)
    });
    left.shutdown(Duration::from_secs(10)).await;
    assert_eq!(reader.await.unwrap().unwrap(), "last words", "and then the end, not a reset");
    assert_eq!(left.connections(), 0);
    assert!(was_shut_down(&pending.await.unwrap().unwrap_err()));
    assert!(was_shut_down(&left.listen("10.0.0.1:81").await.unwrap_err()));
    assert!(was_shut_down(&listener.accept().await.unwrap_err()));
    left.shutdown(Duration::from_secs(10)).await;
}

fn was_shut_down(error: &std::io::Error) -> bool {
    error.to_string() == "the network stack was shut down"
}

#[tokio::test(start_paused = true)]
async fn a_stack_without_owners_ends() {
    let (left, right) = linked("delay=10ms");
    let listener = left.listen("10.0.0.1:80").await.unwrap();
    let (client, server) = tokio::join!(right.connect("10.0.0.1:80"), listener.accept());
    let (client, server) = (client.unwrap(), server.unwrap().0);
    client.try_write(&[7; 10_000]).unwrap();
    drop((client, right));
    let mut server = server;
    let mut all = Vec::new();
    server.read_to_end(&mut all).await.unwrap();
    assert_eq!(all.len(), 10_000, "delivered after the last handle was gone");
    drop((server, listener, left));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stack_lives_while_a_socket_does() {
    let stack = stack();
    let (mut client, mut server) = connect(&stack).await;
    drop(stack);
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        client.write_all(b"x").await.unwrap();
        assert_eq!(server.read_u8().await.unwrap(), b'x');
    }
}

#[test]
fn an_idle_stack_does_nothing() {
    let connection = async |keepalive: bool| {
        let stack = stack();
        let (client, server) = connect(&stack).await;
        let _ = (server.try_read(&mut [0; 1]), client.try_read(&mut [0; 1]));
        if keepalive {
            let often = TcpKeepalive::new().with_time(Duration::from_secs(600));
            SockRef::from(&client).set_tcp_keepalive(&often).unwrap();
        }
        // By then they are at rest.
        tokio::time::sleep(Duration::from_secs(10)).await;
        (stack, client, server)
    };
    // tokio's own timer wakes the runtime now and then on the way to a far deadline.
    let nothing = wakeups_in_an_hour(async || ());
    assert_eq!(wakeups_in_an_hour(async || connection(false).await), nothing, "woken for nothing");
    let probes = wakeups_in_an_hour(async || connection(true).await);
    assert!(probes >= nothing + 5, "the probes of an hour are seen: {probes}");
}

/// Times that a runtime wakes up in an hour of virtual time that it has nothing to do in, beside what
/// there is after `begin`.
fn wakeups_in_an_hour<T>(begin: impl AsyncFnOnce() -> T) -> u64 {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let _kept = begin().await;
        // Delayed acknowledgments and the like.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let metrics = tokio::runtime::Handle::current().metrics();
        let before = metrics.worker_park_count(0);
        tokio::time::sleep(Duration::from_secs(3600)).await;
        metrics.worker_park_count(0) - before
    })
}
