use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;
use crate::tree::Severity;

const MAIN: &str = "from fastapi import FastAPI\napp = FastAPI()\n";

/// A root of its own for one test.
struct Root(tempfile::TempDir);

impl Root {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        fs::create_dir(root.0.path().join("apis")).unwrap();
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) -> &Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn scanner(&self) -> Scanner {
        Scanner::new(&Settings::built_in(self.0.path())).unwrap()
    }

    /// The findings of one look, as `code path`.
    fn findings(&self) -> Vec<String> {
        let look = self.scanner().read().unwrap();
        look.tree.all_findings().map(|finding| format!("{} {}", finding.code, finding.path)).collect()
    }
}

fn ids(names: &[&str]) -> BTreeSet<ApiId> {
    names.iter().map(|name| ApiId::new(name).unwrap()).collect()
}

/// Long enough for what was written before to be trusted by the look after.
fn let_times_pass() {
    std::thread::sleep(RACY + Duration::from_millis(20));
}

#[test]
fn a_sound_folder_becomes_an_api() {
    let root = Root::new();
    root.write("apis/hello/main.py", MAIN)
        .write("apis/hello/api.yaml", "replicas: 2\n")
        .write("apis/hello/requirements.txt", "pandas\n")
        .write("apis/hello/data/names.csv", "a,b\n")
        .write("apis/hello/README.md", "# Hello\n")
        .write("apis/hello/readme.py", "x = 1\n")
        .write("apis/hello/.env", "SECRET=1\n")
        .write("apis/hello/main.py~", "old")
        .write("apis/hello/__pycache__/main.pyc", "x");
    let look = root.scanner().read().unwrap();
    let api = look.tree.sound(&ApiId::new("hello").unwrap()).unwrap();
    assert_eq!(api.files.keys().collect::<Vec<_>>(), ["data/names.csv", "main.py", "readme.py"]);
    assert_eq!((api.spec.name.as_str(), api.spec.replicas), ("hello", 2));
    assert_eq!(api.requirements.0.len(), 4);
    assert_eq!(api.findings, []);
    assert_eq!(&*api.read("main.py").unwrap(), MAIN.as_bytes());
    assert_eq!(look.changed, ids(&["hello"]));
}

#[test]
fn a_tree_that_cannot_be_read_is_an_error_and_no_empty_tree() {
    let root = Root::new();
    let mut scanner = root.scanner();
    root.write("apis/hello/main.py", MAIN);
    scanner.read().unwrap();
    fs::rename(root.path("apis"), root.path("elsewhere")).unwrap();
    assert!(matches!(scanner.read(), Err(TreeError::Missing(_))));
    assert!(matches!(scanner.read_folders(&ids(&["hello"])), Err(TreeError::Missing(_))));
    assert_eq!(scanner.tree().folders.len(), 1);
    fs::write(root.path("apis"), "").unwrap();
    assert!(matches!(scanner.read(), Err(TreeError::Io { .. })));
}

#[test]
fn one_broken_folder_leaves_the_others_sound() {
    let root = Root::new();
    root.write("apis/broken/main.py", "def f(:\n")
        .write("apis/sound/main.py", MAIN)
        .write("apis/tired/api.yaml", "a: [");
    let look = root.scanner().read().unwrap();
    assert!(look.tree.sound(&ApiId::new("sound").unwrap()).is_some());
    let broken = look.tree.folders.values().filter(|folder| matches!(folder, Folder::Broken(_)));
    assert_eq!((look.tree.folders.len(), broken.count()), (3, 2));
}

#[test]
fn links_and_special_files_are_refused_and_never_opened() {
    let root = Root::new();
    root.write("apis/a/main.py", MAIN).write("secret", "x");
    symlink(root.path("secret"), root.path("apis/a/data.txt")).unwrap();
    symlink("/", root.path("apis/a/folder")).unwrap();
    rustix::fs::mknodat(CWD, root.path("apis/a/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.path("apis/a/socket")).unwrap();
    symlink(root.path("apis/a"), root.path("apis/b")).unwrap();
    let expected = [
        "symlink apis/a/data.txt",
        "symlink apis/a/folder",
        "special-file apis/a/pipe",
        "special-file apis/a/socket",
        "symlink apis/b",
    ];
    assert_eq!(root.findings(), expected);
}

#[test]
fn a_linked_folder_is_broken_and_not_absent() {
    let root = Root::new();
    root.write("apis/a/main.py", MAIN);
    let mut scanner = root.scanner();
    scanner.read().unwrap();
    fs::rename(root.path("apis/a"), root.path("moved")).unwrap();
    symlink(root.path("moved"), root.path("apis/a")).unwrap();
    for look in [scanner.read_folders(&ids(&["a"])).unwrap(), scanner.read().unwrap()] {
        assert!(matches!(look.tree.folders.values().next(), Some(Folder::Broken(_))));
    }
}

#[test]
fn names_that_are_no_ids_and_stray_files_are_reported() {
    let root = Root::new();
    root.write("apis/My API/main.py", MAIN).write("apis/notes.txt", "x").write("apis/README.md", "x");
    let look = root.scanner().read().unwrap();
    let found: Vec<_> = look.tree.findings.iter().map(|f| (f.severity, f.code, f.hint.as_str())).collect();
    assert_eq!(found[0], (Severity::Error, code::BAD_ID, "rename the folder, as in `my-api`"));
    assert_eq!((found[1].0, found[1].1, found.len()), (Severity::Warning, code::STRAY_FILE, 2));
}

#[test]
fn limits_hold() {
    let root = Root::new();
    root.write("apis/big/main.py", MAIN).write("apis/big/model.bin", "x".repeat(2000));
    root.write("apis/deep/main.py", MAIN).write("apis/deep/1/2/3/4/5/6/7/8/9/x", "");
    root.write("apis/many/main.py", MAIN);
    for n in 0..20 {
        root.write(&format!("apis/many/{n}.txt"), "");
    }
    root.write("apis/sum/main.py", MAIN).write("apis/sum/a", "x".repeat(1400)).write("apis/sum/b", "x".repeat(1400));
    let mut settings = Settings::built_in(root.0.path());
    settings.policy.max_file = crate::tree::Size(1500);
    settings.policy.max_folder = crate::tree::Size(2500);
    settings.policy.max_files = 10;
    let look = Scanner::new(&settings).unwrap().read().unwrap();
    let found: Vec<_> = look.tree.all_findings().map(|f| format!("{} {}", f.code, f.path)).collect();
    let expected = [
        "file-too-big apis/big/model.bin",
        "folder-too-deep apis/deep/1/2/3/4/5/6/7/8",
        "folder-too-big apis/many",
        "folder-too-big apis/sum",
    ];
    assert_eq!(found, expected);
}

#[test]
fn file_names_are_checked() {
    use std::os::unix::ffi::OsStrExt;
    let root = Root::new();
    root.write("apis/a/main.py", MAIN).write("apis/a/Data.csv", "").write("apis/a/data.csv", "");
    root.write("apis/a/back\\slash", "")
        .write("apis/a/new\nline", "")
        .write(&format!("apis/a/{}", "x".repeat(201)), "");
    fs::write(root.path("apis/a").join(Path::new(std::ffi::OsStr::from_bytes(b"\xff"))), "").unwrap();
    let found = root.findings();
    assert_eq!(found.iter().filter(|finding| finding.starts_with("bad-file-name")).count(), 4, "{found:?}");
    assert!(found.contains(&"case-collision apis/a/data.csv".to_owned()), "{found:?}");
}

#[test]
fn the_asgi_object_must_be_there() {
    let root = Root::new();
    root.write("apis/a/main.py", "import fastapi\nservice = fastapi.FastAPI()\n");
    root.write("apis/b/server.py", MAIN);
    root.write("apis/c/pkg/__init__.py", MAIN).write("apis/c/api.yaml", "app: pkg:app\n");
    root.write("apis/d/pkg/web.py", MAIN).write("apis/d/api.yaml", "app: pkg.web:app.inner\n");
    root.write("apis/e/main.py", "from pkg import *\n").write("apis/f/x.txt", "");
    let look = root.scanner().read().unwrap();
    let found: Vec<_> = look.tree.all_findings().map(|f| (f.path.as_str(), f.code, f.hint.as_str())).collect();
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_eq!((found[0].0, found[0].1), ("apis/a/main.py", code::APP_OBJECT_MISSING));
    assert!(found[0].2.contains("app: main:service"), "{found:?}");
    assert_eq!(found[1], ("apis/b", code::APP_MODULE_MISSING, "add an api.yaml that says `app: server:app`"));
    assert_eq!((found[2].0, found[2].1), ("apis/f", code::APP_MODULE_MISSING));
}

#[test]
fn text_that_is_no_text_is_refused() {
    let root = Root::new();
    root.write("apis/a/main.py", b"x = 1\ny = '\xff'\n").write("apis/b/main.py", MAIN);
    root.write("apis/b/api.yaml", b"name: \xff\n").write("apis/c/main.py", "app = 1\0\n");
    root.write("apis/d/main.py", format!("\u{feff}{}", MAIN.replace('\n', "\r\n")));
    let expected = ["not-text apis/a/main.py", "not-text apis/b/api.yaml", "not-text apis/c/main.py"];
    assert_eq!(root.findings(), expected);
}

#[test]
fn an_unreadable_folder_is_broken_and_not_absent() {
    if rustix::process::geteuid().is_root() {
        return; // Nothing is unreadable to root.
    }
    let root = Root::new();
    root.write("apis/a/main.py", MAIN).write("apis/b/main.py", MAIN);
    fs::set_permissions(root.path("apis/a"), fs::Permissions::from_mode(0o000)).unwrap();
    let found = root.findings();
    fs::set_permissions(root.path("apis/a"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(found, ["unreadable apis/a"]);
}

#[test]
fn what_did_not_change_is_the_same_value() {
    let root = Root::new();
    root.write("apis/a/main.py", MAIN).write("apis/b/main.py", MAIN);
    let_times_pass();
    let mut scanner = root.scanner();
    let first = scanner.read().unwrap();
    let second = scanner.read().unwrap();
    assert!(Arc::ptr_eq(&first.tree, &second.tree));
    root.write("apis/b/main.py", format!("{MAIN}x = 1\n"));
    let third = scanner.read_folders(&ids(&["a", "b"])).unwrap();
    assert_eq!(third.changed, ids(&["b"]));
    let [a, b] = [ApiId::new("a").unwrap(), ApiId::new("b").unwrap()];
    assert!(Arc::ptr_eq(first.tree.sound(&a).unwrap(), third.tree.sound(&a).unwrap()));
    assert!(!Arc::ptr_eq(first.tree.sound(&b).unwrap(), third.tree.sound(&b).unwrap()));
    // Written anew with the same bytes: read again, and found to be what it was.
    root.write("apis/b/main.py", format!("{MAIN}x = 1\n"));
    assert_eq!(scanner.read().unwrap().changed, ids(&[]));
}

#[test]
fn a_change_within_the_resolution_of_file_times_is_seen() {
    let root = Root::new();
    let mut scanner = root.scanner();
    for n in 0..200 {
        // The same length each time, and mostly within one tick of the clock that stamps files.
        root.write("apis/a/main.py", format!("app = {n:04}\n"));
        let look = scanner.read().unwrap();
        assert_eq!(look.changed, ids(&["a"]), "write {n}");
    }
}

#[test]
fn a_removed_folder_is_gone_from_the_tree() {
    let root = Root::new();
    root.write("apis/a/main.py", MAIN).write("apis/b/main.py", MAIN).write("apis/c/main.py", MAIN);
    let mut scanner = root.scanner();
    scanner.read().unwrap();
    fs::remove_dir_all(root.path("apis/a")).unwrap();
    let look = scanner.read_folders(&ids(&["a"])).unwrap();
    assert_eq!((look.changed, look.tree.folders.len()), (ids(&["a"]), 2));
    fs::remove_dir_all(root.path("apis/b")).unwrap();
    let look = scanner.read().unwrap();
    assert_eq!((look.changed, look.tree.folders.len()), (ids(&["b"]), 1));
}

#[test]
fn a_folder_that_is_being_written_keeps_its_earlier_value() {
    let root = Root::new();
    root.write("apis/a/main.py", MAIN);
    let_times_pass();
    let mut scanner = root.scanner().with_quiet(Duration::from_millis(40));
    let first = scanner.read().unwrap();
    assert!(first.unsettled.is_empty());
    root.write("apis/a/main.py", "from fas").write("apis/new/main.py", MAIN);
    let second = scanner.read().unwrap();
    assert_eq!(second.unsettled, ids(&["a", "new"]));
    let a = ApiId::new("a").unwrap();
    assert!(Arc::ptr_eq(first.tree.sound(&a).unwrap(), second.tree.sound(&a).unwrap()));
    // A folder without an earlier value is there all the same, so that nobody takes it for removed.
    let new = second.tree.folders[&ApiId::new("new").unwrap()].clone();
    assert!(matches!(new, Folder::Broken(broken) if broken.findings[0].code == code::UNSETTLED));
    root.write("apis/a/main.py", format!("{MAIN}y = 1\n"));
    let_times_pass();
    let third = scanner.read().unwrap();
    assert_eq!((third.unsettled, third.changed), (ids(&[]), ids(&["a", "new"])));
}

#[test]
fn other_defaults_settle_every_folder_anew() {
    let root = Root::new();
    root.write("apis/a/main.py", MAIN);
    let_times_pass();
    let mut scanner = root.scanner();
    scanner.read().unwrap();
    let (settings, findings) = Settings::settle(root.0.path(), b"defaults: { replicas: 3, env: { A: x } }\n", |_| None);
    assert_eq!(findings, []);
    scanner.set(&settings);
    let look = scanner.read().unwrap();
    assert_eq!(look.changed, ids(&["a"]));
    assert_eq!(look.tree.sound(&ApiId::new("a").unwrap()).unwrap().spec.replicas, 3);
}

#[test]
fn a_host_that_two_apis_claim_is_an_error_until_one_gives_it_up() {
    let root = Root::new();
    for id in ["a", "b"] {
        root.write(&format!("apis/{id}/main.py"), MAIN);
        root.write(&format!("apis/{id}/api.yaml"), "route: { hosts: [x.test] }\n");
    }
    let mut scanner = root.scanner();
    let taken =
        |look: &Look| look.tree.findings.iter().map(|found| (found.code, found.path.clone())).collect::<Vec<_>>();
    let look = scanner.read().unwrap();
    assert_eq!(taken(&look), [(code::HOST_TAKEN, "apis/b/api.yaml".to_owned())]);
    assert!(look.tree.findings[0].message.contains("x.test is claimed by `a` too"));
    assert_eq!(look.tree.folders.values().filter(|folder| matches!(folder, Folder::Sound(_))).count(), 2);
    // A look at one folder finds out as well, and keeps what belongs to no API.
    root.write("apis/a/api.yaml", "route: { hosts: [y.test] }\n");
    assert_eq!(taken(&scanner.read_folders(&ids(&["a"])).unwrap()), []);
    root.write("apis/b/api.yaml", "route: { hosts: [x.test, y.test] }\n");
    assert_eq!(taken(&scanner.read_folders(&ids(&["b"])).unwrap()).len(), 1);
}

#[test]
fn a_folder_that_is_renamed_is_never_gone_without_its_new_name() {
    let root = Root::new();
    root.write("apis/old/main.py", MAIN);
    let mut scanner = root.scanner();
    scanner.read().unwrap();
    fs::rename(root.path("apis/old"), root.path("apis/new")).unwrap();
    // The watcher tells of one of the names first.
    let look = scanner.read_folders(&ids(&["old"])).unwrap();
    assert_eq!(look.changed, ids(&["old", "new"]));
    assert!(look.tree.sound(&ApiId::new("new").unwrap()).is_some());

    // Renamed over and over while it is looked at.
    let (from, to) = (root.path("apis/new"), root.path("apis/old"));
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for (a, b) in [(&from, &to), (&to, &from)] {
                    fs::rename(a, b).unwrap();
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
        });
        for turn in 0..500 {
            let look = match turn % 2 {
                0 => scanner.read(),
                _ => scanner.read_folders(&ids(&["old", "new"])),
            };
            match look {
                Ok(look) => assert!(!look.tree.folders.is_empty(), "turn {turn}"),
                // It never stood still.
                Err(TreeError::Io { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
