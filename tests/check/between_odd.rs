//! `skep plan --base` where the repository, the tree or the reader is an odd one.

use std::os::unix::fs::symlink;
use std::process::Command;

use crate::between::{APP, Repository, plan_in};

/// Three APIs, and a branch that changes one of them.
fn shop() -> Repository {
    let repository = Repository::new();
    for id in ["a", "b", "c"] {
        repository.write(&format!("apis/{id}/main.py"), APP);
    }
    repository.commit("Three");
    repository.git(&["checkout", "--quiet", "-b", "change"]);
    repository.write("apis/a/main.py", &format!("{APP}\n# changed\n"));
    repository.commit("Change a");
    repository
}

#[test]
fn what_people_have_git_show_for_themselves_hides_no_change() {
    let repository = shop();
    let before = repository.plan(&["--base", "main"]).1;
    assert!(before.contains("~ a  update") && before.contains("2 unchanged"), "{before}");
    for (key, value) in [("diff.relative", "true"), ("diff.noprefix", "true"), ("core.quotePath", "true")] {
        repository.git(&["config", key, value]);
        assert_eq!(repository.plan(&["--base", "main"]).1, before, "{key}");
    }
}

#[test]
fn what_a_checkout_leaves_out_is_no_removal() {
    let repository = shop();
    repository.git(&["sparse-checkout", "set", "--no-cone", "/team/shop/apis/b/", "/team/shop/apis/c/"]);
    let (code, out, err) = repository.plan(&["--base", "main"]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("this is a sparse checkout, without team/shop/apis/a; name the commit"), "{err}");
    let (code, out, _) = repository.plan(&["--base", "main", "--head", "HEAD"]);
    assert!(code == 0 && out.contains("~ a  update"), "{out}");
    // What did not change may be left out.
    repository.git(&["sparse-checkout", "set", "--no-cone", "/team/shop/apis/a/"]);
    let (code, out, err) = repository.plan(&["--base", "main"]);
    assert!(code == 0 && out.contains("~ a  update") && !out.contains("remove"), "{out}{err}");
}

#[test]
fn files_that_are_not_here_are_said_to_be_had_elsewhere() {
    let repository = shop();
    repository.write("apis/a/main.py", &format!("{APP}\n# changed again\n"));
    repository.commit("Change a again");
    let folder = tempfile::tempdir().unwrap();
    repository.git(&["config", "uploadpack.allowFilter", "true"]);
    let from = format!("file://{}", repository.path().display());
    let clone = folder.path().join("clone");
    let arguments = ["clone", "--quiet", "--filter=blob:none", &from, clone.to_str().unwrap()];
    assert!(Command::new("git").args(arguments).output().unwrap().status.success());
    let away = ["-C", clone.to_str().unwrap(), "remote", "set-url", "origin", "file:///nowhere"];
    assert!(Command::new("git").args(away).output().unwrap().status.success());
    let (code, _, err) = plan_in(&clone.join("team/shop"), &["--base", "HEAD~1"]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("main.py is not here, as in a clone with --filter") && err.contains("--refetch"), "{err}");
}

#[test]
fn a_commit_without_the_folder_of_apis_is_none_that_removes_them_all() {
    let repository = shop();
    repository.git(&["rm", "-r", "--quiet", "team/shop/apis"]);
    repository.write("apis", "no folder");
    repository.commit("No APIs");
    for arguments in [&["--base", "main"][..], &["--base", "main", "--head", "HEAD"]] {
        let (code, out, err) = repository.plan(arguments);
        assert_eq!((code, out.as_str()), (1, ""), "{err}");
        assert!(err.contains("has no folder team/shop/apis") || err.contains("cannot read"), "{err}");
    }
}

#[test]
fn what_no_folder_may_hold_is_a_finding_in_every_form() {
    let repository = shop();
    symlink("/etc/passwd", repository.root().join("apis/b/link")).unwrap();
    repository.write("apis/b/two.txt", &"x".repeat(26 << 20));
    repository.commit("Add what may not be");
    let plan = |form: &str| repository.plan(&["--base", "main", "--head", "HEAD", "--output", form]);
    let (code, out, err) = plan("text");
    assert_eq!(code, 1);
    assert!(err.contains("error[symlink]: a symbolic link, which is never followed"), "{err}");
    assert!(err.contains("apis/b/link") && err.contains("commit the file itself"), "{err}");
    // The others are told of all the same.
    assert!(out.contains("~ a  update") && out.contains("! b  blocked"), "{out}");
    let json: serde_json::Value = serde_json::from_str(&plan("json").1).unwrap();
    let found = |code: &str| json["findings"].as_array().unwrap().iter().any(|finding| finding["code"] == code);
    assert!(found("symlink") && found("file-too-big"), "{json:#}");
    assert!(plan("github").1.contains("::error file=apis/b/link"), "{}", plan("github").1);
    assert!(plan("sarif").1.contains("\"symlink\""));
    let markdown = plan("markdown").1;
    assert!(markdown.contains("**error** `symlink` apis/b/link: a symbolic link"), "{markdown}");
}

#[test]
fn a_comment_names_all_that_is_wrong() {
    let repository = shop();
    repository.write("apis/a/api.yaml", "replicas: many\nnonsense: 1\n");
    repository.write("apis/b/main.py", "from fastapi import\n");
    repository.write("skep.yaml", "listen: nowhere\n");
    repository.commit("Break it");
    let (code, markdown, _) = repository.plan(&["--base", "main", "--output", "markdown"]);
    assert_eq!(code, 1);
    for part in ["apis/a/api.yaml:1:", "apis/a/api.yaml:2:", "apis/b/main.py:1:", "skep.yaml:1:"] {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
}

#[test]
fn a_comment_has_room_for_a_bit_of_everything_and_is_never_too_long() {
    let repository = shop();
    repository.write("apis/a/data.txt", &"one line of many\n".repeat(3000));
    repository.write("apis/b/main.py", &format!("{APP}\n# only this\n"));
    repository.commit("A large change and a small one");
    let (_, markdown, _) = repository.plan(&["--base", "main", "--output", "markdown"]);
    assert!(markdown.contains("data.txt: a diff of 3") && markdown.contains("+# only this"), "{markdown}");
    for number in 0..400 {
        repository.write(&format!("apis/api-{number}/main.py"), APP);
    }
    repository.commit("Many");
    repository
        .write("skep.yaml", "defaults:\n  route: { timeout: 5s, hosts: [] }\n  rate_limit: { requests: 5, per: 1s }\n");
    repository.commit("For all");
    let (_, markdown, _) = repository.plan(&["--base", "HEAD~1", "--output", "markdown"]);
    assert!(markdown.len() < 65_536 && markdown.len() > 30_000, "{}", markdown.len());
    assert!(markdown.contains(" more APIs, for which a comment has no room"), "{markdown}");
}

#[test]
fn names_that_are_no_commit_are_said_to_be_what_they_are() {
    let repository = shop();
    for (name, said) in [("", "--base is empty"), ("main..change", "--base names a range, main..change")] {
        let (code, _, err) = repository.plan(&["--base", name]);
        assert!(code == 1 && err.contains(said), "{err}");
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("apis")).unwrap();
    let (code, _, err) = plan_in(folder.path(), &["--base", "main"]);
    assert!(code == 1 && err.contains("is in no git repository"), "{err}");
    let (code, _, err) = plan_in(&repository.root(), &["--remote", "https://ci:hunter2@127.0.0.1:1", "--token", "x"]);
    assert!(code == 1 && err.contains("has a login in it") && !err.contains("hunter2"), "{err}");
}

#[test]
fn files_are_named_as_a_forge_knows_them_however_the_root_is_named() {
    let repository = shop();
    repository.write("apis/b/main.py", "from fastapi import\n");
    let named = |root: &str, arguments: &[&str]| {
        let mut skep = Command::new(env!("CARGO_BIN_EXE_skep"));
        skep.current_dir(repository.path()).args(["--root", root]).args(arguments).env_remove("SKEP_ROOT");
        String::from_utf8(skep.output().unwrap().stdout).unwrap()
    };
    let absolute = repository.root().canonicalize().unwrap();
    for arguments in [&["plan", "--base", "main", "--output", "github"][..], &["check", "--output", "sarif"]] {
        let relative = named("team/shop", arguments);
        assert!(relative.contains("team/shop/apis/b/main.py"), "{relative}");
        assert_eq!(named(absolute.to_str().unwrap(), arguments), relative);
    }
}
