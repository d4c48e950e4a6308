//! Usage as a table for people, and as JSON for machines.

use std::fmt::Write;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::style::{BAD, BOLD, FAINT, NAME, WARN, paint, plain};
use crate::tree::ApiId;
use crate::usage::{Group, Tally, UsageBy, UsageQuery, UsageRow};

/// What `skep usage --output json` and `GET /admin/usage` answer with. `version` goes up when a reader must change.
#[derive(Debug, Serialize)]
pub struct UsageJson {
    /// Of this form.
    pub version: u32,
    /// From when on.
    pub since: Timestamp,
    /// Of this API alone.
    pub api: Option<ApiId>,
    /// Of this key alone.
    pub key: Option<String>,
    /// What is told apart.
    pub by: &'static str,
    /// Each of them.
    pub usage: Vec<PartJson>,
    /// All of them together.
    pub total: SumJson,
}

/// One of those that are told apart.
#[derive(Debug, Serialize)]
pub struct PartJson {
    /// Of what.
    #[serde(flatten)]
    of: OfJson,
    /// How much.
    #[serde(flatten)]
    sum: SumJson,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum OfJson {
    Api { api: Option<ApiId> },
    Key { key: String, name: Option<String> },
    Status { status: u16 },
    From { from: Timestamp },
}

/// How much was asked. Latencies are in milliseconds.
#[derive(Debug, Default, Serialize)]
pub struct SumJson {
    requests: u64,
    client_errors: u64,
    server_errors: u64,
    bytes_in: u64,
    bytes_out: u64,
    latency: LatencyJson,
}

#[derive(Debug, Default, Serialize)]
struct LatencyJson {
    mean: f64,
    p50: f64,
    p99: f64,
    max: f64,
}

impl UsageJson {
    /// The answer to a query.
    #[must_use]
    pub fn new(query: &UsageQuery, rows: &[UsageRow]) -> Self {
        Self {
            version: 1,
            since: query.since,
            api: query.api.clone(),
            key: query.key.clone(),
            by: query.by.word(),
            usage: rows.iter().map(|row| PartJson { of: OfJson::new(&row.group), sum: SumJson::new(row) }).collect(),
            total: total(rows).map_or_else(SumJson::default, |row| SumJson::new(&row)),
        }
    }
}

impl OfJson {
    fn new(group: &Group) -> Self {
        match group.clone() {
            Group::Api(api) => Self::Api { api },
            Group::Key { id, name } => Self::Key { key: id, name },
            Group::Status(status) => Self::Status { status },
            Group::From(from) => Self::From { from },
        }
    }
}

impl SumJson {
    fn new(row: &UsageRow) -> Self {
        let millis = |span: Duration| (span.as_secs_f64() * 1e6).round() / 1e3;
        let UsageRow { client_errors, server_errors, tally, .. } = row;
        Self {
            requests: tally.requests,
            client_errors: *client_errors,
            server_errors: *server_errors,
            bytes_in: tally.bytes_in,
            bytes_out: tally.bytes_out,
            latency: LatencyJson {
                mean: millis(tally.mean()),
                p50: millis(tally.within(500)),
                p99: millis(tally.within(990)),
                max: millis(Duration::from_micros(tally.slowest)),
            },
        }
    }
}

/// All rows in one; `None` where there is none.
fn total(rows: &[UsageRow]) -> Option<UsageRow> {
    let mut sum = UsageRow { tally: Tally::default(), client_errors: 0, server_errors: 0, ..rows.first()?.clone() };
    for row in rows {
        sum.tally.add(&row.tally);
        sum.client_errors += row.client_errors;
        sum.server_errors += row.server_errors;
    }
    Some(sum)
}

/// The answer to a query, as a table.
#[must_use]
pub fn table(query: &UsageQuery, rows: &[UsageRow]) -> String {
    let Some(total) = total(rows) else {
        return format!("Nothing was asked since {:.0}.\n", query.since);
    };
    let heading = match query.by {
        UsageBy::Api => "API",
        UsageBy::Key => "KEY",
        UsageBy::Status => "STATUS",
        UsageBy::Hour => "HOUR",
        UsageBy::Day => "DAY",
    };
    let names: Vec<String> = rows.iter().map(|row| name(&row.group, query.by)).collect();
    let width = names.iter().map(|name| name.chars().count()).chain([heading.len(), 5]).max().unwrap_or_default();
    let mut out = String::new();
    let columns = format!(
        "{heading:<width$}  {:>10}  {:>8}  {:>8}  {:>10}  {:>10}  {:>8}  {:>8}",
        "REQUESTS", "4XX", "5XX", "IN", "OUT", "MEAN", "P99"
    );
    let _ = writeln!(out, "{}", paint(columns, BOLD));
    for (row, name) in rows.iter().zip(names) {
        let _ = writeln!(out, "{}  {}", paint(format!("{name:<width$}"), NAME), sums(row));
    }
    if rows.len() > 1 {
        let _ = writeln!(out, "{}  {}", paint(format!("{:<width$}", "total"), BOLD), sums(&total));
    }
    out
}

fn sums(row: &UsageRow) -> String {
    let UsageRow { client_errors, server_errors, tally, .. } = row;
    let errors = |count: u64, style| paint(format!("{count:>8}"), if count > 0 { style } else { FAINT });
    format!(
        "{:>10}  {}  {}  {:>10}  {:>10}  {:>8}  {:>8}",
        tally.requests,
        errors(*client_errors, WARN),
        errors(*server_errors, BAD),
        bytes(tally.bytes_in),
        bytes(tally.bytes_out),
        span(tally.mean()),
        span(tally.within(990)),
    )
}

fn name(group: &Group, by: UsageBy) -> String {
    match group {
        Group::Api(api) => api.as_ref().map_or_else(|| "(others)".to_owned(), ToString::to_string),
        Group::Key { id, name: Some(name) } => format!("{} ({})", plain(name), plain(id)),
        Group::Key { id, name: None } => format!("({})", plain(id)),
        Group::Status(status) => status.to_string(),
        Group::From(from) if by == UsageBy::Day => from.strftime("%Y-%m-%d").to_string(),
        Group::From(from) => from.strftime("%Y-%m-%d %H:%MZ").to_string(),
    }
}

/// Bytes in the largest unit that they are one of.
fn bytes(count: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let mut amount = count as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if amount < 999.5 {
            let digits = usize::from(unit != "B" && amount < 99.95);
            return format!("{amount:.digits$} {unit}");
        }
        amount /= 1024.0;
    }
    format!("{amount:.1} TiB")
}

/// A span in milliseconds or seconds, with three digits.
fn span(span: Duration) -> String {
    let millis = span.as_secs_f64() * 1e3;
    match millis {
        ..9.995 => format!("{millis:.2} ms"),
        ..99.95 => format!("{millis:.1} ms"),
        ..999.5 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(by: UsageBy) -> UsageQuery {
        UsageQuery { api: None, key: None, since: Timestamp::from_second(0).unwrap(), by }
    }

    fn row(group: Group, requests: u64, millis: u64) -> UsageRow {
        let mut tally = Tally::default();
        (0..requests).for_each(|_| tally.count(0, 1536, Duration::from_millis(millis)));
        UsageRow { group, client_errors: 1, server_errors: 0, tally }
    }

    #[test]
    fn a_table_names_keys_and_ends_with_the_total() {
        let key = |id: &str, name: Option<&str>| Group::Key { id: id.to_owned(), name: name.map(str::to_owned) };
        let rows = [row(key("k_1", Some("web\u{1b}[2J")), 3, 2), row(key("none", None), 1, 2000)];
        let table = anstream::adapter::strip_str(&table(&query(UsageBy::Key), &rows)).to_string();
        let expected = "\
KEY                   REQUESTS       4XX       5XX          IN         OUT      MEAN       P99
web\\u{1b}[2J (k_1)           3         1         0         0 B     4.5 KiB   2.00 ms   1.92 ms
(none)                       1         1         0         0 B     1.5 KiB     2.0 s     2.0 s
total                        4         2         0         0 B     6.0 KiB    501 ms     2.0 s
";
        assert_eq!(table, expected, "\n{table}");
    }

    #[test]
    fn json_has_what_is_told_apart_and_the_total() {
        let rows = [row(Group::Status(200), 2, 2), row(Group::Status(404), 1, 8)];
        let json = serde_json::to_value(UsageJson::new(&query(UsageBy::Status), &rows)).unwrap();
        assert_eq!((json["by"].as_str(), json["since"].as_str()), (Some("status"), Some("1970-01-01T00:00:00Z")));
        assert_eq!(json["usage"][1]["status"], 404);
        assert_eq!(json["usage"][0]["latency"]["mean"], 2.0);
        assert_eq!((&json["total"]["requests"], &json["total"]["bytes_out"]), (&3.into(), &4608.into()));
        let none = serde_json::to_value(UsageJson::new(&query(UsageBy::Api), &[])).unwrap();
        assert_eq!((&none["usage"], &none["total"]["requests"]), (&serde_json::json!([]), &0.into()));
    }

    #[test]
    fn amounts_are_written_with_few_digits() {
        for (count, text) in
            [(0, "0 B"), (999, "999 B"), (1000, "1.0 KiB"), (1_048_575, "1.0 MiB"), (1 << 50, "1024.0 TiB")]
        {
            assert_eq!(bytes(count), text);
        }
        for (micros, text) in [(0, "0.00 ms"), (9_994, "9.99 ms"), (99_000, "99.0 ms"), (999_900, "1.0 s")] {
            assert_eq!(span(Duration::from_micros(micros)), text);
        }
    }
}
