//! The information of `TCP_INFO` about a connection.

use crate::tcp::ecn::EcnMode;
use crate::tcp::handshake::FastOpenFail;
use crate::tcp::recovery::CongestionState;
use crate::tcp::state::State;
use crate::time::Duration;
use std::fmt;

/// The state of a connection in numbers. The names are those of the kernel without the prefix
/// `tcpi_`. Times are [`Duration`]s where the kernel has microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// State of the connection.
    pub state: State,
    /// The phase of loss recovery.
    pub ca_state: CongestionState,
    /// Expirations of the retransmission timer in a row.
    pub retransmits: u32,
    /// Window or keep-alive probes that were not answered.
    pub probes: u32,
    /// Doublings of the RTO.
    pub backoff: u32,
    /// The peer's window scale shift.
    pub snd_wscale: u8,
    /// Retransmission timeout.
    pub rto: Duration,
    /// Delay of acknowledgments.
    pub ato: Duration,
    /// Payload bytes of a full segment sent.
    pub snd_mss: usize,
    /// Payload bytes of a full segment received, estimated.
    pub rcv_mss: usize,
    /// The ECN mode that the handshake negotiated.
    pub ecn: EcnMode,
    /// Whether a packet marked ECT or CE was received.
    pub ecn_seen: bool,
    /// With AccECN: sent packets that the peer reported as CE-marked.
    pub delivered_ce: u32,
    /// With AccECN: CE-marked packets that were received.
    pub received_ce: u32,
    /// With AccECN's option: bytes that the peer reported as received with ECT(1), modulo 2³² as all of
    /// these.
    pub delivered_e1_bytes: u32,
    /// The same for ECT(0).
    pub delivered_e0_bytes: u32,
    /// The same for CE.
    pub delivered_ce_bytes: u32,
    /// With AccECN: payload bytes that came with ECT(1).
    pub received_e1_bytes: u32,
    /// The same for ECT(0).
    pub received_e0_bytes: u32,
    /// The same for CE.
    pub received_ce_bytes: u32,
    /// MTU of the path, in bytes, headers included.
    pub pmtu: usize,
    /// The advertised MSS in bytes.
    pub advmss: usize,
    /// Bytes that were sent and are not acknowledged, wherever they are: what the peer SACKed and what is
    /// lost is included. See [`TcpInfo::in_flight`].
    pub unacked: usize,
    /// Bytes that the peer SACKed.
    pub sacked: usize,
    /// Bytes that are thought to be lost, whether they were retransmitted or not.
    pub lost: usize,
    /// Bytes of them that were retransmitted.
    pub retrans: usize,
    /// Smoothed round-trip time; zero before the first sample.
    pub rtt: Duration,
    /// Round-trip time variation.
    pub rttvar: Duration,
    /// Minimum round-trip time; zero before the first sample.
    pub min_rtt: Duration,
    /// Pacing rate in bytes per second, whether or not the connection is paced; `u64::MAX` before
    /// it is known.
    pub pacing_rate: u64,
    /// `SO_MAX_PACING_RATE` in bytes per second; `u64::MAX` if it is not set.
    pub max_pacing_rate: u64,
    /// The latest meaningful sample of the delivery rate, in bytes per second; 0 before the first
    /// one.
    pub delivery_rate: u64,
    /// Whether the application and not the path limited the delivery rate.
    pub delivery_rate_app_limited: bool,
    /// Bytes acknowledged or SACKed.
    pub delivered: u64,
    /// Slow start threshold in bytes.
    pub snd_ssthresh: usize,
    /// Congestion window in bytes.
    pub snd_cwnd: usize,
    /// The receiver's estimate of the round-trip time.
    pub rcv_rtt: Duration,
    /// Bytes that the application read in the busiest round trip.
    pub rcv_space: usize,
    /// Upper limit of the advertised window in bytes.
    pub rcv_ssthresh: usize,
    /// The peer's window in bytes.
    pub snd_wnd: usize,
    /// The advertised window in bytes.
    pub rcv_wnd: usize,
    /// Total number of retransmitted segments.
    pub total_retrans: u64,
    /// Total number of retransmitted bytes.
    pub bytes_retrans: u64,
    /// Total number of sent bytes, including retransmissions.
    pub bytes_sent: u64,
    /// Bytes acknowledged. As in Linux, the SYN of an active open and our FIN count as one each.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Segments received; a super-segment counts once.
    pub segs_in: u64,
    /// Segments sent; a super-segment counts once.
    pub segs_out: u64,
    /// Segments with data received.
    pub data_segs_in: u64,
    /// Segments with new data that were dropped because of an old timestamp (PAWS, RFC 7323 §5.3).
    /// On a path that reorders packets, a retransmission that overtakes earlier segments makes
    /// their timestamps old.
    pub paws_drops: u64,
    /// Segments with data sent.
    pub data_segs_out: u64,
    /// Bytes written and never sent.
    pub notsent_bytes: usize,
    /// DSACK blocks received.
    pub dsack_dups: u64,
    /// Number of reordering events.
    pub reord_seen: u64,
    /// Reordering distance of the path in segments; at least three.
    pub reordering: u32,
    /// Time during which data was queued or in flight.
    pub busy_time: Duration,
    /// Part of `busy_time` during which the peer's window limited the sender.
    pub rwnd_limited: Duration,
    /// Part of `busy_time` during which all data was sent and the size of the send buffer limited
    /// the sender.
    pub sndbuf_limited: Duration,
    /// Time since data was last sent.
    pub last_data_sent: Duration,
    /// Time since data was last received, or since the handshake.
    pub last_data_recv: Duration,
    /// Whether all data of a Fast Open SYN, sent or received, was acknowledged with the SYN
    /// (`TCPI_OPT_SYN_DATA`).
    pub syn_data_acked: bool,
    /// Why the peer did not accept the data of the SYN, if Fast Open was used.
    pub fastopen_client_fail: FastOpenFail,
}

impl TcpInfo {
    /// Bytes that are thought to be in the network: the pipe of RFC 6675 §4, and what Linux computes
    /// of the same numbers in `tcp_packets_in_flight`. This is what [`snd_cwnd`](Self::snd_cwnd) limits.
    pub fn in_flight(&self) -> usize {
        (self.unacked + self.retrans).saturating_sub(self.sacked + self.lost)
    }
}

impl fmt::Display for TcpInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {:?} rtt:{:?}/{:?} rto:{:?} mss:{} cwnd:{} ssthresh:{} unacked:{} sacked:{} lost:{} retrans:{}/{} bytes_acked:{} bytes_received:{}",
            self.state,
            self.ca_state,
            self.rtt,
            self.rttvar,
            self.rto,
            self.snd_mss,
            self.snd_cwnd,
            self.snd_ssthresh,
            self.unacked,
            self.sacked,
            self.lost,
            self.retrans,
            self.total_retrans,
            self.bytes_acked,
            self.bytes_received,
        )
    }
}
