//! What a handle has read already it does not read again, and yet it says what is there, whoever wrote it and how.

use std::sync::Arc;

use jiff::Timestamp;
use skep::records::{Key, KeyScope, NewKey, Records};

use crate::suite::{id, record};

/// `reader` is asked after each change that `shell` makes, and must say what a handle says that was just opened. `past` begins a
/// statement that no trigger sees; `schema` is what stands before a table's name.
pub async fn news(
    reader: &dyn Records,
    fresh: impl AsyncFn() -> Arc<dyn Records>,
    schema: &str,
    past: impl Fn(&str),
    shell: impl Fn(&str),
) {
    let same = async |what: &str| {
        let other = fresh().await;
        assert_eq!(reader.all().await.unwrap(), other.all().await.unwrap(), "{what}");
        assert_eq!(keys(reader).await, keys(&*other).await, "{what}");
    };
    for name in ["a", "b", "c"] {
        reader.put(&record(name)).await.unwrap();
        reader.add_key(&NewKey::generate(name, KeyScope::All, Timestamp::now()).key).await.unwrap();
    }
    same("what it wrote itself").await;
    let other = fresh().await;
    other.put(&record("d")).await.unwrap();
    other.add_key(&NewKey::generate("d", KeyScope::All, Timestamp::now()).key).await.unwrap();
    same("what another handle wrote").await;
    other.forget(&id("d")).await.unwrap();
    let mine = keys(reader).await.into_iter().find(|key| key.name == "a").unwrap();
    other.revoke_key(&mine.id, Timestamp::now()).await.unwrap();
    same("what another handle took away").await;
    for sql in [
        "UPDATE {}apis SET message = 'edited' WHERE id = 'a'",
        "UPDATE {}apis SET message = 'all' WHERE id <> 'c'",
        "UPDATE {}apis SET id = 'renamed' WHERE id = 'b'",
        "UPDATE {}keys SET id = 'k_renamed' WHERE name = 'b'",
        "UPDATE {}keys SET name = 'e' WHERE name = 'c'",
        "INSERT INTO {}keys SELECT 'k_new', 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', name,
            scope, created_at, revoked_at, terms, follows FROM {}keys WHERE name = 'e'",
        "DELETE FROM {}keys WHERE name = 'e'",
        "INSERT INTO {}holds VALUES ('c', '{\"by\": \"ada\", \"why\": \"so\", \"at\": \"2026-01-01T00:00:00Z\"}')",
        "UPDATE {}holds SET hold = '{\"by\": \"bob\", \"why\": \"so\", \"at\": \"2026-01-01T00:00:00Z\"}'",
        "DELETE FROM {}holds",
        "DELETE FROM {}apis WHERE id = 'a'",
        "UPDATE {}apis SET message = 'nobody' WHERE id = 'nobody'",
    ] {
        shell(&sql.replace("{}", schema));
        same(sql).await;
    }
    // What has not changed, as far as the log says, is not read again: a restore that says nothing is not seen at once …
    let was = reader.all().await.unwrap();
    let keys_before = keys(reader).await;
    past(&format!("UPDATE {schema}apis SET message = 'restored' WHERE id = 'c'"));
    past(&format!("UPDATE {schema}keys SET name = 'restored' WHERE id = 'k_new'"));
    assert_eq!(reader.all().await.unwrap(), was);
    assert_eq!(keys(reader).await, keys_before);
    // … but one that takes the log along is.
    let is = fresh().await.all().await.unwrap();
    assert_ne!(is, was);
    past(&format!("DELETE FROM {schema}change_log"));
    past(&format!("UPDATE {schema}changes SET count = 1"));
    shell(&format!("UPDATE {schema}apis SET message = 'after' WHERE id = 'renamed'"));
    same("a log that begins anew").await;
    assert_eq!(reader.all().await.unwrap()[&id("c")].edits.len(), 1);
    // More at once than is worth naming.
    let zeros = "0".repeat(60);
    shell(&format!(
        "WITH RECURSIVE n (n) AS (SELECT 1000 UNION ALL SELECT n + 1 FROM n WHERE n < 2200)
        INSERT INTO {schema}keys (id, hash, name, scope, created_at)
            SELECT 'k_' || n, '{zeros}' || n, 'n', '\"all\"', '2026-01-01T00:00:00Z' FROM n"
    ));
    same("many").await;
    assert!(keys(reader).await.len() > 1200);
}

async fn keys(records: &dyn Records) -> Vec<Key> {
    records.keys().await.unwrap().into_iter().map(Arc::unwrap_or_clone).collect()
}
