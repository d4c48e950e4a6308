//! An event is one thing that happens in a history: a user's action, a hand on the world, a fault, or the daemons at work.
//!
//! Each says all about itself, so that a history goes on making sense when some of its events are left out.

use std::fmt;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

use super::faults::{FAULTS, Fault};
use super::parts::BEHAVIOURS;

pub const IDS: [&str; 3] = ["a", "b", "c"];

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A folder says this from now on; where nobody is `heard` of it, the daemons do not know yet.
    Push { id: usize, app: App, is_heard: bool },
    /// Other limits, which restart nothing.
    Limits { id: usize, requests: u32 },
    /// Another number of instances.
    Scale { id: usize, replicas: u16 },
    /// No folder any more.
    RemoveFolder { id: usize },
    /// A folder that cannot be read.
    BreakFolder { id: usize },
    /// The folder of one API becomes that of another.
    Rename { from: usize, to: usize },
    /// A word to leave it as it is.
    Hold { id: usize },
    /// The end of that.
    Release { id: usize },
    /// A word to go back to the `back`th revision that served.
    Rollback { id: usize, back: usize },
    /// A hand on its row.
    EditRow { id: usize, edit: Edit },
    /// A hand on the `nth` container.
    Meddle { nth: usize, meddling: Meddling },
    /// Every image is gone.
    ImagesGone,
    /// One round of cleaning up.
    CleanUp,
    /// A caller's request, which stays open.
    Request { id: usize, daemon: usize },
    /// The end of all requests.
    RequestsEnd,
    /// Nothing happens for a while.
    Pass { seconds: u64 },
    /// A daemon starts; where it was there, it ends first.
    Boot { daemon: usize },
    /// A daemon ends in the middle of whatever it does; what it has sent `is_late`, and arrives when it is gone.
    Crash { daemon: usize, is_late: bool },
    /// A daemon is not given the processor any more.
    Pause { daemon: usize },
    /// It goes on where it was.
    Resume { daemon: usize },
    /// A daemon that stands by has seen no sign of life of the other for long enough.
    TakeOver { daemon: usize },
    /// Of the calls to come, some fail.
    Fault { after: u64, count: u64, fault: Fault },
    /// The next lists of instances say what is now.
    StaleLists { count: u32 },
    /// The daemons are at work, call by call, in the order that the number says.
    Calls { count: u32, order: u64 },
    /// The daemons are at work, a turn at a time.
    Turns { count: u32, order: u64 },
    /// The daemons come to rest.
    Rest,
}

/// What is in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct App {
    pub version: u32,
    pub behaviour: &'static str,
    pub replicas: u16,
    pub suspend: bool,
}

/// What a hand does to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit {
    Delete,
    Status,
    ForgetServed,
    ForgetFailures,
}

/// What a hand does to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meddling {
    Remove,
    Kill,
    Pause,
    Disconnect,
    Alter,
    OutOfMemory,
}

impl Event {
    /// Whether it is somebody's will, and not a fault.
    pub fn is_wanted(&self) -> bool {
        matches!(
            self,
            Self::Push { .. }
                | Self::Limits { .. }
                | Self::Scale { .. }
                | Self::RemoveFolder { .. }
                | Self::BreakFolder { .. }
                | Self::Rename { .. }
                | Self::Hold { .. }
                | Self::Release { .. }
                | Self::Rollback { .. }
                | Self::EditRow { .. }
                | Self::Meddle { .. }
                | Self::ImagesGone
        )
    }
}

/// How a history is made up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// All happens at any time.
    Wild,
    /// The daemons come to rest before each thing that somebody wants, so that the end and the effects are those of the
    /// history without its faults.
    Calm,
}

pub struct Maker {
    random: SmallRng,
    /// Only apps that come to serve.
    is_good: bool,
}

impl Maker {
    pub fn new(seed: u64) -> Self {
        Self { random: SmallRng::seed_from_u64(seed), is_good: false }
    }

    /// The events of a history of that kind.
    pub fn history(&mut self, kind: Kind) -> Vec<Event> {
        let mut events = vec![Event::Boot { daemon: 0 }];
        match kind {
            Kind::Wild => {
                for _ in 0..self.random.random_range(3..18) {
                    let event = match self.random.random_range(0..100) {
                        0..55 => self.wanted(),
                        55..80 => self.trouble(),
                        80..85 => self.quiet(),
                        _ => self.work(),
                    };
                    let is_wanted = event.is_wanted();
                    events.push(event);
                    if is_wanted && self.random.random_bool(0.75) {
                        events.push(self.work());
                    }
                }
            }
            Kind::Calm => {
                self.is_good = self.random.random_bool(0.7);
                for _ in 0..self.random.random_range(1..5) {
                    events.push(self.wanted());
                    for _ in 0..self.random.random_range(1..6) {
                        events.push(self.trouble());
                        events.push(self.work());
                    }
                }
            }
        }
        events
    }

    /// Pushes and hands on the world alone, for a plan to be made of.
    pub fn wishes(&mut self) -> Vec<Event> {
        let count = self.random.random_range(1..15);
        let boot = Event::Boot { daemon: 0 };
        let others = (0..count).flat_map(|_| {
            let turns = Event::Turns { count: self.random.random_range(0..8), order: self.random.random() };
            [self.wanted(), turns]
        });
        [boot].into_iter().chain(others.collect::<Vec<_>>()).collect()
    }

    fn id(&mut self) -> usize {
        self.random.random_range(0..IDS.len())
    }

    fn app(&mut self) -> App {
        let is_good = self.is_good || self.random.random_bool(0.8);
        App {
            version: self.random.random_range(0..3),
            behaviour: if is_good { BEHAVIOURS[self.random.random_range(0..8) / 6] } else { self.any(&BEHAVIOURS) },
            replicas: self.random.random_range(1..4),
            suspend: self.random.random_bool(0.07),
        }
    }

    fn any<T: Copy>(&mut self, of: &[T]) -> T {
        *of.choose(&mut self.random).unwrap()
    }

    fn wanted(&mut self) -> Event {
        let id = self.id();
        match self.random.random_range(0..100) {
            0..48 => Event::Push { id, app: self.app(), is_heard: self.random.random_bool(0.8) },
            48..51 => Event::Limits { id, requests: self.random.random_range(1..4) },
            51..54 => Event::Scale { id, replicas: self.random.random_range(1..4) },
            54..60 => Event::RemoveFolder { id },
            60..63 => Event::BreakFolder { id },
            63..67 => Event::Rename { from: id, to: self.id() },
            67..71 => Event::Hold { id },
            71..74 => Event::Release { id },
            74..78 => Event::Rollback { id, back: self.random.random_range(0..3) },
            78..83 => {
                let edits = [Edit::Delete, Edit::Status, Edit::ForgetServed, Edit::ForgetFailures];
                Event::EditRow { id, edit: self.any(&edits) }
            }
            83..97 => {
                use Meddling::{Alter, Disconnect, Kill, OutOfMemory, Pause, Remove};
                let meddling = self.any(&[Remove, Kill, Pause, Disconnect, Alter, OutOfMemory]);
                Event::Meddle { nth: self.random.random_range(0..8), meddling }
            }
            _ => Event::ImagesGone,
        }
    }

    fn trouble(&mut self) -> Event {
        let daemon = self.random.random_range(0..2);
        match self.random.random_range(0..100) {
            0..16 => Event::Crash { daemon, is_late: self.random.random_bool(0.3) },
            16..32 => Event::Boot { daemon },
            32..42 => Event::Pause { daemon },
            42..50 => Event::Resume { daemon },
            50..62 => Event::TakeOver { daemon },
            62..85 => {
                let count = if self.random.random_bool(0.8) { 1 } else { self.random.random_range(2..20) };
                Event::Fault { after: self.random.random_range(0..25), count, fault: self.any(&FAULTS) }
            }
            85..90 => Event::StaleLists { count: self.random.random_range(1..4) },
            90..95 => Event::Request { id: self.id(), daemon },
            95..97 => Event::RequestsEnd,
            _ => Event::Pass { seconds: self.random.random_range(1..60) },
        }
    }

    fn quiet(&mut self) -> Event {
        match self.random.random_range(0..4) {
            0 => Event::Pass { seconds: self.random.random_range(1..900) },
            1 => Event::CleanUp,
            2 => Event::Request { id: self.id(), daemon: self.random.random_range(0..2) },
            _ => Event::Rest,
        }
    }

    fn work(&mut self) -> Event {
        let order = self.random.random_range(0..1 << 20);
        if self.random.random_bool(0.7) {
            Event::Calls { count: self.random.random_range(1..80), order }
        } else {
            Event::Turns { count: self.random.random_range(1..12), order }
        }
    }
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, behaviour, replicas, suspend } = self;
        write!(f, "version {version}, {behaviour} ×{replicas}{}", if *suspend { ", suspended" } else { "" })
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Push { id, app, is_heard } => {
                write!(f, "push {}: {app}{}", IDS[*id], if *is_heard { "" } else { "; nobody hears of it" })
            }
            Self::Limits { id, requests } => write!(f, "limit {} to {requests} requests a second", IDS[*id]),
            Self::Scale { id, replicas } => write!(f, "scale {} to {replicas}", IDS[*id]),
            Self::RemoveFolder { id } => write!(f, "remove the folder of {}", IDS[*id]),
            Self::BreakFolder { id } => write!(f, "break the folder of {}", IDS[*id]),
            Self::Rename { from, to } => write!(f, "rename {} to {}", IDS[*from], IDS[*to]),
            Self::Hold { id } => write!(f, "hold {}", IDS[*id]),
            Self::Release { id } => write!(f, "release {}", IDS[*id]),
            Self::Rollback { id, back } => write!(f, "roll {} back by {back}", IDS[*id]),
            Self::EditRow { id, edit } => write!(f, "a hand on the row of {}: {edit:?}", IDS[*id]),
            Self::Meddle { nth, meddling } => write!(f, "a hand on container {nth}: {meddling:?}"),
            Self::ImagesGone => write!(f, "all images are gone"),
            Self::CleanUp => write!(f, "clean up"),
            Self::Request { id, daemon } => write!(f, "a request to {} at daemon {daemon}", IDS[*id]),
            Self::RequestsEnd => write!(f, "all requests end"),
            Self::Pass { seconds } => write!(f, "{seconds} s pass"),
            Self::Boot { daemon } => write!(f, "daemon {daemon} starts"),
            Self::Crash { daemon, is_late } => {
                write!(f, "daemon {daemon} crashes{}", if *is_late { "; what it has sent arrives later" } else { "" })
            }
            Self::Pause { daemon } => write!(f, "daemon {daemon} falls asleep"),
            Self::Resume { daemon } => write!(f, "daemon {daemon} wakes up"),
            Self::TakeOver { daemon } => write!(f, "daemon {daemon} takes over"),
            Self::Fault { after, count, fault } => write!(f, "{after} calls from now, for {count}: it {fault}"),
            Self::StaleLists { count } => write!(f, "{count} lists will say what is now"),
            Self::Calls { count, order } => write!(f, "{count} half calls, in order {order}"),
            Self::Turns { count, order } => write!(f, "{count} turns, in order {order}"),
            Self::Rest => write!(f, "all come to rest"),
        }
    }
}
