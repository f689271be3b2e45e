//! What recovery makes of what it finds: a table of cases, and nothing but the table.
//!
//! Recovery walks from frame to frame. At each position it observes what is *here*; if that is not
//! a valid frame, also what the *next* segment begins with, and what lies *later*.
//!
//! A sector is *new* if it is whole, at its own place, and of the epoch of the frame before or a
//! later one; *old* if it is zero, or whole and from before: of an earlier use of the file or of an
//! earlier epoch; else *bad*. A disk writes a sector whole or not at all, so a torn write leaves
//! new and old sectors, and a bad one is always damage.
//!
//! *Here*, from the sectors of the frame at the position:
//!
//! - `whole`: all new, crc and chain right;
//! - `torn`: the first new and a right header, some other old, none bad;
//! - `blank`: the first old;
//! - `edge`: the segment ends here;
//! - `bad`: the first bad;
//! - `marred`: the first new and a right header, some other bad;
//! - `wrong`: all new, the crc wrong;
//! - `strange`: the first new, but not the header of a frame that follows the one before.
//!
//! *Next*, from the first sector after the header of the next segment:
//!
//! - `none`: no such segment;
//! - `blank`: old, or of no account, since any frame would still fit here;
//! - `follows`: new, and its frame follows the one before the position;
//! - `apart`: new, and it does not;
//! - `bad`: bad.
//!
//! *Later*, from all sectors at and after the position where frames in flight may lie:
//!
//! - `nothing`: none is new;
//! - `flight`: some are new, but no frame there knew that the one due here was durable;
//! - `covered`: a frame there knew it to be durable; or the log's beginning was given back, which
//!   needs its first frame durable.
//!
//! | row | here | next | later | decision |
//! |-----|------|------|-------|----------|
//! | A | whole | any | any | accept |
//! | B | blank edge bad | follows | any | segment |
//! | C | torn marred wrong strange | follows | any | frame |
//! | D | bad | none blank apart bad | any | sector |
//! | E | marred | none blank apart bad | any | sector |
//! | F | wrong | none blank apart bad | any | frame |
//! | G | strange | none blank apart bad | any | frame |
//! | H | torn | none blank apart bad | nothing flight | cut |
//! | I | torn | none blank apart bad | covered | lost |
//! | J | blank | none blank apart | nothing | end |
//! | K | blank | none blank apart | flight | cut |
//! | L | blank | none blank apart | covered | lost |
//! | M | edge | none blank apart | nothing | end |
//! | N | edge | none blank apart | flight | cut |
//! | O | edge | none blank apart | covered | lost |
//! | P | blank edge | bad | any | next |
//!
//! *Accept* takes the frame; *segment* goes on with the next segment; *end* and *cut* end the log
//! here, with nothing or with unacknowledged frames after it; *sector*, *frame*, *lost* and *next*
//! refuse the log, naming a damaged sector, a frame that does not belong, an acknowledged frame
//! that is not there, and a damaged sector of the next segment.

use std::fmt;

/// What lies at the position where the next frame is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Here {
    /// A valid frame.
    Whole,
    /// Part of a frame.
    Torn,
    /// No beginning of a frame.
    Blank,
    /// The end of the segment.
    Edge,
    /// A damaged sector.
    Bad,
    /// A frame with a damaged sector.
    Marred,
    /// A frame whose crc is wrong.
    Wrong,
    /// The beginning of a frame that is not due here.
    Strange,
}

/// What lies at the first position of the next segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// There is no next segment.
    None,
    /// No beginning of a frame.
    Blank,
    /// The beginning of the frame that is due.
    Follows,
    /// The beginning of another frame.
    Apart,
    /// A damaged sector.
    Bad,
}

/// What lies after the position where the next frame is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Later {
    /// Nothing new.
    Nothing,
    /// Frames that were in flight together with the one due.
    Flight,
    /// Proof that the frame due was durable.
    Covered,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Take the frame and go on after it.
    Accept,
    /// Go on in the next segment.
    Segment,
    /// The log ends here.
    End,
    /// The log ends here, and what follows was never acknowledged.
    Cut,
    /// Refuse: a sector here is damaged.
    Sector,
    /// Refuse: a sector at the start of the next segment is damaged.
    Next,
    /// Refuse: the frame here does not belong here.
    Frame,
    /// Refuse: an acknowledged frame is not there.
    Lost,
}

/// The letter of a row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row(pub char);

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The row that matches, and what it decides.
#[must_use]
pub fn decide(here: Here, next: Next, later: Later) -> (Row, Decision) {
    let (row, decision) = match (here, next, later) {
        (Here::Whole, _, _) => ('A', Decision::Accept),
        (Here::Blank | Here::Edge | Here::Bad, Next::Follows, _) => ('B', Decision::Segment),
        (Here::Torn | Here::Marred | Here::Wrong | Here::Strange, Next::Follows, _) => {
            ('C', Decision::Frame)
        }
        (Here::Bad, _, _) => ('D', Decision::Sector),
        (Here::Marred, _, _) => ('E', Decision::Sector),
        (Here::Wrong, _, _) => ('F', Decision::Frame),
        (Here::Strange, _, _) => ('G', Decision::Frame),
        (Here::Torn, _, Later::Nothing | Later::Flight) => ('H', Decision::Cut),
        (Here::Torn, _, Later::Covered) => ('I', Decision::Lost),
        (Here::Blank | Here::Edge, Next::Bad, _) => ('P', Decision::Next),
        (Here::Blank, _, Later::Nothing) => ('J', Decision::End),
        (Here::Blank, _, Later::Flight) => ('K', Decision::Cut),
        (Here::Blank, _, Later::Covered) => ('L', Decision::Lost),
        (Here::Edge, _, Later::Nothing) => ('M', Decision::End),
        (Here::Edge, _, Later::Flight) => ('N', Decision::Cut),
        (Here::Edge, _, Later::Covered) => ('O', Decision::Lost),
    };
    (Row(row), decision)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: [Here; 8] = [
        Here::Whole,
        Here::Torn,
        Here::Blank,
        Here::Edge,
        Here::Bad,
        Here::Marred,
        Here::Wrong,
        Here::Strange,
    ];
    const NEXT: [Next; 5] = [Next::None, Next::Blank, Next::Follows, Next::Apart, Next::Bad];
    const LATER: [Later; 3] = [Later::Nothing, Later::Flight, Later::Covered];

    #[test]
    fn the_table_is_the_code_and_exactly_one_row_matches_each_case() {
        let rows: Vec<Vec<&str>> = include_str!("decide.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | "))
            .map(|row| row.split('|').map(str::trim).collect::<Vec<_>>())
            .filter(|cells| cells[0].len() == 1)
            .collect();
        assert_eq!(rows.len(), 16);
        let matches = |cell: &str, value: &str| {
            cell == "any" || cell.split(' ').any(|word| word == value.to_lowercase())
        };
        for (here, next, later) in HERE
            .into_iter()
            .flat_map(|here| NEXT.into_iter().map(move |next| (here, next)))
            .flat_map(|(here, next)| LATER.into_iter().map(move |later| (here, next, later)))
        {
            let found: Vec<(String, String)> = rows
                .iter()
                .filter(|row| {
                    matches(row[1], &format!("{here:?}"))
                        && matches(row[2], &format!("{next:?}"))
                        && matches(row[3], &format!("{later:?}"))
                })
                .map(|row| (row[0].to_owned(), row[4].to_owned()))
                .collect();
            let (row, decision) = decide(here, next, later);
            let code = (row.to_string(), format!("{decision:?}").to_lowercase());
            assert_eq!(found, vec![code], "{here:?} {next:?} {later:?}");
        }
    }
}
