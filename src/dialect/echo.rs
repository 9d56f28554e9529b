//! Every message comes back.

use super::Context;
use crate::ws::header::Opcode;

/// Answers a text message.
pub(super) fn message_text(text: &[u8], cx: &mut Context<'_>) {
    cx.write(Opcode::Text, text);
}

/// Answers a binary message.
pub(super) fn message_binary(bytes: &[u8], cx: &mut Context<'_>) {
    cx.write(Opcode::Binary, bytes);
}

#[cfg(test)]
mod tests {
    use crate::dialect::fixture::Fixture;
    use crate::dialect::{Protocol, Session};

    #[test]
    fn messages_come_back_as_they_came() {
        let mut fixture = Fixture::new();
        let mut session = Session::Echo;
        assert_eq!(session.protocol(), Protocol::Echo);
        session.message_text(b"hi", &mut fixture.cx());
        session.message_binary(&[0, 1], &mut fixture.cx());
        session.message_text(b"", &mut fixture.cx());
        assert_eq!(fixture.frames, b"\x81\x02hi\x82\x02\x00\x01\x81\x00");
        assert!(fixture.actions.is_empty());
    }
}
