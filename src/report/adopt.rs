//! The takeover from the system before: each of its containers, what ours is doing, and what to do next.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::status::ApiStatus;
use super::style::{BAD, BOLD, FAINT, GOOD, NAME, WARN, paint, plain};
use crate::reconcile::stand_in::Answers;
use crate::reconcile::status::Health;
use crate::tree::{ApiId, Folder};
use crate::world::{Predecessor, PredecessorState};

/// What `skep adopt --output json` prints. `version` goes up when a reader must change.
#[derive(Debug, Serialize, Deserialize)]
pub struct AdoptJson {
    /// Of this form.
    pub version: u32,
    /// Each container of the system before, in order of name.
    pub containers: Vec<Takeover>,
}

/// How far skep is with taking over from one container.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Takeover {
    /// What it is called.
    pub name: String,
    /// The engine's id of it.
    pub container: String,
    /// What its label says of which API it is.
    pub label: Option<String>,
    /// Which API that is; `None` where skep leaves it alone.
    pub api: Option<ApiId>,
    /// What its processes are doing.
    pub state: PredecessorState,
    /// Where this host reaches it, while it runs.
    pub address: Option<String>,
    /// What the tree has of that API.
    pub folder: FolderSeen,
    /// What ours is doing.
    pub ours: Ours,
    /// Whom callers of the gateway get.
    pub callers: Callers,
    /// Requests that the gateway has open to it.
    pub in_flight: u64,
    /// Why skep leaves it alone; `None` where it does not.
    pub problem: Option<String>,
    /// Why it must not be stopped now; `None` where it may be, or does not run.
    pub refusal: Option<String>,
    /// What to do next.
    pub next: String,
}

/// What the tree has of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FolderSeen {
    /// A folder that can be served.
    Sound,
    /// One that cannot.
    Broken,
    /// None.
    Missing,
    /// Nothing is known: the tree cannot be read.
    Unknown,
}

/// What ours is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ours {
    /// All its instances answer, and the route leads to them.
    Serving,
    /// Some do.
    Degraded,
    /// It is on its way.
    Starting,
    /// It was tried, and failed.
    Failed,
    /// It is not to run: suspended, or stopped.
    Stopped,
    /// There is nothing of it.
    Missing,
}

/// Whom callers of the gateway get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Callers {
    /// An instance of ours.
    Ours,
    /// The container of the system before, which stands in.
    Theirs,
    /// Nobody.
    Nobody,
}

/// What the daemon at work has of one API.
#[derive(Debug)]
pub struct Seen<'a> {
    /// How it is; `None` where it does not know it.
    pub status: Option<&'a ApiStatus>,
    /// Who answers its callers.
    pub answers: Answers,
    /// Requests that it has open to the old container.
    pub in_flight: u64,
}

impl Takeover {
    /// Of one container, from what the tree and the daemon have of its API. Without a daemon, nothing of ours serves.
    #[must_use]
    pub fn of(predecessor: &Predecessor, folder: FolderSeen, seen: Option<&Seen<'_>>) -> Self {
        let ours = seen.and_then(|seen| seen.status).map_or(Ours::Missing, Ours::of);
        let callers = match seen.map(|seen| seen.answers) {
            Some(Answers::Ours) => Callers::Ours,
            Some(Answers::Theirs) => Callers::Theirs,
            Some(Answers::Nobody) | None => Callers::Nobody,
        };
        let (refusal, next) = judge(predecessor, folder, ours, callers, seen.is_some());
        Self {
            name: predecessor.name.clone(),
            container: predecessor.container.to_string(),
            label: predecessor.label.clone(),
            api: predecessor.api.as_ref().ok().cloned(),
            state: predecessor.state,
            address: predecessor.address.map(|address| address.to_string()),
            folder,
            ours,
            callers,
            in_flight: seen.map_or(0, |seen| seen.in_flight),
            problem: predecessor.api.as_ref().err().cloned(),
            refusal,
            next,
        }
    }
}

impl FolderSeen {
    /// What a tree that could be read has of an API.
    #[must_use]
    pub fn of(folder: Option<&Folder>) -> Self {
        match folder {
            Some(Folder::Sound(_)) => Self::Sound,
            Some(Folder::Broken(_)) => Self::Broken,
            None => Self::Missing,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Broken => "broken",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }
}

impl Ours {
    fn of(status: &ApiStatus) -> Self {
        match status.status.health {
            Health::Healthy if status.serving.is_some() => Self::Serving,
            Health::Degraded => Self::Degraded,
            Health::Healthy | Health::Progressing => Self::Starting,
            Health::Stopped => Self::Stopped,
            Health::Missing if status.failure.is_some() => Self::Failed,
            Health::Missing => Self::Missing,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Degraded => "degraded",
            Self::Starting => "starting",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
            Self::Missing => "missing",
        }
    }

    fn style(self) -> anstyle::Style {
        match self {
            Self::Serving => GOOD,
            Self::Degraded | Self::Starting => WARN,
            Self::Failed | Self::Missing => BAD,
            Self::Stopped => FAINT,
        }
    }
}

impl Callers {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Theirs => "theirs",
            Self::Nobody => "nobody",
        }
    }
}

/// Why it must not be stopped now, if it runs, and what to do next.
fn judge(
    predecessor: &Predecessor,
    folder: FolderSeen,
    ours: Ours,
    callers: Callers,
    has_daemon: bool,
) -> (Option<String>, String) {
    let name = &predecessor.name;
    let runs = predecessor.state != PredecessorState::Stopped;
    let id = match &predecessor.api {
        Err(why) => {
            let next = "put that right, or leave it to the old system";
            return (runs.then(|| why.clone()), next.to_owned());
        }
        Ok(id) => id,
    };
    let serves = ours == Ours::Serving && callers == Callers::Ours;
    let (refusal, next) = match (folder, ours) {
        _ if serves && runs => (None, format!("ours serves; stop theirs with `skep adopt --stop {id}`")),
        _ if serves => (None, format!("taken over; `docker rm {name}` when you will not go back")),
        (FolderSeen::Missing, _) => (
            Some(format!("the tree has no folder for {id}")),
            format!("add apis/{id}/ to the tree, or leave it to the old system"),
        ),
        (FolderSeen::Broken, _) => (
            Some(format!("the folder of {id} is broken")),
            "`skep check` says what is wrong with its folder".to_owned(),
        ),
        _ if !has_daemon => {
            (Some("no daemon is at work, so nothing of ours serves".to_owned()), "start `skep serve`".to_owned())
        }
        (FolderSeen::Unknown, _) => {
            (Some("the tree cannot be read".to_owned()), "`skep check` says why the tree cannot be read".to_owned())
        }
        (_, Ours::Failed) => {
            (Some(format!("{id} of ours has failed")), format!("`skep status {id}` says why it failed"))
        }
        (_, Ours::Stopped) => (
            Some(format!("{id} of ours is suspended or stopped")),
            format!("`skep status {id}` says who suspended it; `skep release {id}` ends a stop"),
        ),
        (_, Ours::Degraded) => (
            Some(format!("not all instances of {id} of ours answer")),
            format!("`skep status {id}` says what is wrong"),
        ),
        (_, Ours::Serving | Ours::Starting | Ours::Missing) => (
            Some(format!("{id} of ours does not serve yet")),
            format!("wait until ours serves; `skep status {id}` says how far it is"),
        ),
    };
    (refusal.filter(|_| runs), next)
}

/// Takeovers as a table, with colours.
#[must_use]
pub fn table(containers: &[Takeover]) -> String {
    if containers.is_empty() {
        return "No container of the system before is on this engine (label app=api-builder).\n".to_owned();
    }
    let name = |takeover: &Takeover| plain(&takeover.name);
    let label = |takeover: &Takeover| takeover.label.as_deref().map_or_else(|| "-".to_owned(), plain);
    let address = |takeover: &Takeover| takeover.address.clone().unwrap_or_else(|| "-".to_owned());
    let width = |heading: &str, cell: &dyn Fn(&Takeover) -> String| {
        containers.iter().map(|takeover| cell(takeover).chars().count()).max().unwrap_or(0).max(heading.len())
    };
    let (names, labels) = (width("CONTAINER", &name), width("API", &label));
    let addresses = width("ADDRESS", &address);
    let mut out = String::new();
    let heading = format!(
        "{:<names$}  {:<labels$}  {:<10}  {:<addresses$}  {:<7}  {:<8}  {}",
        "CONTAINER", "API", "STATE", "ADDRESS", "FOLDER", "OURS", "CALLERS GET"
    );
    let _ = writeln!(out, "{}", paint(heading, BOLD));
    for takeover in containers {
        let first = paint(format!("{:<names$}", name(takeover)), NAME);
        let ours = paint(format!("{:<8}", takeover.ours.as_str()), takeover.ours.style());
        let (state, folder) = (takeover.state.as_str(), takeover.folder.as_str());
        let _ = writeln!(
            out,
            "{first}  {:<labels$}  {state:<10}  {:<addresses$}  {folder:<7}  {ours}  {}",
            label(takeover),
            address(takeover),
            takeover.callers.as_str()
        );
        let problem = takeover.problem.as_ref().map(|problem| format!("{}; ", plain(problem))).unwrap_or_default();
        let _ = writeln!(out, "{:names$}  {problem}{}", "", plain(&takeover.next));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predecessor(state: PredecessorState) -> Predecessor {
        Predecessor {
            name: "api-hello".to_owned(),
            container: "c".into(),
            label: Some("hello".to_owned()),
            api: Predecessor::read_label(Some("hello")),
            state,
            address: None,
        }
    }

    #[test]
    fn what_runs_may_be_stopped_only_where_ours_serves_and_callers_get_it() {
        for ours in [Ours::Serving, Ours::Degraded, Ours::Starting, Ours::Failed, Ours::Stopped, Ours::Missing] {
            for callers in [Callers::Ours, Callers::Theirs, Callers::Nobody] {
                for folder in [FolderSeen::Sound, FolderSeen::Broken, FolderSeen::Missing, FolderSeen::Unknown] {
                    let judged = |state| judge(&predecessor(state), folder, ours, callers, true).0;
                    let may = ours == Ours::Serving && callers == Callers::Ours;
                    assert_eq!(judged(PredecessorState::Running).is_none(), may, "{ours:?} {callers:?} {folder:?}");
                    assert_eq!(judged(PredecessorState::Stopped), None);
                }
            }
        }
    }

    #[test]
    fn nothing_serves_without_a_daemon() {
        let takeover = Takeover::of(&predecessor(PredecessorState::Running), FolderSeen::Sound, None);
        assert_eq!((takeover.ours, takeover.callers), (Ours::Missing, Callers::Nobody));
        assert!(takeover.refusal.unwrap().contains("no daemon"));
        assert!(takeover.next.contains("skep serve"));
    }

    #[test]
    fn a_name_that_somebody_made_up_does_not_steer_the_terminal() {
        let mut takeover = Takeover::of(&predecessor(PredecessorState::Paused), FolderSeen::Sound, None);
        takeover.label = Some("\u{1b}[31mred".to_owned());
        assert!(!anstream::adapter::strip_str(&table(&[takeover.clone()])).to_string().contains("red\u{1b}"));
        assert!(table(&[takeover]).contains("\\u{1b}[31mred"));
    }
}
