//! Checksums around bytes: the only code that decides "these bytes are whole".
