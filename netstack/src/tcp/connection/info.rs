//! The connection in numbers.

use super::Connection;
use crate::tcp::ecn::EcnMode;
use crate::tcp::info::TcpInfo;
use crate::time::Instant;
use crate::trace::Windows;

impl Connection {
    /// The windows at the moment.
    pub fn windows(&self) -> Windows {
        Windows::new(self.snd.wnd(), self.path.cwnd(), self.rcv.wnd())
    }

    /// The connection in numbers (`TCP_INFO`).
    pub fn info(&self, now: Instant) -> TcpInfo {
        let board = self.recovery.board();
        let counters = self.recovery.counters();
        let reordering = self.recovery.reordering();
        let times = self.snd.times(now);
        let (delivered, received) = self.ecn.as_ref().map_or_else(Default::default, |ecn| ecn.bytes());
        TcpInfo {
            state: self.state,
            ca_state: self.recovery.state(),
            retransmits: self.recovery.timeouts(),
            probes: self.liveness.unanswered(),
            backoff: self.path.rtt().backoff(),
            snd_wscale: self.snd.scale().shift(),
            rto: self.path.rtt().rto(),
            ato: self.rcv.ato(),
            snd_mss: self.snd.mss(),
            rcv_mss: self.rcv.rcv_mss(),
            ecn: self.ecn.as_ref().map_or(EcnMode::Off, |ecn| ecn.mode()),
            ecn_seen: self.ecn.as_ref().is_some_and(|ecn| ecn.seen()),
            delivered_ce: self.ecn.as_ref().map_or(0, |ecn| ecn.delivered_ce()),
            received_ce: self.ecn.as_ref().map_or(0, |ecn| ecn.received_ce()),
            delivered_e1_bytes: delivered[0],
            delivered_e0_bytes: delivered[1],
            delivered_ce_bytes: delivered[2],
            received_e1_bytes: received[0],
            received_e0_bytes: received[1],
            received_ce_bytes: received[2],
            pmtu: self.path_mtu(),
            advmss: self.rcv.advertised_mss(),
            unacked: board.outstanding(),
            sacked: board.sacked(),
            lost: board.lost() + board.retransmitted(),
            retrans: board.retransmitted(),
            rtt: self.path.rtt().srtt().unwrap_or_default(),
            rttvar: self.path.rtt().rttvar(),
            min_rtt: self.path.rtt().min_rtt().unwrap_or_default(),
            pacing_rate: self.path.pacing_rate(board.outstanding()),
            max_pacing_rate: self.options.max_pacing_rate.unwrap_or(u64::MAX),
            delivery_rate: board.rate().shown_rate(),
            delivery_rate_app_limited: board.rate().shown_app_limited(),
            delivered: board.rate().delivered(),
            snd_ssthresh: self.path.ssthresh(),
            snd_cwnd: self.path.cwnd(),
            rcv_rtt: self.rcv.rtt(),
            rcv_space: self.rcv.space(),
            rcv_ssthresh: self.rcv.limit(),
            snd_wnd: self.snd.wnd(),
            rcv_wnd: self.rcv.wnd(),
            total_retrans: counters.total_retrans,
            bytes_retrans: counters.bytes_retrans,
            bytes_sent: self.counters.bytes_sent,
            bytes_acked: self.counters.bytes_acked,
            bytes_received: self.counters.bytes_received,
            segs_in: self.counters.segs_in,
            segs_out: self.counters.segs_out,
            data_segs_in: self.counters.data_segs_in,
            paws_drops: self.counters.paws_drops,
            data_segs_out: self.counters.data_segs_out,
            notsent_bytes: self.snd.unsent(),
            dsack_dups: counters.dsack_dups,
            reord_seen: reordering.seen(),
            reordering: reordering.degree(),
            busy_time: times.busy,
            rwnd_limited: times.peer_window,
            sndbuf_limited: times.send_buffer,
            last_data_sent: now - self.snd.last_sent(),
            last_data_recv: now - self.rcv.last_data().unwrap_or(self.counters.created),
            syn_data_acked: self.fast_open.syn_data_acked(),
            fastopen_client_fail: self.fast_open.client_fail(),
        }
    }
}
