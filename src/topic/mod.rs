//! Who listens to what: names, namespaces, the order and the history of each topic.

pub mod name;
pub mod namespace;
pub mod publication;
