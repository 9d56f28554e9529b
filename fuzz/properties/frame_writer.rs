//! A frame that we write reads back as what was written, without a mask, and its length is told in the
//! fewest bytes.

use ringway::ws::header::{
    Fin, Opcode, Rsv, decode_header, encode_frame, encode_header, server_header_len,
};

/// First two bytes: opcode and a factor; rest: the payload, repeated that often.
pub(crate) fn check(data: &[u8]) {
    let [kind, factor, payload @ ..] = data else { return };
    let opcodes = [
        Opcode::Continuation,
        Opcode::Text,
        Opcode::Binary,
        Opcode::Close,
        Opcode::Ping,
        Opcode::Pong,
    ];
    let opcode = opcodes[usize::from(*kind) % opcodes.len()];
    let mut payload = payload.repeat(usize::from(*factor).max(1));
    if opcode.is_control() {
        payload.truncate(125);
    }
    let is_last = opcode.is_control() || kind & 0x80 == 0;
    let fin = if is_last { Fin::Last } else { Fin::More };
    let mut header = vec![0xEE];
    encode_header(opcode, fin, Rsv::NONE, payload.len(), &mut header);
    assert_eq!(header[0], 0xEE, "what was there is touched");
    let header = &header[1..];
    assert_eq!(header.len(), server_header_len(payload.len()));
    assert_eq!(header[1] & 0x80, 0, "a mask");

    // As a client would write it, it is what a client may send.
    let mut masked = header.to_vec();
    masked[1] |= 0x80;
    assert_eq!(decode_header(&masked, Rsv::NONE), Ok(None), "the mask is missing");
    masked.extend_from_slice(&[1, 2, 3, 4]);
    let (read, len) = decode_header(&masked, Rsv::NONE).expect("it is legal").expect("it is whole");
    assert_eq!(len, masked.len());
    assert_eq!((read.fin, read.opcode, read.mask), (fin, opcode, [1, 2, 3, 4]));
    assert_eq!(usize::try_from(read.payload_len), Ok(payload.len()));

    if is_last {
        let mut frame = Vec::new();
        encode_frame(&mut frame, opcode, &payload);
        assert_eq!(frame, [header, &payload].concat());
    }
}
