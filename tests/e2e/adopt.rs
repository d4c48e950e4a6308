//! Taking over from the system before, whose containers go on running until somebody says otherwise.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use serde_json::Value;

use crate::apps::saying;
use crate::engine;
use crate::http::{Connection, Request};
use crate::world::World;

/// An id that no other test has: what is labelled with it is on an engine that all share.
fn unique(word: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{word}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A container of the system before, or of somebody else. Goes with the test.
struct Foreign(String);

impl Drop for Foreign {
    fn drop(&mut self) {
        engine::remove(&self.0);
    }
}

impl Foreign {
    /// As the system before started one for that API, which answers.
    fn before(image: &str, id: &str) -> Self {
        let started =
            Self(engine::start_predecessor(image, &format!("api-{id}"), &[("app", "api-builder"), ("api_id", id)]));
        let at = engine::published(&started.0);
        while !Request::get("/").try_send(at).is_ok_and(|reply| reply.status == 200) {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        started
    }

    fn is_running(&self) -> bool {
        engine::inspect(&self.0).expect("it is there").state.unwrap().running == Some(true)
    }

    /// Since when its processes run, which is another time once somebody has touched them.
    fn started(&self) -> Option<String> {
        engine::inspect(&self.0).expect("it is there").state.unwrap().started_at
    }
}

/// An image to make containers of that says of itself nothing that would make them ours.
fn image_of_before() -> String {
    let world = World::new();
    world.run(&["plan"]).expect(0);
    engine::base_image()
}

/// An app that runs and is never well.
fn unwell() -> String {
    saying("unwell").replace("\"status\": 200", "\"status\": 503")
}

/// The settings of these tests: callers need a key.
fn settings(world: &World, more: &str) {
    let defaults = "defaults:\n  health: { grace: 10m }\n  deploy: { drain: 5s }\n";
    world.write("skep.yaml", &format!("{}{more}", World::apart(defaults)));
}

/// What `skep adopt` says of the container of one API.
fn takeover(world: &World, name: &str) -> Value {
    let json = world.run(&["adopt", "--output", "json"]).expect(0).json();
    assert_eq!(json["version"], 1);
    json["containers"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned().unwrap_or_default()
}

/// Callers who ask without a pause until they are told to stop. Each asks anew when it has its answer, counts what it
/// gets, and never gets the old app again once it has had the new one.
struct Load {
    stop: Arc<AtomicBool>,
    callers: Vec<JoinHandle<(usize, usize)>>,
}

impl Load {
    fn on(at: SocketAddr, path: &str, key: &str, callers: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let request = Request::get(path).key(key);
        let caller = |_| {
            let (stop, request) = (Arc::clone(&stop), request.clone());
            std::thread::spawn(move || {
                let mut connection = Connection::open(at).unwrap();
                let (mut old, mut new) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    let reply = connection.ask(&request).unwrap().expect(200);
                    match reply.text().as_str() {
                        "old" if new == 0 => old += 1,
                        "new" => new += 1,
                        other => panic!("{other:?} after {old} old and {new} new answers"),
                    }
                }
                (old, new)
            })
        };
        let callers = (0..callers).map(caller).collect();
        Self { stop, callers }
    }

    /// How many answers of the old app there were, and of the new one.
    fn end(self) -> (usize, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.callers.into_iter().map(|caller| caller.join().expect("no caller was turned away"));
        ended.fold((0, 0), |(old, new), (more_old, more_new)| (old + more_old, new + more_new))
    }
}

#[test]
fn no_request_fails_while_skep_takes_over_and_theirs_is_stopped_only_when_told_to() {
    let image = image_of_before();
    let (id, paused) = (unique("shop"), unique("paused"));
    let name = format!("api-{id}");
    let theirs = Foreign::before(&image, &id);
    let others = [
        Foreign::before(&image, &paused),
        Foreign(engine::start_foreign(&image, &[])),
        Foreign(engine::start_foreign(&image, &[("app", "something-else"), ("api_id", &id)])),
        Foreign(engine::start_foreign(
            &image,
            &[("app", "api-builder"), ("dev.skep.owner", "000000000000"), ("api_id", &id)],
        )),
    ];
    let started: Vec<_> = others.iter().map(Foreign::started).collect();

    let world = World::new();
    settings(&world, "adopt: true\n");
    world.code(&id, &unwell());
    world.code(&paused, &saying("new"));
    world.settings(&paused, "suspend: true\n");
    let key = world.run(&["keys", "create", "--name", "caller"]).expect(0).out.trim().to_owned();
    world.serve();
    let second = world.serve_beside();

    // From the first request on, to either daemon.
    let ask = |at: SocketAddr, id: &str| Request::get(format!("/run/{id}/")).key(&key).send(at);
    for at in [world.address(), second.address] {
        assert_eq!(ask(at, &id).expect(200).text(), "old");
        Request::get(format!("/run/{id}/")).send(at).expect(401);
    }
    world.until("it is stopped", || ask(world.address(), &paused).status == 503);
    let loads = [
        Load::on(world.address(), &format!("/run/{id}/"), &key, 4),
        Load::on(world.address(), &format!("/run/{id}/slow"), &key, 4),
        Load::on(second.address, &format!("/run/{id}/"), &key, 2),
    ];

    world.until("ours is started", || !world.instances(&id).is_empty());
    let seen = takeover(&world, &name);
    assert_eq!(
        (&seen["state"], &seen["folder"], &seen["callers"]),
        (&"running".into(), &"sound".into(), &"theirs".into()),
        "{seen}"
    );
    assert_ne!(seen["ours"], "serving", "{seen}");
    let refused = world.run(&["adopt", "--stop", &id]).expect(1).out;
    assert!(refused.contains("not stopped") && refused.contains("does not serve yet"), "{refused}");
    assert!(theirs.is_running());
    assert_eq!(takeover(&world, &format!("api-{paused}"))["ours"], "stopped");
    world.run(&["adopt", "--stop", &paused]).expect(1);

    world.code(&id, &saying("new"));
    world.expect_rest(&id, "synced", "healthy");
    world.until("both daemons send callers to ours", || {
        [world.address(), second.address].iter().all(|at| ask(*at, &id).expect(200).text() == "new")
    });
    let seen = takeover(&world, &name);
    assert_eq!((&seen["ours"], &seen["callers"]), (&"serving".into(), &"ours".into()), "{seen}");
    let dry = world.run(&["adopt", "--stop", "--dry-run", &id]).expect(0).out;
    assert!(dry.contains("would be stopped") && theirs.is_running(), "{dry}");
    let done = world.run(&["adopt", "--stop", "--output", "json", &id]).expect(0).json();
    assert_eq!(done["containers"][0]["outcome"], "stopped", "{done}");
    assert!(!theirs.is_running());
    for load in loads {
        let (old, new) = load.end();
        assert!(old > 0 && new > 0, "{old} old and {new} new answers");
    }

    // It stays, and stays stopped.
    let policy = engine::inspect(&theirs.0).unwrap().host_config.unwrap().restart_policy.unwrap();
    assert_eq!(policy.name.unwrap().to_string(), "unless-stopped");
    assert!(world.run(&["adopt", "--stop", &id]).expect(0).out.contains("does not run"));
    assert_eq!(others.iter().map(Foreign::started).collect::<Vec<_>>(), started);
    assert!(others.iter().all(Foreign::is_running));
    let events = world.run(&["events", &id]).expect(0).out;
    assert!(events.contains("stand-in") && events.contains(&format!("docker start {name}")), "{events}");

    // Somebody who has started it again may have it stopped again.
    engine::start(&theirs.0);
    assert_eq!(takeover(&world, &name)["state"], "running");
    assert!(world.run(&["adopt", "--stop", &id]).expect(0).out.contains("is stopped"));
    assert!(!theirs.is_running());
}

#[test]
fn nobody_is_sent_to_a_container_that_skep_did_not_start_unless_the_settings_say_so() {
    let image = image_of_before();
    let (id, name) = (unique("hello"), unique("nobody"));
    let theirs = Foreign::before(&image, &id);
    let world = World::new();
    settings(&world, "");
    world.code(&id, &unwell());
    let key = world.run(&["keys", "create", "--name", "caller"]).expect(0).out.trim().to_owned();

    // Before there is a daemon.
    let seen = takeover(&world, &format!("api-{id}"));
    assert_eq!((&seen["ours"], &seen["callers"]), (&"missing".into(), &"nobody".into()), "{seen}");
    let refused = world.run(&["adopt", "--stop", &id]).expect(1).out;
    assert!(refused.contains("no daemon is at work") && theirs.is_running(), "{refused}");
    let refused = world.run(&["adopt", "--stop", &name]).expect(1).out;
    assert!(refused.contains("no container of"), "{refused}");

    world.serve();
    world.until("ours is started", || !world.instances(&id).is_empty());
    Request::get(format!("/run/{id}/")).key(&key).send(world.address()).expect(503);
    let seen = takeover(&world, &format!("api-{id}"));
    assert_eq!(seen["callers"], "nobody", "{seen}");
    Request::get(format!("/run/{id}/")).key(&key).send(world.address()).expect(503);
}

#[test]
fn a_label_that_makes_no_sense_is_named_and_keeps_no_other_from_being_taken_over() {
    let image = image_of_before();
    let (id, twin, lonely) = (unique("good"), unique("twin"), unique("lonely"));
    let start = |name: &str, labels: &[(&str, &str)]| {
        let labels = [&[("app", "api-builder")], labels].concat();
        Foreign(engine::start_predecessor(&image, name, &labels))
    };
    let odd = format!("Odd_{id}");
    let others = [
        start(&format!("{id}-none"), &[]),
        start(&format!("{id}-odd"), &[("api_id", &odd)]),
        start(&format!("{id}-one"), &[("api_id", &twin)]),
        start(&format!("{id}-two"), &[("api_id", &twin)]),
        start(&format!("{id}-lonely"), &[("api_id", &lonely)]),
    ];
    let theirs = Foreign::before(&image, &id);
    let world = World::new();
    settings(&world, "adopt: true\n");
    world.code(&id, &saying("new"));
    world.code(&twin, &unwell());
    let key = world.run(&["keys", "create", "--name", "caller"]).expect(0).out.trim().to_owned();
    world.serve();
    world.expect_rest(&id, "synced", "healthy");

    let said = |suffix: &str, key: &str| takeover(&world, &format!("{id}{suffix}"))[key].as_str().map(str::to_owned);
    assert!(said("-none", "problem").unwrap().contains("no label api_id"));
    assert!(said("-odd", "problem").unwrap().contains(&odd));
    for suffix in ["-one", "-two"] {
        let problem = said(suffix, "problem").unwrap();
        assert!(problem.contains(&format!("{id}-one and {id}-two")), "{problem}");
    }
    assert_eq!(said("-lonely", "problem"), None);
    assert_eq!(said("-lonely", "folder").unwrap(), "missing");
    assert!(said("-lonely", "next").unwrap().contains(&format!("apis/{lonely}/")));
    let table = world.run(&["adopt", &id, &twin]).expect(0).out;
    assert!(table.starts_with("CONTAINER") && table.contains(&format!("skep adopt --stop {id}")), "{table}");
    assert!(table.contains("say that they are of"), "{table}");
    // Which of two should answer, nobody knows.
    Request::get(format!("/run/{twin}/")).key(&key).send(world.address()).expect(503);

    let ran = world.run(&["adopt", "--stop", &id, &twin, &lonely]).expect(1).out;
    assert_eq!(ran.lines().filter(|line| line.contains("not stopped")).count(), 3, "{ran}");
    assert!(!theirs.is_running() && others.iter().all(Foreign::is_running));
}
