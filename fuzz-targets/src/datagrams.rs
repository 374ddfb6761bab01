//! UDP, any-IP, and addresses that change: datagrams from a hostile peer into a stack with sockets, a forwarder and a
//! listener, while its interface changes.

use crate::packets::{self, Ends, pick};
use crate::world::{Card, Deaf, Host, START, address, span};
use arbitrary::{Result, Unstructured};
use netstack::Config;
use netstack::ip::{Cidr, fragment};
use netstack::readiness::Events;
use netstack::stack::{
    Family, IpRoute, Listener, Transmission, UdpCell, UdpForwarderCell, UdpForwarding, UnboundUdp,
};
use netstack::time::{Duration, Instant};
use netstack::wire::{Flags, IcmpMessage, Segment, SeqNum};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// Packets that one step may make a stack send.
const MOST_PACKETS: usize = 2_000;

/// Sockets of the application at most.
const MOST_SOCKETS: usize = 12;

const FORWARDING: UdpForwarding = UdpForwarding {
    interface: None,
    max_flows: 8,
    max_pending: 4,
    flow_buffer: 4 << 10,
    total_buffer: 16 << 10,
    idle_timeout: Duration::from_secs(30),
};

/// Datagrams, calls, changes and time.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    // Input that is too short is no case.
    let _ = case(&mut u);
}

struct Case {
    host: Host,
    listener: Arc<Listener>,
    sockets: Vec<Arc<UdpCell>>,
    forwarder: Option<Arc<UdpForwarderCell>>,
    now: Instant,
    /// What the stack sent last, for errors to quote.
    sent: Vec<u8>,
}

fn case(u: &mut Unstructured<'_>) -> Result<()> {
    let mut case = Case::new(u)?;
    while !u.is_empty() {
        case.step(u)?;
        case.look();
    }
    case.finish();
    Ok(())
}

impl Case {
    fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let a: u8 = u.arbitrary()?;
        let config = Config::default().with(|config| {
            config.datagram_recv_buffer = 8 << 10;
            config.datagram_send_buffer = 8 << 10;
            if a & 1 != 0 {
                config.icmp_host_interval = Duration::ZERO;
            }
        });
        let host = Host::new(0, Card { mtu: 1500, offloads: a & 0x80 != 0 }, config);
        let listener = host.listen(START, 80, 4);
        let mut case =
            Self { host, listener, sockets: Vec::new(), forwarder: None, now: START, sent: Vec::new() };
        case.bind(0);
        case.bind(3);
        Ok(case)
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let [what, which, by]: [u8; 3] = u.arbitrary()?;
        match what % 24 {
            0..=4 => self.datagram(which, by, None),
            5 => {
                let mtu = 68 + usize::from(u.arbitrary::<u16>()? % 1400);
                self.datagram(which, by, Some(mtu));
            }
            6 => self.syn(which, by),
            7 | 8 => self.error(which, by),
            9 | 10 => self.send(which, by),
            11 | 12 => self.receive(which),
            13 => self.bind(by),
            14 => self.connect(which, by),
            15 => self.close(which),
            16..=18 => self.change(which, by),
            19 => self.forward(by),
            20 => self.flows(by),
            21 => {
                let (now, full) = (self.now, by & 1 != 0);
                self.host.set_full(now, full);
            }
            _ => {
                self.now += span(by);
                let now = self.now;
                self.host.fire(now);
            }
        }
        Ok(())
    }

    /// What has to hold at any time.
    fn look(&mut self) {
        let sent = self.host.take_sent();
        assert!(sent.len() <= MOST_PACKETS, "{} packets for one step", sent.len());
        if let Some(last) = sent.into_iter().last() {
            self.sent = last.bytes;
        }
        let now = self.now;
        self.host.fire(now);
        let engine = self.host.engine();
        assert!(engine.next_deadline().is_none_or(|at| at > now), "something stays due");
        // One datagram may pass the limit, as in Linux.
        assert!(
            self.sockets.iter().all(|cell| cell.unread() <= (8 << 10) + (68 << 10)),
            "a queue without end"
        );
        if let Some(forwarder) = &self.forwarder {
            let stats = forwarder.stats();
            assert!(
                stats.flows <= FORWARDING.max_flows && stats.pending <= FORWARDING.max_pending,
                "{stats:?}"
            );
        }
        assert!(self.listener.syn_queue_len() <= 5, "a queue of SYNs without end");
    }

    /// An address that a packet may be for: the stack's, one that it may have, somebody else's, a group, all.
    fn target(&self, which: u8) -> IpAddr {
        let v6 = which & 1 != 0;
        match (which >> 1) % 8 {
            0..=2 => address(0, v6),
            3 => more_addresses(which)[usize::from(v6)],
            4 if v6 => "fd77::7".parse().expect("an address"),
            4 => [198, 51, 100, 7].into(),
            5 if v6 => "ff02::1".parse().expect("an address"),
            5 => [224, 0, 0, 1].into(),
            6 if !v6 => [255, 255, 255, 255].into(),
            _ => address(1, v6),
        }
    }

    fn datagram(&mut self, which: u8, by: u8, cut: Option<usize>) {
        let target = self.target(which);
        let source = (address(1, target.is_ipv6()), 4_000 + u16::from(by & 7));
        let port = pick(&[53, 53, 54, 80, 1, 0, 65_535], by >> 3);
        let len = pick(&[0, 1, 100, 1_400, 9_000, 60_000], by >> 5);
        let packet = packets::udp(Ends { src: source, dst: (target, port) }, &vec![which; len]);
        match cut {
            None if packet.len() <= 1_500 => self.give(&packet),
            cut => {
                let mut pieces = Vec::new();
                fragment(&packet, cut.unwrap_or(1_500).max(96), by.into(), |piece| {
                    pieces.push(piece.to_vec())
                });
                pieces.iter().for_each(|piece| self.give(piece));
            }
        }
    }

    fn give(&mut self, packet: &[u8]) {
        let now = self.now;
        self.host.receive_alone(now, packet);
    }

    fn syn(&mut self, which: u8, by: u8) {
        let target = self.target(which);
        let source = (address(1, target.is_ipv6()), 5_000 + u16::from(by & 3));
        let flags = pick(&[Flags::SYN, Flags::ACK, Flags::RST, Flags::SYN.with(Flags::ACK)], by >> 2);
        let mut segment = Segment::new(flags, SeqNum::new(by.into()), SeqNum::new(which.into()));
        segment.window = 1_000;
        self.give(&packets::tcp(Ends { src: source, dst: (target, 80) }, &segment, &[]));
    }

    /// An ICMP error about what was sent last, or about a datagram that was never sent.
    fn error(&mut self, which: u8, by: u8) {
        let v6 = self.sent.first().is_some_and(|first| first >> 4 == 6);
        let mut body = self.sent.clone();
        body.truncate(20 + 20 * usize::from(v6) + usize::from(by >> 3));
        if by & 1 != 0
            && let Some(byte) = body.get_mut(usize::from(which) % 48)
        {
            *byte ^= by;
        }
        let kind = if v6 { pick(&[1, 2, 3, 4], which) } else { pick(&[3, 3, 11, 12], which) };
        let word = [0, 0, by, which];
        let message = IcmpMessage { kind, code: which >> 4, word, body: &body };
        let packet = packets::icmp(address(1, v6), address(0, v6), &message);
        self.give(&packet);
    }

    fn chosen(&self, which: u8) -> Option<Arc<UdpCell>> {
        self.sockets.get(usize::from(which) % self.sockets.len().max(1)).map(Arc::clone)
    }

    fn bind(&mut self, by: u8) {
        if self.sockets.len() >= MOST_SOCKETS {
            return;
        }
        let engine = self.host.engine();
        let family = if by & 1 == 0 { Family::V4 } else { Family::V6 };
        let mut socket = UnboundUdp::new(engine.core(), family);
        socket.ip.set_reuse_address(by & 4 != 0);
        socket.ip.set_reuse_port(by & 8 != 0);
        let any = if by & 2 == 0 { family.unspecified() } else { address(0, family == Family::V6) };
        let to = SocketAddr::new(any, pick(&[53, 54, 0], by >> 4));
        if let Ok(cell) = engine.udp().bind(engine.core(), socket, to, Arc::new(Deaf)) {
            self.sockets.push(cell);
        }
    }

    fn connect(&mut self, which: u8, by: u8) {
        let Some(cell) = self.chosen(which) else { return };
        let to = SocketAddr::new(self.target(by), 4_000 + u16::from(by & 7));
        let engine = self.host.engine();
        let _ = engine.udp().connect(engine.core(), &cell, to);
    }

    fn send(&mut self, which: u8, by: u8) {
        let Some(cell) = self.chosen(which) else { return };
        let contents = vec![by; pick(&[0, 1, 500, 1_472, 9_000, 66_000], by)];
        let mut message = Transmission::new(&contents);
        if by & 0x40 != 0 {
            message.destination = Some(SocketAddr::new(self.target(by), 4_000));
        }
        message.segment_size = (by & 0x80 != 0).then_some(usize::from(which) + 1);
        let now = self.now;
        let _ = self.host.engine().with_udp(now, |udp, turn| udp.send(turn, &cell, &message));
    }

    fn receive(&mut self, which: u8) {
        let Some(cell) = self.chosen(which) else { return };
        let engine = self.host.engine();
        let mut to = vec![0; 1 << usize::from(which % 17)];
        let ready = engine.udp().readiness(&cell);
        let got = engine.udp().recv(engine.core(), &cell, &mut to);
        assert!(got.is_err() || ready.contains(Events::READABLE), "it was not readable");
    }

    fn close(&mut self, which: u8) {
        if self.sockets.is_empty() {
            return;
        }
        let cell = self.sockets.swap_remove(usize::from(which) % self.sockets.len());
        let now = self.now;
        self.host.engine().with_udp(now, |udp, turn| udp.close(turn, &cell));
    }

    /// The interface changes.
    fn change(&mut self, which: u8, by: u8) {
        let core = self.host.engine().core();
        let address = more_addresses(which)[usize::from(by & 1)];
        let prefix =
            pick(if address.is_ipv4() { &[32, 24, 8, 0][..] } else { &[128, 64, 8, 0][..] }, by >> 1);
        let Ok(cidr) = Cidr::new(address, prefix) else { return };
        let _ = match which % 10 {
            0 | 1 => core.add_address(0, cidr),
            2 => core.remove_address(0, address).map(drop),
            3 | 4 => core.add_any_ip(0, cidr),
            5 => core.remove_any_ip(0, cidr),
            6 => core.set_mtu(0, pick(&[67, 68, 576, 1_279, 1_280, 1_500, 9_000], by)),
            7 => core.set_down(0, by & 1 != 0),
            8 => IpRoute::new(&cidr.to_string()).and_then(|route| core.add_route(0, route)),
            _ => IpRoute::new(&cidr.to_string()).and_then(|route| core.remove_route(0, &route).map(drop)),
        };
    }

    fn forward(&mut self, by: u8) {
        let (engine, now) = (self.host.engine(), self.now);
        match self.forwarder.take() {
            Some(forwarder) if by & 1 == 0 => {
                engine.with_udp(now, |udp, turn| udp.close_forwarder(turn, &forwarder));
            }
            Some(forwarder) => self.forwarder = Some(forwarder),
            None => self.forwarder = engine.udp().forward(engine.core(), FORWARDING, Arc::new(Deaf)).ok(),
        }
    }

    fn flows(&mut self, by: u8) {
        let Some(forwarder) = self.forwarder.clone() else { return };
        let (engine, now) = (self.host.engine(), self.now);
        let Ok(cell) = engine.udp().accept_flow(engine.core(), &forwarder, Arc::new(Deaf)) else { return };
        if by & 1 == 0 || self.sockets.len() >= MOST_SOCKETS {
            let reason = netstack::icmp::Unreachable::Port;
            engine.with_udp(now, |udp, turn| udp.refuse_flow(turn, &cell, reason));
        } else {
            self.sockets.push(cell);
        }
    }

    /// The application lets go of everything: nothing is left.
    fn finish(mut self) {
        let now = self.now;
        self.host.set_full(now, false);
        let engine = Arc::clone(self.host.engine());
        let _ = engine.core().set_down(0, false);
        if let Some(forwarder) = self.forwarder.take() {
            engine.with_udp(now, |udp, turn| udp.close_forwarder(turn, &forwarder));
        }
        for cell in self.sockets.drain(..) {
            engine.with_udp(now, |udp, turn| udp.close(turn, &cell));
        }
        engine.with_tcp(now, |tcp, turn| tcp.close_listener(turn, &self.listener));
        let Self { mut host, listener, .. } = self;
        drop(listener);
        host.wind_down(now, &[]);
        let udp = engine.udp();
        assert_eq!((udp.sockets(), udp.ports_in_use()), (0, 0), "sockets and ports are left");
    }
}

/// Addresses that come and go.
fn more_addresses(which: u8) -> [IpAddr; 2] {
    let n = which >> 4;
    [[10, 0, 0, 100 + n].into(), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 0x100 + u16::from(n)])]
}
