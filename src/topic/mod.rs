//! Who listens to what: names, namespaces, the order and the history of each topic.

pub mod history;
pub mod home;
pub mod interests;
pub mod name;
pub mod namespace;
pub mod publication;
pub mod sequence;
pub mod splice;
pub mod subscribers;
