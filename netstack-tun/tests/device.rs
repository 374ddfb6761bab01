//! Opening, attaching, refusing, and packets that cross in both directions.

mod common;

use common::{Datagram, Packet, TCP, UDP, Work, is, persist, readable, receive, send, send_udp, try_receive};
use netstack::device::{Device, TxPacket};
use netstack::time::Instant;
use netstack_tun::netns::isolated;
use netstack_tun::{Tun, TunConfig, interface};
use std::io;
use std::net::{IpAddr, TcpStream, UdpSocket};
use std::time::Duration;

/// The kernel is .1 and ::1, the stack .2 and ::2.
fn config() -> TunConfig {
    TunConfig::new("tun0").address("10.9.0.1/24").unwrap().address("fd09::1/64").unwrap()
}

fn families() -> [(IpAddr, IpAddr); 2] {
    [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")]
        .map(|(kernel, stack)| (kernel.parse().unwrap(), stack.parse().unwrap()))
}

/// What an attempt to open says: one line of this kind.
fn refusal(config: &TunConfig, kind: io::ErrorKind) -> String {
    let err = Tun::open(config).expect_err("this device cannot be opened");
    assert_eq!(err.kind(), kind, "{err}");
    let text = err.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

#[test]
fn a_created_device_is_as_configured_and_goes_with_its_owner() {
    isolated("a_created_device_is_as_configured_and_goes_with_its_owner", || {
        let tun = Tun::open(&config().mtu(1400)).unwrap();
        assert_eq!((tun.name(), tun.mtu(), tun.queues(), tun.created()), ("tun0", 1400, 1, true));
        let capabilities = tun.capabilities();
        assert!(capabilities.checksum_offload && capabilities.segmentation_offload);
        let seen = interface::get("tun0").unwrap();
        assert_eq!((seen.mtu, seen.tx_queue_len, seen.up), (1400, TunConfig::DEFAULT_TX_QUEUE_LEN, true));
        assert_eq!(seen.kind.as_deref(), Some("tun"));
        for (kernel, _) in families() {
            UdpSocket::bind((kernel, 0)).expect("the address is usable at once");
        }
        drop(tun);
        assert!(!interface::exists("tun0").unwrap());
    });
}

#[test]
fn the_kernel_chooses_a_free_number() {
    isolated("the_kernel_chooses_a_free_number", || {
        let first = Tun::open(&TunConfig::default()).unwrap();
        let second = Tun::open(&TunConfig::default().tx_queue_len(77)).unwrap();
        assert_eq!((first.name(), second.name()), ("tun0", "tun1"));
        assert_eq!(interface::get("tun1").unwrap().tx_queue_len, 77);
    });
}

#[test]
fn udp_crosses_both_ways() {
    isolated("udp_crosses_both_ways", || {
        for offload in [true, false] {
            let tun = Tun::open(&config().offload(offload)).unwrap();
            for (kernel, stack) in families() {
                let socket = UdpSocket::bind((kernel, 0)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let port = socket.local_addr().unwrap().port();

                socket.send_to(b"from the kernel", (stack, 4444)).unwrap();
                let packet = receive(&tun, 0, is(UDP));
                assert_eq!(packet.ip(), (UDP, kernel, stack));
                assert_eq!(&packet.transport()[8..], b"from the kernel");
                assert_eq!(packet.meta.checksum_verified, offload);
                assert_eq!(packet.meta.gso_size, None);

                let works = if offload { &[Work::Done, Work::Checksum][..] } else { &[Work::Done] };
                for &work in works {
                    send_udp(
                        &tun,
                        0,
                        &Datagram {
                            from: (stack, 4444).into(),
                            to: (kernel, port).into(),
                            payload: b"to the kernel",
                        },
                        work,
                    )
                    .unwrap();
                    let mut buf = [0; 64];
                    let received = socket.recv_from(&mut buf);
                    let (len, from) =
                        received.unwrap_or_else(|err| panic!("{kernel}, {work:?}, offload {offload}: {err}"));
                    assert_eq!((&buf[..len], from), (&b"to the kernel"[..], (stack, 4444).into()));
                }
            }
            assert_eq!(tun.refused(), 0);
        }
    });
}

#[test]
fn the_kernel_answers_pings() {
    isolated("the_kernel_answers_pings", || {
        let tun = Tun::open(&config()).unwrap();
        for ((kernel, stack), (protocol, request, reply)) in
            families().into_iter().zip([(1, 8, 0), (58, 128, 129)])
        {
            if protocol == 1 {
                // RFC 792 sums the message alone: without the pseudo-header that `send` adds.
                let echo = [request, 0, 0, 0, 0, 1, 0, 1];
                let checksum = !(u16::from(request) << 8).wrapping_add(2);
                let mut header = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 10, 9, 0, 2, 10, 9, 0, 1];
                let words: u32 = header.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum();
                let ip_checksum = !((words & 0xffff) + (words >> 16)) as u16;
                header[10..12].copy_from_slice(&ip_checksum.to_be_bytes());
                let mut echo = echo.to_vec();
                echo[2..4].copy_from_slice(&checksum.to_be_bytes());
                let packet = TxPacket { header: &header, payload: &[&echo], checksum: None, gso: None };
                tun.transmit(Instant::ZERO, 0, &packet).unwrap();
            } else {
                let echo = [request, 0, 0, 0, 0, 1, 0, 1];
                let packet = Packet {
                    protocol,
                    from: stack,
                    to: kernel,
                    transport: &echo,
                    checksum_at: 2,
                    payload: &[],
                };
                send(&tun, 0, &packet, Work::Done).unwrap();
            }
            let packet = receive(&tun, 0, |packet| {
                packet.ip() == (protocol, kernel, stack) && packet.transport()[0] == reply
            });
            assert_eq!(packet.transport()[4..], [0, 1, 0, 1]);
        }
    });
}

#[test]
fn a_syn_of_the_kernel_leaves_its_checksum_to_the_device() {
    isolated("a_syn_of_the_kernel_leaves_its_checksum_to_the_device", || {
        for offload in [true, false] {
            let tun = Tun::open(&config().offload(offload)).unwrap();
            for (kernel, stack) in families() {
                // The kernel's time cannot be paused: as short as it takes to send the SYN.
                let limit = Duration::from_millis(1);
                TcpStream::connect_timeout(&(stack, 7).into(), limit).expect_err("nobody answers");
                let packet = receive(&tun, 0, |packet| packet.ip() == (TCP, kernel, stack));
                assert_eq!((packet.tcp().destination, packet.tcp().flags & common::SYN), (7, common::SYN));
                assert_eq!(packet.meta.checksum_verified, offload);
            }
        }
    });
}

#[test]
fn two_queues() {
    isolated("two_queues", || {
        let tun = Tun::open(&config().queues(2)).unwrap();
        assert_eq!((tun.queues(), tun.capabilities().queues), (2, 2));
        let (kernel, stack) = families()[0];
        let socket = UdpSocket::bind((kernel, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let port = socket.local_addr().unwrap().port();
        for queue in [0, 1] {
            let flow = 4000 + queue as u16;
            send_udp(
                &tun,
                queue,
                &Datagram { from: (stack, flow).into(), to: (kernel, port).into(), payload: b"x" },
                Work::Checksum,
            )
            .unwrap();
            socket.recv_from(&mut [0; 8]).unwrap();
        }
        // Enough flows that each queue gets some of them.
        for port in 5000..5064 {
            socket.send_to(b"y", (stack, port)).unwrap();
        }
        for queue in [0, 1] {
            receive(&tun, queue, is(UDP));
        }
        // Another process can attach to a device that was created for several queues with one
        // queue.
        let third = Tun::open(&TunConfig::new("tun0")).unwrap();
        assert!(!third.created());
        let text = refusal(&TunConfig::new("tun0").offload(false), io::ErrorKind::ResourceBusy);
        assert_eq!(text, "TUN device tun0 is in use by another process with offloads: open it likewise");
    });
}

#[test]
fn a_busy_device_and_a_wrong_one_are_refused_in_one_line() {
    isolated("a_busy_device_and_a_wrong_one_are_refused_in_one_line", || {
        let tun = Tun::open(&TunConfig::new("tun0")).unwrap();
        let text = refusal(&TunConfig::new("tun0"), io::ErrorKind::ResourceBusy);
        assert!(text.starts_with("TUN device tun0 is in use by another process"), "{text}");
        let text = refusal(&TunConfig::new("tun0").queues(2), io::ErrorKind::InvalidInput);
        assert!(text.contains("single queue"), "{text}");
        let text = refusal(&TunConfig::new("lo"), io::ErrorKind::InvalidInput);
        assert_eq!(text, "the interface lo exists and is not a TUN device: choose another name");
        let text = refusal(&TunConfig::new("a-name-of-16-byt"), io::ErrorKind::InvalidInput);
        assert!(text.contains("longer than 15 bytes"), "{text}");
        assert_eq!(tun.refused(), 0);
    });
}

#[test]
fn a_failure_leaves_nothing_behind() {
    isolated("a_failure_leaves_nothing_behind", || {
        // The kernel accepts no MTU above 65535.
        let err = Tun::open(&config().mtu(100_000)).unwrap_err();
        assert!(err.to_string().contains("tun0: setting its MTU to 100000"), "{err}");
        assert!(!interface::exists("tun0").unwrap());
    });
}

#[test]
fn an_existing_device_is_left_as_it_is_but_for_what_is_asked() {
    isolated("an_existing_device_is_left_as_it_is_but_for_what_is_asked", || {
        let tun = Tun::open(&config().mtu(1300).tx_queue_len(50)).unwrap();
        persist(&tun);
        drop(tun);
        interface::down("tun0").unwrap();
        let made = interface::get("tun0").unwrap();

        let tun = Tun::open(&TunConfig::new("tun0")).unwrap();
        assert_eq!((tun.created(), tun.mtu()), (false, 1300));
        assert_eq!(interface::get("tun0").unwrap(), made);
        drop(tun);

        // A partial change is undone: the MTU of an interface with IPv6 is at least 1280.
        let other = || TunConfig::new("tun0").address("10.8.0.1/24").unwrap();
        let bad = other().mtu(1290).tx_queue_len(60).address("ff02::99/64").unwrap();
        Tun::open(&bad).expect_err("a multicast address is nobody's");
        assert_eq!(interface::get("tun0").unwrap(), made);
        UdpSocket::bind("10.8.0.1:0").expect_err("the address is gone");

        // An address that exists already is not an error.
        let tun = Tun::open(&other().address("10.9.0.1/24").unwrap().mtu(1290).tx_queue_len(60)).unwrap();
        assert_eq!(tun.mtu(), 1290);
        let seen = interface::get("tun0").unwrap();
        assert_eq!((seen.mtu, seen.tx_queue_len, seen.up), (1290, 60, true));
        UdpSocket::bind("10.8.0.1:0").unwrap();
        drop(tun);
        assert!(interface::exists("tun0").unwrap());
    });
}

#[test]
fn a_deleted_device_says_so() {
    isolated("a_deleted_device_says_so", || {
        let tun = Tun::open(&config()).unwrap();
        let (kernel, stack) = families()[0];
        while try_receive(&tun, 0).is_ok() {}
        interface::delete("tun0").unwrap();
        assert!(readable(&tun, 0, 5_000), "the reactor wakes up");
        for err in [
            try_receive(&tun, 0).err().unwrap(),
            send_udp(
                &tun,
                0,
                &Datagram { from: (stack, 1).into(), to: (kernel, 1).into(), payload: b"x" },
                Work::Checksum,
            )
            .unwrap_err(),
        ] {
            assert_eq!(err.kind(), io::ErrorKind::NotConnected);
            assert_eq!(err.to_string(), "TUN device tun0 is gone");
        }
    });
}

#[test]
fn a_device_that_is_down_loses_packets_and_lives() {
    isolated("a_device_that_is_down_loses_packets_and_lives", || {
        let tun = Tun::open(&config()).unwrap();
        let (kernel, stack) = families()[0];
        let socket = UdpSocket::bind((kernel, 9)).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        interface::down("tun0").unwrap();
        send_udp(
            &tun,
            0,
            &Datagram { from: (stack, 1).into(), to: (kernel, 9).into(), payload: b"lost" },
            Work::Checksum,
        )
        .unwrap();
        assert_eq!(tun.refused(), 1);
        // Drains what was queued, and the router solicitations.
        while try_receive(&tun, 0).is_ok() {}
        assert_eq!(try_receive(&tun, 0).err().unwrap().kind(), io::ErrorKind::WouldBlock);
        interface::up("tun0").unwrap();
        send_udp(
            &tun,
            0,
            &Datagram { from: (stack, 1).into(), to: (kernel, 9).into(), payload: b"kept" },
            Work::Checksum,
        )
        .unwrap();
        let mut buf = [0; 8];
        assert_eq!(socket.recv(&mut buf).unwrap(), 4);
        assert_eq!((&buf[..4], tun.refused()), (&b"kept"[..], 1));
    });
}

#[test]
fn malformed_packets_are_lost_alone() {
    isolated("malformed_packets_are_lost_alone", || {
        for offload in [true, false] {
            let tun = Tun::open(&config().offload(offload)).unwrap();
            for header in [[0; 40], [0xf0; 40]] {
                let packet = TxPacket { header: &header, payload: &[], checksum: None, gso: None };
                tun.transmit(Instant::ZERO, 0, &packet).unwrap();
            }
            assert_eq!(tun.refused(), 2);
            let (kernel, stack) = families()[0];
            let socket = UdpSocket::bind((kernel, 9)).unwrap();
            send_udp(
                &tun,
                0,
                &Datagram { from: (stack, 1).into(), to: (kernel, 9).into(), payload: b"kept" },
                Work::Done,
            )
            .unwrap();
            assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 4);
        }
    });
}

#[test]
fn work_is_not_left_to_a_device_without_offloads() {
    isolated("work_is_not_left_to_a_device_without_offloads", || {
        let tun = Tun::open(&config().offload(false)).unwrap();
        let capabilities = tun.capabilities();
        assert!(!capabilities.checksum_offload && !capabilities.segmentation_offload);
        let (kernel, stack) = families()[0];
        let err = send_udp(
            &tun,
            0,
            &Datagram { from: (stack, 1).into(), to: (kernel, 1).into(), payload: b"x" },
            Work::Checksum,
        )
        .unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::InvalidInput);
        let pieces = [&b"x"[..]; netstack::buffer::MAX_PIECES + 1];
        let packet = TxPacket { header: &[0x45; 20], payload: &pieces, checksum: None, gso: None };
        assert_eq!(tun.transmit(Instant::ZERO, 0, &packet).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    });
}

/// A descriptor of an open device, as an unprivileged process inherits it.
fn inherited(tun: &Tun) -> std::os::fd::OwnedFd {
    tun.queue_fd(0).try_clone_to_owned().unwrap()
}

#[test]
fn an_inherited_descriptor_is_a_device() {
    isolated("an_inherited_descriptor_is_a_device", || {
        for offload in [true, false] {
            let opened = Tun::open(&config().mtu(1400).offload(offload)).unwrap();
            let wrong = Tun::from_fd(inherited(&opened), 1400, !offload).unwrap_err();
            assert_eq!(wrong.kind(), io::ErrorKind::InvalidInput, "{wrong}");
            let tun = Tun::from_fd(inherited(&opened), 1400, offload).unwrap();
            drop(opened);
            assert_eq!((tun.name(), tun.mtu(), tun.offload(), tun.created()), ("tun0", 1400, offload, false));
            for (kernel, stack) in families() {
                let socket = UdpSocket::bind((kernel, 0)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                socket.send_to(b"from the kernel", (stack, 4444)).unwrap();
                let packet = receive(&tun, 0, is(UDP));
                assert_eq!(packet.ip(), (UDP, kernel, stack));
                assert_eq!(packet.meta.checksum_verified, offload);
                let to = socket.local_addr().unwrap();
                let datagram = Datagram { from: (stack, 4444).into(), to, payload: b"back" };
                send_udp(&tun, 0, &datagram, if offload { Work::Checksum } else { Work::Done }).unwrap();
                let mut buf = [0; 8];
                assert_eq!(socket.recv_from(&mut buf).unwrap(), (4, (stack, 4444).into()));
            }
            drop(tun);
            assert!(!interface::exists("tun0").unwrap(), "it went with its last descriptor");
        }
    });
}

#[test]
fn a_descriptor_that_is_no_tun_device_is_what_the_caller_says() {
    let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let tun = Tun::from_fd(ours.into(), 1280, false).unwrap();
    assert_eq!((tun.name(), tun.capabilities().mtu), ("", 1280));
    let mut buf = netstack::buffer::Pool::new().take();
    let empty = tun.receive(Instant::ZERO, 0, &mut buf).unwrap_err();
    assert_eq!(empty.kind(), io::ErrorKind::WouldBlock, "it was blocking before");
    theirs.send(b"packet").unwrap();
    let meta = tun.receive(Instant::ZERO, 0, &mut buf).unwrap();
    assert_eq!(&buf.bytes()[..meta.len], b"packet");
    tun.transmit(
        Instant::ZERO,
        0,
        &TxPacket { header: b"an", payload: &[b"swer"], checksum: None, gso: None },
    )
    .unwrap();
    let mut answer = [0; 16];
    assert_eq!(theirs.recv(&mut answer).unwrap(), 6);
}

/// Whether they are exchanged in one piece or in several, and with one buffer for all of them.
#[test]
fn packets_of_every_size_are_whole() {
    for offload in [false, true] {
        let (ours, theirs) = std::os::unix::net::UnixDatagram::pair().unwrap();
        let tun = Tun::from_fd(ours.into(), 65_535, offload).unwrap();
        let front = if offload { 10 } else { 0 };
        let bytes: Vec<u8> = (0..65_535u32).map(|n| (n % 251) as u8).collect();
        let mut buf = netstack::buffer::Pool::new().take();
        let mut seen = vec![0; 70_000];
        for len in [1, 40, 41, 1500, 2037, 2038, 2039, 2047, 2048, 2049, 4000, 65_534, 65_535].repeat(3) {
            let whole = [vec![0; front], bytes[..len].to_vec()].concat();
            theirs.send(&whole).unwrap();
            let meta = tun.receive(Instant::ZERO, 0, &mut buf).unwrap();
            assert!(buf.bytes()[..meta.len] == bytes[..len], "{len}, in");
            let (header, payload) = bytes[..len].split_at(len.min(40));
            let (first, second) = payload.split_at(payload.len() / 3);
            let packet = TxPacket { header, payload: &[first, second], checksum: None, gso: None };
            tun.transmit(Instant::ZERO, 0, &packet).unwrap();
            let got = theirs.recv(&mut seen).unwrap();
            assert!(seen[..got] == whole, "{len}, out");
        }
    }
}

#[test]
fn a_device_of_another_namespace_serves_its_programs() {
    isolated("a_device_of_another_namespace_serves_its_programs", || {
        let other = netstack_tun::netns::Namespace::new().unwrap();
        let path =
            format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&other)));
        let tun = Tun::open(&config().namespace(&path)).unwrap();
        assert!(!interface::exists("tun0").unwrap(), "it is not here");
        assert!(other.run(|| interface::exists("tun0")).unwrap().unwrap());
        for (kernel, stack) in families() {
            let socket = other.run(|| UdpSocket::bind((kernel, 0))).unwrap().unwrap();
            socket.send_to(b"from there", (stack, 4444)).unwrap();
            assert_eq!(receive(&tun, 0, is(UDP)).ip(), (UDP, kernel, stack));
        }
        let none = Tun::open(&config().namespace("/nowhere")).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::NotFound);
        assert!(none.to_string().starts_with("cannot enter the network namespace /nowhere: "), "{none}");
    });
}
