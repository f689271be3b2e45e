//! What is known of a list before its rows: how many keys there are, how many rows, how many bytes.

use crate::mvcc::Keyspace;
use crate::mvcc::Slice;
use crate::shard::list::Cursor;
use crate::shard::list::List;
use crate::shard::list::RowShape;
use crate::shard::list::STEP_ROWS;
use crate::shard::list::Tally;
use crate::shard::records::KNOWN;
use crate::store::Store;

impl List {
    /// Counts a stretch of keys; whether that was the last.
    pub(super) fn count_stretch(&mut self, keyspace: &Keyspace) -> bool {
        let Tally::From(resume) = &self.tally else { return true };
        let query = self.range.query();
        let slice = Slice {
            resume: resume.as_deref(),
            budget: STEP_ROWS,
            ..Slice::new(query.range, self.at)
        };
        let (count, rest) = keyspace.count_slice(&slice);
        let tally = rest.map_or(Tally::Done, |rest| Tally::From(Some(rest.to_vec())));
        self.count += count;
        if tally == Tally::Done && !query.count_only && !query.drops() {
            self.more = query.limit().is_some_and(|limit| self.count > limit);
        }
        self.tally = tally;
        self.is_counted()
    }

    /// Measures a stretch; whether that was the last.
    pub(super) fn measure(&mut self, keyspace: &Keyspace, store: &Store) -> bool {
        let query = self.range.query();
        if self.is_over || query.count_only {
            self.rewind();
            return true;
        }
        if self.left == 0 && query.drops() {
            return self.probe(keyspace);
        }
        let size_of = self.size_of.expect("what is measured has a measure");
        let with_values = query.shows_values();
        let mut size = 0;
        let stretch = self.peek(keyspace, STEP_ROWS);
        for row in &stretch.rows {
            let value_len = if with_values {
                store.value_size(row.location, row.key.len()).expect(KNOWN)
            } else {
                0
            };
            let shape = RowShape {
                key_len: row.key.len(),
                create_revision: row.create_revision,
                mod_revision: row.location.main,
                version: row.version,
                lease: self.lease(store, row.location),
                value_len,
            };
            size += u64::try_from(size_of(&shape)).expect("64 bits");
        }
        let (count, resume) = (stretch.rows.len(), stretch.resume(stretch.rows.len()));
        self.rows += u64::try_from(count).expect("64 bits");
        self.size += size;
        self.go_on(count, resume);
        let is_last = self.is_over || self.left == 0 && !self.range.query().drops();
        if is_last {
            if self.tally == Tally::ByRows {
                self.count = self.rows;
            }
            self.rewind();
        }
        is_last
    }

    /// Looks for a row beyond the limit; whether the answer is known.
    fn probe(&mut self, keyspace: &Keyspace) -> bool {
        self.left = 1;
        let beyond = self.peek(keyspace, 1);
        let (is_there, resume) = (!beyond.rows.is_empty(), beyond.resume(0));
        self.left = 0;
        if !is_there && resume.is_some() {
            self.go_on(0, resume);
            return false;
        }
        self.more = is_there;
        self.rewind();
        true
    }

    /// Back to the first row, after measuring.
    fn rewind(&mut self) {
        self.left = self.rows;
        self.is_over = self.rows == 0;
        match &mut self.cursor {
            Cursor::Keys(resume) => *resume = None,
            Cursor::Sorted(_, next) => *next = 0,
        }
    }
}
