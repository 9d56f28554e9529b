//! Which path leads where.

use crate::dialect::cause::Protocol;

/// Which routes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routes {
    /// `/topic/{topic}`.
    pub raw: bool,
    /// `/echo`.
    pub echo: bool,
    /// `/connection/websocket`.
    pub centrifuge: bool,
}

/// Where a path leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'p> {
    /// To one topic; still percent-encoded.
    Topic(&'p str),
    /// To the echo.
    Echo,
    /// To the Centrifugo protocol.
    Centrifuge,
    /// To the page for people.
    Page,
}

impl Routes {
    /// The route of `path`; `None`: there is nothing.
    pub fn find<'p>(&self, path: &'p str) -> Option<Route<'p>> {
        match path {
            "/" => Some(Route::Page),
            "/echo" if self.echo => Some(Route::Echo),
            "/connection/websocket" if self.centrifuge => Some(Route::Centrifuge),
            _ if self.raw => path.strip_prefix("/topic/").map(Route::Topic),
            _ => None,
        }
    }
}

impl Route<'_> {
    /// The client protocol spoken there; the page speaks none.
    pub fn protocol(&self) -> Option<Protocol> {
        match self {
            Self::Topic(_) => Some(Protocol::Raw),
            Self::Echo => Some(Protocol::Echo),
            Self::Centrifuge => Some(Protocol::Centrifuge),
            Self::Page => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_only_where_a_route_is_switched_on() {
        let all = Routes { raw: true, echo: true, centrifuge: true };
        assert_eq!(all.find("/topic/news/today"), Some(Route::Topic("news/today")));
        assert_eq!(all.find("/echo"), Some(Route::Echo));
        assert_eq!(all.find("/connection/websocket"), Some(Route::Centrifuge));
        assert_eq!(all.find("/"), Some(Route::Page));
        assert_eq!(all.find("/echo/"), None);
        assert_eq!(all.find("/topic"), None);
        let none = Routes { raw: false, echo: false, centrifuge: false };
        assert_eq!(none.find("/topic/news"), None);
        assert_eq!(none.find("/echo"), None);
        assert_eq!(none.find("/connection/websocket"), None);
    }
}
