//! The clients, which are of the kernel, and what they see.

use super::checks::Checks;
use super::lab::Lab;
use super::servers::Addresses;
use crate::kernel;
use crate::pattern::Pattern;
use crate::transfer::{self, Payload};
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// Bytes of a transfer in each direction.
const TRANSFER: u64 = 4 << 20;
/// Connections at a time, each to a host of its own.
const CONNECTIONS: u32 = 200;
/// How long an answer may take that is expected.
const ANSWER: Duration = Duration::from_secs(5);

/// Clients in the namespace of a lab.
#[derive(Clone, Debug)]
pub struct Clients {
    lab: Lab,
    servers: Addresses,
}

impl Clients {
    /// Clients of these servers.
    pub fn new(lab: &Lab, servers: Addresses) -> Self {
        Self { lab: lab.clone(), servers }
    }

    pub(super) fn lab(&self) -> &Lab {
        &self.lab
    }

    pub(super) fn servers(&self) -> Addresses {
        self.servers
    }

    /// Transfers, and many connections that are closed in one direction first.
    ///
    /// # Errors
    /// If something does not hold.
    pub async fn check_streams(&self, held: &mut Checks) -> io::Result<()> {
        let servers = self.servers;
        for v6 in [false, true] {
            let to = SocketAddr::new(servers.host(v6, 1), servers.echo);
            let took = self.lab.as_client(async move || {
                let stream = TcpStream::connect(to).await?;
                let payload = Payload { pattern: Pattern::new(7), len: TRANSFER };
                transfer::echo(stream.into_split().into(), payload).await
            });
            let mib = TRANSFER >> 20;
            let took = took.await?;
            held.expect(true, format!("{mib} MiB to {to} and back, every byte compared, in {took:.2?}"))?;
        }
        let begin = Instant::now();
        let errors = self.half_closes(CONNECTIONS).await?;
        let what = format!(
            "{CONNECTIONS} connections to as many hosts, each half-closed before its answer: {} errors, in {:.2?}",
            errors.len(),
            begin.elapsed()
        );
        held.expect(errors.is_empty(), errors.first().map_or(what, |error| format!("no error: {error}")))
    }

    /// Makes so many connections at a time, to as many hosts, each of which is closed in one direction before its
    /// answer comes. Gives the errors.
    ///
    /// # Errors
    /// Those of the namespace.
    pub async fn half_closes(&self, connections: u32) -> io::Result<Vec<String>> {
        let servers = self.servers;
        let ask = async move || {
            let mut asked = JoinSet::new();
            for n in 0..connections {
                asked.spawn(async move {
                    let mut stream = TcpStream::connect((servers.host(n % 8 == 7, n), servers.echo)).await?;
                    stream.write_all(&n.to_be_bytes()).await?;
                    stream.shutdown().await?;
                    let mut answer = Vec::new();
                    stream.read_to_end(&mut answer).await?;
                    let same = answer == n.to_be_bytes();
                    if same {
                        Ok(())
                    } else {
                        Err(io::Error::other(format!("{n} was answered by {answer:?}")))
                    }
                });
            }
            let outcomes = asked.join_all().await;
            Ok(outcomes
                .into_iter()
                .filter_map(|outcome: io::Result<()>| Some(outcome.err()?.to_string()))
                .collect())
        };
        self.lab.as_client(ask).await
    }

    /// Refusals, and resets in mid connection.
    ///
    /// # Errors
    /// If something does not hold.
    pub async fn check_refusals(&self, held: &mut Checks) -> io::Result<()> {
        let servers = self.servers;
        for v6 in [false, true] {
            let closed = SocketAddr::new(servers.host(v6, 2), servers.closed);
            let refused = self.lab.as_client(async move || Ok(failure(closed).await));
            let what = format!("{closed}, where nobody listens, refuses a connection");
            held.expect_error(refused.await?, io::ErrorKind::ConnectionRefused, what)?;
            let resets = SocketAddr::new(servers.host(v6, 2), servers.reset);
            let reset = self.lab.as_client(async move || {
                let mut stream = TcpStream::connect(resets).await?;
                stream.write_all(b"x").await?;
                Ok(stream.read(&mut [0; 1]).await.err())
            });
            let what = format!("a reset by {resets} is a reset of the client");
            held.expect_error(reset.await?, io::ErrorKind::ConnectionReset, what)?;
        }
        Ok(())
    }

    /// That the proxy's own refusal by its upstream comes as an ICMP error.
    ///
    /// # Errors
    /// If something does not hold.
    pub async fn check_prohibited(&self, held: &mut Checks) -> io::Result<()> {
        let to = SocketAddr::new(self.servers.host(false, 1), self.servers.echo);
        let refused = self.lab.as_client(async move || Ok(failure(to).await));
        held.expect_error(
            refused.await?,
            io::ErrorKind::HostUnreachable,
            "a connection is prohibited by ICMP",
        )
    }

    /// Datagrams, and with `refusals` those to a closed port.
    ///
    /// # Errors
    /// If something does not hold.
    pub async fn check_datagrams(&self, held: &mut Checks, refusals: bool) -> io::Result<()> {
        let servers = self.servers;
        for v6 in [false, true] {
            let to = SocketAddr::new(servers.host(v6, 0), servers.udp_echo);
            let answered = self.lab.as_client(async move || {
                let socket = connected(to).await?;
                let mut answered = 0;
                for len in [0, 1, 512, 1200, 4000] {
                    let (question, mut answer) = (vec![len as u8; len], vec![0; 65_535]);
                    socket.send(&question).await?;
                    let len = within(ANSWER, kernel::recv(&socket, &mut answer)).await?;
                    answered += usize::from(answer[..len] == question);
                }
                Ok(answered)
            });
            let answered = answered.await?;
            held.expect(
                answered == 5,
                format!("{answered} datagrams of up to 4000 bytes to {to} came back"),
            )?;
            let burst = self.lab.as_client(async move || burst(&connected(to).await?).await).await?;
            held.expect(
                burst == BURST.len(),
                format!("{burst} datagrams of changing lengths, sent in a row to {to}, came back in order"),
            )?;
            if refusals {
                let closed = SocketAddr::new(servers.host(v6, 0), servers.closed);
                let refused = self.lab.as_client(async move || {
                    let socket = connected(closed).await?;
                    socket.send(b"anybody?").await?;
                    Ok(within(ANSWER, kernel::recv(&socket, &mut [0; 9])).await.err())
                });
                let what = format!("{closed}, where nobody listens, refuses a datagram");
                held.expect_error(refused.await?, io::ErrorKind::ConnectionRefused, what)?;
            } else {
                let to = SocketAddr::new(servers.host(v6, 0), servers.udp_other);
                let other = self.lab.as_client(async move || {
                    let any = if v6 { "[::]:0" } else { "0.0.0.0:0" };
                    let socket = UdpSocket::bind(any).await?;
                    socket.send_to(b"question", to).await?;
                    Ok(within(ANSWER, socket.recv_from(&mut [0; 9])).await?.1)
                });
                let other = other.await?;
                let differs = other.ip() == to.ip() && other.port() != to.port();
                held.expect(differs, format!("a question to {to} is answered by {other}"))?;
            }
        }
        Ok(())
    }

    /// Names that the proxy answers for itself, whomever the client asks.
    ///
    /// # Errors
    /// If something does not hold.
    pub async fn check_names(
        &self,
        held: &mut Checks,
        (name, address): (&'static str, &str),
    ) -> io::Result<()> {
        let expected: IpAddr = address.parse().map_err(io::Error::other)?;
        let mut query = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            query.push(label.len() as u8);
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, 1, 0, 1]);
        let expected_tail = match expected {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let over_udp = {
            let query = query.clone();
            self.lab.as_client(async move || {
                let socket = connected(([203, 0, 113, 53], 53).into()).await?;
                socket.send(&query).await?;
                let mut answer = vec![0; 512];
                let len = within(ANSWER, kernel::recv(&socket, &mut answer)).await?;
                answer.truncate(len);
                Ok(answer)
            })
        };
        let over_tcp = self.lab.as_client(async move || {
            let mut stream = TcpStream::connect("203.0.113.53:53").await?;
            stream.write_all(&[&(query.len() as u16).to_be_bytes(), &query[..]].concat()).await?;
            let len = stream.read_u16().await?;
            let mut answer = vec![0; len.into()];
            stream.read_exact(&mut answer).await?;
            Ok(answer)
        });
        for (how, answer) in [("UDP", over_udp.await?), ("TCP", over_tcp.await?)] {
            held.expect(answer.ends_with(&expected_tail), format!("{name} is {expected}, asked over {how}"))?;
        }
        Ok(())
    }

    /// Pings.
    ///
    /// # Errors
    /// If something does not hold.
    pub async fn check_pings(&self, held: &mut Checks) -> io::Result<()> {
        for v6 in [false, true] {
            let to = self.servers.host(v6, 3);
            let took = self.lab.as_client(async move || ping(to).await).await?;
            held.expect(true, format!("a ping of {to} is answered in {took:.2?}"))?;
        }
        Ok(())
    }
}

async fn connected(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).await?;
    socket.connect(to).await?;
    Ok(socket)
}

async fn within<T>(limit: Duration, result: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, result).await?
}

/// Why a connection fails. tokio has been seen to call one established whose socket had failed by an ICMP error and knew
/// it a moment later.
async fn failure(to: SocketAddr) -> Option<io::Error> {
    match TcpStream::connect(to).await {
        Err(error) => Some(error),
        Ok(stream) if stream.peer_addr().is_err() => stream.take_error().ok().flatten(),
        Ok(_) => None,
    }
}

/// Sends an echo request by an ICMP socket, and waits for the reply.
async fn ping(to: IpAddr) -> io::Result<Duration> {
    let (domain, protocol, request, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking(), Some(protocol))?;
    socket.connect(&SocketAddr::new(to, 0).into())?;
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))?;
    let begin = Instant::now();
    socket.send(&[&[request, 0, 0, 0, 0, 0, 0, 7], &b"anybody?"[..]].concat()).await?;
    let mut answer = [0; 100];
    let len = within(ANSWER, kernel::recv(&socket, &mut answer)).await?;
    if (answer[0], &answer[6..len]) != (reply, &[&[0, 7], &b"anybody?"[..]].concat()[..]) {
        return Err(io::Error::other(format!("{to} answered a ping with {:?}", &answer[..len])));
    }
    Ok(begin.elapsed())
}

/// The lengths of datagrams that are sent in a row: some of one length, shorter and longer ones between them, and
/// such as have to be fragmented.
const BURST: [usize; 24] = [
    1200, 1200, 1200, 1200, 500, 1200, 1200, 0, 64, 64, 64, 64, 65, 64, 4000, 4000, 4000, 1, 1472, 1472,
    1472, 1473, 9, 9,
];

/// Sends them to an echo, and counts the answers until one is not the next.
async fn burst(socket: &UdpSocket) -> io::Result<usize> {
    let datagrams = BURST.iter().zip(1..).map(|(&len, byte)| vec![byte; len]).collect::<Vec<_>>();
    for datagram in &datagrams {
        socket.send(datagram).await?;
    }
    let mut answer = vec![0; 65_535];
    for (number, datagram) in datagrams.iter().enumerate() {
        let len = within(ANSWER, kernel::recv(socket, &mut answer)).await?;
        if answer[..len] != *datagram {
            return Ok(number);
        }
    }
    Ok(datagrams.len())
}
