//! Holes are published weaknesses of the programs between an API and its host: which versions have them, and which
//! packages of a distribution have them closed under an older number.
//!
//! Here are those that let code in a container reach the host, or a user of the host reach containers. Left out are
//! those of features that skep does not use: swarm, Kubernetes, `BuildKit`, images of strangers.

use super::version::Version;

/// A published weakness.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Hole {
    /// As it is known.
    pub(super) id: &'static str,
    /// What it lets somebody do.
    pub(super) lets: &'static str,
    /// The first sound version of each line that has one; lines after the last are sound from their beginning, and
    /// those before without one of their own are not.
    fixed: &'static [&'static str],
    /// Packages that have it closed: all that begin so, and go on with this number or a higher one.
    patched: &'static [(&'static str, u32)],
}

/// Whether a hole is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// By its version it is not.
    Closed,
    /// By its version it is; its package is known to have it closed.
    Patched,
    /// By its version it is, in a distribution's package, of which we don't know better.
    Doubtful,
    /// It is.
    Open,
}

/// Of runc. Sources: the advisories of its repository (GHSA-gxmr-w5mj-v8hh, GHSA-c3xm-pvg7-gh7r, GHSA-xr7r-f8xq-vfvv,
/// GHSA-9493-h29p-rfm2, GHSA-qw9x-cqr3-wc7r, GHSA-cgrx-mc8f-2prm), and the changelog of Debian's package.
pub(super) const RUNC: &[Hole] = &[
    Hole {
        id: "CVE-2019-5736",
        lets: "root in a container overwrite the runtime on the host",
        fixed: &["1.0.0-rc7"],
        patched: &[],
    },
    Hole {
        id: "CVE-2021-30465",
        lets: "containers that start at once mount folders of the host",
        fixed: &["1.0.0-rc95"],
        patched: &[],
    },
    Hole {
        id: "CVE-2024-21626",
        lets: "a container reach the host's files through a handle left open",
        fixed: &["1.1.12"],
        patched: &[("1.1.5+ds1-1+deb12u", 1)],
    },
    Hole {
        id: "CVE-2025-31133",
        lets: "a container write to the host's /proc by way of its /dev/null",
        fixed: &["1.2.8", "1.3.3", "1.4.0-rc.3"],
        patched: &[],
    },
    Hole {
        id: "CVE-2025-52565",
        lets: "a container write to the host's /proc by way of its /dev/console",
        fixed: &["1.2.8", "1.3.3", "1.4.0-rc.3"],
        patched: &[],
    },
    Hole {
        id: "CVE-2025-52881",
        lets: "a container turn the runtime's own writes to /proc elsewhere",
        fixed: &["1.2.8", "1.3.3", "1.4.0-rc.3"],
        patched: &[],
    },
];

/// Of containerd. Sources: GHSA-265r-hfxg-fhmg, GHSA-pwhc-rpq9-4c8w, and the changelog of Debian's package.
pub(super) const CONTAINERD: &[Hole] = &[
    Hole {
        id: "CVE-2024-40635",
        lets: "an image run as root by naming a user with too large a number",
        fixed: &["1.6.38", "1.7.27", "2.0.4"],
        patched: &[("1.6.20~ds1-1+deb12u", 2)],
    },
    Hole {
        id: "CVE-2024-25621",
        lets: "users of the host read and change what containers are made of",
        fixed: &["1.7.29", "2.0.7", "2.1.5"],
        patched: &[("1.6.20~ds1-1+deb12u", 2)],
    },
];

/// Of the engine. Source: GHSA-3fwx-pjgw-3558.
pub(super) const ENGINE: &[Hole] = &[Hole {
    id: "CVE-2021-41091",
    lets: "users of the host run programs out of containers' file systems",
    fixed: &["20.10.9"],
    patched: &[],
}];

impl Hole {
    /// Whether it is open in a program that calls itself by any of these versions: the engine tells the upstream version
    /// and the package or commit that it was made of.
    pub(super) fn opening(&self, versions: &[String]) -> Opening {
        // What says the most of where it comes from stands last.
        let Some(version) = versions.iter().rev().find_map(|text| Version::read(text)) else { return Opening::Closed };
        if self.is_fixed_in(&version) {
            return Opening::Closed;
        }
        let is_patched = |text: &String| {
            self.patched.iter().any(|(stem, least)| {
                let number = text.strip_prefix(stem).map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
                number.flatten().and_then(|number| number.parse::<u32>().ok()).is_some_and(|number| number >= *least)
            })
        };
        if versions.iter().any(is_patched) {
            Opening::Patched
        } else if versions.iter().any(|text| is_packaged(text)) {
            Opening::Doubtful
        } else {
            Opening::Open
        }
    }

    /// The lowest version without it.
    pub(super) fn first_fixed(&self) -> &'static str {
        self.fixed.first().copied().unwrap_or_default()
    }

    fn is_fixed_in(&self, version: &Version) -> bool {
        let fixed: Vec<Version> = self.fixed.iter().filter_map(|text| Version::read(text)).collect();
        match fixed.iter().find(|fixed| fixed.line() == version.line()) {
            Some(fixed) => version >= fixed,
            None => fixed.last().is_some_and(|last| version > last),
        }
    }
}

/// Whether a version names the package of a distribution, which may have holes closed under an older number.
pub(super) fn is_packaged(version: &str) -> bool {
    ["+ds", "~ds", "+dfsg", "~dfsg", "+deb", "~deb", "ubuntu", ".el", ".fc", ".amzn"]
        .iter()
        .any(|mark| version.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(holes: &[Hole], versions: &[&str]) -> Vec<(&'static str, Opening)> {
        let versions: Vec<String> = versions.iter().map(|&text| text.to_owned()).collect();
        holes
            .iter()
            .map(|hole| (hole.id, hole.opening(&versions)))
            .filter(|(_, opening)| *opening != Opening::Closed)
            .collect()
    }

    const OF_2025: [&str; 3] = ["CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881"];

    #[test]
    fn each_line_of_runc_is_measured_by_its_own_fix() {
        for sound in ["1.2.8", "1.2.9", "1.3.3", "1.3.4", "1.4.0-rc.3", "1.4.0", "1.5.1", "2.0.0"] {
            assert_eq!(open(RUNC, &[sound]), [], "{sound}");
        }
        for holed in ["1.1.12", "1.1.15", "1.2.7", "1.3.0", "1.3.2", "1.4.0-rc.2"] {
            let found: Vec<_> = open(RUNC, &[holed]).into_iter().map(|(id, _)| id).collect();
            assert_eq!(found, OF_2025, "{holed}");
        }
        assert_eq!(open(RUNC, &["1.1.11"])[0], ("CVE-2024-21626", Opening::Open));
        assert_eq!(open(RUNC, &["1.0.0-rc95"]).len(), 4);
        assert_eq!(open(RUNC, &["1.0.0-rc94"])[0].0, "CVE-2021-30465");
        assert_eq!(open(RUNC, &["1.0-rc6"]).len(), 6);
    }

    #[test]
    fn a_distribution_may_have_closed_it_under_an_older_number() {
        let debian = open(RUNC, &["1.1.5+ds1", "1.1.5+ds1-1+deb12u1"]);
        assert_eq!(debian[0], ("CVE-2024-21626", Opening::Patched));
        assert!(debian[1..].iter().all(|(_, opening)| *opening == Opening::Doubtful), "{debian:?}");
        assert_eq!(debian.len(), 4);
        // The package before the fix, and one that we know nothing of.
        assert_eq!(open(RUNC, &["1.1.5+ds1", "1.1.5+ds1-1+b2"])[0].1, Opening::Doubtful);
        assert_eq!(open(RUNC, &["1.1.7-0ubuntu1~22.04.9"])[0].1, Opening::Doubtful);
        // What the project itself built has no patches.
        assert_eq!(open(RUNC, &["1.1.11", "v1.1.11-0-g4bccb38"])[0].1, Opening::Open);
    }

    #[test]
    fn the_hosts_other_programs_are_measured_too() {
        assert_eq!(open(CONTAINERD, &["1.7.29"]), []);
        assert_eq!(open(CONTAINERD, &["v2.1.5", "fcd43222d6b07379a4be9786bda52438f0dd16a1"]), []);
        assert_eq!(open(CONTAINERD, &["2.2.0"]), []);
        assert_eq!(open(CONTAINERD, &["1.7.28"]), [("CVE-2024-25621", Opening::Open)]);
        let debian = open(CONTAINERD, &["1.6.20~ds1", "1.6.20~ds1-1+deb12u3"]);
        assert!(debian.iter().all(|(_, opening)| *opening == Opening::Patched), "{debian:?}");
        assert_eq!(open(CONTAINERD, &["1.6.20~ds1-1+deb12u1"])[0].1, Opening::Doubtful);
        assert_eq!(open(ENGINE, &["20.10.5+dfsg1"])[0].1, Opening::Doubtful);
        assert_eq!(open(ENGINE, &["20.10.24+dfsg1"]), []);
        assert_eq!(open(ENGINE, &["28.2.2"]), []);
    }

    #[test]
    fn a_version_that_says_nothing_accuses_nobody() {
        assert_eq!(open(RUNC, &[]), []);
        assert_eq!(open(RUNC, &["N/A"]), []);
    }
}
