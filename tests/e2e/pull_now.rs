//! `skep pull`, and stores that stay small whatever is forced into the remote.

use std::io::Read as _;
use std::path::Path;

use crate::apps::saying;
use crate::forge::Forge;
use crate::pull::{ADMIN_KEY, expect_placed, expect_trouble, follow, look};
use crate::world::{Ran, World};

#[track_caller]
fn says(ran: &Ran, all: &[&str]) {
    for text in all {
        assert!(ran.out.contains(text), "{text:?} is not in {ran:#?}");
    }
}

/// Runs `skep pull`, on the host of the daemon.
pub fn pull(world: &World, arguments: &[&str]) -> Ran {
    let mut skep = world.command(&[&["pull"], arguments].concat());
    Ran::of(skep.env("ADMIN_API_KEY", ADMIN_KEY).output().unwrap())
}

#[test]
fn whoever_asks_for_a_look_sees_what_comes_of_it_to_its_end() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    forge.code("hello", "one");
    follow(&world, &[format!("name: team, url: '{}', every: 1h", forge.url())]);
    world.expect_answer("hello", "/", "one");

    forge.code("hello", "two");
    let pulled = pull(&world, &[]).expect(0);
    let all = [
        "team  main at ",
        "hello says two, by Ada; 1 folder placed",
        "~ hello  update",
        "The one API is as the tree says.",
    ];
    says(&pulled, &all);
    assert!(pulled.err.contains("hello  serving, synced"), "{pulled:#?}");
    // What it has said holds at once.
    assert_eq!(world.get("hello", "/").expect(200).text(), "two");
    says(&pull(&world, &["team"]).expect(0), &["team  nothing new: main at ", "The one API is as the tree says."]);

    // For machines, and without waiting.
    forge.code("hello", "three");
    let json = pull(&world, &["--output", "json"]).expect(0).json();
    let source = &json["sources"][0];
    assert_eq!((&source["source"], &source["outcome"]), (&"team".into(), &"placed".into()), "{json}");
    assert_eq!(source["changed"], serde_json::json!(["hello"]));
    assert_eq!(json["applied"]["not_as_the_tree_says"], serde_json::json!([]));
    assert_eq!(world.get("hello", "/").text(), "three");
    forge.code("hello", "four");
    let placed = pull(&world, &["--nowait"]).expect(0);
    assert!(!placed.out.contains("as the tree says"), "{placed:#?}");
    world.expect_answer("hello", "/", "four");

    // What is not placed, and what is placed and does not serve, is no success.
    forge.write("apis/other/main.py", "def f(:\n");
    forge.code("hello", "five");
    let broken = pull(&world, &[]).expect(1);
    says(&broken, &["team  broken: ", "apis/other/main.py:1:7", "what was placed last goes on being served: main at "]);
    assert_eq!(world.get("hello", "/").text(), "four");
    forge.git(&["rm", "-r", "-f", "--quiet", "apis/other"]).expect(0);
    forge.write("apis/hello/main.py", &format!("{}raise SystemExit('no luck today')\n", saying("never")));
    forge.commit("Fail at once");
    forge.push();
    says(&pull(&world, &[]).expect(1), &["Fail at once, by Ada", "Not as the tree says: hello."]);
    assert_eq!(world.get("hello", "/").expect(200).text(), "four");

    let unknown = pull(&world, &["other"]).expect(1);
    assert!(unknown.err.contains("follows no source other; there are: team"), "{unknown:#?}");
    world.crash();
    let alone = pull(&world, &[]).expect(1);
    assert!(alone.err.contains("no daemon is at work here"), "{alone:#?}");
}

#[test]
fn a_folder_that_hands_took_away_is_put_back_and_one_that_they_changed_is_told_of() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    for id in ["hello", "three", "still"] {
        forge.write(&format!("apis/{id}/api.yaml"), "suspend: true\n");
        forge.write(&format!("apis/{id}/main.py"), &saying("one"));
    }
    forge.commit("All");
    forge.push();
    follow(&world, &[format!("name: team, url: '{}', every: 1h", forge.url())]);
    expect_placed(&world, "team", "All");
    says(&pull(&world, &["--nowait"]).expect(0), &["team  nothing new: main at "]);

    // Both, without any commit.
    std::fs::rename(world.root().join("apis/hello"), world.aside().join("hello")).unwrap();
    world.code("three", &saying("by hand"));
    let edited = "edited: somebody has changed three here by hand";
    says(
        &pull(&world, &["team", "--nowait"]).expect(1),
        &[edited, "what hands changed is served as it lies here, and the rest as it was placed last: main at "],
    );
    let by_hand = std::fs::read_to_string(world.root().join("apis/three/main.py")).unwrap();
    assert_eq!(by_hand, saying("by hand"), "what hands made stays");
    let back = std::fs::read_to_string(world.root().join("apis/hello/main.py")).unwrap();
    assert_eq!(back, saying("one"), "of what is gone nothing is lost");
    let status = world.run(&["status"]).expect(0).out;
    assert!(status.contains("somebody has changed three here by hand"), "{status}");
    // It is no news each time, and commits to other folders go ahead meanwhile.
    says(&pull(&world, &["--nowait"]).expect(1), &[edited]);
    let events = || world.run(&["events", "-n", "200"]).expect(0).out;
    assert_eq!(events().matches("pull-trouble").count(), 1, "{}", events());
    assert!(events().contains("team: puts back hello, which somebody changed or removed here by hand"), "{}", events());
    forge.code("hello", "two");
    says(&pull(&world, &["--nowait"]).expect(1), &[edited, "hello says two"]);
    assert_eq!(std::fs::read_to_string(world.root().join("apis/hello/main.py")).unwrap(), saying("two"));
    assert_eq!(std::fs::read_to_string(world.root().join("apis/three/main.py")).unwrap(), saying("by hand"));

    // Put back, all is well again; and one that is taken away while a commit comes lies there with it.
    world.code("three", &saying("one"));
    says(&pull(&world, &["--nowait"]).expect(0), &["team  nothing new: main at "]);
    assert!(events().contains("pull-recovered"), "{}", events());
    std::fs::remove_dir_all(world.root().join("apis/still")).unwrap();
    forge.code("three", "two");
    says(&pull(&world, &["--nowait"]).expect(0), &["three says two, by Ada; 2 folders placed"]);
    assert!(world.root().join("apis/still/main.py").exists());

    // A daemon after this one sees what was done while none was there; where hands' work may go, it goes.
    world.crash();
    world.code("three", &saying("by hand"));
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    world.write("skep.yaml", &settings.replace("every: 1h", "every: 1h, overwrite: true"));
    world.serve_with(&[("ADMIN_API_KEY", ADMIN_KEY)]);
    world.until("it is put back", || {
        std::fs::read_to_string(world.root().join("apis/three/main.py")).unwrap() == saying("two")
    });
    says(&pull(&world, &["--nowait"]).expect(0), &["team  nothing new: main at "]);
}

/// Bytes that cannot be made smaller.
fn noise() -> Vec<u8> {
    let mut bytes = vec![0; 700 << 10];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() }).sum()
}

#[test]
fn a_store_stays_small_whatever_is_forced_into_the_remote() {
    const ROUNDS: u64 = 16;
    const MIB: u64 = 1 << 20;
    let world = World::new();
    let forge = Forge::new(&world, "team");
    forge.set("uploadpack.allowFilter", "true");
    // Placed, and not run: what is looked at is the store.
    forge.write("apis/hello/api.yaml", "suspend: true\n");
    forge.code("hello", "one");
    follow(&world, &[format!("name: team, url: '{}', every: 1h, max_size: 1MiB", forge.url())]);
    expect_placed(&world, "team", "hello says one");
    let store = world.state().join("pull/team/git");
    let mut largest = 0;
    for round in 0..ROUNDS {
        std::fs::write(forge.folder.join("apis/hello/noise.bin"), noise()).unwrap();
        forge.git(&["add", "-A"]).expect(0);
        forge.git(&["commit", "--quiet", "--amend", "-m", &format!("Round {round}")]).expect(0);
        forge.push();
        pull(&world, &["--nowait"]).expect(0);
        expect_placed(&world, "team", &format!("Round {round}"));
        largest = largest.max(size(&store));
    }
    // As much as may be kept, and what may come at once.
    assert!(largest < 6 * MIB && ROUNDS * 700 * 1024 > 10 * MIB, "{largest} bytes");

    // What is there is enough to go on with: the next commit is not taken for another history, and hands are seen.
    assert!(store.join("renewed").is_file());
    forge.code("hello", "two");
    pull(&world, &["--nowait"]).expect(0);
    assert!(expect_placed(&world, "team", "hello says two")["placed"]["note"].is_null());
    world.code("hello", &saying("by hand"));
    forge.code("hello", "three");
    look(&world);
    expect_trouble(&world, "team", "edited", "somebody has changed hello here by hand");
    world.code("hello", &saying("two"));
    look(&world);
    expect_placed(&world, "team", "hello says three");

    // Commits that are never placed leave no more behind.
    for round in 0..ROUNDS {
        std::fs::write(forge.folder.join("apis/hello/noise.bin"), noise()).unwrap();
        forge.write("apis/hello/main.py", "def f(:\n");
        forge.git(&["add", "-A"]).expect(0);
        forge.git(&["commit", "--quiet", "--amend", "-m", &format!("Broken {round}")]).expect(0);
        forge.push();
        pull(&world, &["--nowait"]).expect(1);
        largest = largest.max(size(&store));
    }
    assert!(largest < 6 * MIB, "{largest} bytes");
    forge.git(&["rm", "--quiet", "-f", "apis/hello/noise.bin"]).expect(0);
    forge.code("hello", "four");
    pull(&world, &["--nowait"]).expect(0);
    expect_placed(&world, "team", "hello says four");
}
