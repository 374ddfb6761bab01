//! Devices that take less than is sent.

use super::*;

#[test]
fn what_a_device_does_not_take_waits_in_order_and_is_bounded() {
    let mut net = Net::pair(7, LinkSpec { queue: 4, ..LinkSpec::default() });
    let server = bind(&net, 1, "0.0.0.0:53");
    let client = bind_with(&net, 0, "0.0.0.0:4000", |socket| socket.send_buffer = 20_000).unwrap();
    let mut sent = 0u32;
    let mut payload = vec![0; 1000];
    let mut send = |net: &Net| loop {
        payload[..4].copy_from_slice(&sent.to_be_bytes());
        match client.send_to(net, &payload, "10.0.0.2:53") {
            Ok(_) => sent += 1,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return sent,
            Err(error) => panic!("{error}"),
        }
    };
    let first = send(&net);
    assert!((20..=25).contains(&first), "{first}: four on the way, and 20,000 bytes");
    assert!(net.engine(0).has_waiting(net.engine(0).core().queues().next().unwrap()));
    assert!(!net.engine(0).is_drained());
    assert_eq!(net.engine(0).counters().udp_sndbuf_errors, 1);
    let _ = client.events.take();
    net.run_for(SECOND);
    assert_eq!(client.events.take(), Events::WRITABLE, "told once there is room");
    assert!(net.engine(0).is_drained());
    let all = send(&net);
    assert!(all >= first + 20);
    // A socket that is closed sends what it has taken.
    client.close(&net);
    net.run_for(SECOND);
    let received: Vec<_> = server.recv_all(&net);
    assert_eq!(received.len(), all as usize);
    assert!(received.iter().enumerate().all(|(n, payload)| payload[..4] == (n as u32).to_be_bytes()));
    assert!(net.engine(0).is_drained());
}

#[test]
fn fragments_that_wait_are_sent_too() {
    let mut net = Net::pair(7, LinkSpec { queue: 2, ..LinkSpec::default() });
    let server = bind(&net, 1, "0.0.0.0:53");
    let client = bind(&net, 0, "0.0.0.0:4000");
    client.send_to(&net, &[7; 10_000], "10.0.0.2:53").unwrap();
    client.send_to(&net, b"behind", "10.0.0.2:53").unwrap();
    net.run_for(SECOND);
    assert_eq!(server.recv_all(&net), [vec![7; 10_000], b"behind".to_vec()]);
}

#[test]
fn what_waits_for_a_device_that_is_gone_is_given_up() {
    let mut net = Net::pair(7, LinkSpec { queue: 1, ..LinkSpec::default() });
    let client = bind(&net, 0, "10.0.0.1:4000");
    for _ in 0..5 {
        client.send_to(&net, b"x", "10.0.0.2:53").unwrap();
    }
    assert!(!net.engine(0).is_drained());
    net.cable.pull();
    net.settle();
    assert!(net.engine(0).is_drained());
    assert!(!net.engine(0).has_waiting(net.engine(0).core().queues().next().unwrap()));
}
