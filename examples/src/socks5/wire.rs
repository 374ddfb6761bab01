//! The bytes of SOCKS5.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

pub(super) const VERSION: u8 = 5;
/// RFC 1929 §2: the version of the negotiation of names and passwords.
pub(super) const AUTH_VERSION: u8 = 1;

pub(super) const NO_AUTH: u8 = 0;
pub(super) const PASSWORD: u8 = 2;
pub(super) const NO_METHOD: u8 = 0xff;

pub(super) const CONNECT: u8 = 1;
pub(super) const UDP_ASSOCIATE: u8 = 3;

const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// The longest header of a datagram without a name: RSV, FRAG, ATYP, an IPv6 address, the port.
pub(super) const MAX_UDP_HEADER: usize = 3 + 1 + 16 + 2;

/// RFC 1928 §6, the reply field, as an error; none for success.
pub(super) fn error_of(reply: u8) -> Option<io::Error> {
    let (kind, text) = match reply {
        0 => return None,
        2 => (io::ErrorKind::PermissionDenied, "not allowed by ruleset"),
        3 => (io::ErrorKind::NetworkUnreachable, "network unreachable"),
        4 => (io::ErrorKind::HostUnreachable, "host unreachable"),
        5 => (io::ErrorKind::ConnectionRefused, "connection refused"),
        6 => (io::ErrorKind::HostUnreachable, "TTL expired"),
        7 => (io::ErrorKind::Unsupported, "command not supported"),
        8 => (io::ErrorKind::Unsupported, "address type not supported"),
        _ => (io::ErrorKind::Other, "general SOCKS server failure"),
    };
    Some(io::Error::new(kind, format!("SOCKS5 server: {text}")))
}

/// The reply field for the outcome of what a client asked for.
pub(super) fn reply_to(error: &io::Error) -> u8 {
    match error.kind() {
        io::ErrorKind::PermissionDenied => 2,
        io::ErrorKind::NetworkUnreachable => 3,
        io::ErrorKind::HostUnreachable | io::ErrorKind::TimedOut => 4,
        io::ErrorKind::ConnectionRefused => 5,
        io::ErrorKind::Unsupported => 7,
        _ => 1,
    }
}

pub(super) fn invalid(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// Appends ATYP, address and port.
pub(super) fn put_address(to: &mut Vec<u8>, address: SocketAddr) {
    match address.ip() {
        IpAddr::V4(ip) => {
            to.push(IPV4);
            to.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            to.push(IPV6);
            to.extend(ip.octets());
        }
    }
    to.extend(address.port().to_be_bytes());
}

/// Reads ATYP, address and port.
pub(super) async fn read_address(from: &mut (impl AsyncRead + Unpin)) -> io::Result<SocketAddr> {
    let ip = match from.read_u8().await? {
        IPV4 => {
            let mut octets = [0; 4];
            from.read_exact(&mut octets).await?;
            IpAddr::from(octets)
        }
        IPV6 => {
            let mut octets = [0; 16];
            from.read_exact(&mut octets).await?;
            IpAddr::from(octets)
        }
        NAME => return Err(io::Error::new(io::ErrorKind::Unsupported, "a name where an address belongs")),
        _ => return Err(invalid("an unknown type of address")),
    };
    Ok(SocketAddr::new(ip, from.read_u16().await?))
}

/// RFC 1928 §7: the header of a datagram. Gives the address and the length of the header; none for what is
/// not one, is a fragment or has a name.
pub(super) fn parse_udp_header(datagram: &[u8]) -> Option<(SocketAddr, usize)> {
    let [_, _, 0, kind, rest @ ..] = datagram else { return None };
    let (ip, len): (IpAddr, usize) = match *kind {
        IPV4 => (Ipv4Addr::from(*rest.first_chunk::<4>()?).into(), 4),
        IPV6 => (Ipv6Addr::from(*rest.first_chunk::<16>()?).into(), 16),
        _ => return None,
    };
    let port = u16::from_be_bytes(*rest.get(len..)?.first_chunk()?);
    Some((SocketAddr::new(ip, port), 4 + len + 2))
}

/// A datagram with its header.
pub(super) fn with_udp_header(address: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(MAX_UDP_HEADER + payload.len());
    datagram.extend([0, 0, 0]);
    put_address(&mut datagram, address);
    datagram.extend(payload);
    datagram
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_datagrams() {
        for address in ["192.0.2.7:53", "[2001:db8::7]:65535"] {
            let address = address.parse().unwrap();
            let datagram = with_udp_header(address, b"payload");
            let (found, len) = parse_udp_header(&datagram).unwrap();
            assert_eq!((found, &datagram[len..]), (address, &b"payload"[..]));
            assert!((0..len).all(|short| parse_udp_header(&datagram[..short]).is_none()));
            let mut fragment = datagram;
            fragment[2] = 1;
            assert_eq!(parse_udp_header(&fragment), None);
        }
    }

    #[tokio::test]
    async fn addresses_of_streams() {
        let address: SocketAddr = "[2001:db8::7]:443".parse().unwrap();
        let mut bytes = Vec::new();
        put_address(&mut bytes, address);
        assert_eq!(read_address(&mut &bytes[..]).await.unwrap(), address);
        let name = [NAME, 1, b'a', 0, 80];
        assert_eq!(read_address(&mut &name[..]).await.unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
}
