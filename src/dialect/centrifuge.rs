//! Centrifugo v2 JSON.

/// Settings of the Centrifugo protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {}

/// One Centrifugo client.
#[derive(Debug)]
pub struct Session {}
