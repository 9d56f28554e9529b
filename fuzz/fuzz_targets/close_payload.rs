//! A Close payload. What is accepted is legal and survives being written and read again; any
//! reason is cut so that it fits.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::ws::close::{CloseCode, decode_close, encode_close};

fuzz_target!(|data: &[u8]| {
    let mut frame = Vec::new();
    if let Ok(close) = decode_close(data) {
        if let Some((code, reason)) = close {
            assert!(code.may_receive());
            assert_eq!(reason.as_bytes(), &data[2..]);
        }
        encode_close(&mut frame, close);
        assert_eq!(frame[0], 0x88);
        assert_eq!(usize::from(frame[1]), frame.len() - 2);
        if data.len() <= 125 {
            assert_eq!(&frame[2..], data);
        }
    }
    let reason = String::from_utf8_lossy(data);
    frame.clear();
    encode_close(&mut frame, Some((CloseCode::NORMAL, &reason)));
    assert!(frame.len() <= 127);
    let (code, cut) = decode_close(&frame[2..]).expect("we write legal frames").expect("a code");
    assert_eq!(code, CloseCode::NORMAL);
    assert!(reason.starts_with(cut));
    assert!(reason.len() - cut.len() < 4 || cut.len() > 119);
    assert!(reason.len() > 123 || cut.len() == reason.len());
});
