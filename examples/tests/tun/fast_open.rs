//! Fast Open with the kernel at the other end, in both roles (RFC 7413).
//!
//! The variable has the bit 0x400 in addition to 1 and 2, which enables Fast Open for all listeners
//! of the kernel, because setting the option of one listener would take unsafe code.

use crate::common::{self, Family, OFFLOAD, at, runtime};
use netstack::config::FastOpenKey;
use netstack::net::TcpStream;
use netstack::tcp::CookieInput;
use netstack::{Config, Stack};
use netstack_tun::netns::{isolated, sysctl};
use socket2::{Domain, Socket, Type};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CONNECTIONS: u64 = 1000;

/// `MSG_FASTOPEN`.
const MSG_FASTOPEN: i32 = 0x2000_0000;

const KEY: &str = "00112233-44556677-8899aabb-ccddeeff";

const REQUEST: &[u8] = b"what is the time";
const ANSWER: &[u8] = b"late";

/// The kernel's counters of this namespace.
fn kernel_counters() -> BTreeMap<String, u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("TcpExt:")).collect();
    let [names, values] = lines[..] else { panic!("two lines: {lines:?}") };
    let values = values.split_whitespace().skip(1).map(|value| value.parse().unwrap_or(0));
    names.split_whitespace().skip(1).map(str::to_owned).zip(values).collect()
}

fn prepare() -> Config {
    sysctl("net.ipv4.tcp_fastopen", "0x403").unwrap();
    sysctl("net.ipv4.tcp_fastopen_key", KEY).unwrap();
    Config::default().with(|config| config.fastopen_key = Some(KEY.parse().unwrap()))
}

fn kernel_client(to: SocketAddr) {
    let timeout = Some(Duration::from_secs(10));
    for _ in 0..CONNECTIONS {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.set_read_timeout(timeout).unwrap();
        let sent = socket.send_to_with_flags(REQUEST, &to.into(), MSG_FASTOPEN).unwrap();
        assert_eq!(sent, REQUEST.len());
        let mut answer = Vec::new();
        (&socket).read_to_end(&mut answer).unwrap();
        assert_eq!(answer, ANSWER);
    }
}

async fn serve(mut stream: TcpStream) {
    let mut request = vec![0; REQUEST.len()];
    stream.read_exact(&mut request).await.unwrap();
    assert_eq!(request, REQUEST);
    stream.write_all(ANSWER).await.unwrap();
}

#[test]
fn the_kernel_sends_data_in_syns_to_the_stack() {
    isolated("fast_open::the_kernel_sends_data_in_syns_to_the_stack", || {
        let config = prepare();
        runtime().block_on(async {
            let stack = common::stack(OFFLOAD, config).unwrap();
            for family in Family::ALL {
                let to = at(family.stack(), 80);
                let listener = stack.listen(to).await.unwrap();
                listener.set_tcp_fastopen(16).unwrap();
                let before = (stack.counters().fast_open_passive, kernel_counters()["TCPFastOpenActive"]);
                let client = thread::spawn(move || kernel_client(to));
                for _ in 0..CONNECTIONS {
                    serve(listener.accept().await.unwrap().0).await;
                }
                tokio::task::spawn_blocking(|| client.join().unwrap()).await.unwrap();
                let passive = stack.counters().fast_open_passive - before.0;
                let active = kernel_counters()["TCPFastOpenActive"] - before.1;
                // The first one requests a cookie.
                assert_eq!((passive, active), (CONNECTIONS - 1, CONNECTIONS - 1), "{family:?}");
                assert_eq!(listener.fast_open_queue_len(), 0);
            }
            assert_eq!(stack.counters().fast_open_cookie_requests, 2);
        });
    });
}

fn kernel_server(listener: &std::net::TcpListener) {
    for _ in 0..CONNECTIONS {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; REQUEST.len()];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(ANSWER).unwrap();
    }
}

async fn ask(stack: &Stack, to: SocketAddr) {
    let mut stream = TcpStream::connect_with_data_on(stack, to, REQUEST).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, ANSWER);
}

#[test]
fn the_stack_sends_data_in_syns_to_the_kernel() {
    isolated("fast_open::the_stack_sends_data_in_syns_to_the_kernel", || {
        let config = prepare();
        runtime().block_on(async {
            let stack = common::stack(OFFLOAD, config).unwrap();
            for family in Family::ALL {
                let to = at(family.kernel(), 80);
                let listener = std::net::TcpListener::bind(to).unwrap();
                let before = (stack.counters().fast_open_active, kernel_counters()["TCPFastOpenPassive"]);
                let server = thread::spawn(move || kernel_server(&listener));
                for _ in 0..CONNECTIONS {
                    ask(&stack, to).await;
                }
                tokio::task::spawn_blocking(|| server.join().unwrap()).await.unwrap();
                let active = stack.counters().fast_open_active - before.0;
                let passive = kernel_counters()["TCPFastOpenPassive"] - before.1;
                assert_eq!((active, passive), (CONNECTIONS - 1, CONNECTIONS - 1), "{family:?}");
            }
            // The kernel computed the same cookie as the stack.
            let key: FastOpenKey = KEY.parse().unwrap();
            let cookies = stack.fast_open_cache().export();
            assert_eq!(cookies.len(), 2);
            for entry in cookies {
                let input = CookieInput { client: entry.client, server: entry.server, len: 8 };
                assert_eq!(entry.cookie.cookie, Some(input.cookie(&key)));
            }
        });
    });
}

#[test]
fn the_kernel_accepts_cookies_that_the_stack_computed_with_its_key() {
    isolated("fast_open::the_kernel_accepts_cookies_that_the_stack_computed_with_its_key", || {
        let config = prepare();
        runtime().block_on(async {
            let stack = common::stack(OFFLOAD, config).unwrap();
            let key: FastOpenKey = KEY.parse().unwrap();
            for family in Family::ALL {
                let to = at(family.kernel(), 80);
                let (client, server) = (family.stack(), family.kernel());
                let cookie = Some(CookieInput { client, server, len: 8 }.cookie(&key));
                let cookie = netstack::wire::FastOpenOption { cookie, experimental: false };
                let entry = netstack::stack::FastOpenEntry {
                    client,
                    server,
                    cookie,
                    mss: Some(1440),
                    age: Duration::ZERO,
                };
                stack.fast_open_cache().import([entry]);
                let listener = std::net::TcpListener::bind(to).unwrap();
                let thread = thread::spawn(move || {
                    let (mut stream, _) = listener.accept().unwrap();
                    let mut request = vec![0; REQUEST.len()];
                    stream.read_exact(&mut request).unwrap();
                    stream.write_all(ANSWER).unwrap();
                    request
                });
                ask(&stack, to).await;
                let request = tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
                assert_eq!(request, REQUEST);
            }
            assert_eq!(stack.counters().fast_open_active, 2);
            assert_eq!(kernel_counters()["TCPFastOpenPassive"], 2);
            assert_eq!(kernel_counters()["TCPFastOpenCookieReqd"], 0);
        });
    });
}
