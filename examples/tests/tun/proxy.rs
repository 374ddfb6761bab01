//! The example tun2socks as a program, between clients and servers of the kernel.

use crate::common::{runtime, size};
use crate::programs::Running;
use netstack_examples::pattern::Pattern;
use netstack_examples::selftest::{CLIENT_V4, CLIENT_V6, Checks, Clients, Lab, Servers, lab};
use netstack_examples::{kernel, transfer};
use netstack_tun::netns::isolated_within;
use netstack_tun::{Tun, TunConfig, interface};
use std::io::{self, Read};
use std::net::{Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What a test may take.
const LIMIT: Duration = Duration::from_secs(600);

/// The proxy, on a device in the namespace of the clients.
fn start(lab: &Lab, arguments: &[&str]) -> Running {
    let path = lab.path();
    let mut all = vec!["--tun", "tun0", "--netns", path.to_str().unwrap()];
    all.extend(["--peer", CLIENT_V4, "--peer", CLIENT_V6]);
    all.extend(arguments);
    let proxy = Running::start("tun2socks", &all);
    proxy.wait_for(if arguments.contains(&"--json") { "{\"event\":\"serving\"" } else { "serving " });
    lab.route_everything_to("tun0").unwrap();
    proxy
}

/// A test with servers, in namespaces of its own.
fn with_servers(test: &str, body: impl AsyncFnOnce(Lab, Servers)) {
    isolated_within(LIMIT, test, || {
        runtime().block_on(async {
            let lab = lab().unwrap();
            let servers = Servers::start().await.unwrap();
            body(lab, servers).await;
        });
    });
}

/// Gives files over HTTP: as many bytes of a pattern as the path says.
async fn web(pattern: Pattern) -> (u16, JoinSet<io::Result<()>>) {
    let listener = kernel::listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0))).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await?;
            let mut stream = BufReader::new(stream);
            let (mut request, mut line) = (String::new(), String::new());
            stream.read_line(&mut request).await?;
            while stream.read_line(&mut line).await? > 2 {
                line.clear();
            }
            let path = request.split(' ').nth(1).unwrap_or_default();
            let len: u64 = path.trim_start_matches('/').parse().map_err(io::Error::other)?;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            transfer::send(&mut stream, pattern, len).await?;
            stream.shutdown().await?;
        }
    });
    (port, tasks)
}

/// What `curl` fetches, compared byte by byte.
fn curl(lab: &Lab, url: &str, pattern: Pattern, len: u64) -> Duration {
    let begin = Instant::now();
    let curl = || Command::new("curl").args(["-sS", "--globoff", url]).stdout(Stdio::piped()).spawn();
    let mut curl = lab.run(curl).unwrap().unwrap();
    let mut out = curl.stdout.take().unwrap();
    let (mut received, mut block) = (0, vec![0; 256 << 10]);
    loop {
        let n = out.read(&mut block).unwrap();
        if n == 0 {
            break;
        }
        pattern.check(received, &block[..n]).unwrap_or_else(|_| panic!("{url}: another byte"));
        received += n as u64;
    }
    assert!(curl.wait().unwrap().success() && received == len, "{url}: {received} of {len} bytes");
    begin.elapsed()
}

#[test]
fn curl_fetches_large_files() {
    with_servers("proxy::curl_fetches_large_files", async |lab, servers| {
        if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED proxy::curl_fetches_large_files: there is no curl");
            return;
        }
        let len = size("NETSTACK_TEST_CURL_MIB", 16) << 20;
        let pattern = Pattern::new(42);
        let (port, _web) = web(pattern).await;
        for offload in ["on", "off"] {
            let proxy = start(&lab, &["--offload", offload]);
            for v6 in [false, true] {
                let url = format!("http://{}/{len}", SocketAddr::new(servers.addresses().host(v6, 5), port));
                let lab = lab.clone();
                let took = tokio::task::spawn_blocking(move || curl(&lab, &url, pattern, len)).await.unwrap();
                let rate = transfer::gbit_per_s(len, took);
                println!("offload {offload}, v6 {v6}: {} MiB in {took:.2?}, {rate:.2} Gbit/s", len >> 20);
            }
            proxy.stop();
        }
    });
}

#[test]
fn clients_see_what_the_proxy_saw() {
    with_servers("proxy::clients_see_what_the_proxy_saw", async |lab, servers| {
        let login = servers.socks().login.unwrap();
        let socks = format!("socks5://{}:{}@{}", login.0, login.1, servers.socks().server);
        let cases: [&[&str]; 4] = [
            &["--json"],
            &["--offload", "off", "--stats"],
            &["--full-cone", "--ping", "reply"],
            &["--upstream", &socks],
        ];
        for arguments in cases {
            println!("{arguments:?}");
            let arguments = [arguments, &["--host", "gateway.test=192.0.2.53"]].concat();
            let proxy = start(&lab, &arguments);
            let clients = Clients::new(&lab, servers.addresses());
            let mut held = Checks::default();
            clients.check_streams(&mut held).await.unwrap();
            clients.check_refusals(&mut held).await.unwrap();
            let by_flow = !arguments.contains(&"--full-cone") && !arguments.contains(&"--upstream");
            clients.check_datagrams(&mut held, by_flow).await.unwrap();
            clients.check_names(&mut held, ("gateway.test", "192.0.2.53")).await.unwrap();
            clients.check_pings(&mut held).await.unwrap();
            if arguments.contains(&"--json") {
                let line = proxy.wait_for("{\"event\":\"tcp\"");
                assert!(line.contains("\"to\":\"") && line.ends_with('}'), "{line}");
            }
            if arguments.contains(&"--stats") {
                proxy.wait_for("Netid State");
            }
            proxy.stop();
        }
    });
}

/// 8,000 by hand, for which 40,000 descriptors are needed.
#[test]
fn thousands_of_half_closed_connections_to_as_many_hosts() {
    with_servers("proxy::thousands_of_half_closed_connections_to_as_many_hosts", async |lab, servers| {
        let connections = size("NETSTACK_TEST_CONNECTIONS", 300) as u32;
        for offload in ["on", "off"] {
            let proxy = start(&lab, &["--offload", offload]);
            let begin = Instant::now();
            let errors = Clients::new(&lab, servers.addresses()).half_closes(connections).await.unwrap();
            println!("offload {offload}: {connections} connections in {:.2?}", begin.elapsed());
            assert_eq!(errors, Vec::<String>::new());
            println!("peak resident memory of the proxy: {} KiB", proxy.memory("VmHWM"));
            proxy.stop();
        }
    });
}

#[test]
fn a_server_that_never_reads_takes_bounded_memory() {
    with_servers("proxy::a_server_that_never_reads_takes_bounded_memory", async |lab, servers| {
        const CLIENTS: u32 = 20;
        let proxy = start(&lab, &["--config", "recv_buffer_max=1mb"]);
        let before = proxy.memory("VmRSS");
        let addresses = servers.addresses();
        let written = lab.as_client(async move || {
            let mut streams = Vec::new();
            for n in 0..CLIENTS {
                streams.push(TcpStream::connect((addresses.host(false, n), addresses.deaf)).await?);
            }
            let (block, mut written, mut quiet) = (vec![0; 64 << 10], 0, 0);
            // Until nothing has moved for half a second.
            while quiet < 50 {
                let now: usize = streams.iter().filter_map(|stream| stream.try_write(&block).ok()).sum();
                written += now;
                quiet = if now == 0 { quiet + 1 } else { 0 };
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(written)
        });
        let written = written.await.unwrap();
        let grown = proxy.memory("VmRSS").saturating_sub(before);
        println!("{CLIENTS} clients wrote {} KiB; the proxy grew by {grown} KiB", written >> 10);
        // A receive buffer, whose memory is four times its payload at most, and a copy buffer for each.
        assert!(grown < u64::from(CLIENTS) * (4 * 1024 + 64) + 8192, "{grown} KiB");
        proxy.stop();
    });
}

/// A server that does not answer: 63 seconds by hand, as long as a client with the kernel's defaults tries.
#[test]
fn a_silent_server_leaves_nothing_behind() {
    with_servers("proxy::a_silent_server_leaves_nothing_behind", async |lab, servers| {
        let retries = size("NETSTACK_TEST_SYN_RETRIES", 1);
        let sysctl = move || netstack_tun::netns::sysctl("net.ipv4.tcp_syn_retries", &retries.to_string());
        lab.run(sysctl).unwrap().unwrap();
        // What is sent there arrives nowhere.
        let _hole = Tun::open(&TunConfig::new("hole").address("192.0.2.1/24").unwrap()).unwrap();
        let timeout = ((1 << (retries + 1)) - 1).to_string();
        let proxy = start(&lab, &["--connect-timeout", &timeout, "--idle", "1", "--half-closed-idle", "1"]);
        let descriptors = proxy.descriptors();
        let begin = Instant::now();
        let asked = lab.as_client(async || {
            let mut asked = JoinSet::new();
            for n in 2..52 {
                asked.spawn(async move { TcpStream::connect(format!("192.0.2.{n}:80")).await.map(drop) });
            }
            Ok(asked.join_all().await)
        });
        for outcome in asked.await.unwrap() {
            assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        println!("50 clients gave up after {:.1?}", begin.elapsed());
        // One that was accepted, and then nothing moves.
        let to = (servers.addresses().host(false, 1), servers.addresses().deaf);
        let silent = lab.as_client(async move || {
            let mut stream = TcpStream::connect(to).await?;
            let begin = Instant::now();
            let error = stream.read_u8().await.unwrap_err();
            Ok((error.kind(), begin.elapsed()))
        });
        let (kind, after) = silent.await.unwrap();
        assert_eq!(kind, io::ErrorKind::ConnectionReset);
        assert!((0.9..5.0).contains(&after.as_secs_f64()), "{after:?}");
        let deadline = Instant::now() + Duration::from_secs(10);
        while proxy.descriptors() != descriptors && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(proxy.descriptors(), descriptors, "all sockets are gone");
        let summary = proxy.stop();
        assert!(summary.starts_with("tcp: 0 open, 1 done (1 reset), 50 refused"), "{summary}");
    });
}

/// A SOCKS5 server that goes away in the middle of everything.
#[test]
fn an_upstream_that_dies_ends_its_clients() {
    with_servers("proxy::an_upstream_that_dies_ends_its_clients", async |lab, servers| {
        let socks = servers.socks();
        let (name, password) = socks.login.clone().unwrap();
        let proxy = start(&lab, &["--upstream", &format!("socks5://{name}:{password}@{}", socks.server)]);
        let to = (servers.addresses().host(false, 1), servers.addresses().deaf);
        let (connected, is_connected) = tokio::sync::oneshot::channel();
        let client = tokio::spawn({
            let lab = lab.clone();
            async move {
                lab.as_client(async move || {
                    let mut stream = TcpStream::connect(to).await?;
                    stream.write_all(b"hello").await?;
                    let _ = connected.send(());
                    Ok(stream.read(&mut [0; 1]).await)
                })
                .await
            }
        });
        is_connected.await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(servers);
        let ended = tokio::time::timeout(Duration::from_secs(5), client).await.unwrap().unwrap().unwrap();
        assert!(
            ended
                .as_ref()
                .map_or_else(|error| error.kind() == io::ErrorKind::ConnectionReset, |len| *len == 0)
        );
        let refused = lab.as_client(async move || Ok(TcpStream::connect(to).await.err()));
        assert_eq!(refused.await.unwrap().unwrap().kind(), io::ErrorKind::ConnectionRefused);
        proxy.stop();
    });
}

/// As a process that may do nothing but use sockets and the descriptor that it was given.
#[test]
fn an_unprivileged_proxy_on_an_inherited_descriptor() {
    with_servers("proxy::an_unprivileged_proxy_on_an_inherited_descriptor", async |lab, servers| {
        for offload in [true, false] {
            let config = TunConfig::new("tun0").offload(offload).namespace(lab.path());
            let tun = Tun::open(&config.address(CLIENT_V4).unwrap().address(CLIENT_V6).unwrap()).unwrap();
            lab.route_everything_to("tun0").unwrap();
            let fd = tun.queue_fd(0).try_clone_to_owned().unwrap();
            drop(tun);
            // In a user namespace of its own it has no rights in those of its sockets.
            let switch = if offload { "on" } else { "off" };
            let Some(proxy) = Running::start_on("tun2socks", fd, &["--fd", "0", "--offload", switch]) else {
                eprintln!("SKIPPED an unprivileged proxy: `unshare --user` does not work here");
                return;
            };
            proxy.wait_for("serving ");
            let clients = Clients::new(&lab, servers.addresses());
            let mut held = Checks::default();
            clients.check_streams(&mut held).await.unwrap();
            clients.check_refusals(&mut held).await.unwrap();
            clients.check_datagrams(&mut held, true).await.unwrap();
            proxy.stop();
            let gone = lab.run(|| interface::exists("tun0")).unwrap().unwrap();
            assert!(!gone, "its last descriptor is closed");
        }
    });
}

#[test]
fn it_runs_by_itself() {
    let (status, out, err) = crate::examples::run("tun2socks", &[]);
    assert_eq!((status, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.contains(" checks held, in ") || out.starts_with("SKIPPED: "), "{out}");
}
