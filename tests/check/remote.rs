//! `skep plan --remote` before it asks anybody: a tree that is broken goes nowhere, and nothing outside it ever does.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output};

const APP: &str = "from fastapi import FastAPI\n\napp = FastAPI()\n";

/// A tree with one sound API.
fn sound() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("apis/hello")).unwrap();
    std::fs::write(root.path().join("apis/hello/main.py"), APP).unwrap();
    root
}

/// Asks somebody who only listens, and says whether they were asked.
fn ask(root: &Path, more: &[&str]) -> (Output, bool) {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    let mut skep = Command::new(env!("CARGO_BIN_EXE_skep"));
    skep.current_dir(root).args(["plan", "--remote", &url]).args(more).env_remove("SKEP_ROOT");
    let asker = skep.env("SKEP_TOKEN", "skep_x").env("NO_COLOR", "1");
    let mut asker = asker.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    nobody.set_nonblocking(true).unwrap();
    let mut is_asked = false;
    while asker.try_wait().unwrap().is_none() {
        // Whoever is hung up on ends by that.
        is_asked |= nobody.accept().is_ok();
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    is_asked |= nobody.accept().is_ok();
    (asker.wait_with_output().unwrap(), is_asked)
}

/// What is done to the `apis/` of a sound tree.
type Spoil<'a> = &'a dyn Fn(&Path);

#[test]
fn a_broken_tree_is_sent_to_nobody_and_what_is_wrong_with_it_is_said_as_check_says_it() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("main.py"), "SECRET = 'of somebody else'\n").unwrap();
    let broken: [(&str, Spoil<'_>); 7] = [
        ("error[symlink]", &|apis| symlink(outside.path(), apis.join("linked")).unwrap()),
        ("error[symlink]", &|apis| symlink("/etc/hostname", apis.join("hello/name.txt")).unwrap()),
        ("error[symlink]", &|apis| symlink(outside.path(), apis.join("hello/inner")).unwrap()),
        ("error[app-module-missing]", &|apis| std::fs::create_dir(apis.join("empty")).unwrap()),
        ("error[bad-id]", &|apis| {
            std::fs::create_dir(apis.join("Not_An_Id")).unwrap();
            std::fs::write(apis.join("Not_An_Id/main.py"), APP).unwrap();
        }),
        ("error[python-syntax]", &|apis| std::fs::write(apis.join("hello/main.py"), "def f(:\n").unwrap()),
        ("apis is a symbolic link", &|apis| {
            std::fs::rename(apis, apis.with_file_name("elsewhere")).unwrap();
            symlink(apis.with_file_name("elsewhere"), apis).unwrap();
        }),
    ];
    for (said, spoil) in broken {
        let root = sound();
        spoil(&root.path().join("apis"));
        let (done, is_asked) = ask(root.path(), &[]);
        let err = String::from_utf8(done.stderr).unwrap();
        assert_eq!((done.status.code(), is_asked), (Some(1), false), "{said}: {err}");
        assert!(err.contains(said), "{said} is not in\n{err}");
        for output in ["markdown", "github", "json", "sarif"] {
            let (done, is_asked) = ask(root.path(), &["--output", output]);
            let all = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
            assert_eq!((done.status.code(), is_asked), (Some(1), false), "{said}: {all}");
            let code = said.trim_start_matches("error[").trim_end_matches(']');
            assert!(all.contains(code) && !all.contains("SECRET"), "{output}: {code} is not in\n{all}");
        }
    }
    let (done, is_asked) = ask(sound().path(), &[]);
    assert_eq!((done.status.code(), is_asked), (Some(1), true), "a sound one is sent: {done:?}");
}
