//! Amounts of bytes and of time, as people write them.

use std::time::Duration;

const BYTE_UNITS: [(&str, u64); 4] =
    [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];
const TIME_UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The bytes that a text like `64 KiB` means; `None`: it means nothing.
pub(super) fn parse_bytes(text: &str) -> Option<u64> {
    parse(text, &BYTE_UNITS)
}

/// The time that a text like `30s` means; `None`: it means nothing.
pub(super) fn parse_time(text: &str) -> Option<Duration> {
    parse(text, &TIME_UNITS).map(Duration::from_millis)
}

/// `bytes` in the largest unit that needs no fraction.
pub(super) fn show_bytes(bytes: u64) -> String {
    let (unit, scale) = largest(bytes, &BYTE_UNITS).unwrap_or(("B", 1));
    format!("{} {unit}", bytes / scale)
}

/// `time` in the largest unit that needs no fraction; parts of milliseconds are cut off.
pub(super) fn show_time(time: Duration) -> String {
    let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (unit, scale) = largest(milliseconds, &TIME_UNITS).unwrap_or(("s", 1_000));
    format!("{}{unit}", milliseconds / scale)
}

fn largest(amount: u64, units: &[(&'static str, u64)]) -> Option<(&'static str, u64)> {
    units.iter().copied().find(|(_, scale)| amount > 0 && amount.is_multiple_of(*scale))
}

/// A whole number, perhaps a space, a unit.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.strip_prefix(' ').unwrap_or(unit);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_binary_units() {
        assert_eq!(parse_bytes("64 KiB"), Some(65_536));
        assert_eq!(parse_bytes("1MiB"), Some(1_048_576));
        assert_eq!(parse_bytes("3 B"), Some(3));
        for nothing in ["", "64", "64 KB", "KiB", "-1 KiB", "1.5 MiB", "1  KiB", "99999999999 GiB"]
        {
            assert_eq!(parse_bytes(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn times_always_have_a_unit() {
        assert_eq!(parse_time("30s"), Some(Duration::from_secs(30)));
        assert_eq!(parse_time("250 ms"), Some(Duration::from_millis(250)));
        assert_eq!(parse_time("5m"), Some(Duration::from_secs(300)));
        assert_eq!(parse_time("2h"), Some(Duration::from_secs(7_200)));
        for nothing in ["", "30", "30 sec", "s", "-1s", "0.5s"] {
            assert_eq!(parse_time(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn amounts_are_shown_without_fractions() {
        assert_eq!(
            [show_bytes(65_536), show_bytes(1_025), show_bytes(0)],
            ["64 KiB", "1025 B", "0 B"]
        );
        let times = [90_000, 3_600_000, 250, 0].map(Duration::from_millis).map(show_time);
        assert_eq!(times, ["90s", "1h", "250ms", "0s"]);
    }
}
