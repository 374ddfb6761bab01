//! ICMP errors that quote a segment of the connection.

use super::Connection;
use crate::tcp::error::TcpError;
use crate::wire::SeqNum;

impl Connection {
    /// Whether `seq` is in flight: an ICMP message that quotes anything else is forged or stale
    /// (RFC 5927 §4.1, RFC 8201 §4).
    pub fn is_in_flight(&self, seq: SeqNum) -> bool {
        self.snd.is_in_flight(seq)
    }

    /// Whether an ICMP error that quotes `seq` may be genuine: something that carried it is on its way.
    pub fn expects_icmp(&self, seq: SeqNum) -> bool {
        self.is_in_flight(seq) || self.is_of_opening(seq)
    }

    /// An ICMP error quoted a segment of this connection with the sequence number `seq`.
    ///
    /// An error about something that is not in flight is forged or stale (RFC 5927 §4.1). In a
    /// synchronised state no error ends the connection (§5.2): it is remembered, and reported if the
    /// connection times out.
    pub fn on_icmp_error(&mut self, seq: SeqNum, error: TcpError) {
        if self.ends_by_icmp(seq) {
            self.enter_closed(error.as_end(), Some(error));
            return;
        }
        if self.is_in_flight(seq) {
            self.outcome.set_soft_error(Some(error));
        }
    }
}
