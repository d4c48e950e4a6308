//! How a server goes about what it is asked: by its own words, of the very statements that it gets.

use super::server::Postgres;

/// What has a server tell how it goes about each statement, those of triggers included.
pub const TOLD: [&str; 4] = [
    "session_preload_libraries='auto_explain'",
    "auto_explain.log_min_duration=0",
    "auto_explain.log_nested_statements=on",
    "auto_explain.log_level=log",
];

/// The tables that grow with APIs, callers and time. All others have a handful of rows, or are read whole because all of them is
/// wanted.
const LARGE: [&str; 11] = [
    "apis",
    "revisions",
    "blobs",
    "events",
    "keys",
    "key_uses",
    "usage",
    "usage_keys",
    "usage_totals",
    "change_log",
    "holds",
];

/// Listens to what a server says from now on.
pub struct Plans {
    from: usize,
}

impl Plans {
    pub fn begin(server: &Postgres) -> Self {
        Self { from: server.log().len() }
    }

    /// How many statements were planned since, and those that read a large table from end to end, with its name.
    pub fn end(self, server: &Postgres) -> (usize, Vec<String>) {
        let log = server.log();
        let plans: Vec<&str> = log[self.from..].split("plan:\n").skip(1).collect();
        let mut scans = Vec::new();
        for plan in &plans {
            // What comes after it begins at the margin.
            let lines: Vec<&str> = plan.lines().take_while(|line| line.starts_with('\t')).map(str::trim).collect();
            let text = lines.join(" ");
            let statement = text.split(" (cost=").next().unwrap_or_default();
            // Of an order that stops early, an index need not be asked for anything in particular.
            let stops = lines.iter().any(|line| line.contains("Limit  ("));
            for (place, line) in lines.iter().enumerate() {
                let whole = line.split_once("Seq Scan on ").or_else(|| {
                    let is_asked = lines.get(place + 1).is_some_and(|next| next.starts_with("Index Cond:"));
                    let (_, scan) =
                        line.split_once("Index Scan using ").or(line.split_once("Index Only Scan using "))?;
                    scan.split_once(" on ").filter(|_| !is_asked && !stops)
                });
                let table = whole.and_then(|(_, rest)| rest.split(' ').next()).unwrap_or_default();
                if LARGE.contains(&table) {
                    scans.push(format!("{table}: {statement}"));
                }
            }
        }
        scans.sort();
        scans.dedup();
        (plans.len(), scans)
    }
}
