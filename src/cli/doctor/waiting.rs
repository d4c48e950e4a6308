//! Waiting shows, on standard error, what is still being looked at once that takes longer than a second.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::doctor::{Blank, Found};

/// What takes less is not worth a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is still being looked at.
#[derive(Debug, Clone)]
pub(super) struct Waiting {
    looks: Arc<Mutex<Vec<&'static str>>>,
    bar: ProgressBar,
    is_terminal: bool,
}

impl Waiting {
    /// `is_terminal` says whether standard error is one.
    pub(super) fn new(is_terminal: bool) -> Self {
        let bar = if is_terminal { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg}") {
            bar.set_style(style);
        }
        Self { looks: Arc::default(), bar, is_terminal }
    }

    /// Takes a look that must end in time.
    pub(super) async fn of<T, E: std::fmt::Display>(
        &self,
        what: &'static str,
        limit: Duration,
        look: impl Future<Output = Result<T, E>>,
    ) -> Found<T> {
        let patient = async {
            tokio::pin!(look);
            tokio::select! {
                biased;
                found = &mut look => return found,
                () = tokio::time::sleep(PATIENCE) => {}
            }
            let _told = self.tell(what);
            look.await
        };
        match tokio::time::timeout(limit, patient).await {
            Ok(found) => found.map_err(|error| Blank::Failed(error.to_string())),
            Err(_) => Err(Blank::Late(limit)),
        }
    }

    /// Says so until what it gives is dropped.
    fn tell(&self, what: &'static str) -> Told<'_> {
        self.change(|looks| looks.push(what));
        if !self.is_terminal {
            anstream::eprintln!("still looking at {what}");
        }
        Told { waiting: self, what }
    }

    fn change(&self, change: impl FnOnce(&mut Vec<&'static str>)) {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut looks);
        if looks.is_empty() {
            self.bar.finish_and_clear();
        } else if self.is_terminal {
            self.bar.reset();
            self.bar.enable_steady_tick(Duration::from_millis(100));
            self.bar.set_message(format!("looking at {}", looks.join(", ")));
        }
    }
}

/// One look that is being waited for.
struct Told<'a> {
    waiting: &'a Waiting,
    what: &'static str,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.waiting.change(|looks| looks.retain(|look| *look != self.what));
    }
}
