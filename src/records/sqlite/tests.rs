use super::*;
use crate::records::NewEvent;

fn blob(len: usize) -> [(Digest, Arc<[u8]>); 1] {
    let bytes = vec![7; len];
    [(Digest::of(&bytes), bytes.into())]
}

/// Sets a pragma on the connection that the handle uses.
async fn set(records: &Sqlite, name: &'static str, value: i64) {
    records.worker.run(Access::Read, "set", move |t| Ok(t.pragma_update(None, name, value)?)).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_is_named_and_what_was_kept_stays() {
    let folder = tempfile::tempdir().unwrap();
    let records = Sqlite::open(&folder.path().join("records.db")).unwrap();
    records.put_blobs(&blob(10)).await.unwrap();
    set(&records, "max_page_count", 40).await;
    let error = records.put_blobs(&blob(1 << 20)).await.unwrap_err().to_string();
    assert!(error.starts_with("cannot keep files in the records: database or disk is full; free"), "{error}");
    assert!(records.blob(&blob(10)[0].0).await.unwrap().is_some());

    set(&records, "max_page_count", 10_000).await;
    records.put_blobs(&blob(1 << 20)).await.unwrap();
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_named() {
    let records = Sqlite::in_memory().unwrap();
    set(&records, "query_only", 1).await;
    let error = records.confirm_removal(&[ApiId::new("a").unwrap()]).await.unwrap_err().to_string();
    assert!(error.contains("readonly database; make the file and its folder writable"), "{error}");
}

#[tokio::test]
async fn a_job_that_fails_half_way_leaves_nothing() {
    let records = Sqlite::in_memory().unwrap();
    let job = |t: &Transaction<'_>| {
        t.execute("INSERT INTO removals (api) VALUES ('a')", [])?;
        Err::<(), _>(Trouble::Corrupt("half way".to_owned()))
    };
    records.worker.run(Access::Write, "fail", job).await.unwrap_err();
    assert!(records.confirmed_removals().await.unwrap().is_empty());
    let event =
        NewEvent { at: Timestamp::UNIX_EPOCH, api: None, revision: None, kind: "k".into(), message: "m".into() };
    assert_eq!(records.add_event(&event).await.unwrap(), 1);
}
