//! Commands beside a daemon, which use its records or none.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use skep::installation::{Holder, Installation};
use skep::settings::Settings;

/// What a command says and its code, in a shell with or without the URL of a database.
fn run(root: &std::path::Path, url: Option<&str>, arguments: &[&str]) -> (i32, String) {
    let mut skep = Command::new(env!("CARGO_BIN_EXE_skep"));
    skep.args(arguments).current_dir(root).env("NO_COLOR", "1");
    for variable in ["SKEP_ROOT", "SKEP_STATE_DIR", "SUPABASE_DB_URL", "SKEP_DB_URL"] {
        skep.env_remove(variable);
    }
    if let Some(url) = url {
        skep.env("SUPABASE_DB_URL", url);
    }
    let output = skep.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[test]
fn a_command_without_the_settings_of_the_daemon_makes_no_records_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir(root.join("apis")).unwrap();
    let settings = Settings::built_in(root);
    let installation = Installation::open(&settings).unwrap();
    let create = ["keys", "create", "--name", "me"];
    let expect = |url, code, said: &str| {
        let (ended, all) = run(root, url, &create);
        assert!(ended == code && all.contains(said), "{ended}: {said:?} is not in\n{all}");
        assert!(code == 0 || !all.contains("skep_"), "a key is shown that is none:\n{all}");
    };

    // The daemon says which records it has; one from before that says nothing.
    let holder = Holder {
        pid: std::process::id(),
        command: "serve".to_owned(),
        address: None,
        root: PathBuf::from(root),
        base: None,
        records: Some("database 0123".to_owned()),
    };
    let lock = installation.lock(&holder).unwrap();
    expect(None, 1, "keeps the records of this installation in a database");
    expect(None, 1, "set -a; . /etc/default/skep; set +a");
    assert!(!installation.records().exists());
    assert_eq!(run(root, None, &["check"]).0, 0, "what needs no records goes on");
    drop(lock);

    // No daemon is at work, and the state folder knows it all the same.
    fs::write(settings.state.join("remembered.json"), "{}").unwrap();
    expect(None, 1, "set -a; . /etc/default/skep; set +a");
    assert!(!installation.records().exists());
    fs::remove_file(settings.state.join("remembered.json")).unwrap();
    expect(None, 0, "");

    let lock = installation.lock(&Holder { records: Some("file".to_owned()), ..holder.clone() }).unwrap();
    expect(None, 0, "");
    expect(Some("postgres://me@127.0.0.1:1/none"), 1, "a URL of a database is set here");
    drop(lock);
    let _lock = installation.lock(&Holder { records: None, ..holder }).unwrap();
    expect(None, 0, "");
}
