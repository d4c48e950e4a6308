//! `skep plan --base`: two trees of a real repository, with no engine and no daemon.

use std::path::{Path, PathBuf};
use std::process::Command;

pub struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    /// One whose tree lies below its root, as in a repository of many things.
    pub fn new() -> Self {
        let repository = Self { folder: tempfile::tempdir().unwrap() };
        repository.git(&["init", "--quiet", "-b", "main"]);
        repository
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("team/shop")
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn git(&self, arguments: &[&str]) -> String {
        let mut git = Command::new("git");
        git.current_dir(self.folder.path()).args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com"]);
        let done = git.args(arguments).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn write_at_root(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn commit(&self, subject: &str) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "--quiet", "-m", subject]);
    }

    pub fn plan(&self, arguments: &[&str]) -> (i32, String, String) {
        plan_in(&self.root(), arguments)
    }
}

pub fn plan_in(root: &Path, arguments: &[&str]) -> (i32, String, String) {
    plan_in_with(root, &["plan"], arguments)
}

fn plan_in_with(folder: &Path, command: &[&str], arguments: &[&str]) -> (i32, String, String) {
    let mut skep = Command::new(env!("CARGO_BIN_EXE_skep"));
    skep.current_dir(folder).args(command).args(arguments).env_remove("SKEP_ROOT").env_remove("SKEP_TOKEN");
    // An engine that nobody reaches: none is asked.
    skep.env("DOCKER_HOST", "tcp://127.0.0.1:1").env("NO_COLOR", "1");
    let done = skep.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

pub const APP: &str = "from fastapi import FastAPI\n\napp = FastAPI()\n";

fn three() -> Repository {
    let repository = Repository::new();
    for id in ["a", "b", "c"] {
        repository.write(&format!("apis/{id}/main.py"), APP);
        repository.write(&format!("apis/{id}/requirements.txt"), "fastapi\n");
    }
    repository.commit("Three");
    repository
}

#[test]
fn a_branch_is_compared_with_what_it_began_from() {
    let repository = three();
    repository.git(&["checkout", "--quiet", "-b", "change"]);
    repository.write("apis/a/main.py", &format!("{APP}\n# ```\n# @everyone <b>\n"));
    repository.write("apis/a/api.yaml", "route: { auth: none }\nrate_limit: { requests: 5, per: 1s }\n");
    repository.write("apis/d/main.py", APP);
    repository.write("apis/d/requirements.txt", "fastapi>=0.100\n");
    repository.git(&["rm", "-r", "--quiet", "team/shop/apis/b"]);
    repository.commit("Change a, add d, remove b");
    let (code, out, err) = repository.plan(&["--base", "main"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    // What main got since is no change of the branch.
    repository.git(&["checkout", "--quiet", "main"]);
    repository.write("apis/c/main.py", &format!("{APP}\n# newer\n"));
    repository.write("apis/later/main.py", APP);
    repository.git(&["mv", "team/shop/apis/a/main.py", "team/shop/apis/a/other.py"]);
    repository.commit("Go on | <b>");
    repository.git(&["checkout", "--quiet", "change"]);
    let begun = repository.git(&["rev-parse", "main~1"]);
    let short = &begun[..10];
    let since = format!("Compared with {short} Three, the last commit in common with main.\n");
    for head in [&[][..], &["--head", "change"], &["--head", "HEAD"]] {
        let (code, moved, err) = repository.plan(&[&["--base", "main"], head].concat());
        assert_eq!((code, moved, err.as_str()), (0, format!("{since}{out}"), ""));
    }
    let (_, markdown, _) = repository.plan(&["--base", "main", "--output", "markdown"]);
    let said = format!("\nCompared with `{short}` Three, the last commit in common with main\n");
    assert!(markdown.contains(&said) && !markdown.contains("later"), "{markdown}");
    let (_, json, _) = repository.plan(&["--base", "main", "--output", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(plan["base"], begun.trim());
    assert!(repository.plan(&["--base", "main", "--output", "github"]).1.contains(&since));
    let (_, sarif, err) = repository.plan(&["--base", "main", "--output", "sarif"]);
    assert!(serde_json::from_str::<serde_json::Value>(&sarif).is_ok() && err == since, "{sarif}{err}");
    // With main itself, where that is asked for: as for going back.
    let (_, exact, _) = repository.plan(&["--base", "main", "--exact"]);
    assert!(exact.contains("- later  remove") && exact.contains("~ c  update"), "{exact}");
    assert!(!exact.contains("Compared with"), "{exact}");
    let (_, back, _) = repository.plan(&["--base", "main", "--head", "main~1", "--exact"]);
    assert!(back.contains("- later  remove"), "{back}");
    assert!(repository.plan(&["--base", "main", "--head", "main~1"]).1.contains("Nothing to do"));
    repository.git(&["branch", "--quiet", "--force", "main", "main~1"]);
    for said in [
        "~ a  update",
        "anybody may call, without a key",
        "builds its image; installs nothing; new instances take over from the old ones",
        "- b  remove",
        "+ d  create",
        "Plan: 1 to create, 1 to update, 1 to remove; 1 unchanged.",
    ] {
        assert!(out.contains(said), "{said:?} is not in\n{out}");
    }
    // The same between two commits, from anywhere; and what is not committed yet.
    repository.git(&["checkout", "--quiet", "main"]);
    assert_eq!(repository.plan(&["--base", "main", "--head", "change"]).1, out);
    let (code, nothing, _) = repository.plan(&["--base", "main", "--detailed-exitcode"]);
    assert_eq!((code, nothing.trim()), (0, "Nothing to do: all 3 APIs are as they should be."));
    repository.write("apis/c/requirements.txt", "fastapi\nhttpx\n");
    repository.write("apis/new/main.py", APP);
    repository.write("apis/new/requirements.txt", "fastapi\n");
    let (code, out, _) = repository.plan(&["--base", "HEAD", "--detailed-exitcode", "--output", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 2);
    assert_eq!(plan["summary"]["update"], 1);
    assert_eq!(plan["summary"]["create"], 1);
    assert_eq!(plan["apis"][0]["rebuild"], "dependencies");
    assert!(plan["apis"][0]["changes"].to_string().contains("httpx"), "{plan}");
}

#[test]
fn without_a_commit_in_common_nothing_is_guessed_and_it_is_said_what_to_fetch() {
    let repository = three();
    repository.git(&["checkout", "--quiet", "-b", "change"]);
    repository.write("apis/a/main.py", &format!("{APP}\n# more\n"));
    repository.commit("Change a");
    repository.git(&["checkout", "--quiet", "main"]);
    repository.write("apis/b/main.py", &format!("{APP}\n# more\n"));
    repository.commit("Change b");
    let checkout = tempfile::tempdir().unwrap();
    let clone = checkout.path().join("clone");
    let url = format!("file://{}", repository.folder.path().display());
    repository.git(&["clone", "--quiet", "--depth", "1", "--no-single-branch", &url, clone.to_str().unwrap()]);
    let root = clone.join("team/shop");
    let ends = ["--base", "origin/main", "--head", "origin/change"];
    let (code, out, err) = plan_in(&root, &ends);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("origin/main and origin/change have no commit in common"), "{err}");
    assert!(err.contains("fetch-depth: 0") && err.contains("shallow"), "{err}");
    let mut fetch = Command::new("git");
    assert!(fetch.current_dir(&clone).args(["fetch", "--quiet", "--unshallow"]).status().unwrap().success());
    let (code, out, _) = plan_in(&root, &ends);
    assert!(code == 0 && out.contains("Plan: 1 to update; 2 unchanged."), "{out}");

    repository.git(&["checkout", "--quiet", "--orphan", "alone"]);
    repository.commit("Begin anew");
    let (code, _, err) = repository.plan(&["--base", "change"]);
    assert!(code == 1 && err.contains("change and HEAD have no commit in common; --exact"), "{err}");
    assert_eq!(repository.plan(&["--base", "change", "--exact"]).0, 0);
}

/// What is in the log of a job, its runner reads too.
#[test]
fn what_a_tree_holds_is_no_command_to_a_runner_and_moves_no_cursor() {
    let commands = |text: &str| -> Vec<String> {
        let is_command =
            |line: &&str| line.trim_start().starts_with("::") || line.contains("##[") || line.contains('\u{1b}');
        text.lines().filter(is_command).map(ToOwned::to_owned).collect()
    };
    let repository = three();
    let odd = "x = '''\n::error::one\n  ::warning::two\n##[error]three\n\u{1b}[2J````\n'''\n";
    repository.write("apis/a/main.py", &format!("{APP}{odd}"));
    repository.write("apis/b/::error file=x::pwn", "1\n");
    repository.write("apis/b/##[error]pwn", "1\n");
    repository.write("apis/c/openapi.json", "{");
    repository.write("apis/c/api.yaml", "description: \"##[error]x ::error::y\"\n");
    repository.commit("::error::subject ##[error]");
    // The odd lines are now those around a change.
    repository.write("apis/a/main.py", &format!("{APP}{odd}y = 1\n"));
    for ends in [&["--base", "HEAD~1"][..], &["--base", "HEAD"], &["--base", "HEAD~1", "--head", "HEAD"]] {
        for output in ["text", "markdown", "json", "sarif"] {
            let (code, out, err) = repository.plan(&[ends, &["--output", output]].concat());
            assert_eq!((code, commands(&out), commands(&err)), (0, vec![], vec![]), "{output}: {out}{err}");
        }
        let (_, out, _) = repository.plan(&[ends, &["--output", "github"]].concat());
        let is_ours = |line: &String| {
            let command = line.strip_prefix("::notice ").or_else(|| line.strip_prefix("::warning "));
            command.is_some_and(|rest| rest.starts_with("file=apis/"))
        };
        assert!(commands(&out).iter().all(is_ours), "{out}");
    }
    // A name that no folder can hold is a finding like others, and told in one line.
    repository.write("apis/a/x\u{1b}]0;PWN\u{7}\u{1b}[2Jy\n::error::inj", "1\n");
    repository.commit("Name it oddly");
    for output in ["text", "markdown", "json", "github", "sarif"] {
        let ends = ["--base", "HEAD~1", "--head", "HEAD", "--output", output];
        let (code, out, err) = repository.plan(&ends);
        let ours = |line: &String| output == "github" && line.starts_with("::error file=apis/a/");
        let others = commands(&out).into_iter().filter(|line| !ours(line)).collect::<Vec<_>>();
        assert_eq!((code, others, commands(&err)), (1, vec![], vec![]), "{output}: {out}{err:?}");
        let lines = out.lines().chain(err.lines()).filter(|line| line.contains("PWN")).collect::<Vec<_>>();
        assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("inj")), "{output}: {lines:?}");
    }
}

#[test]
fn below_a_subfolder_findings_and_annotations_name_files_from_where_the_reader_is() {
    let repository = three();
    repository.write("apis/a/main.py", "def f(:\n");
    repository.write("apis/b/openapi.json", &shop("before"));
    repository.commit("Break a");
    repository.write("apis/b/openapi.json", &shop("after"));
    let plan = |root: &str, more: &[&str]| {
        plan_in_with(repository.folder.path(), &["--root", root, "plan"], &[&["--base"], more].concat())
    };
    let (code, out, _) = plan("team/shop", &["HEAD~1", "--output", "github"]);
    assert!(code == 1 && out.contains("::error file=team/shop/apis/a/main.py,line=1,col=7"), "{out}");
    assert!(out.contains("::error file=team/shop/apis/a/api.yaml,title=a%3A blocked::"), "{out}");
    assert!(plan("team/shop", &["HEAD~1"]).2.contains("--> team/shop/apis/a/main.py:1:7"));
    let uris = |base: &str| -> Vec<String> {
        let (_, out, _) = plan("./team/shop/", &[base, "--output", "sarif"]);
        let sarif: serde_json::Value = serde_json::from_str(&out).unwrap();
        let results = sarif["runs"][0]["results"].as_array().unwrap();
        let uri = |result: &serde_json::Value| {
            result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap().to_owned()
        };
        results.iter().map(uri).collect()
    };
    assert_eq!(uris("HEAD~1"), ["team/shop/apis/a/main.py"]);
    let breaking = uris("HEAD");
    assert!(!breaking.is_empty() && breaking.iter().all(|uri| uri == "team/shop/apis/b/openapi.json"), "{breaking:?}");
    // In the folder itself, as it was.
    let (_, out, _) = repository.plan(&["--base", "HEAD~1", "--output", "github"]);
    assert!(out.contains("::error file=apis/a/main.py,line=1,col=7"), "{out}");
}

#[test]
fn a_key_in_the_environment_is_no_wish_to_ask_anybody() {
    let repository = three();
    let plan = |arguments: &[&str]| {
        let mut skep = Command::new(env!("CARGO_BIN_EXE_skep"));
        skep.current_dir(repository.root()).arg("plan").args(arguments).env("SKEP_TOKEN", "skep_x");
        let done = skep.env("DOCKER_HOST", "tcp://127.0.0.1:1").output().unwrap();
        (done.status.code().unwrap(), String::from_utf8(done.stderr).unwrap())
    };
    assert_eq!(plan(&["--base", "HEAD"]), (0, String::new()));
    // What keeps it from a plan is the engine, which is not there.
    let (code, err) = plan(&[]);
    assert!(code == 1 && !err.contains("--remote"), "{code}: {err}");
    assert_eq!(plan(&["--token", "skep_x"]).0, 2, "one that is written there is");
}

#[test]
fn what_moves_from_lock_to_lock_is_said_package_by_package() {
    let lock = |packages: &[(&str, &str)]| -> String {
        let hash = "0".repeat(64);
        let line = |(name, version): &(&str, &str)| format!("{name}=={version} \\\n    --hash=sha256:{hash}\n");
        let base = [("fastapi", "0.115.0"), ("python-multipart", "0.0.9"), ("uvicorn", "0.30.1")];
        base.iter().chain(packages).map(line).collect()
    };
    let repository = three();
    repository.write("apis/a/requirements.lock", &lock(&[("idna", "3.9"), ("pandas", "2.2.0"), ("pytz", "2024.1")]));
    repository.commit("Lock a");
    let (_, out, _) = repository.plan(&["--base", "HEAD~1"]);
    assert!(out.contains("changed   locked: exactly 6 packages, by hash"), "{out}");
    repository.write("apis/a/requirements.lock", &lock(&[("idna", "3.10"), ("pandas", "2.1.4"), ("tzdata", "2024.1")]));
    let (code, out, err) = repository.plan(&["--base", "HEAD"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for said in [
        "↑ idna 3.9 → 3.10",
        "↓ pandas 2.2.0 → 2.1.4",
        "- pytz 2024.1",
        "+ tzdata 2024.1",
        "installs its requirements, builds its image; packages: 1 added, 1 removed, 1 upgraded, 1 downgraded;",
    ] {
        assert!(out.contains(said), "{said:?} is not in\n{out}");
    }
    let (_, out, _) = repository.plan(&["--base", "HEAD", "--output", "markdown"]);
    assert!(out.contains("packages: 1 added, 1 removed, 1 upgraded, 1 downgraded"), "{out}");
    assert!(out.contains("- ↑ idna 3.9 → 3.10\n"), "{out}");
    let (_, out, _) = repository.plan(&["--base", "HEAD", "--output", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        plan["apis"][0]["changes"][0],
        serde_json::json!({"change": "package", "name": "idna", "move": "upgraded", "old": "3.9", "new": "3.10"})
    );
}

#[test]
fn what_holds_for_all_changes_all_and_what_is_broken_is_an_error() {
    let repository = three();
    repository.write("skep.yaml", "defaults: { resources: { memory: 300MiB } }\n");
    let (_, out, _) = repository.plan(&["--base", "main"]);
    assert!(out.contains("resources.memory: 512MiB → 300MiB") && out.contains("3 to update; 0 unchanged"), "{out}");
    repository.write("apis/a/main.py", "def f(:\n");
    let (code, out, err) = repository.plan(&["--base", "main"]);
    assert_eq!(code, 1);
    assert!(err.contains("apis/a/main.py:1:7") && out.contains("! a  blocked"), "{err}{out}");
    let (code, out, _) = repository.plan(&["--base", "main", "--output", "github"]);
    assert_eq!(code, 1);
    assert!(out.contains("::error file=apis/a/main.py,line=1,col=7"), "{out}");
    assert!(out.contains("::notice file=apis/b/api.yaml,title=b%3A update::"), "{out}");
    let (code, _, err) = repository.plan(&["--base", "nowhere"]);
    assert!(code == 1 && err.contains("there is no commit nowhere here"), "{err}");
    let (code, _, err) = plan_in(tempfile::tempdir().unwrap().path(), &["--base", "main"]);
    assert!(code == 1 && err.contains("is in no git repository"), "{err}");
}

#[test]
fn a_host_that_a_folder_has_which_does_not_change_is_an_error_of_the_one_that_claims_it() {
    let repository = three();
    let claim = |id: &str, host: &str| {
        repository.write(&format!("apis/{id}/api.yaml"), &format!("route: {{ hosts: [{host}] }}\n"));
    };
    claim("a", "shop.example.com");
    claim("c", "myshop.example.com");
    repository.write("apis/b/api.yaml", "description: It is not at shop.example.com\n");
    repository.commit("Give two of them hosts");
    // Committed or not, and whichever comes first by its id.
    claim("b", "shop.example.com");
    let fails = |arguments: &[&str]| {
        let (code, out, err) = repository.plan(arguments);
        let said = "`route.hosts`: shop.example.com is claimed by `a` too, which stays as it is";
        assert!(code == 1 && err.contains("error[host-taken]") && err.contains(said), "{err}{out}");
        assert!(err.contains("apis/b/api.yaml") && err.matches("error[").count() == 1, "{err}");
    };
    fails(&["--base", "HEAD"]);
    repository.commit("Claim what a has");
    fails(&["--base", "HEAD~1"]);
    fails(&["--base", "HEAD~1", "--head", "HEAD"]);
    // Not where it moves on with the same commit; nor where both have had it before, and neither changes.
    claim("a", "other.example.com");
    repository.commit("Give it up");
    assert_eq!(repository.plan(&["--base", "HEAD~2", "--head", "HEAD"]).0, 0);
    claim("a", "shop.example.com");
    repository.commit("Both again");
    repository.write("apis/c/main.py", &format!("{APP}\n# more\n"));
    assert_eq!(repository.plan(&["--base", "HEAD"]).0, 0);
    // A name that is no id is one here as for a check.
    repository.write("apis/My_Shop/main.py", APP);
    let (code, _, err) = repository.plan(&["--base", "HEAD"]);
    assert!(code == 1 && err.contains("error[bad-id]") && err.contains("apis/My_Shop"), "{err}");
}

#[test]
fn a_comment_is_markdown_that_no_tree_can_break_out_of() {
    let repository = three();
    repository.write("apis/a/main.py", &format!("{APP}\n# ````\n# </details> @everyone\n"));
    repository.write("apis/a/api.yaml", "name: \"<img src=x> | @all `code`\"\n");
    repository.commit("<script> | [x](y)");
    let (code, out, _) = repository.plan(&["--base", "HEAD~1", "--output", "markdown"]);
    assert_eq!(code, 0);
    assert!(out.starts_with("<!-- skep plan -->\n### skep: Plan: 1 to update; 2 unchanged.\n"), "{out}");
    assert!(out.contains("`````diff\n") && out.contains("| `a` | **update** |"), "{out}");
    assert!(!out.contains("<img") && !out.contains("<script"), "{out}");
}

/// What FastAPI made of the same app before and after a change.
pub fn shop(side: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contracts");
    std::fs::read_to_string(folder.join(side).join("openapi.json")).unwrap()
}

#[test]
fn that_a_document_is_gone_is_said_and_breaks_nobody_by_itself() {
    let repository = three();
    repository.write("apis/a/openapi.json", &shop("before"));
    repository.commit("Say what a promises");
    std::fs::remove_file(repository.root().join("apis/a/openapi.json")).unwrap();
    let (code, out, err) = repository.plan(&["--base", "HEAD", "--fail-on-breaking"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    assert!(out.contains("callers   what it breaks is not known: openapi.json is gone\n"), "{out}");
    // One that was never there is no news.
    repository.commit("Say it no more");
    repository.write("apis/a/main.py", "x = 1\n");
    let (_, out, _) = repository.plan(&["--base", "HEAD"]);
    assert!(out.contains("main.py") && !out.contains("openapi.json"), "{out}");
}

#[test]
fn what_breaks_callers_is_said_where_both_trees_have_the_documents() {
    let repository = three();
    repository.write("apis/a/openapi.json", &shop("before"));
    repository.commit("Say what a promises");
    repository.write("apis/a/openapi.json", &shop("after"));
    repository.write("apis/b/openapi.json", &shop("after"));
    let (code, out, err) = repository.plan(&["--base", "HEAD"]);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for said in [
        "callers   breaks callers: GET /items: query parameter limit must be given\n",
        "callers   breaks callers: PUT /items/{item_id}/picture is gone\n",
        "callers   breaks nobody: GET /items: query parameter colour is gone, and 16 more changes\n",
    ] {
        assert!(out.contains(said), "{said:?} is not in\n{out}");
    }
    assert_eq!(out.matches("breaks callers: ").count(), 19, "of b there is nothing to compare with: {out}");
    assert_eq!(repository.plan(&["--base", "HEAD", "--fail-on-breaking"]).0, 1);
    assert_eq!(repository.plan(&["--base", "HEAD", "--detailed-exitcode"]).0, 2);
    let (_, out, _) = repository.plan(&["--base", "HEAD", "--output", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    let contract = &plan["apis"][0]["contract"];
    assert_eq!((contract["differences"].as_array().unwrap().len(), &contract["cut"]), (36, &false.into()));
    assert_eq!(
        contract["differences"][0],
        serde_json::json!({ "method": "GET", "path": "/items", "in": "parameter", "location": "query",
            "name": "limit", "what": "required", "breaking": true })
    );
    assert!(plan["apis"][1].get("contract").is_none());
    let (_, out, _) = repository.plan(&["--base", "HEAD", "--output", "github"]);
    assert!(out.contains("%0Abreaks callers: GET /orders asks callers for other credentials%0A"), "{out}");

    // What cannot be read is told of, and what cannot be compared whole is no pass.
    for (text, said) in [("{", "it is no JSON"), (" ".repeat(1 + (1 << 20)).as_str(), "it is longer than 1 MiB")] {
        repository.write("apis/a/openapi.json", text);
        let (code, _, err) = repository.plan(&["--base", "HEAD"]);
        assert!(code == 0 && err.contains("warning[openapi-unreadable]") && err.contains(said), "{err}");
    }
    let many = |from: usize| {
        let values: Vec<usize> = (from..from + 30_000).collect();
        let content = serde_json::json!({ "a/b": { "schema": { "enum": values } } });
        let operation = serde_json::json!({ "requestBody": { "content": content } });
        serde_json::json!({ "openapi": "3.1.0", "paths": { "/x": { "post": operation } } }).to_string()
    };
    repository.write("apis/a/openapi.json", &many(0));
    repository.commit("Promise too much");
    repository.write("apis/a/openapi.json", &many(40_000));
    assert_eq!(repository.plan(&["--base", "HEAD"]).0, 0);
    let (code, _, err) = repository.plan(&["--base", "HEAD", "--fail-on-breaking"]);
    assert!(code == 1 && err.contains("the OpenAPI documents of a could not be compared whole"), "{err}");
    repository.write("apis/a/openapi.json", &shop("before"));
    repository.commit("Promise what a shop does");
    repository.write("apis/a/openapi.json", &shop("after"));

    // The other way round nothing is the same; without a change, or with one that adds, nobody is broken.
    repository.commit("Change what a promises");
    repository.write("apis/a/main.py", &format!("{APP}\n# more\n"));
    assert_eq!(repository.plan(&["--base", "HEAD", "--fail-on-breaking"]).0, 0);
    let (_, out, _) = repository.plan(&["--base", "HEAD", "--output", "json"]);
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["apis"][0]["contract"], serde_json::json!({ "differences": [], "cut": false }));
}

#[test]
fn a_hostile_document_neither_fails_a_plan_nor_steers_who_reads_it() {
    let repository = three();
    let document = |path: &str| {
        let paths = serde_json::json!({ path: { "get": { "parameters": [
            { "name": "<img> @all | `x`\u{1b}[2J\u{202e}", "in": "query", "required": path == "/b" } ] } } });
        serde_json::json!({ "openapi": "3.1.0", "paths": paths }).to_string()
    };
    let hostile = "/\u{1b}[2J\u{202e}<script>@everyone|`";
    repository.write("apis/a/openapi.json", &document(hostile));
    repository.write("apis/b/openapi.json", &document(hostile));
    repository.write("apis/c/openapi.json", &"[".repeat(100_000));
    repository.commit("Say odd things");
    repository.write("apis/a/openapi.json", &document("/b"));
    repository.write("apis/b/openapi.json", "{}");
    repository.write("apis/c/openapi.json", "{\"openapi\": \"3.0.0\", \"paths\": {}}");
    for output in ["text", "markdown", "github"] {
        let (code, out, _) = repository.plan(&["--base", "HEAD", "--output", output]);
        assert_eq!(code, 0, "{out}");
        assert!(out.contains("is gone") || output == "github", "{out}");
        let told: String = out.lines().filter(|line| line.contains("breaks")).collect();
        assert!(!told.contains(['\u{1b}', '\u{202e}']), "{told:?}");
        assert!(output != "markdown" || !told.contains("<script") && !told.contains("@everyone"), "{told}");
    }
}
