//! Manual pages: each command has one, and what is read there is what `--help` says.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory;

use super::{repository, skep, stdout};

/// The commands that people type, as words, `keys create` among them.
fn commands() -> Vec<Vec<String>> {
    fn below(command: &clap::Command, words: &[String], all: &mut Vec<Vec<String>>) {
        all.push(words.to_vec());
        for one in command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
            below(one, &[words, &[one.get_name().to_owned()]].concat(), all);
        }
    }
    let mut all = Vec::new();
    below(&skep::cli::Arguments::command(), &["skep".to_owned()], &mut all);
    all
}

/// A page as it is read, at a width at which no line of ours is broken.
fn read(page: &Path) -> String {
    let rendered = Command::new("mandoc").args(["-T", "utf8", "-O", "width=200"]).arg(page).output().unwrap();
    let text = String::from_utf8(rendered.stdout).unwrap();
    // Bold is a letter struck twice, and underlined one with a line below it.
    let mut plain = String::new();
    for letter in text.chars() {
        match letter {
            '\u{8}' => _ = plain.pop(),
            letter => plain.push(letter),
        }
    }
    plain
}

#[test]
fn every_command_has_a_page_without_errors_and_no_other_page_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let man = folder.path().join("share/man1");
    let output = skep(folder.path(), &["man", "--write", man.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let names = |words: &Vec<String>| format!("{}.1", words.join("-"));
    let expected: BTreeSet<String> = commands().iter().map(names).collect();
    let written: BTreeSet<String> =
        fs::read_dir(&man).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(written, expected);
    for page in written {
        let lint = Command::new("mandoc").args(["-T", "lint", "-W", "error"]).arg(man.join(&page)).output().unwrap();
        assert!(lint.status.success(), "{page}: {}", stdout(&lint));
    }
}

#[test]
fn a_page_says_what_help_says() {
    let folder = tempfile::tempdir().unwrap();
    let man = folder.path();
    assert!(skep(man, &["man", "--write", man.to_str().unwrap()]).status.success());
    for words in commands() {
        let page = read(&man.join(format!("{}.1", words.join("-"))));
        let arguments: Vec<&str> = words[1..].iter().map(String::as_str).chain(["--help"]).collect();
        let help = stdout(&skep(man, &arguments));
        let options = help.split_whitespace().filter(|word| word.starts_with("--") && word.len() > 2);
        for option in options {
            let option = option.trim_end_matches(|letter: char| !letter.is_ascii_alphanumeric());
            assert!(page.contains(option), "{words:?} has {option} in its help, and not in\n{page}");
        }
        let examples = help.split("Examples:\n").nth(1).unwrap_or_default();
        for example in examples.lines().take_while(|line| !line.is_empty()) {
            assert!(page.contains(example.trim()), "{words:?} has the example {example:?}, and not in\n{page}");
        }
    }
}

#[test]
fn one_page_is_printed_and_a_command_that_is_none_is_an_error() {
    let here = repository("");
    let page = stdout(&skep(&here, &["man", "keys", "create"]));
    assert!(page.contains(".TH SKEP-KEYS-CREATE 1 \"\" \"skep "), "{page}");
    let unknown = skep(&here, &["man", "keys", "forge"]);
    assert_eq!(unknown.status.code(), Some(1));
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("there is no command `skep keys forge`"), "{said}");
}
