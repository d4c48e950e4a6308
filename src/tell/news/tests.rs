//! Tests of news.

use super::*;
use crate::records::NewEvent;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn event(second: i64, api: &str, kind: &str, message: &str) -> Event {
    let (api, kind, message) = (ApiId::new(api).ok(), kind.to_owned(), message.to_owned());
    Event { number: 1, event: NewEvent { at: at(second), api, revision: None, kind, message } }
}

fn well(since: i64) -> View {
    let commit = None;
    let (failed, revision) = (None, Some("r0".to_owned()));
    let (name, since, because) = (None, at(since), None);
    View { name, is_well: true, is_suspended: false, is_gone: false, failed, revision, since, commit, because }
}

fn failing(revision: &str) -> View {
    let failing = Failing {
        key: revision.to_owned(),
        why: "it ended".to_owned(),
        revision: Some(revision.to_owned()),
        commit: None,
    };
    View { is_well: false, failed: Some(failing), ..well(0) }
}

/// What is told at that second, quiet as it is, with an API as `view` says.
fn told(news: &mut News, second: i64, view: &View) -> Vec<(NewsKind, String)> {
    news.judge(at(second), |_| Some(view.clone()));
    news.take(at(second + 3), false).into_iter().map(|item| (item.kind, item.what)).collect()
}

#[test]
fn what_comes_to_serve_anew_is_deployed_and_what_is_routed_again_is_not() {
    let mut news = News::default();
    news.hear(&event(1, "a--pr-7", "serving", "of a pull request, which is nobody's news"), at(1));
    assert!(news.open().is_empty());
    // It is written down as what serves, and then routed.
    news.hear(&event(3, "a", "serving", "first"), at(3));
    assert_eq!(told(&mut news, 4, &well(2)), [(NewsKind::Deployed, "serves".to_owned())]);
    news.hear(&event(10, "a", "serving", "routed again"), at(10));
    assert_eq!(told(&mut news, 11, &well(2)), []);
    assert!(news.open().is_empty());
    // Two instances of a new revision join one after the other.
    news.hear(&event(20, "a", "serving", "1 of 2"), at(20));
    assert_eq!(told(&mut news, 20, &View { is_well: false, ..well(2) }), []);
    news.hear(&event(22, "a", "serving", "2 of 2"), at(22));
    assert_eq!(told(&mut news, 23, &well(19)).len(), 1);
    // Long after that it is old, and nothing of it needs to be remembered.
    assert_eq!(told(&mut news, 5000, &well(19)), []);
    assert!(news.cases.is_empty());
    news.hear(&event(5001, "a", "serving", "routed again"), at(5001));
    assert_eq!(told(&mut news, 5002, &well(19)), []);
}

#[test]
fn a_revision_fails_once_however_often_it_is_tried() {
    let mut news = News::default();
    for second in [1, 10, 30, 70] {
        news.hear(&event(second, "a", "failed", "it ended"), at(second));
        let expected = if second == 1 { vec![(NewsKind::Failed, "it ended".to_owned())] } else { vec![] };
        assert_eq!(told(&mut news, second, &failing("r1")), expected, "{second}");
    }
    news.hear(&event(90, "a", "failed", "it ended"), at(90));
    assert_eq!(told(&mut news, 90, &failing("r2")).len(), 1, "another revision is another failure");
    news.hear(&event(95, "a", "serving", "mended"), at(95));
    assert_eq!(told(&mut news, 96, &well(94)), [(NewsKind::Deployed, "serves".to_owned())]);
}

#[test]
fn what_went_wrong_is_healed_once_it_stays_so_and_one_that_flaps_is_told_of_ever_less() {
    let mut news = News::default();
    news.hear(&event(0, "a", "found", "an instance is gone"), at(0));
    assert_eq!(told(&mut news, 1, &View { is_well: false, ..well(-100) }), [], "it is not there yet");
    assert_eq!(told(&mut news, 5, &well(-100)), [], "it may go again");
    assert_eq!(told(&mut news, 14, &well(-100)), []);
    let healed = told(&mut news, 15, &well(-100));
    assert_eq!(healed, [(NewsKind::Healed, "an instance is gone; it is as it should be again".to_owned())]);
    // Each second of an hour, and well in between.
    let mut count = 0;
    for second in 16..3616 {
        if second % 15 == 0 {
            news.hear(&event(second, "a", "failed", "it ended"), at(second));
        }
        count += told(&mut news, second, &well(-100)).len();
    }
    assert!(count <= 2, "{count} messages of one API that goes wrong every quarter of a minute");
}

#[test]
fn a_commit_that_changes_much_is_one_message_and_a_failure_waits_for_nothing() {
    let mut news = News::default();
    for number in 0..200 {
        news.hear(&event(number / 10, &format!("a{number}"), "serving", "first"), at(number / 10));
    }
    news.judge(at(20), |_| Some(well(20)));
    assert_eq!(news.take(at(30), true).len(), 0, "the rest of it is on its way");
    news.hear(&event(30, "b", "held", "held by Ada"), at(30));
    let urgent: Vec<NewsKind> = news.take(at(33), true).iter().map(|item| item.kind).collect();
    assert_eq!(urgent, [NewsKind::Held]);
    assert_eq!(news.take(at(33), false).len(), 200);
}

#[test]
fn sources_removals_and_the_installation_are_told_of_too() {
    let mut news = News::default();
    news.hear(&event(0, "-", "pull-trouble", "team: broken: a: b"), at(0));
    assert_eq!(news.open(), ["source team"]);
    let told_of = told(&mut news, 0, &failing("broken"));
    assert_eq!(told_of, [(NewsKind::Failed, "source team: it ended".to_owned())]);
    assert_eq!(told(&mut news, 20, &well(0)), []);
    assert_eq!(told(&mut news, 30, &well(0))[0].0, NewsKind::Healed);
    news.hear(&event(30, "-", "found", "the firewall's rules"), at(30));
    assert_eq!(told(&mut news, 31, &well(0)), []);
    assert!(told(&mut news, 45, &well(0))[0].1.starts_with("the firewall's rules; "));
    let held = BTreeMap::from([(ApiId::new("a").unwrap(), "too many".to_owned())]);
    news.hold_removals(&held, |_| true, at(50));
    news.hold_removals(&held, |_| true, at(51));
    // Nobody has looked yet in this term, so that none is held as far as anybody knows.
    news.hold_removals(&BTreeMap::new(), |_| true, at(51));
    news.hold_removals(&held, |_| true, at(51));
    assert_eq!(told(&mut news, 52, &well(0)), [(NewsKind::Held, "too many".to_owned())]);
    news.hold_removals(&BTreeMap::new(), |_| false, at(53));
    news.hold_removals(&held, |_| true, at(54));
    assert_eq!(told(&mut news, 55, &well(0)).len(), 1, "its folder was back, and is gone once more");
    let gone = View { is_gone: true, is_well: false, ..well(0) };
    news.hear(&event(60, "a", "found", "x"), at(60));
    assert_eq!(told(&mut news, 100, &gone), []);
    assert!(news.open().is_empty());
    news.hear(&event(-90_000, "a", "held", "long ago"), at(100));
    assert_eq!(told(&mut news, 100, &well(0)), []);
}

#[test]
fn what_is_not_known_is_neither_failed_nor_well() {
    let mut news = News::default();
    news.hear(&event(0, "a", "failed", "it ended"), at(0));
    news.judge(at(1), |_| Some(failing("r1")));
    assert_eq!(news.take(at(4), false).len(), 1);
    let known = news.clone();
    news.judge(at(50), |_| None);
    assert_eq!(news, known);
    assert_eq!(told(&mut news, 60, &failing("r1")), [], "it is the same failure");
}

#[test]
fn what_a_clock_says_is_still_to_come_is_not_old() {
    assert_eq!((age(at(50), at(0)), age(at(0), at(50))), (Duration::ZERO, Duration::from_secs(50)));
}

fn commit(subject: &str) -> Commit {
    let (author, email) = ("Ada".to_owned(), "ada@example.com".to_owned());
    Commit { id: "a".repeat(40), author, email, at: at(0), subject: subject.to_owned() }
}

#[test]
fn a_failure_names_what_failed_and_never_what_still_serves_well() {
    let mut news = News::default();
    let serving = View { commit: Some(commit("good")), ..failing("r1") };
    let mut with_commit = serving.clone();
    with_commit.failed.as_mut().unwrap().commit = Some(commit("broken"));
    let nothing_known = View {
        failed: Some(Failing { key: "words".into(), why: "no key".into(), revision: None, commit: None }),
        ..serving.clone()
    };
    let mut tell = |second, view: &View| {
        news.hear(&event(second, "a", "failed", "it ended"), at(second));
        assert!(news.is_new_failure("a", view.failed.as_ref().unwrap()));
        news.judge(at(second), |_| Some(view.clone()));
        assert!(!news.is_new_failure("a", view.failed.as_ref().unwrap()));
        let item = news.take(at(second + 3), false).remove(0);
        (item.revision, item.commit.map(|commit| commit.subject))
    };
    assert_eq!(tell(1, &with_commit), (Some("r1".into()), Some("broken".into())));
    assert_eq!(tell(10, &nothing_known), (None, None));
    let other = View { failed: failing("r2").failed, ..serving };
    assert_eq!(tell(20, &other), (Some("r2".into()), None));
}

#[test]
fn one_that_is_removed_or_suspended_is_not_said_to_serve() {
    let mut news = News::default();
    news.hear(&event(1, "a", "removed", "its folder is gone"), at(1));
    news.hear(&event(1, "b", "suspended", "its folder says so"), at(1));
    let suspended = View { is_suspended: true, commit: Some(commit("No more of this")), ..well(0) };
    news.judge(at(2), |_| Some(suspended.clone()));
    let told: Vec<_> = news.take(at(5), false).into_iter().map(|item| (item.how, item.what)).collect();
    let removed = (Some(How::Removed), "removed: its folder is gone".to_owned());
    assert_eq!(told, [removed, (Some(How::Suspended), "suspended: No more of this".to_owned())]);
}

#[test]
fn a_change_of_settings_is_told_as_one_and_names_no_commit_of_before() {
    let mut news = News::default();
    news.hear(&event(1, "a", "serving", "a new revision"), at(1));
    let view = View { because: Some("its settings have changed"), ..well(0) };
    assert_eq!(told(&mut news, 2, &view), [(NewsKind::Deployed, "its settings have changed".to_owned())]);
}

#[test]
fn a_source_that_is_followed_again_says_what_was_wrong_last() {
    let mut news = News::default();
    let rest = "what was placed last goes on being served";
    news.hear(&event(0, "-", "pull-trouble", &format!("team: unreachable: no route; {rest}")), at(0));
    news.hear(&event(50, "-", "pull-trouble", &format!("team: broken: b of main: a/main.py:1:1; {rest}")), at(50));
    let well = View { name: None, revision: None, since: Timestamp::MIN, ..well(0) };
    assert_eq!(told(&mut news, 60, &well), [], "it has to be well for a while");
    let healed = "source team: followed again; it was broken: b of main: a/main.py:1:1";
    assert_eq!(told(&mut news, 5000, &well), [(NewsKind::Healed, healed.to_owned())]);
}

#[test]
fn what_is_left_out_since_too_much_waits_is_counted() {
    let mut news = News::default();
    let long = "x".repeat(WORDS);
    for number in 0..2000 {
        news.hear(&event(1, &format!("a{number}"), "held", &long), at(1));
    }
    news.hear(&event(1, "b", "removed", &long), at(1));
    let items = news.take(at(10), false);
    assert!(items.len() > 500 && items.len() < 1000, "{}", items.len());
    let left_out = news.take_left_out(&items);
    assert_eq!(left_out, BTreeMap::from([(NewsKind::Held, 2000 - items.len()), (NewsKind::Deployed, 1)]));
    assert!(news.take_left_out(&[]).is_empty());
}
