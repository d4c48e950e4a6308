//! What a webhook tells of a pull request. Read only where it is signed as it should be, and never believed further than that.

use jiff::Timestamp;
use serde_json::Value;

use crate::tree::PullRequest;

/// The most bytes that a delivery usually has: what people write of a pull request comes with it, and may be more.
pub const USUAL: usize = 1 << 20;

/// What a forge tells of a pull request, or of a merge request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its number.
    pub pull_request: PullRequest,
    /// Whether it is one of GitLab's, whose names are others.
    pub is_merge_request: bool,
    /// The repository that it is to be merged into, as the forge names it: `team/apis`. Empty where it does not.
    pub repository: String,
    /// Whether it is open.
    pub is_open: bool,
    /// Whether it comes from another repository, or may.
    pub is_fork: bool,
    /// The branch that it is to be merged into.
    pub into: String,
    /// When it changed last, by the forge's clock.
    pub at: Option<Timestamp>,
}

impl Told {
    /// Reads the body of a delivery, as JSON or as a form with it; `None` where it is about something else.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let form;
        let body = match body.strip_prefix(b"payload=") {
            Some(coded) => {
                form = decoded(coded)?;
                &form[..]
            }
            None => body,
        };
        let value: Value = serde_json::from_slice(body).ok()?;
        if value["object_kind"] == "merge_request" { Self::of_gitlab(&value) } else { Self::of_others(&value) }
    }

    /// GitHub's `pull_request`, which Gitea and Forgejo have alike.
    fn of_others(value: &Value) -> Option<Self> {
        let about = value.get("pull_request").filter(|about| about.is_object())?;
        let (head, base) = (&about["head"], &about["base"]);
        let repository = |side: &Value| side["repo"]["id"].as_u64();
        // Gitea lets whoever may read push to `refs/for/main`, and names the repository itself as where such a one comes from.
        let is_of_branch = head["ref"].as_str().is_some_and(|name| !name.is_empty() && !name.starts_with("refs/"));
        Some(Self {
            pull_request: PullRequest::new(value["number"].as_u64().or_else(|| about["number"].as_u64())?)?,
            is_merge_request: false,
            repository: base["repo"]["full_name"].as_str().unwrap_or_default().to_owned(),
            is_open: about["state"].as_str()? == "open",
            // One whose repository is gone, or that does not say, may be anybody's.
            is_fork: !is_of_branch || repository(head).is_none() || repository(head) != repository(base),
            into: base["ref"].as_str()?.to_owned(),
            at: moment(&about["updated_at"]),
        })
    }

    /// GitLab's merge requests.
    fn of_gitlab(value: &Value) -> Option<Self> {
        let about = &value["object_attributes"];
        let project = |side: &str| about[side].as_u64();
        let named = |place: &Value| place["path_with_namespace"].as_str().map(ToOwned::to_owned);
        Some(Self {
            pull_request: PullRequest::new(about["iid"].as_u64()?)?,
            is_merge_request: true,
            repository: named(&about["target"]).or_else(|| named(&value["project"])).unwrap_or_default(),
            is_open: about["state"].as_str()? == "opened",
            is_fork: project("source_project_id").is_none()
                || project("source_project_id") != project("target_project_id"),
            into: about["target_branch"].as_str()?.to_owned(),
            at: moment(&about["updated_at"]),
        })
    }

    /// Whether it is one of the repository at that address: the same secret may sign what is told of others.
    #[must_use]
    pub fn is_of(&self, url: &str) -> bool {
        let url = url.trim_end_matches('/');
        let url = url.strip_suffix(".git").unwrap_or(url).to_lowercase();
        let before = url.strip_suffix(&self.repository.to_lowercase());
        // A name alone, without whose it is, many have.
        self.repository.contains('/') && before.is_some_and(|before| before.ends_with(['/', ':']))
    }

    /// What the remote calls its last commit.
    #[must_use]
    pub fn reference(&self) -> String {
        let kind = if self.is_merge_request { "merge-requests" } else { "pull" };
        format!("refs/{kind}/{}/head", self.pull_request)
    }
}

/// As RFC 3339 has it, or as GitLab does: `2026-11-27 10:00:00 UTC`.
fn moment(value: &Value) -> Option<Timestamp> {
    let text = value.as_str()?;
    text.parse().ok().or_else(|| {
        text.strip_suffix(" UTC")?
            .replace(' ', "T")
            .parse::<jiff::civil::DateTime>()
            .ok()?
            .to_zoned(jiff::tz::TimeZone::UTC)
            .ok()
            .map(|at| at.timestamp())
    })
}

/// What stands in a form, as `application/x-www-form-urlencoded` has it.
fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
    let coded = coded.split(|byte| *byte == b'&').next()?;
    let mut bytes = Vec::with_capacity(coded.len());
    let mut rest = coded;
    while let Some((first, more)) = rest.split_first() {
        rest = more;
        match first {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = rest.get(2..)?;
            }
            byte => bytes.push(*byte),
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_forge_tells_of_its_pull_requests() {
        let hub = json!({ "action": "synchronize", "number": 7, "pull_request": { "number": 7, "state": "open",
            "updated_at": "2026-11-27T10:00:00Z", "head": { "ref": "x", "repo": { "id": 1 } },
            "base": { "ref": "main", "repo": { "id": 1, "full_name": "Team/apis" } } } });
        let told = Told::read(hub.to_string().as_bytes()).unwrap();
        assert_eq!((told.pull_request, told.is_open, told.is_fork), (PullRequest::new(7).unwrap(), true, false));
        assert_eq!((told.into.as_str(), told.at), ("main", Some("2026-11-27T10:00:00Z".parse().unwrap())));
        assert_eq!(told.reference(), "refs/pull/7/head");
        let form = format!("payload={}", hub.to_string().replace('{', "%7B").replace(' ', "+").replace('"', "%22"));
        assert_eq!(Told::read(form.as_bytes()), Some(told));
        for (head, is_fork) in [(json!({ "id": 2 }), true), (json!(null), true), (json!({ "id": 1 }), false)] {
            let mut fork = hub.clone();
            fork["pull_request"]["head"]["repo"] = head;
            assert_eq!(Told::read(fork.to_string().as_bytes()).unwrap().is_fork, is_fork);
        }
        // Gitea's, of whoever pushed to `refs/for/main`; and one that does not say.
        for head in [json!("refs/pull/7/head"), json!(""), json!(null)] {
            let mut fork = hub.clone();
            fork["pull_request"]["head"]["ref"] = head;
            assert!(Told::read(fork.to_string().as_bytes()).unwrap().is_fork, "{fork}");
        }
        let lab = json!({ "object_kind": "merge_request", "project": { "path_with_namespace": "team/sub/apis" },
            "object_attributes": { "iid": 3, "state": "merged",
            "source_project_id": 5, "target_project_id": 5, "target_branch": "main",
            "updated_at": "2026-11-27 10:00:00 UTC" } });
        let told = Told::read(lab.to_string().as_bytes()).unwrap();
        assert_eq!((told.is_open, told.is_fork, told.is_merge_request), (false, false, true));
        assert_eq!(told.at, Some("2026-11-27T10:00:00Z".parse().unwrap()));
        assert_eq!(told.reference(), "refs/merge-requests/3/head");
        assert_eq!(told.repository, "team/sub/apis");
        let mut target = lab.clone();
        target["object_attributes"]["target"] = json!({ "path_with_namespace": "team/other" });
        assert_eq!(Told::read(target.to_string().as_bytes()).unwrap().repository, "team/other");
    }

    #[test]
    fn what_is_told_of_another_repository_is_not_of_this_one() {
        let told = |repository: &str| {
            let body = json!({ "number": 7, "pull_request": { "state": "open", "head": {},
                "base": { "ref": "main", "repo": { "full_name": repository } } } });
            Told::read(body.to_string().as_bytes()).unwrap()
        };
        for url in [
            "https://git.example/team/apis",
            "https://git.example/below/Team/APIs.git/",
            "git@git.example:team/apis.git",
            "ssh://git@git.example:2222/team/apis.git",
        ] {
            assert!(told("Team/apis").is_of(url), "{url}");
            for other in ["", "apis", "team/api", "eam/apis", "team/apis.git", "other/apis", "team/apis/x"] {
                assert!(!told(other).is_of(url), "{other} of {url}");
            }
        }
    }

    #[test]
    fn what_tells_of_no_pull_request_is_a_hint_and_no_more() {
        for other in [
            "",
            "{}",
            "[]",
            "no json",
            "payload=",
            "payload=%",
            "payload=%zz",
            r#"{"ref":"refs/heads/main"}"#,
            r#"{"number":0,"pull_request":{"state":"open","head":{},"base":{"ref":"main"}}}"#,
            r#"{"number":7,"pull_request":{"head":{},"base":{"ref":"main"}}}"#,
            r#"{"number":7,"pull_request":"open"}"#,
            r#"{"object_kind":"merge_request"}"#,
        ] {
            assert_eq!(Told::read(other.as_bytes()), None, "{other}");
        }
    }
}
