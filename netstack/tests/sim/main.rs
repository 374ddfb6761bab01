//! `netstack::sim`: hosts in virtual time.

mod repeatable;

use netstack::device::LinkConfig;
use netstack::net::{TcpListener, TcpStream, UdpSocket};
use netstack::sim::{Links, Net, NetBuilder, Result};
use std::cell::{Cell, RefCell};
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);

fn link(text: &str) -> LinkConfig {
    text.parse().unwrap()
}

fn net(config: &str) -> NetBuilder {
    Net::builder().seed(1).link(link(config)).simulation_duration(3_600 * SECOND)
}

/// Answers every byte.
async fn echo() -> Result {
    let listener = TcpListener::bind("0.0.0.0:7").await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await
        });
    }
}

/// A byte there and back.
async fn ping(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"x").await?;
    stream.read_u8().await.map(drop)
}

#[test]
fn names_times_and_tasks_are_those_of_the_net() {
    let mut net = net("delay=1234567ns").build().unwrap();
    net.host("Server", "10.0.0.1, fd00::1", echo).unwrap();
    net.client("client", "10.0.0.2,fd00::2", async {
        let begin = Instant::now();
        let mut stream = TcpStream::connect("server:7").await?;
        assert_eq!(begin.elapsed(), Duration::from_nanos(2 * 1_234_567), "exact");
        assert_eq!(stream.peer_addr()?, "10.0.0.1:7".parse()?);
        ping(&mut stream).await?;
        assert_eq!(begin.elapsed(), Duration::from_nanos(4 * 1_234_567));
        let error = TcpStream::connect("[fd00::1]:8").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(TcpStream::connect("nobody:7").await.unwrap_err().kind(), ErrorKind::NotFound);
        sleep(Duration::from_millis(100)).await;
        // Software need not be `Send`, and can spawn.
        let shared = Rc::new(Cell::new(0));
        let other = Rc::clone(&shared);
        tokio::task::spawn_local(async move { other.set(1) }).await?;
        assert_eq!(shared.get(), 1);
        Ok(())
    })
    .unwrap();
    net.run().unwrap();
    assert_eq!(net.elapsed(), Duration::from_micros(107_000).max(net.elapsed()));
    assert!(net.elapsed() < Duration::from_millis(120), "{:?}", net.elapsed());
    assert_eq!(net.stack("server").unwrap().name(), "Server");
    assert!(net.is_host_running("server"));
}

#[test]
fn without_a_delay_packets_take_no_time() {
    let mut net = net("").build().unwrap();
    net.host("server", "10.0.0.1", echo).unwrap();
    net.client("client", "10.0.0.2", async {
        let begin = Instant::now();
        let mut stream = TcpStream::connect("server:7").await?;
        for _ in 0..100 {
            ping(&mut stream).await?;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        Ok(())
    })
    .unwrap();
    net.run().unwrap();
    assert_eq!(net.elapsed(), Duration::ZERO);
}

#[test]
fn errors_and_panics_of_software_come_out() {
    let mut failing = net("").build().unwrap();
    failing.client("client", "10.0.0.1", async { Err("it did not work".into()) }).unwrap();
    assert_eq!(failing.run().unwrap_err().to_string(), "client: it did not work");
    let mut failing = net("").build().unwrap();
    failing.host("host", "10.0.0.1", async || Err("it did not work".into())).unwrap();
    let client = async {
        sleep(SECOND).await;
        Ok(())
    };
    failing.client("client", "10.0.0.2", client).unwrap();
    assert_eq!(failing.run().unwrap_err().to_string(), "host: it did not work");
    let mut panicking = net("").build().unwrap();
    panicking.client("client", "10.0.0.1", async { panic!("as it should") }).unwrap();
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panicking.run()));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"as it should"));
    let mut endless = Net::builder().simulation_duration(SECOND).build().unwrap();
    endless.client("slow", "10.0.0.1", std::future::pending()).unwrap();
    let error = endless.run().unwrap_err().to_string();
    assert!(error.starts_with("ran for 1.0") && error.ends_with("without completing: slow"), "{error}");
}

#[test]
fn names_and_addresses_are_taken_once() {
    let mut net = net("").build().unwrap();
    net.host("a", "10.0.0.1", echo).unwrap();
    for (name, ip, kind) in [
        ("A", "10.0.0.2", ErrorKind::AlreadyExists),
        ("b", "10.0.0.1", ErrorKind::AlreadyExists),
        ("b", "10.0.0", ErrorKind::InvalidInput),
    ] {
        assert_eq!(net.host(name, ip, echo).unwrap_err().kind(), kind, "{name} {ip}");
    }
    let wrong: [fn(&mut Net); 4] = [
        |net| net.crash("x"),
        |net| drop(net.bounce("x")),
        |net| net.links().partition("a", "x"),
        |net| net.links().hold("a", "a"),
    ];
    for wrong in wrong {
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wrong(&mut net))).is_err());
    }
}

/// A client that sends a byte each 100 ms, and notes when the answer came or that none did.
fn pinging(net: &mut Net, seconds: u64) -> Rc<RefCell<Vec<(u64, bool)>>> {
    net.host("server", "10.0.0.1", async || {
        let socket = UdpSocket::bind("0.0.0.0:7").await?;
        let mut buf = [0; 16];
        loop {
            let (len, peer) = socket.recv_from(&mut buf).await?;
            socket.send_to(&buf[..len], peer).await?;
        }
    })
    .unwrap();
    let answers = Rc::new(RefCell::new(Vec::new()));
    let noted = Rc::clone(&answers);
    net.client("client", "10.0.0.2", async move {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        socket.connect("server:7").await?;
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(seconds) {
            let at = begin.elapsed().as_millis() as u64;
            socket.send(&at.to_be_bytes()).await?;
            let mut buf = [0; 8];
            let answered = timeout(Duration::from_millis(90), async {
                while socket.recv(&mut buf).await? != 8 || buf != at.to_be_bytes() {}
                std::io::Result::Ok(())
            });
            let answered = answered.await.is_ok();
            noted.borrow_mut().push((at, answered));
            sleep(Duration::from_millis(100) - (begin.elapsed() - Duration::from_millis(at))).await;
        }
        Ok(())
    })
    .unwrap();
    answers
}

/// Which of the pings of the first three seconds were answered, when `change` was done after the first second and
/// `back` after the second.
fn answered(config: &str, change: impl Fn(&mut Net), back: impl Fn(&mut Net)) -> [usize; 3] {
    let mut net = net(config).build().unwrap();
    let answers = pinging(&mut net, 3);
    // Between two of them.
    net.run_for(SECOND - Duration::from_millis(50)).unwrap();
    change(&mut net);
    net.run_for(SECOND).unwrap();
    back(&mut net);
    net.run().unwrap();
    let answers = answers.borrow();
    [0, 1, 2].map(|second| answers.iter().filter(|(at, answered)| at / 1000 == second && *answered).count())
}

#[test]
fn partition_and_repair() {
    let both = answered(
        "delay=5ms",
        |net| net.links().partition("client", "server"),
        |net| net.links().repair("client", "server"),
    );
    assert_eq!(both, [10, 0, 10]);
    for (from, to) in [("client", "server"), ("server", "client")] {
        let one = answered(
            "delay=5ms",
            |net| net.links().partition_oneway(from, to),
            |net| net.links().repair_oneway(from, to),
        );
        assert_eq!(one, [10, 0, 10], "{from} to {to}");
    }
    // Each direction by itself: what is cut twice is repaired twice.
    let half = answered(
        "delay=5ms",
        |net| net.links().partition("client", "server"),
        |net| net.links().repair_oneway("client", "server"),
    );
    assert_eq!(half, [10, 0, 0]);
}

#[test]
fn a_partition_has_one_direction_if_it_is_said_so() {
    let mut net = net("").build().unwrap();
    let got = Rc::new(Cell::new(0));
    let counted = Rc::clone(&got);
    net.host("b", "10.0.0.2", move || {
        let counted = Rc::clone(&counted);
        async move {
            let socket = UdpSocket::bind("0.0.0.0:1").await?;
            loop {
                let (_, peer) = socket.recv_from(&mut [0; 9]).await?;
                counted.set(counted.get() + 1);
                socket.send_to(b"x", peer).await?;
            }
        }
    })
    .unwrap();
    let links: Links = net.links();
    net.client("a", "10.0.0.1", async move {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        socket.connect("b:1").await?;
        // Software may do it as well.
        links.partition_oneway("b", "a");
        socket.send(b"1").await?;
        assert!(timeout(SECOND, socket.recv(&mut [0; 9])).await.is_err());
        links.repair_oneway("b", "a");
        links.partition_oneway("a", "b");
        socket.send(b"2").await?;
        assert!(timeout(SECOND, socket.recv(&mut [0; 9])).await.is_err());
        assert_eq!((links.stats("b", "a").lost, links.stats("a", "b").lost), (1, 1));
        assert_eq!(links.elapsed(), 2 * SECOND);
        Ok(())
    })
    .unwrap();
    net.run().unwrap();
    assert_eq!(got.get(), 1);
}

#[test]
fn hold_and_release() {
    let mut net = net("delay=5ms").build().unwrap();
    net.host("server", "10.0.0.1", echo).unwrap();
    let links = net.links();
    net.client("client", "10.0.0.2", async move {
        let mut stream = TcpStream::connect("server:7").await?;
        ping(&mut stream).await?;
        let begin = Instant::now();
        links.hold("server", "client");
        stream.write_all(b"held").await?;
        let mut buf = [0; 4];
        assert!(timeout(20 * SECOND, stream.read_exact(&mut buf)).await.is_err());
        links.release("client", "server");
        stream.read_exact(&mut buf).await?;
        assert_eq!((&buf, begin.elapsed()), (b"held", 20 * SECOND + Duration::from_millis(10)));
        // Held, and not lost.
        assert_eq!(links.stats("client", "server").lost, 0);
        Ok(())
    })
    .unwrap();
    net.run().unwrap();
}

#[test]
fn links_change_while_the_net_runs() {
    let mut net = net("delay=5ms").build().unwrap();
    net.host("server", "10.0.0.1", echo).unwrap();
    let links = net.links();
    net.client("client", "10.0.0.2", async move {
        let mut stream = TcpStream::connect("server:7").await?;
        for (change, round_trip) in [("delay=50ms", 100), ("delay=1ms", 2)] {
            links.set_link("client", "server", &link(change));
            // What is on its way is not overtaken.
            sleep(SECOND).await;
            let begin = Instant::now();
            ping(&mut stream).await?;
            assert_eq!(begin.elapsed(), Duration::from_millis(round_trip));
        }
        links.set_link_oneway("server", "client", &link("delay=7ms"));
        sleep(SECOND).await;
        let begin = Instant::now();
        ping(&mut stream).await?;
        assert_eq!(begin.elapsed(), Duration::from_millis(8));
        assert_eq!(links.link("server", "client").delay, Duration::from_millis(7));
        assert_eq!(links.link("client", "server").delay, Duration::from_millis(1));
        links.set_link("client", "server", &link("delay=1ms,loss=20%"));
        stream.write_all(&[0; 50_000]).await?;
        stream.read_exact(&mut [0; 50_000]).await?;
        assert!(links.stats("client", "server").lost > 5, "{:?}", links.stats("client", "server"));
        Ok(())
    })
    .unwrap();
    net.run().unwrap();
}

#[test]
fn a_crash_drops_what_ran_and_a_bounce_begins_anew() {
    let mut net = net("delay=5ms").build().unwrap();
    struct Guard(Rc<Cell<u32>>);
    impl Drop for Guard {
        fn drop(&mut self) {
            self.0.set(self.0.get() + 1);
        }
    }
    let (starts, drops) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (started, dropped) = (Rc::clone(&starts), Rc::clone(&drops));
    net.host("server", "10.0.0.1", move || {
        started.set(started.get() + 1);
        let guard = Guard(Rc::clone(&dropped));
        async move {
            // What was spawned is dropped, too.
            tokio::task::spawn_local(async move {
                let _guard = guard;
                std::future::pending::<()>().await;
            });
            echo().await
        }
    })
    .unwrap();
    net.client("client", "10.0.0.2", async {
        let mut stream = TcpStream::connect("server:7").await?;
        ping(&mut stream).await?;
        sleep(2 * SECOND).await;
        // The host is off: nobody answers.
        let silent = timeout(SECOND, ping(&mut stream)).await;
        assert!(silent.is_err(), "{silent:?}");
        sleep(SECOND).await;
        // It is on again, and knows nothing of the connection: the retransmission gets a reset.
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        ping(&mut TcpStream::connect("server:7").await?).await?;
        Ok(())
    })
    .unwrap();
    net.run_for(SECOND).unwrap();
    assert_eq!((starts.get(), drops.get()), (1, 0));
    net.crash("server");
    net.crash("server");
    assert_eq!((starts.get(), drops.get()), (1, 1));
    assert!(!net.is_host_running("server") && net.stack("server").is_none());
    net.run_for(5 * SECOND / 2).unwrap();
    net.bounce("server").unwrap();
    net.run().unwrap();
    assert_eq!((starts.get(), drops.get()), (2, 1));
    net.bounce("server").unwrap();
    assert_eq!((starts.get(), drops.get()), (3, 2), "a bounce is a crash if it is on");
    assert_eq!(net.bounce("client").unwrap_err().kind(), ErrorKind::Unsupported);
}

/// What comes for it then is for nobody, and the net goes on.
#[test]
fn a_stack_that_its_software_shuts_down_is_silent() {
    let mut net = net("delay=5ms").build().unwrap();
    net.host("server", "10.0.0.1", async || {
        sleep(SECOND).await;
        netstack::Stack::current()?.shutdown(SECOND).await;
        Ok(())
    })
    .unwrap();
    net.client("client", "10.0.0.2", async {
        sleep(3 * SECOND).await;
        assert!(timeout(60 * SECOND, TcpStream::connect("server:7")).await.is_err());
        Ok(())
    })
    .unwrap();
    net.run().unwrap();
}

#[test]
fn a_client_that_crashes_is_over() {
    let mut net = net("").build().unwrap();
    net.client("client", "10.0.0.2", std::future::pending()).unwrap();
    assert!(!net.step().unwrap());
    net.crash("client");
    net.run().unwrap();
}

#[test]
fn groups_reach_all_hosts() {
    let mut net = net("delay=1ms").build().unwrap();
    for (name, ip) in [("a", "10.0.0.1"), ("b", "10.0.0.2")] {
        net.client(name, ip, async {
            let socket = UdpSocket::bind("0.0.0.0:5000").await?;
            socket.join_multicast_v4("239.0.0.1".parse()?, "0.0.0.0".parse()?)?;
            let mut buf = [0; 9];
            let (len, peer) = socket.recv_from(&mut buf).await?;
            assert_eq!((&buf[..len], peer.ip()), (&b"all"[..], "10.0.0.3".parse()?));
            Ok(())
        })
        .unwrap();
    }
    net.client("c", "10.0.0.3", async {
        let socket = UdpSocket::bind("0.0.0.0:0").await?;
        sleep(SECOND).await;
        socket.send_to(b"all", "239.0.0.1:5000").await?;
        Ok(())
    })
    .unwrap();
    net.run().unwrap();
}

/// Three hosts that are quiet but for a connection now and then.
#[test]
fn a_quiet_net_goes_on() {
    let mut net = net("delay=5ms").build().unwrap();
    net.host("a", "10.0.0.1", echo).unwrap();
    net.host("b", "10.0.0.2", echo).unwrap();
    net.client("c", "10.0.0.3", async {
        for _ in 0..3 {
            ping(&mut TcpStream::connect("a:7").await?).await?;
            sleep(20 * SECOND).await;
        }
        Ok(())
    })
    .unwrap();
    net.run().unwrap();
    assert!(net.elapsed() >= 60 * SECOND);
}
