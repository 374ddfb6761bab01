//! Which connection of a scene a segment belongs to.
//!
//! Two sockets can have one connection after another between them, so that addresses and ports are not
//! enough: a SYN with a new initial sequence number begins another one.

use netstack::wire::{Segment, SeqNum};
use std::net::SocketAddr;

/// How far from an initial sequence number the numbers of a connection in the tour can be.
pub(super) const SPAN: u32 = 1 << 26;

/// The ends of a connection: first of them the one that sent first.
pub(super) type Ends = [SocketAddr; 2];

/// The connections of a scene, numbered from 0 in the order in which they began.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Vec<Connection>);

#[derive(Clone, Debug)]
struct Connection {
    ends: Ends,
    /// Initial sequence numbers of each end, which is more than one if it answered with SYN cookies.
    isns: [Vec<SeqNum>; 2],
}

impl Connection {
    /// The number of the end with this address, if the other end is `dst`.
    fn end(&self, src: SocketAddr, dst: SocketAddr) -> Option<usize> {
        (0..2).find(|&end| self.ends[end] == src && self.ends[1 - end] == dst)
    }

    /// Whether `number` can be one of `end`.
    fn counts(&self, end: usize, number: SeqNum) -> bool {
        self.isns[end].iter().any(|isn| number - *isn < SPAN)
    }
}

impl Connections {
    /// The ends of each.
    pub(super) fn ends(&self) -> impl Iterator<Item = Ends> {
        self.0.iter().map(|connection| connection.ends)
    }

    /// The connection of a segment, which is a new one if it fits none. One that is `forged` is about the
    /// connection that is there between its ends.
    pub(super) fn of(&mut self, src: SocketAddr, dst: SocketAddr, header: &Segment, forged: bool) -> usize {
        // The latest first.
        let same: Vec<(usize, usize)> = self
            .0
            .iter()
            .enumerate()
            .rev()
            .filter_map(|(number, connection)| Some((number, connection.end(src, dst)?)))
            .collect();
        let fits = |&&(number, end): &&(usize, usize)| {
            let connection = &self.0[number];
            if header.is_syn() && header.is_ack() {
                return connection.isns[1 - end].iter().any(|isn| *isn + 1 == header.ack);
            }
            if header.is_syn() {
                return connection.isns[end].is_empty() || connection.isns[end].contains(&header.seq);
            }
            connection.counts(end, header.seq) || header.is_ack() && connection.counts(1 - end, header.ack)
        };
        let begins = header.is_syn() && !header.is_ack() && !forged;
        let found = same.iter().find(fits).or_else(|| same.first().filter(|_| !begins));
        let (number, end) = found.copied().unwrap_or_else(|| {
            self.0.push(Connection { ends: [src, dst], isns: [Vec::new(), Vec::new()] });
            (self.0.len() - 1, 0)
        });
        let isns = &mut self.0[number].isns[end];
        // A reset with the number 0 answers a SYN and has no numbers of its own.
        let stray = header.is_rst() && header.seq.raw() == 0;
        let counts = !forged && (header.is_syn() || isns.is_empty() && !stray);
        if counts && !isns.contains(&header.seq) {
            isns.push(header.seq);
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netstack::wire::Flags;

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn segment(flags: Flags, seq: u32, ack: u32) -> Segment {
        Segment::new(flags, SeqNum::new(seq), SeqNum::new(ack))
    }

    #[test]
    fn ports_and_initial_numbers_tell_connections_apart() {
        let (client, server, other) = (at(1), at(2), at(3));
        let syn_ack = Flags::SYN.with(Flags::ACK);
        let mut all = Connections::default();
        assert_eq!(all.of(client, server, &segment(Flags::SYN, 100, 0), false), 0);
        assert_eq!(all.of(client, server, &segment(Flags::SYN, 100, 0), false), 0, "a retransmission");
        assert_eq!(all.of(server, client, &segment(syn_ack, 900, 101), false), 0);
        assert_eq!(all.of(server, client, &segment(syn_ack, 901, 101), false), 0, "another cookie");
        assert_eq!(all.of(other, server, &segment(Flags::SYN, 100, 0), false), 1, "another port");
        assert_eq!(all.of(client, server, &segment(Flags::ACK, 101, 901), false), 0);
        assert_eq!(
            all.of(client, server, &segment(Flags::SYN, 4_000_000_000, 0), false),
            2,
            "the ports again"
        );
        assert_eq!(all.of(server, client, &segment(Flags::ACK, 902, 150), false), 0, "the old one answers");
        assert_eq!(all.of(server, client, &segment(syn_ack, 2_000_000_000, 4_000_000_001), false), 2);
        assert_eq!(all.of(client, server, &segment(Flags::ACK, 4_000_000_001, 2_000_000_001), false), 2);
        assert_eq!(all.of(server, other, &segment(Flags::RST.with(Flags::ACK), 0, 101), false), 1);
        assert_eq!(all.of(client, server, &segment(Flags::SYN, 7, 0), true), 2, "forged");
        assert_eq!(all.of(client, server, &segment(Flags::ACK, 4_000_000_001, 0), false), 2);
        assert_eq!(
            all.of(at(4), server, &segment(Flags::SYN, 7, 0), true),
            3,
            "forged, and about nothing else"
        );
        assert_eq!(all.ends().next(), Some([client, server]));
    }

    #[test]
    fn clients_that_connect_to_each_other_have_one_connection() {
        let mut all = Connections::default();
        assert_eq!(all.of(at(1), at(2), &segment(Flags::SYN, 100, 0), false), 0);
        assert_eq!(all.of(at(2), at(1), &segment(Flags::SYN, 500, 0), false), 0);
        assert_eq!(all.of(at(1), at(2), &segment(Flags::SYN.with(Flags::ACK), 100, 501), false), 0);
    }
}
