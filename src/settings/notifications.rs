//! Who is told what happens: addresses of others, what they want to know, and in which form.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Settings;
use super::pull::{SecretFile, secret};
use super::remote::is_web;
use super::source::{SecretPlace, is_name};
use crate::tree::diagnostic::code;
use crate::tree::settle::Settler;
use crate::tree::yaml::At;

/// The most of them.
const MAX: usize = 20;

/// Somebody who is told what happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notified {
    /// What people call them.
    pub name: String,
    /// Where they are.
    pub url: Address,
    /// In which form.
    pub format: Format,
    /// What they want to know.
    pub events: BTreeSet<NewsKind>,
    /// What their messages are signed with.
    pub secret: Option<SecretPlace>,
}

/// Where somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// There.
    Plain(String),
    /// Where a secret says, since whoever knows the address may write there.
    Secret(SecretPlace),
}

/// In which form somebody is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON of skep's own, signed as the Standard Webhooks specification says.
    #[default]
    Webhook,
    /// A message as Slack's incoming webhooks take it.
    Slack,
}

/// What people want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NewsKind {
    /// Something new serves.
    Deployed,
    /// Something does not serve as it should.
    Failed,
    /// Something was wrong, and is not any more.
    Healed,
    /// Something is left as it is, on somebody's word.
    Held,
}

impl NewsKind {
    /// Each of them.
    pub const ALL: [Self; 4] = [Self::Failed, Self::Held, Self::Healed, Self::Deployed];

    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployed => "deployed",
            Self::Failed => "failed",
            Self::Healed => "healed",
            Self::Held => "held",
        }
    }
}

/// Somebody who is told what happens.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifiedFields {
    /// What people call them: `a` to `z`, digits and inner hyphens.
    #[schemars(length(min = 1, max = 40), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: Option<At<String>>,
    /// Where they are.
    #[schemars(length(min = 1, max = 2000), regex(pattern = "^https?://"), example = &"https://hooks.example/skep")]
    pub url: Option<At<String>>,
    /// Where their address is, instead of `url`: whoever knows an address of Slack may write there.
    pub url_from: Option<At<SecretFile>>,
    /// In which form: `webhook` is signed JSON, `slack` what Slack's incoming webhooks take, and others that take the same.
    #[schemars(extend("default" = "webhook"))]
    pub format: Option<Format>,
    /// What they want to know. All of it where nothing is said.
    pub events: Option<At<Vec<NewsKind>>>,
    /// The secret that webhooks are signed with.
    pub secret: Option<At<SecretFile>>,
}

/// An entry of `notifications`.
pub type NotifiedFile = At<NotifiedFields>;

/// Lays a file over settings.
pub(super) fn lay_over(settler: &mut Settler<'_, '_>, files: &At<Vec<NotifiedFile>>, settings: &mut Settings) {
    if files.value.len() > MAX {
        settler.error(code::OUT_OF_BOUNDS, files, format!("there are {MAX} of them at the most"), "");
    }
    for file in files.value.iter().take(MAX) {
        let Some(notified) = notified(settler, file, settings) else { continue };
        if settings.notifications.iter().any(|known| known.name == notified.name) {
            let message = format!("somebody is called {:?} already", notified.name);
            settler.error(code::BAD_VALUE, file, message, "give each a name of its own");
        } else {
            settings.notifications.push(notified);
        }
    }
}

fn notified(settler: &mut Settler<'_, '_>, file: &NotifiedFile, settings: &Settings) -> Option<Notified> {
    let fields = &file.value;
    let Some(name) = &fields.name else {
        let hint = "write it as in { name: team, url: https://hooks.example/skep }";
        settler.error(code::MISSING_KEY, file, "whoever is told needs a `name`", hint);
        return None;
    };
    if !is_name(&name.value) {
        let hint = "40 of a to z, 0 to 9 and inner hyphens at the most";
        settler.error(code::BAD_VALUE, name, "this is no name", hint);
        return None;
    }
    let url = match (&fields.url, &fields.url_from) {
        (Some(url), None) if is_web(&url.value) => Address::Plain(url.value.clone()),
        (Some(url), None) => {
            let message = "this is no address, or holds a password";
            settler.error(code::BAD_VALUE, url, message, "write it as in https://hooks.example/skep");
            return None;
        }
        (None, Some(from)) => Address::Secret(secret(settler, from, settings)?),
        _ => {
            let message = "where they are stands in `url`, or in what `url_from` names";
            settler.error(code::MISSING_KEY, file, message, "write one of the two");
            return None;
        }
    };
    let format = fields.format.unwrap_or_default();
    if let Some(secret) = fields.secret.as_ref().filter(|_| format == Format::Slack) {
        let message = "Slack checks no signature";
        settler.error(code::BAD_VALUE, secret, message, "leave the secret out: the address is one");
        return None;
    }
    let signed = fields.secret.as_ref().map(|at| secret(settler, at, settings));
    if signed == Some(None) {
        return None;
    }
    let all = || NewsKind::ALL.into_iter().collect();
    if let Some(none) = fields.events.as_ref().filter(|events| events.value.is_empty()) {
        let message = format!("{} is told of nothing", name.value);
        settler.warning(
            code::POINTLESS,
            none,
            message,
            "name what they want to know, or leave `events` out for all of it",
        );
    }
    let events: BTreeSet<NewsKind> =
        fields.events.as_ref().map_or_else(all, |events| events.value.iter().copied().collect());
    Some(Notified { name: name.value.clone(), url, format, events, secret: signed.flatten() })
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
    fn whoever_is_told_of_nothing_is_pointed_out() {
        let (settings, findings) = settle("notifications: [{ name: a, url: 'https://a.example', events: [] }]");
        assert_eq!(settings.notifications.len(), 1);
        let [finding] = &findings[..] else { panic!("{findings:?}") };
        assert!(!finding.is_error() && finding.code == code::POINTLESS, "{finding:?}");
        assert_eq!(finding.span.map(|span| (span.line, span.column)), Some((1, 62)));
    }

    #[test]
    fn whoever_is_told_is_taken_as_described() {
        let (settings, findings) = settle(
            "notifications:\n- { name: ops, url_from: { env: SLACK_URL }, format: slack, events: [failed, held] }\n\
             - { name: bot, url: 'http://bot:8080/skep', secret: { file: bot.key } }\n",
        );
        assert_eq!(findings, []);
        let [ops, bot] = settings.notifications.as_slice() else { panic!("{:?}", settings.notifications) };
        assert_eq!((ops.format, &ops.url), (Format::Slack, &Address::Secret(SecretPlace::Env("SLACK_URL".into()))));
        assert_eq!(ops.events.iter().copied().collect::<Vec<_>>(), [NewsKind::Failed, NewsKind::Held]);
        assert_eq!((bot.events.len(), bot.format), (4, Format::Webhook));
        assert_eq!(bot.secret, Some(SecretPlace::File("/srv/bot.key".into())));
    }

    #[test]
    fn what_is_wrong_with_one_is_said_where_it_stands() {
        for (text, said) in [
            ("{ url: 'https://a.example' }", "whoever is told needs a `name`"),
            ("{ name: A, url: 'https://a.example' }", "this is no name"),
            ("{ name: a }", "`url`, or in what `url_from` names"),
            ("{ name: a, url: 'https://a.example', url_from: { env: A } }", "`url`, or in what `url_from` names"),
            ("{ name: a, url: 'https://me:secret@a.example' }", "this is no address, or holds a password"),
            ("{ name: a, url: 'file:///etc/passwd' }", "this is no address"),
            ("{ name: a, url: 'https://a.example', events: [borken] }", "borken"),
            ("{ name: a, url: 'https://a.example', format: slack, secret: { env: A } }", "Slack checks no signature"),
            ("{ name: a, url: 'https://a.example', secret: {} }", "a secret is in an `env` variable"),
        ] {
            let (settings, findings) = settle(&format!("notifications:\n- {text}\n"));
            assert!(findings.iter().any(|finding| finding.message.contains(said)), "{text}: {findings:?}");
            assert!(settings.notifications.is_empty() || text.contains("borken"), "{text}");
        }
        let twice =
            "notifications:\n- { name: a, url: 'https://a.example' }\n- { name: a, url: 'https://b.example' }\n";
        let (settings, findings) = settle(twice);
        assert!(settings.notifications.len() == 1 && findings[0].message.contains("already"), "{findings:?}");
    }
}
