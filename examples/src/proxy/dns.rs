//! DNS, taken by listeners of the proxy's own on port 53, whomever the queries are for.

use super::log::text;
use super::run::Shared;
use super::upstream::Upstream;
use crate::kernel;
use netstack::net::udp::{RecvMeta, Transmit};
use netstack::net::{TcpListener, TcpStream, UdpSocket};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

/// Bytes of a header (RFC 1035 §4.1.1).
const HEADER: usize = 12;
/// For how long clients may keep an answer of ours, in seconds.
const TTL: u32 = 60;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;
/// The longest message over UDP that is passed on (EDNS).
const MAX_UDP: usize = 4096;

const NO_ERROR: u8 = 0;
const REFUSED: u8 = 5;
const SERVER_FAILURE: u8 = 2;

/// Answers what comes over UDP.
pub(super) async fn serve_udp(shared: Arc<Shared>, socket: UdpSocket) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(shared.config.limits.questions));
    let socket = Arc::new(socket);
    let mut buffer = vec![0; MAX_UDP];
    loop {
        let mut meta = [RecvMeta::default()];
        socket.recv_msg(&mut [IoSliceMut::new(&mut buffer)], &mut meta).await?;
        let [meta] = meta;
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let query = buffer[..meta.stride.min(meta.len)].to_vec();
        let (mine, socket) = (Arc::clone(&shared), Arc::clone(&socket));
        shared.others.spawn(async move {
            let _place = place;
            let Some(answer) = answer(&mine, &query, meta.addr).await else { return };
            // From the address that was asked. What cannot be sent is lost, as on the way.
            let transmit = Transmit {
                destination: meta.addr,
                ecn: None,
                contents: &answer,
                segment_size: None,
                src_ip: meta.dst_ip,
            };
            let _ = socket.send_msg(&transmit).await;
        });
    }
}

/// Answers what comes over TCP (RFC 7766).
pub(super) async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(shared.config.limits.questions));
    loop {
        let (stream, client) = listener.accept().await?;
        if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
            let mine = Arc::clone(&shared);
            shared.others.spawn(async move {
                let _place = place;
                drop(serve_stream(&mine, stream, client).await);
            });
        }
    }
}

async fn serve_stream(shared: &Shared, mut stream: TcpStream, client: SocketAddr) -> io::Result<()> {
    loop {
        // RFC 7766 §6.2.3: a few seconds.
        let query =
            tokio::time::timeout(shared.config.timeouts.question, read_message(&mut stream)).await??;
        match answer(shared, &query, client).await {
            Some(answer) => write_message(&mut stream, &answer).await?,
            None => return Ok(()),
        }
    }
}

async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let len = stream.read_u16().await?;
    let mut message = vec![0; len.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let len = u16::try_from(message.len()).map_err(io::Error::other)?;
    stream.write_all(&[&len.to_be_bytes(), message].concat()).await
}

/// The answer to a query; none for what is not one.
async fn answer(shared: &Shared, query: &[u8], client: SocketAddr) -> Option<Vec<u8>> {
    let question = Question::parse(query)?;
    let dns = &shared.config.dns;
    let is_host = |name: &str| name.eq_ignore_ascii_case(&question.name);
    let addresses: Vec<_> =
        dns.hosts.iter().filter(|(name, _)| is_host(name)).map(|(_, address)| *address).collect();
    let (answer, by) = if !addresses.is_empty() {
        (question.answer(NO_ERROR, &addresses), "the proxy")
    } else if let Some(server) = dns.server {
        let exchange = exchange(shared, server, query);
        match tokio::time::timeout(shared.config.timeouts.question, exchange).await {
            Ok(Ok(answer)) => (answer, "the server"),
            _ => (question.answer(SERVER_FAILURE, &[]), "nobody"),
        }
    } else {
        (question.answer(REFUSED, &[]), "nobody")
    };
    shared.counts.dns.fetch_add(1, Ordering::Relaxed);
    let fields = [("client", text(client)), ("name", text(&question.name)), ("answered-by", text(by))];
    shared.log.event("dns", &fields);
    Some(answer)
}

/// Asks a server. Through a SOCKS5 server over TCP, which needs no relay.
async fn exchange(shared: &Shared, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let outbound = &shared.config.outbound;
    if matches!(outbound.upstream, Upstream::Socks5(_)) {
        let mut stream = outbound.connect(server).await?;
        write_message(&mut stream, query).await?;
        return read_message(&mut stream).await;
    }
    let socket = outbound.connected_udp(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; MAX_UDP];
    loop {
        let len = kernel::recv(&socket, &mut answer).await?;
        // RFC 5452 §9.1: only the answer to this query.
        if answer[..len].first_chunk::<2>() == query.first_chunk::<2>() {
            answer.truncate(len);
            return Ok(answer);
        }
    }
}

/// The question of a query.
#[derive(Debug, PartialEq, Eq)]
struct Question {
    /// The header and the question, as they came.
    bytes: Vec<u8>,
    /// Without the dot at the end.
    name: String,
    kind: u16,
    class: u16,
}

impl Question {
    /// Of a query with one question; none for anything else.
    fn parse(query: &[u8]) -> Option<Self> {
        let header = query.first_chunk::<HEADER>()?;
        let is_query = header[2] & 0xf8 == 0;
        let one_question = header[4..6] == [0, 1];
        if !is_query || !one_question {
            return None;
        }
        let (mut at, mut labels) = (HEADER, Vec::new());
        loop {
            let len = usize::from(*query.get(at)?);
            // RFC 1035 §2.3.4; there is nothing that the first name could point to.
            if len > 63 || at - HEADER > 255 {
                return None;
            }
            at += 1;
            if len == 0 {
                break;
            }
            labels.push(String::from_utf8_lossy(query.get(at..at + len)?).into_owned());
            at += len;
        }
        let [k1, k0, c1, c0] = *query.get(at..)?.first_chunk::<4>()?;
        Some(Self {
            bytes: query[..at + 4].to_vec(),
            name: labels.join("."),
            kind: u16::from_be_bytes([k1, k0]),
            class: u16::from_be_bytes([c1, c0]),
        })
    }

    /// The answer, with those of `addresses` that are of the type that was asked for.
    fn answer(&self, code: u8, addresses: &[IpAddr]) -> Vec<u8> {
        let wanted = |address: &&IpAddr| {
            let kind = if address.is_ipv4() { TYPE_A } else { TYPE_AAAA };
            (self.kind, self.class) == (kind, CLASS_IN)
        };
        let records: Vec<_> = addresses.iter().filter(wanted).collect();
        let mut answer = self.bytes.clone();
        // A response; recursion as desired, and available.
        answer[2] = 0x80 | self.bytes[2] & 1;
        answer[3] = 0x80 | code;
        answer[6..8].copy_from_slice(&(records.len() as u16).to_be_bytes());
        answer[8..12].fill(0);
        for address in records {
            // The name is the one of the question (RFC 1035 §4.1.4).
            answer.extend([0xc0, HEADER as u8]);
            answer.extend(self.kind.to_be_bytes());
            answer.extend(CLASS_IN.to_be_bytes());
            answer.extend(TTL.to_be_bytes());
            match address {
                IpAddr::V4(address) => {
                    answer.extend([0, 4]);
                    answer.extend(address.octets());
                }
                IpAddr::V6(address) => {
                    answer.extend([0, 16]);
                    answer.extend(address.octets());
                }
            }
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A query for example.test.
    fn query(kind: u16) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        query.extend(b"\x07Example\x04test\x00");
        query.extend(kind.to_be_bytes());
        query.extend(CLASS_IN.to_be_bytes());
        query
    }

    #[test]
    fn questions_are_read_and_broken_ones_are_not() {
        let question = Question::parse(&query(TYPE_A)).unwrap();
        assert_eq!((question.name.as_str(), question.kind), ("Example.test", TYPE_A));
        let whole = query(TYPE_A);
        assert!((0..whole.len()).all(|len| Question::parse(&whole[..len]).is_none()));
        let mut response = whole.clone();
        response[2] |= 0x80;
        let mut pointer = whole.clone();
        pointer[12] = 0xc0;
        let mut two = whole;
        two[5] = 2;
        assert!([response, pointer, two].iter().all(|broken| Question::parse(broken).is_none()));
    }

    #[test]
    fn answers_have_the_addresses_of_the_type_that_was_asked_for() {
        let addresses = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
        for (kind, len) in [(TYPE_A, 16), (TYPE_AAAA, 28), (15, 0)] {
            let query = query(kind);
            let answer = Question::parse(&query).unwrap().answer(NO_ERROR, &addresses);
            assert_eq!(answer.len(), query.len() + len);
            assert_eq!((answer[..2] == query[..2], answer[2], answer[3]), (true, 0x81, 0x80));
            assert_eq!(answer[7], u8::from(len > 0));
        }
        let refused = Question::parse(&query(TYPE_A)).unwrap().answer(REFUSED, &[]);
        assert_eq!((refused[3] & 0xf, refused[7]), (REFUSED, 0));
    }
}
