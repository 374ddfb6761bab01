//! A server, for tests: it asks for a name and a password, and counts.

use super::wire::{
    AUTH_VERSION, CONNECT, NO_METHOD, PASSWORD, UDP_ASSOCIATE, VERSION, invalid, parse_udp_header,
    put_address, read_address, reply_to, with_udp_header,
};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// A SOCKS5 server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    login: (String, String),
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    connects: AtomicU64,
    associations: AtomicU64,
    refused_logins: AtomicU64,
}

impl Server {
    /// A server on `listener` for those who know the name and the password.
    pub fn new(listener: TcpListener, name: &str, password: &str) -> Self {
        Self { listener, login: (name.to_owned(), password.to_owned()), counts: Arc::default() }
    }

    /// What it was asked for so far: connections and relays that it made, and logins that it did not accept.
    pub fn counts(&self) -> impl Fn() -> (u64, u64, u64) + Send + 'static {
        let counts = Arc::clone(&self.counts);
        move || {
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            (read(&counts.connects), read(&counts.associations), read(&counts.refused_logins))
        }
    }

    /// Serves for ever.
    ///
    /// # Errors
    /// Those of the listener.
    pub async fn run(self) -> io::Result<()> {
        let login = Arc::new(self.login);
        let mut clients = JoinSet::new();
        loop {
            let (stream, _) = self.listener.accept().await?;
            clients.spawn(serve(stream, Arc::clone(&login), Arc::clone(&self.counts)));
            while clients.try_join_next().is_some() {}
        }
    }
}

async fn serve(mut stream: TcpStream, login: Arc<(String, String)>, counts: Arc<Counts>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if !accept_login(&mut stream, &login).await? {
        counts.refused_logins.fetch_add(1, Ordering::Relaxed);
        return Ok(());
    }
    let mut request = [0; 3];
    stream.read_exact(&mut request).await?;
    let [VERSION, command, _] = request else { return Err(invalid("no SOCKS5")) };
    let to = read_address(&mut stream).await?;
    match command {
        CONNECT => match TcpStream::connect(to).await {
            Ok(mut upstream) => {
                counts.connects.fetch_add(1, Ordering::Relaxed);
                answer(&mut stream, 0, upstream.local_addr()?).await?;
                if copy_bidirectional(&mut stream, &mut upstream).await.is_err() {
                    stream.set_zero_linger()?;
                    upstream.set_zero_linger()?;
                }
                Ok(())
            }
            Err(error) => answer(&mut stream, reply_to(&error), to).await,
        },
        UDP_ASSOCIATE => {
            counts.associations.fetch_add(1, Ordering::Relaxed);
            let relay = UdpSocket::bind((stream.local_addr()?.ip(), 0)).await?;
            answer(&mut stream, 0, relay.local_addr()?).await?;
            let client = stream.peer_addr()?.ip();
            let mut end = [0; 1];
            tokio::select! {
                result = relay_datagrams(&relay, client) => result,
                // The relay lasts as long as the connection.
                ended = stream.read(&mut end) => ended.map(drop),
            }
        }
        _ => answer(&mut stream, 7, to).await,
    }
}

/// RFC 1928 §3 and RFC 1929.
async fn accept_login(stream: &mut TcpStream, (name, password): &(String, String)) -> io::Result<bool> {
    if stream.read_u8().await? != VERSION {
        return Err(invalid("no SOCKS5"));
    }
    if !read_counted(stream).await?.contains(&PASSWORD) {
        stream.write_all(&[VERSION, NO_METHOD]).await?;
        return Ok(false);
    }
    stream.write_all(&[VERSION, PASSWORD]).await?;
    if stream.read_u8().await? != AUTH_VERSION {
        return Err(invalid("no login of RFC 1929"));
    }
    let given = (read_counted(stream).await?, read_counted(stream).await?);
    let right = given == (name.clone().into_bytes(), password.clone().into_bytes());
    stream.write_all(&[AUTH_VERSION, u8::from(!right)]).await?;
    Ok(right)
}

async fn read_counted(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let len = stream.read_u8().await?;
    let mut bytes = vec![0; len.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn answer(stream: &mut TcpStream, reply: u8, address: SocketAddr) -> io::Result<()> {
    let mut bytes = vec![VERSION, reply, 0];
    put_address(&mut bytes, address);
    stream.write_all(&bytes).await
}

/// Relays between the client and everybody else.
async fn relay_datagrams(relay: &UdpSocket, client: IpAddr) -> io::Result<()> {
    let outward = [UdpSocket::bind("0.0.0.0:0").await?, UdpSocket::bind("[::]:0").await?];
    let (mut inward, mut v4, mut v6) = (vec![0; 65_535], vec![0; 65_535], vec![0; 65_535]);
    let mut port = None;
    loop {
        let (from, payload) = tokio::select! {
            received = relay.recv_from(&mut inward) => {
                let (len, from) = received?;
                // RFC 1928 §7: from others than the client nothing is taken.
                if from.ip() == client
                    && let Some((to, header)) = parse_udp_header(&inward[..len])
                {
                    port = Some(from);
                    // What cannot be sent is lost, as on the way.
                    let _ = outward[usize::from(to.is_ipv6())].send_to(&inward[header..len], to).await;
                }
                continue;
            }
            received = outward[0].recv_from(&mut v4) => received.map(|(len, from)| (from, &v4[..len]))?,
            received = outward[1].recv_from(&mut v6) => received.map(|(len, from)| (from, &v6[..len]))?,
        };
        if let Some(port) = port {
            let _ = relay.send_to(&with_udp_header(from, payload), port).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Socks5;
    use super::*;

    #[tokio::test]
    async fn client_and_server_understand_each_other() {
        let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let udp_echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = Server::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), "me", "secret");
        let (address, counts) = (server.listener.local_addr().unwrap(), server.counts());
        tokio::spawn(server.run());
        let login =
            |password: &str| Socks5 { server: address, login: Some(("me".to_owned(), password.to_owned())) };
        let open = || TcpStream::connect(address);
        for login in [login("wrong"), Socks5 { server: address, login: None }] {
            let error = login.connect(open().await.unwrap(), echo.local_addr().unwrap()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        }
        let login = login("secret");
        let (client, served) = tokio::join!(
            async { login.connect(open().await.unwrap(), echo.local_addr().unwrap()).await },
            echo.accept()
        );
        client.unwrap().write_all(b"hello").await.unwrap();
        let mut hello = [0; 5];
        served.unwrap().0.read_exact(&mut hello).await.unwrap();
        assert_eq!(&hello, b"hello");
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = login.connect(open().await.unwrap(), closed).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let association = login.associate(open().await.unwrap(), socket).await.unwrap();
        let to = udp_echo.local_addr().unwrap();
        association.send_to(b"question", to).await.unwrap();
        let mut buf = [0; 100];
        let (len, relay) = udp_echo.recv_from(&mut buf).await.unwrap();
        assert_eq!(&buf[..len], b"question");
        udp_echo.send_to(b"answer", relay).await.unwrap();
        let (payload, from) = association.recv_from(&mut buf).await.unwrap();
        assert_eq!((&buf[payload], from), (&b"answer"[..], to));
        assert_eq!(counts(), (1, 1, 2));
    }
}
