//! Numbers in nodes that others wrote.

use std::str::FromStr;

/// A decimal number without sign, spaces or anything else; `None` for any other text or a number out of range.
pub(crate) fn decimal<T: FromStr>(value: &[u8]) -> Option<T> {
    let text = std::str::from_utf8(value).ok()?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_decimal_digits_in_range_are_a_number() {
        assert_eq!(decimal::<u32>(b"4294967295"), Some(u32::MAX));
        for text in ["", "+1", "-1", " 1", "1 ", "1\0", "0x1", "4294967296", "\u{661}"] {
            assert_eq!(decimal::<u32>(text.as_bytes()), None, "{text:?}");
        }
    }
}
