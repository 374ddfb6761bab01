//! The example by itself: kernel clients in one network namespace, kernel servers in another, and the proxy between
//! them. Nothing leaves the machine.

use netstack_examples::cli;
use netstack_examples::proxy::{Counts, Dns, Log, Outbound, Proxy, ProxyConfig, Upstream};
use netstack_examples::selftest::{self, Checks, Clients, Servers, lab};
use netstack_examples::socks5::Socks5;
use netstack_tun::{Tun, TunConfig, netns};
use std::error::Error;
use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The whole of it is given up after this.
const LIMIT: Duration = Duration::from_secs(40);

/// Runs all checks.
pub(super) fn run() -> ExitCode {
    if let Err(error) = netns::available().and_then(|()| netns::enter_private()) {
        println!("SKIPPED: {error}");
        return ExitCode::SUCCESS;
    }
    let begin = Instant::now();
    let outcome = tokio::runtime::Runtime::new().map_err(Into::into).and_then(|runtime| {
        let outcome = runtime.block_on(async { tokio::time::timeout(LIMIT, all()).await });
        // What clients are still at must not keep the process.
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome.unwrap_or_else(|_| Err(format!("not done after {LIMIT:?}").into()))
    });
    match outcome {
        Ok(checks) => {
            println!("{checks} checks held, in {:.1} s", begin.elapsed().as_secs_f64());
            ExitCode::SUCCESS
        }
        Err(error) => cli::fail(error),
    }
}

type Outcome = Result<usize, Box<dyn Error>>;

/// Every upstream, with and without offloads.
async fn all() -> Outcome {
    let lab = lab()?;
    let servers = Servers::start().await?;
    let mut checks = 0;
    for (name, upstream, offload) in [
        ("direct, with offloads", Upstream::Direct, true),
        ("direct, without offloads", Upstream::Direct, false),
        ("SOCKS5 with a login, with offloads", Upstream::Socks5(servers.socks()), true),
    ] {
        println!("{name}:");
        let is_direct = upstream == Upstream::Direct;
        let config = TunConfig::new("tun0").offload(offload).namespace(lab.path());
        let config = config.address(selftest::CLIENT_V4)?.address(selftest::CLIENT_V6)?;
        let tun = Tun::open(&config)?;
        lab.route_everything_to("tun0")?;
        let proxy = start(tun, upstream).await?;
        let clients = Clients::new(&lab, servers.addresses());
        let mut held = Checks::default();
        clients.check_streams(&mut held).await?;
        clients.check_refusals(&mut held).await?;
        clients.check_datagrams(&mut held, is_direct).await?;
        clients.check_names(&mut held, HOST).await?;
        clients.check_pings(&mut held).await?;
        // To see once that programs work is enough.
        if is_direct && offload {
            clients.check_programs(&mut held).await?;
        }
        let rows = proxy.stack().sockets().len();
        held.expect(rows > 0, format!("the table of sockets has rows: {rows}"))?;
        let counts = proxy.shutdown().await;
        held.expect(counts.tcp_open == 0, format!("it ended in order: {counts}"))?;
        check_counts(&mut held, &counts, is_direct)?;
        checks += held.len();
    }
    let wrong = Socks5 { login: Some(("nobody".to_owned(), "guess".to_owned())), ..servers.socks() };
    checks += wrong_login(&lab, &servers, wrong).await?;
    Ok(checks)
}

/// A name that the proxy knows.
const HOST: (&str, &str) = ("gateway.test", "192.0.2.53");

async fn start(tun: Tun, upstream: Upstream) -> io::Result<Proxy> {
    let config = ProxyConfig {
        outbound: Outbound { upstream, ..Outbound::default() },
        dns: Dns {
            server: None,
            hosts: vec![(HOST.0.to_owned(), HOST.1.parse().map_err(io::Error::other)?)],
        },
        ..ProxyConfig::default()
    };
    let stack = super::stack(tun, Proxy::stack_config(netstack::Config::default(), &config))?;
    Proxy::start(stack, config, Log::Off).await
}

fn check_counts(held: &mut Checks, counts: &Counts, is_direct: bool) -> io::Result<()> {
    held.expect(counts.tcp_refused >= 2, format!("{} refused clients are counted", counts.tcp_refused))?;
    if is_direct {
        held.expect(counts.pings >= 2, format!("{} pings were asked of their hosts", counts.pings))?;
    }
    Ok(())
}

/// A client behind a proxy with the wrong password is refused.
async fn wrong_login(lab: &selftest::Lab, servers: &Servers, socks: Socks5) -> Result<usize, Box<dyn Error>> {
    println!("SOCKS5 with the wrong login:");
    let config = TunConfig::new("tun0").namespace(lab.path());
    let tun = Tun::open(&config.address(selftest::CLIENT_V4)?.address(selftest::CLIENT_V6)?)?;
    lab.route_everything_to("tun0")?;
    let proxy = start(tun, Upstream::Socks5(socks)).await?;
    let mut held = Checks::default();
    Clients::new(lab, servers.addresses()).check_prohibited(&mut held).await?;
    proxy.shutdown().await;
    Ok(held.len())
}
