//! `skep doctor` on this host: sound, with its engine away, with its index away, with something left over.

use std::net::TcpListener;

use serde_json::Value;

use crate::apps::saying;
use crate::engine;
use crate::world::{Ran, World};

/// The check of that name.
#[track_caller]
fn check(ran: &Ran, name: &str) -> Value {
    let json = ran.json();
    assert_eq!(json["version"], 1);
    let checks = json["checks"].as_array().unwrap();
    checks.iter().find(|check| check["check"] == name).unwrap_or_else(|| panic!("no {name} in {json:#}")).clone()
}

fn problems(ran: &Ran) -> Vec<String> {
    let checks = ran.json()["checks"].as_array().unwrap().clone();
    checks.iter().filter(|check| check["outcome"] == "problem").map(ToString::to_string).collect()
}

/// An installation that is gone, and whose number comes before that of all others of the host.
const STRANGER: &str = "000000000000";

const JSON: [&str; 3] = ["doctor", "--output", "json"];

/// Where there is no base image yet, one is made, so that there is something to ask from.
fn with_base(world: &World) {
    world.run(&["plan"]).expect(0);
}

#[test]
fn a_host_that_serves_is_sound_and_the_daemon_is_seen() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.serve();
    world.expect_answer("hello", "/", "one");
    let ran = world.run(&JSON).expect(0);
    assert_eq!(problems(&ran), Vec::<String>::new());
    for name in
        ["engine", "storage", "limits", "disk", "networks", "base-image", "certificates", "records", "open-files"]
    {
        assert_eq!(check(&ran, name)["outcome"], "ok", "{name}: {:#}", ran.json());
    }
    let index = check(&ran, "index");
    assert!(index["found"].as_str().unwrap().contains("has what every API needs, asked from a container"), "{index:#}");
    let daemon = check(&ran, "daemon")["found"].as_str().unwrap().to_owned();
    assert!(daemon.contains(&world.pid().to_string()) && daemon.contains(&world.address().to_string()), "{daemon}");
    assert!(check(&ran, "records")["found"].as_str().unwrap().starts_with("1 API, "), "{:#}", ran.json());
    let left = check(&ran, "leftovers");
    assert_eq!((&left["outcome"], &left["found"]), (&"ok".into(), &"none".into()), "{left:#}");
    assert_eq!(
        check(&ran, "networks")["found"].as_str().unwrap().split(';').next(),
        Some("1 of ours, containers kept apart")
    );

    let text = world.run(&["doctor"]).expect(0).out;
    assert!(!text.contains('\u{1b}'), "colours where there is no terminal: {text}");
    assert!(text.contains("ok       engine") && text.contains("ok       base image"), "{text}");
}

#[test]
fn before_there_is_anything_a_look_leaves_nothing_behind() {
    let world = World::new();
    let before = engine::networks();
    let ran = world.run(&JSON).expect(0);
    assert!(!world.state().exists(), "a look has made a state folder");
    assert!(check(&ran, "records")["found"].as_str().unwrap().starts_with("none yet"), "{:#}", ran.json());
    // Other tests make theirs meanwhile, and have containers on them, or take them away again. One of a look that was
    // left behind would stay, and have none.
    world.until("no network of the look is left", || {
        let new = engine::networks().into_iter().filter(|name| !before.contains(name));
        new.into_iter().all(|name| {
            let owner = name.split('-').nth(1).unwrap_or_default();
            !engine::labelled(&[&format!("dev.skep.owner={owner}")]).is_empty()
        })
    });
}

#[test]
fn with_the_engine_away_there_is_one_problem_and_all_others_answer() {
    let world = World::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let nowhere = "unix:///nowhere/docker.sock";
    let output = world.command(&JSON).env("DOCKER_HOST", nowhere).output().unwrap();
    let ran = Ran::of(output).expect(1);
    assert_eq!(problems(&ran).len(), 1, "{:#}", ran.json());
    let engine = check(&ran, "engine");
    assert!(engine["found"].as_str().unwrap().contains(nowhere), "{engine:#}");
    assert!(engine["next"].to_string().contains("systemctl start docker"), "{engine:#}");
    for name in ["runtime", "storage", "networks", "base-image", "index", "leftovers"] {
        let check = check(&ran, name);
        assert_eq!(check["outcome"], "unknown", "{check:#}");
        assert!(check["found"].as_str().unwrap().contains("the engine does not answer"), "{check:#}");
    }
    for name in ["state-disk", "certificates", "records", "port", "open-files"] {
        assert_eq!(check(&ran, name)["outcome"], "ok", "{:#}", ran.json());
    }

    // A port that is taken, a file that is no bundle, a file that is no database, settings that cannot be: each for itself.
    world.write("skep.yaml", "build: { ca_bundle: house.pem }\nno_such_key: 1\n");
    world.write("house.pem", "nothing\n");
    std::fs::create_dir_all(world.state()).unwrap();
    std::fs::write(world.state().join("records.db"), "no database at all, whatever it is called\n".repeat(40)).unwrap();
    let mut command = world.command(&JSON);
    command.env("DOCKER_HOST", nowhere).env("SKEP_LISTEN", taken.local_addr().unwrap().to_string());
    let ran = Ran::of(command.output().unwrap()).expect(1);
    for (name, says) in [
        ("settings", "no_such_key"),
        ("certificates", "house.pem"),
        ("records", "not a database"),
        ("port", "another program's"),
    ] {
        let check = check(&ran, name);
        assert_eq!(check["outcome"], "problem", "{check:#}");
        assert!(check["found"].as_str().unwrap().contains(says), "{check:#}");
        assert!(!check["next"].as_array().unwrap().is_empty(), "{check:#}");
    }
}

#[test]
fn an_index_that_is_away_is_found_from_within_a_container() {
    let world = World::new();
    with_base(&world);
    let ask = |url: &str| Ran::of(world.command(&JSON).env("SKEP_INDEX_URL", url).output().unwrap()).expect(1);
    let ran = ask("http://someone:hunter2@127.0.0.1:9/simple");
    assert_eq!(problems(&ran).len(), 1, "{:#}", ran.json());
    let index = check(&ran, "index");
    let found = index["found"].as_str().unwrap();
    assert!(found.contains("http://127.0.0.1:9/simple") && found.contains("Connection refused"), "{index:#}");
    assert!(index["next"][0].as_str().unwrap().contains("the container itself"), "{index:#}");
    assert!(!ran.out.contains("hunter2") && !ran.err.contains("hunter2"), "{}", ran.out);

    let index = check(&ask("https://index.invalid/simple"), "index");
    assert!(index["found"].as_str().unwrap().contains("cannot resolve index.invalid"), "{index:#}");
    assert!(world.build_containers().is_empty(), "a look has left its container");
}

#[test]
fn what_is_left_over_is_found_and_fix_takes_it_away_and_nothing_else() {
    let world = World::new();
    with_base(&world);
    let owner = world.owner();
    let image = engine::base_image();
    let labels = [("dev.skep.owner", owner.as_str()), ("dev.skep.role", "build")];
    let (spent, working) = (engine::start_foreign(&image, &labels), engine::start_foreign(&image, &labels));
    engine::kill(&spent);
    let orphan = engine::start_foreign(
        &image,
        &[("dev.skep.owner", owner.as_str()), ("dev.skep.api", "gone"), ("dev.skep.number", "1")],
    );
    let stranger = engine::start_foreign(&image, &[("dev.skep.owner", STRANGER), ("dev.skep.role", "build")]);
    engine::kill(&stranger);
    let untagged = engine::commit_untagged(&working, &labels);

    let ran = world.run(&JSON).expect(0);
    let left = check(&ran, "leftovers");
    assert_eq!(left["outcome"], "warning", "{left:#}");
    for part in ["1 build container that ended", "1 untagged image", "1 instance of no API"] {
        assert!(left["found"].as_str().unwrap().contains(part), "no {part:?} in {left:#}");
    }
    assert!(left["next"].to_string().contains("skep doctor --fix"), "{left:#}");
    assert!(check(&ran, "other-installations").to_string().contains(STRANGER), "{:#}", ran.json());
    assert!(engine::inspect(&spent).is_some() && engine::has_image(&untagged), "a look has removed something");

    let fixed = world.run(&["doctor", "--fix", "--output", "json"]).expect(0);
    let left = check(&fixed, "leftovers");
    let found = left["found"].as_str().unwrap();
    assert!(
        found.starts_with("removed 1 build container and 1 untagged image; left: 1 instance of no API"),
        "{left:#}"
    );
    assert!(engine::inspect(&spent).is_none() && !engine::has_image(&untagged), "{left:#}");
    for kept in [&working, &orphan, &stranger] {
        assert!(engine::inspect(kept).is_some(), "{kept} is gone");
    }
    engine::remove(&stranger);
}
