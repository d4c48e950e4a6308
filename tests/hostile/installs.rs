//! What the neighbours of an install notice that eats everything it can get.

use std::time::Duration;

use crate::alone;
use crate::bombs;
use crate::cloud::{Cloud, MIRROR};
use crate::neighbours::{NEIGHBOUR, resident};
use crate::world::World;

const INDEX: &str = include_str!("apps/index.py");

/// More pigeons than any resolver settles within the time that an install has.
const PIGEONS: usize = 40;

const DEFAULTS: &str = "defaults:\n  route: { public: true }\n";

#[test]
fn an_install_that_never_ends_is_ended_and_neighbours_see_no_error() {
    let _alone = alone();
    let world = World::new();
    world.code("neighbour", NEIGHBOUR);
    world.serve();
    world.expect_answer("neighbour", "/", "quiet");
    // What serves needs no index any more; what is new gets one that only skep's own bridges reach.
    world.interrupt();
    let mut cloud = Cloud::open(&["i", "n"].map(|letter| format!("sk{}{letter}", &world.owner()[..8])));
    cloud.serve(&["-c", INDEX, &PIGEONS.to_string()]);
    let build = format!("build: {{ index_url: \"http://{MIRROR}:8080/simple/\", timeout: 15s }}\n");
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    world.write("skep.yaml", &(build + &settings));
    world.serve();
    world.expect_answer("neighbour", "/", "quiet");

    let wants: String = (0..PIGEONS).map(|pigeon| format!("pigeon{pigeon}\n")).collect();
    world.write("apis/eater/requirements.txt", &wants);
    world.code("eater", NEIGHBOUR);
    let seen = bombs::load(world.address(), "/run/neighbour/", Duration::from_secs(20));
    assert!(seen.errors.is_empty(), "{:#?}", seen.errors);
    let status = world.wait("the install is given up", || {
        Some(world.status("eater")).filter(|status| status["health"] == "missing" && status["message"] != "")
    });
    let message = world.wait("it says why", || {
        let message = world.status("eater")["message"].as_str().unwrap_or_default().to_owned();
        (message.contains("longer than") || message.contains("memory")).then_some(message)
    });
    println!("{status:#}\n{message}");
    assert_eq!(world.get("neighbour", "/").expect(200).text(), "quiet");
}

#[test]
fn a_folder_as_large_as_it_may_be_is_built_beside_neighbours_who_see_no_error() {
    let _alone = alone();
    let world = World::new();
    world.write("skep.yaml", &World::apart(DEFAULTS));
    world.code("neighbour", NEIGHBOUR);
    world.serve();
    world.expect_answer("neighbour", "/", "quiet");
    // 990 files of 100 KiB; a folder may have 1000, and 100 MiB.
    let text = "#".repeat(100 << 10);
    for number in 0..990 {
        world.write(&format!("apis/large/data/{}/{number}.txt", number % 30), &text);
    }
    world.code("large", NEIGHBOUR);
    let seen = bombs::load(world.address(), "/run/neighbour/", Duration::from_secs(10));
    let memory = resident(world.pid());
    assert!(seen.errors.is_empty(), "{:#?}", seen.errors);
    // Its files are in memory once as they are and once as they are packed, on their way.
    assert!(memory < 500 << 20, "the daemon has {} MiB", memory >> 20);
    world.expect_answer("large", "/", "quiet");
    assert_eq!(world.get("neighbour", "/").expect(200).text(), "quiet");
}
