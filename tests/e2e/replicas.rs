//! Several instances of one API.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::apps::saying;
use crate::http::Request;
use crate::world::World;

/// Who answers: a container's host name is the beginning of its id.
fn who(world: &World) -> BTreeSet<String> {
    (0..30).map(|_| world.get("crowd", "/who").expect(200).text()).collect()
}

fn names(containers: &[String]) -> BTreeSet<String> {
    containers.iter().map(|id| id[..12].to_owned()).collect()
}

#[test]
fn requests_are_spread_and_scaling_restarts_nothing_that_may_stay() {
    let world = World::new();
    world.settings("crowd", "replicas: 3\n");
    world.code("crowd", &saying("one"));
    world.serve();
    world.expect_rest("crowd", "synced", "healthy");
    let three = world.containers("crowd");
    assert_eq!(three.len(), 3);
    assert_eq!(who(&world), names(&three));

    let stop = AtomicBool::new(false);
    let address = world.address();
    thread::scope(|scope| {
        let callers = [(); 2].map(|()| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    Request::get("/run/crowd/").send(address).expect(200);
                }
            })
        });
        let scale = || {
            world.settings("crowd", "replicas: 4\n");
            world.until("the fourth answers", || who(&world).len() == 4);
            let four = world.containers("crowd");
            assert!(three.iter().all(|id| four.contains(id)), "{three:?} should be among {four:?}");

            world.settings("crowd", "replicas: 2\n");
            world.until("two are left", || world.instances("crowd").len() == 2);
            let two = world.containers("crowd");
            assert!(two.iter().all(|id| three.contains(id)), "{two:?} should be among {three:?}");
            assert_eq!(who(&world), names(&two));
        };
        let scaled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(scale));
        stop.store(true, Ordering::Relaxed);
        for caller in callers {
            caller.join().unwrap();
        }
        scaled.unwrap();
    });
}
