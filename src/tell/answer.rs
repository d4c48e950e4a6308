//! An answer is what came of one request to somebody else: whether it is done, worth another try, or refused.

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, StatusCode};
use jiff::Timestamp;

use super::line;
use crate::web;

/// How long others may take over an answer.
const WITHIN: Duration = Duration::from_secs(10);

/// The longest pause that anybody may ask for.
const LONGEST: Duration = Duration::from_secs(3600);

/// How much of what others say is repeated.
const REPEATED: usize = 200;

/// The most bytes of an answer that are read.
const MOST: usize = 256 * 1024;

/// What came of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done; the answer.
    Done(Bytes),
    /// It is not, and may well be the next time.
    Again {
        /// Not before that time is over.
        after: Option<Duration>,
        /// Why.
        why: String,
    },
    /// It is not, and will not be before somebody changes something.
    Refused {
        /// Whether it is who asks that they do not want, and not what.
        is_key: bool,
        /// Why.
        why: String,
    },
}

/// Sends a request, and judges the answer. No text of it holds `secrets`.
pub async fn send(request: Request<Bytes>, secrets: &[String]) -> Answer {
    let answer = match tokio::time::timeout(WITHIN, web::send_for(request, MOST)).await {
        Ok(Ok(answer)) => judge(answer.status(), answer.headers(), answer.body(), Timestamp::now()),
        Ok(Err(error)) => Answer::Again { after: None, why: line(&error.to_string(), REPEATED) },
        Err(_) => Answer::Again { after: None, why: format!("no answer within {WITHIN:?}") },
    };
    match answer {
        Answer::Again { after, why } => Answer::Again { after, why: without(why, secrets) },
        Answer::Refused { is_key, why } => Answer::Refused { is_key, why: without(why, secrets) },
        done @ Answer::Done(_) => done,
    }
}

/// A text in which others may have repeated what nobody may read.
fn without(mut text: String, secrets: &[String]) -> String {
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), "…");
    }
    text
}

/// What an answer means.
fn judge(status: StatusCode, headers: &HeaderMap, body: &Bytes, now: Timestamp) -> Answer {
    if status.is_success() {
        return Answer::Done(body.clone());
    }
    let said = said(body);
    // GitLab's word for one that is as it should be already.
    if status == StatusCode::BAD_REQUEST && said.starts_with("Cannot transition status") {
        return Answer::Done(body.clone());
    }
    let why = if said.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {said}") };
    let after = pause(headers, now);
    let is_limit = status == StatusCode::TOO_MANY_REQUESTS || (status == StatusCode::FORBIDDEN && after.is_some());
    let is_passing = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::CONFLICT);
    if is_limit || is_passing || status.is_server_error() {
        Answer::Again { after, why }
    } else if status.is_redirection() {
        Answer::Refused { is_key: true, why: format!("{why}; it is somewhere else now, and no redirect is followed") }
    } else {
        let is_key = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        Answer::Refused { is_key, why }
    }
}

/// How long whoever answers wants to be left alone.
fn pause(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let until = |at: Timestamp| Duration::try_from(at.duration_since(now)).unwrap_or_default();
    let asked = text(RETRY_AFTER.as_str()).and_then(|value| match value.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(until(jiff::fmt::rfc2822::parse(value).ok()?.timestamp())),
    });
    // GitHub's, and GitLab's name for the same.
    let is_spent = ["x-ratelimit-remaining", "ratelimit-remaining"].iter().any(|name| text(name) == Some("0"));
    let reset = || ["x-ratelimit-reset", "ratelimit-reset"].into_iter().find_map(text)?.parse().ok();
    let reset = || Timestamp::from_second(reset()?).ok().map(until);
    asked.or_else(|| if is_spent { reset() } else { None }).map(|pause| pause.min(LONGEST))
}

/// What somebody says is wrong, where it is said as forges say it.
fn said(body: &Bytes) -> String {
    let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else { return String::new() };
    let message = json.get("message").or(json.get("error"));
    message.map_or_else(String::new, |message| match message.as_str() {
        Some(text) => line(text, REPEATED),
        None => line(&message.to_string(), REPEATED),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.insert(*name, value.parse().unwrap());
        }
        let now = Timestamp::from_second(1000).unwrap();
        judge(StatusCode::from_u16(status).unwrap(), &all, &Bytes::from(body.to_owned()), now)
    }

    #[test]
    fn an_answer_is_done_worth_another_try_or_refused() {
        assert!(matches!(judged(201, &[], "{}"), Answer::Done(_)));
        assert!(matches!(judged(502, &[], ""), Answer::Again { after: None, .. }));
        assert!(matches!(judged(409, &[], ""), Answer::Again { .. }));
        let bad = Answer::Refused { is_key: true, why: "it answers 401 Unauthorized: Bad credentials".into() };
        assert_eq!(judged(401, &[], r#"{"message":"Bad\ncredentials"}"#), bad);
        assert!(
            matches!(judged(404, &[], "<html>"), Answer::Refused { is_key: false, why } if why == "it answers 404 Not Found")
        );
        assert!(
            matches!(judged(301, &[("location", "https://x")], ""), Answer::Refused { why, .. } if why.contains("redirect"))
        );
        let known =
            r#"{"message":"Cannot transition status via :run from :running (Reason(s): Status cannot transition)"}"#;
        assert!(matches!(judged(400, &[], known), Answer::Done(_)));
        assert!(
            matches!(judged(422, &[], r#"{"message":["a"]}"#), Answer::Refused { why, .. } if why.ends_with(r#"["a"]"#))
        );
    }

    #[test]
    fn whoever_wants_to_be_left_alone_is() {
        let after = |headers: &[(&'static str, &str)], status| match judged(status, headers, "") {
            Answer::Again { after, .. } => after.map(|after| after.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(after(&[("retry-after", "7")], 429), Some(7));
        assert_eq!(after(&[("retry-after", "999999999")], 503), Some(3600));
        assert_eq!(after(&[("retry-after", "Thu, 01 Jan 1970 00:17:00 GMT")], 503), Some(20));
        assert_eq!(after(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1030")], 403), Some(30));
        assert_eq!(after(&[("retry-after", "soon")], 429), None);
        assert!(matches!(judged(403, &[("x-ratelimit-remaining", "9")], ""), Answer::Refused { is_key: true, .. }));
    }

    #[test]
    fn no_secret_is_repeated() {
        assert_eq!(without("bad token t0ken!".into(), &["t0ken".into(), String::new()]), "bad token …!");
    }
}
