//! Rules, floods, cuts.
