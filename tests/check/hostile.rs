//! Hostile input: whatever the bytes, a check ends with findings, and never with a crash.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use skep::settings::Settings;
use skep::tree::lock::Lock;
use skep::tree::source::Source;
use skep::tree::{Requirements, Scanner, Spec, python, settle};

/// Pieces of the grammar of each file, so that random texts get further than the first character.
const YAML: &[&str] = &[
    "name",
    "env",
    "resources",
    "cpu",
    "rate_limit",
    ": ",
    ":",
    "\n",
    "\n  ",
    "- ",
    "[",
    "]",
    "{",
    "}",
    ", ",
    "'",
    "\"",
    "&a",
    "*a",
    "!!x",
    "|",
    ">",
    "#",
    "---",
    "...",
    "%",
    "?",
    "\t",
    "\r\n",
    "1",
    "0.5",
    "512MiB",
    "\u{feff}",
    "\0",
    "é",
    "<<",
];
const REQUIREMENTS: &[&str] = &[
    "pandas",
    "fastapi",
    ">=",
    "==",
    "~=",
    "2",
    ".*",
    ",",
    ";",
    "[",
    "]",
    "(",
    ")",
    " ",
    "python_version",
    "os_name",
    "'",
    "\"",
    " and ",
    " or ",
    " in ",
    "#",
    "\n",
    "\r",
    "-r",
    "--hash=",
    "a==1 --hash=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "@",
    "https://",
    "\\",
    "$",
    "{",
    "\0",
    "é",
    "\u{feff}",
    "!",
];
const PYTHON: &[&str] = &[
    "app", "def ", "class ", "if ", "else", "match ", "case ", "lambda ", "async ", "await ", "import ", "from ", "*",
    "(", ")", "[", "]", "{", "}", ":", "=", ":=", ".", ",", "'", "\"", "'''", "f'", "f\"{", "\n", "\n    ", "\t", "\\",
    "#", "1", "0x", "1e", "é", "\0", "\u{feff}", "@", "->", "not ", "\r", "type ", "try:", "except ", "with ",
    "print ",
];

fn text(pieces: &'static [&'static str]) -> impl Strategy<Value = String> {
    let piece = prop_oneof![4 => prop::sample::select(pieces).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_crashes_the_reader_of_api_yaml(text in text(YAML)) {
        let mut findings = Vec::new();
        let _ = settle::read_manifest(&Spec::built_in("a"), Source::new("api.yaml", &text), &mut findings);
        for finding in findings {
            let excerpt = finding.excerpt.unwrap();
            prop_assert!(excerpt.text.get(excerpt.range).is_some());
        }
    }

    #[test]
    fn no_text_crashes_the_reader_of_requirements(text in text(REQUIREMENTS)) {
        let mut findings = Vec::new();
        let requirements = Requirements::parse(Source::new("requirements.txt", &text), &mut findings);
        if findings.is_empty() {
            // What is normalised once stays as it is.
            let again: String = requirements.0.iter().map(|requirement| format!("{}\n", requirement.0)).collect();
            prop_assert_eq!(Requirements::parse(Source::new("requirements.txt", &again), &mut findings), requirements);
            prop_assert_eq!(findings, vec![]);
        }
    }

    #[test]
    fn no_text_crashes_the_reader_of_locks(text in text(REQUIREMENTS)) {
        let mut findings = Vec::new();
        let requirements = Lock::read(Source::new("requirements.lock", &text), &mut findings).requirements();
        prop_assert!(!findings.is_empty() || requirements.is_locked());
    }

    #[test]
    fn no_text_crashes_the_reader_of_python(text in text(PYTHON)) {
        let mut findings = Vec::new();
        let bindings = python::check(Source::new("main.py", &text), &mut findings);
        prop_assert_eq!(bindings.is_some(), findings.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_crash_a_look(
        manifest in prop::collection::vec(any::<u8>(), 0..200),
        requirements in prop::collection::vec(any::<u8>(), 0..200),
        main in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let api = folder.path().join("apis/a");
        fs::create_dir_all(&api).unwrap();
        for (name, bytes) in [("api.yaml", manifest), ("requirements.txt", requirements), ("main.py", main)] {
            fs::write(api.join(name), bytes).unwrap();
        }
        let look = Scanner::new(&Settings::built_in(folder.path())).unwrap().read().unwrap();
        prop_assert_eq!(look.tree.folders.len(), 1);
    }
}

#[test]
fn no_nesting_exhausts_a_stack() {
    let folder = tempfile::tempdir().unwrap();
    // Just within the bounds, and far beyond them.
    let within =
        [("(", 199), ("-", 2990), ("not ", 2990), ("lambda: ", 1400), ("a.", 2990), ("a + ", 2990), ("await ", 2990)];
    let beyond = ["(", "[", "{", "-", "not ", "lambda: ", "a.", "a + ", "a(", "f'{"];
    let cases = within.into_iter().chain(beyond.into_iter().map(|piece| (piece, 100_000)));
    for (number, (piece, count)) in cases.enumerate() {
        let api = folder.path().join(format!("apis/api-{number}"));
        fs::create_dir_all(&api).unwrap();
        let close = if piece == "(" && count < 200 { ")".repeat(count) } else { String::new() };
        fs::write(api.join("main.py"), format!("app = {}a{close}\n", piece.repeat(count))).unwrap();
        fs::write(api.join("api.yaml"), format!("a: {}", "[".repeat(count))).unwrap();
        fs::write(api.join("requirements.txt"), format!("a ; {}", "(".repeat(count))).unwrap();
    }
    let output = super::skep(folder.path(), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(super::stdout(&output).contains("in 17 of 17 APIs"), "{}", super::stdout(&output));
}

#[test]
fn a_fifo_in_the_place_of_a_file_keeps_nobody_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let api = folder.path().join("apis/a");
    fs::create_dir_all(&api).unwrap();
    for name in ["main.py", "api.yaml", "requirements.txt"] {
        make_fifo(&api.join(name));
    }
    let output = super::skep(folder.path(), &["check"]);
    assert_eq!(super::stdout(&output).matches("special-file").count(), 3);
}

fn make_fifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}
