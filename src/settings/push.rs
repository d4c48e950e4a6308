//! Whether pushes are taken, and which.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Settings;
use super::report::{self, ReportFile, ReportSettings};
use crate::tree::Size;
use crate::tree::diagnostic::code;
use crate::tree::settle::Settler;
use crate::tree::yaml::At;

/// Which pushes are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushSettings {
    /// The branch that says what should serve.
    pub branch: String,
    /// The largest push, as it comes over the wire.
    pub max_size: Size,
    /// Where a forge that has the same commits is told what became of them.
    pub report: Option<ReportSettings>,
}

/// Lets people deploy by `git push`: the branch's `apis/` takes the place of the one here. See push.md.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PushFile {
    /// The branch that says what should serve; pushes to others are refused.
    #[schemars(length(min = 1, max = 200), regex(pattern = "^[A-Za-z0-9][A-Za-z0-9._/-]*$"), extend("default" = "main"))]
    pub branch: Option<At<String>>,
    /// The largest push, as it comes over the wire.
    #[schemars(extend("default" = "100MiB", "x-bounds" = "1MiB to 10GiB"))]
    pub max_size: Option<At<Size>>,
    /// Where a forge that has the same commits is told what became of each. Without it, nobody is.
    pub report: Option<ReportFile>,
}

/// Lays a file over settings.
pub(super) fn lay_over(settler: &mut Settler<'_, '_>, file: &PushFile, settings: &mut Settings) {
    let mut push = PushSettings { branch: "main".to_owned(), max_size: Size::mib(100), report: None };
    if let Some(branch) = &file.branch {
        if is_branch(&branch.value) {
            push.branch.clone_from(&branch.value);
        } else {
            settler.error(code::BAD_VALUE, branch, "this is no name of a branch", "write it as in main");
        }
    }
    settler.within(file.max_size.as_ref(), Size::mib(1)..=Size::mib(10 * 1024), &mut push.max_size);
    push.report = file.report.as_ref().and_then(|file| report::settle(settler, file, ("", None), settings));
    settings.push = Some(push);
}

/// A narrower rule than git's own, under which a name is a name wherever it stands.
pub(super) fn is_branch(name: &str) -> bool {
    let is_part = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
            && !part.contains("..")
            && !part.ends_with('.')
            && part.strip_suffix(".lock").is_none()
    };
    name.len() <= 200 && name.split('/').all(is_part)
}

#[cfg(test)]
mod tests {
    use super::is_branch;

    #[test]
    fn a_branch_is_named_without_surprises() {
        for name in ["main", "release/2026-11", "a.b"] {
            assert!(is_branch(name), "{name}");
        }
        for name in ["", "-x", "a//b", "a..b", "a.lock", "../x", "a b", "a/", "/a", "x.", "é"] {
            assert!(!is_branch(name), "{name}");
        }
    }
}
