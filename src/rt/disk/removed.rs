//! The room of files that have no name any more: given back bit by bit, as a file system may tell
//! the disk of it at once (`discard`), and one was busy with that for 0.6 ms a megabyte.

use crate::rt::disk::off_the_core;
use std::cell::Cell;
use std::cell::RefCell;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::Duration;

/// Bytes that are given back at a time.
const PIECE_SIZE: u64 = 1 << 20;
/// Between two of them others have the disk: of 3,000 writes a second ten come upon one.
const PAUSE: Duration = Duration::from_millis(250);

/// The removed files of a directory: one whose room is being given back, and at most one that
/// waits. If a third comes, the one that waited goes at once: room is not held back for long.
#[derive(Debug, Default)]
pub(super) struct Removed {
    waiting: RefCell<Option<File>>,
    is_busy: Cell<bool>,
}

impl Removed {
    /// Gives back what a file takes that has no name any more. What is not given back when the
    /// process ends goes at once then, and so does all if it can not be cut.
    pub(super) fn give_back(self: &Rc<Self>, file: Option<File>) {
        let before = self.waiting.replace(file);
        if before.is_some() {
            glommio::spawn_local(close(before)).detach();
        }
        if !self.is_busy.replace(true) {
            glommio::spawn_local(self.clone().work()).detach();
        }
    }

    async fn work(self: Rc<Self>) {
        while let Some(file) = self.waiting.take() {
            close(shorten(file).await).await;
        }
        self.is_busy.set(false);
    }
}

/// Cuts a file piece by piece, down to the first; what is left of it.
async fn shorten(mut file: File) -> Option<File> {
    let found = file.metadata().ok();
    // With another name it is somebody else's as well.
    let size = found.filter(|found| found.nlink() == 0).map_or(0, |found| found.len());
    for left in (1..size.div_ceil(PIECE_SIZE)).rev() {
        let cut = move || file.set_len(left * PIECE_SIZE).map(|()| file);
        file = off_the_core(cut).await.ok()?;
        glommio::timer::sleep(PAUSE).await;
    }
    Some(file)
}

/// Closes a file, which takes along what is left of it.
pub(super) async fn close(file: Option<File>) {
    let end = move || {
        drop(file);
        Ok(())
    };
    let _ = off_the_core(end).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    /// Bytes that a file of so many takes while it is shortened, and what its other name has then.
    fn shortened(size: u64, has_other_name: bool) -> (u64, Option<u64>) {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (path, other) = (folder.path().join("file"), folder.path().join("other"));
        let file = File::create(&path).expect("made");
        file.set_len(size).expect("it has so many");
        if has_other_name {
            fs::hard_link(&path, &other).expect("named");
        }
        fs::remove_file(&path).expect("removed");
        let executor = glommio::LocalExecutorBuilder::default().make().expect("io_uring is here");
        let left = executor.run(async move { shorten(file).await.expect("it is open") });
        let left = left.metadata().expect("it is open").len();
        (left, fs::metadata(other).ok().map(|found| found.len()))
    }

    #[test]
    fn a_file_is_cut_to_its_first_piece_unless_it_has_another_name() {
        assert_eq!(shortened((3 << 20) + 4096, false), (1 << 20, None));
        assert_eq!(shortened(4096, false), (4096, None));
        assert_eq!(shortened(3 << 20, true), (3 << 20, Some(3 << 20)));
    }

    /// How many files of a folder's are open.
    fn count_open(folder: &Path) -> usize {
        let open = fs::read_dir("/proc/self/fd").expect("listed").flatten();
        open.filter_map(|it| fs::read_link(it.path()).ok())
            .filter(|it| it.starts_with(folder))
            .count()
    }

    #[test]
    fn of_many_files_one_is_cut_and_one_waits() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let executor = glommio::LocalExecutorBuilder::default().make().expect("io_uring is here");
        let made = |name: u64| {
            let path = folder.path().join(name.to_string());
            let file = File::create(&path).expect("made");
            file.set_len(2 << 20).expect("it has so many");
            fs::remove_file(path).expect("removed");
            Some(file)
        };
        executor.run(async {
            let removed = Rc::new(Removed::default());
            (0..50).for_each(|name| removed.give_back(made(name)));
            assert!(removed.is_busy.get() && count_open(folder.path()) >= 2);
            while removed.is_busy.get() {
                close(None).await;
            }
            assert_eq!(count_open(folder.path()), 0);
        });
    }
}
