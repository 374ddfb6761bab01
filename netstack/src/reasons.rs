//! Why packets are dropped, why resets are sent, and why connections end.
//!
//! Where Linux has a name for a reason, this is it: `SKB_DROP_REASON_*` of `include/net/dropreason-core.h`
//! (since Linux 5.17) and `SK_RST_REASON_*` of `include/net/rstreason.h` (since Linux 6.10). The others
//! are of situations that Linux does not have, or does not tell from others, and their documentation says
//! so with the word "own".

use std::fmt;

/// Declares an enum of reasons as a table, so that a reason, its documentation and its text stand together.
macro_rules! reasons {
    (
        #[counter($prefix:literal)]
        $(#[$attr:meta])*
        pub enum $name:ident { $( $(#[$variant_attr:meta])* $variant:ident = $text:literal, )* }
    ) => {
        $(#[$attr])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$variant_attr])* $variant, )*
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$( Self::$variant ),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name of the variant.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => stringify!($variant), )*
                }
            }

            /// The name of the counter of this reason in [`Counters`](crate::stack::Counters).
            pub const fn counter_name(self) -> &'static str {
                match self {
                    $( Self::$variant => concat!($prefix, stringify!($variant)), )*
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $( Self::$variant => $text, )*
                })
            }
        }
    };
}

reasons! {
    #[counter("Drop")]
    /// Why a packet, or what was in it, was dropped.
    ///
    /// A segment that is answered, with an acknowledgment or a reset, and otherwise has no effect is
    /// dropped as well.
    pub enum DropReason {
        /// Shorter than its headers say.
        PktTooSmall = "shorter than its headers",
        /// An IP header that is malformed, or with a source route.
        IpInhdr = "bad IP header",
        /// The checksum of an IPv4 header is wrong.
        IpCsum = "bad IP header checksum",
        /// Extension headers of IPv6 that are malformed or too many.
        Ipv6BadExthdr = "bad IPv6 extension header",
        /// The source cannot be one host: unspecified, multicast or broadcast.
        IpInvalidSource = "the source is no host",
        /// The source is an address of this stack, and the packet comes from outside.
        IpLocalSource = "our own address as the source",
        /// A loopback address in a packet from outside.
        IpLocalnet = "loopback address from outside",
        /// The route to the source leads through another interface than the one that it came in on
        /// ([`Config::rp_filter`](crate::Config::rp_filter)).
        IpRpfilter = "reverse path filter",
        /// The destination is no address to send to.
        IpInvalidDest = "the destination is no host",
        /// Own: an IPv4 address in the mapped form of IPv6, which must not be on the wire.
        MappedAddress = "IPv4-mapped address",
        /// The destination is another host, and the stack forwards nothing.
        OtherHost = "for another host",
        /// Own: a fragment that can be part of no sound datagram.
        FragInvalid = "impossible fragment",
        /// Own: a fragment that overlaps another, and what belongs to the same datagram.
        FragOverlap = "overlapping fragments",
        /// A fragment came a second time.
        DupFrag = "duplicate fragment",
        /// Fragments of a datagram did not come in time.
        FragReasmTimeout = "fragments missing for too long",
        /// Own: a datagram that was incomplete when the memory for those was full.
        FragMemory = "too many incomplete datagrams",
        /// A transport protocol that the stack does not have.
        IpNoproto = "unknown transport protocol",
        /// Own: to a group or to all hosts, where only a packet to one host is answered.
        NotUnicast = "not to one host",
        /// The checksum of an ICMP message is wrong.
        IcmpCsum = "bad ICMP checksum",
        /// Own: an ICMP message that means nothing here.
        IcmpUnhandled = "ICMP message without use",
        /// Own: an ICMP error about a segment that is not in flight: stale or forged.
        IcmpOutOfWindow = "ICMP error about nothing in flight",
        /// Own: an ICMP error that the rate limit kept from being sent.
        IcmpRatelimit = "rate limit of ICMP errors",
        /// Own: an echo request that [`Config::any_ip_echo`](crate::Config::any_ip_echo) keeps from being
        /// answered.
        EchoIgnored = "policy for echo requests",
        /// Own: an echo request for an application that has too many of them to answer.
        EchoQueueFull = "too many echo requests wait",
        /// Ours is longer than the MTU of the interface that it leaves through.
        PktTooBig = "longer than the MTU",
        /// Own: the device lost one of ours, and goes on.
        DeviceLoss = "lost by the device",
        /// Own: the interface that it came in on, or was to leave through, was taken down.
        InterfaceDown = "interface down",
        /// Nobody has the port.
        NoSocket = "no socket",
        /// Own: for nobody, and the rate limit of resets left it without an answer.
        RstRatelimit = "no socket, and rate limit of resets",
        /// The checksum of a UDP datagram is wrong.
        UdpCsum = "bad UDP checksum",
        /// The receive buffer of the socket is full (`SO_RCVBUF`).
        SocketRcvbuff = "receive buffer full",
        /// The stack is short of memory ([`Config::memory`](crate::Config::memory)), and the socket has its share.
        ProtoMem = "no memory",
        /// Own: the first datagram of a UDP flow, for a forwarder that has too many flows, too many that wait to
        /// be accepted, or too much that waits to be read.
        UdpFlowsFull = "too many UDP flows",
        /// The checksum of a TCP segment is wrong.
        TcpCsum = "bad TCP checksum",
        /// Flags that make no sense in the state.
        TcpFlags = "wrong TCP flags",
        /// A reset that does not count: its sequence number is not the expected one.
        TcpReset = "invalid reset",
        /// SYN in a synchronized state.
        TcpInvalidSyn = "unexpected SYN",
        /// The connection is over.
        TcpClose = "connection closed",
        /// An old timestamp, or an echo of one that was never sent.
        TcpRfc7323Paws = "PAWS",
        /// In SYN-RECEIVED: the timestamp that is echoed was never sent.
        TcpRfc7323Tsecr = "echo of a timestamp that was never sent",
        /// Outside of the receive window.
        TcpInvalidSequence = "sequence number out of window",
        /// A duplicate without data.
        TcpOldSequence = "old duplicate",
        /// All its data was received before.
        TcpOldData = "data received before",
        /// All its data is beyond the receive window.
        TcpOverwindow = "data beyond the window",
        /// All its data waits beyond a hole already.
        TcpOfomerge = "data out of order received before",
        /// Own: no memory for data out of order.
        TcpOfoDrop = "no room for data out of order",
        /// The acknowledgment is older than any that can be on its way.
        TcpTooOldAck = "ACK too old",
        /// Data is acknowledged that was never sent.
        TcpAckUnsentData = "ACK of unsent data",
        /// In the handshake: the acknowledgment is not of our SYN.
        TcpInvalidAckSequence = "ACK of another SYN",
        /// In the handshake of Fast Open: the acknowledgment is older than our SYN-ACK.
        TcpOldAck = "ACK older than the SYN-ACK",
        /// Data came that nobody will read any more.
        TcpAbortOnData = "data after close",
        /// Own: for a TIME-WAIT or orphaned FIN-WAIT-2 state that has no use for it.
        TcpTimewait = "TIME-WAIT",
        /// The connection was locked, and enough segments waited for it.
        SocketBacklog = "socket backlog full",
        /// Own: a SYN that found the SYN queue full, and there are no SYN cookies.
        SynQueueFull = "SYN queue full",
        /// A SYN, or the end of a handshake, that found the accept queue full.
        TcpListenOverflow = "accept queue full",
        /// Own: there are as many connections as there may be.
        ConnectionLimit = "too many connections",
        /// Own: the listener was closed while the segment was on its way to it.
        ListenerClosed = "listener closed",
        /// Own: meanwhile another thread changed whom the segment is for.
        Raced = "its receiver changed meanwhile",
        /// Own: the handshake is complete without data, which `TCP_DEFER_ACCEPT` waits for.
        TcpDeferAccept = "TCP_DEFER_ACCEPT",
        /// Own: a repeated SYN while the application decides about the first.
        SynHeld = "SYN waits for a decision",
        /// Own: a stray segment in SYN-RECEIVED soon after another one that was answered.
        AckRatelimit = "rate limit of ACKs for stray segments",
    }
}

reasons! {
    #[counter("Rst")]
    /// Why a reset was sent.
    pub enum ResetReason {
        /// The segment belongs to no connection, and nobody listens.
        NoSocket = "no socket",
        /// In the handshake: the acknowledgment is not of our SYN.
        TcpInvalidAckSequence = "ACK of another SYN",
        /// In SYN-RECEIVED: the SYN came again and asks for another kind of ECN feedback (RFC 9768 §3.1.5).
        TcpInvalidSyn = "SYN that contradicts the first",
        /// In SYN-SENT: the timestamp that is echoed was never sent.
        TcpRfc7323Paws = "PAWS",
        /// In the handshake of Fast Open: data is acknowledged that was never sent.
        TcpAckUnsentData = "ACK of unsent data",
        /// In the handshake of Fast Open: the acknowledgment is older than our SYN-ACK.
        TcpOldAck = "ACK older than the SYN-ACK",
        /// An acknowledgment for a listener, and no SYN cookie.
        TcpFlags = "wrong TCP flags",
        /// Data came that nobody will read any more.
        TcpAbortOnData = "data after close",
        /// The same, or a new SYN, where only a FIN-WAIT-2 record is left.
        TcpTimewaitSocket = "segment for a closed connection that only waits for a FIN",
        /// Own: the connection was over when the segment came.
        TcpClose = "connection closed",
        /// The application closed the connection and left data unread.
        TcpAbortOnClose = "closed with unread data",
        /// The application closed the connection with `SO_LINGER` zero, or its time ran out; or
        /// `TCP_LINGER2` is zero.
        TcpAbortOnLinger = "SO_LINGER",
        /// Too many connections that no application holds.
        TcpAbortOnMemory = "too many orphans",
        /// The application aborted the connection.
        TcpState = "aborted by the application",
        /// The application aborted a connection that both sides had closed, with data under way.
        TcpDisconnectWithData = "aborted by the application with data under way",
        /// Keep-alive probes were not answered.
        TcpKeepaliveTimeout = "keep-alive probes not answered",
        /// Own: the accept queue was full (`tcp_abort_on_overflow`).
        TcpAbortOnOverflow = "accept queue full",
        /// Own: the application refused the SYN.
        Rejected = "refused by the application",
        /// Own: the listener was closed before anybody accepted the connection, or while a SYN was on its
        /// way to it.
        ListenerClosed = "listener closed",
        /// Own: the stack was shut down.
        StackShutDown = "stack shut down",
    }
}

impl ResetReason {
    /// Why the segment is dropped that such a reset answers; none for resets that answer no segment.
    pub const fn drop_reason(self) -> Option<DropReason> {
        Some(match self {
            Self::NoSocket => DropReason::NoSocket,
            Self::TcpInvalidAckSequence => DropReason::TcpInvalidAckSequence,
            Self::TcpInvalidSyn => DropReason::TcpInvalidSyn,
            Self::TcpRfc7323Paws => DropReason::TcpRfc7323Paws,
            Self::TcpAckUnsentData => DropReason::TcpAckUnsentData,
            Self::TcpOldAck => DropReason::TcpOldAck,
            Self::TcpFlags => DropReason::TcpFlags,
            Self::TcpAbortOnData => DropReason::TcpAbortOnData,
            Self::TcpTimewaitSocket => DropReason::TcpTimewait,
            Self::TcpClose => DropReason::TcpClose,
            Self::TcpAbortOnOverflow => DropReason::TcpListenOverflow,
            Self::ListenerClosed => DropReason::ListenerClosed,
            Self::TcpAbortOnClose
            | Self::TcpAbortOnLinger
            | Self::TcpAbortOnMemory
            | Self::TcpState
            | Self::TcpDisconnectWithData
            | Self::TcpKeepaliveTimeout
            | Self::Rejected
            | Self::StackShutDown => return None,
        })
    }
}

/// Why a connection ended: the answer to "why did it die".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndReason {
    /// It was closed in order: by both sides; or by this one, whose application is gone, so that only a
    /// record waits for the peer's FIN.
    Finished,
    /// A reset answered the SYN.
    Refused,
    /// The peer reset it.
    ResetByPeer,
    /// This side reset it, for this reason.
    Reset(ResetReason),
    /// The SYN, or the SYN-ACK of Fast Open, was not answered.
    ConnectTimeout,
    /// Data was sent again and again and not acknowledged.
    RetransmissionTimeout,
    /// The peer's window stayed closed, and probes of it were not answered.
    ProbeTimeout,
    /// The peer was silent, and keep-alive probes were not answered.
    KeepaliveTimeout,
    /// `TCP_USER_TIMEOUT` passed without an acknowledgment.
    UserTimeout,
    /// An ICMP error ended it while nobody had answered yet.
    Icmp {
        /// The error number of Linux that stands for it, such as `EHOSTUNREACH`.
        errno: i32,
    },
    /// The application gave up before the connection stood.
    Abandoned,
    /// The device is gone.
    DeviceGone,
    /// The stack was shut down.
    StackShutDown,
}

impl EndReason {
    /// A short name: of the variant, or of the reason of the reset.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Finished => "Finished",
            Self::Refused => "Refused",
            Self::ResetByPeer => "ResetByPeer",
            Self::Reset(reason) => reason.counter_name(),
            Self::ConnectTimeout => "ConnectTimeout",
            Self::RetransmissionTimeout => "RetransmissionTimeout",
            Self::ProbeTimeout => "ProbeTimeout",
            Self::KeepaliveTimeout => "KeepaliveTimeout",
            Self::UserTimeout => "UserTimeout",
            Self::Icmp { .. } => "Icmp",
            Self::Abandoned => "Abandoned",
            Self::DeviceGone => "DeviceGone",
            Self::StackShutDown => "StackShutDown",
        }
    }

    /// The end of a connection that this side resets, for this reason.
    pub const fn by_reset(reason: ResetReason) -> Self {
        match reason {
            ResetReason::StackShutDown => Self::StackShutDown,
            ResetReason::TcpKeepaliveTimeout => Self::KeepaliveTimeout,
            reason => Self::Reset(reason),
        }
    }
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("closed in order"),
            Self::Refused => f.write_str("refused by the peer"),
            Self::ResetByPeer => f.write_str("reset by the peer"),
            Self::Reset(reason) => write!(f, "reset by this side: {reason}"),
            Self::ConnectTimeout => f.write_str("timed out: the handshake was not answered"),
            Self::RetransmissionTimeout => f.write_str("timed out: retransmissions were not acknowledged"),
            Self::ProbeTimeout => f.write_str("timed out: probes of the closed window were not answered"),
            Self::KeepaliveTimeout => f.write_str("timed out: keep-alive probes were not answered"),
            Self::UserTimeout => f.write_str("timed out: TCP_USER_TIMEOUT passed without an answer"),
            Self::Icmp { errno } => {
                write!(f, "an ICMP error: {}", crate::error::os(*errno))
            }
            Self::Abandoned => f.write_str("given up by the application before it was established"),
            Self::DeviceGone => f.write_str("the device is gone"),
            Self::StackShutDown => f.write_str("the stack was shut down"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn reasons_are_small_and_have_texts_and_names_of_their_own() {
        assert_eq!(size_of::<Option<DropReason>>(), 1);
        assert_eq!(size_of::<Option<ResetReason>>(), 1);
        let texts: BTreeSet<_> = DropReason::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), DropReason::COUNT);
        let texts: BTreeSet<_> = ResetReason::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), ResetReason::COUNT);
        assert!(DropReason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        assert!(ResetReason::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        assert_eq!(DropReason::TcpCsum.counter_name(), "DropTcpCsum");
        assert_eq!(EndReason::Reset(ResetReason::TcpAbortOnLinger).name(), "RstTcpAbortOnLinger");
    }

    #[test]
    fn one_cause_is_one_end_whether_or_not_a_reset_was_sent_for_it() {
        assert_eq!(EndReason::by_reset(ResetReason::StackShutDown), EndReason::StackShutDown);
        assert_eq!(EndReason::by_reset(ResetReason::TcpState), EndReason::Reset(ResetReason::TcpState));
    }
}
