//! Calls and packets between two stacks, against a model of two byte streams.

use crate::world::{Card, Host, START, Sent, address, exchange, span};
use arbitrary::{Result, Unstructured};
use netstack::Config;
use netstack::config::{EcnNegotiation, MtuProbing};
use netstack::stack::Cell;
use netstack::tcp::State;
use netstack::time::{Duration, Instant};
use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;

/// Time for which packets may be lost without anybody giving up.
const COMPLETION_LIMIT: Duration = Duration::from_secs(60);

/// Operations in any order; then the network is mended and everything has to arrive.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    // Input that is too short is no case.
    let _ = case(&mut u);
}

/// What one application has done and seen.
#[derive(Debug, Default)]
struct Application {
    written: usize,
    read: usize,
    /// It will write no more.
    shut: bool,
    /// It saw the end of the stream.
    ended: bool,
    /// It will read no more.
    deaf: bool,
    /// It has let go of its socket.
    gone: bool,
    error: Option<io::Error>,
}

/// Two hosts, one connection, and what is between them.
struct Case {
    hosts: [Host; 2],
    cells: [Arc<Cell>; 2],
    applications: [Application; 2],
    /// What is on its way, by the host that sent it.
    network: [VecDeque<Sent>; 2],
    now: Instant,
    /// A connection may end before everything has arrived.
    may_fail: bool,
}

/// The byte at a position of the stream of one host.
fn byte(host: usize, position: usize) -> u8 {
    (position.wrapping_mul(2_654_435_761) >> 16) as u8 ^ (host as u8)
}

fn case(u: &mut Unstructured<'_>) -> Result<()> {
    let mut case = Case::new(u)?;
    while !u.is_empty() {
        case.step(u)?;
        case.collect();
    }
    case.finish();
    Ok(())
}

fn config(bits: u8) -> Config {
    Config::default().with(|config| {
        config.sack = bits & 1 == 0;
        config.timestamps = bits & 2 == 0;
        config.window_scaling = bits & 4 == 0;
        config.pacing = bits & 8 != 0;
        config.ecn = EcnNegotiation::ALL[usize::from(bits >> 4) % EcnNegotiation::ALL.len()];
        config.mtu_probing = MtuProbing::ALL[usize::from(bits >> 5) % MtuProbing::ALL.len()];
        if bits & 0x80 != 0 {
            config.recv_buffer_initial = 4096;
            config.recv_buffer_max = 8192;
            config.send_buffer_initial = 4096;
            config.send_buffer_max = 16_384;
        }
    })
}

impl Case {
    fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        let [a, b, c]: [u8; 3] = u.arbitrary()?;
        let card = |mtu: usize, bit: u8| Card { mtu, offloads: c & bit != 0 };
        let mtu = [1500, 1280, 9000, 1400][usize::from(c >> 4 & 3)];
        let v6 = c & 1 != 0;
        let mut hosts = [Host::new(0, card(mtu, 2), config(a)), Host::new(1, card(mtu, 4), config(b))];
        let listener = hosts[1].listen(START, 80, 4);
        let client = hosts[0].connect(START, (address(1, v6), 80).into()).expect("a port is free");
        exchange(&mut hosts, START);
        let server = hosts[1].accept(START, &listener).expect("the handshake is over");
        hosts[1].engine().with_tcp(START, |tcp, turn| tcp.close_listener(turn, &listener));
        Ok(Self {
            hosts,
            cells: [client, server],
            applications: Default::default(),
            network: Default::default(),
            now: START,
            may_fail: false,
        })
    }

    fn step(&mut self, u: &mut Unstructured<'_>) -> Result<()> {
        let [what, a]: [u8; 2] = u.arbitrary()?;
        let host = usize::from(what >> 7);
        match what & 0x1f {
            0..=4 => self.write(host, [1, 7, 100, 1448, 5_000, 20_000, 100_000][usize::from(a) % 7]),
            5..=8 => self.read(host, [1, 10, 1_000, 30_000, 200_000][usize::from(a) % 5]),
            9..=13 => self.deliver(host, a),
            14 => drop(self.network[host].remove(usize::from(a) % self.network[host].len().max(1))),
            15 => self.duplicate(host, a),
            16 => self.corrupt(host, a, u)?,
            17..=19 => self.pass(span(a)),
            20..=22 => self.jump(),
            23 => {
                let now = self.now;
                self.hosts[host].set_full(now, a & 1 != 0);
            }
            24 => self.shut_down(host),
            25 if a < 16 => self.close(host),
            26 if a < 4 => self.abort(host),
            27 if a < 16 => self.stop_reading(host),
            28 => self.set_options(host, a),
            _ => {
                let cell = &self.cells[host];
                self.hosts[host].engine().with_tcp(self.now, |tcp, turn| tcp.push(turn, cell));
            }
        }
        Ok(())
    }

    /// What the hosts sent is on its way.
    fn collect(&mut self) {
        for (host, network) in self.hosts.iter().zip(&mut self.network) {
            network.extend(host.take_sent());
        }
    }

    fn failed(&mut self, host: usize, error: io::Error) {
        if error.kind() != io::ErrorKind::WouldBlock {
            assert!(self.may_fail, "host {host}: {error}");
            self.applications[host].error = Some(error);
        }
    }

    fn write(&mut self, host: usize, len: usize) {
        let application = &self.applications[host];
        if application.gone || application.shut || application.error.is_some() {
            return;
        }
        let start = application.written;
        let bytes: Vec<u8> = (start..start + len).map(|at| byte(host, at)).collect();
        match self.hosts[host].write(self.now, &self.cells[host], &bytes) {
            Ok(written) => self.applications[host].written += written,
            Err(error) => self.failed(host, error),
        }
    }

    fn read(&mut self, host: usize, max: usize) {
        let application = &self.applications[host];
        if application.gone || application.deaf || application.error.is_some() {
            return;
        }
        let bytes = match self.hosts[host].read(self.now, &self.cells[host], max) {
            Ok(bytes) => bytes,
            Err(error) => return self.failed(host, error),
        };
        let peer = &self.applications[1 - host];
        let (peer_written, peer_done) = (peer.written, peer.shut || peer.gone);
        let application = &mut self.applications[host];
        assert!(bytes.is_empty() || !application.ended, "bytes behind the end");
        for got in &bytes {
            assert_eq!(*got, byte(1 - host, application.read), "at {}", application.read);
            application.read += 1;
        }
        assert!(application.read <= peer_written, "more than was written");
        if bytes.is_empty() {
            assert!(peer_done || self.may_fail, "the end of a stream that goes on");
            assert!(application.read == peer_written || self.may_fail, "the end before the last byte");
            application.ended = true;
        }
    }

    /// One packet arrives, in its turn or not.
    fn deliver(&mut self, from: usize, which: u8) {
        // Low values are packets in their turn.
        let at = usize::from(which.saturating_sub(100)) % self.network[from].len().max(1);
        let count = if which < 50 { 1 } else { 1 + usize::from(which % 8) };
        for _ in 0..count {
            let Some(Sent { bytes, meta, .. }) = self.network[from].remove(at) else { break };
            self.hosts[1 - from].receive(self.now, &bytes, meta);
        }
        self.hosts[1 - from].end_batch(self.now);
    }

    fn duplicate(&mut self, from: usize, which: u8) {
        let network = &mut self.network[from];
        if let Some(packet) = network.get(usize::from(which) % network.len().max(1)).cloned() {
            network.push_back(packet);
        }
    }

    /// A flipped bit is seen by the checksum, unless the device vouches for that.
    fn corrupt(&mut self, from: usize, which: u8, u: &mut Unstructured<'_>) -> Result<()> {
        let network = &mut self.network[from];
        let len = network.len().max(1);
        if let Some(packet) = network.get_mut(usize::from(which) % len)
            && !packet.meta.checksum_verified
            && !packet.corrupt
        {
            let at = u.choose_index(packet.bytes.len())?;
            // A shorter length in a header of IPv6 may fit to the checksum of what is left.
            if packet.bytes[0] >> 4 == 4 || !(4..6).contains(&at) {
                packet.bytes[at] ^= 1 << (which % 8);
                packet.corrupt = true;
            }
        }
        Ok(())
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.may_fail |= self.now - START > COMPLETION_LIMIT;
        let now = self.now;
        self.hosts.iter_mut().for_each(|host| host.fire(now));
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.hosts.iter().filter_map(|host| host.engine().next_deadline()).min()
    }

    fn jump(&mut self) {
        if let Some(at) = self.next_deadline() {
            self.pass(at.saturating_since(self.now));
        }
    }

    fn shut_down(&mut self, host: usize) {
        let application = &mut self.applications[host];
        if application.gone || application.error.is_some() {
            return;
        }
        application.shut = true;
        let cell = &self.cells[host];
        let result = self.hosts[host]
            .engine()
            .with_tcp(self.now, |tcp, turn| tcp.shutdown(turn, cell, Shutdown::Write));
        if let Err(error) = result {
            // Both streams have ended, or it is no more.
            assert!(
                self.may_fail || matches!(cell.state(), State::Closed | State::TimeWait),
                "{:?}: {error}",
                cell.state()
            );
        }
    }

    /// Lets go of the socket. What is unread then, or comes later, resets the connection.
    fn close(&mut self, host: usize) {
        let application = &mut self.applications[host];
        if !std::mem::replace(&mut application.gone, true) {
            self.may_fail = true;
            let cell = &self.cells[host];
            self.hosts[host].engine().with_tcp(self.now, |tcp, turn| tcp.close(turn, cell));
        }
    }

    fn abort(&mut self, host: usize) {
        if !std::mem::replace(&mut self.applications[host].gone, true) {
            self.may_fail = true;
            let cell = &self.cells[host];
            self.hosts[host].engine().with_tcp(self.now, |tcp, turn| tcp.abort(turn, cell));
        }
    }

    fn stop_reading(&mut self, host: usize) {
        if !self.applications[host].gone {
            // As in Linux this drops nothing that arrives, until the other direction is shut down, too: then
            // it is answered with a reset.
            self.may_fail = true;
            let cell = &self.cells[host];
            let result = self.hosts[host]
                .engine()
                .with_tcp(self.now, |tcp, turn| tcp.shutdown(turn, cell, Shutdown::Read));
            self.applications[host].deaf |= result.is_ok();
        }
    }

    fn set_options(&mut self, host: usize, by: u8) {
        if self.applications[host].gone {
            return;
        }
        let (cell, on) = (&self.cells[host], by & 8 != 0);
        self.hosts[host].engine().with_tcp(self.now, |tcp, turn| {
            tcp.with_options(turn, cell, |options| match by % 8 {
                0 => options.nodelay = on,
                1 => options.cork = on,
                2 => options.notsent_lowat = on.then_some(1_000),
                3 => options.recv_buffer_size = Some(if on { 4_608 } else { 100_000 }),
                4 => options.send_buffer_size = Some(if on { 4_608 } else { 100_000 }),
                5 => options.window_clamp = on.then_some(2_000),
                6 => options.max_pacing_rate = on.then_some(100_000),
                _ => drop(options.set_congestion(if on { b"bbr" } else { b"reno" })),
            });
        });
    }

    /// The network loses nothing more: everything that was written arrives, in time.
    fn finish(&mut self) {
        let now = self.now;
        self.hosts.iter_mut().for_each(|host| host.set_full(now, false));
        for host in 0..2 {
            // A cork, or a limit on the rate, is no fault of the stack.
            self.set_options(host, 1);
            self.set_options(host, 6);
            self.shut_down(host);
        }
        let until = self.now + Duration::from_secs(1_800);
        while self.now < until && !self.is_over() {
            self.collect();
            if self.network.iter().all(VecDeque::is_empty) {
                let step = self.now + Duration::from_millis(1);
                let next = self.next_deadline().map_or(until, |at| at.max(step));
                self.now = next.min(until);
                let now = self.now;
                self.hosts.iter_mut().for_each(|host| host.fire(now));
            }
            for from in 0..2 {
                for Sent { bytes, meta, .. } in std::mem::take(&mut self.network[from]) {
                    self.hosts[1 - from].receive(self.now, &bytes, meta);
                }
                self.hosts[1 - from].end_batch(self.now);
            }
            for host in 0..2 {
                self.read(host, 1 << 20);
            }
        }
        if !self.may_fail && self.applications.iter().all(|application| !application.deaf) {
            for (host, application) in self.applications.iter().enumerate() {
                let peer = &self.applications[1 - host];
                assert_eq!(application.read, peer.written, "host {host} after {:?}", self.now - now);
                assert!(application.ended, "host {host} waits for the end: {:?}", self.applications);
            }
        }
        for (host, cell) in self.hosts.iter_mut().zip(&self.cells) {
            host.engine().with_tcp(self.now, |tcp, turn| tcp.close(turn, cell));
            host.wind_down(self.now, std::slice::from_ref(cell));
        }
    }

    /// Nothing is to be expected any more.
    fn is_over(&self) -> bool {
        self.applications.iter().all(|one| one.ended || one.gone || one.deaf || one.error.is_some())
    }
}
