//! The methods of the server API, which also label its requests in the metrics.

use crate::metrics::Label;

/// A method of the server API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Publishes to one topic.
    Publish,
    /// Publishes the same to several topics.
    Broadcast,
    /// Says how the gateway does.
    Info,
    /// Lists topics that have subscribers.
    Channels,
    /// Reads the history of a topic.
    History,
    /// Ends connections.
    Disconnect,
    /// None of these.
    Unknown,
}

/// All methods with their names, in the order of their declaration.
const METHODS: [(Method, &str); 7] = [
    (Method::Publish, "publish"),
    (Method::Broadcast, "broadcast"),
    (Method::Info, "info"),
    (Method::Channels, "channels"),
    (Method::History, "history"),
    (Method::Disconnect, "disconnect"),
    (Method::Unknown, "unknown"),
];

impl Method {
    /// The method of this name.
    pub fn of(name: &str) -> Self {
        METHODS.iter().find(|(_, text)| *text == name).map_or(Self::Unknown, |(method, _)| *method)
    }
}

impl Label for Method {
    const COUNT: usize = METHODS.len();

    fn index(self) -> usize {
        self as usize
    }

    fn text(index: usize) -> &'static str {
        METHODS[index].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_have_names_and_everything_else_is_unknown() {
        for (index, (method, name)) in METHODS.into_iter().enumerate() {
            assert_eq!(Method::of(name), method);
            assert_eq!(method.index(), index);
        }
        assert_eq!(Method::of("Publish"), Method::Unknown);
        assert_eq!(Method::of(""), Method::Unknown);
    }
}
