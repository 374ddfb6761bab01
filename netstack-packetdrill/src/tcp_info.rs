//! `struct tcp_info` of Linux, filled from [`TcpInfo`].

use netstack::tcp::{CongestionState, EcnMode, State, TcpInfo};
use netstack::time::Duration;

/// Bytes of the structure in Linux 6.18. Older readers take less, which is how it grows.
pub const SIZE: usize = 280;

/// `TCPI_OPT_ECN` and `TCPI_OPT_ECN_SEEN`.
const OPT_ECN: u8 = 8;
const OPT_ECN_SEEN: u8 = 16;
/// `TCPI_OPT_SYN_DATA`.
const OPT_SYN_DATA: u8 = 32;

/// `TCP_INFINITE_SSTHRESH`.
const INFINITE: u32 = 0x7fff_ffff;

/// The structure of a socket without a connection: its state, and nothing else.
pub fn without_connection(state: State) -> Vec<u8> {
    let mut raw = vec![0; SIZE];
    raw[0] = state_number(state);
    raw
}

/// The structure. Fields that [`TcpInfo`] does not have are zero.
pub fn encode(info: &TcpInfo) -> Vec<u8> {
    let mut raw = without_connection(info.state);
    let mss = info.snd_mss.max(1);
    // The kernel counts segments where netstack counts bytes.
    let segments = |bytes: usize| word(bytes.div_ceil(mss));
    let threshold =
        if info.snd_ssthresh > INFINITE as usize { INFINITE } else { word(info.snd_ssthresh / mss) };
    raw[1] = ca_state_number(info.ca_state);
    raw[2] = byte(info.retransmits);
    raw[3] = byte(info.probes);
    raw[4] = byte(info.backoff);
    raw[5] = if info.syn_data_acked { OPT_SYN_DATA } else { 0 };
    raw[5] |= if info.ecn == EcnMode::Off { 0 } else { OPT_ECN };
    raw[5] |= if info.ecn_seen { OPT_ECN_SEEN } else { 0 };
    raw[6] = info.snd_wscale & 15;
    raw[7] = (info.fastopen_client_fail as u8) << 1;
    for (at, value) in [
        (8, micros(info.rto)),
        (12, micros(info.ato)),
        (16, word(info.snd_mss)),
        (20, word(info.rcv_mss)),
        (24, segments(info.unacked)),
        (28, segments(info.sacked)),
        (32, segments(info.lost)),
        (36, segments(info.retrans)),
        (44, millis(info.last_data_sent)),
        (52, millis(info.last_data_recv)),
        (60, word(info.pmtu)),
        (64, word(info.rcv_ssthresh)),
        (68, micros(info.rtt)),
        (72, micros(info.rttvar)),
        (76, threshold),
        (80, word(info.snd_cwnd / mss)),
        (84, word(info.advmss)),
        (88, info.reordering),
        (92, micros(info.rcv_rtt)),
        (96, word(info.rcv_space)),
        (100, count(info.total_retrans)),
        (136, count(info.segs_out)),
        (140, count(info.segs_in)),
        (144, word(info.notsent_bytes)),
        (148, micros(info.min_rtt)),
        (152, count(info.data_segs_in)),
        (156, count(info.data_segs_out)),
        // Linux counts segments, including the SYN that was sent.
        (192, if info.state == State::SynReceived { 0 } else { 1 + segments(info.delivered as usize) }),
        (196, info.delivered_ce),
        (216, count(info.dsack_dups)),
        (220, count(info.reord_seen)),
        (228, word(info.snd_wnd)),
        (232, word(info.rcv_wnd)),
        (248, info.received_ce),
        (252, info.delivered_e1_bytes),
        (256, info.delivered_e0_bytes),
        (260, info.delivered_ce_bytes),
        (264, info.received_e1_bytes),
        (268, info.received_e0_bytes),
        (272, info.received_ce_bytes),
    ] {
        raw[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }
    for (at, value) in [
        (120, info.bytes_acked),
        (128, info.bytes_received),
        (200, info.bytes_sent),
        (168, info.busy_time.as_micros() as u64),
        (176, info.rwnd_limited.as_micros() as u64),
        (184, info.sndbuf_limited.as_micros() as u64),
        (208, info.bytes_retrans),
    ] {
        raw[at..at + 8].copy_from_slice(&value.to_ne_bytes());
    }
    raw
}

fn byte(n: u32) -> u8 {
    u8::try_from(n).unwrap_or(u8::MAX)
}

fn word(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn count(n: u64) -> u32 {
    // Counters wrap, as in the kernel.
    n as u32
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

fn state_number(state: State) -> u8 {
    match state {
        State::Established => 1,
        State::SynSent => 2,
        State::SynReceived => 3,
        State::FinWait1 => 4,
        State::FinWait2 => 5,
        State::TimeWait => 6,
        State::Closed => 7,
        State::CloseWait => 8,
        State::LastAck => 9,
        State::Listen => 10,
        State::Closing => 11,
    }
}

/// `enum tcp_ca_state`.
fn ca_state_number(state: CongestionState) -> u8 {
    match state {
        CongestionState::Open => 0,
        CongestionState::Disorder => 1,
        CongestionState::Cwr => 2,
        CongestionState::Recovery => 3,
        CongestionState::Loss => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    #[test]
    fn the_counters_of_accecn_have_the_places_of_the_kernel() {
        let info = TcpInfo {
            delivered_ce: 1,
            received_ce: 2,
            delivered_e1_bytes: 3,
            delivered_e0_bytes: 4,
            delivered_ce_bytes: 5,
            received_e1_bytes: 6,
            received_e0_bytes: 7,
            received_ce_bytes: 8,
            ..crate::world::tests::info_of_a_connection()
        };
        let raw = encode(&info);
        let word = |at: usize| u32::from_ne_bytes(raw[at..at + 4].try_into().expect("four bytes"));
        // tcpi_delivered_ce, and what Linux 6.18 has from tcpi_received_ce on.
        assert_eq!([196, 248, 252, 256, 260, 264, 268, 272].map(word), [1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn the_offsets_are_those_of_the_kernel() {
        // libc knows the structure as it was when it had fewer fields; the offsets stay.
        for (ours, theirs) in [
            (8, offset_of!(libc::tcp_info, tcpi_rto)),
            (24, offset_of!(libc::tcp_info, tcpi_unacked)),
            (44, offset_of!(libc::tcp_info, tcpi_last_data_sent)),
            (52, offset_of!(libc::tcp_info, tcpi_last_data_recv)),
            (64, offset_of!(libc::tcp_info, tcpi_rcv_ssthresh)),
            (76, offset_of!(libc::tcp_info, tcpi_snd_ssthresh)),
            (80, offset_of!(libc::tcp_info, tcpi_snd_cwnd)),
            (100, offset_of!(libc::tcp_info, tcpi_total_retrans)),
        ] {
            assert_eq!(ours, theirs);
        }
        let raw = without_connection(State::Listen);
        assert_eq!((raw.len(), raw[0]), (280, 10));
    }
}
