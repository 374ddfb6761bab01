//! What ICMP errors do to a held connection.

use super::Held;
use crate::reasons::DropReason;
use crate::stack::paths::IPV6_MIN_MTU;
use crate::stack::tcp::cell::Stage;
use crate::tcp::{MtuReport, TcpError};
use crate::wire::SeqNum;

impl Held<'_, '_> {
    /// An ICMP error quotes the segment with the sequence number `seq`. Believed only if that can be.
    pub(in crate::stack::tcp) fn on_icmp_error(&mut self, seq: SeqNum, error: TcpError) {
        let tcp = self.tcp;
        match &mut self.state.stage {
            Stage::Connected(connection) if connection.expects_icmp(seq) => {
                connection.on_icmp_error(seq, error);
            }
            Stage::Connected(_) => self.ignore_icmp(),
            Stage::Opening(opening) => match opening.on_icmp_error(seq, error) {
                Some(error) => {
                    tcp.on_fast_open_failure(self.turn.now, self.cell.key(), opening);
                    self.fail_opening(error, error.as_end());
                }
                None => self.ignore_icmp(),
            },
            Stage::Over(_) => self.turn.dropped(DropReason::TcpClose, || self.cell.about()),
        }
    }

    /// What is quoted is not in flight.
    fn ignore_icmp(&mut self) {
        self.tcp.counters.icmp_out_of_window.bump();
        self.turn.dropped(DropReason::IcmpOutOfWindow, || self.cell.about());
    }

    /// A router says that a packet with the sequence number `seq` is longer than the `claimed` bytes
    /// that it can forward (RFC 1191 §3, RFC 8201 §4). Believed only if that packet is in flight.
    pub(in crate::stack::tcp) fn on_packet_too_big(&mut self, seq: SeqNum, claimed: usize) {
        let (now, core, key) = (self.turn.now, self.turn.core, self.cell.key());
        let connection = match &mut self.state.stage {
            Stage::Connected(connection) => connection,
            // What a handshake sends fits every path, but for a SYN with data. Nothing is learnt
            // from messages about it, which are easy to forge.
            Stage::Opening(opening) => {
                let floor = if key.is_ipv6() { IPV6_MIN_MTU } else { core.config().min_pmtu as usize };
                opening.on_packet_too_big(seq, claimed.max(floor));
                return;
            }
            Stage::Over(_) => return,
        };
        if !connection.is_in_flight(seq) {
            return self.ignore_icmp();
        }
        if !connection.options().mtu_discover.follows_icmp() {
            return;
        }
        let path = self.tcp.path(self.turn, self.cell.queue().interface, key.remote());
        let current = path.pmtu.min(connection.path_mtu());
        // Other connections to the host look the path up before they send again.
        let mtu = core.paths().on_packet_too_big(now, key.remote(), claimed, current);
        // If the path was known to be smaller, from another connection, this one learns of it now.
        connection.on_packet_too_big(MtuReport {
            bytes: mtu.map_or(path.pmtu, |mtu| mtu.bytes),
            fragments: mtu.map_or(path.fragments, |mtu| mtu.locked),
        });
        if let Some(mtu) = mtu {
            self.state.path.expires = mtu.expires;
        }
    }
}
