//! Who may call: keys that are made, rotated, revoked and declared while the daemon serves.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::apps::saying;
use crate::http::Request;
use crate::world::{Ran, World};

/// Within which a key that is taken back opens nothing.
const SOON: Duration = Duration::from_secs(1);

#[test]
fn keys_are_in_force_as_the_records_and_skep_yaml_say_within_a_second() {
    let world = World::new();
    world.code("hello", &saying("one"));
    world.settings("hello", "route: { auth: key }\n");
    let written = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    let plans = "plans: { free: { requests: 1000, per: 1h } }\n";
    world.write("skep.yaml", &format!("{written}{plans}"));
    world.serve();
    world.expect_rest("hello", "synced", "healthy");
    let ask = |key: &str| world.send(&Request::get("/run/hello/").key(key));
    let made = |arguments: &[&str]| world.run(arguments).expect(0).out.trim().to_owned();
    let refused_soon = |key: &str, since: Instant| {
        while ask(key).status != 401 {
            assert!(since.elapsed() < SOON, "it still opens after {:?}", since.elapsed());
        }
    };
    let list = || world.run(&["keys", "list", "--output", "json"]).expect(0).json();
    let named = |name: &str| {
        let list = list();
        list.as_array().unwrap().iter().filter(|key| key["name"] == name).cloned().collect::<Vec<_>>()
    };

    // On terms, and revoked.
    let key = made(&[
        "keys",
        "create",
        "--name",
        "shop",
        "--api",
        "hello",
        "--expires",
        "90d",
        "--method",
        "get",
        "--path",
        "/",
        "--plan",
        "free",
    ]);
    assert_eq!(ask(&key).header("ratelimit-policy"), Some("\"key\";q=1000;w=3600"));
    let posted = world.send(&Request::post("/run/hello/", b"x".to_vec()).key(&key)).expect(403).json();
    assert_eq!(posted["error"], "this key is not for that method");
    let shop = named("shop")[0].clone();
    assert_eq!((shop["plan"].as_str(), shop["methods"][0].as_str()), (Some("free"), Some("GET")));
    world.until("its use is written down", || named("shop")[0]["last_used"].is_string());

    // Rotated: both open, then the new one alone, on the same terms.
    let id = shop["id"].as_str().unwrap();
    let next = made(&["keys", "rotate", id, "--overlap", "2s"]);
    let since = Instant::now();
    assert_eq!((ask(&key).status, ask(&next).status), (200, 200));
    assert_eq!(named("shop").len(), 2);
    world.run(&["keys", "rotate", id]).expect(1);
    std::thread::sleep(Duration::from_secs(2).saturating_sub(since.elapsed()));
    refused_soon(&key, Instant::now());
    assert_eq!(ask(&next).status, 200);
    let next_id = named("shop")[0]["id"].as_str().unwrap().to_owned();
    world.run(&["keys", "revoke", &next_id]).expect(0);
    refused_soon(&next, Instant::now());

    // Declared by its hash alone, and taken out again.
    let own = "a key that somebody else has made, of enough characters";
    let own = own.replace([' ', ','], "-");
    let mut hashing = world.command(&["keys", "hash"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    hashing.stdin.take().unwrap().write_all(format!("{own}\n").as_bytes()).unwrap();
    let hash = Ran::of(hashing.wait_with_output().unwrap()).expect(0).out;
    let declared = format!("keys:\n- {{ name: declared, hash: {}, apis: [hello], plan: free }}\n", hash.trim());
    world.write("skep.yaml", &format!("{written}{plans}{declared}"));
    world.until("the declared key opens", || ask(&own).status == 200);
    let known = named("declared")[0].clone();
    assert_eq!(known["declared"], true);
    let refused = world.run(&["keys", "revoke", known["id"].as_str().unwrap()]).expect(1);
    assert!(refused.err.contains("declared in skep.yaml"), "{}", refused.err);
    world.write("skep.yaml", &format!("{written}{plans}"));
    refused_soon(&own, Instant::now());

    world.run(&["keys", "create", "--name", "x", "--plan", "fre"]).expect(1);
    world.run(&["keys", "create", "--name", "x", "--expires", "2020-01-01"]).expect(2);
    world.run(&["keys", "create", "--name", "x", "--limit", "60"]).expect(2);
}
