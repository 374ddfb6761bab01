//! One connection, segments put in by hand, and what comes out.

use super::pair::config;
use crate::buffer::{Chunk, Pool};
use crate::tcp::{Connection, Path, Setup, SocketOptions, State, SynEntry, SynParts, SynRetries, SynStep};
use crate::time::{Duration, Instant};
use crate::wire::{Flags, Options, Segment, SeqNum, Timestamps};
use std::io::IoSlice;
use std::net::Shutdown;

pub(super) const ISS: u32 = 1_000;
pub(super) const IRS: u32 = u32::MAX - 1;

/// A connection, and the peer's side of it played by the test. All numbers are relative: 0 is the
/// SYN, 1 the first byte.
pub(super) struct Table {
    pub(super) conn: Box<Connection>,
    pub(super) now: Instant,
    /// The peer's timestamps, where they are in use.
    pub(super) tsval: Option<u32>,
}

/// A segment from the peer.
pub(super) fn segment(flags: Flags, seq: i64, ack: i64, payload: usize) -> Segment {
    Segment {
        window: 30_000,
        payload_len: payload,
        ..Segment::new(
            flags,
            SeqNum::new((i64::from(IRS) + seq) as u32),
            SeqNum::new((i64::from(ISS) + ack) as u32),
        )
    }
}

impl Table {
    /// An established connection without options, whose window is 64,240 bytes.
    pub(super) fn established() -> Self {
        Self::established_with(Options { mss: Some(1000), ..Options::default() })
    }

    pub(super) fn established_with(theirs: Options) -> Self {
        let config = config();
        let now = Instant::from_millis(5_000);
        let tsval = theirs.timestamps.map(|ts| ts.tsval);
        let mut syn = segment(Flags::SYN, 0, 0, 0);
        syn.options = theirs;
        let options = SocketOptions::new(&config);
        let path = Path::new(1500, false);
        let mut entry = SynEntry::new(
            now,
            &syn,
            SeqNum::new(ISS),
            SynParts { ts_offset: 0, path, options: &options, config: &config },
        );
        let now = now + Duration::from_millis(1);
        let mut table_ack = segment(Flags::ACK, 1, 1, 0);
        table_ack.options.timestamps = tsval.map(|tsval| Timestamps { tsval, tsecr: 0 });
        assert_eq!(entry.on_segment(now, &table_ack, SynRetries::new(&config), &config), SynStep::Establish);
        let mut conn = Connection::accept(
            now,
            &entry,
            &table_ack,
            Setup { options: &options, config: &config, pool: &Pool::new() },
        );
        conn.on_segment(now, &table_ack, Chunk::empty());
        Self { conn, now, tsval }
    }

    /// A connection in `state`, got there by the shortest way; `next` gives the peer's next number
    /// and ours.
    pub(super) fn in_state(state: State) -> (Self, i64, i64) {
        let mut t = Self::established();
        let fin = Flags::FIN.with(Flags::ACK);
        let (mut peer, mut ours) = (1, 1);
        match state {
            State::Established => {}
            State::FinWait1 => {
                t.shutdown();
                ours = 2;
            }
            State::FinWait2 => {
                t.shutdown();
                t.input(segment(Flags::ACK, 1, 2, 0));
                ours = 2;
            }
            State::CloseWait => {
                t.input(segment(fin, 1, 1, 0));
                peer = 2;
            }
            State::Closing => {
                t.shutdown();
                t.input(segment(fin, 1, 1, 0));
                (peer, ours) = (2, 2);
            }
            State::LastAck => {
                t.input(segment(fin, 1, 1, 0));
                t.shutdown();
                (peer, ours) = (2, 2);
            }
            State::TimeWait => {
                t.shutdown();
                t.input(segment(fin, 1, 2, 0));
                (peer, ours) = (2, 2);
            }
            other => panic!("a connection is never in {other}"),
        }
        t.output();
        assert_eq!(t.conn.state(), state);
        // Answers that are limited are limited from the last one on.
        t.now += Duration::from_secs(2);
        (t, peer, ours)
    }

    pub(super) fn shutdown(&mut self) {
        self.conn.shutdown(Shutdown::Write).unwrap();
        self.output();
    }

    pub(super) fn write(&mut self, len: usize) -> Vec<String> {
        self.conn.write(self.now, &[IoSlice::new(&vec![7; len])], false).unwrap();
        self.output()
    }

    /// Gives the connection a segment and returns what it sends.
    pub(super) fn input(&mut self, mut segment: Segment) -> Vec<String> {
        if let (Some(tsval), None) = (self.tsval, segment.options.timestamps) {
            segment.options.timestamps = Some(Timestamps { tsval, tsecr: 0 });
        }
        let payload = Chunk::copy_from(&vec![1; segment.payload_len]);
        self.conn.on_segment(self.now, &segment, payload);
        self.output()
    }

    /// What the connection sends now: flags, relative numbers, length.
    pub(super) fn output(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Some(t) = self.conn.poll_transmit(self.now, 0) {
            let s = &t.segment;
            let ack = if s.is_ack() { (s.ack - SeqNum::new(IRS)).to_string() } else { "-".to_owned() };
            lines.push(format!("{:?} {}/{} {}", s.flags, s.seq - SeqNum::new(ISS), ack, s.payload_len));
            self.conn.on_transmitted(self.now, &t);
        }
        lines
    }

    pub(super) fn wait(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.conn.on_timeout(self.now);
        self.output()
    }
}
