//! The label `status`: the HTTP statuses that we answer with.

use super::label::Label;

/// Names the statuses in ascending order, once as numbers and once as label texts.
macro_rules! statuses {
    ($($status:literal)*) => {
        const STATUSES: &[u16] = &[$($status),*];
        const TEXTS: &[&str] = &[$(stringify!($status),)* "other"];
    };
}

statuses! { 200 204 400 401 403 404 405 408 411 413 415 426 429 431 500 501 503 505 }

/// An HTTP status as a label value; one that we do not use is `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpStatusLabel(usize);

impl HttpStatusLabel {
    /// The label of `status`, whatever it is.
    pub fn of(status: u16) -> Self {
        Self(STATUSES.binary_search(&status).unwrap_or(STATUSES.len()))
    }
}

impl Label for HttpStatusLabel {
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

    #[test]
    fn a_status_is_its_number_or_other() {
        for status in STATUSES {
            assert_eq!(
                HttpStatusLabel::text(HttpStatusLabel::of(*status).index()),
                status.to_string()
            );
        }
        assert_eq!(HttpStatusLabel::text(HttpStatusLabel::of(418).index()), "other");
        assert!(STATUSES.is_sorted_by(|a, b| a < b));
    }
}
