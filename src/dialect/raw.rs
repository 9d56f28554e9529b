//! One topic per connection, no envelope.

/// One raw client.
#[derive(Debug)]
pub struct Session {}
