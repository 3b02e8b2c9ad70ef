//! Numbers as xl reads them: in C's way, with white space, a sign and `0x` before them.

/// A hexadecimal number at the beginning of `text`, and what follows it. `None` without digits, and for one that needs more
/// than 32 bits.
pub fn hexadecimal(text: &str) -> Option<(u32, &str)> {
    let (is_negative, unsigned) = sign(text);
    let prefixed = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X"));
    let digits = prefixed.unwrap_or(unsigned);
    let end = digits.bytes().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(digits.len());
    let (number, rest) = digits.split_at_checked(end)?;
    let value = match number.trim_start_matches('0') {
        // Nothing after 0x is 0, as in C.
        "" if number.is_empty() && prefixed.is_none() => return None,
        "" => 0,
        significant => u32::from_str_radix(significant, 16).ok()?,
    };
    Some((if is_negative { value.wrapping_neg() } else { value }, rest))
}

/// Whether the decimal number at the beginning of `text` is anything but 0; text without one is 0.
pub fn is_true(text: &str) -> bool {
    let (_, unsigned) = sign(text);
    unsigned.bytes().take_while(u8::is_ascii_digit).any(|digit| digit != b'0')
}

/// What is left without white space and a sign, and whether that is a minus.
fn sign(text: &str) -> (bool, &str) {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}
