//! What every backend must do with rows that somebody else has changed, and with calls that nobody waits for; told to the
//! trait and to a SQL shell.

use skep::records::{Records, RecordsError};
use skep::tree::Digest;
use skep::world::Record;

use crate::suite::{id, record, saying};

/// A row that skep did not write is named by its column, holds up no other, and is mended by writing it. `shell` runs SQL,
/// `schema` is what stands before a table's name there; `moments` and `no_bytes` are values that the backend takes and skep
/// did not write.
pub async fn edited(records: &dyn Records, schema: &str, moments: [&str; 2], no_bytes: &str, shell: impl Fn(&str)) {
    records.put(&record("good")).await.unwrap();
    let cases = [
        ("sync", "'sideways'"),
        ("health", "'fine'"),
        ("created_at", moments[0]),
        ("updated_at", moments[1]),
        ("served", "'{\"revision\": 1}'"),
        ("failures", "'{}'"),
    ];
    for (column, value) in cases {
        records.forget(&id("bad")).await.unwrap();
        records.put(&record("bad")).await.unwrap();
        shell(&format!("UPDATE {schema}apis SET {column} = {value} WHERE id = 'bad'"));
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
    shell(&format!("UPDATE {schema}blobs SET bytes = {no_bytes}"));
    assert!(matches!(records.blob(&digest).await, Err(RecordsError::Corrupt(_))));
}

/// Calls that nobody waits for are done whole, and in the order in which they began.
pub async fn unwaited(records: &dyn Records) {
    for n in 0..50 {
        let change = Record { status: saying(n), ..record("a") };
        let mut call = records.put(&change);
        // Begin it, then stop waiting.
        let _ = futures_util::poll!(&mut call);
    }
    assert_eq!(records.get(&id("a")).await.unwrap().unwrap().status.message, "49");
}
