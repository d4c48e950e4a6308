//! `skep check` and `skep schema` as their users meet them: the program is run, and its answer read.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

mod beside;
mod between;
mod between_odd;
mod hostile;
mod lock;
mod manual;
mod remote;
mod schema;
mod secrets;
mod workflows;

/// Runs the program in a folder.
fn skep(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_skep"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("SKEP_ROOT")
        .env("SKEP_LISTEN", "no address: a check must not care")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A copy of a tree of fixtures, with what git does not keep added.
fn tree(name: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    copy(&repository("tests/trees").join(name), folder.path());
    folder
}

#[test]
fn a_sound_tree_is_said_to_be_sound() {
    let tree = tree("sound");
    let output = skep(tree.path(), &["check"]);
    assert_eq!(stdout(&output), "3 APIs, no findings\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn all_findings_of_all_apis_come_in_one_run() {
    let tree = tree("broken");
    std::os::unix::fs::symlink("/etc/hostname", tree.path().join("apis/links/data.txt")).unwrap();
    fs::write(tree.path().join("apis/bytes/main.py"), b"app = '\xe9'\n").unwrap();
    let output = skep(tree.path(), &["check"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!stdout(&output).contains('\u{1b}'), "no colours into a pipe");
    insta::assert_snapshot!(stdout(&output));
}

#[test]
fn one_broken_api_leaves_the_others_sound() {
    let tree = tree("broken");
    fs::remove_file(tree.path().join("skep.yaml")).unwrap();
    let output = skep(tree.path(), &["check", "apis/sound"]);
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("1 API, no findings\n", Some(0)));
    let output = skep(tree.path(), &["check", "apis/python"]);
    assert!(stdout(&output).contains("apis/python/main.py:4:14"), "{}", stdout(&output));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_path_may_be_a_root_a_folder_of_apis_or_an_api() {
    let tree = tree("sound");
    let inside = tree.path().join("apis/hello");
    for (folder, path, summary) in [
        (Path::new("/"), tree.path().to_str().unwrap(), "3 APIs, no findings\n"),
        (tree.path(), "apis", "3 APIs, no findings\n"),
        (tree.path(), "apis/hello/", "1 API, no findings\n"),
        (&inside, ".", "1 API, no findings\n"),
        (&inside, "../..", "3 APIs, no findings\n"),
    ] {
        assert_eq!(stdout(&skep(folder, &["check", path])), summary, "{path}");
    }
}

#[test]
fn no_tree_is_an_error_and_no_empty_tree() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["check"][..], &["check", "."], &["check", "nowhere"], &["--root", "nowhere", "check"]] {
        let output = skep(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(stdout(&output), "", "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn json_is_versioned_and_has_places() {
    let tree = tree("broken");
    let output = skep(tree.path(), &["check", "--output", "json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["version"], 1);
    let findings = document["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["code"] == "python-syntax").unwrap();
    let expected = serde_json::json!({
        "severity": "error",
        "code": "python-syntax",
        "path": "apis/python/main.py",
        "span": { "line": 4, "column": 14, "end_line": 4, "end_column": 15 },
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(finding[key], *value, "{key}");
    }
    assert_eq!(document["summary"]["errors"], findings.iter().filter(|f| f["severity"] == "error").count());
}

#[test]
fn annotations_name_files_from_where_the_workflow_stands() {
    let tree = tree("broken");
    let above = tree.path().parent().unwrap();
    let name = tree.path().file_name().unwrap().to_str().unwrap();
    let output = skep(above, &["check", "--output", "github", name]);
    let line = stdout(&output).lines().find(|line| line.contains("title=python-syntax")).unwrap().to_owned();
    let start = format!("::error file={name}/apis/python/main.py,line=4,col=14,endColumn=15,title=python-syntax::");
    assert!(line.starts_with(&start), "{line}");
}

#[test]
fn every_code_is_documented_once() {
    let document = fs::read_to_string(repository("docs/checks.md")).unwrap();
    let documented: Vec<_> =
        document.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`')).map(|(code, _)| code).collect();
    assert_eq!(documented, skep::tree::diagnostic::code::ALL);
}

#[test]
fn findings_come_as_sarif_for_tools_that_show_them_beside_the_code() {
    let tree = tree("broken");
    let json: Value = serde_json::from_str(&stdout(&skep(tree.path(), &["check", "--output", "json"]))).unwrap();
    let output = skep(tree.path(), &["check", "--output", "sarif"]);
    assert_eq!(output.status.code(), Some(1));
    let sarif: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let (results, findings) = (run["results"].as_array().unwrap(), json["findings"].as_array().unwrap());
    assert_eq!(results.len(), findings.len());
    for (result, finding) in results.iter().zip(findings) {
        let rule = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!((&result["ruleId"], &rules[rule]["id"]), (&finding["code"], &finding["code"]));
        assert_eq!(result["level"], finding["severity"]);
        assert!(result["message"]["text"].as_str().unwrap().starts_with(finding["message"].as_str().unwrap()));
        let region = &result["locations"][0]["physicalLocation"]["region"];
        assert_eq!(region["startLine"], finding["span"]["line"]);
        assert_eq!(region["endColumn"], finding["span"]["end_column"]);
    }
}
