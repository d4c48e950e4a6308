//! Callers with a key that keep asking one API, and expect nothing but good answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::http::{Reply, Request};
use crate::world::World;

/// How many ask at once.
const CALLERS: usize = 4;

/// Callers that keep asking.
pub struct Callers {
    request: Request,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Callers {
    /// Some that ask that API with that key, from now on.
    pub fn start(world: &World, id: &str, key: &str) -> Self {
        let request = Request::get(format!("/run/{id}/")).key(key);
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let caller = |_| {
            let (request, stop, answered) = (request.clone(), Arc::clone(&stop), Arc::clone(&answered));
            let address = world.address();
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let reply = request.send(address);
                    assert_eq!(reply.status, 200, "{}", reply.text());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let threads = (0..CALLERS).map(caller).collect();
        Self { request, stop, answered, threads }
    }

    /// One more question, which is counted like the others.
    #[track_caller]
    pub fn ask(&self, world: &World) -> Reply {
        let reply = world.send(&self.request).expect(200);
        self.answered.fetch_add(1, Ordering::Relaxed);
        reply
    }

    /// Lets them end; how many good answers there were, and no others.
    #[track_caller]
    pub fn end(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.threads.drain(..) {
            caller.join().expect("no caller has seen anything but good answers");
        }
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Callers {
    fn drop(&mut self) {
        // Of a test that fails: they need not go on.
        self.stop.store(true, Ordering::Relaxed);
    }
}
