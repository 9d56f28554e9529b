//! The forms in which a publication is delivered; each is encoded at most once.

/// One encoded form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// The payload alone: a text or binary frame.
    Raw,
    /// A Centrifugo JSON push in a text frame.
    Centrifuge,
}

/// Number of variants.
pub const VARIANTS: usize = 2;
