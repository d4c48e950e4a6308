//! Tokens as `skep.yaml` names them: who signs them, and what they must say.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::Settings;
use crate::tree::diagnostic::code;
use crate::tree::settle::Settler;
use crate::tree::yaml::{AsWritten, At};

/// How the tokens of callers are checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JwtSettings {
    /// `SKEP_JWT_SECRET`, which signs by HS256.
    pub secret: Option<JwtSecret>,
    /// Where the issuer publishes its keys, which sign by RS256 or ES256.
    pub jwks: Option<JwksPlace>,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// What `aud` must be or hold.
    pub audience: Option<String>,
    /// What other claims must be or hold.
    pub claims: BTreeMap<String, String>,
    /// The claims that apps are told of.
    pub pass: Vec<String>,
}

/// A secret; its `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSecret(pub String);

impl fmt::Debug for JwtSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JwtSecret(…)")
    }
}

/// Where an issuer publishes its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JwksPlace {
    /// At an `http` or `https` URL.
    Url(http::Uri),
    /// In a file.
    File(PathBuf),
}

/// How callers show who they are.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthFile {
    /// The tokens of callers, for APIs with `route.auth: jwt`. They need `exp` and `sub`. `SKEP_JWT_SECRET` signs them by
    /// HS256, or the keys of `jwks_url` by RS256 or ES256.
    pub jwt: Option<JwtFile>,
}

/// The tokens of callers.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JwtFile {
    /// Where their issuer publishes its keys: a URL, or the path of a file, relative to `skep.yaml`.
    #[schemars(length(min = 1, max = 2000), example = &"https://project.example/auth/v1/.well-known/jwks.json")]
    pub jwks_url: Option<At<String>>,
    /// What `iss` must be.
    #[schemars(length(min = 1, max = 1000))]
    pub issuer: Option<At<String>>,
    /// What `aud` must be or hold.
    #[schemars(length(min = 1, max = 1000), example = &"authenticated")]
    pub audience: Option<At<String>>,
    /// What other claims must be or hold.
    #[schemars(example = serde_json::json!({ "role": "authenticated" }))]
    pub claims: Option<ClaimsFile>,
    /// Claims that apps are told of, each in a header of its own: `email` in `X-Skep-Claim-Email`.
    #[schemars(example = &["email", "role"])]
    pub pass: Option<Vec<At<String>>>,
}

/// Claims by name, as they are written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct ClaimsFile(BTreeMap<String, AsWritten>);

impl JsonSchema for ClaimsFile {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Claims".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } })
    }
}

/// Lays what a file says of tokens over settings.
pub(super) fn lay_over(settler: &mut Settler<'_, '_>, file: &JwtFile, settings: &mut Settings) {
    let JwtFile { jwks_url, issuer, audience, claims, pass } = file;
    if let Some(place) = jwks_url {
        let is_url = place.value.contains("://");
        let url = place.value.parse::<http::Uri>().ok().filter(|uri| {
            matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty())
        });
        match url {
            Some(uri) => settings.jwt.jwks = Some(JwksPlace::Url(uri)),
            None if is_url || place.value.is_empty() || place.value.chars().any(char::is_control) => {
                let hint = "write it as in https://issuer.example/.well-known/jwks.json, or name a file";
                settler.error(code::BAD_VALUE, place, "keys are fetched by http or https", hint);
            }
            None => settings.jwt.jwks = Some(JwksPlace::File(settings.root.join(&place.value))),
        }
    }
    for (text, target) in [(issuer, &mut settings.jwt.issuer), (audience, &mut settings.jwt.audience)] {
        match text {
            Some(text) if (1..=1000).contains(&text.value.len()) => *target = Some(text.value.clone()),
            Some(text) => settler.error(code::OUT_OF_BOUNDS, text, "this has 1 to 1000 characters", ""),
            None => {}
        }
    }
    if let Some(ClaimsFile(claims)) = claims {
        settings.jwt.claims = claims.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect();
    }
    for name in pass.as_deref().unwrap_or_default() {
        let is_name = (1..=64).contains(&name.value.len())
            && name.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        if is_name {
            settings.jwt.pass.push(name.value.clone());
        } else {
            let hint = "a claim that is passed on has letters, digits, `_` and `-` in its name, 64 at most";
            settler.error(code::BAD_VALUE, name, "this cannot be part of the name of a header", hint);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn tokens_are_taken_as_they_are_described() {
        let settle = |text: &str| Settings::settle(Path::new("/srv"), text.as_bytes(), |_| None);
        let (settings, findings) = settle(
            "auth: { jwt: { jwks_url: 'https://a.test/jwks.json', issuer: 'https://a.test', audience: authenticated, \
             claims: { role: authenticated, level: 2 }, pass: [email, app_role] } }",
        );
        assert_eq!(findings, []);
        let jwt = settings.jwt;
        assert_eq!(jwt.jwks, Some(JwksPlace::Url("https://a.test/jwks.json".parse().unwrap())));
        assert_eq!(jwt.claims, [("level".into(), "2".into()), ("role".into(), "authenticated".into())].into());
        assert_eq!((jwt.issuer.as_deref(), jwt.pass.len()), (Some("https://a.test"), 2));
        let file = settle("auth: { jwt: { jwks_url: keys/jwks.json } }").0.jwt.jwks;
        assert_eq!(file, Some(JwksPlace::File("/srv/keys/jwks.json".into())));
        for bad in ["jwks_url: 'ftp://a'", "jwks_url: 'https://'", "jwks_url: ''", "pass: ['a b']"] {
            let (_, findings) = settle(&format!("auth: {{ jwt: {{ {bad} }} }}"));
            assert_eq!(findings.iter().map(|finding| finding.code).collect::<Vec<_>>(), [code::BAD_VALUE], "{bad}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let jwt = JwtSettings { secret: Some(JwtSecret("hunter2".into())), ..JwtSettings::default() };
        assert!(!format!("{jwt:?}").contains("hunter2"));
    }
}
