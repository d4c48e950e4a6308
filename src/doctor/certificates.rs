//! Certificates as a CA file holds them: who they are of, and until when they are good.

use jiff::Timestamp;
use x509_cert::Certificate as X509;
use x509_cert::der::DecodePem;
use x509_cert::name::Name;

/// One certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it speaks of.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// Good from.
    pub begins: Timestamp,
    /// Good until.
    pub ends: Timestamp,
}

/// Where a certificate begins and ends in a file; what stands between two of them is for people.
const MARKS: (&str, &str) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");

/// Reads all certificates of a file, in order; each that cannot be read is an error in its own place.
#[must_use]
pub fn read(bytes: &[u8]) -> Vec<Result<Certificate, String>> {
    let text = String::from_utf8_lossy(bytes);
    blocks(&text)
        .map(|block| X509::from_pem(block.as_bytes()).map_err(|error| error.to_string()).map(|found| of(&found)))
        .collect()
}

/// How many certificates there are, without reading them.
#[must_use]
pub fn count(bytes: &[u8]) -> usize {
    blocks(&String::from_utf8_lossy(bytes)).count()
}

fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let (begin, end) = MARKS;
    text.match_indices(begin).filter_map(move |(start, _)| {
        let rest = &text[start..];
        rest.find(end).map(|length| &rest[..length + end.len()])
    })
}

fn of(found: &X509) -> Certificate {
    let body = found.tbs_certificate();
    let validity = body.validity();
    let time = |time: x509_cert::time::Time| {
        let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
    };
    Certificate {
        subject: name(body.subject()),
        issuer: name(body.issuer()),
        begins: time(validity.not_before),
        ends: time(validity.not_after),
    }
}

/// The common name, which is what people know it by; else all of it.
fn name(name: &Name) -> String {
    match name.common_name() {
        Ok(Some(common)) => common.value().into_owned(),
        _ if name.is_empty() => "no name".to_owned(),
        _ => name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl ca -selfsign -startdate 20200101000000Z -enddate 20240101000000Z`, of a key that is gone.
    const EXPIRED: &str = include_str!("certificates/expired.pem");
    /// Made by `openssl req -x509 -newkey ed25519 -subj /O=House -days 36500`: without a common name.
    const GOOD: &str = include_str!("certificates/good.pem");

    #[test]
    fn names_and_times_are_read_and_text_between_is_left_out() {
        let file = format!("# the house\nsubject=x\n{EXPIRED}\nand another\r\n{GOOD}");
        let found = read(file.as_bytes());
        assert_eq!(found.len(), 2);
        assert_eq!(count(file.as_bytes()), 2);
        let expired = found[0].as_ref().unwrap();
        assert_eq!((expired.subject.as_str(), expired.issuer.as_str()), ("House CA", "House CA"));
        assert_eq!(expired.ends.to_string(), "2024-01-01T00:00:00Z");
        let good = found[1].as_ref().unwrap();
        assert_eq!(good.subject, "O=House");
        assert!(good.ends > "2100-01-01T00:00:00Z".parse().unwrap());
    }

    #[test]
    fn what_is_no_certificate_is_an_error_in_its_own_place() {
        let (begin, end) = MARKS;
        let found = read(format!("{begin}\nbm90aGluZw==\n{end}\n{GOOD}").as_bytes());
        assert!(found[0].is_err() && found[1].is_ok(), "{found:?}");
        assert_eq!(read(b"nothing at all"), []);
        assert_eq!(read(format!("{begin}\ncut off").as_bytes()), []);
    }
}
