//! A diagnostic is one finding in the tree: what, where, and what to do.

use serde::Serialize;

/// Declares the codes of all findings, and the list of them that the test of `docs/checks.md` reads.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The codes of all findings. `docs/checks.md` explains each.
        pub mod code {
            $($(#[$doc])* pub const $name: &str = $text;)*
            /// All codes, in the order of the document.
            pub const ALL: &[&str] = &[$($text),*];
        }
    };
}

codes! {
    /// The name of a folder below `apis/` is no id.
    BAD_ID = "bad-id",
    /// The name of a folder below `apis/` is one that only previews have.
    RESERVED_ID = "reserved-id",
    /// A preview of an API whose folder is broken.
    PREVIEW_OF_BROKEN = "preview-of-broken",
    /// Something below `apis/` that is no folder.
    STRAY_FILE = "stray-file",
    /// A symbolic link where a file or folder is expected.
    SYMLINK = "symlink",
    /// A FIFO, socket or device.
    SPECIAL_FILE = "special-file",
    /// A file name that cannot go into an image, or that nobody could read.
    BAD_FILE_NAME = "bad-file-name",
    /// Two names that differ in case only.
    CASE_COLLISION = "case-collision",
    /// A file above `policy.max_file`.
    FILE_TOO_BIG = "file-too-big",
    /// A folder above `policy.max_folder` or `policy.max_files`.
    FOLDER_TOO_BIG = "folder-too-big",
    /// Folders nested deeper than skep follows.
    FOLDER_TOO_DEEP = "folder-too-deep",
    /// A file or folder that cannot be read.
    UNREADABLE = "unreadable",
    /// A folder that has not stood still since skep first saw it.
    UNSETTLED = "unsettled",
    /// A text file that is not UTF-8, or holds a NUL.
    NOT_TEXT = "not-text",
    /// YAML that does not parse.
    YAML_SYNTAX = "yaml-syntax",
    /// YAML that parses, of a kind that skep does not take: anchors, aliases, tags, several documents.
    YAML_FEATURE = "yaml-feature",
    /// A key twice in one mapping.
    DUPLICATE_KEY = "duplicate-key",
    /// A key that there is not.
    UNKNOWN_KEY = "unknown-key",
    /// A key that must be there.
    MISSING_KEY = "missing-key",
    /// A value of another type than the key takes.
    WRONG_TYPE = "wrong-type",
    /// A value of the right type that says nothing skep knows.
    BAD_VALUE = "bad-value",
    /// A value that is taken, and by which nothing comes of what is set.
    POINTLESS = "pointless",
    /// A value outside the bounds of its key.
    OUT_OF_BOUNDS = "out-of-bounds",
    /// A host that two APIs claim.
    HOST_TAKEN = "host-taken",
    /// A name that cannot be an environment variable.
    BAD_ENV_NAME = "bad-env-name",
    /// An environment variable that skep sets, or that changes what runs.
    RESERVED_ENV = "reserved-env",
    /// A line of `requirements.txt` that is no PEP 508 requirement.
    BAD_REQUIREMENT = "bad-requirement",
    /// An option in `requirements.txt`.
    REQUIREMENT_OPTION = "requirement-option",
    /// A URL or a path in `requirements.txt`.
    REQUIREMENT_URL = "requirement-url",
    /// `${…}` in `requirements.txt`.
    REQUIREMENT_VARIABLE = "requirement-variable",
    /// A package twice in `requirements.txt`, with different demands.
    REQUIREMENT_TWICE = "requirement-twice",
    /// `requirements.lock` is for other requirements than `requirements.txt` has.
    LOCK_STALE = "lock-stale",
    /// There is no `requirements.lock`; said by `skep lock --check` alone.
    LOCK_MISSING = "lock-missing",
    /// A line of `requirements.lock` without a hash, or with one that is none.
    LOCK_HASH = "lock-hash",
    /// A line of `requirements.lock` that pins no version.
    BAD_LOCK = "bad-lock",
    /// A `secrets.age` that no key could open.
    BAD_SECRETS = "bad-secrets",
    /// Python that does not parse.
    PYTHON_SYNTAX = "python-syntax",
    /// Python newer than the interpreter that runs it.
    PYTHON_VERSION = "python-version",
    /// Python nested deeper than an interpreter follows.
    PYTHON_NESTING = "python-nesting",
    /// The module of `app` is not in the folder.
    APP_MODULE_MISSING = "app-module-missing",
    /// The ASGI object is not in its module.
    APP_OBJECT_MISSING = "app-object-missing",
    /// An API that was built and started, and did not come to serve; said by `skep check --boot` alone.
    BOOT_FAILED = "boot-failed",
    /// An API that could not be tried; said by `skep check --boot` alone.
    NOT_BOOTED = "not-booted",
    /// An `openapi.json` that is not what the app says of itself; said by `skep check --boot` alone.
    OPENAPI_STALE = "openapi-stale",
    /// An `openapi.json` that cannot be compared with another; said by `skep check` and `skep plan --base`.
    OPENAPI_UNREADABLE = "openapi-unreadable",
    /// A change of an API's OpenAPI document by which callers may fail; said by `skep plan --output sarif` alone.
    BREAKING_CHANGE = "breaking-change",
    /// A reader gave up on a file: a fault of skep, or of a parser that it uses.
    CHECK_FAILED = "check-failed",
    /// An environment variable of the host that skep cannot use.
    BAD_ENVIRONMENT = "bad-environment",
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Whether the API can be served all the same.
    pub severity: Severity,
    /// A stable name for the kind of finding, as in `unknown-key`; documented in `docs/checks.md`.
    pub code: &'static str,
    /// The file or folder, relative to the root of the tree's repository, with `/` between segments.
    pub path: String,
    /// Where in the file; `None` where the finding is about the whole file or folder.
    pub span: Option<Span>,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do next; empty where nothing useful can be said.
    pub hint: String,
    /// The last lines that a build or an app printed, where the finding is about one that ran; else none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
    /// The lines around the span, for the caret snippet; `None` where the file is not text.
    #[serde(skip)]
    pub excerpt: Option<Excerpt>,
}

impl std::fmt::Display for Diagnostic {
    /// One line: `apis/x/main.py:3:7: invalid syntax`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.span {
            Some(Span { line, column, .. }) => write!(f, "{}:{line}:{column}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Served all the same.
    Warning,
    /// Not served until it is mended.
    Error,
}

/// A place in a text file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Of the first character.
    pub line: u32,
    /// Of the first character.
    pub column: u32,
    /// Of the last character.
    pub end_line: u32,
    /// Just past the last character.
    pub end_column: u32,
}

/// A piece of the source, whole lines, that a report can draw carets under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The number of the first line, from 1.
    pub first_line: u32,
    /// The text of the lines.
    pub text: String,
    /// What to underline: byte offsets into `text`.
    pub range: std::ops::Range<usize>,
}

/// The `path` of a finding about the environment of skep itself rather than a file.
pub const ENVIRONMENT: &str = "(environment)";

impl Diagnostic {
    /// An error about a whole file or folder.
    #[must_use]
    pub fn error(
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            code,
            path: path.into(),
            span: None,
            message: message.into(),
            hint: hint.into(),
            output: Vec::new(),
            excerpt: None,
        }
    }

    /// A warning about a whole file or folder.
    #[must_use]
    pub fn warning(
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, path, message, hint) }
    }

    /// Whether it keeps its API from being served.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// Whether a character could move the cursor, hide text, or turn its direction around on somebody's terminal.
#[must_use]
pub fn is_treacherous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
