//! Progress: what is going on with each API while it is being applied, on a terminal and in a log.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::status::{health_style, sync_style};
use super::style::{BAD, FAINT, NAME, paint, plain};
use crate::reconcile::status::{Health, Status};
use crate::reconcile::turn::{Going, News};
use crate::tree::ApiId;

/// Shows news: a line for each API that changes in place on a terminal, a line for each piece of news elsewhere.
#[derive(Debug)]
pub struct Progress {
    lines: MultiProgress,
    bars: BTreeMap<ApiId, ProgressBar>,
    said: BTreeMap<ApiId, String>,
    /// Those whose output has been printed as it came.
    heard: BTreeSet<ApiId>,
    width: usize,
    is_terminal: bool,
}

/// What takes no time, and so is not worth a line of a log.
const MOMENTARY: [&str; 2] = ["writing the records", "changing its route"];

impl Progress {
    /// For these APIs. `is_terminal` says whether standard error is one.
    #[must_use]
    pub fn new<'a>(ids: impl Iterator<Item = &'a ApiId>, is_terminal: bool) -> Self {
        let lines = MultiProgress::new();
        let width = ids.map(|id| id.as_str().len()).max().unwrap_or(0);
        Self { lines, bars: BTreeMap::new(), said: BTreeMap::new(), heard: BTreeSet::new(), width, is_terminal }
    }

    /// Shows one piece of news.
    pub fn show(&mut self, news: &News) {
        match &news.what {
            Going::Step { doing, .. } => self.say(&news.api, doing),
            Going::Output { line } => {
                if self.is_terminal {
                    self.bar(&news.api).set_message(format!(
                        "{}  {}",
                        self.doing(&news.api),
                        paint(plain(line), FAINT)
                    ));
                } else {
                    self.heard.insert(news.api.clone());
                    self.print(&format!("{}  {}", self.name(&news.api), paint(format!("│ {}", plain(line)), FAINT)));
                }
            }
            Going::Failed { message, output } => {
                self.print(&format!("{}  {}", self.name(&news.api), paint(plain(message), BAD)));
                // What was printed as it came need not be said twice.
                let is_new = self.doing(&news.api) != "installing its requirements" || !self.heard.contains(&news.api);
                for line in output.iter().filter(|_| is_new) {
                    self.print(&format!("{}  {}", self.name(&news.api), paint(format!("│ {}", plain(line)), FAINT)));
                }
            }
            Going::Trouble { message } => {
                let text = format!("{}; trying again", plain(message));
                self.print(&format!("{}  {}", self.name(&news.api), paint(text, BAD)));
            }
            Going::Rest { status } => self.rest(&news.api, status),
        }
    }

    fn say(&mut self, api: &ApiId, doing: &str) {
        if self.said.insert(api.clone(), doing.to_owned()).as_deref() == Some(doing) {
            return;
        }
        if self.is_terminal {
            self.bar(api).set_message(doing.to_owned());
        } else if !MOMENTARY.contains(&doing) {
            self.print(&format!("{}  {doing}", self.name(api)));
        }
    }

    fn doing(&self, api: &ApiId) -> &str {
        self.said.get(api).map_or("", String::as_str)
    }

    fn rest(&mut self, api: &ApiId, status: &Status) {
        let text = rest_text(status);
        if self.said.insert(api.clone(), text.clone()).as_deref() == Some(&text) {
            return;
        }
        if let Some(bar) = self.bars.remove(api) {
            bar.finish_and_clear();
        }
        self.print(&format!("{}  {text}", self.name(api)));
    }

    fn name(&self, api: &ApiId) -> String {
        paint(format!("{api:<width$}", width = self.width), NAME)
    }

    fn bar(&mut self, api: &ApiId) -> ProgressBar {
        if let Some(bar) = self.bars.get(api) {
            return bar.clone();
        }
        let style = ProgressStyle::with_template("{prefix}  {spinner} {wide_msg} {elapsed:>4}");
        let bar = self.lines.add(ProgressBar::new_spinner());
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(self.name(api));
        bar.enable_steady_tick(Duration::from_millis(120));
        self.bars.insert(api.clone(), bar.clone());
        bar
    }

    fn print(&self, line: &str) {
        if self.is_terminal {
            // Where the terminal is gone there is nobody to tell.
            let _ = self.lines.println(line);
        } else {
            anstream::eprintln!("{line}");
        }
    }

    /// Takes away the lines that still change.
    pub fn finish(self) {
        for bar in self.bars.into_values() {
            bar.finish_and_clear();
        }
    }
}

/// How an API has come to rest, in one line.
#[must_use]
pub fn rest_text(status: &Status) -> String {
    let word = match status.health {
        Health::Healthy => "serving",
        other => other.as_str(),
    };
    let sync = paint(status.sync.as_str(), sync_style(status.sync));
    let health = paint(word, health_style(status.health));
    match status.message.as_str() {
        "" => format!("{health}, {sync}"),
        message => format!("{health}, {sync}: {}", plain(message)),
    }
}
