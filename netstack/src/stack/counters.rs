//! Counters, with the names of `netstat -s` for those that Linux has.

use crate::reasons::{DropReason, ResetReason};
use std::array;
use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters as a table, so that a name and its documentation stand together. Each group
/// counts in a type of its own, which belongs to the part of the stack that counts.
macro_rules! counters {
    (
        stack { $( $(#[$stack_attr:meta])* $stack:ident, $stack_text:literal; )* }
        udp { $( $(#[$udp_attr:meta])* $udp:ident, $udp_text:literal; )* }
        tcp { $( $(#[$tcp_attr:meta])* $tcp:ident, $tcp_text:literal; )* }
    ) => {
        /// The counters of a stack, since it was built.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Counters {
            $( $(#[$stack_attr])* pub $stack: u64, )*
            $( $(#[$udp_attr])* pub $udp: u64, )*
            $( $(#[$tcp_attr])* pub $tcp: u64, )*
            drops: Counts<{ DropReason::COUNT }>,
            resets: Counts<{ ResetReason::COUNT }>,
        }

        impl Counters {
            /// The names and values of all counters. The names are those of Linux, or of this stack
            /// for counters that Linux does not have. The counts by reason are last: `DropTcpCsum`,
            /// `RstNoSocket`.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                let drops = DropReason::ALL.iter().map(|reason| (reason.counter_name(), self.drops(*reason)));
                let resets =
                    ResetReason::ALL.iter().map(|reason| (reason.counter_name(), self.resets(*reason)));
                let named = [
                    $( ($stack_text, self.$stack), )*
                    $( ($udp_text, self.$udp), )*
                    $( ($tcp_text, self.$tcp) ),*
                ];
                named.into_iter().chain(drops).chain(resets)
            }
        }

        /// What the stack itself counts: IP, ICMP and devices.
        #[derive(Debug, Default)]
        pub(crate) struct StackCounters {
            $( pub(crate) $stack: Counter, )*
            drops: PerReason<{ DropReason::COUNT }>,
        }

        /// What UDP counts.
        #[derive(Debug, Default)]
        pub(crate) struct UdpCounters {
            $( pub(crate) $udp: Counter, )*
        }

        /// What TCP counts.
        #[derive(Debug, Default)]
        pub(crate) struct TcpCounters {
            $( pub(crate) $tcp: Counter, )*
            resets: PerReason<{ ResetReason::COUNT }>,
        }

        impl Counters {
            /// What the groups have counted so far.
            pub(crate) fn of(stack: &StackCounters, udp: &UdpCounters, tcp: &TcpCounters) -> Self {
                Self {
                    $( $stack: stack.$stack.0.load(Ordering::Relaxed), )*
                    $( $udp: udp.$udp.0.load(Ordering::Relaxed), )*
                    $( $tcp: tcp.$tcp.0.load(Ordering::Relaxed), )*
                    drops: stack.drops.read(),
                    resets: tcp.resets.read(),
                }
            }
        }
    };
}

counters! {
    stack {
        /// Packets received.
        in_receives, "InReceives";
        /// Packets dropped for a malformed IP header.
        in_header_errors, "InHdrErrors";
        /// Packets dropped for their addresses: not ours, or impossible ones.
        in_address_errors, "InAddrErrors";
        /// Packets of a transport protocol that the stack does not have.
        in_unknown_protocols, "InUnknownProtos";
        /// Datagrams put together from fragments.
        reassembled, "ReasmOKs";
        /// Datagrams that were sent in fragments.
        fragmented, "FragOKs";
        /// ICMP messages received.
        icmp_in, "IcmpInMsgs";
        /// ICMP messages sent.
        icmp_out, "IcmpOutMsgs";
        /// ICMP errors that the rate limit held back.
        icmp_rate_limited, "IcmpOutRateLimitGlobal";
        /// Packets sent.
        out_packets, "OutRequests";
        /// Times that the stack came under memory pressure.
        memory_pressures, "TCPMemoryPressures";
        /// Packets that a device could not take and that are sent later or again.
        device_full, "DeviceFull";
    }

    udp {
        /// UDP datagrams delivered to sockets; several that came as one count as one.
        udp_in_datagrams, "UdpInDatagrams";
        /// Datagrams sent to a UDP port that nobody has.
        udp_no_ports, "NoPorts";
        /// UDP datagrams with a bad header or checksum, and those that a socket had no room for.
        udp_in_errors, "UdpInErrors";
        /// UDP datagrams with a bad checksum.
        udp_in_csum_errors, "UdpInCsumErrors";
        /// UDP datagrams that the receive buffer of their socket had no room for.
        udp_rcvbuf_errors, "UdpRcvbufErrors";
        /// UDP datagrams that the stack had no memory for.
        udp_mem_errors, "MemErrors";
        /// UDP datagrams sent; several that a device divides count as one.
        udp_out_datagrams, "UdpOutDatagrams";
        /// UDP datagrams that were refused since the send buffer of their socket was full.
        udp_sndbuf_errors, "UdpSndbufErrors";
        /// ICMP errors about UDP datagrams of no socket: stale or forged.
        udp_icmp_unmatched, "UdpIcmpUnmatched";
    }

    tcp {
        /// ICMP messages about TCP segments that are not in flight: stale or forged.
        icmp_out_of_window, "OutOfWindowIcmps";
        /// TCP segments received; a super-segment counts as one.
        tcp_in_segments, "InSegs";
        /// TCP segments with a bad header or checksum.
        tcp_in_errors, "InErrs";
        /// Resets sent, those that end connections included. [`Counters::resets`] has them by reason.
        tcp_out_resets, "OutRsts";
        /// Resets that the rate limit held back.
        tcp_resets_limited, "OutRstsLimited";
        /// Connections that this side began.
        active_opens, "ActiveOpens";
        /// Connections that a peer began and that completed.
        passive_opens, "PassiveOpens";
        /// Attempts to connect that failed.
        attempt_fails, "AttemptFails";
        /// Connections complete or half-open that found an accept queue full.
        listen_overflows, "ListenOverflows";
        /// SYNs and connections that a listener dropped for any reason.
        listen_drops, "ListenDrops";
        /// SYNs dropped because the SYN queue was full and there are no SYN cookies.
        syn_queue_drops, "TCPReqQFullDrop";
        /// SYNs answered with a cookie because the SYN queue was full, or because all are.
        syn_queue_cookies, "TCPReqQFullDoCookies";
        /// SYN cookies sent.
        syncookies_sent, "SyncookiesSent";
        /// SYN cookies that came back and were right: connections that completed by them.
        syncookies_received, "SyncookiesRecv";
        /// Acknowledgments that were no SYN cookie of ours while one might have come back.
        syncookies_failed, "SyncookiesFailed";
        /// Time-outs of half-open connections.
        syn_timeouts, "TCPTimeouts";
        /// SYN-ACKs sent again.
        syn_retransmits, "TCPSynRetrans";
        /// Stray segments for half-open connections that the rate limit left without an answer.
        syn_received_skips, "TCPACKSkippedSynRecv";
        /// Acknowledgments without data that `TCP_DEFER_ACCEPT` did not take.
        defer_accept_drops, "TCPDeferAcceptDrop";
        /// Half-open connections that ended with a reset, from either side.
        embryonic_resets, "EmbryonicRsts";
        /// Connections reset because the accept queue was full (`tcp_abort_on_overflow`).
        abort_on_overflow, "TCPAbortOnOverflow";
        /// Orphans that were reset because there were too many, or since the stack was short of memory.
        abort_on_memory, "TCPAbortOnMemory";
        /// Bytes that those had been given to send, and that were not acknowledged.
        orphan_bytes_lost, "OrphanBytesLost";
        /// Times that a connection was made to hold less, since the stack was short of memory.
        prune_called, "PruneCalled";
        /// Times that a connection gave up data out of order for that.
        ofo_pruned, "OfoPruned";
        /// Bytes that they gave up.
        ofo_bytes_pruned, "OfoBytesPruned";
        /// Buffers of received data that were replaced by smaller ones.
        rcv_collapsed, "TCPRcvCollapsed";
        /// Buffers of data to send that were.
        snd_collapsed, "SndCollapsed";
        /// Segments in order, within the window, that the stack had no memory for.
        rcv_pruned, "RcvPruned";
        /// SYNs dropped, and handshakes that did not complete, since the stack was short of memory.
        syn_memory_drops, "SynMemoryDrops";
        /// Connections that entered TIME-WAIT.
        time_waited, "TW";
        /// TIME-WAIT states skipped because there were too many.
        time_wait_overflow, "TCPTimeWaitOverflow";
        /// TIME-WAIT entries that connect took over.
        time_wait_recycled, "TWRecycled";
        /// Segments that found their connection locked.
        backlog_queued, "TCPBacklogQueued";
        /// Segments dropped because their connection was locked and its backlog full.
        backlog_drops, "TCPBacklogDrop";
        /// Connections whose data was accepted with our SYN.
        fast_open_active, "TCPFastOpenActive";
        /// SYNs of ours whose data was not accepted.
        fast_open_active_fails, "TCPFastOpenActiveFail";
        /// Connections that Fast Open made from a peer's SYN.
        fast_open_passive, "TCPFastOpenPassive";
        /// SYNs with a cookie that was not good, or for which no connection could be made.
        fast_open_passive_fails, "TCPFastOpenPassiveFail";
        /// SYNs with a cookie of the backup key.
        fast_open_passive_alt_key, "TCPFastOpenPassiveAltKey";
        /// SYNs that found as many Fast Open connections waiting as their listener allows.
        fast_open_listen_overflows, "TCPFastOpenListenOverflow";
        /// SYNs that asked for a cookie.
        fast_open_cookie_requests, "TCPFastOpenCookieReqd";
        /// Times that Fast Open was paused since something on the way swallowed connections.
        fast_open_blackhole, "TCPFastOpenBlackhole";
    }
}

impl Counters {
    /// Packets that were dropped for `reason`.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.0[reason as usize]
    }

    /// Resets that were sent for `reason`. Together they are [`Counters::tcp_out_resets`].
    pub fn resets(&self, reason: ResetReason) -> u64 {
        self.resets.0[reason as usize]
    }
}

impl StackCounters {
    /// Counts packets that are dropped.
    pub(crate) fn add_drops(&self, reason: DropReason, count: u64) {
        self.drops.0[reason as usize].add(count);
    }

    /// Adds what a turn counted, and starts it from zero.
    pub(crate) fn count_packets(&self, received: &mut u64, sent: &mut u64) {
        self.in_receives.drain_from(received);
        self.out_packets.drain_from(sent);
    }
}

impl TcpCounters {
    /// Counts a reset that is sent.
    pub(crate) fn count_reset(&self, reason: ResetReason) {
        self.tcp_out_resets.bump();
        self.resets.0[reason as usize].bump();
    }
}

/// A counter for each reason.
#[derive(Debug)]
struct PerReason<const N: usize>([Counter; N]);

impl<const N: usize> PerReason<N> {
    fn read(&self) -> Counts<N> {
        Counts(array::from_fn(|index| self.0[index].0.load(Ordering::Relaxed)))
    }
}

impl<const N: usize> Default for PerReason<N> {
    fn default() -> Self {
        Self(array::from_fn(|_| Counter::default()))
    }
}

/// What was counted for each reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counts<const N: usize>([u64; N]);

impl<const N: usize> Default for Counts<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

/// One counter. Relaxed: a reader may see one counter ahead of another.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn bump(&self) {
        self.add(1);
    }

    /// Adds a count that was kept elsewhere, and starts that from zero.
    pub(crate) fn drain_from(&self, count: &mut u64) {
        if *count > 0 {
            self.add(std::mem::take(count));
        }
    }
}
