//! The client.

use super::wire::{
    AUTH_VERSION, CONNECT, NO_AUTH, NO_METHOD, PASSWORD, UDP_ASSOCIATE, VERSION, error_of, invalid,
    parse_udp_header, put_address, read_address, with_udp_header,
};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// A SOCKS5 server, and who its client is.
#[derive(Clone, PartialEq, Eq)]
pub struct Socks5 {
    /// Its address.
    pub server: SocketAddr,
    /// The name and the password, if it asks for them.
    pub login: Option<(String, String)>,
}

impl fmt::Debug for Socks5 {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.login.as_ref().map(|(name, _)| name);
        f.debug_struct("Socks5").field("server", &self.server).field("name", &name).finish()
    }
}

impl Socks5 {
    /// From `[user:password@]host:port`, where the host is an address.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (login, server) = match text.rsplit_once('@') {
            Some((login, server)) => (Some(login), server),
            None => (None, text),
        };
        let server = server.parse().map_err(|_| format!("'{server}' is no address with a port"))?;
        let login = match login.map(|login| login.split_once(':')) {
            None => None,
            Some(None) => return Err("a name without ':' and a password".to_owned()),
            // RFC 1929 §2: a byte counts each, and none is empty.
            Some(Some((name, password))) => {
                let fits = |text: &str| (1..=255).contains(&text.len());
                if !fits(name) || !fits(password) {
                    return Err("a name or a password that is empty or longer than 255 bytes".to_owned());
                }
                Some((name.to_owned(), password.to_owned()))
            }
        };
        Ok(Self { server, login })
    }

    /// Has the server connect to `to`. `stream` is a connection to the server.
    ///
    /// # Errors
    /// Those that the server had, by their kind; of kind `PermissionDenied` if it does not accept the login; of
    /// kind `InvalidData` if it does not speak SOCKS5.
    pub async fn connect(&self, mut stream: TcpStream, to: SocketAddr) -> io::Result<TcpStream> {
        self.negotiate(&mut stream).await?;
        request(&mut stream, CONNECT, to).await?;
        Ok(stream)
    }

    /// Has the server relay datagrams. `control` is a connection to the server, and `socket` a socket that can
    /// send to it.
    ///
    /// # Errors
    /// As [`Socks5::connect`].
    pub async fn associate(&self, mut control: TcpStream, socket: UdpSocket) -> io::Result<Association> {
        self.negotiate(&mut control).await?;
        // RFC 1928 §4: what the client does not know is all zeros.
        let unknown = if self.server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let unknown = unknown.parse().map_err(io::Error::other)?;
        let mut relay = request(&mut control, UDP_ASSOCIATE, unknown).await?;
        if relay.ip().is_unspecified() {
            relay.set_ip(self.server.ip());
        }
        socket.connect(relay).await?;
        Ok(Association { control, socket })
    }

    async fn negotiate(&self, stream: &mut TcpStream) -> io::Result<()> {
        let methods: &[u8] = if self.login.is_some() { &[NO_AUTH, PASSWORD] } else { &[NO_AUTH] };
        stream.write_all(&[&[VERSION, methods.len() as u8], methods].concat()).await?;
        let [version, method] = read(stream).await?;
        if version != VERSION {
            return Err(invalid("the server does not speak SOCKS5"));
        }
        match (method, &self.login) {
            (NO_AUTH, _) => Ok(()),
            (PASSWORD, Some((name, password))) => {
                let mut login = vec![AUTH_VERSION, name.len() as u8];
                login.extend(name.as_bytes());
                login.push(password.len() as u8);
                login.extend(password.as_bytes());
                stream.write_all(&login).await?;
                let [_, status] = read(stream).await?;
                let text = "the SOCKS5 server does not accept the name and password";
                if status == 0 { Ok(()) } else { Err(io::Error::new(io::ErrorKind::PermissionDenied, text)) }
            }
            (NO_METHOD | PASSWORD, _) => {
                let text = "the SOCKS5 server wants another way to log in";
                Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
            }
            _ => Err(invalid("the SOCKS5 server selects a method that was not offered")),
        }
    }
}

async fn read<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Sends a request, and gives the address in the answer.
async fn request(stream: &mut TcpStream, command: u8, to: SocketAddr) -> io::Result<SocketAddr> {
    let mut bytes = vec![VERSION, command, 0];
    put_address(&mut bytes, to);
    stream.write_all(&bytes).await?;
    let [version, reply, _] = read(stream).await?;
    if version != VERSION {
        return Err(invalid("the server does not speak SOCKS5"));
    }
    error_of(reply).map_or(Ok(()), Err)?;
    read_address(stream).await
}

/// A relay of datagrams, which lasts as long as its control connection.
#[derive(Debug)]
pub struct Association {
    control: TcpStream,
    socket: UdpSocket,
}

impl Association {
    /// Sends a datagram to `to`.
    ///
    /// # Errors
    /// Those of the socket.
    pub async fn send_to(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.send(&with_udp_header(to, payload)).await.map(drop)
    }

    /// Receives a datagram into `buf`. Gives its payload's place there, and its sender. What the server sends
    /// that is not one is left out.
    ///
    /// # Errors
    /// Those of the socket; of kind `ConnectionAborted` if the server ends the relay.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn recv_from(&self, buf: &mut [u8]) -> io::Result<(Range<usize>, SocketAddr)> {
        loop {
            tokio::select! {
                len = self.socket.recv(buf) => {
                    let len = len?;
                    if let Some((from, header)) = parse_udp_header(&buf[..len]) {
                        return Ok((header..len, from));
                    }
                }
                readable = self.control.readable() => {
                    readable?;
                    match self.control.try_read(&mut [0; 64]) {
                        Ok(0) => {
                            let text = "the SOCKS5 server ended the relay";
                            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, text));
                        }
                        // Nothing that means something can come.
                        Ok(_) => {}
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_and_logins_are_read() {
        let plain = Socks5::parse("192.0.2.1:1080").unwrap();
        assert_eq!((plain.server, plain.login), ("192.0.2.1:1080".parse().unwrap(), None));
        let login = Socks5::parse("me:p@ss:word@[2001:db8::1]:1080").unwrap();
        assert_eq!(login.login, Some(("me".to_owned(), "p@ss:word".to_owned())));
        assert!(!format!("{login:?}").contains("word"), "no password in a log");
        for wrong in ["example.org:1080", "192.0.2.1", "me@192.0.2.1:1", ":x@192.0.2.1:1"] {
            assert!(Socks5::parse(wrong).is_err(), "{wrong}");
        }
    }
}
