//! The name of one connection.

use std::fmt;

/// A UUID of version 4.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientId([u8; 16]);

impl ClientId {
    /// The id made of 122 of the bits of `random`.
    ///
    /// Source: RFC 9562 §5.4.
    pub const fn from_random(random: u128) -> Self {
        let mut bytes = random.to_be_bytes();
        bytes[6] = bytes[6] & 0x0F | 0x40;
        bytes[8] = bytes[8] & 0x3F | 0x80;
        Self(bytes)
    }

    /// The id whose usual form is `text`; letters in any case.
    pub fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        let mut digits = text
            .bytes()
            .enumerate()
            .filter(|(at, byte)| !(matches!(at, 8 | 13 | 18 | 23) && *byte == b'-'));
        let mut digit = || char::from(digits.next()?.1).to_digit(16);
        for byte in &mut bytes {
            *byte = u8::try_from(digit()? << 4 | digit()?).ok()?;
        }
        (text.len() == 36).then_some(Self(bytes))
    }

    /// The id in its usual form, 36 bytes of ASCII.
    pub fn text(self) -> Box<str> {
        self.to_string().into()
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            if matches!(at, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_usual_form_is_read_back() {
        let id = ClientId::from_random(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF);
        assert_eq!(ClientId::parse("00112233-4455-4677-8899-aabbccddeeff"), Some(id));
        assert_eq!(ClientId::parse("00112233-4455-4677-8899-AABBCCDDEEFF"), Some(id));
        for bad in [
            "",
            "00112233445546778899aabbccddeeff",
            "00112233-4455-4677-8899-aabbccddeef",
            "00112233-4455-4677-8899-aabbccddeeff0",
            "00112233-4455-4677-8899-aabbccddeefg",
            "001122334-455-4677-8899-aabbccddeeff",
        ] {
            assert_eq!(ClientId::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn ids_are_uuids_of_version_4() {
        let zeros = ClientId::from_random(0);
        assert_eq!(&*zeros.text(), "00000000-0000-4000-8000-000000000000");
        let ones = ClientId::from_random(u128::MAX);
        assert_eq!(&*ones.text(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        let counted = ClientId::from_random(0x0011_2233_4455_6677_8899_AABB_CCDD_EEFF);
        assert_eq!(&*counted.text(), "00112233-4455-4677-8899-aabbccddeeff");
    }
}
