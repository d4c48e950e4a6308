//! Sources as somebody wrote them. Secrets are named here, and never written here.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Settings;
use super::push::is_branch;
use super::remote::{Protocol, check_url, is_loopback};
use super::report::{self, ReportFile};
use super::source::{
    Access, Follows, PullSource, SecretPlace, SignedBy, SourcePreviews, is_folder, is_name, is_pattern,
};
use crate::tree::diagnostic::code;
use crate::tree::settle::Settler;
use crate::tree::yaml::At;
use crate::tree::{Seconds, Size};

/// The most sources of one installation.
const MAX_SOURCES: usize = 100;

/// A remote repository to follow.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceFields {
    /// What people call it: `a` to `z`, digits and inner hyphens. Its webhook is `POST /hooks/<name>`.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: Option<At<String>>,
    /// Where it is: `https://…`, `ssh://…`, `git@host:path` or `file:///…`. Without a password: that is what `token` is for.
    #[schemars(length(min = 1, max = 1000), example = &"https://git.example/team/apis.git")]
    pub url: Option<At<String>>,
    /// The branch that is followed.
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._/-]*$"), extend("default" = "main"))]
    pub branch: Option<At<String>>,
    /// Instead of a branch, tags: of those that the pattern fits, the one with the highest version. `*` is any text, `?` any
    /// character.
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[A-Za-z0-9*?][A-Za-z0-9._/*?-]*$"), example = &"v*")]
    pub tags: Option<At<String>>,
    /// The folder in it that holds the API folders.
    #[schemars(length(min = 1, max = 500), extend("default" = "apis"))]
    pub folder: Option<At<String>>,
    /// How often it is asked whether there is something new; up to a tenth more or less, so that not all ask at once.
    #[schemars(extend("default" = "1m", "x-bounds" = "5s to 1d"))]
    pub every: Option<At<Seconds>>,
    /// The most that it may send at once.
    #[schemars(extend("default" = "100MiB", "x-bounds" = "1MiB to 10GiB"))]
    pub max_size: Option<At<Size>>,
    /// The token that opens it over HTTP.
    pub token: Option<At<SecretFile>>,
    /// The name that goes with the token.
    #[schemars(length(min = 1, max = 100), extend("default" = "x-access-token"))]
    pub user: Option<At<String>>,
    /// The file of the private key that opens it over SSH; relative to `skep.yaml`. Keep it out of git.
    #[schemars(length(min = 1, max = 4000))]
    pub key: Option<At<String>>,
    /// The file of the keys of SSH hosts, one of which its host must show; relative to `skep.yaml`.
    #[schemars(length(min = 1, max = 4000))]
    pub known_hosts: Option<At<String>>,
    /// The secret that its webhooks are signed with. Without one no webhook is taken.
    pub webhook: Option<At<SecretFile>>,
    /// Who must have signed the commit, or the tag, that is served. Without it nobody has to.
    pub signed_by: Option<At<SignedByFile>>,
    /// Whether folders that somebody has changed here by hand are put back as their commit has them; else they stay, and a
    /// commit that changes them too waits.
    #[schemars(extend("default" = false))]
    pub overwrite: Option<bool>,
    /// Where its forge is told what became of each commit. Without it, nobody is.
    pub report: Option<ReportFile>,
    /// Has its pull requests served beside what they would change, while its webhook tells of them. Without it, none is.
    #[schemars(extend("x-optional" = true))]
    pub previews: Option<At<SourcePreviewsFile>>,
}

/// Which pull requests are served.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourcePreviewsFile {
    /// Also those that come from other repositories: anybody may then have code run here, in containers without rights.
    #[schemars(extend("default" = false))]
    pub forks: Option<bool>,
}

/// An entry of `pull`.
pub type SourceFile = At<SourceFields>;

/// Where a secret is. One of the two.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SecretFile {
    /// The variable of the daemon's environment that holds it.
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$"))]
    pub env: Option<At<String>>,
    /// The file that holds it; relative to `skep.yaml`. Keep it out of git.
    #[schemars(length(min = 1, max = 4000))]
    pub file: Option<At<String>>,
}

/// Who may sign; either is enough.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SignedByFile {
    /// The file of allowed signers (see `ssh-keygen`), relative to `skep.yaml`.
    #[schemars(length(min = 1, max = 4000))]
    pub ssh: Option<At<String>>,
    /// The file of public keys as `gpg --export` writes it, armoured or not, relative to `skep.yaml`.
    #[schemars(length(min = 1, max = 4000))]
    pub gpg: Option<At<String>>,
}

/// Lays a file over settings.
pub(super) fn lay_over(settler: &mut Settler<'_, '_>, files: &At<Vec<SourceFile>>, settings: &mut Settings) {
    if settings.push.is_some() && !files.value.is_empty() {
        let message = "pushes are taken here, and what is pulled would take the place of what is pushed";
        settler.error(code::BAD_VALUE, files, message, "keep one of `push` and `pull`");
    }
    if files.value.len() > MAX_SOURCES {
        settler.error(code::OUT_OF_BOUNDS, files, format!("there are {MAX_SOURCES} sources at the most"), "");
    }
    for file in files.value.iter().take(MAX_SOURCES) {
        let Some(source) = source(settler, file, settings) else { continue };
        match (settings.pull.iter().any(|known| known.name == source.name), &file.value.name) {
            (true, Some(name)) => {
                let message = format!("there is a source {:?} already", source.name);
                settler.error(code::BAD_VALUE, name, message, "give each a name of its own");
            }
            _ => settings.pull.push(source),
        }
    }
}

fn source(settler: &mut Settler<'_, '_>, file: &SourceFile, settings: &Settings) -> Option<PullSource> {
    let fields = &file.value;
    let (Some(name), Some(url)) = (&fields.name, &fields.url) else {
        let message = "a source needs a `name` and a `url`";
        settler.error(
            code::MISSING_KEY,
            file,
            message,
            "write it as in { name: team, url: https://git.example/apis.git }",
        );
        return None;
    };
    let mut is_good = true;
    let mut bad = |settler: &mut Settler<'_, '_>, at: &At<String>, message: &str, hint: &str| {
        is_good = false;
        settler.error(code::BAD_VALUE, at, message, hint);
    };
    if !is_name(&name.value) {
        bad(settler, name, "this is no name of a source", "40 of a to z, 0 to 9 and inner hyphens at the most");
    }
    let protocol = check_url(&url.value);
    if let Err((message, hint)) = protocol {
        bad(settler, url, message, hint);
    }
    let follows = match (&fields.branch, &fields.tags) {
        (Some(_), Some(tags)) => {
            bad(settler, tags, "a branch is followed, or tags are", "keep one of `branch` and `tags`");
            None
        }
        (Some(branch), None) if !is_branch(&branch.value) => {
            bad(settler, branch, "this is no name of a branch", "write it as in main");
            None
        }
        (None, Some(tags)) if !is_pattern(&tags.value) => {
            bad(settler, tags, "this is no pattern of tags", "write it as in v*");
            None
        }
        (None, Some(tags)) => Some(Follows::Tags(tags.value.clone())),
        (branch, None) => {
            Some(Follows::Branch(branch.as_ref().map_or_else(|| "main".to_owned(), |branch| branch.value.clone())))
        }
    };
    let folder = fields.folder.as_ref().map_or("apis", |folder| folder.value.trim_end_matches('/'));
    if let Some(at) = &fields.folder
        && !is_folder(folder)
    {
        bad(settler, at, "this is no folder of a repository", "write it as in services/apis");
    }
    let (mut every, mut max_size) = (Seconds::new(60), Size::mib(100));
    settler.within(fields.every.as_ref(), Seconds::new(5)..=Seconds::new(86_400), &mut every);
    settler.within(fields.max_size.as_ref(), Size::mib(1)..=Size::mib(10 * 1024), &mut max_size);
    let protocol = protocol.ok();
    let access = protocol.and_then(|protocol| access(settler, url, protocol, fields, settings));
    let webhook = fields.webhook.as_ref().map(|at| secret(settler, at, settings));
    let signed_by = fields.signed_by.as_ref().map(|at| signers(settler, at, settings));
    let report = fields.report.as_ref();
    let report = report.map(|file| report::settle(settler, file, (&name.value, Some(&url.value)), settings));
    let previews = fields.previews.as_ref().map(|at| SourcePreviews { forks: at.value.forks.unwrap_or(false) });
    if let Some(at) = &fields.previews {
        if fields.webhook.is_none() {
            let hint = "name a `webhook` too";
            settler.error(code::MISSING_KEY, at, "nobody but its webhook tells of pull requests", hint);
        }
        if settings.previews.is_none() {
            let hint = "add `previews: {}` beside `pull`; previews.md says what may stand in it";
            settler.error(code::MISSING_KEY, at, "no previews are served here", hint);
        }
    }
    if !is_good || webhook == Some(None) || signed_by == Some(None) || report == Some(None) {
        return None;
    }
    Some(PullSource {
        name: name.value.clone(),
        url: url.value.clone(),
        protocol: protocol?,
        follows: follows?,
        folder: folder.to_owned(),
        every,
        max_size,
        access: access?,
        webhook: webhook.flatten(),
        signed_by: signed_by.flatten(),
        overwrite: fields.overwrite.unwrap_or(false),
        report: report.flatten(),
        previews,
    })
}

/// How skep gets in; `None` where something is wrong with it.
fn access(
    settler: &mut Settler<'_, '_>,
    url: &At<String>,
    protocol: Protocol,
    fields: &SourceFields,
    settings: &Settings,
) -> Option<Access> {
    let SourceFields { token, user, key, known_hosts, .. } = fields;
    match protocol {
        Protocol::Ssh => {
            if let Some(at) = token {
                settler.error(code::BAD_VALUE, at, "a token opens nothing over SSH", "name a `key` instead");
            }
            let (Some(key), Some(hosts)) = (key, known_hosts) else {
                let hint = "ssh-keygen -t ed25519 makes a key, ssh-keyscan HOST shows the host's: compare that with what its owner says";
                settler.error(code::MISSING_KEY, url, "SSH needs a `key` and `known_hosts`", hint);
                return None;
            };
            let (file, known_hosts) = (path(settler, key, settings)?, path(settler, hosts, settings)?);
            (token.is_none()).then_some(Access::Key { file, known_hosts })
        }
        Protocol::Https | Protocol::Http | Protocol::File => {
            if let Some(at) = key.as_ref().or(known_hosts.as_ref()) {
                settler.error(code::BAD_VALUE, at, "this is for SSH, and the address is not", "name a `token` instead");
                return None;
            }
            let Some(at) = token else {
                if let Some(user) = user {
                    settler.error(
                        code::MISSING_KEY,
                        user,
                        "a name without a token opens nothing",
                        "name a `token` too",
                    );
                    return None;
                }
                return Some(Access::Open);
            };
            if protocol == Protocol::File || (protocol == Protocol::Http && !is_loopback(&url.value)) {
                let message = "a token is for https: elsewhere it could be read on its way";
                settler.error(code::BAD_VALUE, at, message, "write the address with https");
                return None;
            }
            let user = user.as_ref().map_or_else(
                || Some("x-access-token".to_owned()),
                |user| {
                    let is_user =
                        (1..=100).contains(&user.value.len()) && user.value.chars().all(|c| c.is_ascii_graphic());
                    if !is_user {
                        settler.error(code::BAD_VALUE, user, "this is no name of a user", "");
                    }
                    is_user.then(|| user.value.clone())
                },
            );
            Some(Access::Token { user: user?, token: secret(settler, at, settings)? })
        }
    }
}

pub(super) fn secret(settler: &mut Settler<'_, '_>, at: &At<SecretFile>, settings: &Settings) -> Option<SecretPlace> {
    match &at.value {
        SecretFile { env: Some(name), file: None } => {
            let is_first = |c: char| c.is_ascii_alphabetic() || c == '_';
            let is_variable = name.value.starts_with(is_first)
                && name.value.len() <= 200
                && name.value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if !is_variable {
                settler.error(code::BAD_VALUE, name, "this is no name of a variable", "write it as in TEAM_TOKEN");
            }
            is_variable.then(|| SecretPlace::Env(name.value.clone()))
        }
        SecretFile { env: None, file: Some(file) } => path(settler, file, settings).map(SecretPlace::File),
        _ => {
            let hint = "write it as in { env: TEAM_TOKEN } or { file: /etc/skep/token }";
            settler.error(code::MISSING_KEY, at, "a secret is in an `env` variable or in a `file`", hint);
            None
        }
    }
}

fn signers(settler: &mut Settler<'_, '_>, at: &At<SignedByFile>, settings: &Settings) -> Option<SignedBy> {
    let SignedByFile { ssh, gpg } = &at.value;
    if ssh.is_none() && gpg.is_none() {
        let hint = "write it as in { ssh: allowed_signers } or { gpg: keys.asc }";
        settler.error(code::MISSING_KEY, at, "signers are in a file of `ssh` or `gpg` keys", hint);
        return None;
    }
    let mut file = |at: &Option<At<String>>| at.as_ref().map(|at| path(settler, at, settings));
    let (ssh, gpg) = (file(ssh), file(gpg));
    (ssh != Some(None) && gpg != Some(None)).then(|| SignedBy { ssh: ssh.flatten(), gpg: gpg.flatten() })
}

fn path(settler: &mut Settler<'_, '_>, at: &At<String>, settings: &Settings) -> Option<PathBuf> {
    // A quote would end the word that the path is in, where it is handed to ssh.
    if at.value.is_empty() || at.value.len() > 4000 || at.value.chars().any(|c| c.is_control() || c == '"') {
        settler.error(code::BAD_VALUE, at, "this is no path", "write the path of a file");
        return None;
    }
    Some(settings.root.join(&at.value))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::tree::Diagnostic;

    fn settle(text: &str) -> (Settings, Vec<Diagnostic>) {
        Settings::settle(Path::new("/srv"), text.as_bytes(), |_| None)
    }

    #[test]
    fn sources_are_taken_as_they_are_described() {
        let (settings, findings) = settle(
            "pull:\n- { name: team, url: 'https://git.example/apis.git', token: { env: TOKEN }, webhook: { file: hook } }\n\
             - { name: mono, url: 'git@git.example:mono.git', tags: 'v*', folder: services/apis/, every: 10s, key: k, \
             known_hosts: /etc/hosts.keys, signed_by: { ssh: signers }, overwrite: true }\n",
        );
        assert_eq!(findings, []);
        let [team, mono] = settings.pull.as_slice() else { panic!("{:?}", settings.pull) };
        assert_eq!((team.follows.clone(), team.folder.as_str()), (Follows::Branch("main".into()), "apis"));
        let token = SecretPlace::Env("TOKEN".into());
        assert_eq!(team.access, Access::Token { user: "x-access-token".into(), token });
        assert_eq!(team.webhook, Some(SecretPlace::File("/srv/hook".into())));
        assert_eq!((mono.follows.clone(), mono.folder.as_str()), (Follows::Tags("v*".into()), "services/apis"));
        assert_eq!(mono.access, Access::Key { file: "/srv/k".into(), known_hosts: "/etc/hosts.keys".into() });
        assert_eq!(mono.signed_by.as_ref().unwrap().ssh.as_deref(), Some(Path::new("/srv/signers")));
        assert!(mono.overwrite && mono.protocol == Protocol::Ssh && mono.every == Seconds::new(10));
    }

    #[test]
    fn what_is_wrong_with_a_source_is_said() {
        let of = |text: &str| {
            let (settings, findings) = settle(&format!("pull: [{{ {text} }}]"));
            assert!(settings.pull.is_empty(), "{text}");
            findings.iter().map(|finding| finding.code).collect::<Vec<_>>()
        };
        let url = "url: 'https://git.example/a'";
        for missing in ["name: a".to_owned(), url.to_owned(), format!("name: a, {url}, token: {{}}")] {
            assert_eq!(of(&missing), [code::MISSING_KEY], "{missing}");
        }
        for ssh in ["name: a, url: 'ssh://git@h/a', key: k", "name: a, url: 'git@h:a', known_hosts: k"] {
            assert_eq!(of(ssh), [code::MISSING_KEY], "{ssh}");
        }
        for bad in [
            "name: A".to_owned(),
            "name: a, branch: main, tags: v1".to_owned(),
            "name: a, branch: '-x'".to_owned(),
            "name: a, tags: 'v 1'".to_owned(),
            "name: a, folder: ../x".to_owned(),
            "name: a, key: k".to_owned(),
            "name: a, token: { env: 'A B' }".to_owned(),
            "name: a, token: { file: '' }".to_owned(),
        ] {
            assert_eq!(of(&format!("{bad}, {url}")), [code::BAD_VALUE], "{bad}");
        }
        assert_eq!(of("name: a, url: 'http://git.example/a', token: { env: T }"), [code::BAD_VALUE]);
        let both = settle(&format!("push: {{}}\npull: [{{ name: a, {url} }}]")).1;
        assert!(both[0].hint.contains("keep one of `push` and `pull`"), "{both:?}");
        let twice = settle(&format!("pull: [{{ name: a, {url} }}, {{ name: a, {url} }}]")).1;
        assert!(twice[0].message.contains("there is a source \"a\" already"), "{twice:?}");
    }
}
