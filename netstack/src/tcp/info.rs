//! What `TCP_INFO` says of a connection.

use crate::tcp::ecn::EcnMode;
use crate::tcp::handshake::FastOpenFail;
use crate::tcp::recovery::CongestionState;
use crate::tcp::state::State;
use crate::time::Duration;
use std::fmt;

/// The state of a connection in numbers, under the kernel's names without their prefix. Times are
/// [`Duration`]s where the kernel has microseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// State of the connection.
    pub state: State,
    /// Where loss recovery stands.
    pub ca_state: CongestionState,
    /// Expirations of the retransmission timer in a row.
    pub retransmits: u32,
    /// Window or keep-alive probes that were not answered.
    pub probes: u32,
    /// Doublings of the RTO.
    pub backoff: u32,
    /// The peer's window scale shift.
    pub snd_wscale: u8,
    /// Retransmission time-out.
    pub rto: Duration,
    /// Delay of acknowledgments.
    pub ato: Duration,
    /// Payload bytes of a full segment sent.
    pub snd_mss: usize,
    /// Payload bytes of a full segment received, estimated.
    pub rcv_mss: usize,
    /// What the handshake agreed on about ECN.
    pub ecn: EcnMode,
    /// Whether anything came that was marked as capable of ECN.
    pub ecn_seen: bool,
    /// With AccECN: packets of ours that the peer reported as marked.
    pub delivered_ce: u32,
    /// With AccECN: packets that came with a mark.
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
    /// The MSS that we advertised, in bytes.
    pub advmss: usize,
    /// Bytes in flight that are not acknowledged.
    pub unacked: usize,
    /// Bytes that the peer SACKed.
    pub sacked: usize,
    /// Bytes that are lost and not retransmitted yet.
    pub lost: usize,
    /// Bytes in flight that are retransmissions.
    pub retrans: usize,
    /// Smoothed round-trip time; zero before the first sample.
    pub rtt: Duration,
    /// Round-trip time variation.
    pub rttvar: Duration,
    /// Smallest round-trip time seen; zero before the first sample.
    pub min_rtt: Duration,
    /// The rate of pacing in bytes a second, whether or not it is enforced; `u64::MAX` before there is one.
    pub pacing_rate: u64,
    /// `SO_MAX_PACING_RATE` in bytes a second; `u64::MAX` if it is not set.
    pub max_pacing_rate: u64,
    /// The latest delivery rate that says something of the path, in bytes a second; 0 before there is one.
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
    /// Bytes that the user read in the busiest round trip.
    pub rcv_space: usize,
    /// Upper limit of our window in bytes.
    pub rcv_ssthresh: usize,
    /// The window that the peer offers, in bytes.
    pub snd_wnd: usize,
    /// The window that we offer, in bytes.
    pub rcv_wnd: usize,
    /// Segments retransmitted in all.
    pub total_retrans: u64,
    /// Bytes retransmitted in all.
    pub bytes_retrans: u64,
    /// Bytes sent in all, retransmissions included.
    pub bytes_sent: u64,
    /// Bytes acknowledged.
    pub bytes_acked: u64,
    /// Bytes received in order.
    pub bytes_received: u64,
    /// Segments received; a super-segment counts once.
    pub segs_in: u64,
    /// Segments sent; a super-segment counts once.
    pub segs_out: u64,
    /// Segments with data received.
    pub data_segs_in: u64,
    /// Segments with new data that were dropped for an old timestamp (RFC 7323 §5.3): on a path that
    /// reorders, a retransmission that overtakes what was sent before it makes that old.
    pub paws_drops: u64,
    /// Segments with data sent.
    pub data_segs_out: u64,
    /// Bytes written and never sent.
    pub notsent_bytes: usize,
    /// DSACK blocks received.
    pub dsack_dups: u64,
    /// Times that reordering was seen.
    pub reord_seen: u64,
    /// How far the path reorders, in segments; at least three.
    pub reordering: u32,
    /// Time with data to send or in flight, for whatever reason it was not acknowledged yet.
    pub busy_time: Duration,
    /// Part of it in which the peer's window held the sender back.
    pub rwnd_limited: Duration,
    /// Part of it in which all was sent and the send buffer was too small for more.
    pub sndbuf_limited: Duration,
    /// Since data was last sent.
    pub last_data_sent: Duration,
    /// Since data was last received, or since the handshake.
    pub last_data_recv: Duration,
    /// Whether all the data of a Fast Open SYN, ours or the peer's, was acknowledged with the SYN
    /// (`TCPI_OPT_SYN_DATA`).
    pub syn_data_acked: bool,
    /// Why data was not accepted with our SYN, if Fast Open was asked for.
    pub fastopen_client_fail: FastOpenFail,
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
