//! Multicast and broadcast.

use super::*;

const GROUP: &str = "239.1.2.3:5000";
const GROUP_V6: &str = "[ff05::77]:5000";

fn join(net: &Net, socket: &Udp) {
    let engine = net.engine(socket.host);
    let (udp, core) = (engine.udp(), engine.core());
    udp.join_v4(core, &socket.cell, [239, 1, 2, 3].into(), [0, 0, 0, 0].into()).unwrap();
    udp.join_v6(core, &socket.cell, "ff05::77".parse().unwrap(), 0).unwrap();
}

#[test]
fn members_get_what_is_sent_to_their_group() {
    for group in [GROUP, GROUP_V6] {
        let mut net = net();
        let receivers: Vec<_> = ["[::]:5000", "[::]:5000"]
            .into_iter()
            .map(|local| bind_with(&net, 1, local, |socket| socket.ip.set_reuse_address(true)).unwrap())
            .collect();
        let sender = bind(&net, 0, "[::]:0");
        sender.send_to(&net, b"before", group).unwrap();
        net.run_for(SECOND);
        assert!(receivers.iter().all(|socket| socket.recv(&net).is_err()), "nobody has joined");
        join(&net, &receivers[0]);
        sender.send_to(&net, b"joined", group).unwrap();
        net.run_for(SECOND);
        assert_eq!(receivers[0].recv_all(&net), [b"joined".to_vec()], "{group}");
        assert_eq!(receivers[1].recv_all(&net), [b"joined".to_vec()], "IP_MULTICAST_ALL is on");
        receivers[1].cell.with_options(|options| options.multicast_all = false);
        sender.send_to(&net, b"members only", group).unwrap();
        net.run_for(SECOND);
        assert_eq!(receivers.iter().map(|socket| socket.recv_all(&net).len()).collect::<Vec<_>>(), [1, 0]);
        receivers[0].close(&net);
        sender.send_to(&net, b"after", group).unwrap();
        net.run_for(SECOND);
        assert!(receivers[1].recv(&net).is_err(), "closing is leaving");
        assert_eq!(net.engine(1).counters().icmp_out, 0, "no error about a group");
    }
}

#[test]
fn a_group_hears_itself_if_it_wants_to() {
    for (group, v6) in [(GROUP, false), (GROUP_V6, true)] {
        let mut net = net();
        let member = bind(&net, 0, "[::]:5000");
        join(&net, &member);
        let set_loop = |on| {
            member.cell.with_options(|options| {
                if v6 { options.multicast_loop_v6 = on } else { options.multicast_loop_v4 = on }
            })
        };
        let set_ttl = |ttl| {
            member.cell.with_options(|options| {
                if v6 { options.multicast_hops = ttl } else { options.multicast_ttl = ttl }
            })
        };
        for (looped, ttl, heard, left) in
            [(true, 1, 1, 1), (false, 1, 0, 1), (true, 0, 1, 0), (false, 0, 0, 0)]
        {
            set_loop(looped);
            set_ttl(ttl);
            member.send_to(&net, b"x", group).unwrap();
            net.settle();
            let passed = net.cable.take_trace();
            assert_eq!((member.recv_all(&net).len(), passed.len()), (heard, left), "{group} {looped} {ttl}");
            assert!(passed.iter().all(|passing| passing.ip.hop_limit == ttl));
        }
    }
}

#[test]
fn groups_are_joined_and_left_as_in_linux() {
    let net = net();
    let socket = bind(&net, 0, "[::]:5000");
    let v4_only = bind(&net, 0, "0.0.0.0:5001");
    let engine = net.engine(0);
    let (udp, core) = (engine.udp(), engine.core());
    let join = |group: [u8; 4], on: [u8; 4]| udp.join_v4(core, &socket.cell, group.into(), on.into());
    let leave = |group: [u8; 4], on: [u8; 4]| udp.leave_v4(core, &socket.cell, group.into(), on.into());
    assert_eq!(errno(join([10, 0, 0, 1], [0; 4])), Some(libc::EINVAL));
    assert_eq!(errno(join([239, 1, 1, 1], [10, 0, 0, 9])), Some(libc::ENODEV));
    join([239, 1, 1, 1], [10, 0, 0, 1]).unwrap();
    assert_eq!(errno(join([239, 1, 1, 1], [10, 0, 0, 1])), Some(libc::EADDRINUSE));
    join([239, 1, 1, 1], [127, 0, 0, 1]).unwrap();
    assert_eq!(errno(leave([239, 1, 1, 2], [0; 4])), Some(libc::EADDRNOTAVAIL));
    leave([239, 1, 1, 1], [0; 4]).unwrap();
    leave([239, 1, 1, 1], [127, 0, 0, 1]).unwrap();
    assert_eq!(errno(leave([239, 1, 1, 1], [0; 4])), Some(libc::EADDRNOTAVAIL));
    let group = "ff05::1".parse().unwrap();
    assert_eq!(errno(udp.join_v6(core, &socket.cell, "fd00::1".parse().unwrap(), 0)), Some(libc::EINVAL));
    assert_eq!(errno(udp.join_v6(core, &socket.cell, group, 9)), Some(libc::ENODEV));
    assert_eq!(errno(udp.join_v6(core, &v4_only.cell, group, 0)), Some(libc::ENOPROTOOPT));
    udp.join_v6(core, &socket.cell, group, 1).unwrap();
    assert_eq!(errno(udp.join_v6(core, &socket.cell, group, 0)), Some(libc::EADDRINUSE));
    udp.leave_v6(core, &socket.cell, group, 0).unwrap();
    for n in 0..20 {
        join([239, 2, 2, n], [0; 4]).unwrap();
    }
    assert_eq!(errno(join([239, 3, 3, 3], [0; 4])), Some(libc::ENOBUFS));
}

#[test]
fn the_interface_of_a_group_can_be_chosen() {
    let mut net = net();
    let member = bind(&net, 0, "0.0.0.0:5000");
    let engine = Arc::clone(net.engine(0));
    let (udp, core) = (engine.udp(), engine.core());
    udp.join_v4(core, &member.cell, [239, 1, 2, 3].into(), [127, 0, 0, 1].into()).unwrap();
    member.send_to(&net, b"outside", GROUP).unwrap();
    net.settle();
    assert_eq!((net.cable.take_trace().len(), member.recv_all(&net).len()), (1, 0), "not a member there");
    udp.set_multicast_if_v4(core, &member.cell, [127, 0, 0, 1].into()).unwrap();
    assert_eq!(udp.multicast_if_v4(core, &member.cell).to_string(), "127.0.0.1");
    member.send_to(&net, b"inside", GROUP).unwrap();
    net.settle();
    assert_eq!((net.cable.take_trace().len(), member.recv_all(&net)), (0, vec![b"inside".to_vec()]));
    assert_eq!(
        errno(udp.set_multicast_if_v4(core, &member.cell, [10, 0, 0, 9].into())),
        Some(libc::EADDRNOTAVAIL)
    );
    udp.set_multicast_if_v4(core, &member.cell, [0, 0, 0, 0].into()).unwrap();
    assert!(udp.multicast_if_v4(core, &member.cell).is_unspecified());
}

#[test]
fn a_socket_bound_to_a_group_gets_nothing_else() {
    let mut net = net();
    let member = bind(&net, 1, GROUP);
    join_v4_only(&net, &member);
    let sender = bind(&net, 0, "0.0.0.0:0");
    sender.send_to(&net, b"group", GROUP).unwrap();
    sender.send_to(&net, b"host", "10.0.0.2:5000").unwrap();
    net.run_for(SECOND);
    assert_eq!(member.recv_all(&net), [b"group".to_vec()]);
    // What it sends comes from an address of the host.
    member.send_to(&net, b"x", "10.0.0.1:9").unwrap();
    assert_eq!(net.cable.take_trace().last().unwrap().ip.src.to_string(), "10.0.0.2");
}

fn join_v4_only(net: &Net, socket: &Udp) {
    let engine = net.engine(socket.host);
    engine.udp().join_v4(engine.core(), &socket.cell, [239, 1, 2, 3].into(), [0, 0, 0, 0].into()).unwrap();
}

#[test]
fn a_broadcast_reaches_all_with_permission() {
    for to in ["10.0.0.255:5000", "255.255.255.255:5000"] {
        let mut net = net();
        let everybody: Vec<_> = [(0, "0.0.0.0:5000"), (1, "0.0.0.0:5000"), (1, "0.0.0.0:5000")]
            .into_iter()
            .map(|(host, local)| {
                bind_with(&net, host, local, |socket| socket.ip.set_reuse_address(true)).unwrap()
            })
            .collect();
        let single = bind_with(&net, 1, "10.0.0.2:5000", |socket| socket.ip.set_reuse_address(true)).unwrap();
        assert_eq!(errno(everybody[0].send_to(&net, b"x", to)), Some(libc::EACCES));
        everybody[0].cell.with_options(|options| options.broadcast = true);
        everybody[0].send_to(&net, b"all", to).unwrap();
        net.run_for(SECOND);
        for socket in &everybody {
            assert_eq!(socket.recv_all(&net), [b"all".to_vec()], "{to}");
        }
        assert!(single.recv(&net).is_err(), "bound to one address");
        assert_eq!(net.engine(1).counters().icmp_out, 0);
    }
}
