//! Consensus as a pure machine; it knows entries as bytes.
