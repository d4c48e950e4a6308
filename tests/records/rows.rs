//! What every backend must do with rows that somebody else has changed, and with calls that nobody waits for; told to the
//! trait and to a SQL shell.

use jiff::Timestamp;
use skep::records::{KeyScope, NewKey, Records, RecordsError};
use skep::tree::Digest;
use skep::world::{Record, edit};

use crate::suite::{event, id, record, saying};

/// What a hand has changed of a row is named field by field, and what skep wrote holds. A moment that skep cannot read is
/// named by its column, holds up no other row, and is mended by writing it. `shell` runs SQL,
/// `schema` is what stands before a table's name there, `older` how a statement of an earlier skep begins, where one may still be
/// at work; `moments` and `no_bytes` are values that the backend takes and skep did not write.
pub async fn edited(
    records: &dyn Records,
    schema: &str,
    moments: [&str; 2],
    no_bytes: &str,
    older: Option<&str>,
    shell: impl Fn(&str),
) {
    records.put(&record("good")).await.unwrap();
    let edits = [
        ("name", "'Mine'", "name: \"A name\" → \"Mine\""),
        ("sync", "'sideways'", "sync: \"out-of-sync\" → \"sideways\""),
        ("health", "'fine'", "health: \"progressing\" → \"fine\""),
        ("message", "'all is well'", "message: \"\" → \"all is well\""),
        ("served", "'{\"revision\": 1}'", "served.revision: \"0123456789ab\" → 1"),
        ("served", "NULL", "served.revision: \"0123456789ab\" → nothing"),
        ("failures", "'{}'", "→ {}"),
        ("created_at", moments[0], "created_at: "),
        ("created_at", "'2020-01-01T00:00:00Z'", "created_at: "),
    ];
    for (column, value, said) in edits {
        records.put(&record("bad")).await.unwrap();
        shell(&format!("UPDATE {schema}apis SET {column} = {value} WHERE id = 'bad'"));
        let found = records.get(&id("bad")).await.unwrap().unwrap();
        let all = records.each().await.unwrap();
        assert_eq!(**all[&id("bad")].as_ref().unwrap(), found);
        assert_eq!(all[&id("good")].as_ref().unwrap().edits, []);
        let words = edit::sentence(&found.edits);
        assert!(words.contains(said), "{words}");
        assert_eq!(Record { edits: Vec::new(), ..found }, record("bad"), "what skep wrote holds");
        records.put(&record("bad")).await.unwrap();
        assert_eq!(records.get(&id("bad")).await.unwrap(), Some(record("bad")), "writing mends it");
    }
    let (columns, moment) =
        ("id, name, sync, health, message, failures, created_at, updated_at", "2026-01-01T00:00:00Z");
    shell(&format!(
        "INSERT INTO {schema}apis ({columns}) VALUES ('added', 'n', 'synced', 'fine', '', '[]', '{moment}', '{moment}')"
    ));
    let added = records.get(&id("added")).await.unwrap().unwrap();
    assert_eq!(
        (added.served, edit::sentence(&added.edits)),
        (None, "somebody added its row to the records".to_owned())
    );
    records.forget(&id("added")).await.unwrap();

    // A daemon of before this was kept, which writes beside one that knows of it, is no hand.
    let edit =
        format!("UPDATE {schema}apis SET message = 'older', updated_at = '2026-01-01T00:00:00Z' WHERE id = 'bad'");
    shell(&edit);
    let edited = records.get(&id("bad")).await.unwrap().unwrap();
    assert_eq!((edited.status.message.as_str(), edited.edits.len()), ("", 1), "a hand may change the time too");
    if let Some(older) = older {
        records.put(&record("bad")).await.unwrap();
        shell(&format!("{older}{edit}"));
        let older = records.get(&id("bad")).await.unwrap().unwrap();
        assert_eq!((older.status.message.as_str(), older.edits), ("older", Vec::new()));
    }

    for (column, value) in [("updated_at", moments[1])] {
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
    // A row of people's own that nobody can read holds up no other.
    for name in ["No Id", "gone"] {
        shell(&format!("INSERT INTO {schema}removals (api) VALUES ('{name}')"));
    }
    assert_eq!(records.confirmed_removals().await.unwrap(), [id("gone")]);
    let number = records.add_event(&event(Some("good"), "before")).await.unwrap();
    shell(&format!("UPDATE {schema}events SET api = 'No Id' WHERE number = {number}"));
    records.add_event(&event(Some("good"), "after")).await.unwrap();
    let events = records.last_events(None, 2).await.unwrap();
    assert_eq!(events.iter().map(|event| event.event.message.as_str()).collect::<Vec<_>>(), ["after"]);
    for name in ["one", "two"] {
        records.add_key(&NewKey::generate(name, KeyScope::All, Timestamp::now()).key).await.unwrap();
    }
    shell(&format!("UPDATE {schema}keys SET scope = '{{\"apis\": 1}}' WHERE name = 'one'"));
    let keys = records.keys().await.unwrap();
    assert_eq!(keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["two"]);
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
