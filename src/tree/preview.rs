//! A preview is one API as a pull request would have it, served beside production and with nothing of what is production's.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::diagnostic::{Diagnostic, code};
use super::id::{ApiId, PullRequest};
use super::quantity::Seconds;
use super::spec::{Auth, Egress, RateLimit, RouteSettings, Spec};
use super::{Api, Files};
use crate::settings::PreviewSettings;

/// The note in the folder of each. Hidden, so that it is no file of the API; one that a pull request brings is written over.
pub const NOTE: &str = ".preview.json";

/// The variable in which an app is told that it is previewed: the number of the pull request.
pub const VARIABLE: &str = "SKEP_PREVIEW";

/// The longest that a preview may take to start, and to end: whatever it says itself, its place is soon free.
const LONGEST: Seconds = Seconds::new(60);

/// Of what a preview is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preview {
    /// The API that it is of, which need not be there yet.
    pub of: ApiId,
    /// The pull request.
    pub pull_request: PullRequest,
    /// The commit that its folder is of.
    pub commit: String,
    /// The source that the pull request is one of; nothing where it was pushed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub source: Option<String>,
    /// When its pull request was last heard of.
    pub updated: Timestamp,
}

/// What tells a preview from an API of production, in lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mark {
    /// The API that it is of.
    pub of: ApiId,
    /// The pull request.
    pub pull_request: PullRequest,
    /// The commit that its folder is of; nothing where it is about to go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The source that the pull request is one of; nothing where it was pushed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Mark {
    /// Of an id; `None` of one of production.
    #[must_use]
    pub fn of(id: &ApiId) -> Option<Self> {
        let (of, pull_request) = id.preview()?;
        Some(Self { of, pull_request, commit: None, source: None })
    }

    /// With what is known of the preview.
    #[must_use]
    pub fn with(self, preview: Option<&Preview>) -> Self {
        let known = preview.map(|preview| (preview.commit.clone(), preview.source.clone()));
        let (commit, source) = known.map_or((None, None), |(commit, source)| (Some(commit), source));
        Self { commit, source, ..self }
    }
}

impl std::fmt::Display for Mark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "preview of {}, for pull request {}", self.of, self.pull_request)?;
        if let Some(source) = &self.source {
            write!(f, " of {source}")?;
        }
        match &self.commit {
            Some(commit) => write!(f, ", at {}", commit.get(..10).unwrap_or(commit)),
            None => Ok(()),
        }
    }
}

/// Makes a preview of a folder of a pull request, by what holds for previews. `production` is the API as it is without it.
///
/// The folder is a stranger's. It may ask for less than it is given, and for nothing that production has: neither its secrets
/// nor its hosts, and for no easier way in.
#[must_use]
pub fn previewed(api: &Api, production: Option<&Spec>, preview: &Preview, settings: &PreviewSettings) -> Api {
    let mut spec = api.spec.clone();
    let (asked, most) = (&mut spec.resources, &settings.resources);
    asked.cpu = asked.cpu.min(most.cpu);
    asked.memory = asked.memory.min(most.memory);
    asked.pids = asked.pids.min(most.pids);
    asked.tmp = asked.tmp.min(most.tmp).min(asked.memory);
    spec.replicas = 1;
    spec.drain = spec.drain.min(LONGEST);
    spec.health.grace = spec.health.grace.min(LONGEST);
    if settings.egress == Egress::None {
        spec.egress = Egress::None;
    }
    spec.env.insert(VARIABLE.to_owned(), preview.pull_request.to_string());
    way_in(&mut spec.route, production.map(|production| &production.route));
    let route = &mut spec.route;
    route.total_limit = Some(route.total_limit.map_or(settings.requests, |limit| tighter(limit, settings.requests)));
    route.max_in_flight = route.max_in_flight.min(settings.in_flight);
    // As they say it themselves, and told apart from what they are of.
    spec.name = format!("{} (pull request {})", spec.name, preview.pull_request).chars().take(200).collect();
    Api { spec, secrets: None, files: Files::clone(&api.files), ..api.clone() }
}

/// Lets nobody in to a preview who may not call what it is of.
pub fn as_strict(spec: &mut Spec, production: &Spec) {
    way_in(&mut spec.route, Some(&production.route));
}

/// As strict as that of production, or stricter; whoever calls an API that is not there yet shows a key.
fn way_in(route: &mut RouteSettings, production: Option<&RouteSettings>) {
    route.hosts.clear();
    route.cors = production.and_then(|production| production.cors.clone());
    let needed = production.map_or(Auth::Key, |production| production.auth);
    if needed != Auth::None {
        route.auth = needed;
    }
    if let Some(production) = production {
        if !production.allow.is_empty() {
            route.allow.clone_from(&production.allow);
        }
        route.deny.extend(
            production.deny.iter().filter(|network| !route.deny.contains(network)).copied().collect::<Vec<_>>(),
        );
        route.address_limit = match (route.address_limit, production.address_limit) {
            (Some(one), Some(other)) => Some(tighter(one, other)),
            (one, other) => one.or(other),
        };
    }
}

/// The one that lets fewer requests through in the long run, with the smaller burst of both.
fn tighter(one: RateLimit, other: RateLimit) -> RateLimit {
    let pause = |limit: &RateLimit| limit.per.0 / limit.requests.max(1);
    let slower = if pause(&one) > pause(&other) { one } else { other };
    RateLimit { burst: one.burst.min(other.burst), ..slower }
}

/// That a folder has a name that only previews have.
pub(super) fn reserved(path: String) -> Diagnostic {
    let hint = "rename the folder: such names are for previews of pull requests alone";
    Diagnostic::error(
        code::RESERVED_ID,
        path,
        "a name that ends as those of previews do, with `--pr-` and a number",
        hint,
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tree::{Cpu, Requirements, Size};

    fn api(spec: Spec) -> Api {
        Api {
            id: ApiId::new("a--pr-7").unwrap(),
            spec,
            requirements: Requirements::base(),
            files: BTreeMap::new(),
            secrets: None,
            folder: "/nowhere".into(),
            findings: Vec::new(),
        }
    }

    fn of(spec: &Spec, production: Option<&Spec>) -> Spec {
        let preview = Preview {
            of: ApiId::new("a").unwrap(),
            pull_request: PullRequest::new(7).unwrap(),
            commit: "c".repeat(40),
            source: None,
            updated: Timestamp::UNIX_EPOCH,
        };
        previewed(&api(spec.clone()), production, &preview, &PreviewSettings::default()).spec
    }

    #[test]
    fn a_preview_gets_the_lower_of_what_it_asks_for_and_what_there_is_for_previews() {
        let mut asked = Spec::built_in("a");
        asked.resources.cpu = Cpu(100);
        asked.resources.memory = Size::mib(4096);
        (asked.replicas, asked.drain) = (20, Seconds::new(3600));
        asked.route.hosts = vec!["example.com".to_owned()];
        asked.route.total_limit = Some(RateLimit { requests: 1, per: Seconds::new(3600), burst: 100 });
        let given = of(&asked, None);
        assert_eq!((given.resources.cpu, given.resources.memory), (Cpu(100), Size::mib(256)));
        assert_eq!((given.resources.tmp, given.resources.pids), (Size::mib(64), 64));
        assert_eq!((given.replicas, given.drain, given.egress), (1, Seconds::new(60), Egress::None));
        assert_eq!(given.route.total_limit, Some(RateLimit { requests: 1, per: Seconds::new(3600), burst: 60 }));
        assert!(given.route.hosts.is_empty() && given.route.max_in_flight == 10);
        assert_eq!(given.env.get(VARIABLE).map(String::as_str), Some("7"));
    }

    #[test]
    fn no_preview_is_easier_to_get_into_than_what_it_is_of() {
        let with = |auth| {
            let mut spec = Spec::built_in("a");
            spec.route.auth = auth;
            spec
        };
        for (asked, production, given) in [
            (Auth::None, None, Auth::Key),
            (Auth::Jwt, None, Auth::Key),
            (Auth::None, Some(Auth::Key), Auth::Key),
            (Auth::None, Some(Auth::Jwt), Auth::Jwt),
            (Auth::Key, Some(Auth::Jwt), Auth::Jwt),
            (Auth::Jwt, Some(Auth::Key), Auth::Key),
            (Auth::None, Some(Auth::None), Auth::None),
            (Auth::Key, Some(Auth::None), Auth::Key),
        ] {
            let production = production.map(with);
            assert_eq!(of(&with(asked), production.as_ref()).route.auth, given, "{asked:?} of {production:?}");
        }
        let mut production = with(Auth::None);
        production.route.allow = vec!["10.0.0.0/8".parse().unwrap()];
        production.route.deny = vec!["10.1.0.0/16".parse().unwrap()];
        let mut asked = with(Auth::None);
        asked.route.allow = vec!["0.0.0.0/0".parse().unwrap()];
        let given = of(&asked, Some(&production)).route;
        assert_eq!((given.allow, given.deny), (production.route.allow, production.route.deny));
    }
}
