//! First byte: length of the pieces. Rest: a text. The verdict is that of `std`, and comes at the
//! first byte that nothing can follow to make the text valid.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::ws::utf8::Utf8Validator;

fuzz_target!(|data: &[u8]| {
    let Some((&piece_len, text)) = data.split_first() else { return };
    let mut validator = Utf8Validator::default();
    let mut received = 0;
    for piece in text.chunks(usize::from(piece_len).max(1)) {
        received += piece.len();
        let verdict = validator.push(piece);
        let hopeless =
            std::str::from_utf8(&text[..received]).is_err_and(|e| e.error_len().is_some());
        assert_eq!(verdict.is_err(), hopeless);
        if hopeless {
            return;
        }
    }
    assert_eq!(validator.finish().is_ok(), std::str::from_utf8(text).is_ok());
});
