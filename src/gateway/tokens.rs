//! Tokens that an issuer has signed let callers in: JSON Web Tokens, as Supabase Auth and its kind make them.
//!
//! Which key may have signed a token is decided by the kind of the key, never by the token: the secret is for HS256
//! alone, a key of the issuer's set for the one algorithm of its kind.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::jwks;
use super::keys::Shown;
use super::pass::Pass;
use crate::settings::JwtSettings;

/// The longest token that is looked at.
const LONGEST_TOKEN: usize = 16 * 1024;

/// By how much the clocks of the issuer and of this host may differ, in seconds.
const LEEWAY: u64 = 30;

/// How often the issuer's keys are fetched, asked for or not.
const FETCH_EVERY: Duration = Duration::from_secs(600);

/// How soon they are fetched again where that failed.
const FETCH_AGAIN: Duration = Duration::from_secs(15);

/// What lies between two fetches at least, however many tokens come that no known key has signed.
const BETWEEN_FETCHES: Duration = Duration::from_secs(5);

/// The most keys of an issuer that are looked at.
const MAX_SIGNERS: usize = 100;

/// Checks tokens.
#[derive(Debug)]
pub struct Tokens {
    settings: JwtSettings,
    secret: Option<DecodingKey>,
    signers: ArcSwap<Vec<Signer>>,
    /// When the issuer's keys were last asked for.
    asked: Mutex<Option<Instant>>,
}

/// A key of the issuer.
#[derive(Debug, Clone)]
struct Signer {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl Tokens {
    /// Tokens as these settings have them; nothing is fetched yet.
    #[must_use]
    pub fn new(settings: JwtSettings) -> Self {
        let secret = settings.secret.as_ref().map(|secret| DecodingKey::from_secret(secret.0.as_bytes()));
        Self { settings, secret, signers: ArcSwap::default(), asked: Mutex::new(None) }
    }

    /// Keeps the issuer's keys fresh until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        if self.settings.jwks.is_none() {
            stop.cancelled().await;
            return;
        }
        loop {
            let pause = match self.fetch().await {
                Ok(()) => FETCH_EVERY,
                Err(error) => {
                    tracing::warn!("cannot fetch the keys of auth.jwt: {error}; those that are known stay in force");
                    FETCH_AGAIN
                }
            };
            tokio::select! { () = stop.cancelled() => return, () = tokio::time::sleep(pause) => {} }
        }
    }

    /// Fetches the issuer's keys, since a token came that none of them has signed; not too often, and all who ask at the
    /// same time wait for one answer.
    pub(super) async fn refresh(&self) {
        let asked = self.asked.lock().await;
        if asked.is_some_and(|at| at.elapsed() < BETWEEN_FETCHES) {
            return;
        }
        if let Err(error) = self.fetch_now(asked).await {
            tracing::debug!("cannot fetch the keys of auth.jwt: {error}");
        }
    }

    async fn fetch(&self) -> Result<(), jwks::FetchError> {
        let asked = self.asked.lock().await;
        self.fetch_now(asked).await
    }

    async fn fetch_now(&self, mut asked: tokio::sync::MutexGuard<'_, Option<Instant>>) -> Result<(), jwks::FetchError> {
        let Some(place) = &self.settings.jwks else { return Ok(()) };
        *asked = Some(Instant::now());
        let fetched = jwks::fetch(place).await;
        // Whoever waits for an answer that took long need not ask again at once.
        *asked = Some(Instant::now());
        let fetched = fetched?;
        if !fetched["keys"].is_array() {
            return Err(jwks::FetchError::NoSet);
        }
        let signers = signers(&fetched);
        if signers.is_empty() && !self.signers.load().is_empty() {
            tracing::warn!(
                "the issuer of auth.jwt publishes no key for RS256 or ES256 any more: none of its tokens opens anything"
            );
        }
        // Also where none is left: an issuer takes a key out that has leaked.
        self.signers.store(Arc::new(signers));
        Ok(())
    }

    /// What a token is to a request.
    pub(super) fn admit(&self, token: Option<&str>) -> Shown {
        let Some(token) = token.filter(|token| token.len() <= LONGEST_TOKEN) else { return Shown::Nothing };
        // Algorithms that we do not know, `none` above all, are no header to this parser.
        let Ok(header) = decode_header(token) else { return Shown::Nothing };
        if header.crit.is_some() {
            // Something that its reader must understand, and that we do not.
            return Shown::Nothing;
        }
        let signers = self.signers.load();
        let key = match header.alg {
            Algorithm::HS256 => self.secret.as_ref(),
            Algorithm::RS256 | Algorithm::ES256 => match find(&signers, &header) {
                Some(key) => Some(key),
                None if self.settings.jwks.is_some() => return Shown::UnknownSigner,
                None => None,
            },
            _ => None,
        };
        let Some(key) = key else { return Shown::Nothing };
        let validation = self.validation(header.alg);
        let Ok(data) = decode::<Map<String, Value>>(token, key, &validation) else { return Shown::Nothing };
        self.pass(&data.claims).map_or(Shown::Nothing, Shown::Opens)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let JwtSettings { issuer, audience, .. } = &self.settings;
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.validate_aud = audience.is_some();
        let mut required = vec!["exp", "sub"];
        if let Some(issuer) = issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    /// The pass of claims that are signed and in time; `None` where one that is asked for is missing or another.
    fn pass(&self, claims: &Map<String, Value>) -> Option<Pass> {
        let JwtSettings { claims: required, pass, .. } = &self.settings;
        if !required.iter().all(|(name, wanted)| claims.get(name).is_some_and(|value| says(value, wanted))) {
            return None;
        }
        let subject = claims.get("sub")?.as_str()?;
        // What cannot stand in a header cannot be passed on; an app must never see another subject, or none.
        let is_plain = (1..=255).contains(&subject.len()) && subject.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain {
            return None;
        }
        let issuer = claims.get("iss").and_then(Value::as_str).unwrap_or_default();
        let mut told = Vec::with_capacity(pass.len());
        for name in pass {
            if let (Some(header), Some(value)) = (claim_header(name), claims.get(name).and_then(written)) {
                told.push((header, value));
            }
        }
        Pass::of_subject(issuer, subject, told)
    }
}

/// The keys of a set that can have signed a token.
fn signers(set: &Value) -> Vec<Signer> {
    let keys = set["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    keys.iter().take(MAX_SIGNERS).filter_map(signer).collect()
}

/// One key, where it is for signatures, of a kind that we know. One that is not is no reason to know the others less.
fn signer(key: &Value) -> Option<Signer> {
    let jwk: Jwk = serde_json::from_value(key.clone()).ok()?;
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(key) if is_long_enough(&key.n) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        _ => return None,
    };
    let is_for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|what| *what == PublicKeyUse::Signature);
    let is_for_this = jwk.common.key_algorithm.as_ref().is_none_or(|what| *what == named);
    let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| is_for_signatures && is_for_this)?;
    Some(Signer { id: jwk.common.key_id, algorithm, key })
}

/// Whether a modulus, in Base64 as keys have it, is one of 2048 bits or more, as RFC 7518, section 3.3, demands.
fn is_long_enough(modulus: &str) -> bool {
    modulus.trim_start_matches('A').len() * 6 >= 2048
}

/// The key that a token says has signed it; where it says nothing, the only one of its algorithm.
fn find<'a>(signers: &'a [Signer], header: &Header) -> Option<&'a DecodingKey> {
    let mut of_kind = signers.iter().filter(|signer| signer.algorithm == header.alg);
    match &header.kid {
        Some(id) => of_kind.find(|signer| signer.id.as_ref() == Some(id)).map(|signer| &signer.key),
        None => match (of_kind.next(), of_kind.next()) {
            (Some(only), None) => Some(&only.key),
            _ => None,
        },
    }
}

/// Whether a claim is, or has among its items, what is wanted.
fn says(claim: &Value, wanted: &str) -> bool {
    match claim {
        Value::String(text) => text == wanted,
        Value::Number(number) => number.to_string() == wanted,
        Value::Bool(value) => value.to_string() == wanted,
        Value::Array(items) => items.iter().any(|item| !item.is_array() && says(item, wanted)),
        Value::Null | Value::Object(_) => false,
    }
}

/// The header in which an app hears of a claim.
pub(crate) fn claim_header(name: &str) -> Option<HeaderName> {
    let name = name.replace('_', "-");
    HeaderName::from_bytes(format!("x-skep-claim-{name}").to_ascii_lowercase().as_bytes()).ok()
}

/// A claim as it stands in a header: a text of visible characters as it is, all else as JSON in ASCII.
fn written(claim: &Value) -> Option<HeaderValue> {
    if let Some(text) = claim.as_str()
        && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
        && text.trim() == text
    {
        return HeaderValue::from_str(text).ok();
    }
    let mut json = String::new();
    for c in claim.to_string().chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            json.push(c);
        } else {
            let mut units = [0; 2];
            json.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    HeaderValue::from_str(&json).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_written_so_that_a_header_can_hold_it() {
        for (claim, expected) in [
            (json!("a@b.test"), "a@b.test"),
            (json!("two words"), "two words"),
            (json!("J\u{f6}rg \u{1f41d}"), r#""J\u00f6rg \ud83d\udc1d""#),
            (json!("a\r\nX-Admin: 1"), r#""a\r\nX-Admin: 1""#),
            (json!("a\u{7f}"), r#""a\u007f""#),
            (json!(["x", 1, null]), r#"["x",1,null]"#),
            (json!(true), "true"),
        ] {
            assert_eq!(written(&claim).unwrap(), expected);
        }
    }

    #[test]
    fn a_claim_says_what_it_is_or_holds_and_nothing_else() {
        assert!(says(&json!("admin"), "admin") && says(&json!(["user", "admin"]), "admin"));
        assert!(says(&json!(2), "2") && says(&json!(true), "true"));
        for claim in [json!("Admin"), json!(null), json!({ "admin": true }), json!([["admin"]]), json!("admin ")] {
            assert!(!says(&claim, "admin"), "{claim}");
        }
    }

    #[test]
    fn only_keys_for_signatures_of_a_known_kind_are_signers() {
        let ec = |more: &str| {
            let text = format!(
                r#"{{"kty":"EC","crv":"P-256","kid":"a","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"{more}}}"#
            );
            serde_json::from_str::<Value>(&text).unwrap()
        };
        let set = json!({ "keys": [
            ec(""),
            ec(r#","use":"enc""#),
            ec(r#","alg":"ES384""#),
            { "kty": "oct", "k": "c2VjcmV0", "kid": "b", "alg": "HS256" },
            { "kty": "RSA" },
            7,
        ] });
        assert_eq!(signers(&set).len(), 1);
        assert!(signers(&json!({})).is_empty() && signers(&json!([])).is_empty());
        let rsa = |length: usize| json!({ "keys": [{ "kty": "RSA", "n": "w".repeat(length), "e": "AQAB" }] });
        assert_eq!([171, 341, 342, 683].map(|length| signers(&rsa(length)).len()), [0, 0, 1, 1], "1024 to 4096 bits");
    }
}
