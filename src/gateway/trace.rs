//! A trace is what ties requests together that one caller's wish has set off in several systems (W3C Trace Context).

use http::header::{HeaderMap, HeaderName};
use uuid::Uuid;

use crate::telemetry::{Link, Traces};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Continues the caller's trace where it names one soundly, and else begins one, called as the request is.
///
/// One that begins here says `sampled`: nobody has decided yet, and an app whose tracing follows its parent would keep
/// silent for ever where it said otherwise.
///
/// Where somebody collects `traces`, they decide what is sampled, and get to know where this request hangs. What the app is
/// told is what comes back beside that; what the caller has said is taken out.
pub(super) fn continue_or_begin(headers: &mut HeaderMap, request: Uuid, traces: Option<&Traces>) -> (Link, [u8; 55]) {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let given = given.next().filter(|_| given.next().is_none()).and_then(|given| read(given.as_bytes()));
    let span = loop {
        // Never nought, which stands for none.
        match rand::random::<u64>() {
            0 => {}
            span => break span,
        }
    };
    let was = given.as_ref().map(|given| given.sampled);
    let sampled = traces.map_or(was.unwrap_or(true), |traces| traces.samples(was));
    headers.remove(TRACEPARENT);
    if given.is_none() {
        headers.remove(TRACESTATE);
    }
    let trace = given.as_ref().map_or(request.as_u128(), |given| given.trace);
    let link = Link { trace, parent: given.map(|given| given.parent), span, sampled };
    (link, write(trace, span, sampled))
}

fn write(trace: u128, span: u64, sampled: bool) -> [u8; 55] {
    let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
    // Each is as long as its place.
    let _ = hex::encode_to_slice(trace.to_be_bytes(), &mut text[3..35]);
    let _ = hex::encode_to_slice(span.to_be_bytes(), &mut text[36..52]);
    text[54] += u8::from(sampled);
    text
}

/// What a caller says of the trace that its request is of.
struct Given {
    trace: u128,
    parent: u64,
    sampled: bool,
}

/// What we understand of version 0, out of a sound `traceparent`. Of a later version, what this
/// one knows is read (section 3.2.4).
fn read(value: &[u8]) -> Option<Given> {
    let text = std::str::from_utf8(value).ok()?;
    let (known, later) = text.split_at_checked(55)?;
    let mut parts = known.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_sound = |text: &str, length: usize| text.len() == length && is_hex(text) && text.bytes().any(|b| b != b'0');
    if parts.next().is_some() || !is_sound(trace, 32) || !is_sound(parent, 16) || flags.len() != 2 || !is_hex(flags) {
        return None;
    }
    let is_version = match version {
        "00" => later.is_empty(),
        "ff" => false,
        version => version.len() == 2 && is_hex(version) && (later.is_empty() || later.starts_with('-')),
    };
    let flags = u8::from_str_radix(flags, 16).ok()?;
    // Only `sampled` has a meaning in version 0.
    let (trace, parent) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(parent, 16).ok()?);
    is_version.then_some(Given { trace, parent, sampled: flags & 1 == 1 })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn after(lines: &[(&'static str, &str)]) -> (String, Option<String>) {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let (link, parent) = continue_or_begin(&mut headers, Uuid::from_u128(7), None);
        assert!(!headers.contains_key(TRACEPARENT));
        let parent = std::str::from_utf8(&parent).unwrap();
        assert!(parent.contains(&format!("-{:016x}-", link.span)));
        let state = headers.get(TRACESTATE).map(|value: &HeaderValue| value.to_str().unwrap().to_owned());
        (parent.to_owned(), state)
    }

    #[test]
    fn a_sound_trace_is_continued_with_a_parent_of_our_own() {
        for (given, flags) in [
            (format!("00-{TRACE}-00f067aa0ba902b7-01"), "01"),
            (format!("00-{TRACE}-00f067aa0ba902b7-00"), "00"),
            (format!("00-{TRACE}-00f067aa0ba902b7-fe"), "00"),
            (format!("cc-{TRACE}-00f067aa0ba902b7-01-what-will-be"), "01"),
        ] {
            let (parent, state) = after(&[("traceparent", &given), ("tracestate", "a=1")]);
            assert_eq!((&parent[..36], &parent[52..]), (&*format!("00-{TRACE}-"), &*format!("-{flags}")), "{given}");
            assert_ne!(&parent[36..52], "00f067aa0ba902b7");
            assert_eq!((parent.len(), state.as_deref()), (55, Some("a=1")));
            assert!(read(parent.as_bytes()).is_some());
        }
    }

    #[test]
    fn any_other_gives_way_to_one_that_begins_here_and_takes_its_state_along() {
        let sound = format!("00-{TRACE}-00f067aa0ba902b7-01");
        for bad in [
            String::new(),
            sound.to_uppercase(),
            format!("{sound}-more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("cc-{TRACE}-00f067aa0ba902b7-01.more"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{TRACE}-00f067aa0ba902b7-0"),
            format!("0-{TRACE}-00f067aa0ba902b7-001"),
            format!("00-{TRACE}00f067aa0ba902b7-01------"),
        ] {
            let (parent, state) = after(&[("traceparent", &bad), ("tracestate", "a=1")]);
            assert!(parent.starts_with("00-00000000000000000000000000000007-") && parent.ends_with("-01"), "{bad}");
            assert_eq!(state, None, "{bad}");
        }
        let (parent, _) = after(&[("traceparent", &sound), ("traceparent", &sound)]);
        assert!(!parent.contains(TRACE), "two are none");
    }
}
