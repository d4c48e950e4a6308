//! The opening of a push says which names it moves, before anything else of it comes: what only takes names away is known by it.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::timeout;

/// How long whoever sends may send nothing.
pub(super) const SILENCE: Duration = Duration::from_secs(60);

/// How much of it is looked at. A hundred names are a tenth of that.
const MOST: usize = 64 * 1024;

/// What has come of a push.
#[derive(Debug, Default)]
pub(super) struct Opening {
    /// All of it, to be handed on.
    pub(super) bytes: Vec<u8>,
    /// Whether no name gets a commit: each goes, or there is none, as where git only tries whether it is let in.
    pub(super) brings_nothing: bool,
}

impl Opening {
    /// Reads it.
    ///
    /// # Errors
    /// Where it breaks off, or nothing comes for long.
    pub(super) async fn read(body: &mut Incoming) -> io::Result<Self> {
        let mut bytes = Vec::new();
        loop {
            match brings_nothing(&bytes) {
                Some(brings_nothing) => return Ok(Self { bytes, brings_nothing }),
                None if bytes.len() > MOST => return Ok(Self { bytes, brings_nothing: false }),
                None => {}
            }
            match next(body).await? {
                Some(more) => bytes.extend_from_slice(&more),
                // Git knows what to say of that.
                None => return Ok(Self { bytes, brings_nothing: true }),
            }
        }
    }
}

/// What comes next of what is sent; `None` at its end.
///
/// # Errors
/// Where it breaks off, or nothing comes for long.
pub(super) async fn next(body: &mut Incoming) -> io::Result<Option<Bytes>> {
    loop {
        match timeout(SILENCE, body.frame()).await {
            Err(silent) => return Err(silent.into()),
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => return Err(io::Error::other(error)),
            Ok(Some(Ok(frame))) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
        }
    }
}

/// Whether none of the names gets a commit; `None` where not all of them have come.
fn brings_nothing(mut bytes: &[u8]) -> Option<bool> {
    loop {
        let digits = std::str::from_utf8(bytes.get(..4)?).ok();
        let length = match digits.and_then(|digits| usize::from_str_radix(digits, 16).ok()) {
            Some(0) => return Some(true),
            Some(length) if length > 4 => length,
            // Nothing that git would say.
            _ => return Some(false),
        };
        let mut words = bytes.get(4..length)?.splitn(3, |byte| *byte == b' ');
        let new = words.nth(1).unwrap_or_default();
        if !(matches!(new.len(), 40 | 64) && new.iter().all(|digit| *digit == b'0')) {
            return Some(false);
        }
        bytes = bytes.get(length..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(text: &str) -> String {
        format!("{:04x}{text}", text.len() + 4)
    }

    #[test]
    fn only_a_push_that_takes_names_away_brings_nothing() {
        let (some, none) = ("a".repeat(40), "0".repeat(40));
        let gone = packet(&format!("{some} {none} refs/previews/7\0 report-status push-options"));
        let also = packet(&format!("{some} {none} refs/previews/8"));
        let comes = packet(&format!("{none} {some} refs/previews/9"));
        let shallow = packet(&format!("shallow {some}"));
        let said = |text: String| brings_nothing(text.as_bytes());
        assert_eq!(said("0000".to_owned()), Some(true), "git tries whether it is let in");
        assert_eq!(said(format!("{gone}{also}0000 and more")), Some(true));
        for other in [format!("{gone}{comes}0000"), format!("{comes}0000"), format!("{shallow}{gone}0000")] {
            assert_eq!(said(other.clone()), Some(false), "{other}");
        }
        for bad in ["zzzz", "0001", "0004", "PACK"] {
            assert_eq!(said(bad.to_owned()), Some(false), "{bad}");
        }
        for part in [0, 3, 50, gone.len(), gone.len() + 2] {
            assert_eq!(said(format!("{gone}{also}")[..part].to_owned()), None, "{part}");
        }
    }
}
