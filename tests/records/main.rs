//! The records: the suite for every backend, run on SQLite and on Postgres; then what each alone must.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]

mod faults;
mod mirror;
mod news;
#[path = "../servers/plans.rs"]
mod plans;
#[path = "../servers/pool.rs"]
mod pool;
mod postgres;
#[path = "../servers/proxy.rs"]
mod proxy;
mod questions;
mod rows;
#[path = "../servers/postgres.rs"]
mod server;
mod suite;
mod usage;
mod ways;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;
use skep::records::postgres::{Place, Postgres};
use skep::records::remembering::Remembering;
use skep::records::sqlite::Sqlite;
use skep::records::{KeyHash, KeyScope, NewKey, Records, RecordsError};
use skep::tree::Digest;
use skep::world::Record;

use self::suite::{at, event, id, leading, pruning, record, saying, suite};

#[tokio::test]
async fn sqlite_in_memory_does_what_records_must() {
    suite(&Sqlite::in_memory().unwrap()).await;
}

#[tokio::test]
async fn sqlite_keeps_holds_and_fences_off_who_was_overtaken() {
    leading(&Sqlite::in_memory().unwrap()).await;
}

#[tokio::test]
async fn sqlite_throws_away_what_is_old_and_nothing_else() {
    pruning(&Sqlite::in_memory().unwrap()).await;
}

#[tokio::test]
async fn sqlite_adds_usage_up_once_and_tells_it_apart_until_it_is_old() {
    usage::usage(&Sqlite::in_memory().unwrap()).await;
}

#[tokio::test]
async fn sqlite_in_a_file_does_what_records_must_and_still_holds_it_when_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    suite(&Sqlite::open(&path).unwrap()).await;
    let records = Sqlite::open(&path).unwrap();
    assert_eq!(
        records.all().await.unwrap(),
        BTreeMap::from([(id("b"), records.get(&id("b")).await.unwrap().unwrap())])
    );
    assert_eq!(records.events(None, 0, 10).await.unwrap().len(), 4);
}

#[tokio::test]
async fn what_is_remembered_stands_in_until_the_records_have_answered_and_never_for_other_records() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("remembered.json");
    let there = || Arc::new(Sqlite::in_memory().unwrap());
    let away = || {
        let place = Place::parse("postgres://127.0.0.1:1/nowhere", None, "skep", "0123456789ab", 1).unwrap();
        Arc::new(Postgres::lazy(&place).unwrap())
    };
    let records = Arc::new(Remembering::new(there(), "here", &path));
    records.put(&record("a")).await.unwrap();
    let key = NewKey::generate("web", KeyScope::All, at(0)).key;
    records.add_key(&key).await.unwrap();
    records.each().await.unwrap();
    records.keys().await.unwrap();
    let keeping = tokio::spawn(Arc::clone(&records).keep());
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    keeping.abort();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let without = Remembering::new(away(), "here", &path);
    assert_eq!(without.get(&id("a")).await.unwrap(), Some(record("a")));
    assert_eq!(without.keys().await.unwrap(), [Arc::new(key)]);
    assert!(without.put(&record("b")).await.is_err() && without.lease().await.is_err());
    // Whoever reconciles goes by the records alone.
    without.fence(Some(1));
    assert!(without.get(&id("a")).await.is_err());
    // Once they have answered, what they say counts.
    let with = Remembering::new(there(), "here", &path);
    assert_eq!(with.get(&id("a")).await.unwrap(), None);
    assert!(Remembering::new(away(), "here", &path).is_filled());
    assert!(!Remembering::new(away(), "elsewhere", &path).is_filled());
    std::fs::write(&path, "{\"version\": 1, \"rows\": [{").unwrap();
    assert!(!Remembering::new(away(), "here", &path).is_filled());
}

#[tokio::test]
async fn the_files_are_for_their_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let check = |path: &Path| {
        for entry in std::fs::read_dir(path.parent().unwrap()).unwrap() {
            let entry = entry.unwrap();
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", entry.path());
        }
    };
    let records = Sqlite::open(&path).unwrap();
    records.put(&record("a")).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 3, "the file, its log and its index");
    check(&path);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let _again = Sqlite::open(&path).unwrap();
    check(&path);
}

#[tokio::test]
async fn a_person_with_a_sql_shell_reads_the_state_of_an_api_in_plain_columns() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    Sqlite::open(&path).unwrap().put(&record("a")).await.unwrap();
    let sql = "SELECT id, sync, health, serving_revision, last_error, created_at FROM apis";
    let row = Connection::open(&path)
        .unwrap()
        .query_row(sql, [], |row| (0..6).map(|n| row.get(n)).collect::<Result<Vec<String>, _>>())
        .unwrap();
    let expected =
        ["a", "out-of-sync", "progressing", "0123456789ab", "ran out of memory", "2023-11-14T22:13:20.123456000Z"];
    assert_eq!(row, expected);
}

#[tokio::test]
async fn a_row_that_skep_did_not_write_is_named_and_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let shell = |sql: &str| assert_eq!(Connection::open(&path).unwrap().execute(sql, []).unwrap(), 1, "{sql}");
    rows::edited(&Sqlite::open(&path).unwrap(), "", ["'yesterday'", "''"], "x'00'", None, shell).await;
}

#[tokio::test]
async fn a_file_that_is_opened_again_stays_locked_against_other_programs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let first = Sqlite::open(&path).unwrap();
    first.put(&record("a")).await.unwrap();
    let second = Sqlite::open(&path).unwrap();
    second.put(&record("b")).await.unwrap();
    // A program that found it unlocked would take the log away that both write to.
    let inode = format!(":{}", std::fs::metadata(&path).unwrap().ino());
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let me = format!(" {} ", std::process::id());
    assert!(locks.lines().any(|line| line.contains(&me) && line.contains(&inode)), "{locks}");
}

#[tokio::test]
async fn what_is_known_is_not_read_again_and_is_what_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let open = || Sqlite::open(&path).unwrap();
    let reader = open();
    let other = Connection::open(&path).unwrap();
    let shell = |sql: &str| other.execute_batch(sql).unwrap();
    // A file has no statements past its triggers; so there is none meanwhile.
    let past = |sql: &str| {
        let read = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let trigger = |name: &str| {
            let sql = format!("SELECT sql FROM sqlite_schema WHERE name = '{name}'");
            other.query_row(&sql, [], read).unwrap()
        };
        let (apis, keys) = (trigger("apis_changed"), trigger("keys_changed"));
        let drop = "DROP TRIGGER apis_changed; DROP TRIGGER keys_changed";
        other.execute_batch(&format!("BEGIN; {drop}; {sql}; {apis}; {keys}; COMMIT")).unwrap();
    };
    let fresh = async || Arc::new(open()) as Arc<dyn Records>;
    news::news(&reader, fresh, "", past, shell).await;
}

#[tokio::test]
async fn the_version_changes_with_what_others_write_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let (ours, theirs) = (Sqlite::open(&path).unwrap(), Sqlite::open(&path).unwrap());
    theirs.put(&record("a")).await.unwrap();
    let before = ours.version().await.unwrap();
    theirs.touch_keys(&[(KeyHash::of(b"x"), at(70))]).await.unwrap();
    assert_eq!(ours.version().await.unwrap(), before, "that a key was used is no change");
    ours.add_key(&NewKey::generate("own", KeyScope::All, at(0)).key).await.unwrap();
    theirs.put(&Record { updated: at(70), ..record("a") }).await.unwrap();
    theirs.keys().await.unwrap();
    assert_eq!(ours.version().await.unwrap(), before, "an equal row is no change");
    theirs.add_key(&NewKey::generate("new", KeyScope::All, at(0)).key).await.unwrap();
    assert_ne!(ours.version().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_handles_write_at_once_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let writers: Vec<_> = (0..2)
        .map(|_| {
            let path = path.clone();
            tokio::spawn(async move {
                // Both make the file and its schema, too.
                let records = tokio::task::spawn_blocking(move || Sqlite::open(&path)).await.unwrap().unwrap();
                for n in 0..100 {
                    records.add_event(&event(None, &n.to_string())).await.unwrap();
                    records.put(&Record { status: saying(n), ..record("a") }).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let events = Sqlite::open(&path).unwrap().events(None, 0, 1000).await.unwrap();
    assert_eq!(events.len(), 200);
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_done_whole_and_in_order() {
    rows::unwaited(&Sqlite::in_memory().unwrap()).await;
}

#[test]
fn many_processes_may_make_the_schema_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let openers: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || Sqlite::open(&path).map(|_| ()))
        })
        .collect();
    for opener in openers {
        opener.join().unwrap().unwrap();
    }
}

#[test]
fn records_of_a_newer_skep_are_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    drop(Sqlite::open(&path).unwrap());
    let other = Connection::open(&path).unwrap();
    other.pragma_update(None, "user_version", 99).unwrap();
    let error = Sqlite::open(&path).unwrap_err();
    assert!(matches!(error, RecordsError::TooNew { found: 99, .. }), "{error}");
    let version: i64 = other.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    assert_eq!(version, 99);
}

#[test]
fn what_is_no_file_of_ours_is_refused_with_its_path_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("bookmarks.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE bookmarks (url TEXT)").unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "Not a database, and longer than the header of one would be. ".repeat(20)).unwrap();
    let missing = folder.path().join("missing/records.db");
    for (path, cause) in [
        (&foreign, "another program"),
        (&text, "not a database"),
        (&missing, "No such file"),
        (&folder.path().into(), "directory"),
    ] {
        let error = Sqlite::open(path).unwrap_err().to_string();
        assert!(error.contains(cause) && error.contains(&*path.to_string_lossy()), "{error}");
    }
    assert!(std::fs::read_to_string(&text).unwrap().starts_with("Not a database"));
}

/// How the child of the next test knows where to write.
const WRITER: &str = "SKEP_TEST_WRITER";

#[test]
fn a_process_killed_while_writing_leaves_whole_transactions() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let pair = |n: u32| ["left", "right"].map(|side| format!("{side} {n} ").repeat(500).into_bytes());
    if let Ok(path) = std::env::var(WRITER) {
        // This is the child: it writes pairs for ever.
        let records = Sqlite::open(Path::new(&path)).unwrap();
        for n in 0.. {
            let pair = pair(n).map(|bytes| (Digest::of(&bytes), bytes.into()));
            runtime.block_on(records.put_blobs(&pair)).unwrap();
        }
    }

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let name = "a_process_killed_while_writing_leaves_whole_transactions";
    let mut seen = 0;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(WRITER, &path)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(150 + 37 * round));
        child.kill().unwrap();
        child.wait().unwrap();

        let records = Sqlite::open(&path).unwrap();
        let has = |bytes: &[u8]| runtime.block_on(records.blob(&Digest::of(bytes))).unwrap().is_some();
        seen = 0;
        loop {
            let [left, right] = pair(seen);
            assert_eq!(has(&left), has(&right), "half of pair {seen} is missing");
            if !has(&left) {
                break;
            }
            seen += 1;
        }
        let verdict: String =
            Connection::open(&path).unwrap().pragma_query_value(None, "integrity_check", |row| row.get(0)).unwrap();
        assert_eq!(verdict, "ok");
    }
    assert!(seen > 0, "the child wrote nothing, so nothing was tested");
}
