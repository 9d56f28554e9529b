//! The label `code`: close codes without a limit would be series without a limit.

use super::label::Label;

/// Names the codes in ascending order, once as numbers and once as label texts.
macro_rules! codes {
    ($($code:literal)*) => {
        const CODES: &[u16] = &[$($code),*];
        const TEXTS: &[&str] =
            &[$(stringify!($code),)* "3xxx_other", "4xxx_other", "invalid"];
    };
}

// RFC 6455 §7.4.1 and the IANA registry; then what our client protocols send: Centrifugo 30xx and
// 35xx, raw 40xx and 44xx, Pusher 41xx to 43xx.
codes! {
    1000 1001 1002 1003 1004 1005 1006 1007 1008 1009 1010 1011 1012 1013 1014 1015
    3000 3001 3003 3004 3005 3008 3010 3012 3013
    3500 3501 3502 3503 3507 3508
    4008 4009 4010 4100 4200 4201 4202 4301 4400 4429
}

const OTHER_3XXX: usize = CODES.len();
const OTHER_4XXX: usize = CODES.len() + 1;
const INVALID: usize = CODES.len() + 2;

/// A close code as a label value: the code itself where it has a meaning for us, else its class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseCodeLabel(usize);

impl CloseCodeLabel {
    /// The label of `code`, whatever it is.
    pub fn of(code: u16) -> Self {
        Self(match (CODES.binary_search(&code), code) {
            (Ok(index), _) => index,
            (Err(_), 3000..=3999) => OTHER_3XXX,
            (Err(_), 4000..=4999) => OTHER_4XXX,
            (Err(_), _) => INVALID,
        })
    }
}

impl Label for CloseCodeLabel {
    const COUNT: usize = TEXTS.len();

    fn index(self) -> usize {
        self.0
    }

    fn text(index: usize) -> &'static str {
        TEXTS[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(code: u16) -> &'static str {
        CloseCodeLabel::text(CloseCodeLabel::of(code).index())
    }

    #[test]
    fn codes_that_mean_something_keep_their_number() {
        for code in (1000..=1015).chain([3000, 3003, 3008, 3501, 4008, 4010, 4400, 4429]) {
            assert_eq!(text(code), code.to_string());
        }
    }

    #[test]
    fn other_codes_share_the_label_of_their_class() {
        assert_eq!([text(3002), text(3999)], ["3xxx_other"; 2]);
        assert_eq!([text(4000), text(4999)], ["4xxx_other"; 2]);
        assert_eq!([text(0), text(999), text(1016), text(2999), text(5000)], ["invalid"; 5]);
    }

    #[test]
    fn the_list_is_in_ascending_order() {
        assert!(CODES.is_sorted_by(|a, b| a < b));
    }
}
