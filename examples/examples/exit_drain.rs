//! A `main` that writes 16 MiB, drops the stream and returns, while the reader receives every byte.
//!
//! ```text
//! cargo run --release -p netstack-examples --example exit_drain
//! ```
//!
//! A stack has to deliver the data that an application has written. A kernel can do that after the
//! process has ended; a stack inside the process has to do it before. This program runs itself a
//! second time as the writer, in the same private network namespace, while a deliberately slow
//! reader on the kernel's TCP takes the bytes. It does so once with the stack's driver on the
//! runtime, which ends with `main`, and once with the driver on a dedicated thread.

use clap::{Parser, ValueEnum};
use netstack::net::Driver;
use netstack::{Interface, Stack};
use netstack_examples::pattern::Pattern;
use netstack_examples::{cli, transfer};
use netstack_tun::{Tun, TunConfig, netns};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that are written.
const LEN: u64 = 16 << 20;
/// The kernel's side.
const KERNEL: &str = "10.9.0.1/24";
/// The stack's.
const STACK: &str = "10.9.0.2/24";
const SEED: u64 = 16;

/// How long the reader waits before each read, and how much it reads: 8 MiB/s, so that reading
/// takes much longer than writing, and much less than the 10 s of `Config::exit_drain`.
const PAUSE: Duration = Duration::from_millis(31);
const BITE: usize = 256 << 10;
/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Shows that nothing written is lost when main returns.
#[derive(Parser, Debug)]
#[command(version)]
struct Args {
    /// Act as the writer, to this address. The program starts itself with this option.
    #[arg(long, hide = true, requires = "driver")]
    write_to: Option<SocketAddr>,
    /// Who drives the writer's stack.
    #[arg(long, hide = true)]
    driver: Option<DriverName>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DriverName {
    Tokio,
    Thread,
}

fn main() -> ExitCode {
    let args: Args = cli::parse();
    let result = match (args.write_to, args.driver) {
        (Some(address), Some(driver)) => write(address, driver),
        _ => show(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(error),
    }
}

/// The writer, an ordinary program. After it returns, delivery is up to the stack.
#[tokio::main]
async fn write(address: SocketAddr, driver: DriverName) -> io::Result<()> {
    let driver = match driver {
        DriverName::Tokio => Driver::Tokio,
        DriverName::Thread => Driver::Thread,
    };
    let tun = Tun::open(&TunConfig::new("tun0").address(KERNEL)?)?;
    let interface = Interface::new(Arc::new(tun)).address(STACK);
    let stack = Stack::builder().interface(interface).driver(driver).build()?;
    let mut stream = stack.connect(address).await?;
    transfer::send(&mut stream, Pattern::new(SEED), LEN).await?;
    drop(stream);
    println!("returning");
    Ok(())
}

fn show() -> io::Result<()> {
    netns::available()?;
    netns::enter_private()?;
    for driver in [DriverName::Tokio, DriverName::Thread] {
        let listener = TcpListener::bind("0.0.0.0:0")?;
        let address =
            SocketAddr::new("10.9.0.1".parse().map_err(io::Error::other)?, listener.local_addr()?.port());
        let mut writer = start_writer(address, driver)?;
        let result = read_slowly(&listener, &mut writer);
        if result.is_err() {
            // It may have ended already.
            let _ = writer.kill();
        }
        let status = writer.wait()?;
        let (returned, ended) = result?;
        if !status.success() {
            return Err(io::Error::other(format!("the writer failed: {status}")));
        }
        println!(
            "driver {driver:?}: main began to return after {:.2} s, the reader had all {} MiB after {:.2} s; every byte as written",
            returned.as_secs_f64(),
            LEN >> 20,
            ended.as_secs_f64()
        );
    }
    Ok(())
}

fn start_writer(address: SocketAddr, driver: DriverName) -> io::Result<Child> {
    let name = driver.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    Command::new(std::env::current_exe()?)
        .args(["--write-to", &address.to_string(), "--driver", &name])
        .stdout(Stdio::piped())
        .spawn()
}

/// Reads everything, checks it, and says when the writer's main began to return and when the stream ended.
fn read_slowly(listener: &TcpListener, writer: &mut Child) -> io::Result<(Duration, Duration)> {
    let mut output = writer.stdout.take().ok_or_else(|| io::Error::other("the writer has no output"))?;
    let mut stream = accept(listener, writer)?;
    let start = Instant::now();
    let returned = thread::spawn(move || {
        let mut line = [0; 1];
        output.read_exact(&mut line).map(|()| start.elapsed())
    });
    stream.set_read_timeout(Some(LIMIT))?;
    let pattern = Pattern::new(SEED);
    let mut bite = vec![0; BITE];
    let mut received = 0;
    loop {
        thread::sleep(PAUSE);
        let n = stream.read(&mut bite)?;
        if n == 0 {
            break;
        }
        pattern.check(received, &bite[..n])?;
        received += n as u64;
    }
    let ended = start.elapsed();
    if received != LEN {
        return Err(io::Error::other(format!("lost: {} of {LEN} bytes", LEN - received)));
    }
    let returned = returned.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    if returned >= ended {
        return Err(io::Error::other("the reader was too fast to show anything"));
    }
    Ok((returned, ended))
}

/// Accepts the writer's connection, unless the writer ends first.
fn accept(listener: &TcpListener, writer: &mut Child) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if writer.try_wait()?.is_some() => {
                return Err(io::Error::other("the writer ended before it connected"));
            }
            Err(_) if start.elapsed() > LIMIT => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}
