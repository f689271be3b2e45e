//! An ordered tree of keys and their histories.
