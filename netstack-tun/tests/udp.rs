//! Several UDP datagrams that cross a TUN device as one packet: Linux 6.2 and later, and older kernels without.

mod common;

use common::{UDP, receive};
use netstack_tun::netns::isolated;
use netstack_tun::{Tun, TunConfig};
use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;

const SIZE: u16 = 1200;

/// `UDP_SEGMENT`: what is sent in one call is datagrams of this length.
fn set_segment_size(socket: &UdpSocket, size: u16) {
    let value = libc::c_int::from(size);
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: UDP_SEGMENT takes an `int`, which `value` is and which outlives the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, (&raw const value).cast(), len)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
}

#[test]
fn datagrams_of_one_call_arrive_as_one_packet_where_the_kernel_can() {
    isolated("datagrams_of_one_call_arrive_as_one_packet_where_the_kernel_can", || {
        let config = TunConfig::new("tun0").address("10.9.0.1/24").unwrap().address("fd09::1/64").unwrap();
        let tun = Tun::open(&config).unwrap();
        println!("the kernel divides and combines UDP datagrams: {}", tun.udp_offload());
        for (kernel, stack) in [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")] {
            let (kernel, stack): (IpAddr, IpAddr) = (kernel.parse().unwrap(), stack.parse().unwrap());
            let socket = UdpSocket::bind((kernel, 0)).unwrap();
            set_segment_size(&socket, SIZE);
            let payload: Vec<u8> = (0..10 * usize::from(SIZE) + 5).map(|n| (n % 251) as u8).collect();
            socket.send_to(&payload, (stack, 53)).unwrap();
            let mut received: Vec<u8> = Vec::new();
            let mut packets = 0;
            while received.len() < payload.len() {
                let packet = receive(&tun, 0, |packet| packet.ip() == (UDP, kernel, stack));
                assert_eq!(packet.meta.gso_size, tun.udp_offload().then_some(SIZE), "{kernel}");
                received.extend(&packet.transport()[8..]);
                packets += 1;
            }
            assert!(received == payload);
            assert_eq!(packets, if tun.udp_offload() { 1 } else { 11 }, "{kernel}");
        }
    });
}
