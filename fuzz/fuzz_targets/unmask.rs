//! First six bytes: the mask, the alignment and the phase. Rest: a payload. All ways to unmask
//! give what the byte loop gives, and touch nothing around the payload.

#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::ws::mask::{unmask, unmask_copy};

fuzz_target!(|data: &[u8]| {
    let Some((&[a, b, c, d, start, phase], payload)) = data.split_first_chunk::<6>() else {
        return;
    };
    let mask = [a, b, c, d];
    let phase = usize::from(phase);
    let start = usize::from(start % 64);
    let expected: Vec<u8> =
        payload.iter().enumerate().map(|(i, byte)| byte ^ mask[(i + phase) % 4]).collect();

    let mut copied = vec![0xee; start];
    unmask_copy(&mut copied, payload, mask, phase);
    assert_eq!(copied[start..], expected);

    let mut memory = vec![0xee; start];
    memory.extend_from_slice(payload);
    memory.extend_from_slice(&[0xee; 64]);
    let end = start + payload.len();
    unmask(&mut memory[start..end], mask, phase);
    assert_eq!(memory[start..end], expected);
    assert!(memory[..start].iter().chain(&memory[end..]).all(|&byte| byte == 0xee));
});
