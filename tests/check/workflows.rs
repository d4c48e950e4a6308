//! The workflows to copy, run as the runners of their forges run them.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::between::{APP, Repository, shop};

/// A checkout as the runner of a forge makes it, in which the steps of workflows are run as they stand.
struct Runner {
    folder: tempfile::TempDir,
    base: String,
    /// Whose repository the pull request comes from.
    from: Cell<&'static str>,
}

/// What came of a job.
#[derive(Debug)]
struct Job {
    is_good: bool,
    /// What its commands printed.
    log: String,
    /// What was said on the pull request.
    comment: Option<String>,
}

impl Runner {
    fn new() -> Self {
        let origin = Repository::new();
        for id in ["a", "b"] {
            origin.write_at_root(&format!("apis/{id}/main.py"), APP);
            origin.write_at_root(&format!("apis/{id}/requirements.txt"), "fastapi\n");
            origin.write_at_root(&format!("apis/{id}/openapi.json"), &shop("before"));
        }
        origin.commit("Two");
        let base = origin.git(&["rev-parse", "HEAD"]).trim().to_owned();
        let runner = Self { folder: tempfile::tempdir().unwrap(), base, from: Cell::new("ada/shop") };
        origin.git(&["clone", "--quiet", ".", runner.path("clone").to_str().unwrap()]);
        // The forge's own program, which keeps what it is told to say.
        std::fs::create_dir(runner.path("bin")).unwrap();
        let gh = "#!/bin/sh\ncase \"$*\" in *--method*body=@plan.md*) cp plan.md \"$COMMENT\" ;; esac\n";
        std::fs::write(runner.path("bin/gh"), gh).unwrap();
        std::fs::set_permissions(runner.path("bin/gh"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        runner
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.path("clone").join(path), text).unwrap();
    }

    /// Has a shell run a text, as in a file of its own.
    fn shell(&self, shell: &[&str], text: &str, job: &mut Job) -> bool {
        let script = self.path("script");
        std::fs::write(&script, text).unwrap();
        let programs = Path::new(env!("CARGO_BIN_EXE_skep")).parent().unwrap();
        let bin = self.path("bin");
        let path = format!("{}:{}:{}", bin.display(), programs.display(), std::env::var("PATH").unwrap());
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg(script).current_dir(self.path("clone")).env("PATH", path);
        command.env("BASE", "main").env("CI_MERGE_REQUEST_DIFF_BASE_SHA", &self.base);
        command.env("REPO", "ada/shop").env("NUMBER", "7").env("COMMENT", self.path("comment"));
        command.env("FROM", self.from.get()).env("GITHUB_STEP_SUMMARY", self.path("summary"));
        let done = command.env_remove("SKEP_ROOT").output().unwrap();
        job.log.push_str(&String::from_utf8(done.stdout).unwrap());
        job.log.push_str(&String::from_utf8(done.stderr).unwrap());
        done.status.success()
    }

    /// The job that plans, of a workflow of GitHub or Forgejo, each of its texts changed.
    fn steps(&self, name: &str, change: impl Fn(&str) -> String) -> Job {
        let workflow = workflow(name);
        let mut outcomes = std::collections::BTreeMap::new();
        let mut job = Job { is_good: true, log: String::new(), comment: None };
        for step in workflow["jobs"]["plan"]["steps"].as_array().unwrap() {
            let condition = step["if"].as_str().unwrap_or("success()").trim_start_matches("${{").trim_end_matches("}}");
            let holds = |term: &str| match term.trim() {
                "success()" => job.is_good,
                "!cancelled()" => true,
                other => {
                    let (id, wanted) =
                        other.strip_prefix("steps.").and_then(|rest| rest.split_once(".outcome ")).unwrap();
                    let (relation, outcome) = wanted.split_once(' ').unwrap();
                    (outcomes[id] == outcome.trim_matches('\'')) == (relation == "==")
                }
            };
            let text = change(step["run"].as_str().unwrap_or_default());
            let outcome = if !condition.split("&&").all(holds) {
                "skipped"
            } else if text.is_empty() || text.contains("curl") || text.contains("--boot") {
                // What comes from elsewhere is here; what needs an engine is run where one is.
                "success"
            } else {
                let shell: &[&str] = match step["shell"].as_str() {
                    None => &["bash", "-e"],
                    Some("bash") => &["bash", "--noprofile", "--norc", "-eo", "pipefail"],
                    Some(other) => panic!("{other}: how does a runner start it?"),
                };
                if self.shell(shell, &text, &mut job) { "success" } else { "failure" }
            };
            job.is_good &= outcome != "failure";
            if let Some(id) = step["id"].as_str() {
                outcomes.insert(id.to_owned(), outcome);
            }
        }
        job.comment = std::fs::read_to_string(self.path("comment")).ok();
        let _ = std::fs::remove_file(self.path("comment"));
        job
    }

    /// The job that plans, of GitLab's: one shell for its lines, and another for what comes after them in any case. Where there
    /// is no bash it is any other, of which not all know `pipefail`.
    fn lines(&self, change: impl Fn(&str) -> String) -> Job {
        let workflow = workflow("gitlab");
        let text = |key: &str| -> String {
            let lines = workflow["plan"][key].as_array().unwrap().iter();
            lines.map(|line| change(line.as_str().unwrap()) + "\n").collect()
        };
        let mut job = Job { is_good: true, log: String::new(), comment: None };
        job.is_good = self.shell(&["sh", "-e"], &text("script"), &mut job);
        self.shell(&["sh", "-e"], &text("after_script"), &mut job);
        let kept = &workflow["plan"]["artifacts"];
        assert_eq!((&kept["when"], &kept["paths"]), (&"always".into(), &serde_json::json!(["plan.md"])));
        job.comment = std::fs::read_to_string(self.path("clone/plan.md")).ok();
        job
    }

    fn all(&self, change: impl Fn(&str) -> String) -> [(&'static str, Job); 3] {
        [
            ("github", self.steps("github", &change)),
            ("forgejo", self.steps("forgejo", &change)),
            ("gitlab", self.lines(&change)),
        ]
    }
}

fn workflow(name: &str) -> serde_json::Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/ci/{name}.yml"));
    serde_yaml::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

#[test]
fn the_workflows_to_copy_do_what_they_say_and_end_as_the_plan_does() {
    let runner = Runner::new();
    let as_it_is = |text: &str| text.to_owned();
    runner.write("apis/a/main.py", &format!("{APP}\n# more\n"));
    for (name, job) in runner.all(as_it_is) {
        let said = job.comment.clone().unwrap_or_default() + &job.log;
        assert!(job.is_good && said.contains("1 to update; 1 unchanged."), "{name}: {job:?}");
        assert!(said.contains("2 APIs, no findings"), "{name}: {job:?}");
        assert_eq!(job.comment.is_some(), name != "forgejo", "{name}: {job:?}");
    }
    // What breaks callers is told in the comment, and ends the job where that is asked for.
    runner.write("apis/a/openapi.json", &shop("after"));
    assert!(runner.all(as_it_is).iter().all(|(_, job)| job.is_good));
    for (name, job) in runner.all(|text| text.replace("skep plan ", "skep plan --fail-on-breaking ")) {
        let said = job.comment.clone().unwrap_or_default() + &job.log;
        assert!(!job.is_good && said.contains("breaks callers: GET /items"), "{name}: {job:?}");
        assert_eq!(job.comment.is_some(), name != "forgejo", "{name}: {job:?}");
    }
    // A fork is not let comment; its plan is in the summary.
    runner.from.set("eve/shop");
    std::fs::remove_file(runner.path("summary")).unwrap();
    let job = runner.steps("github", as_it_is);
    assert!(job.is_good && job.comment.is_none(), "{job:?}");
    let summary = std::fs::read_to_string(runner.path("summary")).unwrap();
    assert!(summary.starts_with("<!-- skep plan -->\n### skep: Plan: 1 to update"), "{summary}");
    runner.from.set("ada/shop");
    // So does what is broken, and what there can be no plan of.
    runner.write("apis/a/main.py", "def f(:\n");
    for (name, job) in runner.all(as_it_is) {
        assert!(!job.is_good && job.log.contains("python-syntax"), "{name}: {job:?}");
        assert!(name != "github" || job.comment.as_ref().unwrap().contains("**blocked**"), "{name}: {job:?}");
    }
    for (name, job) in runner.all(|text| text.replace("$BASE", "nowhere").replace("$CI_MERGE", "nowhere$CI_MERGE")) {
        assert!(!job.is_good, "{name}: {job:?}");
        let said = "<!-- skep plan -->\n### skep: no plan could be made; the log of the workflow says why\n";
        assert!(name != "github" || job.comment.as_deref() == Some(said), "{name}: {job:?}");
    }
}
