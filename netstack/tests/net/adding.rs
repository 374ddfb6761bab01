//! Interfaces that are added to a running stack and removed from it, in virtual time and out of it.

use netstack::device::{Pair, PairConfig};
use netstack::net::tcp::TcpListener;
use netstack::net::{NetworkEvent, TcpForwarderConfig, UdpForwarderConfig};
use netstack::{Driver, Interface, Stack};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

const ENODEV: Option<i32> = Some(libc::ENODEV);

/// A host with the address 10.`n`.0.2, and what is to be added to another stack to reach it as 10.`n`.0.1.
fn host(n: u8) -> (Stack, Interface) {
    let (near, far) = Pair::new(PairConfig::default());
    let far =
        Interface::new(Arc::new(far)).address(&format!("10.{n}.0.2/24")).gateway(&format!("10.{n}.0.1"));
    let host = Stack::builder().interface(far).build().unwrap();
    (host, interface(n, Arc::new(near)))
}

fn interface(n: u8, device: Arc<Pair>) -> Interface {
    Interface::new(device).name(format!("vm{n}")).address(&format!("10.{n}.0.1/24"))
}

async fn echo(listener: &TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept().await?;
    let (mut read, mut write) = stream.split();
    tokio::io::copy(&mut read, &mut write).await.map(drop)
}

/// Asks for one byte.
async fn ask(stack: &Stack, to: &str) -> io::Result<u8> {
    let mut stream = stack.connect(to).await?;
    stream.write_all(b"x").await?;
    stream.read_u8().await
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[tokio::test(start_paused = true)]
async fn an_interface_that_is_added_is_one_like_the_others() {
    let stack = Stack::builder().build().unwrap();
    let mut monitor = stack.monitor();
    // A listener at all addresses, and one at an address that the stack will have later.
    let everywhere = stack.listen("0.0.0.0:7").await.unwrap();
    let mut hosts = Vec::new();
    for n in 1..=20 {
        let (host, interface) = host(n);
        let handle = stack.add_interface(interface).unwrap();
        assert_eq!((handle.name(), handle.info().up), (format!("vm{n}").as_str(), true));
        assert_eq!(monitor.next().await, NetworkEvent::InterfaceAdded { interface: format!("vm{n}") });
        hosts.push((host, handle));
    }
    for (n, (host, _)) in (1..).zip(&hosts) {
        let to = format!("10.{n}.0.1:7");
        let (answer, served) =
            tokio::join!(ask(host, &to), timeout(Duration::from_secs(1), echo(&everywhere)));
        assert_eq!(answer.unwrap(), b'x');
        let _ = served;
        // And the other way.
        let listener = host.listen("0.0.0.0:80").await.unwrap();
        let to = format!("10.{n}.0.2:80");
        let (answer, _) = tokio::join!(ask(&stack, &to), echo(&listener));
        assert_eq!(answer.unwrap(), b'x');
        let socket = stack.udp_socket("0.0.0.0:0").await.unwrap();
        let far = host.udp_socket("0.0.0.0:9").await.unwrap();
        socket.send_to(b"datagram", format!("10.{n}.0.2:9")).await.unwrap();
        assert_eq!(far.recv(&mut [0; 20]).await.unwrap(), 8);
    }
    assert_eq!(stack.interfaces().len(), 21);
    assert_eq!(stack.routes().len(), 20 + 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_added_changes_nothing() {
    let stack = Stack::builder().build().unwrap();
    let first = stack.add_interface(host(1).1).unwrap();
    let device = || Arc::new(Pair::new(PairConfig::default()).0);
    let add = |interface: Interface| stack.add_interface(interface).unwrap_err();
    assert_eq!(add(interface(1, device())).raw_os_error(), Some(libc::EEXIST), "the name");
    assert_eq!(add(interface(1, device()).name("other")).raw_os_error(), Some(libc::EEXIST), "the address");
    assert_eq!(add(interface(2, device()).name("lo")).raw_os_error(), Some(libc::EEXIST));
    let twice = interface(2, device()).address("10.2.0.1/24");
    assert_eq!(add(twice).raw_os_error(), Some(libc::EEXIST));
    for wrong in [
        interface(2, device()).address("224.0.0.1/4"),
        interface(2, device()).address("10.2.0.300/24"),
        interface(2, device()).gateway("nowhere"),
    ] {
        assert_eq!(add(wrong).kind(), ErrorKind::InvalidInput);
    }
    let (tiny, _far) = Pair::new(PairConfig { mtu: 1000, ..PairConfig::default() });
    assert_eq!(add(interface(2, Arc::new(tiny)).address("fd00::1/64")).kind(), ErrorKind::InvalidInput);
    assert_eq!(stack.interfaces().len(), 2);
    first.remove().unwrap();
    assert_eq!(errno(first.remove()), ENODEV);
    assert_eq!(errno(stack.interface("lo").unwrap().remove()), Some(libc::EOPNOTSUPP));
    stack.shutdown(Duration::ZERO).await;
    assert!(stack.add_interface(host(3).1).is_err());
}

#[tokio::test(start_paused = true)]
async fn the_sockets_of_an_interface_that_is_removed_learn_it_and_others_do_not() {
    let stack = Stack::builder().build().unwrap();
    let ((one, first), (two, second)) = (host(1), host(2));
    let first = stack.add_interface(first).unwrap();
    let _second = stack.add_interface(second).unwrap();
    let mut monitor = stack.monitor();
    let everywhere = stack.listen("0.0.0.0:7").await.unwrap();
    let at_address = stack.listen("10.1.0.1:8").await.unwrap();
    let socket = stack.tcp_socket_v4().unwrap();
    socket.bind_device(Some(b"vm1")).unwrap();
    socket.bind("0.0.0.0:9".parse().unwrap()).unwrap();
    let at_device = socket.listen(8).unwrap();
    let not_connected = stack.tcp_socket_v4().unwrap();
    not_connected.bind_device(Some(b"vm1")).unwrap();
    let mut connections = Vec::new();
    for (host, n) in [(&one, 1), (&two, 2)] {
        let (client, accepted) = tokio::join!(host.connect(format!("10.{n}.0.1:7")), everywhere.accept());
        connections.push((client.unwrap(), accepted.unwrap().0));
    }
    let mut waiting = stack.udp_socket("0.0.0.0:10").await.unwrap();
    waiting.bind_device(Some(b"vm1")).unwrap();
    let (plain, connected) =
        (stack.udp_socket("0.0.0.0:11").await.unwrap(), stack.udp_socket("0.0.0.0:12").await.unwrap());
    connected.connect("10.1.0.2:1").await.unwrap();
    let flows = stack.udp_forwarder(UdpForwarderConfig::default().interface("vm1")).unwrap();
    let syns = stack.tcp_forwarder(TcpForwarderConfig::default().interface("vm1")).unwrap();

    let mut buf = [0; 9];
    let removal = async {
        sleep(Duration::from_secs(1)).await;
        first.remove().unwrap();
    };
    // Whoever waits on it is woken.
    let (of_one, udp, flow, syn, listener, ()) = tokio::join!(
        connections[0].1.readable(),
        waiting.recv(&mut buf),
        flows.accept(),
        syns.accept(),
        at_device.accept(),
        removal
    );
    of_one.unwrap();
    assert_eq!(errno(connections[0].1.try_read(&mut [0; 9])), ENODEV);
    assert_eq!(
        [errno(udp), errno(flow.map(drop)), errno(syn.map(drop)), errno(listener.map(drop))],
        [ENODEV; 4]
    );
    assert_eq!(monitor.next().await, NetworkEvent::InterfaceRemoved { interface: "vm1".to_owned() });
    assert!(timeout(Duration::from_secs(1), stack.failed()).await.is_err(), "it did not fail");
    // So does what is begun on it.
    assert_eq!(errno(not_connected.connect("10.1.0.2:80".parse().unwrap()).await.map(drop)), ENODEV);
    waiting = stack.udp_socket("0.0.0.0:13").await.unwrap();
    assert_eq!(errno(waiting.bind_device(Some(b"vm1"))), ENODEV);
    assert_eq!(errno(connected.send(b"x").await), ENODEV);
    assert_eq!(errno(plain.send_to(b"x", "10.1.0.2:1").await), Some(libc::ENETUNREACH));
    assert_eq!(errno(stack.connect("10.1.0.2:80").await.map(drop)), Some(libc::ENETUNREACH));
    assert!(stack.interfaces().iter().all(|interface| interface.name != "vm1"));
    assert!(stack.routes().iter().all(|route| route.interface != "vm1"));
    assert_eq!(errno(first.add_address("10.9.0.1/24")), ENODEV);
    assert_eq!(errno(stack.interface("vm1").map(drop)), ENODEV);
    // The other interface, and sockets that are limited to none, have noticed nothing.
    let (client, server) = &mut connections[1];
    client.write_all(b"y").await.unwrap();
    assert_eq!(server.read_u8().await.unwrap(), b'y');
    let ((), client) =
        tokio::join!(async { drop(everywhere.accept().await.unwrap()) }, two.connect("10.2.0.1:7"));
    client.unwrap();

    // An interface of the same name is another one; the address is the same.
    let (three, again) = host(1);
    let again = stack.add_interface(again).unwrap();
    assert!(again.info().index > first.info().index);
    let ((), client) =
        tokio::join!(async { drop(at_address.accept().await.unwrap()) }, three.connect("10.1.0.1:8"));
    client.unwrap();
    assert!(
        timeout(Duration::from_secs(5), at_device.accept()).await.unwrap().is_err(),
        "it was for the old one"
    );
}

#[tokio::test(start_paused = true)]
async fn a_device_is_dropped_with_its_interface() {
    let stack = Stack::builder().build().unwrap();
    let mut kept: Vec<Weak<Pair>> = Vec::new();
    for n in 1..=50 {
        let (near, _far) = Pair::new(PairConfig::default());
        let device = Arc::new(near);
        kept.push(Arc::downgrade(&device));
        let handle = stack.add_interface(interface(n, device)).unwrap();
        sleep(Duration::from_millis(1)).await;
        handle.remove().unwrap();
        sleep(Duration::from_millis(1)).await;
        assert_eq!(kept.iter().filter(|device| device.strong_count() > 0).count(), 0, "{n}");
    }
}

/// An interface that the stack was built with can be removed as well.
#[tokio::test(start_paused = true)]
async fn an_interface_of_the_builder_is_removed() {
    let (host, interface) = host(1);
    let stack = Stack::builder().interface(interface).build().unwrap();
    let mut stream = {
        let listener = stack.listen("10.1.0.1:7").await.unwrap();
        let (client, server) = tokio::join!(host.connect("10.1.0.1:7"), listener.accept());
        drop(client);
        server.unwrap().0
    };
    stack.interface("vm1").unwrap().remove().unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(errno(stack.connect("10.1.0.2:80").await.map(drop)), Some(libc::ENETUNREACH));
    let (two, second) = self::host(2);
    stack.add_interface(second).unwrap();
    let listener = two.listen("0.0.0.0:80").await.unwrap();
    let (answer, _) = tokio::join!(ask(&stack, "10.2.0.2:80"), echo(&listener));
    assert_eq!(answer.unwrap(), b'x');
}

/// A stack that a thread drives serves what is added from a runtime, and from none.
#[test]
fn a_stack_with_a_thread_takes_interfaces_too() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let stack = Stack::builder().driver(Driver::Thread).build().unwrap();
    let (near, far) = Pair::new(PairConfig::default());
    let added = stack.add_interface(interface(1, Arc::new(near))).unwrap();
    let far = Interface::new(Arc::new(far)).address("10.1.0.2/24");
    let host = Stack::builder().driver(Driver::Thread).build().unwrap();
    host.add_interface(far).unwrap();
    runtime.block_on(async {
        let listener = host.listen("10.1.0.2:80").await.unwrap();
        let (answer, _) = tokio::join!(ask(&stack, "10.1.0.2:80"), echo(&listener));
        assert_eq!(answer.unwrap(), b'x');
    });
    added.remove().unwrap();
    runtime.block_on(async { assert!(stack.connect("10.1.0.2:80").await.is_err()) });
}

/// Interfaces come and go while packets do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_interfaces_come_and_go_while_others_carry_data() {
    let stack = Stack::builder().build().unwrap();
    let (host, interface) = host(1);
    let _carries = stack.add_interface(interface).unwrap();
    let listener = host.listen("0.0.0.0:7").await.unwrap();
    let serve = tokio::spawn(async move { echo(&listener).await });
    let mut stream = stack.connect("10.1.0.2:7").await.unwrap();
    let churn = {
        let stack = stack.clone();
        tokio::spawn(async move {
            for n in 0..200u8 {
                let n = 2 + n % 100;
                let (other, interface) = self::host(n);
                let added = stack.add_interface(interface).unwrap();
                let socket = stack.udp_socket("0.0.0.0:0").await.unwrap();
                let _ = socket.send_to(b"x", format!("10.{n}.0.2:9")).await;
                let connecting = stack.connect(format!("10.{n}.0.2:9"));
                let _ = timeout(Duration::from_millis(1), connecting).await;
                added.remove().unwrap();
                drop(other);
            }
        })
    };
    let block = [7; 1000];
    while !churn.is_finished() {
        stream.write_all(&block).await.unwrap();
        let mut back = [0; 1000];
        stream.read_exact(&mut back).await.unwrap();
        assert_eq!(back, block);
    }
    churn.await.unwrap();
    assert_eq!(stack.interfaces().len(), 2);
    drop(stream);
    serve.abort();
}
