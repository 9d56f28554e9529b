//! Which threads want the publications of one topic.
//!
//! Interest is counted: grants minus releases for each thread and form, so that an unsubscribe
//! which crosses a new subscription on its way does no harm.

/// Most forms in which a publication can be encoded: for two languages plain and in two classes of
/// compression.
pub const FORMS_MAX: usize = 6;

/// How many subscribers a thread has for a topic, by the form they want.
#[derive(Clone, Copy, Debug)]
pub struct Interest {
    /// The thread.
    pub node: usize,
    /// Grants minus releases for each form.
    pub grants: [u32; FORMS_MAX],
}

/// The interest of all threads in one topic.
#[derive(Debug, Default)]
pub struct Interests(Vec<Interest>);

impl Interests {
    /// Those that have any, in no order.
    pub fn as_slice(&self) -> &[Interest] {
        &self.0
    }

    /// Whether nobody is interested.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Grants minus releases of all threads and forms.
    pub fn subscribers(&self) -> u64 {
        self.0.iter().flat_map(|interest| interest.grants).map(u64::from).sum()
    }

    /// One subscriber more of thread `node` in `form`.
    pub fn grant(&mut self, node: usize, form: usize) {
        let index = self.0.iter().position(|interest| interest.node == node);
        let index = index.unwrap_or_else(|| {
            self.0.push(Interest { node, grants: [0; FORMS_MAX] });
            self.0.len() - 1
        });
        self.0[index].grants[form] += 1;
    }

    /// One subscriber less of thread `node` in `form`.
    pub fn release(&mut self, node: usize, form: usize) {
        let Some(index) = self.0.iter().position(|interest| interest.node == node) else {
            debug_assert!(false, "release without a grant");
            return;
        };
        let grants = &mut self.0[index].grants;
        debug_assert!(grants[form] > 0, "more releases than grants");
        grants[form] = grants[form].saturating_sub(1);
        if grants.iter().all(|&n| n == 0) {
            self.0.swap_remove(index);
        }
    }
}
