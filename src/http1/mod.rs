//! Request heads and responses of HTTP/1.1 (RFC 9112), bounded and strict.
//!
//! The caller collects bytes until [`head::HeadScanner`] finds the end of the head, lets
//! [`request::RequestHead`] take it apart, and answers with [`response::Response`].

pub mod error;
pub mod head;
pub mod request;
pub mod response;
pub mod status;
pub mod target;
