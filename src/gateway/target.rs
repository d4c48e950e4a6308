//! A target is where a request wants to go, decided once, on the raw bytes of its path.
//!
//! Nothing is decoded or normalised: whatever two readers of one path could understand differently is refused, and
//! all else goes on byte for byte.

use http::Uri;
use http::uri::PathAndQuery;

/// Where a request wants to go.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// To an API.
    Api {
        /// As it stands in the path; may be no id at all.
        id: String,
        /// What the API is asked for: `/` at least, with the query as it came.
        path: PathAndQuery,
    },
    /// Everything outside `/run/`.
    Other,
}

const WHOLE_URL: &str = "the request line must hold a path, not a whole URL";
const NO_PATH: &str = "the request line holds no path";
const AMBIGUOUS: &str = "the path must not hold . or .. segments, backslashes, or encoded slashes, backslashes or NULs";

impl Target {
    /// Reads where a request wants to go that came to a host which is that API's alone: to it, with the path as it is.
    ///
    /// What stands below `/run/<id>` is there too. The app links to itself under that prefix, which it is told of when
    /// it starts, and knows of no host.
    ///
    /// # Errors
    /// As [`Target::of`].
    pub(super) fn at_host_of(id: &str, uri: &Uri) -> Result<Self, &'static str> {
        let prefixed = uri.path().strip_prefix("/run/").and_then(|rest| rest.strip_prefix(id));
        if prefixed.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return Self::of(uri);
        }
        if uri.scheme().is_some() || uri.authority().is_some() {
            return Err(WHOLE_URL);
        }
        let Some(path) = uri.path_and_query() else { return Err(NO_PATH) };
        if path.path() == "*" {
            // What is asked of the server itself, of which no app has a path.
            return Ok(Self::Other);
        }
        if path.path().split('/').any(is_ambiguous) {
            return Err(AMBIGUOUS);
        }
        Ok(Self::Api { id: id.to_owned(), path: path.clone() })
    }

    /// Reads where a request wants to go.
    ///
    /// # Errors
    /// A sentence for the caller, where the target could be understood in two ways.
    pub(super) fn of(uri: &Uri) -> Result<Self, &'static str> {
        if uri.scheme().is_some() || uri.authority().is_some() {
            return Err(WHOLE_URL);
        }
        let Some(whole) = uri.path_and_query() else { return Err(NO_PATH) };
        let Some(rest) = whole.path().strip_prefix("/run/").filter(|rest| !rest.is_empty()) else {
            return Ok(Self::Other);
        };
        let (id, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if path.split('/').any(is_ambiguous) {
            return Err(AMBIGUOUS);
        }
        let tail = &whole.as_str()["/run/".len() + id.len()..];
        let path = if path.is_empty() { PathAndQuery::try_from(format!("/{tail}")) } else { tail.try_into() };
        let path = path.map_err(|_| "the path cannot be read")?;
        Ok(Self::Api { id: id.to_owned(), path })
    }
}

/// Whether a segment would mean something else to one who decodes or normalises it.
fn is_ambiguous(segment: &str) -> bool {
    let bytes = segment.as_bytes();
    let encodes = |hex: &[u8]| bytes.windows(3).any(|part| part[0] == b'%' && part[1..].eq_ignore_ascii_case(hex));
    bytes.contains(&b'\\') || encodes(b"2f") || encodes(b"5c") || encodes(b"00") || is_dots(bytes)
}

/// Whether a segment is `.` or `..`, each dot as it is or encoded.
fn is_dots(mut segment: &[u8]) -> bool {
    let mut dots = 0;
    while !segment.is_empty() {
        segment = match segment {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return false,
        };
        dots += 1;
    }
    matches!(dots, 1 | 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Result<Target, &'static str> {
        Target::of(&text.parse().unwrap())
    }

    fn api(text: &str) -> (String, String) {
        match target(text) {
            Ok(Target::Api { id, path }) => (id, path.as_str().to_owned()),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn the_rest_of_the_path_and_the_query_go_on_as_they_came() {
        for (whole, id, path) in [
            ("/run/hello", "hello", "/"),
            ("/run/hello/", "hello", "/"),
            ("/run/hello?a=1", "hello", "/?a=1"),
            ("/run/hello?", "hello", "/?"),
            ("/run/hello/items/1", "hello", "/items/1"),
            ("/run/hello//a//", "hello", "//a//"),
            ("/run/hello/a%20b?x=%2F..%00&y=a+b&x=", "hello", "/a%20b?x=%2F..%00&y=a+b&x="),
            ("/run/hello/...", "hello", "/..."),
            ("/run/hello/a.b/.hidden", "hello", "/a.b/.hidden"),
            ("/run/UPPER%20/x", "UPPER%20", "/x"),
        ] {
            assert_eq!(api(whole), (id.to_owned(), path.to_owned()), "{whole}");
        }
    }

    #[test]
    fn what_two_readers_could_understand_differently_is_refused() {
        for bad in [
            "/run/hello/../other",
            "/run/hello/.",
            "/run/hello/%2e%2E/x",
            "/run/hello/.%2e",
            "/run/hello/a%2Fb",
            "/run/hello/a%5cb",
            "/run/hello/a%00",
            "http://localhost/run/hello/",
        ] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_names_no_api_is_left_to_others() {
        for other in ["/", "/health", "/run", "/run/", "/runner/x", "//run/hello", "/admin/deployments"] {
            assert_eq!(target(other), Ok(Target::Other), "{other}");
        }
    }
}
