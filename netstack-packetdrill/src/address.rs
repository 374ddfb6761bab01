//! Socket addresses in the form of C.

use crate::{Call, Errno};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// Reads a `sockaddr`; none if its family is `AF_UNSPEC`.
///
/// # Errors
/// `EINVAL` if it is too short, `EAFNOSUPPORT` for another family.
pub fn decode(raw: &[u8]) -> Call<Option<SocketAddr>> {
    let Some((family, rest)) = raw.split_first_chunk::<2>() else { return Err(Errno(libc::EINVAL)) };
    match i32::from(u16::from_ne_bytes(*family)) {
        libc::AF_UNSPEC => Ok(None),
        libc::AF_INET => {
            let fields = rest.first_chunk::<6>().ok_or(Errno(libc::EINVAL))?;
            let [p0, p1, a, b, c, d] = *fields;
            Ok(Some((Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p0, p1])).into()))
        }
        libc::AF_INET6 => {
            // Port, flow information, address; the scope follows.
            let fields = rest.first_chunk::<22>().ok_or(Errno(libc::EINVAL))?;
            let address: [u8; 16] = fields[6..].try_into().expect("22 bytes less 6");
            let port = u16::from_be_bytes([fields[0], fields[1]]);
            Ok(Some((Ipv6Addr::from(address), port).into()))
        }
        _ => Err(Errno(libc::EAFNOSUPPORT)),
    }
}

/// Writes a `sockaddr_in` or a `sockaddr_in6`.
pub fn encode(address: SocketAddr) -> Vec<u8> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut raw = (family as u16).to_ne_bytes().to_vec();
    raw.extend(address.port().to_be_bytes());
    match address {
        SocketAddr::V4(address) => {
            raw.extend(address.ip().octets());
            raw.extend([0; 8]);
        }
        SocketAddr::V6(address) => {
            raw.extend([0; 4]);
            raw.extend(address.ip().octets());
            raw.extend(address.scope_id().to_ne_bytes());
        }
    }
    raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back_with_the_sizes_of_c() {
        for (text, size) in [
            ("192.0.2.1:8080", size_of::<libc::sockaddr_in>()),
            ("[2001:db8::1]:80", size_of::<libc::sockaddr_in6>()),
            ("[::ffff:192.0.2.1]:80", size_of::<libc::sockaddr_in6>()),
        ] {
            let address = text.parse().unwrap();
            let raw = encode(address);
            assert_eq!(raw.len(), size);
            assert_eq!(decode(&raw), Ok(Some(address)));
        }
    }

    #[test]
    fn what_is_no_address() {
        assert_eq!(decode(&[0; 16]), Ok(None));
        assert_eq!(decode(&[1]), Err(Errno(libc::EINVAL)));
        let v6 = encode("[::1]:1".parse().unwrap());
        assert_eq!(decode(&v6[..20]), Err(Errno(libc::EINVAL)));
        assert_eq!(decode(&(libc::AF_UNIX as u16).to_ne_bytes()), Err(Errno(libc::EAFNOSUPPORT)));
    }
}
