//! `skep secrets` as its users meet it, with no engine: keys, files, an editor, and nothing shown.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use skep::secrets::{Keyring, Opened};

/// A tree with one API, and a state folder of its own.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.api()).unwrap();
        fs::write(place.api().join("main.py"), "from fastapi import FastAPI\n\napp = FastAPI()\n").unwrap();
        fs::write(place.api().join("api.yaml"), "env: { LEVEL: info }\n").unwrap();
        place
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn api(&self) -> PathBuf {
        self.root().join("apis/honey")
    }

    fn age(&self) -> String {
        fs::read_to_string(self.api().join("secrets.age")).unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut skep = Command::new(env!("CARGO_BIN_EXE_skep"));
        skep.arg("secrets").args(arguments).current_dir(self.root()).env_remove("SKEP_ROOT");
        skep.env("SKEP_STATE_DIR", self.state()).env("NO_COLOR", "1");
        skep
    }

    fn run(&self, arguments: &[&str], input: &str) -> Ran {
        let mut skep = self.command(arguments);
        let mut process = skep.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // One that refuses without reading is none the worse for that.
        let _ = process.stdin.take().unwrap().write_all(input.as_bytes());
        Ran::of(process.wait_with_output().unwrap())
    }

    fn edit(&self, editor: &str) -> Ran {
        let mut skep = self.command(&["edit", "honey"]);
        Ran::of(skep.env("EDITOR", editor).env_remove("VISUAL").stdin(Stdio::null()).output().unwrap())
    }

    fn opened(&self) -> Opened {
        Keyring::of(&self.state())
            .open(&skep::tree::ApiId::new("honey").unwrap(), &skep::tree::Sealed::of(&self.age()))
            .unwrap()
    }
}

struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    fn expect(self, code: i32, said: &str) -> Self {
        let all = format!("{}{}", self.out, self.err);
        assert!(self.code == code && all.contains(said), "{}: {said:?} is not in\n{all}", self.code);
        assert!(!all.contains("hunter2"), "a secret is shown:\n{all}");
        self
    }
}

fn secrets(all: &[(&str, &str)]) -> Opened {
    let mut opened = Opened::default();
    for (name, value) in all {
        opened.set(name, (*value).to_owned()).unwrap();
    }
    opened
}

#[test]
fn the_first_secret_makes_a_key_and_says_what_to_keep_and_commit() {
    let place = Place::new();
    place.run(&["set", "honey", "TOKEN"], "hunter2\n").expect(0, "keep a copy of it");
    place.run(&["set", "honey", "CERTIFICATE"], "-----BEGIN-----\nhunter2\n-----END-----\n").expect(0, "is set");
    let expected = [("TOKEN", "hunter2"), ("CERTIFICATE", "-----BEGIN-----\nhunter2\n-----END-----\n")];
    assert_eq!(place.opened(), secrets(&expected));
    place.run(&["list"], "").expect(0, "honey: CERTIFICATE, TOKEN\n");
    let listed = place.run(&["list", "honey", "--output", "json"], "").expect(0, "TOKEN").out;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&listed).unwrap()["apis"][0]["names"][0], "CERTIFICATE");

    assert!(!place.age().contains("hunter2"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.state()), mode(&place.state().join("secrets.key"))), (0o700, 0o600));
    let key = fs::read_to_string(place.state().join("secrets.key")).unwrap();
    let public = fs::read_to_string(place.root().join("secrets.pub")).unwrap();
    assert!(key.contains("AGE-SECRET-KEY-1") && !public.contains("SECRET-KEY"), "{public}");
    let printed = place.run(&["key"], "").expect(0, "age1").out;
    assert!(public.lines().any(|line| line == printed.trim()), "{public}");
    let check = Command::new(env!("CARGO_BIN_EXE_skep")).arg("check").current_dir(place.root()).output().unwrap();
    assert_eq!(String::from_utf8(check.stdout).unwrap(), "1 API, no findings\n");

    place.run(&["unset", "honey", "TOKEN"], "").expect(0, "taken away");
    place.run(&["unset", "honey", "TOKEN"], "").expect(1, "has no secret TOKEN");
    place.run(&["unset", "honey", "CERTIFICATE"], "").expect(0, "taken away");
    assert!(!place.api().join("secrets.age").exists());
}

#[test]
fn what_cannot_be_a_secret_is_refused_and_changes_nothing() {
    let place = Place::new();
    place.run(&["set", "honey", "TOKEN"], "hunter2").expect(0, "is set");
    let before = place.age();
    for (arguments, input, said) in [
        (["set", "nobody", "TOKEN"], "hunter2", "there is no API nobody"),
        (["set", "honey", "PATH"], "hunter2", "PATH cannot be the name of a secret"),
        (["set", "honey", "../x"], "hunter2", "letters, digits and underscores"),
        (["set", "honey", "A-B"], "hunter2", "A-B cannot be the name of a secret: a name has letters, digits"),
        (["set", "honey", "1A"], "hunter2", "1A cannot be the name of a secret: a name begins with a letter"),
        (["set", "honey", ""], "hunter2", "\"\" cannot be the name of a secret: a name has one character at least"),
        (["set", "honey", "LEVEL"], "hunter2", "LEVEL is a variable of honey too"),
        (["set", "honey", "OTHER"], "", "it is empty"),
        (["set", "honey", "OTHER"], "hunter2\0", "it holds a NUL"),
    ] {
        place.run(&arguments, input).expect(1, said);
    }
    assert_eq!(place.age(), before);
    // A value that is an argument, which everybody on the host can see, is refused by there being no such argument.
    let ran = place.run(&["set", "honey", "OTHER", "value"], "");
    assert!(ran.code == 2 && ran.err.contains("unexpected argument"), "{}", ran.err);
    let output = "TOKEN: hunter2\n";
    fs::write(place.api().join("secrets.age"), output).unwrap();
    let check = Command::new(env!("CARGO_BIN_EXE_skep")).arg("check").current_dir(place.root()).output().unwrap();
    Ran::of(check).expect(1, "error[bad-secrets]: not encrypted as it should be");
}

#[test]
fn somebody_without_the_key_encrypts_and_cannot_read() {
    let place = Place::new();
    let recipient = place.run(&["key"], "").expect(0, "age1").out;
    let elsewhere = Place::new();
    fs::copy(place.root().join("secrets.pub"), elsewhere.root().join("secrets.pub")).unwrap();
    elsewhere.run(&["set", "honey", "TOKEN"], "hunter2").expect(0, "is set");
    assert!(!elsewhere.state().join("secrets.key").exists(), "no key is needed to encrypt");
    elsewhere.run(&["set", "honey", "OTHER"], "hunter2").expect(1, "there is no key of secrets at");
    elsewhere.run(&["list"], "").expect(1, "there is no key of secrets at");
    fs::copy(elsewhere.api().join("secrets.age"), place.api().join("secrets.age")).unwrap();
    assert_eq!(place.opened(), secrets(&[("TOKEN", "hunter2")]));

    // Another key reads nothing, until somebody who can names it and encrypts anew.
    let other = elsewhere.run(&["key"], "").expect(0, "age1").out;
    elsewhere.run(&["list"], "").expect(1, "apis/honey/secrets.age: it is encrypted to other keys");
    let both = format!("# the installation\n{recipient}\n# Ada\n{other}");
    fs::write(place.root().join("secrets.pub"), both).unwrap();
    place.run(&["rotate", "--keep-key"], "").expect(0, "1 files are encrypted anew");
    fs::copy(place.api().join("secrets.age"), elsewhere.api().join("secrets.age")).unwrap();
    elsewhere.run(&["list"], "").expect(0, "honey: TOKEN");
}

#[test]
fn an_editor_sees_all_secrets_in_memory_and_leaves_nothing_behind() {
    let place = Place::new();
    place.run(&["set", "honey", "TOKEN"], "hunter2").expect(0, "is set");
    let seen = place.folder.path().join("seen");
    let editor = format!("cp \"$1\" {0}; echo \"$1\" > {0}.path; stat -c %a \"$1\" > {0}.mode; : ", seen.display());
    place.edit(&editor).expect(0, "nothing changed");
    assert_eq!(fs::read_to_string(&seen).unwrap(), "TOKEN: \"hunter2\"\n");
    let path = fs::read_to_string(seen.with_extension("path")).unwrap();
    assert!(path.starts_with("/dev/shm/") && !Path::new(path.trim()).exists(), "{path}");
    assert_eq!(fs::read_to_string(seen.with_extension("mode")).unwrap(), "600\n");

    place.edit("sed -i -e 's/hunter2/other/' -e '$a MORE: 0123'").expect(0, "honey has MORE, TOKEN");
    assert_eq!(place.opened(), secrets(&[("TOKEN", "other"), ("MORE", "0123")]));
    // A file that is moved to another folder gives nothing away there, until somebody has looked through it.
    let other = place.root().join("apis/other");
    fs::create_dir_all(&other).unwrap();
    fs::copy(place.api().join("secrets.age"), other.join("secrets.age")).unwrap();
    place.run(&["list", "other"], "").expect(1, "apis/other/secrets.age: it was encrypted for the API honey");
    place.run(&["set", "other", "MORE"], "hunter2").expect(1, "it was encrypted for the API honey");
    let mut skep = place.command(&["edit", "other"]);
    let edited = skep.env("EDITOR", "true").env_remove("VISUAL").stdin(Stdio::null()).output().unwrap();
    Ran::of(edited).expect(0, "what you save is encrypted for other");
    place.run(&["list", "other"], "").expect(0, "other: MORE, TOKEN");
    let before = place.age();
    place.edit("sed -i '$a hunter2'").expect(1, "is not a list of NAME: value (line 3)");
    let wrong =
        place.edit("sed -i '$a A-B: hunter2'").expect(1, "line 3 of what you wrote cannot be a secret: a name has");
    assert!(!wrong.err.contains("encrypted in it") && !wrong.err.contains("secrets edit"), "{}", wrong.err);
    // All of it gone is more often a slip than a wish.
    for nothing in ["truncate -s 0", "sed -i 's/.*/# &/'"] {
        place.edit(nothing).expect(1, "counts as giving up");
    }
    place.edit("sed -i '$a LEVEL: hunter2'").expect(1, "LEVEL is a variable of honey too");
    place.edit("false").expect(1, "nothing is written");
    place.edit("no-such-editor -x").expect(1, "there is no editor no-such-editor -x; set EDITOR to one that is there");
    let mut skep = place.command(&["edit", "honey"]);
    let bare = skep.env("PATH", place.folder.path()).env_remove("EDITOR").env_remove("VISUAL").stdin(Stdio::null());
    Ran::of(bare.output().unwrap())
        .expect(1, "VISUAL and EDITOR are not set, and none of editor, vi, nano is in the PATH");
    assert_eq!(place.age(), before);
}

#[test]
fn a_new_key_opens_what_was_encrypted_anew_and_the_old_one_is_kept_until_it_is_forgotten() {
    let place = Place::new();
    place.run(&["set", "honey", "TOKEN"], "hunter2").expect(0, "is set");
    let (old, first) = (place.age(), place.run(&["key"], "").out);
    place.run(&["rotate", "--forget-old"], "").expect(0, "0 old keys are forgotten");
    let ran = place.run(&["rotate"], "").expect(0, "there is a new key; 1 files are encrypted anew");
    ran.expect(0, "as in backups and on other hosts, are out of date");
    let second = place.run(&["key"], "").out;
    let public = fs::read_to_string(place.root().join("secrets.pub")).unwrap();
    assert!(first != second && public.contains(second.trim()) && !public.contains(first.trim()), "{public}");
    assert_eq!(place.opened(), secrets(&[("TOKEN", "hunter2")]));
    // Records that are not there, or elsewhere, do not say that nothing needs the old key; and none are made.
    place.run(&["rotate", "--forget-old"], "").expect(1, "there are no records at");
    let records = place.state().join("records.db");
    assert!(!records.exists());
    drop(skep::records::sqlite::Sqlite::open(&records).unwrap());
    fs::write(place.state().join("remembered.json"), "{}").unwrap();
    place.run(&["rotate", "--forget-old"], "").expect(1, "no URL of one is set");
    fs::remove_file(place.state().join("remembered.json")).unwrap();
    // Somebody who had not pulled yet: still opened, and still kept for.
    let new = place.age();
    fs::write(place.api().join("secrets.age"), &old).unwrap();
    place.run(&["rotate", "--forget-old"], "").expect(1, "are needed still, for apis/honey/secrets.age");
    assert_eq!(place.opened(), secrets(&[("TOKEN", "hunter2")]));
    fs::write(place.api().join("secrets.age"), new).unwrap();
    place.run(&["rotate", "--forget-old"], "").expect(0, "1 old keys are forgotten");
    assert_eq!(place.opened(), secrets(&[("TOKEN", "hunter2")]));
    fs::write(place.api().join("secrets.age"), &old).unwrap();
    place.run(&["rotate"], "").expect(1, "it is encrypted to other keys");
    assert_eq!(place.run(&["key"], "").out, second, "nothing was changed");
    // Forgotten in error, it is brought back.
    fs::rename(place.state().join("secrets.key.old"), place.state().join("secrets.key")).unwrap();
    assert_eq!(place.opened(), secrets(&[("TOKEN", "hunter2")]));
}

#[test]
fn a_link_that_an_app_s_owner_planted_beside_its_secrets_leads_nowhere() {
    let place = Place::new();
    let victim = place.folder.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    // The process keeps its number, so the link is where a name made of that would be.
    let plant = format!("ln -s {} {}/.secrets.age.$$ && exec \"$@\"", victim.display(), place.api().display());
    let mut shell = Command::new("sh");
    shell.args(["-c", &plant, "sh", env!("CARGO_BIN_EXE_skep"), "secrets", "set", "honey", "TOKEN"]);
    shell.current_dir(place.root()).env_remove("SKEP_ROOT").env("SKEP_STATE_DIR", place.state()).stdin(Stdio::piped());
    let mut process = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(b"hunter2").unwrap();
    Ran::of(process.wait_with_output().unwrap()).expect(0, "is set");
    assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    assert_eq!(place.opened(), secrets(&[("TOKEN", "hunter2")]));
}

#[test]
fn a_file_of_recipients_that_cannot_be_read_keeps_the_key_as_it_is() {
    let place = Place::new();
    place.run(&["set", "honey", "TOKEN"], "hunter2").expect(0, "is set");
    let public = place.root().join("secrets.pub");
    let key = fs::read(place.state().join("secrets.key")).unwrap();
    for bytes in [&b"\xff\xfe"[..], b"# fine\nage1nobody\n"] {
        fs::write(&public, bytes).unwrap();
        place.run(&["rotate"], "").expect(1, "secrets.pub");
        assert_eq!(fs::read(&public).unwrap(), bytes);
    }
    fs::remove_file(&public).unwrap();
    fs::create_dir(&public).unwrap();
    place.run(&["rotate"], "").expect(1, "secrets.pub");
    assert_eq!(fs::read(place.state().join("secrets.key")).unwrap(), key);
    assert_eq!(place.opened(), secrets(&[("TOKEN", "hunter2")]));
}

#[test]
fn secrets_that_are_set_at_once_are_all_kept_and_opened_by_the_one_key_that_is_made() {
    let place = Place::new();
    let names: Vec<String> = (0..8).map(|number| format!("TOKEN_{number}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(|| place.run(&["set", "honey", name], "hunter2").expect(0, "is set"));
        }
    });
    let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "hunter2")).collect();
    assert_eq!(place.opened(), secrets(&all));
    let public = fs::read_to_string(place.root().join("secrets.pub")).unwrap();
    let own = Keyring::of(&place.state()).recipient().unwrap();
    let named: Vec<&str> = public.lines().filter(|line| line.starts_with("age1")).collect();
    assert_eq!(named, [own]);
}

#[test]
fn what_is_set_while_an_editor_is_open_waits_for_it_and_is_kept() {
    let place = Place::new();
    place.run(&["set", "honey", "TOKEN"], "hunter2").expect(0, "is set");
    // The editor ends once the other waits, as that says itself.
    let mut skep = place.command(&["set", "honey", "OTHER"]);
    let said = place.folder.path().join("said");
    skep.stdin(Stdio::piped()).stderr(fs::File::create(&said).unwrap());
    let open = place.folder.path().join("open");
    let wait = "for _ in $(seq 500); do grep -q 'waiting for another' {said} && break; sleep 0.02; done";
    let editor = format!(
        "touch {}; {}; sed -i '$a MORE: hunter2'",
        open.display(),
        wait.replace("{said}", said.to_str().unwrap())
    );
    std::thread::scope(|scope| {
        let edited = scope.spawn(|| place.edit(&editor).expect(0, "honey has MORE, TOKEN"));
        while !open.exists() && !edited.is_finished() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let mut process = skep.spawn().unwrap();
        process.stdin.take().unwrap().write_all(b"hunter2").unwrap();
        assert!(process.wait().unwrap().success());
    });
    assert_eq!(place.opened(), secrets(&[("MORE", "hunter2"), ("OTHER", "hunter2"), ("TOKEN", "hunter2")]));
}

/// The folder in memory of the editor that writes its path there, and the process of the command.
fn editing(place: &Place, skep: &mut Command) -> (std::process::Child, PathBuf) {
    let seen = place.folder.path().join("path");
    let process = skep.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let path = waited_for(|| fs::read_to_string(&seen).ok().filter(|path| path.ends_with('\n')));
    fs::remove_file(seen).unwrap();
    (process, Path::new(path.trim()).parent().unwrap().to_owned())
}

fn waited_for<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..3000 {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("it does not come");
}

fn send(signal: &str, process: &std::process::Child) {
    assert!(Command::new("kill").args([signal, &process.id().to_string()]).status().unwrap().success());
}

#[test]
fn a_signal_while_an_editor_is_open_leaves_nothing_that_can_be_read() {
    let place = Place::new();
    place.run(&["set", "honey", "TOKEN"], "hunter2").expect(0, "is set");
    let before = place.age();
    let editor = format!("echo \"$1\" > {}; exec sleep 60", place.folder.path().join("path").display());
    for (signal, code) in [("-TERM", 143), ("-HUP", 129)] {
        let mut skep = place.command(&["edit", "honey"]);
        skep.env("EDITOR", format!("sh -c '{editor}' sh")).env_remove("VISUAL").stdin(Stdio::null());
        let (mut process, folder) = editing(&place, &mut skep);
        assert!(fs::read_to_string(folder.join("secrets.yaml")).unwrap().contains("hunter2"));
        send(signal, &process);
        assert_eq!(process.wait().unwrap().code(), Some(code), "{signal}");
        assert!(!folder.exists(), "{signal} leaves {}", folder.display());
        assert_eq!(place.age(), before);
    }
    // An interrupt is the editor's: it may go on, and what is saved then counts.
    let go_on = place.folder.path().join("go-on");
    let wait = format!("while ! test -e {}; do sleep 0.02; done", go_on.display());
    let path = place.folder.path().join("path");
    let script = format!("echo \"$1\" > {}; {wait}; echo MORE: hunter2 >> \"$1\"", path.display());
    let mut skep = place.command(&["edit", "honey"]);
    skep.env("EDITOR", format!("sh -c '{script}' sh")).env_remove("VISUAL").stdin(Stdio::null());
    let (mut process, folder) = editing(&place, &mut skep);
    send("-INT", &process);
    fs::write(go_on, "").unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    assert!(!folder.exists());
    assert_eq!(place.opened(), secrets(&[("TOKEN", "hunter2"), ("MORE", "hunter2")]));
}

#[test]
fn ctrl_c_at_the_question_whether_to_edit_again_leaves_nothing_that_can_be_read() {
    let place = Place::new();
    place.run(&["set", "honey", "TOKEN"], "hunter2").expect(0, "is set");
    let path = place.folder.path().join("path");
    let editor = format!("sh -c 'echo \"$1\" > {}; echo broken >> \"$1\"' sh", path.display());
    // A terminal of its own, which turns that byte into a signal to all that runs in it.
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &format!("{} secrets edit honey", env!("CARGO_BIN_EXE_skep")), "/dev/null"]);
    terminal.current_dir(place.root()).env_remove("SKEP_ROOT").env("SKEP_STATE_DIR", place.state());
    terminal.env("EDITOR", editor).env_remove("VISUAL").env("NO_COLOR", "1");
    let said = place.folder.path().join("said");
    terminal.stdin(Stdio::piped()).stdout(fs::File::create(&said).unwrap());
    let mut process = terminal.spawn().unwrap();
    waited_for(|| fs::read_to_string(&said).unwrap().contains("press Enter").then_some(()));
    let folder = fs::read_to_string(&path).unwrap();
    let folder = Path::new(folder.trim()).parent().unwrap();
    assert!(folder.exists());
    process.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(130));
    assert!(!folder.exists(), "{}", folder.display());
}

#[test]
fn what_an_edit_leaves_behind_that_was_killed_is_wiped_by_the_next_command_and_nothing_in_use_is() {
    let place = Place::new();
    place.run(&["set", "honey", "TOKEN"], "hunter2").expect(0, "is set");
    let path = place.folder.path().join("path");
    let number = place.folder.path().join("number");
    let editor = format!("sh -c 'echo $$ > {}; echo \"$1\" > {}; exec sleep 60' sh", number.display(), path.display());
    let mut skep = place.command(&["edit", "honey"]);
    skep.env("EDITOR", editor).env_remove("VISUAL").stdin(Stdio::null());
    let (mut process, folder) = editing(&place, &mut skep);
    place.run(&["list"], "").expect(0, "honey: TOKEN");
    assert!(folder.exists(), "somebody is at it");
    send("-KILL", &process);
    process.wait().unwrap();
    assert!(folder.exists(), "nobody can have wiped it");
    place.run(&["list"], "").expect(0, "honey: TOKEN");
    assert!(!folder.exists());
    // The editor, which nobody has told to end.
    let number = fs::read_to_string(number).unwrap();
    assert!(Command::new("kill").arg(number.trim()).status().unwrap().success());
}

#[test]
fn what_is_set_after_a_rotation_cannot_be_read_with_the_key_from_before() {
    let place = Place::new();
    place.run(&["set", "honey", "TOKEN"], "hunter2").expect(0, "is set");
    let public = place.root().join("secrets.pub");
    let other = Place::new();
    let ada = other.run(&["key"], "").expect(0, "age1").out;
    let named = fs::read_to_string(&public).unwrap() + "# Ada\n" + &ada;
    fs::write(&public, &named).unwrap();
    // What somebody has copied, and the file of recipients where pushes come into: those bring APIs alone.
    let leaked = place.folder.path().join("leaked");
    fs::create_dir(&leaked).unwrap();
    fs::copy(place.state().join("secrets.key"), leaked.join("secrets.key")).unwrap();
    let old = Keyring::of(&leaked).recipient().unwrap();
    let id = skep::tree::ApiId::new("honey").unwrap();
    let opens = |state: &Path| Keyring::of(state).open(&id, &skep::tree::Sealed::of(&place.age())).is_ok();
    place.run(&["rotate"], "").expect(0, "there is a new key");
    let new = Keyring::of(&place.state()).recipient().unwrap();
    for step in ["kept", "forgotten", "forgotten, and renewed"] {
        match step {
            "forgotten" => {
                drop(skep::records::sqlite::Sqlite::open(&place.state().join("records.db")).unwrap());
                place.run(&["rotate", "--forget-old"], "").expect(0, "1 old keys are forgotten");
            }
            "forgotten, and renewed" => drop(place.run(&["rotate"], "").expect(0, "there is a new key")),
            _ => {}
        }
        fs::write(&public, &named).unwrap();
        place.run(&["set", "honey", "OTHER"], "hunter2").expect(0, "from before a rotation");
        assert!(!opens(&leaked), "the key is {step}");
        assert!(opens(&place.state()) && opens(&other.state()), "{step}");
        let public = fs::read_to_string(&public).unwrap();
        assert!(!public.contains(&old) && public.contains("# Ada") && public.contains(ada.trim()), "{public}");
        assert_eq!(public.matches("age1").count(), 2, "{public}");
    }
    assert_ne!(Keyring::of(&place.state()).recipient().unwrap(), new);
    // One that names both is put right too, and said nothing of once it is.
    fs::write(&public, format!("{old}\n{}", fs::read_to_string(&public).unwrap())).unwrap();
    place.run(&["rotate", "--keep-key"], "").expect(0, "named 1 of this installation's keys");
    assert_eq!(fs::read_to_string(&public).unwrap().matches("age1").count(), 2);
    let ran = place.run(&["set", "honey", "OTHER"], "hunter2").expect(0, "is set");
    assert!(!ran.err.contains("rotation"), "{}", ran.err);
    assert!(!opens(&leaked));
}

#[test]
fn a_value_that_is_encrypted_without_this_command_as_the_guide_says_it_is_read_as_it_was() {
    let place = Place::new();
    place.run(&["key"], "").expect(0, "age1");
    let guide = include_str!("../../docs/secrets.md");
    let line = guide.lines().find(|line| line.contains("| age --armor")).unwrap();
    let line = line.replace("apis/thumbnails", "apis/honey");
    for value in [
        "abc #def",
        "\"q\"",
        "'q'",
        " before",
        "after ",
        "a: b",
        "- x",
        "{a}",
        "[x]",
        "!t",
        "&a",
        "*a",
        "%x",
        "@x",
        "`x`",
        "|",
        ">",
        "?",
        "null",
        "~",
        "0123",
        "1_000",
        "true",
        "a\\b\\n",
        "%s\\n",
        "$HOME",
        "a\u{2028}b\u{85}c\u{feff}",
        "\u{7f}\t\u{1b}",
        "\u{1d11e}\u{e9}",
        "-----BEGIN\na\n\n  b\n-----END\n",
        "\na",
        "a\n\n",
        "a\r\nb\r\n",
    ] {
        let mut shell = Command::new("sh");
        shell.args(["-ec", &line]).current_dir(place.root()).env("VALUE", value);
        let ran = shell.output().unwrap();
        assert!(ran.status.success(), "{value:?}: {}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(place.opened(), secrets(&[("API_KEY", value)]), "{value:?}");
    }
}
