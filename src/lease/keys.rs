//! The keys of one lease, in their order.

use std::collections::BTreeSet;
use std::collections::btree_set;

/// The keys of one lease.
///
/// Most leases have one key or none: these take no tree.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Keys {
    /// No key.
    #[default]
    None,
    /// The only one.
    One(Box<[u8]>),
    /// Two at least.
    Many(Box<BTreeSet<Box<[u8]>>>),
}

/// The keys of a lease, ascending.
#[derive(Debug)]
enum Iter<'a> {
    One(Option<&'a [u8]>),
    Many(btree_set::Iter<'a, Box<[u8]>>),
}

impl Keys {
    /// How many they are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(keys) => keys.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    /// Each, ascending.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        match self {
            Self::None => Iter::One(None),
            Self::One(key) => Iter::One(Some(&key[..])),
            Self::Many(keys) => Iter::Many(keys.iter()),
        }
    }

    /// Adds a key; whether it is new.
    pub(super) fn insert(&mut self, key: &[u8]) -> bool {
        match self {
            Self::None => *self = Self::One(key.into()),
            Self::One(one) if one[..] == *key => return false,
            Self::One(one) => {
                let keys = BTreeSet::from([std::mem::take(one), key.into()]);
                *self = Self::Many(Box::new(keys));
            }
            Self::Many(keys) => return keys.insert(key.into()),
        }
        true
    }

    /// Takes a key away; whether it was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> bool {
        match self {
            Self::None => return false,
            Self::One(one) if one[..] != *key => return false,
            Self::One(_) => *self = Self::None,
            Self::Many(keys) => {
                if !keys.remove(key) {
                    return false;
                }
                if keys.len() == 1 {
                    *self = keys.pop_first().map_or(Self::None, Self::One);
                }
            }
        }
        true
    }

    pub(super) fn check(&self) {
        if let Self::Many(keys) = self {
            assert!(keys.len() > 1, "a tree has two keys at least");
        }
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Self::One(key) => key.take(),
            Self::Many(keys) => keys.next().map(|key| &key[..]),
        }
    }
}
