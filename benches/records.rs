//! What records in a Postgres cost: a database of 10,000 APIs, 100,000 keys and 10 million rows of usage, and the questions
//! that the gateway and the reconciler ask of it; then rows of usage written in a second, side by side with SQLite.
//!
//! `cargo bench --bench records [-- rows]`; a smaller number of rows for a quick look.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a benchmark has nobody to answer to")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

#[path = "../tests/servers/plans.rs"]
mod plans;
#[path = "../tests/servers/postgres.rs"]
mod server;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use skep::reconcile::status::{Health, Status, Sync};
use skep::records::postgres::{Place, Postgres};
use skep::records::sqlite::Sqlite;
use skep::records::{KeyScope, NewEvent, NewKey, Records};
use skep::tree::{ApiId, Digest, File, Requirement, Requirements, Revision, Spec};
use skep::usage::{Counted, Fold, Grain, KeyName, Slot, Tally, UsageBatch, UsageBy, UsageQuery, UsedBy};
use skep::world::{Record, Served};

const APIS: u32 = 10_000;
const KEYS: u32 = 100_000;

/// How often each question is asked.
const TIMES: usize = 200;

fn main() {
    let rows = std::env::args().find_map(|word| word.parse::<u64>().ok()).unwrap_or(10_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(rows));
}

async fn run(rows: u64) {
    let settings = ["max_wal_size=4GB", "shared_buffers=512MB"];
    let server = server::Postgres::start_with(&[&settings[..], &plans::TOLD].concat());
    let place = Place::parse(&server.database("big"), None, "skep", "0123456789ab", 5).unwrap();
    let records = Postgres::open(&place).await.unwrap();
    records.put(&record()).await.unwrap();
    fill(&server, rows);
    println!("\n{APIS} APIs, {KEYS} keys, {rows} rows of usage\n");
    println!("{:<46} {:>9} {:>9}", "question", "p50 ms", "p99 ms");
    whole(&records).await;
    let plans = plans::Plans::begin(&server);
    questions(&records).await;
    let (count, scans) = plans.end(&server);
    println!("\n{count} statements were planned for these, {} of them read a large table from end to end", scans.len());
    assert!(count > 0 && scans.is_empty(), "{scans:#?}");
    for_people(&records).await;
    println!("\nusage written, in batches of 500 rows that differ each time (rows a second; time of a batch)");
    let folder = tempfile::tempdir().unwrap();
    let sqlite = Sqlite::open(&folder.path().join("records.db")).unwrap();
    let file = written(&sqlite).await;
    let postgres = written(&records).await;
    println!("  Postgres takes {:.2} times as long as SQLite", postgres.as_secs_f64() / file.as_secs_f64());
}

/// A row as skep writes it, of an API with ten files.
fn record() -> Record {
    let now = Timestamp::now();
    let file = |n: u32| (format!("module_{n}.py"), File { digest: Digest::of(&n.to_le_bytes()), len: 4000 });
    let served = Served {
        revision: Revision::from_label("0123456789ab"),
        base: Digest::of(b"base"),
        spec: Spec::built_in("API"),
        requirements: Requirements(vec![Requirement("fastapi>=0.115".to_owned())]),
        files: (0..10).map(file).collect::<BTreeMap<_, _>>(),
        secrets: None,
        since: now,
        origin: None,
    };
    let status = Status { name: "API".to_owned(), sync: Sync::Synced, health: Health::Healthy, message: String::new() };
    Record {
        id: ApiId::new("api-0").unwrap(),
        status,
        served: Some(served),
        failures: Vec::new(),
        hold: None,
        created: now,
        updated: now,
        edits: Vec::new(),
    }
}

fn fill(server: &server::Postgres, rows: u64) {
    let begun = Instant::now();
    let served = "jsonb_build_object('revision', substr(md5(n::text), 1, 12), 'base', repeat('a', 64))";
    let sql = format!(
        "INSERT INTO skep.apis (id, name, sync, health, message, served, failures, created_at, updated_at, written)
            SELECT 'api-' || n, name, sync, health, message, served, failures, created_at, updated_at, written
            FROM skep.apis, generate_series(1, {APIS} - 1) AS n;
        INSERT INTO skep.revisions (api, revision, since, served)
            SELECT 'api-' || n % {APIS}, substr(md5(n::text), 1, 12), now() - n * interval '1 s', {served}
            FROM generate_series(1, {APIS} * 5) AS n;
        INSERT INTO skep.keys (id, hash, name, scope, created_at)
            SELECT 'k_' || n, encode(sha256(n::text::bytea), 'hex'), 'key ' || n,
                jsonb_build_object('apis', jsonb_build_array('api-' || n % {APIS})), now()
            FROM generate_series(1, {KEYS}) AS n;
        INSERT INTO skep.holds
            SELECT 'api-' || n, jsonb_build_object('by', 'ada', 'why', 'so', 'at', '2026-01-01T00:00:00Z')
            FROM generate_series({APIS} - 1000, {APIS} - 1) AS n;
        INSERT INTO skep.change_log
            SELECT 'earlier', n, now(), 'apis', ARRAY['api-' || n % {APIS}] FROM generate_series(1, 20000) AS n;
        INSERT INTO skep.events (at, api, kind, message)
            SELECT now(), 'api-' || n % {APIS}, 'built', 'image built' FROM generate_series(1, 500000) AS n;
        INSERT INTO skep.usage
            SELECT 3600, (extract(epoch FROM now())::bigint / 3600 - 7 - n / 20000) * 3600, 'api-' || n % {APIS},
                'k_' || n % 20000, 200, 10, 0, 1000, 5000, 900, '{{20,21}}', '{{9,1}}'
            FROM generate_series(1, {rows}) AS n;
        ANALYZE"
    );
    for statement in sql.split(';') {
        server.sql("big", statement);
    }
    println!("filled in {:.0} s", begun.elapsed().as_secs_f64());
}

/// What is read once, at a start, and after a restore.
async fn whole(records: &Postgres) {
    ask("all rows, at a start", 1, || records.each()).await;
    ask("all keys, at a start", 1, || records.keys()).await;
}

async fn questions(records: &Postgres) {
    let (id, now) = (ApiId::new("api-77").unwrap(), Timestamp::now());
    ask("a row", TIMES, || records.get(&id)).await;
    ask("a row, written as it is", TIMES, || async { records.put(&records.get(&id).await?.unwrap()).await }).await;
    let event = NewEvent { at: now, api: Some(id.clone()), revision: None, kind: "k".into(), message: "m".into() };
    ask("an event", TIMES, || records.add_event(&event)).await;
    ask("the last 50 events of an API", TIMES, || records.last_events(Some(&id), 50)).await;
    ask("the last 500 events of all", TIMES, || records.last_events(None, 500)).await;
    ask("whether others have written", TIMES, || records.version()).await;
    ask("the lease", TIMES, || records.lease()).await;
    let epoch = records.claim(&records.lease().await.unwrap(), "bench").await.unwrap().unwrap();
    ask("a sign of life", TIMES, || records.renew(epoch)).await;
    records.fence(Some(epoch));
    ask("whether this daemon still leads", TIMES, || records.check_fence()).await;
    ask("what is leaving", TIMES, || records.leaving()).await;
    ask("a key, made", TIMES, || async { records.add_key(&NewKey::generate("k", KeyScope::All, now).key).await }).await;
    let used: Vec<_> = records.keys().await.unwrap().into_iter().take(100).map(|key| (key.hash, now)).collect();
    ask("100 keys, used", TIMES, || records.touch_keys(&used)).await;
    let past = |seconds: i64| Timestamp::from_second(now.as_second() - seconds).unwrap();
    let fold =
        Fold { minutes_before: past(6 * 3600), hours_before: past(35 * 86_400 * 100), all_before: past(400 * 86_400) };
    ask("whether old usage is to be put together", TIMES, || records.fold_usage(&fold)).await;
    ask("all rows, where nothing has changed", TIMES, || records.each()).await;
    ask("all keys, where nothing has changed", TIMES, || records.keys()).await;
    let mut took = [Vec::new(), Vec::new()];
    for n in 0..TIMES {
        let row = records.get(&id).await.unwrap().unwrap();
        let status = Status { message: n.to_string(), ..row.status.clone() };
        records.put(&Record { status, ..row }).await.unwrap();
        records.add_key(&NewKey::generate("k", KeyScope::All, now).key).await.unwrap();
        let begun = Instant::now();
        assert_eq!(records.each().await.unwrap().len(), APIS as usize);
        took[0].push(begun.elapsed());
        let begun = Instant::now();
        assert!(records.keys().await.unwrap().len() > KEYS as usize);
        took[1].push(begun.elapsed());
    }
    let [rows, keys] = took;
    tell("all rows, after a change of one", rows);
    tell("all keys, after a change of one", keys);
}

async fn for_people(records: &Postgres) {
    println!("\nfor a person who asks:");
    let (id, now) = (ApiId::new("api-77").unwrap(), Timestamp::now());
    let past = |seconds: i64| Timestamp::from_second(now.as_second() - seconds).unwrap();
    for (name, api, since) in [
        ("usage of an API, 30 days", Some(&id), 30),
        ("usage of all, a day", None, 1),
        ("usage of all, 30 days", None, 30),
    ] {
        let query = UsageQuery { api: api.cloned(), key: None, since: past(since * 86_400), by: UsageBy::Api };
        ask(name, 3, || records.usage(&query)).await;
    }
}

async fn ask<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    times: usize,
    mut question: impl FnMut() -> F,
) {
    let mut took = Vec::with_capacity(times);
    for _ in 0..times {
        let begun = Instant::now();
        if let Err(error) = question().await {
            println!("{what:<46} {error}");
            return;
        }
        took.push(begun.elapsed());
    }
    tell(what, took);
}

fn tell(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)].as_secs_f64() * 1e3;
    println!("{what:<46} {:>9.2} {:>9.2}", at(50), at(99));
}

async fn written(records: &dyn Records) -> Duration {
    const BATCHES: u64 = 100;
    const ROWS: u64 = 500;
    let minute = Slot::of(Grain::Minute, Timestamp::now().as_second());
    let begun = Instant::now();
    for number in 1..=BATCHES {
        let entries: Vec<_> = (0..ROWS)
            .map(|row| {
                let mut tally = Tally::default();
                tally.count(10, 100, Duration::from_micros(300 + row));
                let key = KeyName { id: format!("k_{row}"), name: "web".to_owned() };
                let api = ApiId::new(&format!("api-{number}")).ok();
                (Counted { slot: minute, api, by: UsedBy::Key(Arc::new(key)), status: 200 }, tally)
            })
            .collect();
        let batch = UsageBatch { daemon: "bench".into(), number, entries: entries.into() };
        records.add_usage(&batch).await.unwrap();
    }
    let took = begun.elapsed();
    let rate = (BATCHES * ROWS) as f64 / took.as_secs_f64();
    println!("  {rate:>9.0} rows a second, {:.1} ms a batch", took.as_secs_f64() * 1e3 / BATCHES as f64);
    took
}
