//! Explaining an API: which commit it is and whose, whatever little of the history is here; and what keeps it from being another.

use serde_json::Value;

use crate::apps::saying;
use crate::forge::Forge;
use crate::pull::{expect_placed, expect_trouble, follow, look};
use crate::world::World;

/// What is explained of an API, for machines.
#[track_caller]
fn explained(world: &World, id: &str) -> Value {
    world.run(&["explain", id, "--output", "json"]).expect(0).json()
}

/// What is explained of an API, for people; all of that stands there.
#[track_caller]
fn explains(world: &World, id: &str, all: &[&str]) -> String {
    let text = world.run(&["explain", id]).expect(0).out;
    for part in all {
        assert!(text.contains(part), "{part:?} is not in {text}");
    }
    text
}

#[track_caller]
fn origin(world: &World, id: &str) -> Value {
    world.run(&["history", id, "--output", "json"]).expect(0).json()["revisions"][0]["origin"].clone()
}

/// A forge in which Alice has made two APIs, and Bob has changed one.
fn forge_of_two(world: &World, filters: &str) -> Forge {
    let mut forge = Forge::new(world, "team");
    forge.set("uploadpack.allowFilter", filters);
    forge.with = vec!["user.name=Alice".to_owned()];
    forge.write("apis/pp/main.py", &saying("pp"));
    forge.write("apis/qq/main.py", &saying("qq"));
    forge.commit("Add pp and qq");
    forge.with = vec!["user.name=Bob".to_owned()];
    forge.code("qq", "two");
    forge
}

#[test]
fn a_folder_is_of_whoever_changed_it_though_little_of_the_history_is_fetched() {
    let world = World::new();
    let forge = forge_of_two(&world, "true");
    follow(&world, &[format!("name: team, url: '{}', every: 1h", forge.url())]);
    world.expect_answer("pp", "/", "pp");
    world.expect_answer("qq", "/", "two");
    world.expect_rest("pp", "synced", "healthy");
    world.expect_rest("qq", "synced", "healthy");
    for (id, author) in [("pp", "Alice"), ("qq", "Bob")] {
        assert_eq!(explained(&world, id)["commit"]["author"], author);
        assert_eq!(origin(&world, id)["commit"]["author"], author);
    }
    let text = explains(&world, "pp", &["source", "team  branch main of", "Alice  Add pp and qq"]);
    assert!(!text.contains("Bob  "), "{text}");

    // Another commit, of another API, and settings that are nobody's commit.
    forge.code("qq", "three");
    look(&world);
    world.expect_answer("qq", "/", "three");
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    world.write("skep.yaml", &settings.replace("env: {", "env: { MORE: a,"));
    let before = explained(&world, "pp")["status"]["serving"].clone();
    world.until("it serves with other settings", || {
        let status = world.status("pp");
        status["sync"] == "synced" && status["serving"] != before
    });
    assert_eq!(explained(&world, "pp")["commit"]["author"], "Alice");
    let origin = origin(&world, "pp");
    assert_eq!((&origin["commit"]["author"], &origin["why"]), (&"Alice".into(), &"its settings have changed".into()));

    // Without a daemon, nothing is well.
    world.crash();
    let told = explained(&world, "pp");
    assert!(told["daemon"].is_null() && told["route"].is_null(), "{told:#}");
    assert_eq!(told["instances"][0]["routed"], false);
    let text = explains(&world, "pp", &["no daemon is at work: nothing is routed", "left to do but to start a daemon"]);
    assert!(!text.contains("callers reach it") && !text.contains("answers callers"), "{text}");
}

#[test]
fn where_it_is_not_known_who_changed_a_folder_nobody_is_named() {
    let world = World::new();
    let forge = forge_of_two(&world, "false");
    follow(&world, &[format!("name: team, url: '{}', every: 1h", forge.url())]);
    world.expect_answer("pp", "/", "pp");
    world.expect_rest("pp", "synced", "healthy");
    let head = forge.ask(&["rev-parse", "HEAD"]);
    let told = explained(&world, "pp");
    assert!(told["commit"].is_null() && told["as_of"] == head.as_str(), "{told:#}");
    let as_of = format!("as of {}; who changed it before that is not known", &head[..10]);
    let text = explains(&world, "pp", &[&as_of]);
    assert!(!text.contains("Bob  "), "{text}");
    let history = world.run(&["history", "pp"]).expect(0).out;
    assert!(history.contains(&as_of) && !history.contains("Bob"), "{history}");

    // What comes from then on is known.
    forge.code("qq", "three");
    look(&world);
    world.expect_answer("qq", "/", "three");
    world.expect_rest("qq", "synced", "healthy");
    assert_eq!(explained(&world, "qq")["commit"]["subject"], "qq says three");
    assert_eq!(explained(&world, "pp")["as_of"], head.as_str(), "and it stays the one that it was");
}

#[test]
fn a_merge_of_something_older_is_no_rewritten_history() {
    let world = World::new();
    let mut forge = Forge::new(&world, "team");
    forge.set("uploadpack.allowFilter", "true");
    let suspended = |forge: &Forge, id: &str| {
        forge.write(&format!("apis/{id}/api.yaml"), "suspend: true\n");
        forge.write(&format!("apis/{id}/main.py"), &saying(id));
        forge.commit(&format!("Add {id}"));
    };
    let at = |hour: u32, forge: &mut Forge| forge.date = Some(format!("2026-03-01T{hour:02}:00:00Z"));
    at(1, &mut forge);
    suspended(&forge, "root");
    at(2, &mut forge);
    forge.git(&["checkout", "--quiet", "-b", "branch"]).expect(0);
    suspended(&forge, "offered");
    at(3, &mut forge);
    forge.git(&["checkout", "--quiet", "main"]).expect(0);
    suspended(&forge, "more");
    forge.push();
    follow(&world, &[format!("name: team, url: '{}', every: 1h", forge.url())]);
    expect_placed(&world, "team", "Add more");
    at(4, &mut forge);
    forge.git(&["merge", "--quiet", "--no-ff", "-m", "Merge it", "branch"]).expect(0);
    forge.push();
    look(&world);
    let placed = expect_placed(&world, "team", "Merge it");
    assert!(placed["placed"]["note"].is_null(), "{placed}");
    world.until("it is there", || world.status("offered")["health"] == "stopped");
    assert_eq!(explained(&world, "offered")["commit"]["subject"], "Add offered");

    // What is rewritten still is.
    at(5, &mut forge);
    forge.git(&["commit", "--quiet", "--amend", "-m", "Merge it otherwise"]).expect(0);
    forge.push();
    look(&world);
    let placed = expect_placed(&world, "team", "Merge it otherwise");
    assert!(placed["placed"]["note"].as_str().unwrap_or_default().contains("history was rewritten"), "{placed}");
}

#[test]
fn what_keeps_an_api_from_being_as_somebody_wants_it_is_explained() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    for id in ["still", "goes"] {
        forge.write(&format!("apis/{id}/api.yaml"), "suspend: true\n");
        forge.write(&format!("apis/{id}/main.py"), &saying(id));
    }
    forge.commit("Add \u{202e}both");
    forge.push();
    follow(&world, &[format!("name: team, url: '{}', every: 1h", forge.url())]);
    world.expect_rest("still", "synced", "stopped");
    world.expect_rest("goes", "synced", "stopped");
    assert_eq!(explained(&world, "still")["suspended"], true);
    let steered = explains(&world, "still", &["suspend: true", "callers are told that it is paused", "both"]);
    assert!(!steered.contains('\u{202e}'), "{steered:?}");

    // Of a commit that is not let in, it is said that there is one; and whether hands were at work.
    forge.write("apis/still/main.py", "def f(:\n");
    forge.commit("Break it");
    forge.push();
    look(&world);
    expect_trouble(&world, "team", "broken", "apis/still/main.py");
    let short = forge.ask(&["rev-parse", "HEAD"])[..10].to_owned();
    explains(&world, "still", &["source", "team  branch main of", "broken for ", &short, "apis/still/main.py:1:7"]);
    assert_eq!(explained(&world, "still")["edited"], false);
    world.write("apis/still/main.py", &saying("by hand"));
    let told = explained(&world, "still");
    assert!(
        told["edited"] == true && told["commit"].is_null() && told["source"]["trouble"]["kind"] == "broken",
        "{told:#}"
    );
    explains(&world, "still", &["somebody has changed its folder here by hand"]);
    let nobody = world.run(&["explain", "nobody"]).expect(1);
    assert!(nobody.err.contains("no API nobody") && nobody.err.contains("source team is broken"), "{nobody:#?}");

    // What is gone is remembered.
    world.write("apis/still/main.py", &saying("still"));
    forge.git(&["rm", "-r", "-f", "--quiet", "apis/goes"]).expect(0);
    forge.write("apis/still/main.py", &saying("still"));
    forge.commit("Remove it");
    forge.push();
    look(&world);
    world.until("it is gone", || world.status("goes").is_null());
    explains(&world, "goes", &["is there no more", "removed"]);
    assert!(explained(&world, "goes")["status"].is_null());
}

#[test]
fn a_tag_is_called_as_it_is_called_now() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    forge.write("apis/hello/api.yaml", "suspend: true\n");
    forge.write("apis/hello/main.py", &saying("one"));
    forge.commit("One");
    let tags = |tags: &[&str]| forge.git(&[&["push", "--quiet", "origin"], tags].concat()).expect(0);
    forge.git(&["tag", "v1.0.0"]).expect(0);
    forge.git(&["tag", "v5.0.0"]).expect(0);
    tags(&["v1.0.0"]);
    follow(&world, &[format!("name: team, url: '{}', every: 1h, tags: 'v*'", forge.url())]);
    assert_eq!(expect_placed(&world, "team", "One")["placed"]["reference"], "v1.0.0");
    tags(&[":v1.0.0", "v5.0.0"]);
    look(&world);
    world.until("the other tag is known", || world.run(&["status"]).expect(0).out.contains("v5.0.0 at "));
}

#[test]
fn a_commit_of_a_distant_year_is_a_commit() {
    let world = World::new();
    let mut forge = Forge::new(&world, "team");
    forge.date = Some("@253402300800 +0000".to_owned());
    forge.write("apis/hello/api.yaml", "suspend: true\n");
    forge.code("hello", "one");
    follow(&world, &[format!("name: team, url: '{}', every: 1h", forge.url())]);
    let placed = expect_placed(&world, "team", "hello says one");
    assert!(
        placed["placed"]["note"].as_str().unwrap_or_default().contains("one of the two clocks is wrong"),
        "{placed}"
    );
}
