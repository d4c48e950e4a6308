//! A letter is one message to somebody who wants to know what happens: its form, its signature, and where it stands.
//!
//! Signed as standardwebhooks.com says it, version 1.0.0: `webhook-id`, `webhook-timestamp` and `webhook-signature`.

use std::collections::BTreeMap;

use base64::Engine as _;
use bytes::Bytes;
use hmac::Mac as _;
use http::Request;
use http::header::{CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::line;
use super::news::{How, Item};
use crate::pull::webhook::{mac, standard_key};
use crate::settings::{Format, NewsKind, Notified};

/// The most bytes of a message: there are those who take no more, and Standard Webhooks advises no more.
const MOST: usize = 20 * 1024;

/// What of them is there for all but the items.
const FRAME: usize = 512;

/// How many items of a kind one message of Slack's names at most.
const NAMED: usize = 20;

/// The most characters of one of them there.
const WORDS: usize = 300;

/// The most characters of all of them there, of the 3,000 that a section may have, and the most bytes: of [`MOST`], for each of
/// four sections.
const SECTION: (usize, usize) = (2900, 4900);

/// One message to one of those who want to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// Which: the same each time that it is sent, so that whoever gets it twice can tell.
    pub id: String,
    /// To whom, by name.
    pub to: String,
    /// When it was written.
    pub at: Timestamp,
    /// What is sent, as it is signed.
    pub body: String,
}

/// What is told of one kind.
struct Told<'a> {
    kind: NewsKind,
    items: Vec<&'a Item>,
    /// How many more there were, of which nothing else is known.
    left_out: usize,
}

impl Told<'_> {
    fn count(&self) -> usize {
        self.items.len() + self.left_out
    }
}

/// What somebody is told of what happened: for each kind a message of JSON, or one for all of Slack's.
#[must_use]
pub fn write(
    items: &[Item],
    left_out: &BTreeMap<NewsKind, usize>,
    to: &Notified,
    installation: &str,
    now: Timestamp,
) -> Vec<Letter> {
    let of = |kind: NewsKind| Told {
        kind,
        items: items.iter().filter(|item| item.kind == kind).collect(),
        left_out: left_out.get(&kind).copied().unwrap_or_default(),
    };
    let wanted = NewsKind::ALL.into_iter().filter(|kind| to.events.contains(kind));
    let kinds: Vec<Told<'_>> = wanted.map(of).filter(|told| told.count() > 0).collect();
    let bodies: Vec<Value> = match to.format {
        Format::Webhook => kinds.iter().map(|told| webhook(told, installation, now)).collect(),
        Format::Slack if kinds.is_empty() => Vec::new(),
        Format::Slack => vec![slack(&kinds)],
    };
    let letter = |body: Value| Letter {
        id: format!("msg_{}", uuid::Uuid::now_v7().simple()),
        to: to.name.clone(),
        at: now,
        body: body.to_string(),
    };
    bodies.into_iter().map(letter).collect()
}

fn webhook(told: &Told<'_>, installation: &str, now: Timestamp) -> Value {
    let mut left = MOST - FRAME;
    let shown: Vec<Value> = told
        .items
        .iter()
        .map_while(|item| {
            let item = json!(item);
            left = left.checked_sub(item.to_string().len() + 1)?;
            Some(item)
        })
        .collect();
    let more = told.count() - shown.len();
    json!({
        "type": told.kind.as_str(),
        "timestamp": now,
        "data": { "installation": installation, "items": shown, "more": more },
    })
}

/// At most four sections, each of at most 3,000 characters: as Slack's reference of blocks says.
fn slack(kinds: &[Told<'_>]) -> Value {
    let text = kinds.iter().flat_map(counted).collect::<Vec<_>>().join(", ");
    let blocks: Vec<Value> = kinds
        .iter()
        .map(|told| {
            let (mut text, mut named) = (format!("*{}*", title(told)), 0);
            for item in told.items.iter().take(NAMED) {
                let line = format!("\n• {}", said(item));
                let is_long = text.chars().count() + line.chars().count() > SECTION.0;
                if is_long || json_len(&text) + json_len(&line) > SECTION.1 {
                    break;
                }
                text.push_str(&line);
                named += 1;
            }
            if told.count() > named {
                text.push_str(&format!("\nand {} more", told.count() - named));
            }
            // Verbatim: nothing in it is made a link or a mention.
            json!({ "type": "section", "text": { "type": "mrkdwn", "text": text, "verbatim": true } })
        })
        .collect();
    json!({ "text": escaped(&text), "blocks": blocks })
}

/// How many bytes a text has in JSON.
fn json_len(text: &str) -> usize {
    json!(text).to_string().len()
}

/// What became of how many, as in `shop removed` and `2 deployed`.
fn counted(told: &Told<'_>) -> Vec<String> {
    let mut of: BTreeMap<Option<How>, Vec<&Item>> = BTreeMap::new();
    for item in &told.items {
        of.entry(item.how).or_default().push(item);
    }
    if told.left_out > 0 {
        of.entry(None).or_default();
    }
    let word = |(how, items): (Option<How>, Vec<&Item>)| {
        let word = how.map_or(told.kind.as_str(), How::as_str);
        let more = if how.is_none() { told.left_out } else { 0 };
        match items.as_slice() {
            [Item { api: Some(api), .. }] if more == 0 => format!("{api} {word}"),
            items => format!("{} {word}", items.len() + more),
        }
    };
    of.into_iter().map(word).collect()
}

fn title(told: &Told<'_>) -> &'static str {
    let are_all = |how| told.left_out == 0 && told.items.iter().all(|item| item.how == Some(how));
    match told.kind {
        NewsKind::Deployed if are_all(How::Removed) => "Removed",
        NewsKind::Deployed if are_all(How::Suspended) => "Suspended",
        NewsKind::Deployed => "Deployed",
        NewsKind::Failed => "Failed",
        NewsKind::Healed => "Healed",
        NewsKind::Held => "Held",
    }
}

fn said(item: &Item) -> String {
    let what = escaped(&line(&item.what, WORDS));
    match (&item.api, &item.commit) {
        (Some(api), Some(commit)) if item.kind == NewsKind::Deployed => {
            format!("{api}: {what} ({})", escaped(commit.short()))
        }
        (Some(api), _) => format!("{api}: {what}"),
        (None, _) => what,
    }
}

/// The three characters that mean something to Slack; with them, nobody can make a text call a whole channel.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Letter {
    /// As it goes over the wire, signed by that secret at that time.
    ///
    /// # Errors
    /// Where the address is none.
    pub fn request(&self, url: &str, secret: Option<&[u8]>, now: Timestamp) -> Result<Request<Bytes>, http::Error> {
        let mut request = Request::post(url).body(Bytes::from(self.body.clone()))?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let second = now.as_second().to_string();
        if let Some(signature) = secret.and_then(|secret| signature(secret, &self.id, &second, &self.body)) {
            headers.insert("webhook-signature", HeaderValue::from_str(&signature)?);
        }
        headers.insert("webhook-id", HeaderValue::from_str(&self.id)?);
        headers.insert("webhook-timestamp", HeaderValue::from_str(&second)?);
        Ok(request)
    }
}

fn signature(secret: &[u8], id: &str, second: &str, body: &str) -> Option<String> {
    let mut mac = mac(&standard_key(secret))?;
    mac.update(format!("{id}.{second}.{body}").as_bytes());
    Some(format!("v1,{}", base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Address;
    use crate::tree::ApiId;

    fn item(kind: NewsKind, api: &str, what: &str) -> Item {
        let (api, at) = (ApiId::new(api).ok(), Timestamp::UNIX_EPOCH);
        Item { kind, how: None, api, name: None, revision: None, what: what.to_owned(), commit: None, at }
    }

    fn to(format: Format) -> Notified {
        let (name, url) = ("ops".to_owned(), Address::Plain("https://hooks.example/a".to_owned()));
        Notified { name, url, format, events: NewsKind::ALL.into_iter().collect(), secret: None }
    }

    #[test]
    fn a_signature_is_that_of_the_specification() {
        // The example of the specification's own libraries.
        let signed = signature(
            b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            "{\"test\": 2432232314}",
        );
        assert_eq!(signed.as_deref(), Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="));
    }

    #[test]
    fn a_webhook_is_one_message_of_each_kind_that_is_wanted() {
        let items: Vec<Item> = (0..700).map(|n| item(NewsKind::Deployed, &format!("a{n}"), "x")).collect();
        let items = [items, vec![item(NewsKind::Failed, "b", "y"), item(NewsKind::Held, "c", "z")]].concat();
        let wanted = [NewsKind::Deployed, NewsKind::Failed].into_iter().collect();
        let letters = write(
            &items,
            &BTreeMap::new(),
            &Notified { events: wanted, ..to(Format::Webhook) },
            "0123",
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(letters.len(), 2);
        assert_ne!(letters[0].id, letters[1].id);
        let failed: Value = serde_json::from_str(&letters[0].body).unwrap();
        assert_eq!((&failed["type"], &failed["timestamp"]), (&json!("failed"), &json!("1970-01-01T00:00:00Z")));
        assert_eq!(
            failed["data"]["items"],
            json!([{ "kind": "failed", "api": "b", "what": "y", "at": "1970-01-01T00:00:00Z" }])
        );
        let deployed: Value = serde_json::from_str(&letters[1].body).unwrap();
        // As many of them as twenty KiB hold; the rest is counted.
        let named = deployed["data"]["items"].as_array().unwrap().len();
        assert!(named > 200 && named < 500, "{named}");
        assert_eq!(deployed["data"]["more"], json!(700 - named));
        assert!(letters[1].body.len() <= MOST && letters[1].body.len() > MOST - 1024, "{}", letters[1].body.len());
    }

    #[test]
    fn a_message_is_of_few_bytes_whatever_letters_people_write_with() {
        let wide = "\u{1d11e}".repeat(500);
        let items: Vec<Item> = NewsKind::ALL.iter().flat_map(|kind| vec![item(*kind, "a", &wide); 300]).collect();
        for format in [Format::Webhook, Format::Slack] {
            for letter in write(&items, &BTreeMap::new(), &to(format), "0123", Timestamp::UNIX_EPOCH) {
                assert!(letter.body.len() <= MOST && letter.body.contains("more"), "{}", letter.body.len());
            }
        }
    }

    #[test]
    fn a_message_of_slack_is_within_its_limits_and_calls_nobody() {
        let hostile = format!("<!channel> <https://evil.example|click> & {}", "x".repeat(1000));
        let long = "a".repeat(40);
        let items: Vec<Item> = NewsKind::ALL.iter().flat_map(|kind| vec![item(*kind, &long, &hostile); 300]).collect();
        let letters = write(&items, &BTreeMap::new(), &to(Format::Slack), "0123", Timestamp::UNIX_EPOCH);
        assert_eq!(letters.len(), 1);
        let message: Value = serde_json::from_str(&letters[0].body).unwrap();
        assert_eq!(message["text"], "300 failed, 300 held, 300 healed, 300 deployed");
        let blocks = message["blocks"].as_array().unwrap();
        assert_eq!(blocks.len(), 4);
        for block in blocks {
            let text = block["text"]["text"].as_str().unwrap();
            assert!(text.chars().count() <= 3000, "{}", text.chars().count());
            assert!(!text.contains('<') && text.contains("&lt;!channel&gt;") && text.ends_with(" more"), "{text}");
        }
        let all_escaped = item(NewsKind::Failed, &long, &"<".repeat(1000));
        let letters =
            write(&vec![all_escaped; 30], &BTreeMap::new(), &to(Format::Slack), "0123", Timestamp::UNIX_EPOCH);
        let message: Value = serde_json::from_str(&letters[0].body).unwrap();
        let length = message["blocks"][0]["text"]["text"].as_str().unwrap().chars().count();
        assert!(length <= 3000, "{length}");
        let one = write(
            &[item(NewsKind::Failed, "b", "y")],
            &BTreeMap::new(),
            &to(Format::Slack),
            "0123",
            Timestamp::UNIX_EPOCH,
        );
        assert!(one[0].body.contains("\"text\":\"b failed\""), "{}", one[0].body);
        let none = Notified { events: [NewsKind::Healed].into(), ..to(Format::Slack) };
        assert!(
            write(&[item(NewsKind::Failed, "b", "y")], &BTreeMap::new(), &none, "0123", Timestamp::UNIX_EPOCH)
                .is_empty()
        );
    }

    #[test]
    fn slack_says_what_became_of_one_and_all_are_told_how_many_were_left_out() {
        let gone = Item { how: Some(How::Removed), ..item(NewsKind::Deployed, "susp", "removed: its folder is gone") };
        let text = |items: &[Item], left_out: &BTreeMap<NewsKind, usize>| -> Value {
            let mut letters = write(items, left_out, &to(Format::Slack), "0123", Timestamp::UNIX_EPOCH);
            serde_json::from_str(&letters.remove(0).body).unwrap()
        };
        let message = text(std::slice::from_ref(&gone), &BTreeMap::new());
        assert_eq!(message["text"], "susp removed");
        assert!(message["blocks"][0]["text"]["text"].as_str().unwrap().starts_with("*Removed*\n• susp: removed"));
        let items = [gone, item(NewsKind::Deployed, "a", "x"), item(NewsKind::Deployed, "b", "x")];
        assert_eq!(text(&items, &BTreeMap::new())["text"], "2 deployed, susp removed");
        let left_out = BTreeMap::from([(NewsKind::Deployed, 7), (NewsKind::Failed, 2)]);
        let message = text(&items, &left_out);
        assert_eq!(message["text"], "2 failed, 9 deployed, susp removed");
        assert!(message["blocks"][1]["text"]["text"].as_str().unwrap().ends_with("and 7 more"));
        let letters = write(&items, &left_out, &to(Format::Webhook), "0123", Timestamp::UNIX_EPOCH);
        let more: Vec<Value> = letters
            .iter()
            .map(|letter| serde_json::from_str::<Value>(&letter.body).unwrap()["data"]["more"].clone())
            .collect();
        assert_eq!(more, [json!(2), json!(7)]);
    }

    #[test]
    fn a_letter_goes_with_its_signature_and_without_a_secret_without_one() {
        let letter = write(
            &[item(NewsKind::Held, "a", "b")],
            &BTreeMap::new(),
            &to(Format::Webhook),
            "0",
            Timestamp::UNIX_EPOCH,
        )
        .remove(0);
        let request =
            letter.request("https://hooks.example/a", Some(b"a-secret-of-mine"), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(
            (&request.headers()["webhook-id"], &request.headers()["webhook-timestamp"]),
            (&HeaderValue::from_str(&letter.id).unwrap(), &HeaderValue::from_static("0"))
        );
        assert!(request.headers()["webhook-signature"].to_str().unwrap().starts_with("v1,"));
        let request = letter.request("https://hooks.example/a", None, Timestamp::UNIX_EPOCH).unwrap();
        assert!(!request.headers().contains_key("webhook-signature"));
    }
}
