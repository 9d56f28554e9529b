//! Payloads of echo and churn: a number and filler.

use crate::sequence::{parse_hex, push_hex};

/// Digits of the number.
const DIGITS: usize = 8;

/// Writes `number` and filler, `size` bytes in all, over `out`.
pub(super) fn encode(number: u32, size: usize, out: &mut Vec<u8>) {
    out.clear();
    push_hex(out, u64::from(number), 8);
    out.resize(size, b'.');
}

/// Reads the number of a payload of `size` bytes; `None`: it was not made by [`encode`].
pub(super) fn decode(payload: &[u8], size: usize) -> Option<u32> {
    let (digits, filler) = payload.split_at_checked(DIGITS)?;
    if payload.len() != size || filler.iter().any(|byte| *byte != b'.') {
        return None;
    }
    parse_hex(digits).and_then(|number| u32::try_from(number).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_comes_back_only_from_an_undamaged_payload() {
        let mut payload = Vec::new();
        encode(0x00c0_ffee, 12, &mut payload);
        assert_eq!(payload, b"00c0ffee....");
        assert_eq!(decode(&payload, 12), Some(0x00c0_ffee));
        assert_eq!(decode(b"00c0ffee...", 12), None);
        assert_eq!(decode(b"00c0ffee...x", 12), None);
        assert_eq!(decode(b"00c0ffeg....", 12), None);
        assert_eq!(decode(b"00c0", 4), None);
    }
}
