//! ICMP messages to a host with a live connection: none of them ends it, whatever it claims.

use crate::packets::icmp;
use crate::world::{Card, Host, START, Sent, address, exchange, span};
use arbitrary::{Result, Unstructured};
use netstack::Config;
use netstack::stack::Cell;
use netstack::time::{Duration, Instant};
use netstack::wire::IcmpMessage;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes that are carried while messages come.
const BYTES: usize = 40_000;

/// Messages about what a connection sends, between its segments.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    // Input that is too short is no case.
    let _ = case(&mut u);
}

/// Two hosts, one connection.
struct Transfer {
    hosts: [Host; 2],
    cells: [Arc<Cell>; 2],
    now: Instant,
    written: usize,
    read: usize,
    v6: bool,
}

fn case(u: &mut Unstructured<'_>) -> Result<()> {
    let bits: u8 = u.arbitrary()?;
    let mut transfer = Transfer::new(bits & 1 != 0, bits & 2 != 0);
    while !u.is_empty() {
        transfer.step();
        let sent = transfer.hosts[0].take_sent();
        for _ in 0..u.int_in_range(1..=3)? {
            let message = transfer.message(u, &sent)?;
            transfer.hosts[0].receive_alone(transfer.now, &message);
        }
        for Sent { bytes, meta, .. } in sent {
            transfer.hosts[1].receive(transfer.now, &bytes, meta);
        }
        transfer.hosts[1].end_batch(transfer.now);
        transfer.now += span(u.int_in_range(0..=20)?);
    }
    transfer.finish();
    Ok(())
}

impl Transfer {
    fn new(v6: bool, offloads: bool) -> Self {
        let card = Card { mtu: 1500, offloads };
        let mut hosts = [Host::new(0, card, Config::default()), Host::new(1, card, Config::default())];
        let now = START;
        let listener = hosts[1].listen(now, 80, 4);
        let client = hosts[0].connect(now, (address(1, v6), 80).into()).expect("a port is free");
        exchange(&mut hosts, now);
        let server = hosts[1].accept(now, &listener).expect("the handshake is over");
        hosts[1].engine().with_tcp(now, |tcp, turn| tcp.close_listener(turn, &listener));
        Self { hosts, cells: [client, server], now, written: 0, read: 0, v6 }
    }

    /// Does what is due, writes a little and reads what has come.
    fn step(&mut self) {
        let now = self.now;
        self.hosts.iter_mut().for_each(|host| host.fire(now));
        let bytes: Vec<u8> = (self.written..(self.written + 5_000).min(BYTES)).map(|at| at as u8).collect();
        if !bytes.is_empty() {
            self.written += match self.hosts[0].write(now, &self.cells[0], &bytes) {
                Ok(written) => written,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
                Err(error) => panic!("a message ended the connection: {error}"),
            };
        }
        self.read_all();
        // Acknowledgments are not disturbed.
        for Sent { bytes, meta, .. } in self.hosts[1].take_sent() {
            self.hosts[0].receive(now, &bytes, meta);
        }
        self.hosts[0].end_batch(now);
    }

    fn read_all(&mut self) {
        while let Ok(bytes) = self.hosts[1].read(self.now, &self.cells[1], 10_000) {
            assert!(!bytes.is_empty(), "the stream ended");
            for byte in bytes {
                assert_eq!(byte, self.read as u8, "at {}", self.read);
                self.read += 1;
            }
        }
    }

    /// A message about one of the packets `sent`, or about one that never was.
    fn message(&self, u: &mut Unstructured<'_>, sent: &VecDeque<Sent>) -> Result<Vec<u8>> {
        let [kind, code, chosen, change, cut]: [u8; 5] = u.arbitrary()?;
        let word: [u8; 4] = u.arbitrary()?;
        let kinds: [u8; 8] =
            if self.v6 { [1, 2, 2, 3, 4, 128, 129, kind] } else { [3, 3, 3, 4, 5, 11, 12, kind] };
        let kind = kinds[usize::from(kind) % kinds.len()];
        let code = if !self.v6 && kind == 3 && chosen >= 128 { 4 } else { code };
        let mut quote = match sent.get(usize::from(chosen) % sent.len().max(1)) {
            Some(packet) => packet.bytes.clone(),
            None => u.bytes(usize::from(cut).min(u.len()))?.to_vec(),
        };
        // The addresses, ports and numbers of a few are not those that were sent.
        if change & 1 != 0 && !quote.is_empty() {
            let at = u.choose_index(quote.len().min(72))?;
            quote[at] ^= change;
        }
        let full = if cut & 0x80 == 0 { quote.len() } else { usize::from(cut & 0x7f) };
        quote.truncate(full.min(1_200));
        let from = address(2 + (change & 1), self.v6);
        Ok(icmp(from, address(0, self.v6), &IcmpMessage { kind, code, word, body: &quote }))
    }

    /// Everything arrives once the messages have ended.
    fn finish(&mut self) {
        let until = self.now + Duration::from_secs(600);
        while self.read < BYTES && self.now < until {
            self.step();
            exchange(&mut self.hosts, self.now);
            self.read_all();
            let next = self.hosts.iter().filter_map(|host| host.engine().next_deadline()).min();
            let step = self.now + Duration::from_millis(1);
            self.now = next.map_or(step, |at| at.max(step).min(self.now + Duration::from_secs(1)));
        }
        assert_eq!((self.written, self.read), (BYTES, BYTES), "after {:?}", self.now - START);
        for (host, cell) in self.hosts.iter_mut().zip(&self.cells) {
            host.engine().with_tcp(self.now, |tcp, turn| tcp.abort(turn, cell));
            host.wind_down(self.now, std::slice::from_ref(cell));
        }
    }
}
