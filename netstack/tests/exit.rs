//! The end of a process: bytes that were accepted survive the return of `main`.
//!
//! Each test runs this binary again as a process that writes to a file-like sink and returns: the
//! sink is a second stack on a thread, whose application reads slowly and prints a checksum.

use netstack::device::{Pair, PairConfig};
use netstack::{Config, Driver, Interface, Stack};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BYTES: usize = 16 << 20;

fn byte(at: usize) -> u8 {
    (at / 251) as u8 ^ at as u8
}

/// Runs the test called `name` in a process of its own, in which it is the whole of `main`.
fn alone(name: &str) -> bool {
    if std::env::var_os("NETSTACK_EXIT_CHILD").is_some_and(|child| child == name) {
        return false;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env("NETSTACK_EXIT_CHILD", name)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(&format!("received {BYTES} right")), "{text}");
    true
}

/// The peer: reads slowly, on threads that belong to nobody's runtime, and says what it got.
fn slow_reader(far: Pair) -> std::thread::JoinHandle<()> {
    let interface = Interface::new(Arc::new(far)).address("10.0.0.2/24");
    // When the last handle goes, the writer is no longer there to answer.
    let config = Config::default().with(|config| config.exit_drain = Duration::from_millis(50));
    let stack = Stack::builder().driver(Driver::Thread).config(config).interface(interface).build().unwrap();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = stack.listen("10.0.0.2:80").await.unwrap();
            ready.send(()).unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buf = vec![0; 256 << 10];
            let mut at = 0;
            loop {
                let n = stream.read(&mut buf).await.unwrap();
                if n == 0 {
                    break;
                }
                assert!(buf[..n].iter().enumerate().all(|(i, b)| *b == byte(at + i)), "wrong after {at}");
                at += n;
                // Slower than the writer, in the time of threads that outlive every runtime: none can be
                // paused here.
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            println!("received {at} right");
        });
    });
    is_ready.recv().unwrap();
    thread
}

async fn write_and_return(near: Arc<Pair>, driver: Driver) {
    let interface = Interface::new(near).address("10.0.0.1/24");
    let config = Config::default().with(|config| config.exit_drain = Duration::from_secs(30));
    let stack = Stack::builder().driver(driver).config(config).interface(interface).build().unwrap();
    let mut stream = stack.connect("10.0.0.2:80").await.unwrap();
    let data: Vec<u8> = (0..BYTES).map(byte).collect();
    stream.write_all(&data).await.unwrap();
}

/// One end of a cable, which stays when the stack at that end is gone, and the reader at the other.
fn pair() -> (Arc<Pair>, std::thread::JoinHandle<()>) {
    let (near, far) = Pair::new(PairConfig::default());
    let reader = slow_reader(far);
    (Arc::new(near), reader)
}

#[test]
fn current_thread_main() {
    if alone("current_thread_main") {
        return;
    }
    let (near, reader) = pair();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(write_and_return(Arc::clone(&near), Driver::Tokio));
    drop(runtime);
    reader.join().unwrap();
    drop(near);
}

#[test]
fn multi_thread_main() {
    if alone("multi_thread_main") {
        return;
    }
    let (near, reader) = pair();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(write_and_return(Arc::clone(&near), Driver::Tokio));
    drop(runtime);
    reader.join().unwrap();
    drop(near);
}

#[test]
fn thread_driver_main() {
    if alone("thread_driver_main") {
        return;
    }
    let (near, reader) = pair();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(write_and_return(Arc::clone(&near), Driver::Thread));
    drop(runtime);
    reader.join().unwrap();
    drop(near);
}

/// A spawned task holds the stream when `main` returns.
#[test]
fn the_task_of_a_stream_outlives_main() {
    if alone("the_task_of_a_stream_outlives_main") {
        return;
    }
    let (near, reader) = pair();
    let cable = Arc::clone(&near);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (done, is_done) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let interface = Interface::new(near).address("10.0.0.1/24");
            let config = Config::default().with(|config| config.exit_drain = Duration::from_secs(30));
            let stack = Stack::builder().config(config).interface(interface).build().unwrap();
            let mut stream = stack.connect("10.0.0.2:80").await.unwrap();
            let data: Vec<u8> = (0..BYTES).map(byte).collect();
            stream.write_all(&data).await.unwrap();
            done.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        is_done.await.unwrap();
    });
    drop(runtime);
    reader.join().unwrap();
    drop(cable);
}
