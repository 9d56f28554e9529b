//! Label values as small closed sets, so that the number of series has a limit.

/// One label of a metric: a closed set of values, each with an index and a text.
///
/// `index` is below `COUNT`, different for different values, and `text(value.index())` is what
/// scrapes show for the value.
pub trait Label: Copy {
    /// How many values there are.
    const COUNT: usize;

    /// The number of this value.
    fn index(self) -> usize;

    /// The text of the value numbered `index`, which is below `COUNT`.
    fn text(index: usize) -> &'static str;
}

/// The label types of the shards' metrics, which belong to other rooms.
pub trait Vocabulary: 'static {
    /// `protocol`: the client protocol of a connection.
    type Protocol: Label;
    /// `cause`: why a connection ended.
    type Cause: Label;
    /// `reason` of `ringway_handshake_refused_total`.
    type RefusalReason: Label;
    /// `reason` of `ringway_accept_paused_total`.
    type PauseReason: Label;
    /// `reason` of `ringway_connections_refused_total`.
    type UnheardReason: Label;

    /// `initiator`: which side ends connections for the cause numbered `cause`. It follows from the
    /// cause, and so is no dimension of the memory.
    fn initiator(cause: usize) -> &'static str;
}

/// The labels of one family: a tuple of [`Label`]s, numbered densely.
pub(super) trait LabelSet: Sized {
    /// How many combinations there are.
    const COUNT: usize;

    /// The number of this combination.
    fn index(self) -> usize;

    /// The texts of combination `index`, in the order of the tuple.
    fn texts(index: usize) -> Vec<&'static str>;
}

impl<A: Label> LabelSet for (A,) {
    const COUNT: usize = A::COUNT;

    fn index(self) -> usize {
        checked_index(self.0)
    }

    fn texts(index: usize) -> Vec<&'static str> {
        vec![A::text(index)]
    }
}

impl<A: Label, B: Label> LabelSet for (A, B) {
    const COUNT: usize = A::COUNT * B::COUNT;

    fn index(self) -> usize {
        checked_index(self.0) * B::COUNT + checked_index(self.1)
    }

    fn texts(index: usize) -> Vec<&'static str> {
        vec![A::text(index / B::COUNT), B::text(index % B::COUNT)]
    }
}

impl<A: Label, B: Label, C: Label> LabelSet for (A, B, C) {
    const COUNT: usize = A::COUNT * <(B, C)>::COUNT;

    fn index(self) -> usize {
        checked_index(self.0) * <(B, C)>::COUNT + (self.1, self.2).index()
    }

    fn texts(index: usize) -> Vec<&'static str> {
        let rest = <(B, C)>::texts(index % <(B, C)>::COUNT);
        std::iter::once(A::text(index / <(B, C)>::COUNT)).chain(rest).collect()
    }
}

fn checked_index<L: Label>(label: L) -> usize {
    let index = label.index();
    assert!(index < L::COUNT);
    index
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A label with the values `v0`, `v1`, ... for tests.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(in crate::metrics) struct Small<const N: usize>(pub(in crate::metrics) usize);

    impl<const N: usize> Label for Small<N> {
        const COUNT: usize = N;

        fn index(self) -> usize {
            self.0
        }

        fn text(index: usize) -> &'static str {
            ["v0", "v1", "v2", "v3"][index]
        }
    }

    #[test]
    fn every_combination_has_its_own_index_and_gets_its_texts_back() {
        type Set = (Small<2>, Small<3>, Small<4>);
        assert_eq!(Set::COUNT, 24);
        let mut seen = [false; 24];
        for a in 0..2 {
            for b in 0..3 {
                for c in 0..4 {
                    let index = (Small::<2>(a), Small::<3>(b), Small::<4>(c)).index();
                    assert!(!std::mem::replace(&mut seen[index], true));
                    let expected = [format!("v{a}"), format!("v{b}"), format!("v{c}")];
                    assert_eq!(Set::texts(index), expected);
                }
            }
        }
        assert_eq!(seen, [true; 24]);
    }
}
