//! Versions are which version of each package there is somewhere: in a lock, in an image, or by the word of a resolver.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use pep508_rs::PackageName;

use super::Requirements;

/// The version of each package, by its name, normalised as PEP 503 says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Versions(pub BTreeMap<String, String>);

impl Versions {
    /// Those that a lock names; `None` where it is none.
    #[must_use]
    pub fn of_lock(requirements: &Requirements) -> Option<Self> {
        let pin = |one: &super::Requirement| Some((one.name().to_owned(), one.locked_version()?.to_owned()));
        requirements.is_locked().then(|| Self(requirements.0.iter().filter_map(pin).collect()))
    }

    /// Those that lines of `name==version` name, as a resolver writes them. Other lines say nothing.
    #[must_use]
    pub fn of_pins<'a>(lines: impl IntoIterator<Item = &'a str>) -> Self {
        let pin = |line: &'a str| {
            let (name, version) = line.split(['#', ';']).next()?.trim().split_once("==")?;
            named(name.split('[').next()?, version)
        };
        Self(lines.into_iter().filter_map(pin).collect())
    }

    /// Those of what is installed, by the names of the folders that say so, as in `charset_normalizer-3.4.0.dist-info`.
    #[must_use]
    pub fn of_installed<'a>(folders: impl IntoIterator<Item = &'a str>) -> Self {
        let one = |folder: &'a str| {
            let (name, version) = folder.trim().strip_suffix(INSTALLED)?.split_once('-')?;
            named(name, version)
        };
        Self(folders.into_iter().filter_map(one).collect())
    }
}

/// How the folder ends that says of a package that it is installed.
pub const INSTALLED: &str = ".dist-info";

fn named(name: &str, version: &str) -> Option<(String, String)> {
    let (name, version) = (PackageName::from_str(name.trim()).ok()?, version.trim());
    (!name.as_ref().is_empty() && !version.is_empty()).then(|| (name.to_string(), version.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Requirement;

    fn versions(all: &[(&str, &str)]) -> Versions {
        Versions(all.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect())
    }

    #[test]
    fn lines_of_a_resolver_are_read_and_others_say_nothing() {
        let text = "# by uv\nAnyio==4.1\n\ncharset_normalizer==3.4.0 ; python_version < \"3.12\"\nuvicorn[standard]==0.30 # why\n\
                    x>=2\n==3\nempty==\n";
        assert_eq!(
            Versions::of_pins(text.lines()),
            versions(&[("anyio", "4.1"), ("charset-normalizer", "3.4.0"), ("uvicorn", "0.30")])
        );
    }

    #[test]
    fn folders_of_installed_packages_have_names_and_versions() {
        let folders = [
            "charset_normalizer-3.4.0.dist-info",
            "ruamel.yaml-0.18.6.dist-info",
            "pandas",
            "x.dist-info",
            "a-1+b-2.dist-info",
        ];
        assert_eq!(
            Versions::of_installed(folders),
            versions(&[("a", "1+b-2"), ("charset-normalizer", "3.4.0"), ("ruamel-yaml", "0.18.6")])
        );
    }

    #[test]
    fn a_lock_names_versions_and_other_requirements_do_not() {
        let hash = "a".repeat(64);
        let lock = Requirements(vec![Requirement(format!("pandas==2.1 --hash=sha256:{hash}"))]);
        assert_eq!(Versions::of_lock(&lock), Some(versions(&[("pandas", "2.1")])));
        assert_eq!(Versions::of_lock(&Requirements::base()), None);
    }
}
