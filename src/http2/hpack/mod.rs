//! Header compression, RFC 7541: a whole decoder, and an encoder that keeps no state.

/// Appends the field as a literal without indexing; `name` must be lower case.
pub fn encode_literal(_out: &mut Vec<u8>, _name: &[u8], _value: &[u8]) {
    unimplemented!()
}

/// Appends a field of the static table by its index, from 1 (`:status: 200` is 8).
pub fn encode_indexed(_out: &mut Vec<u8>, _index: u8) {
    unimplemented!()
}
