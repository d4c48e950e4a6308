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
fn pull(world: &World, arguments: &[&str]) -> Ran {
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
