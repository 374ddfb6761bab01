//! SYN cookies: half-open connections that cost no memory, because what must be remembered of them
//! travels in the initial sequence number and comes back with the peer's acknowledgment
//! (RFC 4987 §3.6).
//!
//! ```text
//! bit  31       parity of the period in which the cookie was made: which secret to check it with
//!      28..31   class of the peer's MSS, xor bits of the hash
//!      0..28    bits of the hash
//! ```
//! The hash is one SipHash under a secret over the flow and the peer's initial sequence number, so
//! that a forged acknowledgment costs one keyed hash, and none at all if no cookie was made lately. A
//! guess is right once in 2^28. Linux has 24 bits of which some go to the MSS, and hashes twice;
//! here, a secret lives for one period of 60 s, and a cookie is good in the period in which it was
//! made and in the next, which is Linux's age limit (`MAX_SYNCOOKIE_AGE`).
//!
//! Options do not fit. As in Linux, they ride in the low bits of our timestamp if the peer sends
//! timestamps ([`Carried`]), and are lost otherwise.

use crate::tcp::window::WindowScale;
use crate::time::{Duration, Instant};
use crate::wire::{Options, Segment, SeqNum, Timestamps};
use siphasher::sip::SipHasher13;
use std::hash::{Hash, Hasher};

/// How long a secret makes cookies (`COUNTER_TRIES` and `tcp_cookie_time` in Linux).
const PERIOD: Duration = Duration::from_secs(60);

/// For how long after the last cookie one may still come back: two periods.
pub const COOKIE_LIFETIME: Duration = Duration::from_secs(2 * PERIOD.as_secs());

const CLASS_SHIFT: u32 = 28;
const PARITY_SHIFT: u32 = 31;
const CLASS_MASK: u32 = 7;
const TAG_MASK: u32 = (1 << CLASS_SHIFT) - 1;

/// Classes of the peer's MSS over IPv4. The four from 536 to 1460 are Linux's; the ones below them
/// are for peers whose MSS is smaller, which Linux would take for larger than it is, and the ones
/// above for links with large packets.
const MSS_V4: [u16; 8] = [48, 216, 536, 1300, 1440, 1460, 4312, 8960];

/// The same over IPv6; Linux has 1220, 1420, 1440 and 8940.
const MSS_V6: [u16; 8] = [48, 536, 1220, 1420, 1440, 1460, 4292, 8940];

fn classes(ipv6: bool) -> &'static [u16; 8] {
    if ipv6 { &MSS_V6 } else { &MSS_V4 }
}

/// The secrets of the current and of the last period, and what is made of them.
#[derive(Clone, Default)]
pub struct SynCookies {
    /// By parity of the period.
    secrets: [Option<Secret>; 2],
}

#[derive(Clone)]
struct Secret {
    period: u64,
    key: [u8; 16],
}

impl SynCookies {
    /// No secret yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether [`SynCookies::make`] needs a secret that was not given yet.
    pub fn wants_secret(&self, now: Instant) -> bool {
        let period = period(now);
        self.secrets[parity(period)].as_ref().is_none_or(|secret| secret.period != period)
    }

    /// Gives the secret for the period of `now`: 16 bytes of cryptographic quality. The one from two
    /// periods before is gone.
    pub fn set_secret(&mut self, now: Instant, key: [u8; 16]) {
        let period = period(now);
        self.secrets[parity(period)] = Some(Secret { period, key });
    }

    /// The initial sequence number for our end of `flow`, whose SYN had the number `irs` and offers
    /// `mss`; none without a secret.
    pub fn make(&self, now: Instant, flow: &impl Hash, irs: SeqNum, mss: u16, ipv6: bool) -> Option<SeqNum> {
        let period = period(now);
        let parity = parity(period);
        let secret = self.secrets[parity].as_ref().filter(|secret| secret.period == period)?;
        let class = classes(ipv6).iter().rposition(|class| *class <= mss).unwrap_or(0) as u32;
        let hash = secret.hash(flow, irs);
        let masked = (class ^ hash >> CLASS_SHIFT) & CLASS_MASK;
        Some(SeqNum::new((parity as u32) << PARITY_SHIFT | masked << CLASS_SHIFT | hash & TAG_MASK))
    }

    /// The MSS of the peer, if `ack` acknowledges what [`SynCookies::make`] gave for this flow in this
    /// period or the one before.
    #[inline]
    pub fn check(&self, now: Instant, flow: &impl Hash, ack: &Segment, ipv6: bool) -> Option<u16> {
        let (irs, iss) = numbers(ack);
        self.check_numbers(now, flow, irs, iss, ipv6)
    }

    #[inline]
    fn check_numbers(
        &self,
        now: Instant,
        flow: &impl Hash,
        irs: SeqNum,
        cookie: SeqNum,
        ipv6: bool,
    ) -> Option<u16> {
        let raw = cookie.raw();
        let secret = self.secrets[(raw >> PARITY_SHIFT) as usize].as_ref()?;
        if secret.period + 1 < period(now) {
            return None;
        }
        let hash = secret.hash(flow, irs);
        if (hash ^ raw) & TAG_MASK != 0 {
            return None;
        }
        let class = (raw ^ hash) >> CLASS_SHIFT & CLASS_MASK;
        Some(classes(ipv6)[class as usize])
    }
}

impl Secret {
    fn hash(&self, flow: &impl Hash, irs: SeqNum) -> u32 {
        let mut hasher = SipHasher13::new_with_key(&self.key);
        flow.hash(&mut hasher);
        hasher.write_u32(irs.raw());
        hasher.finish() as u32
    }
}

impl std::fmt::Debug for SynCookies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let periods = self.secrets.each_ref().map(|secret| secret.as_ref().map(|secret| secret.period));
        f.debug_struct("SynCookies").field("periods", &periods).finish_non_exhaustive()
    }
}

/// The initial sequence numbers of the peer and of us, from the segment that completes a handshake:
/// one before what it brings and acknowledges.
pub(super) fn numbers(ack: &Segment) -> (SeqNum, SeqNum) {
    (ack.seq + u32::MAX, ack.ack + u32::MAX)
}

fn period(now: Instant) -> u64 {
    now.as_millis() / PERIOD.as_millis() as u64
}

fn parity(period: u64) -> usize {
    (period & 1) as usize
}

/// Low bits of a timestamp that carry options.
const CARRIED_BITS: u32 = 6;
const SCALE_MASK: u32 = 0xf;
/// The peer does not scale windows.
const NO_SCALE: u32 = 0xf;
const SACK: u32 = 1 << 4;
const ECN: u32 = 1 << 5;

/// The options of a SYN that come back in the echo of our timestamp, laid out as Linux does: four
/// bits for the window scale, one for SACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) window_scale: Option<u8>,
    pub(super) sack: bool,
    /// RFC 3168.
    pub(super) ecn: bool,
}

impl Carried {
    pub(super) fn of(syn: &Options, ecn: bool) -> Self {
        Self {
            window_scale: syn.window_scale.map(|shift| WindowScale::from_option(shift).shift()),
            sack: syn.sack_permitted,
            ecn,
        }
    }

    /// The latest value that `clock` had and whose low bits are these options.
    pub(super) fn stamp(self, clock: u32) -> u32 {
        let bits = self.window_scale.map_or(NO_SCALE, u32::from)
            | if self.sack { SACK } else { 0 }
            | if self.ecn { ECN } else { 0 };
        let mask = (1 << CARRIED_BITS) - 1;
        let stamp = clock & !mask | bits;
        // Never ahead of the clock, or the peer would take what follows for old (RFC 7323 §5).
        if bits > clock & mask { stamp.wrapping_sub(1 << CARRIED_BITS) } else { stamp }
    }

    /// From an echo of [`Carried::stamp`].
    pub(super) fn from_stamp(stamp: u32) -> Self {
        let scale = stamp & SCALE_MASK;
        Self {
            window_scale: (scale != NO_SCALE).then_some(scale as u8),
            sack: stamp & SACK != 0,
            ecn: stamp & ECN != 0,
        }
    }
}

/// The options of the SYN that a cookie stands for, as far as they came back. `ts_offset` is that of
/// our timestamp clock.
pub(super) fn recovered(mss: u16, echo: Option<Timestamps>, ts_offset: u32) -> Options {
    let carried = echo.map(|echo| Carried::from_stamp(echo.tsecr.wrapping_sub(ts_offset)));
    Options {
        mss: Some(mss),
        window_scale: carried.and_then(|carried| carried.window_scale),
        sack_permitted: carried.is_some_and(|carried| carried.sack),
        timestamps: echo,
        ..Options::default()
    }
}

/// Whether a cookie's SYN-ACK granted ECN, as its timestamp says.
pub(super) fn carries_ecn(echo: Option<Timestamps>, ts_offset: u32) -> bool {
    echo.is_some_and(|echo| Carried::from_stamp(echo.tsecr.wrapping_sub(ts_offset)).ecn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    fn cookies(now: Instant) -> SynCookies {
        let mut cookies = SynCookies::new();
        assert!(cookies.wants_secret(now));
        cookies.set_secret(now, [period(now) as u8; 16]);
        assert!(!cookies.wants_secret(now));
        cookies
    }

    const FLOW: u32 = 0x0a00_0001;

    #[test]
    fn a_cookie_gives_the_class_of_the_mss_back() {
        let cookies = cookies(at(600));
        let irs = SeqNum::new(u32::MAX);
        for (ipv6, mss, expected) in [
            (false, 1460, 1460),
            (false, 1459, 1440),
            (false, 65_495, 8960),
            (false, 536, 536),
            (false, 535, 216),
            (false, 0, 48),
            (true, 1440, 1440),
            (true, 1439, 1420),
            (true, 1220, 1220),
        ] {
            let cookie = cookies.make(at(600), &FLOW, irs, mss, ipv6).unwrap();
            assert_eq!(cookies.check_numbers(at(610), &FLOW, irs, cookie, ipv6), Some(expected), "{mss}");
            assert_eq!(cookies.check_numbers(at(610), &(FLOW + 1), irs, cookie, ipv6), None);
            assert_eq!(cookies.check_numbers(at(610), &FLOW, irs + 1, cookie, ipv6), None);
            assert_eq!(cookies.check_numbers(at(610), &FLOW, irs, cookie + 1, ipv6), None);
        }
    }

    #[test]
    fn a_cookie_is_good_in_its_period_and_the_next() {
        let mut cookies = cookies(at(659));
        let irs = SeqNum::new(5);
        let cookie = cookies.make(at(659), &FLOW, irs, 1460, false).unwrap();
        assert_eq!(cookies.make(at(660), &FLOW, irs, 1460, false), None, "the secret is of the last period");
        cookies.set_secret(at(660), [99; 16]);
        assert_ne!(cookies.make(at(660), &FLOW, irs, 1460, false), Some(cookie));
        assert_eq!(cookies.check_numbers(at(660), &FLOW, irs, cookie, false), Some(1460));
        assert_eq!(cookies.check_numbers(at(719), &FLOW, irs, cookie, false), Some(1460));
        assert_eq!(cookies.check_numbers(at(720), &FLOW, irs, cookie, false), None, "two periods later");
        cookies.set_secret(at(720), [100; 16]);
        assert_eq!(cookies.check_numbers(at(720), &FLOW, irs, cookie, false), None, "its secret is gone");
    }

    #[test]
    fn guesses_fail() {
        let cookies = cookies(at(60));
        let irs = SeqNum::new(1);
        let mut state = 1u32;
        let hits = (0..100_000)
            .filter(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                cookies.check_numbers(at(60), &FLOW, irs, SeqNum::new(state), false).is_some()
            })
            .count();
        assert_eq!(hits, 0, "one in 2^29 is right");
        assert_eq!(SynCookies::new().check_numbers(at(60), &FLOW, irs, SeqNum::new(7), false), None);
    }

    #[test]
    fn options_survive_in_a_stamp_that_is_never_ahead() {
        for clock in [0, 1, 62, 63, 64, 1_000_000, u32::MAX] {
            for window_scale in [None, Some(0), Some(7), Some(14)] {
                for sack in [false, true] {
                    let carried = Carried { window_scale, sack, ecn: !sack };
                    let stamp = carried.stamp(clock);
                    assert_eq!(Carried::from_stamp(stamp), carried);
                    assert!(clock.wrapping_sub(stamp) < 64, "{clock} {stamp}");
                }
            }
        }
        let mut syn = Options { window_scale: Some(200), ..Options::default() };
        assert_eq!(Carried::of(&syn, false).window_scale, Some(14), "as RFC 7323 reads it");
        syn.window_scale = None;
        assert_eq!(Carried::of(&syn, false).window_scale, None);
    }

    #[test]
    fn without_an_echo_only_the_mss_is_known() {
        let options = recovered(536, None, 9);
        assert_eq!(options, Options { mss: Some(536), ..Options::default() });
        let carried = Carried { window_scale: Some(3), sack: true, ecn: false };
        let echo = Timestamps { tsval: 1, tsecr: carried.stamp(1000).wrapping_add(u32::MAX) };
        let options = recovered(536, Some(echo), u32::MAX);
        assert_eq!((options.window_scale, options.sack_permitted), (Some(3), true));
    }
}
