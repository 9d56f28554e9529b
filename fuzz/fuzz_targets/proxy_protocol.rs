//! PROXY headers: bounded, split-independent, and nothing but the format.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringway::auth::proxy::{V1_BYTES_MAX, V2_BYTES_MAX, parse};

fuzz_target!(|input: &[u8]| {
    let whole = parse(input);
    if let Ok(Some(header)) = whole {
        let is_v1 = input.starts_with(b"PROXY ");
        assert!(header.len <= if is_v1 { V1_BYTES_MAX } else { V2_BYTES_MAX });
        assert!(header.len <= input.len());
    }
    if whole == Ok(None) {
        assert!(input.len() < V2_BYTES_MAX, "no header is longer");
    }
    // The first verdict on the way is the last one.
    let cuts = (0..=input.len().min(V2_BYTES_MAX)).step_by(1 + input.len() / 64);
    let first = cuts.map(|cut| parse(&input[..cut])).find(|verdict| *verdict != Ok(None));
    if let Some(first) = first {
        assert_eq!(first, whole);
    }
});
