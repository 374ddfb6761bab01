//! Names by DNS: a stack asks a name server that is a program on another stack, over a link in memory.

use netstack::device::{Link, LinkConfig};
use netstack::net::{TcpListener, UdpSocket};
use netstack::{Interface, Stack};
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const A: u16 = 1;
const AAAA: u16 = 28;
/// The answer to a query over UDP does not fit.
const TRUNCATED: u16 = 0x0200;
const NO_SUCH_NAME: u16 = 3;

/// Two stacks, 10.0.0.1 and 10.0.0.2, of which the first asks the second for names.
fn stacks() -> (Stack, Stack) {
    let delay: LinkConfig = "delay=5ms".parse().unwrap();
    let (left, right) = Link::pair(delay.clone(), delay);
    let interface = |link, address| Interface::new(Arc::new(link)).address(address);
    let client = Stack::builder().interface(interface(left, "10.0.0.1/24"));
    let client = client.dns(["10.0.0.2:53".parse().unwrap()]).build().unwrap();
    let server = Stack::builder().interface(interface(right, "10.0.0.2/24")).build().unwrap();
    (client, server)
}

/// The name and the type that a query asks for.
fn question(query: &[u8]) -> (String, u16, usize) {
    let (mut at, mut labels) = (12, Vec::new());
    while query[at] != 0 {
        let len = usize::from(query[at]);
        labels.push(String::from_utf8_lossy(&query[at + 1..=at + len]).to_lowercase());
        at += 1 + len;
    }
    (labels.join("."), u16::from_be_bytes([query[at + 1], query[at + 2]]), at + 5)
}

/// The answer to a query, with these flags.
fn answer(query: &[u8], flags: u16, addresses: &[IpAddr]) -> Vec<u8> {
    let (_, kind, end) = question(query);
    let of_kind = addresses.iter().filter(|address| (kind == A) == address.is_ipv4());
    let of_kind: Vec<_> = of_kind.collect();
    let mut answer = query[..end].to_vec();
    answer[2..4].copy_from_slice(&(0x8180 | flags).to_be_bytes());
    answer[6..12].copy_from_slice(&[0, of_kind.len() as u8, 0, 0, 0, 0]);
    for address in of_kind {
        // The name is that of the question; the class is IN, and the answer is good for a minute.
        answer.extend([0xc0, 12]);
        answer.extend([kind.to_be_bytes(), [0, 1], [0, 0], [0, 60]].concat());
        match address {
            IpAddr::V4(address) => answer.extend([&[0, 4][..], &address.octets()].concat()),
            IpAddr::V6(address) => answer.extend([&[0, 16][..], &address.octets()].concat()),
        }
    }
    answer
}

/// What is known of a name.
fn known(name: &str) -> &'static [IpAddr] {
    const ADDRESSES: [IpAddr; 2] =
        [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2))];
    match name {
        "server.test" | "long.test" => &ADDRESSES[..1],
        "both.test" => &ADDRESSES,
        _ => &[],
    }
}

fn reply(query: &[u8], over_tcp: bool) -> Vec<u8> {
    let (name, kind, _) = question(query);
    assert!(kind == A || kind == AAAA);
    match name.as_str() {
        "long.test" if !over_tcp => answer(query, TRUNCATED, &[]),
        "none.test" => answer(query, NO_SUCH_NAME, &[]),
        _ => answer(query, 0, known(&name)),
    }
}

/// A name server. Counts the queries over UDP and TCP.
async fn serve(stack: &Stack) -> Arc<[AtomicUsize; 2]> {
    let counters = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let udp = UdpSocket::bind_on(stack, "10.0.0.2:53").await.unwrap();
    let tcp = TcpListener::bind_on(stack, "10.0.0.2:53").await.unwrap();
    let counted = Arc::clone(&counters);
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((len, client)) = udp.recv_from(&mut query).await {
            counted[0].fetch_add(1, Ordering::Relaxed);
            if question(&query[..len]).0 != "silent.test" {
                udp.send_to(&reply(&query[..len], false), client).await.unwrap();
            }
        }
    });
    let counted = Arc::clone(&counters);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                while let Ok(len) = stream.read_u16().await {
                    counted[1].fetch_add(1, Ordering::Relaxed);
                    let mut query = vec![0; len.into()];
                    stream.read_exact(&mut query).await.unwrap();
                    if question(&query).0 == "silent.test" {
                        continue;
                    }
                    let reply = reply(&query, true);
                    stream.write_u16(reply.len() as u16).await.unwrap();
                    stream.write_all(&reply).await.unwrap();
                }
            });
        }
    });
    counters
}

async fn found(stack: &Stack, host: &str) -> std::io::Result<Vec<String>> {
    Ok(stack.lookup_host(host).await?.map(|address| address.to_string()).collect())
}

#[tokio::test(start_paused = true)]
async fn names_are_asked_for_over_the_stack() {
    let (client, server) = stacks();
    let queries = serve(&server).await;
    assert_eq!(found(&client, "server.test:80").await.unwrap(), ["10.0.0.2:80"]);
    assert_eq!(found(&client, "BOTH.test:81").await.unwrap(), ["10.0.0.2:81", "[fd00::2]:81"]);
    assert_eq!(queries[0].load(Ordering::Relaxed), 4, "two for each name");
    assert!(client.counters().udp_out_datagrams >= 4);
    assert_eq!(found(&client, "localhost:1").await.unwrap(), ["127.0.0.1:1", "[::1]:1"]);
    assert_eq!(found(&client, "10.0.0.7:1").await.unwrap(), ["10.0.0.7:1"]);
    let error = found(&client, "none.test:1").await.unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (ErrorKind::NotFound, "there is no address for `none.test`")
    );
    assert_eq!(found(&client, "empty.test:1").await.unwrap_err().kind(), ErrorKind::NotFound);
    let listener = server.listen("10.0.0.2:80").await.unwrap();
    let (stream, accepted) = tokio::join!(client.connect("server.test:80"), listener.accept());
    assert_eq!(stream.unwrap().peer_addr().unwrap(), "10.0.0.2:80".parse().unwrap());
    accepted.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_does_not_fit_is_asked_for_over_tcp() {
    let (client, server) = stacks();
    let queries = serve(&server).await;
    assert_eq!(found(&client, "long.test:80").await.unwrap(), ["10.0.0.2:80"]);
    assert!(queries[1].load(Ordering::Relaxed) >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_given_up() {
    let (client, server) = stacks();
    let _queries = serve(&server).await;
    let begin = tokio::time::Instant::now();
    let error = found(&client, "silent.test:80").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn name_servers_do_not_keep_a_stack() {
    let (client, server) = stacks();
    let _queries = serve(&server).await;
    found(&client, "long.test:80").await.unwrap();
    let name = "server.test:80".to_owned();
    // A lookup that is dropped half-way leaves nothing behind.
    let lookup = tokio::time::timeout(Duration::from_millis(1), found(&client, &name)).await;
    assert!(lookup.is_err());
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert!(client.sockets().iter().all(|row| row.state == "TIME-WAIT"), "{:#?}", client.sockets());
}
