//! Pushes that break off, come all at once, or are waited for by nobody.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use base64::Engine as _;

use crate::apps::saying;
use crate::previews::{expect_gone, telling, told, world_with};
use crate::push::{ADMIN_KEY, Dev, begin, said};
use crate::world::{Ran, World, read_until};

/// How many processes answer git's requests in a world.
fn at_work(world: &World) -> usize {
    let ours = format!("GIT_PROJECT_ROOT={}", world.state().display());
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let environments = processes.filter_map(|process| std::fs::read(process.path().join("environ")).ok());
    environments.filter(|environment| environment.split(|byte| *byte == 0).any(|it| it == ours.as_bytes())).count()
}

/// A push of which so much has come, and no more.
fn begun(world: &World, length: usize) -> TcpStream {
    let coded = base64::engine::general_purpose::STANDARD.encode(format!("ada:{ADMIN_KEY}"));
    let (none, some) = ("0".repeat(40), "a".repeat(40));
    let command = format!("{none} {some} refs/heads/main\0 report-status side-band-64k");
    let mut stream = TcpStream::connect(world.address()).unwrap();
    let head = format!(
        "POST /git/git-receive-pack HTTP/1.1\r\nhost: skep.test\r\nauthorization: Basic {coded}\r\n\
         content-type: application/x-git-receive-pack-request\r\ncontent-length: {length}\r\n\r\n"
    );
    let body = format!("{:04x}{command}0000PACK\0\0\0\x02\0\0\0\x09", command.len() + 4);
    stream.write_all((head + &body).as_bytes()).unwrap();
    stream
}

fn push_from(dev: &Dev, arguments: &[&str]) -> Child {
    let mut git = dev.command(&[&["push", "--porcelain"], arguments].concat());
    git.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn slowly(text: &str) -> String {
    format!("import time\ntime.sleep(90)\n{}", saying(text))
}

#[test]
fn pushes_that_break_off_leave_nothing_behind_and_keep_nobody_out() {
    let world = begin("{}");
    let dev = Dev::new(&world, "dev");
    dev.code("hello", "one");
    dev.push(&[]).expect(0);
    // One that says nothing more, and does not go either.
    let silent = begun(&world, 100_000);
    world.until("it is being read", || at_work(&world) > 0);
    let cut: Vec<TcpStream> = (0..8).map(|_| begun(&world, 100_000)).collect();
    drop(cut);
    // One that says that this was all, and it was not.
    let mut short = begun(&world, 1);
    short.shutdown(std::net::Shutdown::Write).unwrap();
    let _ = short.read_to_end(&mut Vec::new());
    dev.code("hello", "two");
    dev.push(&[]).expect(0);
    dev.git(&["fetch", "--quiet", "skep"]).expect(0);
    world.until("nothing is at work any more", || at_work(&world) == 0);
    drop(silent);
    let left = std::fs::read_dir(world.state().join("git/objects")).unwrap().filter_map(Result::ok);
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with("tmp_objdir"));
    assert_eq!(left.count(), 0, "git has tidied up");
    assert_eq!(world.get("hello", "/").text(), "two");
}

#[test]
fn a_fetch_whose_request_is_compressed_is_answered() {
    let world = begin("{}");
    let dev = Dev::new(&world, "dev");
    dev.code("hello", "0");
    for number in 1..60 {
        dev.git(&["commit", "--quiet", "--allow-empty", "-m", &number.to_string()]).expect(0);
    }
    dev.push(&[]).expect(0);
    let url = format!("http://ada:{ADMIN_KEY}@{}/git", world.address());
    dev.git(&["clone", "--quiet", &url, "clone"]).expect(0);
    let clone = Dev { folder: dev.folder.join("clone") };
    // So many commits that only one side has, that git compresses what it asks.
    for number in 0..60 {
        clone.git(&["commit", "--quiet", "--allow-empty", "-m", &format!("own {number}")]).expect(0);
    }
    dev.code("hello", "1");
    dev.push(&[]).expect(0);
    let trace = clone.command(&["fetch"]).env("GIT_CURL_VERBOSE", "1").env("GIT_TRACE_CURL_NO_DATA", "1").output();
    let fetched = Ran::of(trace.unwrap()).expect(0);
    assert!(fetched.err.to_lowercase().contains("content-encoding: gzip"), "it is compressed: {}", fetched.err);
    let (theirs, ours) = (clone.git(&["rev-parse", "origin/main"]).out, dev.git(&["rev-parse", "main"]).out);
    assert_eq!(theirs, ours);
}

#[test]
fn a_push_during_a_deploy_supersedes_it_however_many_came_before_and_who_waits_hears_of_it_at_once() {
    let world = begin("{}");
    let dev = Dev::new(&world, "dev");
    dev.code("hello", "one");
    dev.push(&[]).expect(0);
    let mut waiting: Option<Child> = None;
    for number in 0..6 {
        dev.write("apis/hello/main.py", &slowly(&format!("slow {number}")));
        dev.commit(&format!("Slow {number}"));
        let mut next = push_from(&dev, &["skep", "main"]);
        read_until(next.stderr.as_mut().unwrap(), "Plan: 1 to update");
        if let Some(before) = waiting.replace(next) {
            let before = Ran::of(before.wait_with_output().unwrap()).expect(1);
            said(&before, &["Superseded; in its place: ", &format!("Slow {number}"), "taken, and superseded"]);
            assert_eq!(world.get("hello", "/").text(), "one", "nothing has come to rest meanwhile");
        }
    }
    // Whoever goes away ends what was run for them, and nothing else.
    let mut last = waiting.unwrap();
    last.kill().unwrap();
    last.wait().unwrap();
    world.until("nobody is waited for", || at_work(&world) == 0);
    assert_eq!(world.get("hello", "/").text(), "one");
    world.until("its deploy goes on", || world.instances("hello").len() > 1);
    dev.code("hello", "quick");
    dev.push(&[]).expect(0);
    assert_eq!(world.get("hello", "/").expect(200).text(), "quick");
}

#[test]
fn previews_are_pushed_and_ended_however_many_are_waited_for() {
    let (world, dev, key) = world_with("{}");
    let made = world.run(&["keys", "create", "--name", "ci", "--previews"]).expect(0).out.trim().to_owned();
    let ci = format!("http://x:{made}@{}/git", world.address());
    dev.write("apis/hello/main.py", &format!("import time\ntime.sleep(90)\n{}", telling("slow")));
    dev.commit("Slowly");
    let mut slow: Vec<Child> = Vec::new();
    for number in 1..=4 {
        let mut next = push_from(&dev, &[&ci, &format!("+HEAD:refs/previews/{number}")]);
        read_until(next.stderr.as_mut().unwrap(), "create");
        slow.push(next);
    }
    dev.write("apis/hello/main.py", &telling("quick"));
    dev.commit("Quickly");
    dev.git(&["push", &ci, "+HEAD:refs/previews/5"]).expect(0);
    assert_eq!(told(&world, "hello--pr-5", &key)["text"], "quick");
    // What ends is told to whoever waits for it.
    let six = push_from(&dev, &[&ci, "+HEAD~1:refs/previews/6"]);
    world.until("it is there", || world.state().join("previews/hello--pr-6").exists());
    dev.git(&["push", &ci, ":refs/previews/6"]).expect(0);
    expect_gone(&world, "hello--pr-6");
    let six = Ran::of(six.wait_with_output().unwrap()).expect(1);
    said(&six, &["Superseded; in its place: nothing", "taken, and superseded"]);
    said(&dev.git(&["push", &ci, "HEAD:refs/previews/0"]).expect(1), &["refs/previews/NUMBER", "from 1 on"]);
    for mut left in slow {
        left.kill().unwrap();
        left.wait().unwrap();
    }
    world.until("nobody is waited for", || at_work(&world) == 0);
}
