//! A webhook is a word of a forge that there may be something new. Only a hint, and only from one who knows the secret.

use std::collections::VecDeque;

use base64::Engine as _;
use hmac::{Hmac, Mac as _};
use http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::source::{Source, lock};
use crate::git::access::{Secret, SecretError};
use crate::settings::SecretPlace;

/// How far the time of a delivery may be from ours, where it has one: that of the Standard Webhooks specification.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// How many deliveries of a source are remembered.
const REMEMBERED: usize = 500;

/// The fewest bytes of a secret, or of the key that it stands for: a shorter one can be guessed from one delivery.
const SHORTEST: usize = 16;

/// Headers in which forges send the HMAC of a body in hexadecimal digits: GitHub, and Gitea and Forgejo beside their own; the
/// value of the first begins with `sha256=`.
const HEX: [&str; 3] = ["x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature"];

/// The header in which the Standard Webhooks specification has signatures.
const STANDARD: &str = "webhook-signature";

/// The header in which GitLab sends the secret itself.
const TOKEN: &str = "x-gitlab-token";

/// A delivery while its body is read.
pub struct Delivery {
    shown: Vec<Shown>,
    at: Option<Timestamp>,
}

/// What shows that it comes from one who knows the secret.
enum Shown {
    /// The HMAC of the body, with what stands before it, is one of these.
    Signature { mac: Option<Hmac<Sha256>>, said: Vec<Vec<u8>> },
    /// A token, which is the secret itself, or is not.
    Token { is_secret: bool, id: Vec<u8> },
}

/// The deliveries that were seen last, by digests of what shows that they are genuine.
#[derive(Debug, Default)]
pub struct Deliveries(VecDeque<[u8; 32]>);

/// Why the secret of webhooks cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// It is not there, or is none.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// It can be guessed.
    #[error(
        "its secret is shorter than {SHORTEST} bytes; set a longer one here and there, as `openssl rand -hex 32` prints it"
    )]
    Short,
}

/// Reads the secret of a source's webhooks.
///
/// # Errors
/// Where it cannot be read, and where it is so short that it can be guessed.
pub fn secret(place: &SecretPlace) -> Result<Secret, WebhookError> {
    let secret = Secret::read(place)?;
    let shortest = secret.as_bytes().len().min(standard_key(secret.as_bytes()).len());
    if shortest < SHORTEST { Err(WebhookError::Short) } else { Ok(secret) }
}

/// Whether headers show anything at all by which a delivery may be genuine.
#[must_use]
pub fn is_shown(headers: &HeaderMap) -> bool {
    HEX.into_iter().chain([STANDARD, TOKEN]).any(|name| headers.contains_key(name))
}

/// What came of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is genuine, and new.
    New,
    /// It is genuine, and was seen before.
    Again,
    /// It is not known to be genuine.
    Forged,
}

impl Delivery {
    /// Begins with the headers.
    #[must_use]
    pub fn begin(headers: &HeaderMap, secret: &Secret) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let mut shown = Vec::new();
        let (mut at, secret) = (None, secret.as_bytes());
        // What is signed goes before what only names the secret; and one that is wrong is not made good by another.
        if let Some(signatures) = text(STANDARD) {
            let (id, moment) = (text("webhook-id").unwrap_or_default(), text("webhook-timestamp").unwrap_or_default());
            at = Some(
                moment.parse().ok().and_then(|second| Timestamp::from_second(second).ok()).unwrap_or(Timestamp::MIN),
            );
            let signatures = signatures.split(' ').filter_map(|word| word.strip_prefix("v1,"));
            let said = signatures.filter_map(|word| base64::engine::general_purpose::STANDARD.decode(word).ok());
            let mut mac = mac(&standard_key(secret));
            if let Some(mac) = &mut mac {
                mac.update(format!("{id}.{moment}.").as_bytes());
            }
            shown.push(Shown::Signature { mac, said: said.collect() });
        }
        for name in HEX {
            if let Some(value) = text(name) {
                let said = hex::decode(value.strip_prefix("sha256=").unwrap_or(value)).into_iter().collect();
                shown.push(Shown::Signature { mac: mac(secret), said });
            }
        }
        if shown.is_empty()
            && let Some(token) = headers.get(TOKEN)
        {
            // As digests: of equal length, so that it takes the same time whatever is shown.
            let is_secret = bool::from(Sha256::digest(token.as_bytes()).ct_eq(&Sha256::digest(secret)));
            let id = ["webhook-id", "idempotency-key", "x-gitlab-event-uuid"].into_iter().find_map(text);
            shown.push(Shown::Token { is_secret, id: id.unwrap_or_default().as_bytes().to_vec() });
        }
        Self { shown, at }
    }

    /// Goes on with some of the body.
    pub fn update(&mut self, bytes: &[u8]) {
        for shown in &mut self.shown {
            if let Shown::Signature { mac: Some(mac), .. } = shown {
                mac.update(bytes);
            }
        }
    }

    /// Says what it is, now that the body has ended.
    #[must_use]
    pub fn end(self, source: &Source, now: Timestamp) -> Verdict {
        let is_in_time = self.at.is_none_or(|at| now.duration_since(at).abs() <= TOLERANCE);
        let mut marks = Sha256::new();
        let (mut is_genuine, mut is_marked) = (!self.shown.is_empty(), false);
        // None of them is left out, so that it takes the same time whichever is wrong.
        for shown in self.shown {
            match shown {
                Shown::Signature { mac: None, .. } => is_genuine = false,
                Shown::Signature { mac: Some(mac), said } => {
                    let right = mac.finalize().into_bytes();
                    let is_right =
                        said.iter().fold(false, |is_right, said| is_right | bool::from(right[..].ct_eq(said)));
                    is_genuine &= is_right;
                    marks.update(right);
                    is_marked = true;
                }
                Shown::Token { is_secret, id } => {
                    is_genuine &= is_secret;
                    is_marked |= !id.is_empty();
                    marks.update(id);
                }
            }
        }
        if !is_genuine || !is_in_time {
            return Verdict::Forged;
        }
        // What nothing tells from another is taken for new: a hint too many is a question to the remote, and no more.
        let is_new = !is_marked || lock(&source.deliveries).remember(marks.finalize().into());
        if is_new { Verdict::New } else { Verdict::Again }
    }
}

impl Deliveries {
    /// Remembers one; answers whether it is new.
    fn remember(&mut self, mark: [u8; 32]) -> bool {
        if self.0.contains(&mark) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(mark);
        true
    }
}

/// It takes keys of any length; were there one that it does not take, nothing would be signed with it.
pub(crate) fn mac(key: &[u8]) -> Option<Hmac<Sha256>> {
    Hmac::new_from_slice(key).ok()
}

/// The key that a secret stands for in the Standard Webhooks specification, as GitLab shows it: `whsec_` and Base64.
pub(crate) fn standard_key(secret: &[u8]) -> Vec<u8> {
    let coded = secret.strip_prefix(b"whsec_");
    let key = coded.and_then(|coded| base64::engine::general_purpose::STANDARD.decode(coded).ok());
    key.unwrap_or_else(|| secret.to_vec())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::{HeaderName, HeaderValue};

    use super::*;
    use crate::settings::{SecretPlace, Settings};

    const BODY: &[u8] = br#"{"ref":"refs/heads/main"}"#;

    fn source() -> Source {
        let settings = "pull: [{ name: a, url: 'https://git.example/a' }]";
        let settings = Settings::settle(Path::new("/srv"), settings.as_bytes(), |_| None).0;
        Source::new(settings.pull[0].clone(), Path::new("/nowhere"))
    }

    fn secret(text: &str) -> Secret {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Secret::read(&SecretPlace::File(file.path().to_owned())).unwrap()
    }

    fn hex_of(secret: &str, body: &[u8]) -> String {
        let mut mac = mac(secret.as_bytes()).unwrap();
        mac.update(body);
        hex::encode(mac.finalize().into_bytes())
    }

    fn verdict(source: &Source, of: &str, headers: &[(&'static str, &str)], body: &[u8], at: i64) -> Verdict {
        let name = |name| HeaderName::from_static(name);
        let headers = headers.iter().map(|(key, value)| (name(key), HeaderValue::from_str(value).unwrap())).collect();
        let mut delivery = Delivery::begin(&headers, &secret(of));
        body.chunks(7).for_each(|part| delivery.update(part));
        delivery.end(source, Timestamp::from_second(at).unwrap())
    }

    #[test]
    fn the_signatures_of_each_forge_count_once() {
        let (source, right) = (source(), hex_of("s3cret", BODY));
        // The example of GitHub's documentation.
        let example = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let hub = [("x-hub-signature-256", example)];
        assert_eq!(verdict(&source, "It's a Secret to Everybody", &hub, b"Hello, World!", 0), Verdict::New);
        let of = |headers: &[(&'static str, &str)], body: &[u8]| verdict(&source, "s3cret", headers, body, 0);
        assert_eq!(of(&[("x-gitea-signature", &right), ("x-gitea-delivery", "1")], BODY), Verdict::New);
        // Once more by another name: what is signed is the body.
        assert_eq!(of(&[("x-gitea-signature", &right), ("x-gitea-delivery", "2")], BODY), Verdict::Again);
        let forgejo = hex_of("s3cret", b"other");
        let all = [("x-forgejo-signature", forgejo.as_str()), ("x-gitea-signature", &forgejo)];
        assert_eq!(of(&all, b"other"), Verdict::New);
        let token = |token, id| [("x-gitlab-token", token), ("x-gitlab-event-uuid", id)];
        assert_eq!(of(&token("s3cret", "1"), BODY), Verdict::New);
        assert_eq!(of(&token("s3cret", "1"), BODY), Verdict::Again);
        assert_eq!(of(&token("s3cret", "2"), BODY), Verdict::New);
        assert_eq!(of(&[("x-gitlab-token", "s3cret")], BODY), Verdict::New);
        assert_eq!(of(&[("x-gitlab-token", "s3cret")], BODY), Verdict::New);
    }

    #[test]
    fn what_is_not_signed_by_the_secret_is_forged() {
        let (source, right, wrong) = (source(), hex_of("s3cret", BODY), hex_of("secret", BODY));
        let with = |value: &str| format!("sha256={value}");
        let of = |headers: &[(&'static str, &str)]| verdict(&source, "s3cret", headers, BODY, 0);
        for headers in [
            &[][..],
            &[("x-hub-signature-256", with(&wrong).as_str())],
            &[("x-hub-signature-256", "sha256=")],
            &[("x-hub-signature-256", "sha1=0123")],
            &[("x-hub-signature-256", &with(&right[..62]))],
            &[("x-gitea-signature", "zz")],
            &[("x-gitlab-token", "")],
            &[("x-gitlab-token", "s3cre")],
            // A right one makes no wrong one good.
            &[("x-gitea-signature", &right), ("x-hub-signature-256", &wrong)],
            &[("x-gitea-signature", &wrong), ("x-gitlab-token", "s3cret")],
            &[("webhook-signature", "v1,AAAA"), ("x-gitlab-token", "s3cret")],
        ] {
            assert_eq!(of(headers), Verdict::Forged, "{headers:?}");
        }
        assert_eq!(of(&[("x-hub-signature-256", &with(&right))]), Verdict::New);
    }

    #[test]
    fn a_delivery_with_a_time_is_good_for_five_minutes() {
        let (source, key) = (source(), [7; 32]);
        let secret = format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(key));
        let mut mac = mac(&key).unwrap();
        mac.update(b"msg_1.1700000000.");
        mac.update(BODY);
        let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        let all = format!("v1,AAAA v1a,BBBB v1,{signature}");
        let of = |id: &str, moment: &str, at| {
            let headers = [("webhook-id", id), ("webhook-timestamp", moment), ("webhook-signature", all.as_str())];
            verdict(&source, &secret, &headers, BODY, at)
        };
        assert_eq!(of("msg_1", "1700000000", 1_700_000_301), Verdict::Forged);
        assert_eq!(of("msg_1", "1700000000", 1_699_999_699), Verdict::Forged);
        assert_eq!(of("msg_2", "1700000000", 1_700_000_000), Verdict::Forged);
        assert_eq!(of("msg_1", "1700000001", 1_700_000_000), Verdict::Forged);
        assert_eq!(of("msg_1", "", 1_700_000_000), Verdict::Forged);
        assert_eq!(of("msg_1", "1700000000", 1_700_000_299), Verdict::New);
        assert_eq!(of("msg_1", "1700000000", 1_700_000_001), Verdict::Again);
    }

    #[test]
    fn a_secret_that_can_be_guessed_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let read = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            super::secret(&SecretPlace::File(file.path().to_owned()))
        };
        for short in ["whsec_", "whsec_AAAAAAAAAAAAAAAA", "123456789012345"] {
            assert!(matches!(read(short), Err(WebhookError::Short)), "{short}");
        }
        assert!(matches!(read(""), Err(WebhookError::Secret(_))));
        for long in ["1234567890123456", "whsec_AAAAAAAAAAAAAAAAAAAAAA=="] {
            assert!(read(long).is_ok(), "{long}");
        }
    }

    #[test]
    fn only_so_many_deliveries_are_remembered() {
        let mut deliveries = Deliveries::default();
        for number in 0..10_000_u32 {
            let mut mark = [0; 32];
            mark[..4].copy_from_slice(&number.to_le_bytes());
            assert!(deliveries.remember(mark) && !deliveries.remember(mark));
        }
        assert_eq!(deliveries.0.len(), REMEMBERED);
    }
}
