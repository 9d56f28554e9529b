//! Every message that crosses threads, and the lanes it crosses on.

pub mod message;
pub mod post;
