//! Pushes by a real git, over HTTP and over a real SSH server.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::apps::saying;
use crate::http::Request;
use crate::ssh::Ssh;
use crate::world::{Ran, World};

pub const ADMIN_KEY: &str = "an-admin-key-of-a-test";

/// A world that takes pushes.
pub fn begin(push: &str) -> World {
    let world = World::new();
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    world.write("skep.yaml", &format!("{settings}push: {push}\n"));
    world.serve_with(&[("ADMIN_API_KEY", ADMIN_KEY)]);
    world
}

/// Somebody with a checkout, who pushes to a world by HTTP as `ada`.
pub struct Dev {
    pub folder: PathBuf,
}

impl Dev {
    pub fn new(world: &World, name: &str) -> Self {
        let dev = Self { folder: world.aside().join(name) };
        std::fs::create_dir_all(dev.folder.join("apis")).unwrap();
        dev.git(&["init", "--quiet", "-b", "main"]).expect(0);
        dev.git(&["remote", "add", "skep", &format!("http://ada:{ADMIN_KEY}@{}/git", world.address())]).expect(0);
        dev
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.current_dir(&self.folder)
            .args(["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "protocol.file.allow=always"])
            .args(arguments)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("LC_ALL", "C")
            .stdin(Stdio::null());
        git
    }

    pub fn git(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn commit(&self, subject: &str) {
        self.git(&["add", "-A"]).expect(0);
        self.git(&["commit", "--quiet", "-m", subject]).expect(0);
    }

    pub fn code(&self, id: &str, text: &str) {
        self.write(&format!("apis/{id}/main.py"), &saying(text));
        self.commit(&format!("{id} says {text}"));
    }

    pub fn push(&self, options: &[&str]) -> Ran {
        self.git(&[&["push", "--porcelain"], options, &["skep", "main"]].concat())
    }
}

#[track_caller]
pub fn said(ran: &Ran, all: &[&str]) {
    for text in all {
        assert!(ran.err.contains(text) || ran.out.contains(text), "{text:?} is not in {ran:#?}");
    }
}

#[test]
fn a_push_is_checked_deployed_and_told_of_to_its_end() {
    let world = begin("{}");
    let dev = Dev::new(&world, "dev");
    dev.code("hello", "one");
    let pushed = dev.push(&[]).expect(0);
    let url = format!("http://{}/run/hello/", world.address());
    said(&pushed, &["remote: + hello  create", "remote: hello  serving, synced", &url]);
    // What it has said holds at once.
    assert_eq!(world.get("hello", "/").expect(200).text(), "one");

    // What is broken is refused, with its place, and nothing of it is kept.
    dev.write("apis/hello/main.py", "def f(:\n");
    dev.write("apis/other/main.py", &saying("other"));
    dev.commit("Break it");
    let refused = dev.push(&[]).expect(1);
    said(
        &refused,
        &["remote: error[python-syntax]", "apis/hello/main.py:1:7", "remote:   |       ^", "nothing has changed"],
    );
    assert!(world.plan()["apis"].as_array().unwrap().is_empty());
    dev.git(&["reset", "--quiet", "--hard", "HEAD~1"]).expect(0);

    // A dry run plans, and changes nothing: neither here nor in what the pusher's git knows.
    dev.code("hello", "two");
    let tried = dev.push(&["-o", "dry-run"]).expect(0);
    said(&tried, &["remote: ~ hello  update", "Plan: 1 to update", "nothing has changed"]);
    assert_eq!(world.get("hello", "/").text(), "one");
    let theirs = dev.git(&["ls-remote", "skep", "refs/heads/main"]).expect(0).out;
    assert!(theirs.contains(dev.git(&["rev-parse", "HEAD~1"]).out.trim()), "{theirs}");
    said(&dev.push(&[]).expect(0), &["remote: hello  serving, synced"]);
    assert_eq!(world.get("hello", "/").text(), "two");

    // One that does not start is taken, and the push says that it does not serve; what served goes on.
    dev.write("apis/hello/main.py", &format!("{}raise SystemExit('no luck today')\n", saying("never")));
    dev.commit("Fail at once");
    let failed = dev.push(&[]).expect(1);
    said(&failed, &["no luck today", "taken, but not all of it serves"]);
    assert_eq!(world.get("hello", "/").expect(200).text(), "two");
    dev.code("hello", "three");
    dev.push(&[]).expect(0);
    assert_eq!(world.get("hello", "/").text(), "three");

    // Who, what and why is known afterwards.
    let events = world.run(&["events", "-n", "100"]).expect(0).out;
    assert!(
        events.contains("pushed") && events.contains("by ada: ") && events.contains("hello says three"),
        "{events}"
    );
    let history = world.run(&["history", "hello", "--output", "json"]).expect(0).json();
    assert_eq!(history["revisions"][0]["origin"]["commit"]["subject"], "hello says three");

    // Not waiting; and two in quick succession, of which the newer counts.
    dev.code("hello", "four");
    dev.push(&["-o", "nowait"]).expect(0);
    dev.code("hello", "five");
    dev.push(&[]).expect(0);
    assert_eq!(world.get("hello", "/").text(), "five");

    // What is no push of the branch.
    said(&dev.git(&["push", "skep", "main:other"]).expect(1), &["only main is served here"]);
    said(&dev.git(&["push", "skep", ":main"]).expect(1), &["cannot be deleted"]);
    dev.code("hello", "six");
    said(&dev.push(&["-o", "now"]).expect(1), &["-o now: there are dry-run"]);
    // A key of somebody's own, which opens no API, and pushes until it is revoked; that of a caller does not.
    let made = world.run(&["keys", "create", "--name", "grace hopper", "--push", "--output", "json"]).expect(0).json();
    let by = |key: &str| format!("http://whoever:{key}@{}/git", world.address());
    let own = by(made["secret"].as_str().unwrap());
    dev.git(&["push", &own, "main"]).expect(0);
    assert_eq!(world.get("hello", "/").text(), "six");
    assert!(world.run(&["events", "-n", "20"]).expect(0).out.contains("by grace hopper: "));
    let closed = world.run(&["keys", "create", "--name", "caller"]).expect(0).out.trim().to_owned();
    assert_ne!(dev.git(&["ls-remote", &by(&closed)]).code, 0);
    world.run(&["keys", "revoke", made["key"]["id"].as_str().unwrap()]).expect(0);
    world.until("a revoked key pushes nothing", || dev.git(&["ls-remote", &own]).code != 0);
    assert_eq!(world.run(&["keys", "create", "--name", "x", "--push", "--api", "hello"]).code, 2);
    // Nobody gets in, or learns anything, without a key.
    let stranger = format!("http://ada:{}@{}/git", "wrong-key-wrong-key", world.address());
    assert_ne!(dev.git(&["ls-remote", &stranger]).code, 0);
    for path in ["/git/info/refs?service=git-receive-pack", "/git/HEAD", "/git/../state/lock", "/git"] {
        let answer = world.send(&Request::get(path));
        assert!(matches!(answer.status, 400 | 401), "{path}: {}", answer.status);
    }
    let clone = dev.git(&["clone", "--quiet", &format!("http://ada:{ADMIN_KEY}@{}/git", world.address()), "clone"]);
    clone.expect(0);
    assert!(dev.folder.join("clone/apis/hello/main.py").exists(), "what serves can be cloned");
}

#[test]
fn a_push_that_claims_the_host_of_a_folder_which_stays_is_refused() {
    let world = begin("{}");
    let dev = Dev::new(&world, "dev");
    let claim = |id: &str, host: &str| {
        dev.write(&format!("apis/{id}/api.yaml"), &format!("suspend: true\nroute: {{ hosts: [{host}] }}\n"));
    };
    claim("hello", "shop.example.com");
    dev.code("hello", "one");
    dev.push(&[]).expect(0);
    claim("two", "shop.example.com");
    dev.code("two", "two");
    let taken = "`route.hosts`: shop.example.com is claimed by `hello` too, which stays as it is";
    let refused = dev.push(&[]).expect(1);
    said(&refused, &["remote: error[host-taken]", taken, "apis/two/api.yaml", "This push is refused"]);
    assert!(!world.root().join("apis/two").exists());
    world.run(&["check"]).expect(0);
    // Whoever gives it up in the same push may.
    claim("hello", "other.example.com");
    dev.commit("Give it up");
    dev.push(&[]).expect(0);
    // What somebody made here by hand has its hosts as well.
    world.write("apis/by-hand/main.py", &saying("by hand"));
    world.write("apis/by-hand/api.yaml", "suspend: true\nroute: { hosts: [hand.example.com] }\n");
    claim("two", "hand.example.com");
    dev.commit("Claim what is here only");
    said(&dev.push(&[]).expect(1), &["hand.example.com is claimed by `by-hand` too"]);
    world.run(&["check"]).expect(0);
    // And goes with its folder.
    dev.git(&["rm", "-r", "--quiet", "apis/hello"]).expect(0);
    claim("two", "other.example.com");
    dev.commit("Take the place of hello");
    dev.push(&["-o", "allow-deletes"]).expect(0);
    world.run(&["check"]).expect(0);
}

#[test]
fn what_hands_changed_and_what_goes_is_asked_for_and_an_interrupted_push_deploys() {
    let world = begin("{ branch: release }");
    let dev = Dev::new(&world, "dev");
    dev.git(&["checkout", "--quiet", "-b", "release"]).expect(0);
    let push = |options: &[&str]| dev.git(&[&["push"], options, &["skep", "release"]].concat());
    for id in ["a", "b", "c", "d", "e"] {
        dev.write(&format!("apis/{id}/main.py"), &saying(id));
    }
    dev.commit("Five");
    push(&[]).expect(0);

    // Somebody edits a folder of the tree by hand: a push of another one goes ahead, a push of that one is refused.
    world.code("a", &saying("by hand"));
    world.expect_answer("a", "/", "by hand");
    dev.code("b", "b2");
    push(&[]).expect(0);
    dev.code("a", "a2");
    said(&push(&[]).expect(1), &["changed here by hand since the last push: a", "git push -o overwrite"]);
    assert_eq!(world.get("a", "/").text(), "by hand");
    push(&["-o", "overwrite"]).expect(0);
    assert_eq!(world.get("a", "/").text(), "a2");

    // More removals than the policy lets through wait for a word.
    dev.git(&["rm", "-r", "--quiet", "apis/a", "apis/b", "apis/c", "apis/d"]).expect(0);
    dev.commit("One is enough");
    let many = ["4 of 5 APIs are gone", ": a, b, c, d", "git push -o allow-deletes", "This push is refused"];
    said(&push(&[]).expect(1), &many);
    said(&push(&["-o", "dry-run"]).expect(1), &many);
    said(&push(&["-o", "dry-run", "-o", "allow-deletes"]).expect(0), &["Plan: 4 to remove; 1 unchanged"]);
    said(&push(&["-o", "nowait", "-o", "allow-deletes"]).expect(1), &["only one of them"]);
    assert_eq!(world.get("a", "/").text(), "a2");
    // Nothing of it was taken, so the same commit can be pushed with that word.
    push(&["-o", "allow-deletes"]).expect(0);
    world.expect_status("a", "/", 401);
    assert_eq!(world.get("e", "/").expect(200).text(), "e");

    // Whoever pushes goes away as soon as it has begun.
    dev.code("e", "e2");
    let mut client = dev.command(&["push", "skep", "release"]).stderr(Stdio::piped()).spawn().unwrap();
    crate::world::read_until(client.stderr.as_mut().unwrap(), "~ e  update");
    client.kill().unwrap();
    client.wait().unwrap();
    world.expect_answer("e", "/", "e2");
    world.expect_rest("e", "synced", "healthy");

    // A daemon that is killed in the middle is followed by one that goes on.
    dev.code("e", "e3");
    push(&["-o", "nowait"]).expect(0);
    world.crash();
    world.serve_with(&[("ADMIN_API_KEY", ADMIN_KEY)]);
    world.expect_answer("e", "/", "e3");
}

#[test]
fn a_push_that_renames_goes_well_one_that_empties_is_asked_for_and_one_that_is_overtaken_says_so() {
    let world = begin("{}");
    let dev = Dev::new(&world, "dev");
    dev.code("other", "other");
    dev.code("hello", "one");
    dev.push(&[]).expect(0);

    // The new name serves before the old one goes, and the push waits for both.
    dev.git(&["mv", "apis/hello", "apis/hi"]).expect(0);
    dev.commit("Rename it");
    let renamed = dev.push(&[]).expect(0);
    said(&renamed, &["serving, synced", "All 2 APIs are as the tree says."]);
    assert_eq!(world.get("hi", "/").expect(200).text(), "one");
    assert!(world.instances("hello").is_empty());

    // A folder that goes by another name is taken for no wish to have nothing served.
    dev.git(&["mv", "apis", "services"]).expect(0);
    dev.commit("Call it otherwise");
    said(&dev.push(&[]).expect(1), &["there is no folder apis/ in this commit", "git push -o allow-deletes"]);
    world.get("hi", "/").expect(200);
    dev.git(&["reset", "--quiet", "--hard", "HEAD~1"]).expect(0);

    // What comes later serves in its place, and whoever waits for the earlier one is told.
    dev.write("apis/hi/main.py", &format!("import time\ntime.sleep(30)\n{}", saying("slow")));
    dev.commit("Begin slowly");
    let mut slow = dev.command(&["push", "--porcelain", "skep", "main"]);
    let slow = slow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    world.until("the slow one is started", || world.instances("hi").len() == 2);
    dev.code("hi", "quick");
    dev.push(&[]).expect(0);
    let slow = Ran::of(slow.wait_with_output().unwrap()).expect(1);
    said(&slow, &["Superseded; in its place: ", "hi says quick", "taken, and superseded"]);
    assert_eq!(world.get("hi", "/").expect(200).text(), "quick");

    // And where nothing is to be served any more, that can be said.
    dev.git(&["rm", "-r", "--quiet", "apis"]).expect(0);
    dev.write("README.md", "nothing here");
    dev.commit("Serve nothing");
    said(&dev.push(&["-o", "allow-deletes"]).expect(0), &["No API is left, as the tree says."]);
    assert!(world.instances("hi").is_empty() && world.instances("other").is_empty());
}

#[test]
fn nothing_of_a_hostile_push_is_followed_or_run() {
    let world = begin("{ max_size: 1MiB }");
    let dev = Dev::new(&world, "dev");
    dev.code("hello", "one");
    dev.push(&[]).expect(0);
    let good = dev.git(&["rev-parse", "HEAD"]).out.trim().to_owned();
    let back = || drop(dev.git(&["reset", "--quiet", "--hard", &good]).expect(0));

    std::os::unix::fs::symlink("/etc/passwd", dev.folder.join("apis/hello/secrets.txt")).unwrap();
    dev.commit("A link");
    said(&dev.push(&[]).expect(1), &["apis/hello/secrets.txt: a symbolic link, which is never followed"]);
    back();
    std::os::unix::fs::symlink("/etc", dev.folder.join("apis/etc")).unwrap();
    dev.commit("A link for a folder");
    said(&dev.push(&[]).expect(1), &["apis/etc: a symbolic link"]);
    back();
    dev.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{good},apis/hello/sub")]).expect(0);
    dev.git(&["commit", "--quiet", "-m", "A submodule"]).expect(0);
    said(&dev.push(&[]).expect(1), &["apis/hello/sub: a submodule, which is never fetched"]);
    back();

    // Trees that no git makes: names that lead out of the folder, and into git's own.
    for name in ["..", ".git", "."] {
        let tree = tree_with(&dev, name, &good);
        let commit = dev.git(&["commit-tree", &tree, "-p", &good, "-m", "Out"]).expect(0).out.trim().to_owned();
        let pushed = dev.git(&["push", "skep", &format!("{commit}:refs/heads/main")]);
        assert_ne!(pushed.code, 0, "{name}: {pushed:?}");
    }
    // A name that is no UTF-8, and a folder that holds nothing, are refused before anything is placed.
    let empty = dev.git(&["mktree"]).out.trim().to_owned();
    for name in [&b"zz\xff"[..], b"zz"] {
        let inner = if name == b"zz" { empty.clone() } else { object(&dev, &format!("{good}:apis/hello")) };
        dev.code("hello", "never");
        let hello = object(&dev, "HEAD:apis/hello");
        back();
        let apis = make_tree(&dev, &[("40000", b"hello", &hello), ("40000", name, &inner)]);
        let tree = make_tree(&dev, &[("40000", b"apis", &apis)]);
        let commit = dev.git(&["commit-tree", &tree, "-p", &good, "-m", "Half"]).expect(0).out.trim().to_owned();
        let pushed = dev.git(&["push", "skep", &format!("{commit}:refs/heads/main")]).expect(1);
        said(&pushed, &["This push is refused, and nothing has changed"]);
        assert_eq!(world.get("hello", "/").text(), "one");
        assert!(std::fs::read_to_string(world.root().join("apis/hello/main.py")).unwrap().contains("one"));
    }
    // A tree that is tiny on its way and unfolds to a hundred million files.
    let blob = object(&dev, &format!("{good}:apis/hello/main.py"));
    let names: Vec<Vec<u8>> = (0..10).map(|n| format!("{n}{}", "x".repeat(200)).into_bytes()).collect();
    let leaf: Vec<_> = names.iter().map(|name| ("100644", name.as_slice(), blob.as_str())).collect();
    let mut bomb = make_tree(&dev, &leaf);
    for _ in 0..7 {
        let level: Vec<_> = names.iter().map(|name| ("40000", name.as_slice(), bomb.as_str())).collect();
        bomb = make_tree(&dev, &level);
    }
    let apis = make_tree(&dev, &[("40000", b"bomb", &bomb)]);
    let tree = make_tree(&dev, &[("40000", b"apis", &apis)]);
    let commit = dev.git(&["commit-tree", &tree, "-p", &good, "-m", "Bomb"]).expect(0).out.trim().to_owned();
    said(
        &dev.git(&["push", "skep", &format!("{commit}:refs/heads/main")]).expect(1),
        &["no tree of ours is that large"],
    );
    // Larger than is taken.
    let mut noise = vec![0; 3_000_000];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
    std::fs::write(dev.folder.join("apis/hello/big.bin"), noise).unwrap();
    dev.commit("Big");
    said(&dev.push(&[]).expect(1), &["pack exceeds maximum allowed size", "push.max_size of skep.yaml is 1MiB"]);
    back();

    // Filters, hooks and attributes in the tree are files like others.
    dev.write(".gitattributes", "* filter=evil\n");
    dev.write("apis/hello/.gitattributes", "* filter=evil ident\n");
    dev.write("hooks/post-receive", "#!/bin/sh\ntouch /tmp/never\n");
    let path = dev.folder.join("hooks/post-receive");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    dev.code("hello", "two $Id$");
    dev.push(&[]).expect(0);
    assert_eq!(world.get("hello", "/").text(), "two $Id$");
    // What is on this host alone, and no part of what is served, is nobody's to throw away.
    world.write("apis/hello/.env", "MINE=1\n");
    world.write("apis/.gitkeep", "\n");
    dev.write("apis/.gitkeep", "theirs\n");
    dev.code("hello", "three");
    dev.push(&[]).expect(0);
    dev.code("hello", "four");
    dev.push(&[]).expect(0);
    assert_eq!(std::fs::read_to_string(world.root().join("apis/hello/.env")).unwrap(), "MINE=1\n");
    assert_eq!(std::fs::read_to_string(world.root().join("apis/.gitkeep")).unwrap(), "\n");
    let kept = std::fs::read_dir(world.root()).unwrap().map(|entry| entry.unwrap().file_name());
    let kept: Vec<_> =
        kept.map(|name| name.to_string_lossy().into_owned()).filter(|name| name != "skep.yaml").collect();
    assert_eq!(kept, ["apis"], "nothing but the folders is placed, and nothing is left lying about");
}

/// The name of a tree in which `apis` holds an entry of a name that git itself would refuse.
fn tree_with(dev: &Dev, name: &str, good: &str) -> String {
    let inner = object(dev, &format!("{good}:apis/hello"));
    let apis = make_tree(dev, &[("40000", name.as_bytes(), &inner), ("40000", b"hello", &inner)]);
    make_tree(dev, &[("40000", b"apis", &apis)])
}

fn object(dev: &Dev, of: &str) -> String {
    dev.git(&["rev-parse", of]).expect(0).out.trim().to_owned()
}

/// A tree, byte by byte, of entries as they come.
fn make_tree(dev: &Dev, entries: &[(&str, &[u8], &str)]) -> String {
    let mut bytes = Vec::new();
    for (mode, name, object) in entries {
        bytes.extend(format!("{mode} ").into_bytes());
        bytes.extend(*name);
        bytes.push(0);
        bytes.extend((0..20).map(|n| u8::from_str_radix(&object[2 * n..2 * n + 2], 16).unwrap()));
    }
    let file = dev.folder.join(".git/a-tree");
    std::fs::write(&file, bytes).unwrap();
    let arguments = ["hash-object", "-t", "tree", "-w", "--literally", file.to_str().unwrap()];
    dev.git(&arguments).expect(0).out.trim().to_owned()
}

#[test]
fn a_push_over_ssh_comes_in_by_the_forced_command_of_a_key() {
    let world = World::new();
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    world.write("skep.yaml", &format!("{settings}push: {{}}\n"));
    world.serve();
    let dev = Dev::new(&world, "dev");
    dev.code("hello", "one");
    let (program, root, state) = (env!("CARGO_BIN_EXE_skep"), world.root(), world.state());
    let command = format!("SKEP_STATE_DIR={} {program} --root {} receive --as grace", state.display(), root.display());
    let server = Ssh::start(&world, &command);
    let key = server.folder.join("key");
    let ssh = format!(
        "ssh -i {} -o IdentitiesOnly=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        key.display()
    );
    let url = format!("ssh://{}@127.0.0.1:{}/apis", server.user, server.port);
    let git = |arguments: &[&str]| Ran::of(dev.command(arguments).env("GIT_SSH_COMMAND", &ssh).output().unwrap());
    let pushed = git(&["push", &url, "main"]).expect(0);
    said(&pushed, &["remote: hello  serving, synced"]);
    assert_eq!(world.get("hello", "/").text(), "one");
    assert!(world.run(&["events", "-n", "50"]).expect(0).out.contains("by grace: "));
    dev.write("apis/hello/main.py", "def f(:\n");
    dev.commit("Break it");
    said(&git(&["push", &url, "main"]).expect(1), &["apis/hello/main.py:1:7"]);
    // The key is good for nothing else.
    let shell = format!("{ssh} -p {} {}@127.0.0.1 cat /etc/passwd", server.port, server.user);
    let ran = Ran::of(Command::new("sh").args(["-c", &shell]).output().unwrap());
    assert!(ran.code != 0 && ran.out.is_empty(), "{ran:?}");
    said(&ran, &["this key is for `git push` and `git fetch`"]);
    // Where no daemon is at work it is deployed, and nobody is told that callers are answered.
    world.interrupt();
    dev.code("hello", "two");
    let pushed = git(&["push", &url, "main"]).expect(1);
    said(&pushed, &["hello  serving, synced", "No daemon is at work on this host", "serve", "taken, but no daemon"]);
    assert!(!pushed.err.contains("http://"), "{pushed:#?}");
    world.serve();
    world.expect_answer("hello", "/", "two");
    // And what is too large is told as it is over HTTP.
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    world.write("skep.yaml", &settings.replace("push: {}", "push: { max_size: 1MiB }"));
    let mut noise = vec![0; 3_000_000];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut noise).unwrap();
    std::fs::write(dev.folder.join("apis/hello/big.bin"), noise).unwrap();
    dev.commit("Big");
    said(&git(&["push", &url, "main"]).expect(1), &["push.max_size of skep.yaml is 1MiB"]);
}
