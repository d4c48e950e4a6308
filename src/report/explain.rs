//! The explanation of an API: how it came to be as it is, from the commit to the answer; as JSON for machines, and for people.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::status::{self, ApiStatus, table};
use super::style::{BAD, BOLD, FAINT, NAME, WARN, paint, plain};
use crate::git::Commit;
use crate::installation::Holder;
use crate::pull::SourceStatus;
use crate::reconcile::plan::ApiPlan;
use crate::records::Event;
use crate::tree::{ApiId, Revision};
use crate::world::{Answer, Instance, Observed, Origin, Readiness, Run};

/// The whole chain, of one API. `version` goes up when a reader must change.
#[derive(Debug, Serialize)]
pub struct Explained<'a> {
    /// Of this form.
    pub version: u32,
    /// Which.
    pub id: &'a ApiId,
    /// Whether a daemon is at work; without one, nothing is routed or healed.
    pub daemon: Option<Holder>,
    /// `null` of one that is there no more.
    pub status: Option<&'a ApiStatus>,
    /// It is kept and runs nothing, as its folder says.
    pub suspended: bool,
    /// The revision that is told of: the one that the tree asks for, else what serves, else what served last.
    pub revision: Option<&'a Revision>,
    /// Which commit it is, where that can be said.
    pub commit: Option<&'a Commit>,
    /// The commit that its folder is as in, where it is not known which one touched it last.
    pub as_of: Option<&'a str>,
    /// Who asked for it, why, and by which step it came to serve; `null` where it never has.
    pub origin: Option<&'a Origin>,
    /// What brought its folder.
    #[serde(flatten)]
    pub came: Came,
    /// What was done for it, the first first.
    pub steps: Vec<Step<'a>>,
    /// Its containers, and what they answered last.
    pub instances: Vec<Seen<'a>>,
    /// What callers get; `null` where that is nothing.
    pub route: Option<&'a Answer>,
    /// What happens next, and why; `null` where nothing does.
    pub next: Option<&'a ApiPlan>,
}

/// What brought the folder of an API.
#[derive(Debug, Default, Serialize)]
pub struct Came {
    /// The source that it was pulled from, and how that one is.
    pub source: Option<SourceStatus>,
    /// The branch that it was pushed to.
    pub pushed_to: Option<String>,
    /// Somebody has changed it here by hand since.
    pub edited: bool,
}

/// Something that was done.
#[derive(Debug, Serialize)]
pub struct Step<'a> {
    #[serde(flatten)]
    event: &'a Event,
    /// Seconds since the one before.
    after: Option<f64>,
}

/// An instance.
#[derive(Debug, Serialize)]
pub struct Seen<'a> {
    name: &'a str,
    revision: &'a Revision,
    /// In words: what it is doing, and what it answered last.
    state: String,
    ready: bool,
    /// Whether callers reach it.
    routed: bool,
}

/// Events as steps, each with the time since the one before.
#[must_use]
pub fn steps<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<Step<'a>> {
    let mut steps: Vec<Step<'a>> = Vec::new();
    for event in events {
        let before = steps.last().map(|step| step.event.event.at);
        let after = before.map(|before| event.event.at.duration_since(before).as_secs_f64());
        steps.push(Step { event, after });
    }
    steps
}

/// The instances of an API. Where no daemon is at work, callers reach none.
#[must_use]
pub fn instances(observed: &Observed, is_served: bool) -> Vec<Seen<'_>> {
    let routed = observed.routed();
    let seen = |instance| seen(instance, |instance| is_served && routed.contains(&instance.container));
    observed.instances.iter().map(seen).collect()
}

fn seen(instance: &Instance, is_routed: impl Fn(&Instance) -> bool) -> Seen<'_> {
    let state = match &instance.run {
        Run::Created => "created, never started".to_owned(),
        Run::Running { since, .. } => format!("running since {since:.0}, {}", answer(&instance.readiness)),
        Run::Paused => "paused by somebody".to_owned(),
        Run::Exited { out_of_memory: true, .. } => "ended for want of memory".to_owned(),
        Run::Exited { code, .. } => format!("ended with {code}"),
        Run::Unclear => "what it does the engine cannot say".to_owned(),
    };
    Seen {
        name: instance.name.as_str(),
        revision: &instance.revision,
        state,
        ready: instance.is_ready(),
        routed: is_routed(instance),
    }
}

fn answer(readiness: &Readiness) -> String {
    match readiness {
        Readiness::Unknown => "not probed yet".to_owned(),
        Readiness::Ready => "the last probe was good".to_owned(),
        Readiness::Failing { last, since } => format!("the last probe: {last}; none was good since {since:.0}"),
    }
}

impl Explained<'_> {
    /// For people, with colours, but for what happens next. `now` is for ages.
    #[must_use]
    pub fn text(&self, now: Timestamp) -> String {
        let mut out = match self.status {
            Some(api) => table(std::slice::from_ref(api), now),
            None => format!("{} {}\n", paint(self.id, NAME), paint("is there no more: nothing serves", WARN)),
        };
        self.write_origin(&mut out, now);
        for Step { event, after } in &self.steps {
            let (at, kind) = (paint(format!("{:.0}", event.event.at), FAINT), plain(&event.event.kind));
            let after = after.map(span).unwrap_or_default();
            let _ = writeln!(out, "  {at}  {kind:<10}  {}{}", plain(&event.event.message), paint(after, FAINT));
        }
        if let Some(failure) = self.status.and_then(|status| status.failure.as_ref()) {
            let times = if failure.count > 1 { format!(", {} times", failure.count) } else { String::new() };
            let _ = writeln!(out, "  {}{times}", paint(plain(&failure.message), BAD));
            for line in &failure.output {
                let _ = writeln!(out, "    {}", plain(line));
            }
        }
        if !self.instances.is_empty() {
            let _ = writeln!(out, "\n{}", paint("instances", BOLD));
        }
        for Seen { name, state, routed, .. } in &self.instances {
            let is_routed = if *routed { "; callers reach it" } else { "" };
            let _ = writeln!(out, "  {}  {}{is_routed}", paint(name, NAME), plain(state));
        }
        let _ = writeln!(out, "\n{} {}", paint("route", BOLD), self.answer());
        out
    }

    fn answer(&self) -> String {
        match self.route {
            _ if self.daemon.is_none() => {
                paint("no daemon is at work: nothing is routed or healed until `skep serve` runs", BAD)
            }
            Some(Answer::Forward { revision, .. }) => format!("revision {revision} answers callers"),
            Some(Answer::Suspended) => "callers are told that it is paused".to_owned(),
            Some(Answer::Unavailable) => paint("callers are told that it is not available", WARN),
            None => "callers find nothing there".to_owned(),
        }
    }

    /// Where it comes from: the source, the commit, and on whose word.
    fn write_origin(&self, out: &mut String, now: Timestamp) {
        if let Some(source) = &self.came.source {
            let _ = write!(out, "\n{} {}", paint("source", BOLD), status::sources(std::slice::from_ref(source), now));
        }
        if let Some(branch) = &self.came.pushed_to {
            let _ = writeln!(out, "\n{} to {}", paint("pushed", BOLD), plain(branch));
        }
        if let Some(revision) = self.revision {
            let _ = writeln!(out, "\n{} {}", paint("revision", BOLD), paint(revision.as_str(), NAME));
        }
        let mut line = |what: &str, text: &str| {
            let _ = writeln!(out, "  {:20}  {what:<10}  {text}", "");
        };
        if self.came.edited {
            let text = "somebody has changed its folder here by hand: it is not as the commit has it that was placed";
            line("edited", &paint(text, WARN));
        }
        if self.suspended {
            line("suspended", "its folder says so (suspend: true): it is kept, and runs nothing");
        }
        if let Some(commit) = self.as_of {
            line("commit", &as_of(commit));
        }
        if let Some(commit) = self.commit {
            out.push_str(&commit_line(commit));
        }
        if let Some(origin) = self.origin {
            let by = origin.by.as_deref().map(|by| format!(" by {}", plain(by))).unwrap_or_default();
            let _ = writeln!(out, "  {:20}  {:<10}  {}{by}", "", "why", plain(&origin.why));
        }
    }
}

/// A commit, in a line among events.
#[must_use]
pub fn commit_line(commit: &Commit) -> String {
    let (at, id) = (paint(format!("{:.0}", commit.at), FAINT), paint(plain(commit.short()), NAME));
    format!("  {at}  commit      {id}  {}  {}\n", plain(&commit.author), plain(&commit.subject))
}

/// That it is not known who touched a folder last.
#[must_use]
pub fn as_of(commit: &str) -> String {
    let short = plain(commit.get(..10).unwrap_or(commit));
    format!("as of {}; who changed it before that is not known here", paint(short, NAME))
}

/// How much later, as people say it; nothing for what came at once.
fn span(seconds: f64) -> String {
    match SignedDuration::try_from_secs_f64(seconds) {
        Ok(span) if span.as_millis() >= 100 && span.as_secs() < 3600 => format!("  +{seconds:.1} s"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::NewEvent;

    #[test]
    fn steps_have_the_time_since_the_one_before() {
        let event = |number, second| Event {
            number,
            event: NewEvent {
                at: Timestamp::from_second(second).unwrap(),
                api: None,
                revision: None,
                kind: "k".to_owned(),
                message: String::new(),
            },
        };
        let events = [event(1, 10), event(3, 15)];
        let found = steps(events.iter());
        assert_eq!(
            found.iter().map(|step| (step.event.number, step.after)).collect::<Vec<_>>(),
            [(1, None), (3, Some(5.0))]
        );
        assert_eq!((span(2.04), span(0.01), span(90_000.0)), ("  +2.0 s".to_owned(), String::new(), String::new()));
    }
}
