//! Where a forge is told what became of commits: which forge, which repository, by which name, with which token.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Settings;
use super::pull::{SecretFile, secret};
use super::remote::{authority_and_path, is_loopback, is_web};
use super::source::SecretPlace;
use crate::tree::diagnostic::code;
use crate::tree::settle::Settler;
use crate::tree::yaml::At;

/// Where a forge is told what became of commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportSettings {
    /// Whose API is spoken.
    pub forge: ForgeKind,
    /// Where that API is, without a slash at its end: `https://api.github.com`.
    pub api: String,
    /// The repository: `team/apis`.
    pub repository: String,
    /// What opens it.
    pub token: SecretPlace,
    /// What the status of a commit is called there.
    pub context: String,
    /// The environment that deployments are of; without one, none is told.
    pub environment: Option<String>,
    /// Where callers reach the gateway, which statuses lead to.
    pub url: Option<String>,
}

/// Whose API is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ForgeKind {
    /// GitHub's.
    Github,
    /// GitLab's.
    Gitlab,
    /// Gitea's.
    Gitea,
    /// Forgejo's: as far as skep speaks it, it is Gitea's.
    Forgejo,
}

/// Tells a forge what became of each commit: as a commit status and, where there is an `environment`, as a deployment.
/// Holds from the next start; see notifications.md.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReportFields {
    /// Whose API is spoken. Where nothing is said: that of the address, where it is github.com, gitlab.com or codeberg.org.
    pub forge: Option<ForgeKind>,
    /// Where that API is. Where nothing is said: where the forge has it on the host of the address.
    #[schemars(length(min = 1, max = 1000), example = &"https://git.example/api/v1")]
    pub api: Option<At<String>>,
    /// The repository, as in `team/apis`. Where nothing is said: that of the address.
    #[schemars(length(min = 3, max = 400), example = &"team/apis")]
    pub repository: Option<At<String>>,
    /// The token that may write commit statuses, and deployments where there is an `environment`.
    pub token: Option<At<SecretFile>>,
    /// What the status is called there. `skep/` and the name of the source where nothing is said, `skep` for pushes. Each
    /// installation that tells of the same repository needs one of its own.
    #[schemars(length(min = 1, max = 100))]
    pub context: Option<At<String>>,
    /// The environment that deployments are told of, as in `production`. GitHub and GitLab have deployments.
    #[schemars(length(min = 1, max = 100))]
    pub environment: Option<At<String>>,
    /// Where callers reach the gateway: statuses and deployments lead there.
    #[schemars(length(min = 1, max = 1000), regex(pattern = "^https?://"))]
    pub url: Option<At<String>>,
}

/// A `report`, and where it stands.
pub type ReportFile = At<ReportFields>;

/// Settles a `report` of what is pulled from an address, or of pushes; `None` where something is wrong with it.
pub(super) fn settle(
    settler: &mut Settler<'_, '_>,
    file: &ReportFile,
    (name, url): (&str, Option<&str>),
    settings: &Settings,
) -> Option<ReportSettings> {
    let fields = &file.value;
    let place = url.and_then(authority_and_path);
    let host = place.map(|place| place.host);
    let known = match host {
        Some("github.com") => Some(ForgeKind::Github),
        Some("gitlab.com") => Some(ForgeKind::Gitlab),
        Some("codeberg.org") => Some(ForgeKind::Forgejo),
        _ => None,
    };
    let Some(forge) = fields.forge.or(known) else {
        let hint = "write one of github, gitlab, gitea and forgejo as `forge`";
        settler.error(code::MISSING_KEY, file, "whose API the forge speaks cannot be told from its address", hint);
        return None;
    };
    let api = match &fields.api {
        Some(api) => {
            let text = api.value.trim_end_matches('/');
            if !is_web(text) {
                let hint = "write it as in https://git.example/api/v1";
                settler.error(code::BAD_VALUE, api, "this is no address of an API", hint);
                return None;
            }
            text.to_owned()
        }
        None => match default_api(forge, place.map(|place| (place.host, place.web))) {
            Some(api) => api,
            None => {
                let hint = "write it as `api`, as in https://git.example/api/v1";
                settler.error(code::MISSING_KEY, file, "where the forge has its API cannot be told", hint);
                return None;
            }
        },
    };
    let derived = place.map(|place| place.path.trim_end_matches('/').trim_end_matches(".git"));
    let repository = fields.repository.as_ref().map(|at| at.value.as_str()).or(derived);
    let Some(repository) = repository.filter(|text| is_repository(text, forge)) else {
        let at = fields.repository.as_ref().map_or(file.range.clone(), |at| at.range.clone());
        let at = At { value: (), range: at };
        settler.error(code::BAD_VALUE, &at, "this names no repository", "write it as `repository`, as in team/apis");
        return None;
    };
    let Some(token) = &fields.token else {
        let hint = "write it as in token: { env: FORGE_TOKEN }";
        settler.error(code::MISSING_KEY, file, "nobody may tell a forge anything without a `token`", hint);
        return None;
    };
    if !api.starts_with("https://") && !is_loopback(&api) {
        let message = "a token is for https: elsewhere it could be read on its way";
        settler.error(code::BAD_VALUE, token, message, "write the address of the API with https");
        return None;
    }
    let mut is_good = true;
    let mut line = |settler: &mut Settler<'_, '_>, at: &At<String>| {
        let is_line = (1..=100).contains(&at.value.chars().count()) && !at.value.chars().any(char::is_control);
        if !is_line {
            is_good = false;
            settler.error(code::BAD_VALUE, at, "this is no name", "write a line of 100 characters at the most");
        }
        at.value.clone()
    };
    let own = if name.is_empty() { "skep".to_owned() } else { format!("skep/{name}") };
    let context = fields.context.as_ref().map_or(own, |at| line(settler, at));
    let environment = fields.environment.as_ref().map(|at| line(settler, at));
    if let Some(at) = fields.environment.as_ref().filter(|_| matches!(forge, ForgeKind::Gitea | ForgeKind::Forgejo)) {
        let message = "this forge knows no deployments";
        settler.error(code::BAD_VALUE, at, message, "leave it out: the status of the commit says what there is to say");
        is_good = false;
    }
    if let Some(url) = fields.url.as_ref().filter(|url| !is_web(&url.value)) {
        settler.error(code::BAD_VALUE, url, "this is no address", "write it as in https://apis.example");
        is_good = false;
    }
    let token = secret(settler, token, settings)?;
    let url = fields.url.as_ref().map(|url| url.value.trim_end_matches('/').to_owned());
    is_good.then(|| ReportSettings { forge, api, repository: repository.to_owned(), token, context, environment, url })
}

/// Where a forge has its API, as far as its host says so: `web` is its address.
fn default_api(forge: ForgeKind, place: Option<(&str, &str)>) -> Option<String> {
    let path = match forge {
        ForgeKind::Github => "/api/v3",
        ForgeKind::Gitlab => "/api/v4",
        ForgeKind::Gitea | ForgeKind::Forgejo => "/api/v1",
    };
    match (forge, place) {
        (ForgeKind::Github, None | Some(("github.com", _))) => Some("https://api.github.com".to_owned()),
        (ForgeKind::Gitlab, None) => Some("https://gitlab.com/api/v4".to_owned()),
        (_, Some((_, "")) | None) => None,
        (_, Some((host, "ssh"))) => Some(format!("https://{host}{path}")),
        (_, Some((_, web))) => Some(format!("{web}{path}")),
    }
}

/// Groups may lie in groups on GitLab; elsewhere there is an owner and a name.
fn is_repository(text: &str, forge: ForgeKind) -> bool {
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let parts = text.split('/').count();
    text.len() <= 400 && text.split('/').all(is_part) && (parts == 2 || (parts > 2 && forge == ForgeKind::Gitlab))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tree::Diagnostic;

    fn settle(text: &str) -> (Settings, Vec<Diagnostic>) {
        Settings::settle(Path::new("/srv"), text.as_bytes(), |_| None)
    }

    fn pulled(url: &str, report: &str) -> Result<ReportSettings, Vec<Diagnostic>> {
        let ssh = if url.starts_with("http") { "" } else { ", key: k, known_hosts: h" };
        let (settings, findings) =
            settle(&format!("pull:\n- {{ name: team, url: '{url}'{ssh}, report: {{ {report} }} }}\n"));
        let report = settings.pull.into_iter().next().and_then(|source| source.report);
        if findings.is_empty() { Ok(report.unwrap()) } else { Err(findings) }
    }

    #[test]
    fn forge_repository_and_api_come_from_the_address_and_may_be_said_otherwise() {
        for (url, report, forge, api, repository) in [
            ("https://github.com/team/apis.git", "", ForgeKind::Github, "https://api.github.com", "team/apis"),
            ("https://gitlab.com/a/b/apis", "", ForgeKind::Gitlab, "https://gitlab.com/api/v4", "a/b/apis"),
            ("git@codeberg.org:team/apis.git", "", ForgeKind::Forgejo, "https://codeberg.org/api/v1", "team/apis"),
            (
                "ssh://git@git.example:2222/t/a.git",
                "forge: gitea, ",
                ForgeKind::Gitea,
                "https://git.example/api/v1",
                "t/a",
            ),
            (
                "https://git.example:3000/t/a",
                "forge: github, ",
                ForgeKind::Github,
                "https://git.example:3000/api/v3",
                "t/a",
            ),
            (
                "https://mirror.example/x",
                "forge: gitlab, api: 'https://gitlab.example/git/api/v4/', repository: t/u/a, ",
                ForgeKind::Gitlab,
                "https://gitlab.example/git/api/v4",
                "t/u/a",
            ),
        ] {
            let found = pulled(url, &format!("{report}token: {{ env: T }}")).unwrap();
            assert_eq!((found.forge, found.api.as_str(), found.repository.as_str()), (forge, api, repository), "{url}");
            assert_eq!((found.context.as_str(), found.environment), ("skep/team", None));
        }
        let pushed =
            "push: { report: { forge: github, repository: t/a, token: { file: t }, environment: production } }";
        let (settings, findings) = settle(pushed);
        assert_eq!(findings, []);
        let report = settings.push.unwrap().report.unwrap();
        assert_eq!((report.context.as_str(), report.environment.as_deref()), ("skep", Some("production")));
    }

    #[test]
    fn what_a_report_lacks_is_said() {
        for (url, report, text) in [
            ("https://git.example/t/a", "token: { env: T }", "whose API the forge speaks"),
            ("https://github.com/t/a", "", "without a `token`"),
            ("https://github.com/a", "token: { env: T }", "this names no repository"),
            ("https://github.com/t/a", "token: { env: T }, repository: ../a", "this names no repository"),
            ("https://github.com/t/a", "token: { env: T }, api: 'ftp://x'", "no address of an API"),
            ("https://github.com/t/a", "token: { env: T }, api: 'http://x.example'", "a token is for https"),
            ("https://github.com/t/a", "token: {}", "a secret is in an `env` variable"),
            ("https://codeberg.org/t/a", "token: { env: T }, environment: production", "knows no deployments"),
            ("https://github.com/t/a", "token: { env: T }, url: 'javascript:1'", "this is no address"),
        ] {
            let findings = pulled(url, report).unwrap_err();
            assert!(findings.iter().any(|finding| finding.message.contains(text)), "{report}: {findings:?}");
        }
        let (_, findings) = settle("push: { report: { forge: gitea, repository: t/a, token: { env: T } } }");
        assert!(findings[0].message.contains("where the forge has its API"), "{findings:?}");
    }
}
