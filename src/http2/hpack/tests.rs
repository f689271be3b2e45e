//! The vectors of RFC 7541, appendix C, and the rules that they do not show.

use proptest::prelude::*;

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(text, 16).expect("digits")
    };
    digits.chunks(2).map(pair).collect()
}

fn decode(decoder: &mut Decoder, block: &[u8]) -> Result<String, HpackError> {
    let mut fields = Fields::new();
    decoder.decode(block, 1 << 16, &mut fields)?;
    let line = |(name, value): (&[u8], &[u8])| {
        format!("{}: {}\n", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
    };
    Ok(fields.iter().map(line).collect())
}

/// Blocks that share one table, and the list that each decodes to.
fn check_blocks(table_size_max: usize, blocks: &[(&str, &str)]) {
    let mut decoder = Decoder::new(table_size_max);
    for (block, fields) in blocks {
        assert_eq!(decode(&mut decoder, &bytes(block)).as_deref(), Ok(*fields), "{block}");
    }
}

#[test]
fn integers_of_appendix_c_1() {
    for (value, prefix_bits, hex) in [(10, 5, "0a"), (1337, 5, "1f9a0a"), (42, 8, "2a")] {
        let mut out = Vec::new();
        put_integer(&mut out, 0, prefix_bits, value);
        assert_eq!(out, bytes(hex));
        let mut block = &out[..];
        assert_eq!(integer(&mut block, out[0], prefix_bits), Ok(value));
        assert!(block.is_empty());
    }
}

#[test]
fn single_fields_of_appendix_c_2() {
    check_blocks(
        4096,
        &[("400a637573746f6d2d6b65790d637573746f6d2d686561646572", "custom-key: custom-header\n")],
    );
    check_blocks(4096, &[("040c2f73616d706c652f70617468", ":path: /sample/path\n")]);
    check_blocks(4096, &[("100870617373776f726406736563726574", "password: secret\n")]);
    check_blocks(4096, &[("82", ":method: GET\n")]);
}

const REQUESTS: [&str; 3] = [
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\n",
    ":method: GET\n:scheme: http\n:path: /\n:authority: www.example.com\ncache-control: no-cache\n",
    ":method: GET\n:scheme: https\n:path: /index.html\n:authority: www.example.com\n\
     custom-key: custom-value\n",
];

#[test]
fn requests_of_appendix_c_3_and_4() {
    let plain = [
        "828684410f7777772e6578616d706c652e636f6d",
        "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
    ];
    let coded = [
        "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
    ];
    for blocks in [plain, coded] {
        let pairs: Vec<_> = blocks.into_iter().zip(REQUESTS).collect();
        check_blocks(4096, &pairs);
    }
}

#[test]
fn responses_with_eviction_of_appendix_c_5_and_6() {
    let lists = [
        ":status: 302\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
         location: https://www.example.com\n",
        ":status: 307\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:21 GMT\n\
         location: https://www.example.com\n",
        ":status: 200\ncache-control: private\ndate: Mon, 21 Oct 2013 20:13:22 GMT\n\
         location: https://www.example.com\ncontent-encoding: gzip\n\
         set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1\n",
    ];
    let plain = [
        "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54\
         6e1768747470733a2f2f7777772e6578616d706c652e636f6d",
        "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f\
         3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076\
         657273696f6e3d31",
    ];
    let coded = [
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f\
         0b97c8e9ae82ae43d3",
        "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335df\
         dfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007",
    ];
    for blocks in [plain, coded] {
        let pairs: Vec<_> = blocks.into_iter().zip(lists).collect();
        check_blocks(256, &pairs);
    }
}

#[test]
fn a_bad_block_is_refused_with_its_reason() {
    let cases = [
        ("80", HpackError::Index),
        ("be", HpackError::Index),
        ("7f0000", HpackError::Index),
        ("ffffffffff7f", HpackError::Integer),
        ("ff", HpackError::Truncated),
        ("40", HpackError::Truncated),
        ("4001", HpackError::Truncated),
        ("0001610562", HpackError::Truncated),
        ("3fe21f", HpackError::SizeUpdate),
        ("8220", HpackError::SizeUpdate),
        ("20203f8101", HpackError::SizeUpdate),
        ("000161821f00", HpackError::Huffman),
    ];
    for (block, error) in cases {
        let found = decode(&mut Decoder::new(4096), &bytes(block));
        assert_eq!(found, Err(error), "{block}");
    }
}

#[test]
fn a_size_update_evicts_and_a_field_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(4096);
    assert!(decode(&mut decoder, &bytes("4001610162")).is_ok());
    assert_eq!(decode(&mut decoder, &bytes("be")).as_deref(), Ok("a: b\n"));
    let before = decoder.generation();
    assert_eq!(decode(&mut decoder, &bytes("20be")), Err(HpackError::Index));
    assert_ne!(decoder.generation(), before);
    let mut decoder = Decoder::new(40);
    assert!(decode(&mut decoder, &bytes("4001610162")).is_ok());
    assert!(decode(&mut decoder, &bytes("40016109626262626262626262")).is_ok());
    assert_eq!(decode(&mut decoder, &bytes("be")), Err(HpackError::Index));
}

#[test]
fn a_list_too_large_is_cut_and_the_table_stays_in_step() {
    let mut decoder = Decoder::new(4096);
    let mut fields = Fields::new();
    let mut block = bytes("4001610162");
    block.extend([0xbe; 20]);
    block.extend(bytes("4001630164"));
    decoder.decode(&block, 340, &mut fields).expect("valid");
    assert!(fields.is_too_large());
    assert_eq!(fields.len(), 10);
    assert_eq!(decode(&mut decoder, &bytes("bebf")).as_deref(), Ok("c: d\na: b\n"));
    block.splice(5..5, [0xbe; 1000]);
    assert_eq!(decoder.decode(&block, 340, &mut fields), Err(HpackError::Bomb));
    assert!(fields.capacity() < 4096, "a bomb leaves nothing behind");
}

#[test]
fn what_the_encoder_writes_is_decoded() {
    let mut block = Vec::new();
    encode_indexed(&mut block, 8);
    encode_literal(&mut block, b"content-type", b"application/grpc");
    encode_literal(&mut block, b"grpc-message", &[b'x'; 300]);
    let text = format!(
        ":status: 200\ncontent-type: application/grpc\ngrpc-message: {}\n",
        "x".repeat(300)
    );
    assert_eq!(decode(&mut Decoder::new(0), &block), Ok(text));
}

/// One field as a client may send it.
#[derive(Clone, Debug)]
struct Sent {
    name: Vec<u8>,
    value: Vec<u8>,
    is_indexed: bool,
    is_coded: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let name = prop::collection::vec(b'a'..=b'e', 1..4);
    let value = prop::collection::vec(any::<u8>(), 0..40);
    (name, value, any::<bool>(), any::<bool>())
        .prop_map(|(name, value, is_indexed, is_coded)| Sent { name, value, is_indexed, is_coded })
}

fn put_string(out: &mut Vec<u8>, text: &[u8], is_coded: bool) {
    let coded = huffman::encode(text);
    let (pattern, text) = if is_coded { (0x80, &coded[..]) } else { (0x00, text) };
    put_integer(out, pattern, 7, text.len());
    out.extend_from_slice(text);
}

proptest! {
    /// The table against a plain list, newest first, that is searched from the front.
    #[test]
    fn the_table_is_a_list_of_what_was_indexed(
        blocks in prop::collection::vec(prop::collection::vec(sent(), 0..8), 1..12),
        size_max in 0_usize..400,
    ) {
        let mut decoder = Decoder::new(size_max);
        let mut model: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        for fields in blocks {
            let mut block = Vec::new();
            let mut expected = Vec::new();
            for Sent { name, value, is_indexed, is_coded } in fields {
                let field = (name, value);
                expected.push(field.clone());
                if let Some(place) = model.iter().position(|known| *known == field) {
                    put_integer(&mut block, 0x80, 7, 62 + place);
                    continue;
                }
                let (pattern, bits) = if is_indexed { (0x40, 6) } else { (0x10, 4) };
                match model.iter().position(|known| known.0 == field.0) {
                    Some(place) => put_integer(&mut block, pattern, bits, 62 + place),
                    None => {
                        block.push(pattern);
                        put_string(&mut block, &field.0, is_coded);
                    }
                }
                put_string(&mut block, &field.1, is_coded);
                if is_indexed {
                    model.insert(0, field);
                    let size = |model: &[(Vec<u8>, Vec<u8>)]| -> usize {
                        model.iter().map(|(name, value)| name.len() + value.len() + 32).sum()
                    };
                    while size(&model) > size_max {
                        model.pop();
                    }
                }
            }
            let mut found = Fields::new();
            decoder.decode(&block, usize::MAX, &mut found).expect("valid");
            let found: Vec<_> = found.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn garbage_never_panics_and_stays_small(
        blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8)
    ) {
        let mut decoder = Decoder::new(4096);
        let mut fields = Fields::new();
        for block in blocks {
            if decoder.decode(&block, 1000, &mut fields).is_err() {
                break;
            }
            prop_assert!(fields.len() <= 1000 / 32);
        }
    }
}
