//! `skep lock --check`: whether locks are there and as requirements say, with no engine.

use super::{skep, stdout, tree};

const HASH: &str = "--hash=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn lock(extra: &str) -> String {
    let base = ["fastapi==0.115.0", "python-multipart==0.0.9", "uvicorn==0.30.1"];
    base.iter().chain([&extra]).filter(|line| !line.is_empty()).map(|line| format!("{line} {HASH}\n")).collect()
}

#[test]
fn a_lock_that_is_missing_stale_or_unsafe_fails_the_check_and_says_where() {
    let tree = tree("sound");
    let apis = tree.path().join("apis");
    let ids: Vec<String> = std::fs::read_dir(&apis)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| apis.join(name).is_dir())
        .collect();
    for id in &ids {
        std::fs::write(apis.join(id).join("requirements.txt"), "fastapi\n").unwrap();
        std::fs::write(apis.join(id).join("requirements.lock"), lock("")).unwrap();
    }
    let output = skep(tree.path(), &["lock", "--check"]);
    assert_eq!((stdout(&output).as_str(), output.status.code()), ("3 APIs, no findings\n", Some(0)));
    assert_eq!(stdout(&skep(tree.path(), &["check"])), "3 APIs, no findings\n");

    let one = apis.join(&ids[0]);
    std::fs::write(one.join("requirements.txt"), "fastapi\npandas\n").unwrap();
    std::fs::remove_file(apis.join(&ids[1]).join("requirements.lock")).unwrap();
    std::fs::write(apis.join(&ids[2]).join("requirements.lock"), lock("idna @ https://files.test/i.whl")).unwrap();
    let output = skep(tree.path(), &["lock", "--check"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stdout(&output);
    for expected in [
        format!("apis/{}/requirements.txt:2:1", ids[0]),
        format!("hint: run: skep lock {}", ids[0]),
        format!("apis/{}/requirements.lock\n", ids[1]),
        format!("apis/{}/requirements.lock:4:1", ids[2]),
        "3 errors in 3 of 3 APIs".to_owned(),
    ] {
        assert!(said.contains(&expected), "{expected:?} is not in\n{said}");
    }
    // A tree need not have locks, but those that it has must be right.
    let output = skep(tree.path(), &["check", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["summary"]["errors"], 2, "{report:#}");
    let output = skep(tree.path(), &["lock", "--check", "--output", "json", &ids[1]]);
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["findings"][0]["code"], "lock-missing", "{report:#}");
}

#[test]
fn a_link_in_the_place_of_a_lock_is_not_followed() {
    let tree = tree("sound");
    let output = skep(tree.path(), &["lock", "--check", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("there is no API nobody"), "{said}");
    let apis = tree.path().join("apis");
    let id = std::fs::read_dir(&apis).unwrap().map(|e| e.unwrap()).find(|e| e.path().is_dir()).unwrap().file_name();
    std::os::unix::fs::symlink("/etc/hostname", apis.join(&id).join("requirements.lock")).unwrap();
    let output = skep(tree.path(), &["lock", "--check"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("is no file; put the file itself there"), "{said}");
}
