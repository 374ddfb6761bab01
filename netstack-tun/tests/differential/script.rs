//! A script: how the host is set up, the state to which its connection is brought, and the odd segments.

use crate::peer::{Phase, States};
use crate::segment::{Fault, Names, OPTIONS, Outgoing};
use crate::system::Settings;
use std::fmt;

/// A script. Its segments are relative to what the host has said, so that it is the same for every host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) settings: Settings,
    pub(crate) state: States,
    pub(crate) odd: Vec<Odd>,
}

/// What a sequence number is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SeqAnchor {
    /// RCV.NXT of the host, as it has acknowledged.
    Nxt,
    /// The end of the window that it has offered.
    WindowEnd,
    /// The peer's initial sequence number.
    Irs,
}

/// What an acknowledgment number is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckAnchor {
    /// SND.UNA of the host.
    Una,
    /// SND.NXT of the host.
    Nxt,
    /// The host's initial sequence number.
    Iss,
    /// Zero.
    Zero,
}

/// What a segment says about time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// The option, if it was agreed on, with the current time.
    Agreed,
    /// No option.
    Missing,
    /// TSval relative to the current time, and what is echoed.
    Odd(i32, Echo),
}

/// What TSecr says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    /// The last TSval of the host, and this more.
    Last(i32),
    /// This number.
    Number(u32),
}

/// A piece of the options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// These bytes.
    Raw(Vec<u8>),
    /// SACK blocks, relative to SND.UNA of the host.
    Sack(Vec<(i64, i64)>),
}

impl Piece {
    fn bytes(&self, phase: &Phase) -> Vec<u8> {
        match self {
            Self::Raw(bytes) => bytes.clone(),
            Self::Sack(blocks) => {
                let mut bytes = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
                for edge in blocks.iter().flat_map(|(start, end)| [start, end]) {
                    bytes.extend(phase.snd_una.wrapping_add(*edge as u32).to_be_bytes());
                }
                bytes
            }
        }
    }
}

/// A segment that a well-behaved peer would hardly send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Odd {
    pub(crate) flags: u16,
    pub(crate) seq: (SeqAnchor, i64),
    pub(crate) ack: (AckAnchor, i64),
    pub(crate) len: usize,
    /// The bytes are not those that the stream has at this place.
    pub(crate) forged: bool,
    pub(crate) window: u16,
    pub(crate) urgent: u16,
    pub(crate) stamp: Stamp,
    pub(crate) pieces: Vec<Piece>,
    pub(crate) ecn: u8,
    pub(crate) fault: Fault,
}

impl Odd {
    /// A segment in its place, which acknowledges all that was acknowledged before.
    pub(crate) fn new(flags: u16) -> Self {
        Self {
            flags,
            seq: (SeqAnchor::Nxt, 0),
            ack: (AckAnchor::Una, 0),
            len: 0,
            forged: false,
            window: 0x1000,
            urgent: 0,
            stamp: Stamp::Agreed,
            pieces: Vec::new(),
            ecn: 0,
            fault: Fault::Nothing,
        }
    }

    /// The segment, as things stand.
    pub(crate) fn resolve(&self, phase: &Phase) -> Outgoing {
        let seq = match self.seq.0 {
            SeqAnchor::Nxt => phase.rcv_nxt,
            SeqAnchor::WindowEnd => phase.window_end,
            SeqAnchor::Irs => phase.irs,
        };
        let seq = seq.wrapping_add(self.seq.1 as u32);
        let ack = match self.ack.0 {
            AckAnchor::Una => phase.snd_una,
            AckAnchor::Nxt => phase.snd_nxt,
            AckAnchor::Iss => phase.iss,
            AckAnchor::Zero => 0,
        };
        let stamp = match self.stamp {
            Stamp::Agreed => phase.stamps.then_some((phase.clock, phase.echo)),
            Stamp::Missing => None,
            Stamp::Odd(ahead, echo) => {
                let echo = match echo {
                    Echo::Last(more) => phase.echo.wrapping_add(more as u32),
                    Echo::Number(number) => number,
                };
                Some((phase.clock.wrapping_add(ahead as u32), echo))
            }
        };
        let mut options = Vec::new();
        if let Some((value, echo)) = stamp {
            options.extend([1, 1, 8, 10]);
            options.extend(value.to_be_bytes());
            options.extend(echo.to_be_bytes());
        }
        for piece in &self.pieces {
            let piece = piece.bytes(phase);
            // What has no room is left out, and not cut off: broken options are among the pieces.
            if options.len() + piece.len() <= OPTIONS {
                options.extend(piece);
            }
        }
        let payload = (0..self.len).map(|at| phase.byte(seq.wrapping_add(at as u32)));
        let payload = payload.map(|byte| if self.forged { !byte } else { byte }).collect();
        Outgoing {
            flags: self.flags,
            seq,
            ack: ack.wrapping_add(self.ack.1 as u32),
            window: self.window,
            urgent: self.urgent,
            options,
            payload,
            ecn: self.ecn,
            fault: self.fault,
        }
    }
}

impl fmt::Display for Odd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} seq {:?}{:+}", Names(self.flags), self.seq.0, self.seq.1)?;
        write!(f, " ack {:?}{:+}", self.ack.0, self.ack.1)?;
        if self.len > 0 {
            write!(f, " {}{} bytes", self.len, if self.forged { " forged" } else { "" })?;
        }
        write!(f, " win {}", self.window)?;
        if self.urgent != 0 {
            write!(f, " urg {}", self.urgent)?;
        }
        if self.stamp != Stamp::Agreed {
            write!(f, " ts {:?}", self.stamp)?;
        }
        for piece in &self.pieces {
            match piece {
                Piece::Raw(bytes) => write!(f, " opt {bytes:02x?}")?,
                Piece::Sack(blocks) => write!(f, " sack {blocks:?}")?,
            }
        }
        if self.ecn != 0 {
            write!(f, " ecn {}", self.ecn)?;
        }
        if self.fault != Fault::Nothing {
            write!(f, " {:?}", self.fault)?;
        }
        Ok(())
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { ipv6, timestamps, sack, window_scaling, ecn, cookies, limited, receive_buffer } =
            self.settings;
        write!(f, "{:?}, {}", self.state, if ipv6 { "IPv6" } else { "IPv4" })?;
        for (on, name) in [
            (timestamps, "timestamps"),
            (sack, "SACK"),
            (window_scaling, "window scaling"),
            (cookies, "cookies"),
            (limited, "limited answers"),
        ] {
            if on {
                write!(f, ", {name}")?;
            }
        }
        write!(f, ", tcp_ecn {ecn}")?;
        receive_buffer.map_or(Ok(()), |bytes| write!(f, ", SO_RCVBUF {bytes}"))
    }
}
