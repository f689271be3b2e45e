//! The records of changes, found by location.
