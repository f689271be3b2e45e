//! What is shown while something takes its time: on standard error, and only to a person.

use indicatif::ProgressBar;
use indicatif::ProgressDrawTarget;
use indicatif::ProgressStyle;
use std::time::Duration;

/// Time between two pictures.
const TICK: Duration = Duration::from_millis(100);

/// A picture that moves until it is dropped.
#[derive(Debug)]
pub(super) struct Spinner(ProgressBar);

impl Spinner {
    /// For work of which nobody knows how much there is.
    pub(super) fn start(what: String) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_message(what);
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// For so many bytes, as soon as they are known.
    pub(super) fn of_bytes(what: String) -> Self {
        let style = ProgressStyle::with_template("{msg} {bytes} of {total_bytes}, {eta} to go")
            .expect("the template has fields that there are");
        let spinner = Self::start(what);
        spinner.0.set_style(style);
        spinner
    }

    /// That so many bytes are there, of so many.
    pub(super) fn show(&self, bytes: u64, total: u64) {
        self.0.set_length(total);
        self.0.set_position(bytes);
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
