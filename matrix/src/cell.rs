//! One transfer over one path.

use crate::net::{FlowId, Net, Path};
use netstack::Config;
use netstack::config::CongestionName;
use netstack::device::LinkConfig;
use netstack::tcp::CongestionState;
use netstack::time::Duration;
use std::fmt;
use std::io;
use std::str::FromStr;

/// Payload bytes of a full segment over an MTU of 1,500, with timestamps.
pub const MSS: u64 = 1448;

/// Bytes of a full packet.
pub const PACKET: u64 = 1500;

/// A queue holds at least this many full packets, whatever the bandwidth-delay product is: no
/// router has a queue that is smaller than a sender's first flight.
const SMALLEST_QUEUE: u64 = 16;

/// A transfer ends after this many recoveries from a loss...
pub const EPOCHS: u32 = 50;
/// ...or this many bytes...
pub const BYTES: u64 = 2 << 30;
/// ...or this much virtual time and so many round trips, which is what ends those on slow links.
const TIME: Duration = Duration::from_secs(30);
const ROUNDS: u32 = 100;

/// The size to which buffers grow. It is larger than the default, so that congestion control is the
/// limit on most of the paths. The window is half of it, which `ideal` takes into account.
pub const BUFFER: usize = 64 << 20;

/// The columns of a cell in a snapshot.
pub const COLUMNS: &str = "rate_kbit,rtt_us,buffer_percent,reorder_percent,loss_bp,burst";

/// A path of the matrix. Losses occur in both directions, all other impairments affect data only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    /// Rate of the link in kbit/s.
    pub rate_kbit: u64,
    /// Round-trip time without queueing, in microseconds.
    pub rtt_us: u64,
    /// Size of the queue in percent of the bandwidth-delay product, at least 16 packets.
    pub buffer_percent: u64,
    /// Share of packets that overtake those in transit, in percent.
    pub reorder_percent: u64,
    /// Share of packets that are lost, in hundredths of a percent.
    pub loss_bp: u64,
    /// Packets that are lost in a row, on average; 1: each independently.
    pub burst: u64,
}

/// The result of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Bytes that the receiving application read.
    pub bytes: u64,
    /// From the call of connect until the end of the transfer.
    pub time: Duration,
    /// Duration of the handshake. With a loss in it, it takes a second or more.
    pub handshake: Duration,
    /// Number of recoveries that began with a loss.
    pub epochs: u32,
    /// Number of recoveries that the retransmission timer began.
    pub timeouts: u32,
    /// Segments with data that were sent.
    pub sent: u64,
    /// Retransmitted segments.
    pub retransmitted: u64,
    /// Packets of the sender that the path lost, at random or because its queue was full.
    pub lost: u64,
    /// Packets that the receiver dropped although it needed them, because a later packet had
    /// overtaken them, whose timestamp makes theirs old (PAWS, RFC 7323 §5.3).
    pub refused: u64,
}

impl Outcome {
    /// Payload that arrived, in kbit/s.
    pub fn goodput_kbit(&self) -> u64 {
        let micros = self.time.as_micros().max(1);
        (u128::from(self.bytes) * 8_000 / micros) as u64
    }

    /// The same, computed as if the handshake had taken one round trip, `rtt`.
    pub fn connected_kbit(&self, rtt: Duration) -> u64 {
        Self { time: self.time - self.handshake + rtt, ..*self }.goodput_kbit()
    }

    /// Retransmissions in hundredths of a percent of what arrived.
    pub fn retransmitted_bp(&self) -> u64 {
        share_bp(self.retransmitted, self.bytes / MSS)
    }

    /// Spurious retransmissions: those that no lost or refused packet has caused.
    pub fn spurious(&self) -> u64 {
        self.retransmitted.saturating_sub(self.lost + self.refused)
    }

    /// The same in hundredths of a percent of what arrived.
    pub fn spurious_bp(&self) -> u64 {
        share_bp(self.spurious(), self.bytes / MSS)
    }
}

fn share_bp(part: u64, whole: u64) -> u64 {
    part * 10_000 / whole.max(1)
}

impl Cell {
    /// The bandwidth-delay product, in bytes.
    pub fn bdp(&self) -> u64 {
        self.rate_kbit * self.rtt_us / 8_000
    }

    /// Bytes that the queue of the link holds.
    pub fn queue(&self) -> u64 {
        (self.bdp() * self.buffer_percent / 100).max(SMALLEST_QUEUE * PACKET)
    }

    /// The round-trip time without queueing.
    pub fn rtt(&self) -> Duration {
        Duration::from_micros(self.rtt_us)
    }

    /// The most virtual time that a transfer takes.
    pub fn time(&self) -> Duration {
        TIME + ROUNDS * self.rtt()
    }

    /// The seed of this cell, from which all randomness derives (FNV-1a).
    pub(crate) fn seed(&self) -> u64 {
        let parts = [
            self.rate_kbit,
            self.rtt_us,
            self.buffer_percent,
            self.reorder_percent,
            self.loss_bp,
            self.burst,
        ];
        parts.iter().fold(0xcbf2_9ce4_8422_2325, |hash, part| (hash ^ part).wrapping_mul(0x0100_0000_01b3))
    }

    /// The path.
    pub fn path(&self) -> Path {
        let back = LinkConfig {
            delay: self.rtt() / 2,
            loss: self.loss_bp as f64 / 10_000.0,
            burst: (self.burst > 1).then_some(self.burst as f64),
            limit: usize::MAX,
            seed: self.seed(),
            ..LinkConfig::default()
        };
        let forward = LinkConfig {
            reorder: self.reorder_percent as f64 / 100.0,
            rate: Some(self.rate_kbit * 1_000),
            queue: self.queue() as usize,
            ..back
        };
        Path { forward, back }
    }

    /// Settings of both hosts.
    pub fn config() -> Config {
        Config::default().with(|config| {
            config.send_buffer_max = BUFFER;
            config.recv_buffer_max = BUFFER;
        })
    }

    /// Two hosts connected by this path.
    ///
    /// # Errors
    /// None for the cells of a matrix.
    pub fn net(&self) -> io::Result<Net> {
        Net::new(&self.path(), &Self::config(), self.seed())
    }

    /// Transfers as much as the limits of a cell allow.
    ///
    /// # Errors
    /// If the connection failed.
    pub fn run(&self, congestion: CongestionName) -> io::Result<Outcome> {
        let mut net = self.net()?;
        let start = net.now();
        let flow = net.start(congestion, u64::MAX)?;
        let (mut outcome, mut calm) = (Outcome::default(), true);
        while net.step(start + self.time())? && outcome.epochs < EPOCHS && net.received(flow) < BYTES {
            let Some(state) = net.info(flow).map(|info| info.ca_state) else {
                outcome.handshake = net.now() - start;
                continue;
            };
            let now_calm = matches!(state, CongestionState::Open | CongestionState::Disorder);
            if calm && !now_calm {
                outcome.timeouts += u32::from(state == CongestionState::Loss);
                // A recovery without a loss before it is a mistake of the sender, and not counted
                // as a loss.
                let (lost, refused) = losses(&net, flow);
                outcome.epochs += u32::from(lost + refused > outcome.lost + outcome.refused);
                (outcome.lost, outcome.refused) = (lost, refused);
            }
            calm = now_calm;
        }
        if let Some(info) = net.info(flow) {
            outcome.retransmitted = info.total_retrans;
        }
        (outcome.lost, outcome.refused) = losses(&net, flow);
        outcome.sent = net.forward_stats().packets;
        outcome.bytes = net.received(flow);
        outcome.time = net.now() - start;
        Ok(outcome)
    }
}

/// Packets of the sender that the path lost, and those that the receiver refused, so far.
fn losses(net: &Net, flow: FlowId) -> (u64, u64) {
    let stats = net.forward_stats();
    (stats.lost + stats.queue_drops, net.receiver_info(flow).map_or(0, |info| info.paws_drops))
}

impl fmt::Display for Cell {
    /// As the columns of a snapshot.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rate_kbit, rtt_us, buffer_percent, reorder_percent, loss_bp, burst } = self;
        write!(f, "{rate_kbit},{rtt_us},{buffer_percent},{reorder_percent},{loss_bp},{burst}")
    }
}

impl FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Result<Vec<u64>, _> = text.split(',').map(|number| number.trim().parse()).collect();
        let Ok([rate_kbit, rtt_us, buffer_percent, reorder_percent, loss_bp, burst]) =
            numbers.map_err(drop).and_then(|numbers| <[u64; 6]>::try_from(numbers).map_err(drop))
        else {
            return Err(format!("`{text}` is not six numbers: {COLUMNS}"));
        };
        if rate_kbit == 0 || burst == 0 || reorder_percent > 100 || loss_bp > 10_000 {
            return Err(format!("`{text}` is no path"));
        }
        Ok(Self { rate_kbit, rtt_us, buffer_percent, reorder_percent, loss_bp, burst })
    }
}
