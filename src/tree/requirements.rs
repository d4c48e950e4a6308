//! Requirements are what an API needs installed: plain PEP 508 lines, nothing that runs or redirects an installer.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::str::FromStr;

use pep508_rs::{MarkerTree, VersionOrUrl};
use serde::{Deserialize, Serialize};

use super::diagnostic::{Diagnostic, code};
use super::source::{MAX_FINDINGS, Source};
use super::suggest::shorten;

/// One normalised requirement, as in `pandas>=2,<3 ; python_version >= "3.11"`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Requirement(pub String);

/// All requirements of one API, sorted, the base ones (FastAPI, uvicorn, python-multipart) included unless pinned by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Requirements(pub Vec<Requirement>);

impl Requirement {
    /// The name of the package, normalised.
    #[must_use]
    pub fn name(&self) -> &str {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        self.0.split_once(|c| !is_name(c)).map_or(&self.0, |(name, _)| name)
    }

    /// As a person would write it: without the hashes of a lock.
    #[must_use]
    pub fn asked(&self) -> &str {
        self.0.split_once(HASH).map_or(&self.0, |(asked, _)| asked)
    }

    /// The one version that a lock names.
    #[must_use]
    pub fn locked_version(&self) -> Option<&str> {
        let (asked, _) = self.0.split_once(HASH)?;
        asked.split_once("==")?.1.split(' ').next()
    }
}

/// What goes before each hash of a locked requirement.
pub(super) const HASH: &str = " --hash=sha256:";

/// The longest line. Real ones have a fifth of it; markers are boolean algebra, which long lines make slow.
const MAX_LINE: usize = 500;

/// The most `and` and `or` in the marker of one line, for the same reason.
const MAX_MARKERS: usize = 16;

/// The most lines that are not comments.
const MAX_COUNT: usize = 500;

/// What every API has. `uvicorn[standard]` brings WebSockets, and the event loop and HTTP parser that are written in C.
const BASE: [(&str, &str); 3] =
    [("fastapi", "fastapi"), ("uvicorn", "uvicorn[standard]"), ("python-multipart", "python-multipart")];

/// One line that is sound.
pub(super) struct Line {
    pub(super) requirement: pep508_rs::Requirement,
    /// In its normal form.
    pub(super) text: String,
    /// Where it stands.
    pub(super) range: Range<usize>,
}

/// A `requirements.txt`, line by line.
#[derive(Default)]
pub(super) struct Written(BTreeMap<String, Vec<Line>>);

impl Requirements {
    /// What an API without a `requirements.txt` has.
    #[must_use]
    pub fn base() -> Self {
        Self::of(&BTreeMap::new())
    }

    /// Reads a `requirements.txt`. With findings that are errors, the value is of no use.
    #[must_use]
    pub fn parse(source: Source<'_>, findings: &mut Vec<Diagnostic>) -> Self {
        Written::read(source, findings).requirements()
    }

    /// Whether it names each file that may be installed, by its hash: as a lock does.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|requirement| requirement.0.contains(HASH))
    }

    /// The lines and what every API has, sorted.
    fn of(lines: &BTreeMap<String, Vec<Line>>) -> Self {
        let mut texts: BTreeSet<String> = lines.values().flatten().map(|line| line.text.clone()).collect();
        for (name, base) in BASE {
            if !lines.contains_key(name) {
                texts.insert(base.to_owned());
            }
        }
        // An API that pins a bare uvicorn still gets WebSockets.
        let has_extras = |line: &Line| line.requirement.extras.iter().any(|extra| extra.as_ref() == "standard");
        if lines.get("uvicorn").is_some_and(|lines| !lines.iter().any(has_extras))
            && !lines.contains_key("websockets")
            && !lines.contains_key("wsproto")
        {
            texts.insert("websockets".to_owned());
        }
        Self(texts.into_iter().map(Requirement).collect())
    }
}

impl Written {
    /// Reads a `requirements.txt`. With findings that are errors, the value is of no use.
    pub(super) fn read(source: Source<'_>, findings: &mut Vec<Diagnostic>) -> Self {
        let mut lines: BTreeMap<String, Vec<Line>> = BTreeMap::new();
        let mut start = 0;
        let mut count = 0;
        let earlier = findings.len();
        for raw in source.text.split_inclusive('\n') {
            let range = requirement_of(raw, start);
            start += raw.len();
            if range.is_empty() {
                continue;
            }
            count += 1;
            if count > MAX_COUNT {
                let message = format!("more than {MAX_COUNT} requirements");
                findings.push(source.error(code::OUT_OF_BOUNDS, range, message, "keep those that the code imports"));
                break;
            }
            if findings.len() - earlier >= MAX_FINDINGS {
                break;
            }
            match read_line(source, range) {
                Ok(line) => add(source, &mut lines, line, findings),
                Err(finding) => findings.push(*finding),
            }
        }
        Self(lines)
    }

    /// What is to be installed.
    pub(super) fn requirements(&self) -> Requirements {
        Requirements::of(&self.0)
    }

    /// Every line, in order of name.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Line> {
        self.0.values().flatten()
    }
}

/// The bytes of a line that say a requirement: without its comment, which starts the line or follows a space, and
/// without spaces around.
pub(super) fn requirement_of(raw: &str, start: usize) -> Range<usize> {
    let mut start = start;
    let mut text = raw;
    if start == 0
        && let Some(rest) = text.strip_prefix('\u{feff}')
    {
        start += text.len() - rest.len();
        text = rest;
    }
    let comment = text
        .char_indices()
        .find(|&(at, c)| c == '#' && text[..at].chars().next_back().is_none_or(char::is_whitespace))
        .map_or(text.len(), |(at, _)| at);
    let text = &text[..comment];
    let trimmed = text.trim();
    let from = start + text.len() - text.trim_start().len();
    from..from + trimmed.len()
}

/// Takes a line in, unless it contradicts one of the same package.
fn add(source: Source<'_>, lines: &mut BTreeMap<String, Vec<Line>>, line: Line, findings: &mut Vec<Diagnostic>) {
    let same = lines.entry(line.requirement.name.to_string()).or_default();
    if same.iter().any(|other| other.text == line.text) {
        return;
    }
    let clash = same.iter().find(|other| !other.requirement.marker.is_disjoint(&line.requirement.marker));
    if let Some(other) = clash {
        let number = source.text[..other.range.start].matches('\n').count() + 1;
        let message = format!("{} stands here a second time, with another demand", line.requirement.name);
        let hint = format!("merge it with line {number}, as in `{}>=2,<3`", line.requirement.name);
        findings.push(source.error(code::REQUIREMENT_TWICE, line.range, message, hint));
        return;
    }
    same.push(line);
}

/// Reads one requirement, or says why it is none that skep installs.
pub(super) fn read_line(source: Source<'_>, range: Range<usize>) -> Result<Line, Box<Diagnostic>> {
    let text = &source.text[range.clone()];
    let refuse = |code, message: &str, hint: &str| Err(Box::new(source.error(code, range.clone(), message, hint)));
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return refuse(code::BAD_REQUIREMENT, "control characters in a requirement", "remove them");
    }
    // No part of the grammar has any, and the parser panics on some in markers.
    if let Some((at, c)) = text.char_indices().find(|(_, c)| !c.is_ascii()) {
        let at = range.start + at..range.start + at + c.len_utf8();
        let (message, hint) = (format!("{c:?} in a requirement"), "write it in ASCII; comments may hold any character");
        return Err(Box::new(source.error(code::BAD_REQUIREMENT, at, message, hint)));
    }
    if text.contains('$') {
        let hint = "installers would put a variable of the build's environment here; write the value out";
        return refuse(code::REQUIREMENT_VARIABLE, "a variable in a requirement", hint);
    }
    if text.starts_with('-') {
        let option = text.split([' ', '=', '\t']).next().unwrap_or(text);
        let message = format!("`{}` is an option of the installer, not a requirement", shorten(option));
        return refuse(code::REQUIREMENT_OPTION, &message, why_no_option(option));
    }
    if let Some(at) = text.find(" --").or_else(|| text.find("\t--")) {
        let option = text[at..].trim_start().split([' ', '=']).next().unwrap_or_default();
        let message = format!("`{}` is an option of the installer", shorten(option));
        return refuse(code::REQUIREMENT_OPTION, &message, why_no_option(option));
    }
    if text.ends_with('\\') {
        return refuse(code::BAD_REQUIREMENT, "a requirement that goes on in the next line", "write it in one line");
    }
    let before_marker = text.split(';').next().unwrap_or(text);
    if before_marker.contains('@') || text.contains("://") {
        let hint = "only packages of the package index are installed; copy the code into the folder instead";
        return refuse(code::REQUIREMENT_URL, "a URL in a requirement", hint);
    }
    let archive = [".whl", ".tar.gz", ".zip"].iter().any(|suffix| before_marker.trim_end().ends_with(suffix));
    if archive || text.starts_with(['.', '~']) && !text.starts_with("~=") || before_marker.contains(['/', '\\']) {
        let hint = "only packages of the package index are installed; copy the code into the folder instead";
        return refuse(code::REQUIREMENT_URL, "a path in a requirement", hint);
    }
    let markers = text.split_whitespace().filter(|word| matches!(*word, "and" | "or")).count();
    if text.len() > MAX_LINE || markers > MAX_MARKERS || text.matches('(').count() > MAX_MARKERS {
        let message = "a requirement longer than any real one";
        return refuse(code::BAD_REQUIREMENT, message, "one package and its versions in a line");
    }
    if let Some(name) = bad_name(before_marker) {
        let message = format!("{:?} is no name", shorten(name));
        let hint = "names have letters, digits, and inner hyphens, underscores and dots";
        return refuse(code::BAD_REQUIREMENT, &message, hint);
    }
    match pep508_rs::Requirement::from_str(text) {
        Ok(requirement) => Ok(Line { text: normalised(&requirement), requirement, range }),
        Err(error) => {
            let message = error.message.to_string();
            let message = message.lines().next().unwrap_or_default().trim_end_matches('.');
            let start = range.start + error.start.min(text.len());
            let at = start..(start + error.len.max(1)).min(range.end).max(start);
            let hint = "write a package and its versions, as in pandas>=2,<3";
            let message = format!("not a requirement: {}", lower_first(message));
            Err(Box::new(source.error(code::BAD_REQUIREMENT, at, message, hint)))
        }
    }
}

/// The name of the package or of an extra, where it ends as no name may. The parser takes it up to that point, and then
/// panics.
fn bad_name(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphanumeric()) {
        let end = rest[start..]
            .find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_'))
            .map_or(rest.len(), |len| start + len);
        if rest[..end].ends_with(['.', '-', '_']) {
            return Some(&rest[start..end]);
        }
        // Names stand at the start and between brackets; what follows them are versions.
        rest = rest[end..].trim_start().strip_prefix(['[', ',']).unwrap_or_default();
    }
    None
}

fn lower_first(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(|first| first.to_lowercase().chain(characters).collect()).unwrap_or_default()
}

/// What to do instead of an option.
fn why_no_option(option: &str) -> &'static str {
    match option {
        "-r" | "--requirement" => "write the requirements of that file here",
        "-c" | "--constraint" => "write the versions beside the packages here",
        "-e" | "--editable" => "copy the code into the folder: nothing is installed from it",
        "-i" | "--index-url" | "--extra-index-url" | "-f" | "--find-links" | "--no-index" => {
            "the index of all APIs is `build.index_url` in skep.yaml"
        }
        "--hash" => "hashes belong into requirements.lock, which `skep lock` writes",
        "--pre" => "name the version itself, as in package==2.0rc1",
        _ => "remove it: a requirements.txt says what is installed, not how",
    }
}

/// One text for all ways to write the same requirement: names as PEP 503 has them, extras and versions sorted.
fn normalised(requirement: &pep508_rs::Requirement) -> String {
    let mut text = requirement.name.to_string();
    let extras: BTreeSet<String> = requirement.extras.iter().map(ToString::to_string).collect();
    if !extras.is_empty() {
        text += &format!("[{}]", extras.into_iter().collect::<Vec<_>>().join(","));
    }
    if let Some(VersionOrUrl::VersionSpecifier(specifiers)) = &requirement.version_or_url {
        let specifiers: BTreeSet<String> = specifiers.iter().map(ToString::to_string).collect();
        text += &specifiers.into_iter().collect::<Vec<_>>().join(",");
    }
    if requirement.marker != MarkerTree::TRUE
        && let Some(marker) = requirement.marker.contents()
    {
        text += &format!(" ; {marker}");
    }
    text
}

#[cfg(test)]
mod tests;
