//! The servers, which are of the kernel.

use super::lab::{COUNT_V6, SERVERS_V6};
use crate::kernel;
use crate::services;
use crate::socks5::{Server, Socks5};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

const LOGIN: (&str, &str) = ("proxy", "p@ssword");

const FIRST_V4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 1);

/// Where the servers are: those of TCP at every address of 198.18.0.0/15 and at some of IPv6, those of UDP at the
/// first of both.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    /// Sends back what it receives until the client is done, over TCP.
    pub echo: u16,
    /// Reads a byte, and resets the connection.
    pub reset: u16,
    /// Sends what it was asked for: a number of bytes, as eight bytes in network order.
    pub source: u16,
    /// Never reads.
    pub deaf: u16,
    /// Answers requests of HTTP/1.1, on one connection as long as the client wants.
    pub web: u16,
    /// Sends datagrams back.
    pub udp_echo: u16,
    /// Answers datagrams from another port, and not from this one.
    pub udp_other: u16,
    /// Nobody listens.
    pub closed: u16,
}

impl Addresses {
    /// A host of the servers.
    pub fn host(self, v6: bool, number: u32) -> IpAddr {
        if v6 {
            return Ipv6Addr::from_bits(SERVERS_V6 + u128::from(number) % COUNT_V6).into();
        }
        Ipv4Addr::from_bits(FIRST_V4.to_bits() + number).into()
    }
}

/// The running servers.
#[derive(Debug)]
pub struct Servers {
    addresses: Addresses,
    socks: Socks5,
    /// Dropped with this.
    _tasks: JoinSet<io::Result<()>>,
}

impl Servers {
    /// Starts them in the network namespace of this thread, as tasks of the current runtime.
    ///
    /// # Errors
    /// Those of the sockets.
    pub async fn start() -> io::Result<Self> {
        let mut tasks = JoinSet::new();
        let mut ports = Vec::new();
        let services: [fn(TcpStream) -> Served; 5] = [
            |stream| Box::pin(async { services::echo(stream).await.map(drop) }),
            |stream| Box::pin(reset(stream)),
            |stream| Box::pin(source(stream)),
            |stream| Box::pin(deaf(stream)),
            |stream| Box::pin(web(stream)),
        ];
        for serve in services {
            let listener = listen()?;
            ports.push(listener.local_addr()?.port());
            tasks.spawn(accept(listener, serve));
        }
        for from_another in [false, true] {
            let mut port = 0;
            for v6 in [false, true] {
                let socket = udp(v6, port).await?;
                port = socket.local_addr()?.port();
                let other = if from_another { Some(udp(v6, 0).await?) } else { None };
                tasks.spawn(echo_datagrams(socket, other));
            }
            ports.push(port);
        }
        ports.push(listen()?.local_addr()?.port());
        let [echo, reset, source, deaf, web, udp_echo, udp_other, closed] =
            ports.try_into().map_err(|_| io::Error::other("eight servers"))?;
        let addresses = Addresses { echo, reset, source, deaf, web, udp_echo, udp_other, closed };
        let listener = kernel::listen("127.0.0.1:0".parse().map_err(io::Error::other)?)?;
        let login = Some((LOGIN.0.to_owned(), LOGIN.1.to_owned()));
        let socks = Socks5 { server: listener.local_addr()?, login };
        tasks.spawn(Server::new(listener, LOGIN.0, LOGIN.1).run());
        Ok(Self { addresses, socks, _tasks: tasks })
    }

    /// Where they are.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The SOCKS5 server, and who may use it.
    pub fn socks(&self) -> Socks5 {
        self.socks.clone()
    }
}

type Served = std::pin::Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// At all addresses of both families.
fn listen() -> io::Result<TcpListener> {
    kernel::listen(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)))
}

/// At the first address of the family, since a socket at all addresses answers from one of them.
async fn udp(v6: bool, port: u16) -> io::Result<UdpSocket> {
    UdpSocket::bind((first_host(v6), port)).await
}

fn first_host(v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::from_bits(SERVERS_V6).into() } else { FIRST_V4.into() }
}

async fn accept(listener: TcpListener, serve: fn(TcpStream) -> Served) -> io::Result<()> {
    let mut clients = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        clients.spawn(serve(stream));
        while clients.try_join_next().is_some() {}
    }
}

async fn reset(mut stream: TcpStream) -> io::Result<()> {
    stream.read_u8().await?;
    stream.set_zero_linger()
}

async fn source(mut stream: TcpStream) -> io::Result<()> {
    let len = stream.read_u64().await?;
    let mut zeros = tokio::io::repeat(0).take(len);
    tokio::io::copy_buf(&mut BufReader::with_capacity(256 << 10, &mut zeros), &mut stream).await?;
    Ok(())
}

async fn deaf(stream: TcpStream) -> io::Result<()> {
    let _stream = stream;
    std::future::pending().await
}

async fn web(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    loop {
        let before = head.len();
        if stream.read_line(&mut head).await? == 0 {
            return Ok(());
        }
        if head.len() - before > 2 {
            continue;
        }
        let is_last = head.to_ascii_lowercase().contains("connection: close");
        let connection = if is_last { "close" } else { "keep-alive" };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: {connection}\r\n\r\nhello");
        stream.write_all(answer.as_bytes()).await?;
        if is_last {
            return stream.shutdown().await;
        }
        head.clear();
    }
}

/// Sends datagrams back: from the socket that they came to, at the address that was asked, or from another socket.
async fn echo_datagrams(socket: UdpSocket, other: Option<UdpSocket>) -> io::Result<()> {
    let mut buffer = vec![0; 65_535];
    loop {
        let (len, client) = socket.recv_from(&mut buffer).await?;
        let answers = other.as_ref().unwrap_or(&socket);
        // What cannot be sent is lost, as on the way.
        let _ = answers.send_to(&buffer[..len], client).await;
    }
}
