//! Majorities: pure arithmetic over what each voter has said.

/// How many of `voters` are a majority; none is ever reached where nobody votes.
#[must_use]
pub(super) fn majority(voters: usize) -> usize {
    voters / 2 + 1
}

/// What an election has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tally {
    Won,
    Lost,
    Open,
}

/// What `granted` yes and `refused` no among `voters` amount to.
pub(super) fn tally(voters: usize, granted: usize, refused: usize) -> Tally {
    assert!(granted + refused <= voters, "each voter votes once");
    if granted >= majority(voters) {
        Tally::Won
    } else if voters - refused < majority(voters) {
        Tally::Lost
    } else {
        Tally::Open
    }
}

/// The highest number that a majority has reached; 0 where nobody votes. Reorders its argument.
pub(super) fn reached<T: Copy + Ord + Default>(each: &mut [T]) -> T {
    if each.is_empty() {
        return T::default();
    }
    each.sort_unstable();
    each[each.len() - majority(each.len())]
}
