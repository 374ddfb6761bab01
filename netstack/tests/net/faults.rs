//! Devices that are full, broken or gone: the reactor does a bounded amount of work between two waits,
//! and every socket learns of the end of its device.

use netstack::buffer::PacketBuf;
use netstack::device::{Capabilities, Device, Pair, PairConfig, Readiness, RxMeta, Signal, TxPacket};
use netstack::time::Instant;
use netstack::{Interface, Stack};
use std::future::Future;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use tokio::runtime::Builder;

/// Runs a test in virtual time on a thread of its own, since one that fails may never let time pass.
#[track_caller]
fn in_virtual_time<F: Future<Output = ()> + 'static>(name: &str, test: impl FnOnce() -> F + Send + 'static) {
    let (done, outcome) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(test());
        done.send(()).unwrap();
    });
    // It takes under a second; with ThreadSanitizer on a busy machine, many times that.
    let outcome = outcome.recv_timeout(Duration::from_secs(300));
    assert_eq!(outcome, Ok(()), "{name}: time passes, and the test ends well");
}

fn stack(device: Arc<dyn Device>) -> Stack {
    Stack::builder().interface(Interface::new(device).name("wan").address("10.0.0.1/24")).build().unwrap()
}

/// What a [`Broken`] device does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Full for ever.
    Full,
    /// Full, and says each time that it is not any more.
    Fickle,
    /// Receiving is interrupted each time.
    Interrupted,
    /// Its deadline has passed and is never over.
    Overdue,
}

struct Broken {
    fault: Fault,
    signal: Signal,
    calls: AtomicUsize,
}

impl Broken {
    fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self { fault, signal: Signal::new(), calls: AtomicUsize::new(0) })
    }
}

impl Device for Broken {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            mtu: 1500,
            queues: 1,
            checksum_offload: false,
            segmentation_offload: false,
            udp_segmentation_offload: false,
            point_to_point: true,
        }
    }

    fn receive(&self, _: Instant, _: usize, _: &mut PacketBuf) -> io::Result<RxMeta> {
        if self.fault == Fault::Interrupted {
            self.calls.fetch_add(1, Ordering::Relaxed);
            return Err(ErrorKind::Interrupted.into());
        }
        Err(ErrorKind::WouldBlock.into())
    }

    fn transmit(&self, _: Instant, _: usize, _: &TxPacket<'_>) -> io::Result<()> {
        match self.fault {
            Fault::Interrupted | Fault::Overdue => return Ok(()),
            Fault::Full => {}
            Fault::Fickle => self.signal.raise_writable(),
        }
        self.calls.fetch_add(1, Ordering::Relaxed);
        Err(ErrorKind::WouldBlock.into())
    }

    fn readiness(&self, _: usize) -> Readiness<'_> {
        Readiness::Signal(&self.signal)
    }

    fn next_deadline(&self) -> Option<Instant> {
        (self.fault == Fault::Overdue).then_some(Instant::ZERO)
    }

    fn on_deadline(&self, _: Instant) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_reactor_does_a_bounded_amount_of_work_between_two_waits() {
    for (fault, most) in [
        // An attempt by the connection that has something to send, and the reactor's own: three SYNs in five seconds.
        (Fault::Full, 20),
        // Two more in each millisecond, at most.
        (Fault::Fickle, 12_000),
        (Fault::Interrupted, 6_000 * 32),
        (Fault::Overdue, 6_000 * 2),
    ] {
        in_virtual_time(&format!("{fault:?}"), move || async move {
            let device = Broken::new(fault);
            let stack = stack(Arc::clone(&device) as _);
            let connecting = tokio::spawn({
                let stack = stack.clone();
                async move { stack.connect("10.0.0.2:80").await }
            });
            tokio::time::sleep(Duration::from_secs(5)).await;
            let calls = device.calls.load(Ordering::Relaxed);
            assert!((1..=most).contains(&calls), "{calls} calls in five seconds");
            connecting.abort();
        });
    }
}

#[test]
fn virtual_time_goes_on_while_a_cable_is_full() {
    in_virtual_time("a full cable", || async {
        let (near, far) = Pair::new(PairConfig { queue: 1, ..PairConfig::default() });
        let stack = stack(Arc::new(near));
        let connecting = tokio::spawn({
            let stack = stack.clone();
            async move { stack.connect("10.0.0.2:80").await }
        });
        // The first SYN fills the cable; the others find it full.
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert!((1..20).contains(&stack.counters().device_full), "{}", stack.counters().device_full);
        let other = Interface::new(Arc::new(far)).address("10.0.0.2/24");
        let other = Stack::builder().interface(other).build().unwrap();
        let listener = other.listen("10.0.0.2:80").await.unwrap();
        let (_accepted, _) = listener.accept().await.unwrap();
        connecting.await.unwrap().expect("the cable is in use again");
    });
}

#[tokio::test(start_paused = true)]
async fn a_listener_at_all_addresses_learns_that_its_only_device_is_gone() {
    let (near, far) = Pair::new(PairConfig::default());
    let stack = stack(Arc::new(near));
    let everywhere = stack.listen("0.0.0.0:80").await.unwrap();
    let dual = stack.listen("[::]:81").await.unwrap();
    let inside = stack.listen("127.0.0.1:82").await.unwrap();
    let from_inside = stack.connect("127.0.0.1:80").await.unwrap();
    drop(far);
    let limit = Duration::from_secs(1);
    let waiting = everywhere.accept().await.expect("what came over the loopback can be accepted");
    drop((waiting, from_inside));
    for listener in [&everywhere, &dual] {
        let outcome = tokio::time::timeout(limit, listener.accept()).await.expect("told at once");
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotConnected);
    }
    let error = stack.listen("0.0.0.0:83").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected, "a new one, too");
    assert!(tokio::time::timeout(limit, inside.accept()).await.is_err(), "the loopback is not concerned");
}

#[tokio::test(start_paused = true)]
async fn a_listener_at_all_addresses_waits_while_one_device_is_left() {
    let (first, first_far) = Pair::new(PairConfig::default());
    let (second, second_far) = Pair::new(PairConfig::default());
    let stack = Stack::builder()
        .interface(Interface::new(Arc::new(first)).address("10.0.0.1/24"))
        .interface(Interface::new(Arc::new(second)).address("10.1.0.1/24"))
        .build()
        .unwrap();
    let listener = stack.listen("0.0.0.0:80").await.unwrap();
    let limit = Duration::from_secs(1);
    drop(first_far);
    assert!(tokio::time::timeout(limit, listener.accept()).await.is_err());
    drop(second_far);
    let outcome = tokio::time::timeout(limit, listener.accept()).await.expect("told at once");
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotConnected);
}

#[cfg(unix)]
mod hang_up {
    use super::*;
    use netstack::Driver;
    use std::io::{PipeReader, PipeWriter};
    use std::os::fd::AsFd;
    use std::sync::Mutex;

    /// A device that has nothing to read, ever. Its descriptor reports an error, and nothing else, when the
    /// other end is gone, as that of a TUN device that is deleted.
    struct Quiet {
        writer: PipeWriter,
        /// The other end.
        reader: Mutex<Option<PipeReader>>,
    }

    impl Device for Quiet {
        fn capabilities(&self) -> Capabilities {
            Broken::new(Fault::Full).capabilities()
        }

        fn receive(&self, _: Instant, _: usize, _: &mut PacketBuf) -> io::Result<RxMeta> {
            let gone = self.reader.lock().unwrap().is_none();
            Err(if gone { ErrorKind::NotConnected } else { ErrorKind::WouldBlock }.into())
        }

        fn transmit(&self, _: Instant, _: usize, _: &TxPacket<'_>) -> io::Result<()> {
            Ok(())
        }

        fn readiness(&self, _: usize) -> Readiness<'_> {
            Readiness::Fd(self.writer.as_fd())
        }
    }

    #[test]
    fn an_idle_stack_notices_that_its_device_is_gone() {
        for driver in [Driver::Tokio, Driver::Thread] {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let (reader, writer) = io::pipe().unwrap();
                let device = Arc::new(Quiet { writer, reader: Mutex::new(Some(reader)) });
                let interface = Interface::new(Arc::clone(&device) as _).name("wan").address("10.0.0.1/24");
                let stack = Stack::builder().driver(driver).interface(interface).build().unwrap();
                let listener = stack.listen("10.0.0.1:80").await.unwrap();
                let waiting =
                    async { tokio::join!(listener.accept(), stack.connect("10.0.0.2:80"), stack.failed()) };
                let pull = async {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    device.reader.lock().unwrap().take();
                };
                let both = async { tokio::join!(waiting, pull).0 };
                let (accepted, connected, failure) =
                    tokio::time::timeout(Duration::from_millis(900), both).await.expect("told at once");
                assert_eq!(accepted.unwrap_err().kind(), ErrorKind::NotConnected);
                assert_eq!(connected.unwrap_err().kind(), ErrorKind::NotConnected);
                assert_eq!((&*failure.interface, failure.error.kind()), ("wan", ErrorKind::NotConnected));
                let again = stack.failed().await;
                assert_eq!(again.interface, "wan", "it is still so");
            });
        }
    }
}
