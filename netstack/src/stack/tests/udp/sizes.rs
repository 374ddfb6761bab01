//! Long datagrams: fragments, path MTUs, and several datagrams in one call.

use super::*;
use crate::config::MtuDiscover;
use crate::datagram::Gathered;
use crate::stack::UdpReceived;
use crate::stack::testing::{Hop, too_big};
use std::io::IoSliceMut;

fn patterned(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 31 % 251) as u8).collect()
}

#[test]
fn a_long_datagram_is_sent_in_fragments_and_put_together() {
    for offloads in [false, true] {
        for (local, peer, max) in [("0.0.0.0:0", "10.0.0.2:53", 65_507), ("[::]:0", "[fd00::2]:53", 65_527)] {
            let mut net = Net::pair(7, LinkSpec { offloads, ..LinkSpec::default() });
            let server = bind(&net, 1, "[::]:53");
            let client = bind(&net, 0, local);
            let header = if peer.starts_with('[') { 48 } else { 28 };
            for (len, fragmented) in
                [(1500 - header, false), (1501 - header, true), (4000, true), (max, true)]
            {
                let payload = patterned(len);
                client.send_to(&net, &payload, peer).unwrap();
                net.run_for(SECOND);
                let passed = net.cable.take_trace();
                assert!(passed.iter().all(|passing| passing.bytes.len() <= 1500));
                assert_eq!(passed.iter().all(|passing| passing.ip.fragment.is_some()), fragmented, "{len}");
                assert_eq!(server.recv_all(&net), [payload], "{peer} {len}");
            }
            assert_eq!(net.engine(0).counters().fragmented, 3);
            assert_eq!(errno(client.send_to(&net, &vec![0; max + 1], peer)), Some(libc::EMSGSIZE));
            assert_eq!(errno(client.send_to(&net, &vec![0; 70_000], peer)), Some(libc::EMSGSIZE));
        }
    }
}

/// The lengths on the wire, whether DF is set, and the error, of a datagram of 2000 bytes and one of 1200.
#[test]
fn each_mode_treats_long_datagrams_as_linux_does() {
    use MtuDiscover::*;
    // The path has 1280 bytes, and the interface 1500: with 28 bytes of headers.
    for (mode, long, middle, short) in [
        (Dont, Some((2, false)), Some((2, false)), Some((1, false))),
        (Want, Some((2, false)), Some((2, false)), Some((1, true))),
        (Do, None, None, Some((1, true))),
        (Probe, None, Some((1, true)), Some((1, true))),
        (Interface, None, Some((1, false)), Some((1, false))),
        (Omit, Some((2, false)), Some((1, false)), Some((1, false))),
    ] {
        let mut net = net();
        // Another socket has learned the MTU of the path.
        let other = bind(&net, 0, "0.0.0.0:1");
        other.send_to(&net, &[0; 1400], "10.0.0.2:9").unwrap();
        let sent = net.cable.take_trace().remove(0);
        net.cable.inject(net.now, 0, &too_big(&sent.bytes, 1280));
        net.settle();
        assert_eq!(net.engine(0).destinations(net.now)[0].mtu.unwrap().bytes, 1280);
        let socket = bind(&net, 0, "0.0.0.0:2");
        socket.cell.with_options(|options| options.mtu_discover = mode);
        for (len, expected) in [(2000, long), (1400, middle), (1200, short)] {
            let outcome = socket.send_to(&net, &vec![0; len], "10.0.0.2:9");
            let passed: Vec<_> =
                net.cable.take_trace().into_iter().filter(|passing| passing.from == 0).collect();
            match expected {
                None => {
                    assert_eq!((errno(outcome), passed.len()), (Some(libc::EMSGSIZE), 0), "{mode:?} {len}")
                }
                Some((packets, df)) => {
                    assert_eq!((outcome.unwrap(), passed.len()), (len, packets), "{mode:?} {len}");
                    assert!(
                        passed.iter().all(|passing| (passing.bytes[6] & 0x40 != 0) == df),
                        "{mode:?} {len}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_tcp_learns_of_a_path_udp_knows_and_the_other_way_round() {
    let mut net = net();
    let (client, server) = net.connected();
    net.cable.set_hop(Some(Hop { mtu: 1000, claims: Some(1000) }));
    assert_eq!(net.transfer(&client, &server, &[7; 20_000], 10 * SECOND).len(), 20_000);
    let _ = net.cable.take_trace();
    let socket = bind(&net, 0, "0.0.0.0:0");
    let receiver = bind(&net, 1, "0.0.0.0:53");
    socket.send_to(&net, &[0; 1200], "10.0.0.2:53").unwrap();
    net.run_for(SECOND);
    assert!(net.cable.take_trace().iter().all(|passing| passing.bytes.len() <= 1000));
    assert_eq!(receiver.recv_all(&net).len(), 1);
    // And from UDP to TCP: a router with less.
    net.cable.set_hop(Some(Hop { mtu: 700, claims: Some(700) }));
    socket.connect(&net, "10.0.0.2:53").unwrap();
    socket.send(&net, &[0; 900]).unwrap();
    net.run_for(SECOND);
    assert_eq!(errno(socket.recv(&net)), Some(libc::EMSGSIZE), "a connected socket is told");
    let _ = net.cable.take_trace();
    assert_eq!(net.transfer(&client, &server, &[7; 20_000], 10 * SECOND).len(), 20_000);
    assert!(
        net.cable.take_trace().iter().all(|passing| passing.bytes.len() <= 700),
        "without a loss of its own"
    );
}

#[test]
fn a_router_cannot_make_datagrams_smaller_than_the_floor() {
    let mut net = net();
    let socket = bind(&net, 0, "0.0.0.0:1");
    for claimed in [0, 67] {
        socket.send_to(&net, &[0; 1400], "10.0.0.2:9").unwrap();
        let sent = net.cable.take_trace().remove(0);
        net.cable.inject(net.now, 0, &too_big(&sent.bytes, claimed));
        net.settle();
        let known = net.engine(0).destinations(net.now)[0].mtu.unwrap();
        assert_eq!((known.bytes, known.locked), (552, true), "{claimed}");
        net.engine(0).forget_destinations();
    }
    let v6 = bind(&net, 0, "[::]:2");
    v6.send_to(&net, &[0; 1400], "[fd00::2]:9").unwrap();
    let sent = net.cable.take_trace().into_iter().rfind(|passing| passing.ip.src.is_ipv6()).unwrap();
    net.cable.inject(net.now, 0, &too_big(&sent.bytes, 1279));
    net.settle();
    assert!(net.engine(0).destinations(net.now).is_empty(), "RFC 8201 section 4");
}

#[test]
fn several_datagrams_are_sent_and_received_in_one_call() {
    for offloads in [false, true] {
        let mut net = Net::pair(7, LinkSpec { offloads, ..LinkSpec::default() });
        let server = bind(&net, 1, "0.0.0.0:53");
        let client = bind(&net, 0, "0.0.0.0:4000");
        let contents = patterned(10_300);
        let send = |net: &Net, size: usize, contents: &[u8]| {
            let destination = Some(to_host_1(53));
            let message = Transmission { destination, ..Transmission::new(contents) };
            client.transmit(net, &Transmission { segment_size: Some(size), ..message })
        };
        assert_eq!(send(&net, 1000, &contents).unwrap(), contents.len());
        net.run_for(SECOND);
        assert!(
            net.cable
                .take_trace()
                .iter()
                .all(|passing| { offloads || passing.bytes.len() <= 1028 && passing.ip.fragment.is_none() })
        );
        let engine = net.engine(1);
        let mut to = vec![0; 65_536];
        let mut found = Vec::new();
        let each = |_, received: UdpReceived| found.push((received.origin.source, received.gathered));
        let used =
            engine.udp().gather(engine.core(), &server.cell, &mut [IoSliceMut::new(&mut to)], each).unwrap();
        assert_eq!(used, 1);
        let sender = "10.0.0.1:4000".parse().unwrap();
        assert_eq!(found, [(sender, Gathered { len: 10_300, stride: 1000 })]);
        assert_eq!(to[..10_300], contents);
        // One by one, too.
        send(&net, 1000, &contents).unwrap();
        net.run_for(SECOND);
        let received = server.recv_all(&net);
        assert_eq!(received.iter().map(Vec::len).collect::<Vec<_>>(), [vec![1000; 10], vec![300]].concat());
        assert_eq!(received.concat(), contents);
        assert_eq!(errno(send(&net, 0, &contents)), Some(libc::EINVAL));
        assert_eq!(errno(send(&net, 100, &contents)), Some(libc::EINVAL), "more than 64");
        assert_eq!(errno(send(&net, 1473, &contents)), Some(libc::EMSGSIZE), "longer than the MTU");
    }
}
