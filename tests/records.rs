//! What every backend of the records must do, told once in `suite`; then what SQLite alone must.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::Connection;
use skep::reconcile::status::{Health, Status, Sync};
use skep::records::sqlite::Sqlite;
use skep::records::{KeyScope, NewEvent, NewKey, Records, RecordsError};
use skep::tree::{ApiId, Digest, File, Requirement, Requirements, Revision, Spec};
use skep::world::{Failure, FailureKind, Record, Served};

fn id(name: &str) -> ApiId {
    ApiId::new(name).unwrap()
}

fn at(second: i64) -> Timestamp {
    // Nanoseconds, so that a backend that rounds is found out.
    Timestamp::new(1_700_000_000 + second, 123_456_789).unwrap()
}

fn served(revision: &str, since: Timestamp) -> Served {
    let mut spec = Spec::built_in("Ünïcode \"name\"");
    spec.env.insert("QUOTE".to_owned(), "it's; DROP TABLE apis --\n\u{0}".to_owned());
    let file = File { digest: Digest::of(revision.as_bytes()), len: 7 };
    Served {
        revision: Revision::from_label(revision),
        base: Digest::of(b"base"),
        spec,
        requirements: Requirements(vec![Requirement("fastapi>=0.115".to_owned())]),
        files: BTreeMap::from([("main.py".to_owned(), file)]),
        since,
    }
}

fn failure(revision: &str) -> Failure {
    Failure {
        revision: Revision::from_label(revision),
        kind: FailureKind::OutOfMemory,
        count: 3,
        at: at(9),
        message: "ran out of memory".to_owned(),
        output: vec!["Killed".to_owned(), String::new()],
    }
}

fn record(name: &str) -> Record {
    Record {
        id: id(name),
        status: Status {
            name: "A name".to_owned(),
            sync: Sync::OutOfSync,
            health: Health::Progressing,
            message: String::new(),
        },
        served: Some(served("0123456789ab", at(1))),
        failures: vec![failure("0a9876543210"), failure("ba9876543210")],
        created: at(0),
        updated: at(2),
    }
}

fn saying(number: impl ToString) -> Status {
    Status { message: number.to_string(), ..record("a").status }
}

fn event(api: Option<&str>, message: &str) -> NewEvent {
    let revision = api.map(|_| Revision::from_label("0123456789ab"));
    NewEvent { at: at(3), api: api.map(id), revision, kind: "built".to_owned(), message: message.to_owned() }
}

/// What every backend must do. Wants records that are empty.
async fn suite(records: &dyn Records) {
    rows(records).await;
    revisions_and_files(records).await;
    events(records).await;
    keys(records).await;
    removals(records).await;
}

async fn rows(records: &dyn Records) {
    assert_eq!(records.get(&id("a")).await.unwrap(), None);
    assert!(records.all().await.unwrap().is_empty());

    let full = record("a");
    let bare = Record { served: None, failures: Vec::new(), ..record("b") };
    records.put(&bare).await.unwrap();
    records.put(&full).await.unwrap();
    assert_eq!(records.get(&full.id).await.unwrap().as_ref(), Some(&full));
    assert_eq!(records.get(&bare.id).await.unwrap().as_ref(), Some(&bare));
    let all = records.all().await.unwrap();
    assert_eq!(all, BTreeMap::from([(full.id.clone(), full.clone()), (bare.id.clone(), bare)]));

    // Every status there is comes back as it went in.
    for sync in [Sync::Synced, Sync::OutOfSync, Sync::Held, Sync::Blocked] {
        for health in [Health::Healthy, Health::Progressing, Health::Degraded, Health::Stopped, Health::Missing] {
            let record = Record { status: Status { sync, health, ..full.status.clone() }, ..full.clone() };
            records.put(&record).await.unwrap();
            assert_eq!(records.get(&full.id).await.unwrap(), Some(record));
        }
    }

    // A row that is equal but for its time is left alone, one that differs is written whole.
    records.put(&full).await.unwrap();
    records.put(&Record { updated: at(50), ..full.clone() }).await.unwrap();
    assert_eq!(records.get(&full.id).await.unwrap().as_ref(), Some(&full));
    let changed = Record { updated: at(51), served: None, failures: Vec::new(), ..full.clone() };
    records.put(&changed).await.unwrap();
    assert_eq!(records.get(&full.id).await.unwrap(), Some(changed));

    records.forget(&id("a")).await.unwrap();
    records.forget(&id("a")).await.unwrap();
    assert_eq!(records.get(&id("a")).await.unwrap(), None);
    assert_eq!(records.all().await.unwrap().into_keys().collect::<Vec<_>>(), [id("b")]);
}

async fn revisions_and_files(records: &dyn Records) {
    let (one, two) = (served("111111111111", at(1)), served("222222222222", at(2)));
    for served in [&one, &two, &two] {
        records.put_revision(&id("a"), served).await.unwrap();
    }
    records.put_revision(&id("gone"), &one).await.unwrap();
    assert_eq!(records.revisions(&id("a")).await.unwrap(), [two.clone(), one.clone()]);

    // What serves again, as after a rollback, is the latest again; a late repeat of an old call changes nothing.
    let again = Served { since: at(3), ..one.clone() };
    records.put_revision(&id("a"), &again).await.unwrap();
    records.put_revision(&id("a"), &one).await.unwrap();
    assert_eq!(records.revisions(&id("a")).await.unwrap(), [again, two]);
    records.put(&record("gone")).await.unwrap();
    records.forget(&id("gone")).await.unwrap();
    assert_eq!(records.revisions(&id("gone")).await.unwrap(), [one], "revisions outlive the row");

    // Moments of one second keep their order, with and without a fraction.
    let (whole, half) = (Timestamp::new(10, 0).unwrap(), Timestamp::new(10, 500_000_000).unwrap());
    records.put_revision(&id("c"), &served("333333333333", half)).await.unwrap();
    records.put_revision(&id("c"), &served("444444444444", whole)).await.unwrap();
    let order: Vec<_> = records.revisions(&id("c")).await.unwrap().into_iter().map(|s| s.since).collect();
    assert_eq!(order, [half, whole]);

    let files: Vec<(Digest, Arc<[u8]>)> =
        [&b"text"[..], b"", &[0, 255, 10]].map(|bytes| (Digest::of(bytes), bytes.into())).to_vec();
    records.put_blobs(&files).await.unwrap();
    records.put_blobs(&files[..1]).await.unwrap();
    records.put_blobs(&[]).await.unwrap();
    for (digest, bytes) in &files {
        assert_eq!(records.blob(digest).await.unwrap().as_ref(), Some(bytes));
    }
    assert_eq!(records.blob(&Digest::of(b"never kept")).await.unwrap(), None);
}

async fn events(records: &dyn Records) {
    assert!(records.events(None, 0, 10).await.unwrap().is_empty());
    let mut numbers = Vec::new();
    for (api, message) in [(Some("a"), "1"), (None, "2"), (Some("b"), "3"), (Some("a"), "4")] {
        numbers.push(records.add_event(&event(api, message)).await.unwrap());
    }
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");

    let all = records.events(None, 0, 10).await.unwrap();
    assert_eq!(all.iter().map(|e| e.number).collect::<Vec<_>>(), numbers);
    assert_eq!(all[1].event, event(None, "2"));
    assert_eq!(all[2].event, event(Some("b"), "3"));

    let messages = async |api: Option<&str>, after, limit| {
        let found = records.events(api.map(id).as_ref(), after, limit).await.unwrap();
        found.into_iter().map(|e| e.event.message).collect::<Vec<_>>()
    };
    assert_eq!(messages(None, numbers[1], 10).await, ["3", "4"]);
    assert_eq!(messages(None, 0, 2).await, ["1", "2"]);
    assert_eq!(messages(Some("a"), 0, 10).await, ["1", "4"]);
    assert_eq!(messages(Some("a"), numbers[0], 10).await, ["4"]);
    assert_eq!(messages(None, u64::MAX, usize::MAX).await, [""; 0]);
    assert_eq!(messages(None, 0, 0).await, [""; 0]);
}

async fn keys(records: &dyn Records) {
    let one = NewKey::generate("laptop", KeyScope::All, at(0)).key;
    let two = NewKey::generate("ci's", KeyScope::Apis(vec![id("a"), id("b")]), at(1)).key;
    records.add_key(&one).await.unwrap();
    records.add_key(&two).await.unwrap();
    let mut expected = vec![one.clone(), two.clone()];
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(records.keys().await.unwrap(), expected);
    assert!(matches!(records.add_key(&one).await, Err(RecordsError::Failed { .. })), "a key is added once");

    assert!(!records.revoke_key("k_unknown", at(5)).await.unwrap());
    let future = Timestamp::now() + Duration::from_secs(3600);
    assert!(records.revoke_key(&one.id, future).await.unwrap());
    assert_eq!(records.keys().await.unwrap().len(), 2, "it may be used until then");
    assert!(records.revoke_key(&one.id, at(5)).await.unwrap());
    assert!(records.revoke_key(&one.id, future).await.unwrap());
    assert_eq!(records.keys().await.unwrap(), [two], "the earlier of two revocations holds");
}

async fn removals(records: &dyn Records) {
    assert!(records.confirmed_removals().await.unwrap().is_empty());
    records.confirm_removal(&[id("b"), id("a")]).await.unwrap();
    records.confirm_removal(&[id("a")]).await.unwrap();
    records.confirm_removal(&[]).await.unwrap();
    assert_eq!(records.confirmed_removals().await.unwrap(), [id("a"), id("b")]);
    records.forget(&id("a")).await.unwrap();
    assert_eq!(records.confirmed_removals().await.unwrap(), [id("b")]);
}

#[tokio::test]
async fn sqlite_in_memory_does_what_records_must() {
    suite(&Sqlite::in_memory().unwrap()).await;
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
        ["a", "out-of-sync", "progressing", "0123456789ab", "ran out of memory", "2023-11-14T22:13:20.123456789Z"];
    assert_eq!(row, expected);
}

#[tokio::test]
async fn a_row_that_skep_did_not_write_is_named_and_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let records = Sqlite::open(&path).unwrap();
    records.put(&record("good")).await.unwrap();
    let cases = [
        ("sync", "'sideways'"),
        ("health", "'fine'"),
        ("created_at", "'yesterday'"),
        ("updated_at", "''"),
        ("served", "'{\"revision\": 1}'"),
        ("failures", "'{}'"),
    ];
    for (column, value) in cases {
        records.forget(&id("bad")).await.unwrap();
        records.put(&record("bad")).await.unwrap();
        Connection::open(&path)
            .unwrap()
            .execute(&format!("UPDATE apis SET {column} = {value} WHERE id = 'bad'"), [])
            .unwrap();
        let place = format!("table `apis`, row `bad`, column `{column}`");
        for error in [records.get(&id("bad")).await.unwrap_err(), records.all().await.unwrap_err()] {
            assert!(matches!(&error, RecordsError::Corrupt(what) if what.contains(&place)), "{error}");
        }
        let each = records.each().await.unwrap();
        assert!(each[&id("bad")].is_err() && each[&id("good")].is_ok());
        records.put(&record("bad")).await.unwrap();
        assert_eq!(records.get(&id("bad")).await.unwrap(), Some(record("bad")), "writing mends it");
    }

    let digest = Digest::of(b"kept");
    records.put_blobs(&[(digest, b"kept"[..].into())]).await.unwrap();
    Connection::open(&path).unwrap().execute("UPDATE blobs SET bytes = x'00'", []).unwrap();
    assert!(matches!(records.blob(&digest).await, Err(RecordsError::Corrupt(_))));
}

#[tokio::test]
async fn the_version_changes_with_what_others_write_and_only_then() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records.db");
    let (ours, theirs) = (Sqlite::open(&path).unwrap(), Sqlite::open(&path).unwrap());
    theirs.put(&record("a")).await.unwrap();
    let before = ours.version().await.unwrap();
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
    let records = Sqlite::in_memory().unwrap();
    for n in 0..50 {
        let change = Record { status: saying(n), ..record("a") };
        let mut call = records.put(&change);
        // Begin it, then stop waiting.
        let _ = futures_util::poll!(&mut call);
    }
    assert_eq!(records.get(&id("a")).await.unwrap().unwrap().status.message, "49");
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
