//! The same seed gives the same packets, in another process, too.

use super::{SECOND, echo, link};
use netstack::net::TcpStream;
use netstack::sim::{Net, Result};
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Where the other process writes its capture.
const VARIABLE: &str = "NETSTACK_SIM_CAPTURE";

/// Losses, crashes, a partition, many connections at once, and an orderly end with some still open.
fn run(seed: u64, capture: &Path) -> Result {
    let mut net = Net::builder()
        .seed(seed)
        .link(link("delay=3ms,jitter=2ms,loss=3%,reorder=1%,duplicate=1%,rate=20mbit"))
        .simulation_duration(600 * SECOND)
        .capture(File::create(capture)?)
        .build()?;
    net.host("server", "10.0.0.1,fd00::1", echo)?;
    net.host("open", "10.0.0.4", || async {
        // Never closed by itself.
        let mut stream = TcpStream::connect("server:7").await?;
        stream.write_all(&[1; 10_000]).await?;
        std::future::pending().await
    })?;
    for (name, ip) in [("client-a", "10.0.0.2"), ("client-b", "10.0.0.3,fd00::3")] {
        net.client(name, ip, async {
            let tasks = (0..10).map(|n| {
                tokio::spawn(async move {
                    let mut stream = TcpStream::connect("server:7").await?;
                    let sent = vec![n; 30_000];
                    let (mut read, mut write) = stream.split();
                    let mut received = Vec::new();
                    let write = async {
                        write.write_all(&sent).await?;
                        write.shutdown().await
                    };
                    // A reset is an end, too: the server may crash.
                    let (_, _) = tokio::join!(write, read.read_to_end(&mut received));
                    std::io::Result::Ok(received.len())
                })
            });
            for task in tasks.collect::<Vec<_>>() {
                drop(task.await?);
            }
            Ok(())
        })?;
    }
    net.run_for(Duration::from_millis(50))?;
    net.links().partition_oneway("server", "client-a");
    net.run_for(Duration::from_millis(700))?;
    net.links().repair_oneway("server", "client-a");
    net.crash("open");
    net.bounce("open")?;
    net.run()?;
    net.shutdown(SECOND)
}

fn captured(seed: u64, name: &str) -> Vec<u8> {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    run(seed, &file).unwrap();
    let bytes = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    bytes
}

#[test]
fn a_seed_gives_the_same_capture_in_two_processes() {
    let other = |name: &str| {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let run = Command::new(env::current_exe().unwrap())
            .args(["--exact", "repeatable::capture", "--ignored"])
            .env(VARIABLE, &file)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        let bytes = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        bytes
    };
    let (one, two) = (other("sim-one.pcapng"), other("sim-two.pcapng"));
    assert!(one.len() > 500_000, "{} bytes", one.len());
    let differ = one.iter().zip(&two).position(|(one, two)| one != two);
    assert!(one == two, "{} and {} bytes, which differ from byte {differ:?} on", one.len(), two.len());
    assert!(one == captured(11, "sim-three.pcapng"), "and in this process");
    assert!(one != captured(12, "sim-four.pcapng"), "another seed, other packets");
}

#[test]
#[ignore = "for a_seed_gives_the_same_capture_in_two_processes, which runs it in other processes"]
fn capture() {
    run(11, Path::new(&env::var_os(VARIABLE).expect("the other process says where"))).unwrap();
}
