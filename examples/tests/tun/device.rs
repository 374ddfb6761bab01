//! A TUN device that goes while a stack uses it.

use crate::common::{self, Family, OFFLOAD, at, runtime};
use netstack::Config;
use netstack_tun::interface;
use netstack_tun::netns::isolated;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

/// Its descriptor reports an error then, and nothing to read.
#[test]
fn an_idle_stack_notices_that_its_device_was_deleted() {
    isolated("device::an_idle_stack_notices_that_its_device_was_deleted", || {
        runtime().block_on(async {
            let stack = common::stack(OFFLOAD, Config::default()).unwrap();
            let listener = stack.listen(at(Family::V4.stack(), 80)).await.unwrap();
            let waiting = async { tokio::join!(listener.accept(), stack.failed()) };
            let delete = async {
                // What the kernel says of a new interface is over then.
                sleep(Duration::from_secs(2)).await;
                interface::delete("tun0").unwrap();
            };
            let both = async { tokio::join!(waiting, delete).0 };
            let (accepted, failure) =
                timeout(Duration::from_secs(4), both).await.expect("told while nothing else happens");
            assert_eq!(accepted.unwrap_err().kind(), ErrorKind::NotConnected);
            assert_eq!(failure.error.kind(), ErrorKind::NotConnected, "{failure}");
            assert!(failure.error.to_string().contains("tun0 is gone"), "{failure}");
        });
    });
}

/// ROBUSTNESS R20: in the middle of transfers in both directions. Every socket is told, no task waits for ever, and
/// nothing goes round.
#[test]
fn r20_a_device_that_goes_in_the_middle_of_a_transfer_fails_every_socket() {
    isolated("device::r20_a_device_that_goes_in_the_middle_of_a_transfer_fails_every_socket", || {
        runtime().block_on(async {
            let stack = common::stack(OFFLOAD, Config::default()).unwrap();
            let listener = stack.listen(at(Family::V4.stack(), 80)).await.unwrap();
            let connect = tokio::net::TcpStream::connect(at(Family::V4.stack(), 80));
            let (kernel, accepted) = tokio::join!(connect, listener.accept());
            let (mut read, mut write) = accepted.unwrap().0.into_split();
            let (mut kernel_read, mut kernel_write) = kernel.unwrap().into_split();
            let kernel = tokio::spawn(async move {
                let mut part = vec![0; 64 << 10];
                while let Ok(1..) = kernel_read.read(&mut part).await {
                    if kernel_write.write_all(b"more").await.is_err() {
                        break;
                    }
                }
            });
            let writing = async {
                let block = vec![7; 64 << 10];
                loop {
                    if let Err(error) = write.write_all(&block).await {
                        return error.kind();
                    }
                }
            };
            let reading = async {
                let mut part = [0; 4096];
                loop {
                    match read.read(&mut part).await {
                        Ok(0) => return ErrorKind::UnexpectedEof,
                        Ok(_) => {}
                        Err(error) => return error.kind(),
                    }
                }
            };
            let delete = async {
                sleep(Duration::from_millis(500)).await;
                interface::delete("tun0").unwrap();
            };
            let all = async { tokio::join!(writing, reading, listener.accept(), delete) };
            let (written, had_read, accepted, ()) =
                timeout(Duration::from_secs(10), all).await.expect("no task waits for ever");
            // The first to be told takes the error of the connection; the other finds it closed.
            let told = [written, had_read];
            assert!(told.contains(&ErrorKind::NotConnected), "{told:?}");
            assert_eq!(accepted.unwrap_err().kind(), ErrorKind::NotConnected);
            assert!(stack.connect(at(Family::V4.kernel(), 9)).await.is_err());
            // The driver rests: a second of nothing takes far less than a second of the processor.
            let before = processor_time();
            sleep(Duration::from_secs(1)).await;
            assert!(processor_time() - before < Duration::from_millis(300), "it goes round");
            kernel.abort();
        });
    });
}

/// What the process has used of the processor.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Behind the name, which may have spaces: user and system time are the 12th and 13th, in hundredths.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}
