//! What a forge is told of a commit, as the requests that its API takes.
//!
//! GitHub: docs.github.com/rest/commits/statuses and /rest/deployments. GitLab: docs.gitlab.com/api/commits and /api/deployments.
//! Gitea and Forgejo: `repoCreateStatus` of their `swagger.v1.json`; they have no deployments.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use serde_json::{Map, Value, json};

use super::commit::{State, Tracked, Word};
use crate::settings::{ForgeKind, ReportSettings};

/// The version of GitHub's API that is spoken.
const GITHUB_VERSION: &str = "2022-11-28";

/// One request to a forge.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// How.
    pub method: Method,
    /// Where, without a slash before it, below the address of the API.
    pub path: String,
    /// What.
    pub body: Value,
}

/// What sets the status of a commit.
#[must_use]
pub fn status(report: &ReportSettings, commit: &Tracked, word: &Word) -> Call {
    let mut body = Map::new();
    body.insert("state".to_owned(), json!(status_word(report.forge, word.state)));
    let name = if report.forge == ForgeKind::Gitlab { "name" } else { "context" };
    body.insert(name.to_owned(), json!(report.context));
    body.insert("description".to_owned(), json!(word.text));
    if let Some(url) = &report.url {
        body.insert("target_url".to_owned(), json!(url));
    }
    let mut path = format!("repos/{}/statuses/{}", report.repository, commit.id);
    if report.forge == ForgeKind::Gitlab {
        path = format!("projects/{}/statuses/{}", project(report), commit.id);
        if !commit.reference.is_empty() {
            // Else it is a pipeline of any branch that has the commit.
            body.insert("ref".to_owned(), json!(commit.reference));
        }
    }
    Call { method: Method::POST, path, body: Value::Object(body) }
}

/// What begins a deployment of a commit that came by a branch, or a tag; its answer holds a number as `id`.
#[must_use]
pub fn begin(report: &ReportSettings, environment: &str, is_tag: bool, commit: &Tracked, word: &Word) -> Call {
    if report.forge == ForgeKind::Gitlab {
        let reference = if commit.reference.is_empty() { &commit.id } else { &commit.reference };
        let body = json!({
            "environment": environment, "sha": commit.id, "ref": reference, "tag": is_tag,
            "status": deployment_word(report.forge, word.state),
        });
        return Call { method: Method::POST, path: format!("projects/{}/deployments", project(report)), body };
    }
    // Neither merged nor waited for: it is under way already.
    let body = json!({
        "ref": commit.id, "task": "deploy", "auto_merge": false, "required_contexts": [], "environment": environment,
        "description": word.text,
    });
    Call { method: Method::POST, path: format!("repos/{}/deployments", report.repository), body }
}

/// Whether what begins a deployment says already how it is.
#[must_use]
pub fn begins_with_state(forge: ForgeKind) -> bool {
    forge == ForgeKind::Gitlab
}

/// What finds the deployment of a commit that was begun, where a forge can be asked for that; its answer is a list.
///
/// One that got the word that it begins, and whose answer was lost, makes another one where it is said again.
#[must_use]
pub fn find(report: &ReportSettings, environment: &str, commit: &Tracked) -> Option<Call> {
    let (sha, environment) = (&commit.id, encoded(environment));
    let path = format!("repos/{}/deployments?sha={sha}&environment={environment}&per_page=1", report.repository);
    (report.forge == ForgeKind::Github).then_some(Call { method: Method::GET, path, body: Value::Null })
}

/// What says how a deployment is.
#[must_use]
pub fn deployment(report: &ReportSettings, environment: &str, id: u64, word: &Word) -> Call {
    let state = deployment_word(report.forge, word.state);
    if report.forge == ForgeKind::Gitlab {
        let path = format!("projects/{}/deployments/{id}", project(report));
        return Call { method: Method::PUT, path, body: json!({ "status": state }) };
    }
    let mut body =
        json!({ "state": state, "description": word.text, "environment": environment, "auto_inactive": true });
    if let (Some(url), Some(body)) = (&report.url, body.as_object_mut()) {
        body.insert("environment_url".to_owned(), json!(url));
    }
    Call { method: Method::POST, path: format!("repos/{}/deployments/{id}/statuses", report.repository), body }
}

impl Call {
    /// As it goes over the wire, with the token that opens the forge.
    ///
    /// # Errors
    /// Where the token is none that a header can hold.
    pub fn request(&self, report: &ReportSettings, token: &str) -> Result<Request<Bytes>, http::Error> {
        let body = if self.body.is_null() { Bytes::new() } else { Bytes::from(self.body.to_string()) };
        let mut request =
            Request::builder().method(&self.method).uri(format!("{}/{}", report.api, self.path)).body(body)?;
        let secret = |text: String| -> Result<HeaderValue, http::Error> {
            let mut value = HeaderValue::from_str(&text)?;
            value.set_sensitive(true);
            Ok(value)
        };
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match report.forge {
            ForgeKind::Github => {
                headers.insert(ACCEPT, HeaderValue::from_static("application/vnd.github+json"));
                headers.insert("x-github-api-version", HeaderValue::from_static(GITHUB_VERSION));
                headers.insert(AUTHORIZATION, secret(format!("Bearer {token}"))?);
            }
            ForgeKind::Gitlab => drop(headers.insert("private-token", secret(token.to_owned())?)),
            ForgeKind::Gitea | ForgeKind::Forgejo => {
                headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
                headers.insert(AUTHORIZATION, secret(format!("token {token}"))?);
            }
        }
        Ok(request)
    }
}

/// The path of a project, as one part of another path.
fn project(report: &ReportSettings) -> String {
    report.repository.replace('/', "%2F")
}

/// A text as a value of a query.
fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let byte = |byte: u8| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(byte).collect()
}

fn status_word(forge: ForgeKind, state: State) -> &'static str {
    match (forge, state) {
        (ForgeKind::Gitlab, State::Pending) => "running",
        (ForgeKind::Gitlab, State::Failure) => "failed",
        (ForgeKind::Gitlab, State::Superseded) => "canceled",
        (_, State::Pending) => "pending",
        (_, State::Success) => "success",
        (_, State::Failure) => "failure",
        // GitHub has no word for it that is no fault.
        (ForgeKind::Github, State::Superseded) => "error",
        (_, State::Superseded) => "warning",
    }
}

fn deployment_word(forge: ForgeKind, state: State) -> &'static str {
    match (forge, state) {
        (ForgeKind::Gitlab, state) => status_word(forge, state),
        (_, State::Pending) => "in_progress",
        (_, State::Success) => "success",
        (_, State::Failure) => "failure",
        (_, State::Superseded) => "inactive",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use jiff::Timestamp;

    use super::*;
    use crate::settings::SecretPlace;
    use crate::tell::commit::Report;

    fn told(forge: ForgeKind, state: State) -> (ReportSettings, Tracked, Word) {
        let report = ReportSettings {
            forge,
            api: "https://git.example/api".into(),
            repository: "team/apis".into(),
            token: SecretPlace::Env("T".into()),
            context: "skep/team".into(),
            environment: Some("production".into()),
            url: Some("https://apis.example".into()),
        };
        let mut tracked = Report::default();
        tracked.place(("abc", "main"), &BTreeSet::new(), &BTreeSet::new(), Timestamp::UNIX_EPOCH);
        (report, tracked.commits.remove(0), Word { state, text: "why".into() })
    }

    #[test]
    fn each_forge_is_told_in_its_own_way() {
        let said = |forge, state| {
            let (report, commit, word) = told(forge, state);
            let call = status(&report, &commit, &word);
            (call.path, call.body)
        };
        assert_eq!(
            said(ForgeKind::Github, State::Failure),
            (
                "repos/team/apis/statuses/abc".into(),
                json!({ "state": "failure", "context": "skep/team", "description": "why", "target_url": "https://apis.example" })
            )
        );
        assert_eq!(
            said(ForgeKind::Gitlab, State::Failure),
            (
                "projects/team%2Fapis/statuses/abc".into(),
                json!({ "state": "failed", "name": "skep/team", "description": "why", "target_url": "https://apis.example", "ref": "main" })
            )
        );
        assert_eq!(said(ForgeKind::Forgejo, State::Superseded).1["state"], "warning");
        assert_eq!(said(ForgeKind::Github, State::Superseded).1["state"], "error");
        assert_eq!(said(ForgeKind::Gitlab, State::Pending).1["state"], "running");
    }

    #[test]
    fn a_token_is_shown_in_the_header_of_its_forge_and_nowhere_else() {
        for (forge, name, value) in [
            (ForgeKind::Github, "authorization", "Bearer s3cret"),
            (ForgeKind::Gitlab, "private-token", "s3cret"),
            (ForgeKind::Gitea, "authorization", "token s3cret"),
        ] {
            let (report, commit, word) = told(forge, State::Success);
            let request = status(&report, &commit, &word).request(&report, "s3cret").unwrap();
            assert_eq!(request.headers()[name], value);
            assert!(!format!("{request:?}").contains("s3cret"));
            assert_eq!(request.uri().host(), Some("git.example"));
            assert!(status(&report, &commit, &word).request(&report, "a\nb").is_err());
        }
    }

    #[test]
    fn a_deployment_begins_and_goes_on() {
        let (report, commit, word) = told(ForgeKind::Github, State::Pending);
        let call = begin(&report, "production", false, &commit, &word);
        assert_eq!((call.path.as_str(), &call.body["required_contexts"]), ("repos/team/apis/deployments", &json!([])));
        let call = find(&report, "on site/ä", &commit).unwrap();
        assert_eq!(call.path, "repos/team/apis/deployments?sha=abc&environment=on%20site%2F%C3%A4&per_page=1");
        assert!(call.request(&report, "s3cret").unwrap().body().is_empty());
        let call = deployment(&report, "production", 7, &word);
        assert_eq!(call.path, "repos/team/apis/deployments/7/statuses");
        assert_eq!(
            (&call.body["state"], &call.body["environment_url"]),
            (&json!("in_progress"), &json!("https://apis.example"))
        );
        let (report, commit, word) = told(ForgeKind::Gitlab, State::Success);
        assert_eq!(begin(&report, "production", false, &commit, &word).body["status"], "success");
        let call = deployment(&report, "production", 7, &word);
        assert_eq!((call.method, call.path.as_str()), (Method::PUT, "projects/team%2Fapis/deployments/7"));
    }
}
