//! The table: what was done to skep, how often, and what came of it.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

/// One fault.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Row {
    /// What was done.
    pub fault: String,
    /// How often.
    pub tries: usize,
    /// How often the world came to be as it should within the time, with nothing left over.
    pub converged: usize,
    /// From the end of the fault, or the restart, until then; one of each try that converged.
    pub seconds: Vec<f64>,
    /// Requests of callers meanwhile.
    pub requests: usize,
    /// … and how many of them failed.
    pub failed: usize,
    /// Those that nobody could have served, as with their containers gone. They are not among the failed.
    pub excused: usize,
    /// What a reader should know of these figures.
    pub note: String,
    /// What went wrong, one line each.
    pub wrong: Vec<String>,
}

impl Row {
    pub fn new(fault: impl Into<String>) -> Self {
        Self { fault: fault.into(), ..Self::default() }
    }

    /// As [`Row::new`], with a note.
    pub fn noted(fault: impl Into<String>, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..Self::new(fault) }
    }

    /// One try that converged after that time.
    pub fn good(&mut self, time: Duration) {
        self.tries += 1;
        self.converged += 1;
        self.seconds.push(time.as_secs_f64());
    }

    /// One try that did not.
    pub fn bad(&mut self, what: impl Into<String>) {
        self.tries += 1;
        self.wrong.push(what.into());
    }

    pub fn is_good(&self) -> bool {
        self.converged == self.tries && self.failed == 0 && self.wrong.is_empty()
    }

    /// The note, and what else is not in the columns.
    fn remark(&self) -> Option<String> {
        let excused = match self.excused {
            0 => String::new(),
            count => format!("{count} requests failed that nobody could have served"),
        };
        let parts: Vec<_> = [self.note.as_str(), &excused].into_iter().filter(|part| !part.is_empty()).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }

    fn median(&self) -> String {
        let sorted = self.sorted();
        sorted.get(sorted.len() / 2).map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}"))
    }

    fn max(&self) -> String {
        self.sorted().last().map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}"))
    }

    fn cells(&self) -> [String; 7] {
        let requests = if self.requests == 0 { "-".to_owned() } else { self.requests.to_string() };
        let failed = if self.requests == 0 { "-".to_owned() } else { self.failed.to_string() };
        let (tries, converged) = (self.tries.to_string(), self.converged.to_string());
        [self.fault.clone(), tries, converged, self.median(), self.max(), requests, failed]
    }
}

const HEADS: [&str; 7] = ["fault", "tries", "converged", "median s", "max s", "requests", "failed"];

/// The table for people.
pub fn text(rows: &[Row]) -> String {
    let cells: Vec<_> = rows.iter().map(Row::cells).collect();
    let width = |column: usize| {
        cells.iter().map(|row| row[column].chars().count()).chain([HEADS[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEADS.len()).map(width).collect();
    let line = |row: &[String]| {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            let _ = write!(line, "  {cell:>width$}");
        }
        line
    };
    let mut text = line(&HEADS.map(str::to_owned)) + "\n";
    for (row, cells) in rows.iter().zip(&cells) {
        let mark = if row.is_good() { "" } else { "  <--" };
        text += &format!("{}{mark}\n", line(cells));
    }
    for (row, remark) in rows.iter().filter_map(|row| row.remark().map(|remark| (row, remark))) {
        text += &format!("\n{}: {remark}", row.fault);
    }
    for row in rows {
        for wrong in row.wrong.iter().take(5) {
            text += &format!("\nwrong: {}: {wrong}", row.fault);
        }
    }
    text + "\n"
}

/// The same as Markdown.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = format!("| {} |\n| --- |{}\n", HEADS.join(" | "), " ---: |".repeat(HEADS.len() - 1));
    for row in rows {
        text += &format!("| {} |\n", row.cells().join(" | "));
    }
    text += "\n";
    for (row, remark) in rows.iter().filter_map(|row| row.remark().map(|remark| (row, remark))) {
        text += &format!("- {}: {remark}\n", row.fault);
    }
    text
}
