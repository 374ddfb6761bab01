//! Devices of the crate `tun-rs`, with the kernel at the other end.

use netstack::device::Device;
use netstack::{Interface, Stack};
use netstack_tun::TunRs;
use netstack_tun::netns::isolated;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream, UdpSocket};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tun_rs::{DeviceBuilder, SyncDevice};

const MTU: u16 = 1400;

/// The kernel's end is 10.9.0.1.
fn device(builder: DeviceBuilder) -> SyncDevice {
    builder.name("tunrs0").ipv4("10.9.0.1", 24, None).mtu(MTU).build_sync().unwrap()
}

#[test]
fn echo_of_streams_and_datagrams() {
    isolated("echo_of_streams_and_datagrams", || {
        let tun = TunRs::new(device(DeviceBuilder::new()), MTU.into()).unwrap();
        assert_eq!(tun.get_ref().name().unwrap(), "tunrs0");
        assert_eq!(tun.capabilities().mtu, 1400);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stack = runtime.block_on(async {
            let interface = Interface::new(Arc::new(tun)).address("10.9.0.2/24");
            let stack = Stack::builder().interface(interface).build().unwrap();
            let listener = stack.listen("10.9.0.2:7").await.unwrap();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await.unwrap();
                write.shutdown().await.unwrap();
            });
            let socket = stack.udp_socket("10.9.0.2:7").await.unwrap();
            tokio::spawn(async move {
                let mut buf = [0; 8192];
                loop {
                    let (len, from) = socket.recv_from(&mut buf).await.unwrap();
                    socket.send_to(&buf[..len], from).await.unwrap();
                }
            });
            stack
        });

        let said: Vec<u8> = (0..1_000_000u32).flat_map(|number| number.to_le_bytes()).collect();
        let mut stream = TcpStream::connect("10.9.0.2:7").unwrap();
        let mut writer = stream.try_clone().unwrap();
        let heard = std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write_all(&said).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            let mut heard = Vec::new();
            stream.read_to_end(&mut heard).unwrap();
            heard
        });
        assert!(heard == said, "{} bytes of {}", heard.len(), said.len());

        // In one packet, and in fragments.
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
        for len in [5, 8000] {
            socket.send_to(&said[..len], "10.9.0.2:7").unwrap();
            let mut buf = [0; 9000];
            assert_eq!(socket.recv(&mut buf).unwrap(), len);
            assert!(buf[..len] == said[..len]);
        }

        // And the stack as the one that connects.
        let listener = std::net::TcpListener::bind("10.9.0.1:8").unwrap();
        let connecting = runtime.spawn(async move {
            let mut stream = stack.connect("10.9.0.1:8").await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            text
        });
        listener.accept().unwrap().0.write_all(b"hello").unwrap();
        assert_eq!(runtime.block_on(connecting).unwrap(), "hello");
    });
}

#[test]
fn a_virtio_header_is_refused() {
    isolated("a_virtio_header_is_refused", || {
        let device = device(DeviceBuilder::new().offload(true));
        assert_eq!(TunRs::new(device, MTU.into()).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn the_interface_goes_with_the_device() {
    isolated("the_interface_goes_with_the_device", || {
        let tun = TunRs::new(device(DeviceBuilder::new()), MTU.into()).unwrap();
        assert!(netstack_tun::interface::exists("tunrs0").unwrap());
        drop(tun);
        assert!(!netstack_tun::interface::exists("tunrs0").unwrap());
    });
}
