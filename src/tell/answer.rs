//! An answer is what came of one request to somebody else: whether it is done, worth another try, or refused.

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use http::{HeaderMap, Request, Response, StatusCode};
use jiff::Timestamp;

use super::line;
use crate::web;

/// How long others may take over an answer.
const WITHIN: Duration = Duration::from_secs(10);

/// The longest pause that anybody may ask for.
const LONGEST: Duration = Duration::from_secs(3600);

/// How much of what others say is repeated.
const REPEATED: usize = 200;

/// The most bytes of an answer that are read; what comes behind them is nothing to us.
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
        /// What of it they do not want.
        of: Unwanted,
        /// Why.
        why: String,
    },
}

/// What somebody does not want of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwanted {
    /// Who asks, or where: the next request is refused too.
    Key,
    /// There is nothing at its address.
    Address,
    /// What it says.
    Words,
}

/// What of a request nobody may read, in answers to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hidden {
    /// These texts.
    pub texts: Vec<String>,
    /// Its address too. Who answers may well repeat some of that, so that nothing of what they say is repeated.
    pub has_address: bool,
}

/// Sends a request, and judges the answer. No text of it holds what is hidden.
pub async fn send(request: Request<Bytes>, hidden: &Hidden) -> Answer {
    match web::send_for_head(request, MOST, WITHIN).await {
        Ok(answer) => judge(&answer, hidden, Timestamp::now()),
        Err(error) => Answer::Again { after: None, why: line(&without(error.to_string(), hidden), REPEATED) },
    }
}

/// A text in which others may have repeated what nobody may read.
fn without(mut text: String, hidden: &Hidden) -> String {
    for secret in hidden.texts.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret.as_str(), "…");
    }
    text
}

/// What an answer means.
fn judge(answer: &Response<Bytes>, hidden: &Hidden, now: Timestamp) -> Answer {
    let (status, headers, body) = (answer.status(), answer.headers(), answer.body());
    if status.is_success() {
        return Answer::Done(body.clone());
    }
    let said = said(body);
    // GitLab's word for one that is as it should be already.
    if status == StatusCode::BAD_REQUEST && said.starts_with("Cannot transition status") {
        return Answer::Done(body.clone());
    }
    // Before it is cut: half of a secret is too much of it.
    let said = if hidden.has_address { String::new() } else { line(&without(said, hidden), REPEATED) };
    let why = if said.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {said}") };
    let after = pause(headers, now);
    let is_limit = status == StatusCode::TOO_MANY_REQUESTS || (status == StatusCode::FORBIDDEN && after.is_some());
    let is_passing = matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::CONFLICT);
    if is_limit || is_passing || status.is_server_error() {
        Answer::Again { after, why }
    } else if status.is_redirection() {
        Answer::Refused {
            of: Unwanted::Key,
            why: format!("{why}; it is somewhere else now, and no redirect is followed"),
        }
    } else {
        let of = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Unwanted::Key,
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE => Unwanted::Address,
            _ => Unwanted::Words,
        };
        Answer::Refused { of, why }
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
    message.map_or_else(String::new, |message| message.as_str().map_or_else(|| message.to_string(), str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        judged_for(&Hidden::default(), status, headers, body)
    }

    fn judged_for(hidden: &Hidden, status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let mut answer = Response::new(Bytes::from(body.to_owned()));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in headers {
            answer.headers_mut().insert(*name, value.parse().unwrap());
        }
        judge(&answer, hidden, Timestamp::from_second(1000).unwrap())
    }

    #[test]
    fn an_answer_is_done_worth_another_try_or_refused() {
        assert!(matches!(judged(201, &[], "{}"), Answer::Done(_)));
        assert!(matches!(judged(502, &[], ""), Answer::Again { after: None, .. }));
        assert!(matches!(judged(409, &[], ""), Answer::Again { .. }));
        let bad = Answer::Refused { of: Unwanted::Key, why: "it answers 401 Unauthorized: Bad credentials".into() };
        assert_eq!(judged(401, &[], r#"{"message":"Bad\ncredentials"}"#), bad);
        assert!(
            matches!(judged(404, &[], "<html>"), Answer::Refused { of: Unwanted::Address, why } if why == "it answers 404 Not Found")
        );
        assert!(
            matches!(judged(301, &[("location", "https://x")], ""), Answer::Refused { why, .. } if why.contains("redirect"))
        );
        let known =
            r#"{"message":"Cannot transition status via :run from :running (Reason(s): Status cannot transition)"}"#;
        assert!(matches!(judged(400, &[], known), Answer::Done(_)));
        assert!(
            matches!(judged(422, &[], r#"{"message":["a"]}"#), Answer::Refused { of: Unwanted::Words, why } if why.ends_with(r#"["a"]"#))
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
        assert!(matches!(
            judged(403, &[("x-ratelimit-remaining", "9")], ""),
            Answer::Refused { of: Unwanted::Key, .. }
        ));
    }

    #[test]
    fn no_secret_is_repeated() {
        let why = |hidden: &Hidden, message: &str| match judged_for(
            hidden,
            500,
            &[],
            &serde_json::json!({ "message": message }).to_string(),
        ) {
            Answer::Again { why, .. } => why,
            other => panic!("{other:?}"),
        };
        let token = Hidden { texts: vec!["t0ken".into(), String::new()], has_address: false };
        assert_eq!(why(&token, "bad token t0ken!"), "it answers 500 Internal Server Error: bad token …!");
        // Not the first part of one either, where the answer is cut.
        let long = why(&token, &format!("{}t0ken", "x".repeat(REPEATED - 3)));
        assert!(!long.contains("t0"), "{long}");
        let address = Hidden { texts: vec!["https://hooks.example/T0/s3cret".into()], has_address: true };
        assert_eq!(why(&address, "Cannot POST /T0/s3cret"), "it answers 500 Internal Server Error");
    }
}
