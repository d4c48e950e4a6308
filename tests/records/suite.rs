//! What every backend of the records must do, told to the trait alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use skep::reconcile::status::{Health, Status, Sync};
use skep::records::{Keep, Key, KeyHash, KeyScope, NewEvent, NewKey, Records, RecordsError};
use skep::tree::{ApiId, Digest, File, KeyTerms, Requirement, Requirements, Revision, Sealed, Spec};
use skep::world::{Failure, FailureKind, Hold, Record, Served};

/// An id.
pub fn id(name: &str) -> ApiId {
    ApiId::new(name).unwrap()
}

/// A moment, so many seconds after some other.
pub fn at(second: i64) -> Timestamp {
    // Microseconds, which both databases keep, so that a backend that rounds is found out.
    Timestamp::new(1_700_000_000 + second, 123_456_000).unwrap()
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
        secrets: Some(Sealed::of("encrypted")),
        since,
        origin: None,
    }
}

fn failure(revision: &str) -> Failure {
    Failure {
        revision: Revision::from_label(revision),
        settings: Digest::of(b"settings"),
        kind: FailureKind::OutOfMemory,
        count: 3,
        at: at(9),
        message: "ran out of memory".to_owned(),
        output: vec!["Killed".to_owned(), String::new()],
    }
}

/// A row with every column filled.
pub fn record(name: &str) -> Record {
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
        hold: None,
        created: at(0),
        updated: at(2),
        edits: Vec::new(),
    }
}

/// A status whose message is a number.
pub fn saying(number: impl ToString) -> Status {
    Status { message: number.to_string(), ..record("a").status }
}

/// Something that happened to an API, or to all.
pub fn event(api: Option<&str>, message: &str) -> NewEvent {
    let revision = api.map(|_| Revision::from_label("0123456789ab"));
    NewEvent { at: at(3), api: api.map(id), revision, kind: "built".to_owned(), message: message.to_owned() }
}

/// What every backend must do. Wants records that are empty.
pub async fn suite(records: &dyn Records) {
    rows(records).await;
    revisions_and_files(records).await;
    events(records).await;
    keys(records).await;
    terms_of_keys(records).await;
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

    // The longest id that there is: of a preview.
    let longest = record(&format!("{}--pr-9999999", "a".repeat(ApiId::MAX_LEN)));
    records.put(&longest).await.unwrap();
    assert_eq!(records.get(&longest.id).await.unwrap().as_ref(), Some(&longest));
    records.forget(&longest.id).await.unwrap();

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

    let last = async |api: Option<&str>, count| {
        let found = records.last_events(api.map(id).as_ref(), count).await.unwrap();
        found.into_iter().map(|e| e.event.message).collect::<Vec<_>>()
    };
    assert_eq!(last(None, 2).await, ["3", "4"]);
    assert_eq!(last(Some("a"), 1).await, ["4"]);
    assert_eq!(last(Some("a"), 9).await, ["1", "4"]);

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

async fn in_force(records: &dyn Records) -> Vec<Key> {
    records.keys().await.unwrap().into_iter().map(Arc::unwrap_or_clone).collect()
}

async fn keys(records: &dyn Records) {
    let one = NewKey::generate("laptop", KeyScope::All, at(0)).key;
    let two = NewKey::generate("ci's", KeyScope::Apis(vec![id("a"), id("b")]), at(1)).key;
    records.add_key(&one).await.unwrap();
    records.add_key(&two).await.unwrap();
    let mut expected = vec![one.clone(), two.clone()];
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(in_force(records).await, expected);
    assert!(matches!(records.add_key(&one).await, Err(RecordsError::Failed { .. })), "a key is added once");

    assert!(!records.revoke_key("k_unknown", at(5)).await.unwrap());
    let future = Timestamp::now() + Duration::from_secs(3600);
    assert!(records.revoke_key(&one.id, future).await.unwrap());
    assert_eq!(records.keys().await.unwrap().len(), 2, "it may be used until then");
    assert!(records.revoke_key(&one.id, at(5)).await.unwrap());
    assert!(records.revoke_key(&one.id, future).await.unwrap());
    assert_eq!(in_force(records).await, std::slice::from_ref(&two), "the earlier of two revocations holds");

    let three = NewKey::generate("three", KeyScope::All, at(2)).key;
    let again = [Key { name: "renamed".to_owned(), ..two.clone() }, one.clone(), three.clone()];
    assert_eq!(records.add_missing_keys(&again).await.unwrap(), 1);
    assert_eq!(records.add_missing_keys(&again).await.unwrap(), 0);
    let mut expected = vec![Key { revoked: Some(at(5)), ..one }, two, three.clone()];
    expected.sort_by(|a, b| a.id.cmp(&b.id));
    assert_eq!(records.every_key().await.unwrap(), expected, "one that is there stays as it is");
    assert_eq!(records.keys().await.unwrap().len(), 2, "one that was revoked does not come back");
    let twin = Key { id: three.id.clone(), ..NewKey::generate("twin", KeyScope::All, at(3)).key };
    let four = NewKey::generate("four", KeyScope::All, at(3)).key;
    assert!(records.add_missing_keys(&[four, twin]).await.is_err(), "two keys are never of one id");
    assert_eq!(records.every_key().await.unwrap().len(), 3, "all or none");
    records.revoke_key(&three.id, at(5)).await.unwrap();
}

async fn terms_of_keys(records: &dyn Records) {
    let now = Timestamp::from_microsecond(Timestamp::now().as_microsecond()).unwrap();
    let (later, soon) = (now + Duration::from_secs(3600), now + Duration::from_millis(50));
    let mut first = NewKey::generate("terms", KeyScope::All, now).key;
    first.terms = KeyTerms {
        expires: Some(later),
        methods: vec!["GET".parse().unwrap()],
        paths: vec!["/items".parse().unwrap()],
        plan: Some("pro".to_owned()),
        limit: Some("60/1m".parse().unwrap()),
    };
    records.add_key(&first).await.unwrap();
    let named = async |id: &str| in_force(records).await.into_iter().find(|key| key.id == id);
    assert_eq!(named(&first.id).await, Some(first.clone()));
    let mut brief = NewKey::generate("brief", KeyScope::All, now).key;
    brief.terms.expires = Some(soon);
    records.add_key(&brief).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(named(&brief.id).await, None, "it has expired");

    // Both open until the first is over; and a key is followed by one other.
    let second = first.rotate(now).key;
    assert!(!records.rotate_key("k_unknown", &second, later).await.unwrap());
    assert_eq!(named(&second.id).await, None);
    assert!(records.rotate_key(&first.id, &second, later).await.unwrap());
    assert_eq!(named(&first.id).await.unwrap().revoked, Some(later));
    assert_eq!(named(&second.id).await, Some(second.clone()));
    assert!(!records.rotate_key(&first.id, &first.rotate(now).key, later).await.unwrap());

    let declared = KeyHash::of(b"a key that the records do not have");
    records.touch_keys(&[(first.hash, at(20)), (declared, at(21))]).await.unwrap();
    records.touch_keys(&[(first.hash, at(10))]).await.unwrap();
    let uses = records.key_uses().await.unwrap();
    assert_eq!(uses, [(first.hash, at(20)), (declared, at(21))].into(), "a later use is not taken back");
    for id in [&first.id, &second.id] {
        records.revoke_key(id, at(5)).await.unwrap();
    }
}

async fn removals(records: &dyn Records) {
    records.confirm_removal(&[id("x"), id("y")]).await.unwrap();
    records.withdraw_removal(&[id("x"), id("never")]).await.unwrap();
    assert_eq!(records.confirmed_removals().await.unwrap(), [id("y")]);
    records.withdraw_removal(&[id("y")]).await.unwrap();

    assert!(records.confirmed_removals().await.unwrap().is_empty());
    records.confirm_removal(&[id("b"), id("a")]).await.unwrap();
    records.confirm_removal(&[id("a")]).await.unwrap();
    records.confirm_removal(&[]).await.unwrap();
    assert_eq!(records.confirmed_removals().await.unwrap(), [id("a"), id("b")]);
    records.forget(&id("a")).await.unwrap();
    assert_eq!(records.confirmed_removals().await.unwrap(), [id("b")]);
}

/// What a person holds, and which of several daemons may write.
pub async fn leading(records: &dyn Records) {
    let row = record("held");
    records.put(&row).await.unwrap();
    let hold = Hold {
        on: Some(Digest::of(b"content")),
        serve: Some(Box::new(served("ab12ab12ab12", at(1)))),
        by: "ada".to_owned(),
        why: "wrong colours".to_owned(),
        at: at(4),
        until: Some(at(99)),
        stays: false,
    };
    records.put_hold(&row.id, &hold).await.unwrap();
    // Whoever writes the row whole does not write the hold.
    records.put(&Record { hold: None, updated: at(60), status: saying(1), ..row.clone() }).await.unwrap();
    assert_eq!(records.get(&row.id).await.unwrap().unwrap().hold, Some(hold.clone()));
    assert_eq!(records.all().await.unwrap()[&row.id].hold, Some(hold.clone()));
    // Another one was made after somebody had found that the first was over.
    let newer = Hold { at: at(5), ..hold.clone() };
    records.put_hold(&row.id, &newer).await.unwrap();
    records.release_spent(&row.id, &hold).await.unwrap();
    assert_eq!(records.get(&row.id).await.unwrap().unwrap().hold, Some(newer.clone()));
    records.release_spent(&row.id, &newer).await.unwrap();
    assert_eq!(records.get(&row.id).await.unwrap().unwrap().hold, None);
    records.put_hold(&row.id, &hold).await.unwrap();
    assert!(records.release(&row.id).await.unwrap() && !records.release(&row.id).await.unwrap());

    let lease = records.lease().await.unwrap();
    let first = records.claim(&lease, "one").await.unwrap().unwrap();
    assert_eq!(records.claim(&lease, "two").await.unwrap(), None, "it is not as it was seen any more");
    records.fence(Some(first));
    records.announce("c1").await.unwrap();
    assert_eq!(records.told().await.unwrap(), None);
    records.put_told("one").await.unwrap();
    records.put_told("{\"version\":1}").await.unwrap();
    assert_eq!(records.told().await.unwrap().as_deref(), Some("{\"version\":1}"));
    assert!(records.renew(first).await.unwrap());
    let second = records.claim(&records.lease().await.unwrap(), "two").await.unwrap().unwrap();
    assert!(second > first);
    assert!(!records.renew(first).await.unwrap());
    for refused in [
        records.put(&row).await,
        records.forget(&row.id).await,
        records.announce("c2").await,
        records.left("c1").await,
        records.add_event(&event(None, "late")).await.map(drop),
        records.put_told("late").await,
        records.put_revision(&row.id, &served("ab12ab12ab12", at(1))).await,
        records.release_spent(&row.id, &hold).await,
        records.withdraw_removal(std::slice::from_ref(&row.id)).await,
        records.check_fence().await,
    ] {
        assert!(matches!(refused, Err(RecordsError::Fenced)), "{refused:?}");
    }
    // What people write is never refused.
    records.add_key(&NewKey::generate("late", KeyScope::All, at(5)).key).await.unwrap();
    records.fence(Some(second));
    records.check_fence().await.unwrap();

    records.follow("three").await.unwrap();
    records.follow("three").await.unwrap();
    assert_eq!(records.followers().await.unwrap(), BTreeMap::from([("three".to_owned(), 2)]));
    records.let_go("c1", "three").await.unwrap();
    records.let_go("never-announced", "three").await.unwrap();
    let leaving = records.leaving().await.unwrap();
    assert_eq!(leaving.into_iter().collect::<Vec<_>>(), [("c1".to_owned(), ["three".to_owned()].into())]);
    records.left("c1").await.unwrap();
    assert!(records.leaving().await.unwrap().is_empty());
    records.dismiss("three").await.unwrap();
    assert!(records.followers().await.unwrap().is_empty());
    records.resign(second).await.unwrap();
    assert_eq!(records.lease().await.unwrap().holder, None);
    records.fence(None);
    records.forget(&row.id).await.unwrap();
}

/// What is old goes, and what something needs stays.
pub async fn pruning(records: &dyn Records) {
    let api = id("pruned");
    let blob = |name: &str| (Digest::of(name.as_bytes()), Arc::<[u8]>::from(name.as_bytes()));
    let names = ["1".repeat(12), "2".repeat(12), "3".repeat(12)];
    let blobs: Vec<_> = names.iter().map(|name| blob(name)).chain([blob("nobody's")]).collect();
    records.put_blobs(&blobs).await.unwrap();
    records.put(&Record { served: Some(served(&names[2], at(30))), ..record("pruned") }).await.unwrap();
    for (second, name) in names.iter().enumerate() {
        records.put_revision(&api, &served(name, at(10 + i64::try_from(second).unwrap()))).await.unwrap();
    }
    let keep = Keep { revisions: 2, events_since: at(-1_000), blobs_since: at(-1_000) };
    let pruned = records.prune(&keep).await.unwrap();
    assert_eq!((pruned.revisions, pruned.blobs), (1, 0), "what was just asked to be kept stays");
    let later = Keep { blobs_since: Timestamp::MAX, ..keep };
    records.prune(&later).await.unwrap();
    let mut there = Vec::new();
    for (digest, _) in &blobs {
        there.push(records.blob(digest).await.unwrap().is_some());
    }
    assert_eq!(there, [false, true, true, false]);
    assert_eq!(records.revisions(&api).await.unwrap().len(), 2);
    records.forget(&api).await.unwrap();
}
