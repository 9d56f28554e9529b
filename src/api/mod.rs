//! stub
pub mod hub {
    use crate::mail::{message::Request, post::Post};
    /// s
    pub struct Hub {
        post: std::cell::RefCell<Post>,
        wake: Box<dyn Fn(usize)>,
    }
    impl Hub {
        /// s
        pub fn new(post: Post, _s: usize, wake: Box<dyn Fn(usize)>) -> Self {
            Self { post: std::cell::RefCell::new(post), wake }
        }
        /// s
        pub fn dispatch(&self) {
            let mut p = self.post.borrow_mut();
            for i in 0..p.nodes() {
                while p.take_delivery(i).is_some() {}
            }
            p.fall_asleep();
        }
        /// s
        pub fn tell(&self, n: usize, r: Request) {
            let mut p = self.post.borrow_mut();
            let _ = p.request(n, r);
            p.wakes(|n| (self.wake)(n));
        }
        /// s
        pub fn connections(&self) -> usize {
            0
        }
    }
}
/// s
pub mod server {
    /// s
    #[derive(Default)]
    pub struct Readiness;
    impl Readiness {
        /// s
        pub fn set_ready(&self) {}
        /// s
        pub fn set_draining(&self) {}
    }
    /// s
    pub struct State;
}
