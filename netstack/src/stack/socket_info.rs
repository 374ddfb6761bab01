//! What there is to say of a socket in a list of all.

use crate::time::Duration;
use std::fmt;
use std::net::SocketAddr;

/// A socket at one time: a row of `ss -tuwanoi`, which its `Display` prints.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SocketInfo {
    /// `tcp`, `udp`, `ping` or `raw`.
    pub protocol: &'static str,
    /// The state, by its name in `ss`: `ESTAB`, `LISTEN`, `TIME-WAIT`; of a socket for datagrams `ESTAB` if it is
    /// connected, and else `UNCONN`.
    pub state: &'static str,
    /// Bytes that wait to be read; of a listener, connections that wait for `accept`; of a socket for datagrams,
    /// the memory that they take, as in Linux.
    pub recv_queue: usize,
    /// Bytes that were written and not acknowledged yet; of a listener, the backlog; of a socket for datagrams,
    /// bytes that wait for a device.
    pub send_queue: usize,
    /// The local address. The port of a ping socket is its identifier, that of a raw socket its protocol.
    pub local: SocketAddr,
    /// The address of the peer, if there is one.
    pub remote: Option<SocketAddr>,
    /// Datagrams that there was no room for in the receive buffer.
    pub dropped: u64,
    /// Whose it is, as the application said (`set_owner`); 0 if it said nothing.
    pub owner: u32,
    /// What the socket waits for until when, if it does.
    pub timer: Option<SocketTimer>,
    /// What is known of the transfer, if there is one.
    pub transfer: Option<TransferInfo>,
}

/// The timer of a socket that is due first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketTimer {
    /// What it is for, by its name in `ss`: `on` (a retransmission), `keepalive`, `persist`, `timewait`.
    pub name: &'static str,
    /// For how long it still runs.
    pub left: Duration,
    /// Retransmissions, or probes, without an answer so far.
    pub retransmits: u32,
}

/// What a connection knows of its path and has done.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct TransferInfo {
    /// The name of the congestion control.
    pub congestion: String,
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Its variation.
    pub rttvar: Duration,
    /// Retransmission timeout.
    pub rto: Duration,
    /// Payload bytes of a full segment.
    pub mss: usize,
    /// Congestion window in bytes.
    pub cwnd: usize,
    /// Slow start threshold in bytes.
    pub ssthresh: usize,
    /// Bytes acknowledged by the peer.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Segments that were sent again.
    pub retransmits: u64,
    /// Bytes in flight.
    pub unacked: usize,
}

impl SocketInfo {
    pub(super) fn new(protocol: &'static str, state: &'static str, local: SocketAddr) -> Self {
        let (recv_queue, send_queue, remote, dropped, owner) = (0, 0, None, 0, 0);
        let (timer, transfer) = (None, None);
        Self { protocol, state, recv_queue, send_queue, local, remote, dropped, owner, timer, transfer }
    }

    /// A socket for datagrams.
    pub(super) fn of_datagrams(
        protocol: &'static str,
        local: SocketAddr,
        remote: Option<SocketAddr>,
    ) -> Self {
        let state = if remote.is_some() { "ESTAB" } else { "UNCONN" };
        Self { remote, ..Self::new(protocol, state, local) }
    }
}

impl SocketTimer {
    pub(super) fn new(name: &'static str, left: Duration, retransmits: u32) -> Self {
        Self { name, left, retransmits }
    }
}

impl fmt::Display for SocketTimer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timer:({},{}ms,{})", self.name, self.left.as_millis(), self.retransmits)
    }
}

impl fmt::Display for TransferInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(
            f,
            "{} rto:{:.0} rtt:{:.3}/{:.3} mss:{} cwnd:{} bytes_acked:{} bytes_received:{}",
            self.congestion,
            millis(self.rto),
            millis(self.rtt),
            millis(self.rttvar),
            self.mss,
            self.cwnd / self.mss.max(1),
            self.bytes_acked,
            self.bytes_received,
        )?;
        if self.retransmits > 0 {
            write!(f, " retrans:{}", self.retransmits)?;
        }
        if self.unacked > 0 { write!(f, " unacked:{}", self.unacked) } else { Ok(()) }
    }
}

impl fmt::Display for SocketInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { protocol, state, recv_queue, send_queue, local, remote, dropped, owner, timer, transfer } =
            self;
        let remote = remote.map_or_else(|| "*:*".to_owned(), |remote| remote.to_string());
        let local = local.to_string();
        write!(f, "{protocol:<5} {state:<10} {recv_queue:<6} {send_queue:<6} {local:>21} {remote:>21}")?;
        if let Some(timer) = timer {
            write!(f, " {timer}")?;
        }
        if *dropped > 0 {
            write!(f, " drops:{dropped}")?;
        }
        if *owner != 0 {
            write!(f, " owner:{owner}")?;
        }
        transfer.as_ref().map_or(Ok(()), |transfer| write!(f, "\n\t {transfer}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_reads_like_one_of_ss() {
        let mut row = SocketInfo::new("tcp", "LISTEN", "0.0.0.0:80".parse().unwrap());
        row.send_queue = 4096;
        assert_eq!(
            row.to_string(),
            "tcp   LISTEN     0      4096              0.0.0.0:80                   *:*"
        );
        let row_of_udp = SocketInfo {
            recv_queue: 4096,
            dropped: 7,
            ..SocketInfo::of_datagrams("udp", "10.0.0.1:53".parse().unwrap(), None)
        };
        assert_eq!(
            row_of_udp.to_string(),
            "udp   UNCONN     4096   0                10.0.0.1:53                   *:* drops:7"
        );
        row.state = "ESTAB";
        row.remote = Some("10.0.0.2:5000".parse().unwrap());
        row.timer = Some(SocketTimer::new("on", Duration::from_millis(204), 1));
        row.owner = 7;
        row.transfer = Some(TransferInfo {
            congestion: "cubic".to_owned(),
            rtt: Duration::from_micros(1500),
            rttvar: Duration::from_micros(750),
            rto: Duration::from_millis(204),
            mss: 1448,
            cwnd: 14_480,
            ssthresh: usize::MAX,
            bytes_acked: 1,
            bytes_received: 2,
            retransmits: 3,
            unacked: 4,
        });
        let text = row.to_string();
        assert!(text.ends_with(
            "10.0.0.2:5000 timer:(on,204ms,1) owner:7\n\t cubic rto:204 rtt:1.500/0.750 mss:1448 cwnd:10 bytes_acked:1 \
             bytes_received:2 retrans:3 unacked:4"
        ));
    }
}
