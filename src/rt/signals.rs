//! The signals that end the process, as something to wait for.

use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// SIGTERM and SIGINT, caught.
#[derive(Debug)]
pub(crate) struct Signals {
    last: Arc<AtomicUsize>,
    wake: UnixStream,
}

impl Signals {
    /// Catches them from now on.
    pub(crate) fn new() -> io::Result<Self> {
        let last = Arc::new(AtomicUsize::new(0));
        let (wake, write) = UnixStream::pair()?;
        for signal in [SIGINT, SIGTERM] {
            let number = usize::try_from(signal).expect("signals are positive");
            signal_hook::flag::register_usize(signal, last.clone(), number)?;
            signal_hook::low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Self { last, wake })
    }

    /// The last one that came.
    pub(crate) fn received(&self) -> Option<i32> {
        match self.last.load(Relaxed) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }

    /// Readable once one has come.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}
