//! What tokio-util has for tokio's concrete types.

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use netstack::net::TcpStream;
use netstack::net::tokio_util::UdpFramed;
use netstack_ecosystem::place::{CLIENT, Place, SERVER};
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::codec::{BytesCodec, Decoder, Encoder, LinesCodec};
use tokio_util::net::Listener;

#[tokio::test(start_paused = true)]
async fn a_listener_is_one_of_tokio_utils() {
    async fn first<L: Listener<Io = TcpStream, Addr = SocketAddr>>(
        mut listener: L,
    ) -> (TcpStream, SocketAddr) {
        assert_eq!(listener.local_addr().unwrap(), (SERVER, 80).into());
        listener.accept().await.unwrap()
    }
    let Place { server, client } = Place::memory().unwrap();
    let listener = server.listen((SERVER, 80)).await.unwrap();
    let client = client.unwrap();
    let (stream, accepted) = tokio::join!(client.connect((SERVER, 80)), first(listener));
    let (mut stream, (mut peer, addr)) = (stream.unwrap(), accepted);
    assert_eq!(addr, stream.local_addr().unwrap());
    peer.write_all(b"x").await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'x');
}

/// Frames of one byte; a zero is an error that leaves the rest.
struct Bytewise;

impl Decoder for Bytewise {
    type Item = u8;
    type Error = io::Error;

    fn decode(&mut self, src: &mut BytesMut) -> io::Result<Option<u8>> {
        if src.is_empty() {
            return Ok(None);
        }
        match src.split_to(1)[0] {
            0 => Err(ErrorKind::InvalidData.into()),
            byte => Ok(Some(byte)),
        }
    }
}

impl Encoder<u8> for Bytewise {
    type Error = io::Error;

    fn encode(&mut self, byte: u8, dst: &mut BytesMut) -> io::Result<()> {
        dst.extend_from_slice(&[byte]);
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_datagram_is_decoded_to_its_end() {
    let Place { server, client } = Place::memory().unwrap();
    let socket = client.unwrap().udp_socket((CLIENT, 1000)).await.unwrap();
    let framed = server.udp_socket((SERVER, 1000)).await.unwrap();
    let mut framed = UdpFramed::new(framed, Bytewise);
    for datagram in [&[1, 2][..], &[], &[3, 0, 4], &[5]] {
        socket.send_to(datagram, (SERVER, 1000)).await.unwrap();
    }
    let from = SocketAddr::from((CLIENT, 1000));
    for expected in [Some(1), Some(2), Some(3), None, Some(4), Some(5)] {
        let frame = framed.next().await.unwrap();
        match expected {
            Some(byte) => assert_eq!(frame.unwrap(), (byte, from)),
            None => assert_eq!(frame.unwrap_err().kind(), ErrorKind::InvalidData),
        }
    }
    framed.send((7, from)).await.unwrap();
    let mut buf = [0; 9];
    assert_eq!(socket.recv_from(&mut buf).await.unwrap(), (1, (SERVER, 1000).into()));
    assert_eq!(buf[0], 7);
    assert_eq!(framed.into_inner().local_addr().unwrap().port(), 1000);
}

#[tokio::test(start_paused = true)]
async fn two_halves_share_a_socket_and_an_error_of_sending_is_one() {
    let Place { server, client: _client } = Place::memory().unwrap();
    let socket = Arc::new(server.udp_socket((SERVER, 1000)).await.unwrap());
    let mut lines = UdpFramed::new(Arc::clone(&socket), LinesCodec::new());
    let mut bytes = UdpFramed::new(socket, BytesCodec::new());
    let own = SocketAddr::from((SERVER, 1000));
    bytes.send((bytes::Bytes::from_static(b"a\nb"), own)).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), ("a".to_owned(), own));
    assert_eq!(lines.next().await.unwrap().unwrap(), ("b".to_owned(), own));
    let large = bytes::Bytes::from(vec![0; 70_000]);
    assert_eq!(bytes.send((large, own)).await.unwrap_err().raw_os_error(), Some(90), "EMSGSIZE");
    // It is over with that datagram.
    bytes.send((bytes::Bytes::from_static(b"c\n"), own)).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap().0, "c");
}
