//! Takes the mask off client payloads.
//!
//! One safe loop, compiled for three kinds of processor; [`unmask`] asks which one it runs on. The
//! answer is a cached flag: one relaxed load.

/// Payloads below this many bytes are not worth a call into a wide loop.
const INLINE_BYTES_MAX: usize = 32;

/// A copy is unmasked in blocks that stay in the first-level cache.
const COPY_BLOCK_BYTES: usize = 4096;

/// Unmasks `payload` in place. `phase` is how many bytes of the frame's payload came before it.
///
/// Source: RFC 6455 §5.3.
#[inline]
pub fn unmask(payload: &mut [u8], mask: [u8; 4], phase: usize) {
    let mut key = mask;
    key.rotate_left(phase % 4);
    if payload.len() < INLINE_BYTES_MAX {
        xor_short(payload, key);
    } else {
        xor_wide(payload, key);
    }
}

/// Appends `masked` to `out` and unmasks it on the way. `phase` is as in [`unmask`].
#[inline]
pub fn unmask_copy(out: &mut Vec<u8>, masked: &[u8], mask: [u8; 4], phase: usize) {
    // A multiple of four: the phase is the same for each block.
    const { assert!(COPY_BLOCK_BYTES.is_multiple_of(4)) };
    out.reserve(masked.len());
    for block in masked.chunks(COPY_BLOCK_BYTES) {
        let start = out.len();
        out.extend_from_slice(block);
        unmask(&mut out[start..], mask, phase);
    }
}

/// For short payloads and short ends: no loop but over words.
#[inline(always)]
fn xor_short(payload: &mut [u8], key: [u8; 4]) {
    let key = u32::from_ne_bytes(key);
    let (words, rest) = payload.as_chunks_mut::<4>();
    for word in words {
        *word = (u32::from_ne_bytes(*word) ^ key).to_ne_bytes();
    }
    if let [first, others @ ..] = rest {
        let key = key.to_ne_bytes();
        *first ^= key[0];
        if let [second, others @ ..] = others {
            *second ^= key[1];
            if let [third] = others {
                *third ^= key[2];
            }
        }
    }
}

/// For long payloads: the plainest loop, which the compiler turns into the widest instructions that
/// it may use. Written as blocks of 64 bytes it gets narrower ones.
#[inline(always)]
fn xor_words(payload: &mut [u8], key: [u8; 4]) {
    let half = u64::from(u32::from_ne_bytes(key));
    let key_twice = half << 32 | half;
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ key_twice).to_ne_bytes();
    }
    xor_short(rest, key);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn xor_words_avx512(payload: &mut [u8], key: [u8; 4]) {
    xor_words(payload, key);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn xor_words_avx2(payload: &mut [u8], key: [u8; 4]) {
    xor_words(payload, key);
}

#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "the compiler cannot see which processor it runs on")]
fn xor_wide(payload: &mut [u8], key: [u8; 4]) {
    if is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512vl") {
        // SAFETY: the callee wants a processor with AVX-512 F, BW and VL. The last two were just
        // detected, and no processor has them without F.
        unsafe { xor_words_avx512(payload, key) }
    } else if is_x86_feature_detected!("avx2") {
        // SAFETY: the callee wants a processor with AVX2, which was just detected.
        unsafe { xor_words_avx2(payload, key) }
    } else {
        xor_words(payload, key);
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn xor_wide(payload: &mut [u8], key: [u8; 4]) {
    xor_words(payload, key);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive(payload: &mut [u8], mask: [u8; 4], phase: usize) {
        for (i, byte) in payload.iter_mut().enumerate() {
            *byte ^= mask[(i + phase) % 4];
        }
    }

    #[test]
    fn the_masked_hello_of_the_rfc_becomes_hello() {
        let mut payload = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        unmask(&mut payload, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&payload, b"Hello"); // RFC 6455 §5.7
    }

    #[test]
    fn every_alignment_and_phase_equals_the_byte_loop() {
        let bytes: Vec<u8> = (0..512_u32).map(|i| i.wrapping_mul(37).to_le_bytes()[0]).collect();
        for start in 0..64 {
            for phase in 0..4 {
                for len in (0..72).chain([127, 128, 129, 255, 300, 448]) {
                    let mask = [0x12, 0x34, 0x56, 0x78];
                    let mut expected = bytes.clone();
                    naive(&mut expected[start..start + len], mask, phase);
                    let mut got = bytes.clone();
                    unmask(&mut got[start..start + len], mask, phase);
                    assert_eq!(got, expected, "start {start}, phase {phase}, len {len}");
                    let mut copy = bytes[..start].to_vec();
                    unmask_copy(&mut copy, &bytes[start..start + len], mask, phase);
                    assert_eq!(copy, expected[..start + len]);
                }
            }
        }
    }

    #[test]
    fn every_loop_this_processor_can_run_equals_the_byte_loop() {
        let bytes: Vec<u8> = (0..1000_u32).map(|i| i.wrapping_mul(91).to_le_bytes()[0]).collect();
        let key = [0xa5, 0x5a, 0x0f, 0xf0];
        let mut expected = bytes.clone();
        naive(&mut expected, key, 0);
        for xor in [xor_short, xor_words, xor_wide] {
            let mut got = bytes.clone();
            xor(&mut got, key);
            assert_eq!(got, expected);
        }
    }

    proptest! {
        #[test]
        fn pieces_with_their_phase_equal_the_whole(
            payload in prop::collection::vec(any::<u8>(), 0..20_000),
            mask in any::<[u8; 4]>(),
            piece_len in 1_usize..9000,
        ) {
            let mut expected = payload.clone();
            naive(&mut expected, mask, 0);
            let mut copied = Vec::new();
            for piece in payload.chunks(piece_len) {
                let phase = copied.len();
                unmask_copy(&mut copied, piece, mask, phase);
            }
            prop_assert_eq!(copied, expected);
        }
    }
}
