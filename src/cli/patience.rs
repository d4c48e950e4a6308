//! Patience is what is asked of people while something takes its time: it is said what that is, and for how long it has.

use std::io::IsTerminal as _;
use std::pin::pin;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{Instant, sleep_until};

use crate::engine::Progress;

/// What takes less is not worth a word.
const SHORT: Duration = Duration::from_secs(1);

/// Between two lines where lines stay.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// What is going on, on standard error.
#[derive(Debug)]
pub(super) struct Patience {
    what: String,
    bar: ProgressBar,
    is_terminal: bool,
}

impl Patience {
    /// While that goes on.
    pub(super) fn while_it(what: impl Into<String>) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template("{msg} … {elapsed}") {
            bar.set_style(style);
        }
        let what = what.into();
        bar.set_message(what.clone());
        Self { what, bar, is_terminal: std::io::stderr().is_terminal() }
    }

    /// Shows lines that stay, beside what changes in place.
    pub(super) fn lines(&self, prefix: String) -> Progress {
        let bar = self.bar.clone();
        Progress::new(move |line| bar.suspend(|| anstream::eprintln!("{prefix}{line}")))
    }

    /// Waits for it, and says so where that takes long.
    pub(super) async fn wait<T>(self, work: impl Future<Output = T>) -> T {
        let (mut work, begun) = (pin!(work), Instant::now());
        let mut next = begun + SHORT;
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = sleep_until(next) => next += self.say(begun.elapsed()),
            }
        }
    }

    /// Says it; answers with how long that will do.
    fn say(&self, elapsed: Duration) -> Duration {
        if self.is_terminal {
            self.bar.set_draw_target(ProgressDrawTarget::stderr());
            self.bar.enable_steady_tick(Duration::from_millis(250));
            return Duration::from_secs(24 * 3600);
        }
        match elapsed.as_secs() {
            0..=1 => anstream::eprintln!("{} …", self.what),
            seconds => anstream::eprintln!("{} … {seconds} s", self.what),
        }
        BETWEEN_LINES
    }
}

impl Drop for Patience {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
