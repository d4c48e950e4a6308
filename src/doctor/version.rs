//! A version as upstream counts: numbers, and whether it is a candidate for them.

/// A version, in order of release: candidates of a version come before it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    numbers: [u32; 3],
    /// `u32::MAX` for the release itself, which comes after all of its candidates.
    candidate: u32,
}

impl Version {
    /// Reads the upstream version that `text` begins with, whatever a distribution or a commit adds to it:
    /// `1.1.5+ds1-1+deb12u1`, `v1.2.8-0-geeb7e602`, `1.0.0~rc93+ds1`, `1.0.0-rc95`, `1.0-rc6`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (numbers, rest) = text.split_at(end);
        let mut parts = numbers.split('.').map(|part| part.parse().ok());
        let first = parts.next()??;
        let numbers = [first, parts.next()??, parts.next().flatten().unwrap_or(0)];
        let candidate = rest.trim_start_matches(['-', '~', '+', '_']).strip_prefix("rc");
        let candidate = candidate.map(|rest| {
            let rest = rest.trim_start_matches('.');
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().unwrap_or(0)
        });
        Some(Self { numbers, candidate: candidate.unwrap_or(u32::MAX) })
    }

    /// The line of releases that it belongs to, as 1.2 is.
    pub(super) fn line(&self) -> (u32, u32) {
        (self.numbers[0], self.numbers[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Version {
        Version::read(text).unwrap_or_else(|| panic!("{text} cannot be read"))
    }

    #[test]
    fn what_distributions_and_builders_add_is_left_out() {
        for text in
            ["1.1.5", "v1.1.5", "1.1.5+ds1", "1.1.5+ds1-1+deb12u1", "v1.1.5-0-gf19387a6", "1.1.5-0ubuntu1~22.04.1"]
        {
            assert_eq!(read(text), read("1.1.5"), "{text}");
        }
        assert_eq!(read("20.10.24+dfsg1"), read("20.10.24"));
        assert_eq!(read("1.6.20~ds1-1+deb12u3"), read("1.6.20"));
        assert_eq!(read("1.0.0~rc93+ds1-5+deb11u3"), read("1.0.0-rc93"));
        assert_eq!(read("1.4.0-rc.3"), read("1.4.0-rc3"));
    }

    #[test]
    fn candidates_come_before_what_they_are_candidates_for() {
        let order =
            ["1.0-rc6", "1.0.0-rc7", "1.0.0-rc93", "1.0.0-rc95", "1.0.0", "1.1.12", "1.2.8", "1.4.0-rc.2", "1.4.0"];
        assert!(order.windows(2).all(|pair| read(pair[0]) < read(pair[1])));
        assert_eq!(Version::read(""), None);
        assert_eq!(Version::read("f19387a6"), None);
        assert_eq!(Version::read("12"), None);
    }
}
