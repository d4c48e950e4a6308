//! Tokens of an issuer: who is let in, of whom the app hears, and what becomes of keys that change.
//!
//! The keys below `signers/` are made for these tests, and sign nothing else.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use skep::gateway::Tokens;
use skep::settings::{JwksPlace, JwtSecret, JwtSettings};
use skep::tree::Auth;
use tokio_util::sync::CancellationToken;

use crate::client::Reply;
use crate::world::{World, app, telling_app, text};

const SECRET: &str = "a secret of forty characters, for a test";
const ONE: &[u8] = include_bytes!("signers/es256-one.der");
const TWO: &[u8] = include_bytes!("signers/es256-two.der");
const RSA: &[u8] = include_bytes!("signers/rs256.der");

fn secret() -> EncodingKey {
    EncodingKey::from_secret(SECRET.as_bytes())
}

fn sign(algorithm: Algorithm, id: Option<&str>, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header { kid: id.map(ToOwned::to_owned), ..Header::new(algorithm) }, claims, key).unwrap()
}

/// The claims of a Supabase user, as its documentation shows them.
fn claims(change: impl FnOnce(&mut Value)) -> Value {
    let now = Timestamp::now().as_second();
    let mut claims = json!({
        "aud": "authenticated", "exp": now + 3600, "iat": now, "iss": "https://project.test/auth/v1",
        "sub": "f4b1c2d3-0000-4000-8000-123456789abc", "email": "ada@example.test", "phone": "",
        "app_metadata": { "provider": "email" }, "role": "authenticated", "aal": "aal1", "is_anonymous": false,
    });
    change(&mut claims);
    claims
}

fn settings() -> JwtSettings {
    JwtSettings {
        secret: Some(JwtSecret(SECRET.to_owned())),
        issuer: Some("https://project.test/auth/v1".to_owned()),
        audience: Some("authenticated".to_owned()),
        claims: [("role".to_owned(), "authenticated".to_owned())].into(),
        pass: vec!["email".to_owned(), "app_metadata".to_owned(), "missing".to_owned()],
        ..JwtSettings::default()
    }
}

async fn world(settings: JwtSettings) -> (World, Arc<Tokens>) {
    let tokens = Arc::new(Tokens::new(settings));
    let world = World::with_tokens(Arc::clone(&tokens)).await;
    world.route("hello", &[telling_app().await], |spec| spec.route.auth = Auth::Jwt);
    (world, tokens)
}

async fn ask(world: &World, token: &str, more: &str) -> Reply {
    let head = format!("GET /run/hello HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n{more}\r\n");
    world.client().await.ask(head).await
}

/// A server of key sets, which counts how often it is asked; `None` is an outage.
struct Issuer {
    keys: Arc<Mutex<Option<Value>>>,
    asked: Arc<AtomicUsize>,
    place: JwksPlace,
}

impl Issuer {
    async fn new() -> Self {
        let (keys, asked) = (Arc::new(Mutex::new(None::<Value>)), Arc::new(AtomicUsize::new(0)));
        let (answer, count) = (Arc::clone(&keys), Arc::clone(&asked));
        let address = app(move |request| {
            assert_eq!(request.uri(), "/auth/v1/.well-known/jwks.json");
            count.fetch_add(1, Ordering::SeqCst);
            let body = answer.lock().unwrap().clone();
            async move {
                let mut reply = text(body.as_ref().map(Value::to_string).unwrap_or_default());
                if body.is_none() {
                    *reply.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                reply
            }
        })
        .await;
        let uri = format!("http://{address}/auth/v1/.well-known/jwks.json").parse().unwrap();
        Self { keys, asked, place: JwksPlace::Url(uri) }
    }

    fn publish(&self, keys: &[(&str, Algorithm, &EncodingKey)]) {
        *self.keys.lock().unwrap() = Some(set(keys));
    }
}

fn set(keys: &[(&str, Algorithm, &EncodingKey)]) -> Value {
    let keys: Vec<Value> = keys
        .iter()
        .map(|(id, algorithm, key)| {
            let mut jwk = serde_json::to_value(Jwk::from_encoding_key(key, *algorithm).unwrap()).unwrap();
            jwk["kid"] = json!(id);
            jwk["use"] = json!("sig");
            jwk
        })
        .collect();
    json!({ "keys": keys })
}

#[tokio::test]
async fn the_app_hears_of_the_subject_and_the_claims_asked_for_from_us_alone() {
    let (world, _tokens) = world(settings()).await;
    let token = sign(Algorithm::HS256, None, &secret(), &claims(|_| ()));
    let forged = "X-Skep-Subject: root\r\nX-Skep-Claim-Missing: yes\r\nX_Skep_Subject: root\r\nx-skep-anything: 1\r\n";
    let reply = ask(&world, &token, forged).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut ours: Vec<&str> = reply.text().lines().filter(|line| line.replace('_', "-").contains("skep-")).collect();
    ours.sort_unstable();
    assert_eq!(
        ours,
        [
            r#"x-skep-claim-app-metadata: {"provider":"email"}"#,
            "x-skep-claim-email: ada@example.test",
            "x-skep-subject: f4b1c2d3-0000-4000-8000-123456789abc",
        ]
    );
    assert!(!reply.text().contains("authorization"), "{}", reply.text());
    // Nobody can say it of itself where no token is asked for, either.
    world.route("open", &[telling_app().await], |spec| spec.route.auth = Auth::None);
    let head = format!("GET /run/open HTTP/1.1\r\nHost: a\r\n{forged}\r\n");
    let reply = world.client().await.ask(head).await;
    assert!(reply.status == 200 && !reply.text().to_lowercase().contains("skep-subject"), "{}", reply.text());
}

#[tokio::test]
async fn what_is_not_signed_not_in_time_or_says_something_else_is_refused_alike() {
    let (world, _tokens) = world(settings()).await;
    let hs256 = |change: fn(&mut Value)| sign(Algorithm::HS256, None, &secret(), &claims(change));
    for (name, good) in [
        ("within leeway", hs256(|claims| claims["exp"] = json!(Timestamp::now().as_second() - 10))),
        ("nbf within leeway", hs256(|claims| claims["nbf"] = json!(Timestamp::now().as_second() + 10))),
        ("one audience of several", hs256(|claims| claims["aud"] = json!(["other", "authenticated"]))),
    ] {
        assert_eq!(ask(&world, &good, "").await.status, 200, "{name}");
    }
    let good = hs256(|_| ());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (_, body) = message.split_once('.').unwrap();
    // {"alg":"none"} and {"alg":"None","typ":"JWT"}
    let unsigned = [format!("eyJhbGciOiJub25lIn0.{body}."), format!("eyJhbGciOiJOb25lIiwidHlwIjoiSldUIn0.{body}.")];
    let critical = Header { crit: Some(vec!["b64".to_owned()]), ..Header::new(Algorithm::HS256) };
    let other = EncodingKey::from_secret(b"another secret of thirty-two bytes");
    let bad = [
        ("no token", String::new()),
        ("a key", world.key.clone()),
        ("alg none", unsigned[0].clone()),
        ("alg None", unsigned[1].clone()),
        ("no signature", format!("{message}.")),
        ("another signature", format!("{message}.{}", signature.chars().rev().collect::<String>())),
        ("another secret", sign(Algorithm::HS256, None, &other, &claims(|_| ()))),
        ("another hash", sign(Algorithm::HS512, None, &secret(), &claims(|_| ()))),
        ("something critical", encode(&critical, &claims(|_| ()), &secret()).unwrap()),
        ("expired", hs256(|claims| claims["exp"] = json!(Timestamp::now().as_second() - 60))),
        ("no expiry", hs256(|claims| drop(claims.as_object_mut().unwrap().remove("exp")))),
        ("expiry as text", hs256(|claims| claims["exp"] = json!("4102444800"))),
        ("not yet", hs256(|claims| claims["nbf"] = json!(Timestamp::now().as_second() + 60))),
        ("another issuer", hs256(|claims| claims["iss"] = json!("https://evil.test"))),
        ("no issuer", hs256(|claims| drop(claims.as_object_mut().unwrap().remove("iss")))),
        ("another audience", hs256(|claims| claims["aud"] = json!("anon"))),
        ("no audience", hs256(|claims| drop(claims.as_object_mut().unwrap().remove("aud")))),
        ("another role", hs256(|claims| claims["role"] = json!("anon"))),
        ("no subject", hs256(|claims| drop(claims.as_object_mut().unwrap().remove("sub")))),
        ("a subject that ends a line", hs256(|claims| claims["sub"] = json!("a\r\nX-Skep-Subject: root"))),
        ("an endless token", format!("{good}{}", "A".repeat(20_000))),
    ];
    let error = ask(&world, "skep_wrong", "").await.error();
    for (name, token) in bad {
        let reply = ask(&world, &token, "").await;
        assert_eq!((reply.status, reply.error()), (401, error.clone()), "{name}");
    }
    // And a token is no key.
    world.route("keyed", &[telling_app().await], |_| ());
    let head = format!("GET /run/keyed HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {good}\r\n\r\n");
    assert_eq!(world.client().await.ask(head).await.status, 401);
}

#[tokio::test]
async fn a_key_of_the_set_signs_by_its_own_algorithm_only() {
    let issuer = Issuer::new().await;
    let (one, rsa) = (EncodingKey::from_ec_der(ONE), EncodingKey::from_rsa_der(RSA));
    issuer.publish(&[("one", Algorithm::ES256, &one), ("rsa", Algorithm::RS256, &rsa)]);
    let (world, _tokens) = world(JwtSettings { jwks: Some(issuer.place.clone()), ..settings() }).await;
    let status = async |token: String| ask(&world, &token, "").await.status;
    assert_eq!(status(sign(Algorithm::ES256, Some("one"), &one, &claims(|_| ()))).await, 200);
    assert_eq!(status(sign(Algorithm::RS256, Some("rsa"), &rsa, &claims(|_| ()))).await, 200);
    assert_eq!(status(sign(Algorithm::RS256, None, &rsa, &claims(|_| ()))).await, 200, "there is only one it can be");
    assert_eq!(status(sign(Algorithm::HS256, Some("one"), &secret(), &claims(|_| ()))).await, 200, "the secret, too");
    assert_eq!(issuer.asked.load(Ordering::SeqCst), 1, "no request waits for keys that are known");
    for (name, token) in [
        ("RS256 in the name of the other", sign(Algorithm::RS256, Some("one"), &rsa, &claims(|_| ()))),
        ("RS384", sign(Algorithm::RS384, Some("rsa"), &rsa, &claims(|_| ()))),
        ("PS256", sign(Algorithm::PS256, Some("rsa"), &rsa, &claims(|_| ()))),
    ] {
        assert_eq!(status(token).await, 401, "{name}");
    }
    // What everybody may read, taken for a secret: the oldest trick there is.
    let public = serde_json::to_value(Jwk::from_encoding_key(&rsa, Algorithm::RS256).unwrap()).unwrap();
    for text in [public["n"].as_str().unwrap().to_owned(), public.to_string()] {
        let forged = sign(Algorithm::HS256, Some("rsa"), &EncodingKey::from_secret(text.as_bytes()), &claims(|_| ()));
        assert_eq!(status(forged).await, 401);
    }
}

#[tokio::test]
async fn a_new_key_is_fetched_when_it_first_signs_and_an_outage_takes_none_away() {
    let issuer = Issuer::new().await;
    let (one, two) = (EncodingKey::from_ec_der(ONE), EncodingKey::from_ec_der(TWO));
    issuer.publish(&[("one", Algorithm::ES256, &one)]);
    let (world, tokens) = world(JwtSettings { jwks: Some(issuer.place.clone()), ..settings() }).await;
    let stop = CancellationToken::new();
    let running = tokio::spawn(Arc::clone(&tokens).run(stop.clone()));
    let asked = || issuer.asked.load(Ordering::SeqCst);
    crate::world::eventually(|| asked() == 1).await;
    let of_one = sign(Algorithm::ES256, Some("one"), &one, &claims(|_| ()));
    let of_two = sign(Algorithm::ES256, Some("two"), &two, &claims(|_| ()));
    assert_eq!(ask(&world, &of_one, "").await.status, 200);

    // Tokens of unknown keys, as many as anybody likes: the issuer is asked once in five seconds.
    for n in 0..50 {
        let token = sign(Algorithm::ES256, Some(&format!("unknown-{n}")), &two, &claims(|_| ()));
        assert_eq!(ask(&world, &token, "").await.status, 401);
    }
    assert_eq!(asked(), 1, "it was asked a moment before");
    issuer.publish(&[("two", Algorithm::ES256, &two), ("one", Algorithm::ES256, &one)]);
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    let both = tokio::join!(ask(&world, &of_two, ""), ask(&world, &of_two, ""));
    assert_eq!((both.0.status, both.1.status, asked()), (200, 200, 2), "two callers wait for one answer");

    // An outage, and an answer without keys: what is known stays.
    *issuer.keys.lock().unwrap() = None;
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    let unknown = sign(Algorithm::ES256, Some("three"), &two, &claims(|_| ()));
    assert_eq!((ask(&world, &unknown, "").await.status, asked()), (401, 3));
    assert_eq!((ask(&world, &of_one, "").await.status, ask(&world, &of_two, "").await.status), (200, 200));
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn keys_come_from_a_file_too_and_one_taken_out_signs_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let (one, two) = (EncodingKey::from_ec_der(ONE), EncodingKey::from_ec_der(TWO));
    std::fs::write(&path, set(&[("one", Algorithm::ES256, &one)]).to_string()).unwrap();
    let (world, _tokens) =
        world(JwtSettings { jwks: Some(JwksPlace::File(path.clone())), secret: None, ..settings() }).await;
    let of_one = sign(Algorithm::ES256, Some("one"), &one, &claims(|_| ()));
    assert_eq!(ask(&world, &of_one, "").await.status, 200);
    std::fs::write(&path, set(&[("two", Algorithm::ES256, &two)]).to_string()).unwrap();
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    assert_eq!(ask(&world, &sign(Algorithm::ES256, Some("two"), &two, &claims(|_| ())), "").await.status, 200);
    assert_eq!(ask(&world, &of_one, "").await.status, 401);
    // What is no key set says nothing of the keys that are known; an empty one says that there are none.
    let of_two = sign(Algorithm::ES256, Some("two"), &two, &claims(|_| ()));
    for (text, status) in [("{}", 200), (r#"{"keys": []}"#, 401)] {
        std::fs::write(&path, text).unwrap();
        tokio::time::sleep(Duration::from_millis(5_100)).await;
        assert_eq!(ask(&world, &of_one, "").await.status, 401);
        assert_eq!(ask(&world, &of_two, "").await.status, status, "{text}");
    }
    let unsecret = sign(Algorithm::HS256, None, &EncodingKey::from_secret(b""), &claims(|_| ()));
    assert_eq!(ask(&world, &unsecret, "").await.status, 401, "no secret is not an empty one");
}

#[tokio::test]
async fn each_subject_has_an_allowance_of_its_own() {
    let (world, _tokens) = world(settings()).await;
    world.route("hello", &[telling_app().await], |spec| {
        spec.route.auth = Auth::Jwt;
        spec.rate_limit = Some("1/1h".parse().unwrap());
    });
    let of = |subject: &str| sign(Algorithm::HS256, None, &secret(), &claims(|claims| claims["sub"] = json!(subject)));
    assert_eq!(ask(&world, &of("ada"), "").await.status, 200);
    assert_eq!(ask(&world, &of("ada"), "").await.status, 429);
    assert_eq!(ask(&world, &of("grace"), "").await.status, 200);
}
