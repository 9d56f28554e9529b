//! First three bytes: lengths of the pieces, the limits, whether compression was agreed. Rest: what a
//! client sends.
//!
//! Any cut of the stream gives what the naive receiver makes of it at once; memory follows what
//! came (asserted within `receive_in_pieces`).

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::ws::header::Rsv;
use ringway::ws::receiver::Limits;
use ringway::ws::reference::{decode, receive_in_pieces};

fuzz_target!(|data: &[u8]| {
    let [first_len, second_len, settings, stream @ ..] = data else { return };
    let limits = Limits {
        message_bytes_max: usize::from(settings >> 4) * 64,
        fragments_max: usize::from(settings & 7) + 1,
    };
    let rsv = if settings & 8 == 0 { Rsv::NONE } else { Rsv::RSV1 };
    let expected = decode(stream, &limits, rsv);
    let piece_lens = [usize::from(*first_len), usize::from(*second_len)];
    assert_eq!(receive_in_pieces(stream, &[], &limits, rsv), expected);
    assert_eq!(receive_in_pieces(stream, &[1], &limits, rsv), expected);
    assert_eq!(receive_in_pieces(stream, &piece_lens, &limits, rsv), expected);
});
