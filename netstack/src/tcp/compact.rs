//! Values as few bytes: how the state of a connection is kept while nothing happens to it.
//!
//! What is written is read by the same build of this crate, in the same process, field by field in the same order. So
//! there is neither a format nor a version, and what was not written cannot be read. Numbers are short where they are
//! small, or as large as can be. Of times and sequence numbers a connection has few that differ: each is written as the
//! place of the nearest one before it, and the distance if it is another. What is true or false, and whether there is a
//! value, takes a bit.

use super::seq::Seq;
use crate::time::{Duration, Instant};
use arrayvec::ArrayVec;

/// A value that can be written as few bytes.
pub(super) trait Compact: Sized {
    /// Writes all of it.
    fn write(&self, to: &mut Writer);

    /// What [`Compact::write`] wrote.
    fn read(from: &mut Reader<'_>) -> Self;
}

/// Writes and reads a struct field by field, all of them, or an enum without values by its variants.
macro_rules! compact {
    ($name:ident { $($field:ident),+ $(,)? }) => {
        impl $crate::tcp::compact::Compact for $name {
            fn write(&self, to: &mut $crate::tcp::compact::Writer) {
                let Self { $($field),+ } = self;
                $($crate::tcp::compact::Compact::write($field, to);)+
            }

            fn read(from: &mut $crate::tcp::compact::Reader<'_>) -> Self {
                $(let $field = $crate::tcp::compact::Compact::read(from);)+
                Self { $($field),+ }
            }
        }
    };
    (enum $name:ident { $first:ident $(, $variant:ident)* $(,)? }) => {
        impl $crate::tcp::compact::Compact for $name {
            fn write(&self, to: &mut $crate::tcp::compact::Writer) {
                // In the order of the variants: an exhaustive match, and the place of each.
                let all = [Self::$first $(, Self::$variant)*];
                match self {
                    Self::$first $(| Self::$variant)* => {}
                }
                let place = all.iter().position(|variant| variant == self).unwrap_or_default();
                $crate::tcp::compact::Compact::write(&place, to);
            }

            fn read(from: &mut $crate::tcp::compact::Reader<'_>) -> Self {
                let all = [Self::$first $(, Self::$variant)*];
                let place: usize = $crate::tcp::compact::Compact::read(from);
                all.get(place).copied().unwrap_or(Self::$first)
            }
        }
    };
}

pub(super) use compact;

/// Bytes that a state seldom exceeds.
const USUAL: usize = 512;

/// Where values are written to.
#[derive(Debug)]
pub(super) struct Writer {
    bits: BitWriter,
    bytes: Vec<u8>,
    times: Seen,
    seqs: Seen,
}

/// Bits, the first of each byte the lowest.
#[derive(Debug, Default)]
struct BitWriter {
    bytes: Vec<u8>,
    /// The last bits, so many.
    word: u64,
    used: u32,
}

impl BitWriter {
    #[inline]
    fn push(&mut self, bit: bool) {
        self.word |= u64::from(bit) << self.used;
        self.used += 1;
        if self.used == u64::BITS {
            self.bytes.extend_from_slice(&self.word.to_le_bytes());
            (self.word, self.used) = (0, 0);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        let used = self.used.div_ceil(8) as usize;
        self.bytes.extend(self.word.to_le_bytes().into_iter().take(used));
        self.bytes
    }
}

/// Times, or sequence numbers, that others are near, as many as were seen first.
#[derive(Debug)]
struct Seen(ArrayVec<u64, 16>);

impl Seen {
    fn new() -> Self {
        Self([0].into_iter().collect())
    }

    /// The place of a value that was seen, as most are.
    #[inline]
    fn place_of(&self, value: u64) -> Option<usize> {
        self.0.iter().position(|seen| *seen == value)
    }

    /// The nearest, and its place.
    fn nearest(&self, value: u64) -> (usize, u64) {
        let (mut place, mut least) = (0, u64::MAX);
        for (at, seen) in self.0.iter().enumerate() {
            let distance = seen.abs_diff(value);
            if distance <= least {
                (place, least) = (at, distance);
            }
        }
        (place, self.at(place))
    }

    fn at(&self, place: usize) -> u64 {
        self.0.get(place).copied().unwrap_or_default()
    }

    /// Others may be near it.
    fn learn(&mut self, value: u64) {
        // What comes when there are enough is near one of them, as a rule.
        let _ = self.0.try_push(value);
    }
}

impl Writer {
    pub(super) fn new() -> Self {
        let bits = BitWriter { bytes: Vec::with_capacity(USUAL / 8), ..BitWriter::default() };
        Self { bits, bytes: Vec::with_capacity(USUAL), times: Seen::new(), seqs: Seen::new() }
    }

    /// What was written.
    pub(super) fn finish(self) -> Box<[u8]> {
        let Self { bits, bytes, .. } = self;
        let bits = bits.finish();
        let mut all = Vec::with_capacity(size_of::<u16>() + bits.len() + bytes.len());
        all.extend_from_slice(&(bits.len() as u16).to_ne_bytes());
        all.extend_from_slice(&bits);
        all.extend_from_slice(&bytes);
        all.into_boxed_slice()
    }

    /// A value that is mostly the `usual` one, which who reads it knows.
    pub(super) fn unusual<T: Compact + PartialEq>(&mut self, value: &T, usual: &T) {
        let differs = value != usual;
        self.bit(differs);
        if differs {
            value.write(self);
        }
    }

    #[inline]
    fn bit(&mut self, bit: bool) {
        self.bits.push(bit);
    }

    /// Seven bits in each byte, the lowest first (LEB128).
    #[inline]
    fn number(&mut self, number: u64) {
        let mut rest = number;
        while rest >= 0x80 {
            self.bytes.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
    }

    /// One that may be near another.
    #[inline]
    fn near(&mut self, value: u64, seen: impl Fn(&mut Self) -> &mut Seen) {
        let place = seen(self).place_of(value);
        self.bit(place.is_some());
        if let Some(place) = place {
            self.number(place as u64);
            return;
        }
        let (place, nearest) = seen(self).nearest(value);
        self.number(place as u64);
        // Of either sign, and short where it is small.
        let distance = value.wrapping_sub(nearest) as i64;
        self.number(((distance << 1) ^ (distance >> 63)) as u64);
        seen(self).learn(value);
    }
}

/// Where values are read from.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bits: &'a [u8],
    /// Bits that were taken out of there, and how many of them are left.
    word: u64,
    left: u32,
    bytes: &'a [u8],
    times: Seen,
    seqs: Seen,
}

impl<'a> Reader<'a> {
    /// Reads what a writer has written.
    pub(super) fn new(all: &'a [u8]) -> Self {
        let (len, rest) =
            all.split_first_chunk().map_or((0, all), |(len, rest)| (u16::from_ne_bytes(*len), rest));
        let (bits, bytes) = rest.split_at_checked(usize::from(len)).unwrap_or_default();
        Self { bits, word: 0, left: 0, bytes, times: Seen::new(), seqs: Seen::new() }
    }

    /// What [`Writer::unusual`] wrote.
    pub(super) fn unusual<T: Compact>(&mut self, usual: T) -> T {
        if self.bit() { T::read(self) } else { usual }
    }

    /// Whether everything was read.
    #[cfg(test)]
    pub(super) fn is_at_end(&self) -> bool {
        self.bytes.is_empty() && self.bits.is_empty() && self.left < 8
    }

    #[inline]
    fn bit(&mut self) -> bool {
        if self.left == 0 {
            self.refill();
        }
        let bit = self.word & 1;
        self.word >>= 1;
        self.left -= 1;
        bit != 0
    }

    /// Takes up to eight bytes of bits.
    fn refill(&mut self) {
        match self.bits.split_first_chunk() {
            Some((word, rest)) => {
                (self.word, self.left, self.bits) = (u64::from_le_bytes(*word), u64::BITS, rest);
            }
            None => {
                // The last ones, and zeros after them.
                self.word = self.bits.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
                self.left = (8 * self.bits.len() as u32).max(1);
                self.bits = &[];
            }
        }
    }

    #[inline]
    fn number(&mut self) -> u64 {
        // Mostly it is one byte.
        match *self.bytes {
            [byte, ref rest @ ..] if byte < 0x80 => {
                self.bytes = rest;
                byte.into()
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        while let Some((byte, rest)) = self.bytes.split_first() {
            self.bytes = rest;
            number |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 || shift > 63 {
                break;
            }
        }
        number
    }

    #[inline]
    fn near(&mut self, seen: impl Fn(&mut Self) -> &mut Seen) -> u64 {
        let is_same = self.bit();
        let place = self.number() as usize;
        let nearest = seen(self).at(place);
        if is_same {
            return nearest;
        }
        let number = self.number();
        let distance = (number >> 1) as i64 ^ -((number & 1) as i64);
        let value = nearest.wrapping_add_signed(distance);
        seen(self).learn(value);
        value
    }
}

macro_rules! numbers {
    ($($number:ty)+) => {$(
        impl Compact for $number {
            // The largest means "no limit": it becomes 0, and each other number is one more.
            fn write(&self, to: &mut Writer) {
                to.number(self.wrapping_add(1) as u64);
            }

            fn read(from: &mut Reader<'_>) -> Self {
                (from.number() as Self).wrapping_sub(1)
            }
        }
    )+};
}

numbers!(u8 u16 u32 usize);

impl Compact for u64 {
    fn write(&self, to: &mut Writer) {
        to.number(self.wrapping_add(1));
    }

    fn read(from: &mut Reader<'_>) -> Self {
        from.number().wrapping_sub(1)
    }
}

impl Compact for bool {
    fn write(&self, to: &mut Writer) {
        to.bit(*self);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        from.bit()
    }
}

impl Compact for () {
    fn write(&self, _: &mut Writer) {}

    fn read(_: &mut Reader<'_>) -> Self {}
}

const SECOND: u64 = 1_000_000_000;
const MILLI: u64 = 1_000_000;

/// Seconds whose nanoseconds are a number of 64 bits.
const MANY_SECONDS: u64 = u64::MAX / SECOND;

impl Compact for Duration {
    // What is set is a whole number of milliseconds, and what was measured is not. None is of centuries but for one that
    // means never.
    fn write(&self, to: &mut Writer) {
        let (seconds, nanos) = (self.as_secs(), self.subsec_nanos());
        let is_long = seconds >= MANY_SECONDS;
        to.bit(is_long);
        if is_long {
            (seconds, nanos).write(to);
            return;
        }
        let nanos = seconds * SECOND + u64::from(nanos);
        let is_whole = nanos.is_multiple_of(MILLI);
        to.bit(is_whole);
        to.number(if is_whole { nanos / MILLI } else { nanos });
    }

    fn read(from: &mut Reader<'_>) -> Self {
        if from.bit() {
            let (seconds, nanos) = Compact::read(from);
            return Self::new(seconds, nanos);
        }
        let unit = if from.bit() { MILLI } else { 1 };
        Self::from_nanos(from.number().wrapping_mul(unit))
    }
}

impl Compact for Instant {
    fn write(&self, to: &mut Writer) {
        let is_never = *self == Self::FAR_FUTURE;
        to.bit(is_never);
        if !is_never {
            to.near(self.as_nanos(), |to| &mut to.times);
        }
    }

    fn read(from: &mut Reader<'_>) -> Self {
        if from.bit() { Self::FAR_FUTURE } else { Self::from_nanos(from.near(|from| &mut from.times)) }
    }
}

impl Compact for Seq {
    fn write(&self, to: &mut Writer) {
        to.near(self.raw(), |to| &mut to.seqs);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        Self::from_raw(from.near(|from| &mut from.seqs))
    }
}

impl<T: Compact> Compact for Option<T> {
    fn write(&self, to: &mut Writer) {
        to.bit(self.is_some());
        if let Some(value) = self {
            value.write(to);
        }
    }

    fn read(from: &mut Reader<'_>) -> Self {
        from.bit().then(|| T::read(from))
    }
}

impl<T: Compact> Compact for Box<T> {
    fn write(&self, to: &mut Writer) {
        T::write(self, to);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        Self::new(T::read(from))
    }
}

impl<A: Compact, B: Compact> Compact for (A, B) {
    fn write(&self, to: &mut Writer) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        (A::read(from), B::read(from))
    }
}

impl<A: Compact, B: Compact, C: Compact> Compact for (A, B, C) {
    fn write(&self, to: &mut Writer) {
        self.0.write(to);
        self.1.write(to);
        self.2.write(to);
    }

    fn read(from: &mut Reader<'_>) -> Self {
        (A::read(from), B::read(from), C::read(from))
    }
}

impl<T: Compact, const N: usize> Compact for [T; N] {
    fn write(&self, to: &mut Writer) {
        self.iter().for_each(|value| value.write(to));
    }

    fn read(from: &mut Reader<'_>) -> Self {
        std::array::from_fn(|_| T::read(from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Colour {
        Red,
        Green,
    }

    compact!(
        enum Colour {
            Red,
            Green,
        }
    );

    #[derive(Debug, PartialEq, Eq)]
    struct Both {
        colour: Colour,
        seqs: (Seq, Option<Seq>),
    }

    compact!(Both { colour, seqs });

    fn there_and_back<T: Compact + PartialEq + Debug>(value: T) -> usize {
        let mut writer = Writer::new();
        value.write(&mut writer);
        let bytes = writer.finish();
        let mut reader = Reader::new(&bytes);
        assert_eq!(T::read(&mut reader), value);
        assert!(reader.is_at_end(), "{value:?}");
        bytes.len()
    }

    #[test]
    fn values_come_back_as_they_were() {
        for number in [0, 1, 126, 127, 128, 1 << 35, u64::MAX - 1, u64::MAX] {
            there_and_back(number);
            there_and_back([Some(Instant::from_nanos(number)), None, Some(Instant::ZERO)]);
            there_and_back((Duration::from_nanos(number), Duration::MAX, Duration::ZERO));
            there_and_back(Duration::new(number, 999_999_999));
            there_and_back([Seq::from_raw(number), Seq::from_raw(0), Seq::from_raw(u64::MAX)]);
        }
        let many: [Instant; 40] = std::array::from_fn(|n| Instant::from_nanos(1 << n));
        there_and_back((many, [Instant::FAR_FUTURE, Instant::ZERO]));
        there_and_back([0, 1, 255_u8]);
        there_and_back([usize::MAX, 7]);
        there_and_back((u32::MAX, u16::MAX, ()));
        there_and_back([true; 9]);
        there_and_back(Both { colour: Colour::Green, seqs: (Seq::from_raw(9), None) });
        there_and_back(Some(Box::new(Both { colour: Colour::Red, seqs: (Seq::from_raw(0), None) })));
    }

    #[test]
    fn what_is_likely_is_short() {
        let beside = size_of::<u16>();
        assert_eq!(there_and_back([usize::MAX; 8]), beside + 8);
        assert_eq!(there_and_back([Instant::FAR_FUTURE; 16]), beside + 2);
        assert_eq!(there_and_back([None::<u64>; 16]), beside + 2);
        let late = Instant::from_millis(86_400_000);
        assert_eq!(there_and_back([late; 9]), beside + 3 + 1 + 7 + 8);
        assert_eq!(there_and_back([Duration::from_millis(40); 8]), beside + 2 + 8);
    }

    #[test]
    fn the_usual_takes_a_bit() {
        let mut writer = Writer::new();
        [5, 6, 5].iter().for_each(|number: &u64| writer.unusual(number, &5));
        let bytes = writer.finish();
        assert_eq!(bytes.len(), size_of::<u16>() + 2);
        let mut reader = Reader::new(&bytes);
        assert_eq!([0; 3].map(|_| reader.unusual(5_u64)), [5, 6, 5]);
    }

    #[test]
    fn nothing_is_read_beyond_the_end() {
        let mut reader = Reader::new(&[]);
        assert_eq!((u64::read(&mut reader), bool::read(&mut reader)), (u64::MAX, false));
    }
}
