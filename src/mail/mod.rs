//! Every message that crosses threads, and the lanes it crosses on.

pub mod close;
pub mod frames;
mod lane;
pub mod message;
pub mod post;
