//! Numbers in texts.

use std::str::FromStr;

/// A number that is written with digits alone: `parse` takes a plus sign, too.
pub(crate) fn digits<T: FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The same with hexadecimal digits.
pub(super) fn hex_digits(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(text, 16).ok())?
}
