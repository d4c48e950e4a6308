//! Cors is what pages of other origins are told in the headers of answers (the CORS protocol of the Fetch standard).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, HeaderName, HeaderValue, ORIGIN,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use super::body::Body;
use super::headers::{value, vary};
use crate::tree::{Cors, Origin};

/// What a page is told of the answer to its request.
#[derive(Debug)]
pub(super) struct Sharing {
    /// By [`Cors::origins`]; `None` where the page may not read the answer, or there is none.
    origin: Option<HeaderValue>,
    /// Whether the answer is the same for all origins.
    for_any: bool,
    /// What else it is told, where it may read the answer.
    told: Vec<(HeaderName, HeaderValue)>,
}

/// Whether a browser asks what a page may do, rather than does it. Such a request has no body.
pub(super) fn is_preflight(parts: &Parts, has_body: bool) -> bool {
    parts.method == Method::OPTIONS
        && !has_body
        && parts.headers.contains_key(ORIGIN)
        && parts.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight, but for the headers of [`Sharing`].
pub(super) fn answer_preflight() -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

impl Sharing {
    /// By those rules, for a request with those headers.
    pub(super) fn of(cors: &Cors, request: &HeaderMap, is_preflight: bool) -> Self {
        let for_any = cors.origins.contains(&Origin::Any);
        let mut told = Vec::new();
        let mut tell = |name, text: String| {
            if !text.is_empty() {
                told.push((name, value(&text)));
            }
        };
        if is_preflight {
            let methods: Vec<_> = cors.methods.iter().map(ToString::to_string).collect();
            tell(ACCESS_CONTROL_ALLOW_METHODS, methods.join(", "));
            tell(ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.join(", "));
            tell(ACCESS_CONTROL_MAX_AGE, cors.max_age.0.as_secs().to_string());
        } else {
            tell(ACCESS_CONTROL_EXPOSE_HEADERS, cors.expose.join(", "));
        }
        if cors.credentials {
            tell(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true".to_owned());
        }
        let origin = if for_any {
            Some(HeaderValue::from_static("*"))
        } else {
            let mut origins = request.get_all(ORIGIN).iter();
            let one = origins.next().filter(|_| origins.next().is_none());
            one.filter(|one| one.to_str().is_ok_and(|one| cors.origins.iter().any(|known| known.covers(one)))).cloned()
        };
        Self { origin, for_any, told }
    }

    /// Writes it over what the app has said of its own, so that nothing is there twice or in two ways.
    pub(super) fn write_to(self, headers: &mut HeaderMap) {
        let is_of_cors = |name: &&HeaderName| name.as_str().starts_with("access-control-");
        let of_app: Vec<HeaderName> = headers.keys().filter(is_of_cors).cloned().collect();
        for name in of_app {
            headers.remove(name);
        }
        if !self.for_any {
            // Also where this one may not read it: a cache must not hand that to one who may.
            vary(headers, ORIGIN);
        }
        if let Some(origin) = self.origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.extend(self.told);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;
    use crate::tree::Seconds;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        Cors {
            origins: origins.iter().map(|text| text.parse().unwrap()).collect(),
            methods: vec!["GET".parse().unwrap(), "PUT".parse().unwrap()],
            headers: vec!["Authorization".to_owned(), "X-A".to_owned()],
            expose: vec!["X-B".to_owned(), "X-C".to_owned()],
            credentials,
            max_age: Seconds::new(600),
        }
    }

    /// What is there after it was written over an app's own headers.
    fn written(cors: &Cors, origins: &[&str], is_preflight: bool) -> Vec<String> {
        let map = |lines: &[(HeaderName, &str)]| {
            let mut map = HeaderMap::new();
            for (name, line) in lines {
                map.append(name, HeaderValue::from_str(line).unwrap());
            }
            map
        };
        let request: Vec<_> = origins.iter().map(|origin| (ORIGIN, *origin)).collect();
        let mut headers = map(&[
            (ACCESS_CONTROL_ALLOW_ORIGIN, "https://app.own"),
            (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (HeaderName::from_static("access-control-what-will-be"), "1"),
            (http::header::VARY, "Accept"),
        ]);
        Sharing::of(cors, &map(&request), is_preflight).write_to(&mut headers);
        let mut lines: Vec<_> =
            headers.iter().map(|(name, line)| format!("{name}: {}", line.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn a_page_of_a_known_origin_is_told_what_it_may_and_another_nothing() {
        let some = cors(&["https://a.test", "https://*.b.test"], true);
        let (credentials, vary) = ("access-control-allow-credentials: true", ["vary: Accept", "vary: origin"]);
        for origin in ["https://a.test", "https://x.b.test"] {
            let allowed = format!("access-control-allow-origin: {origin}");
            let expected = [credentials, &allowed, "access-control-expose-headers: X-B, X-C", vary[0], vary[1]];
            assert_eq!(written(&some, &[origin], false), expected);
            let expected = [
                credentials,
                "access-control-allow-headers: Authorization, X-A",
                "access-control-allow-methods: GET, PUT",
                &allowed,
                "access-control-max-age: 600",
                vary[0],
                vary[1],
            ];
            assert_eq!(written(&some, &[origin], true), expected);
        }
        for origins in [&["https://b.test"][..], &["null"], &[], &["https://a.test", "https://a.test"]] {
            assert_eq!(written(&some, origins, false), vary);
            assert_eq!(written(&some, origins, true), vary);
        }
    }

    #[test]
    fn any_page_is_told_the_same() {
        let expected = ["access-control-allow-origin: *", "access-control-expose-headers: X-B, X-C", "vary: Accept"];
        for origins in [&["https://a.test"][..], &["null"], &[]] {
            assert_eq!(written(&cors(&["*"], false), origins, false), expected);
        }
    }

    #[test]
    fn a_preflight_is_options_with_an_origin_a_method_and_no_body() {
        let parts = |method: &str, headers: &[&str]| {
            let request = Request::builder().method(method);
            let request = headers.iter().fold(request, |request, name| request.header(*name, "x"));
            request.body(()).unwrap().into_parts().0
        };
        let both = ["origin", "access-control-request-method"];
        assert!(is_preflight(&parts("OPTIONS", &both), false));
        assert!(!is_preflight(&parts("OPTIONS", &both), true));
        assert!(!is_preflight(&parts("GET", &both), false));
        assert!(!is_preflight(&parts("OPTIONS", &both[..1]), false));
        assert!(!is_preflight(&parts("OPTIONS", &both[1..]), false));
    }
}
