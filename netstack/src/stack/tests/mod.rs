//! Scenarios in virtual time over two engines.

mod addresses;
mod answering;
mod any_ip;
mod arriving;
mod closing;
mod ending;
mod fast_open;
mod forwarder;
mod gro;
mod headers;
mod interfaces;
mod late;
mod leaving;
mod listening;
mod lossy;
mod memory;
mod mtu;
mod opening;
mod path;
mod pending;
mod pending_fast_open;
mod reasons;
mod rest;
mod same_flow;
mod tails;
mod udp;

use super::testing::{LinkSpec, Net, address};
use super::{Engine, Family};
use crate::tcp::State;
use crate::time::Duration;
use std::net::{Shutdown, SocketAddr};

const SECOND: Duration = Duration::from_secs(1);

fn to_host_1(port: u16) -> SocketAddr {
    SocketAddr::new(address(1, Family::V4), port)
}

/// Nothing is left of any connection.
#[track_caller]
fn assert_empty(engine: &Engine) {
    let left = (
        engine.tcp().connections(),
        engine.tcp().time_waits(),
        engine.tcp().orphans(),
        engine.tcp().ports_in_use(),
    );
    assert_eq!(left, (0, 0, 0, 0), "connections, TIME-WAITs, orphans, ports");
    assert_eq!(engine.tcp().armed_deadlines(), 0, "deadlines");
}

#[test]
fn connect_echo_and_close_leave_nothing_behind() {
    let mut net = Net::pair(1, LinkSpec::default());
    let (client, server) = net.connected();
    assert_eq!(net.transfer(&client, &server, b"ping", SECOND), b"ping");
    assert_eq!(net.transfer(&server, &client, b"pong", SECOND), b"pong");
    net.close(client);
    net.run_for(SECOND);
    assert_eq!(net.read_available(&server), (vec![], true));
    net.close(server);
    net.run_for(SECOND);
    assert_eq!((net.engine(0).tcp().connections(), net.engine(0).tcp().time_waits()), (0, 1));
    assert_empty(net.engine(1));
    net.run_for(60 * SECOND);
    assert_empty(net.engine(0));
}

#[test]
fn a_large_transfer_arrives_with_and_without_offloads() {
    for offloads in [false, true] {
        let mut net = Net::pair(2, LinkSpec { offloads, ..LinkSpec::default() });
        let (client, server) = net.connected();
        let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let received = net.transfer(&client, &server, &bytes, 60 * SECOND);
        assert!(received == bytes, "offloads: {offloads}");
    }
}

#[test]
fn a_port_without_listener_refuses() {
    let mut net = Net::pair(3, LinkSpec::default());
    let client = net.connect(0, to_host_1(9)).unwrap();
    net.run_for(SECOND);
    let error = client.cell.connect_result().unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
    net.close(client);
    assert_empty(net.engine(0));
    assert_empty(net.engine(1));
}

#[test]
fn nobody_there_times_out_after_the_syn_retries() {
    let mut net = Net::pair(4, LinkSpec::default());
    let nobody = "10.0.0.77:80".parse().unwrap();
    let start = net.now;
    let client = net.connect(0, nobody).unwrap();
    net.run_until(200 * SECOND, |_| client.cell.connect_result().is_some());
    assert_eq!(
        (net.now - start).as_secs(),
        131,
        "four retransmissions at even intervals, and six that back off"
    );
    let sent: Vec<_> = net.cable.take_trace().iter().map(|syn| (syn.at - start).as_secs()).collect();
    assert_eq!(sent, [0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67]);
    let error = client.cell.connect_result().unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
    net.close(client);
    assert_empty(net.engine(0));
}

#[test]
fn half_close_lets_the_other_direction_go_on() {
    let mut net = Net::pair(5, LinkSpec::default());
    let (client, server) = net.connected();
    net.engine(0).with_tcp(net.now, |tcp, turn| tcp.shutdown(turn, &client.cell, Shutdown::Write)).unwrap();
    net.run_for(SECOND);
    assert_eq!(net.read_available(&server), (vec![], true));
    assert_eq!((net.state(&client), net.state(&server)), (State::FinWait2, State::CloseWait));
    assert_eq!(net.transfer(&server, &client, b"still here", SECOND), b"still here");
}
