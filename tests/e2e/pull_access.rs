//! Ways in: tokens over HTTP, deploy keys over SSH, signatures that must be there, webhooks that must be signed.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::forge::{Forge, Server};
use crate::http::Request;
use crate::pull::{ADMIN_KEY, expect_placed, expect_trouble, follow, follow_again, look, source};
use crate::pull_now::pull;
use crate::ssh::Ssh;
use crate::world::{World, read_until};

pub fn signature(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

#[test]
fn a_webhook_has_a_source_asked_at_once_where_it_is_signed_and_new() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    forge.code("hello", "one");
    let other = format!("name: other, url: '{}', branch: none, every: 1d", forge.url());
    let team = format!("name: team, url: '{}', every: 1d, webhook: {{ env: A_HOOK }}", forge.url());
    follow(&world, &[team, other]);
    world.expect_answer("hello", "/", "one");
    let to = |path: &str, body: &str| Request::post(path, body).header("content-type", "application/json");
    let body = r#"{"ref":"refs/heads/main"}"#;
    let hub = |body: &str, secret: &str| format!("sha256={}", signature(secret, body));
    let signed = |body: &str| to("/hooks/team", body).header("x-hub-signature-256", hub(body, "s3cret-of-16-bytes"));

    // Forged ones are all answered alike, and nothing is looked at; what takes none is not there.
    forge.code("hello", "two");
    let forged = [
        to("/hooks/team", body),
        to("/hooks/team", body).header("x-hub-signature-256", hub(body, "secret")),
        to("/hooks/team", body).header("x-hub-signature-256", hub("{}", "s3cret-of-16-bytes")),
        to("/hooks/team", body).header("x-gitlab-token", "secret"),
        to("/hooks/team", body).header("x-gitea-signature", signature("", body)),
        to("/hooks/team", body).key(ADMIN_KEY),
    ];
    let answers: Vec<String> = forged.iter().map(|request| world.send(request).expect(401).text()).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    for path in ["/hooks/other", "/hooks/none", "/hooks/", "/hooks/team/", "/hooks/te%61m"] {
        let request = to(path, body).header("x-hub-signature-256", hub(body, "s3cret-of-16-bytes"));
        assert_eq!(world.send(&request).status, 404, "{path}");
    }
    assert_eq!(world.send(&Request::get("/hooks/team")).expect(405).header("allow"), Some("POST"));
    assert_eq!(source(&world, "team")["placed"]["commit"]["subject"], "hello says one");

    // A genuine one; the same once more is taken, and does nothing.
    let answer = world.send(&signed(body)).expect(202).json();
    assert_eq!(answer, serde_json::json!({ "accepted": true }));
    world.expect_answer("hello", "/", "two");
    expect_placed(&world, "team", "hello says two");
    forge.code("hello", "three");
    let again = world.send(&signed(body).header("x-github-delivery", "another")).expect(202).json();
    assert_eq!(again["again"], true);
    // Of each forge; GitLab signs in two ways.
    let next = format!("{body} ");
    world
        .send(&to("/hooks/team", &next).header("x-gitea-signature", signature("s3cret-of-16-bytes", &next)))
        .expect(202);
    world.expect_answer("hello", "/", "three");
    forge.code("hello", "four");
    let token =
        |id: &str| to("/hooks/team", body).header("x-gitlab-token", "s3cret-of-16-bytes").header("webhook-id", id);
    world.send(&token("one")).expect(202);
    world.expect_answer("hello", "/", "four");
    assert_eq!(world.send(&token("one")).expect(202).json()["again"], true);
    forge.code("hello", "five");
    let now = jiff::Timestamp::now().as_second();
    let standard = |moment: i64| {
        let mac = hex::decode(signature("s3cret-of-16-bytes", &format!("id.{moment}.{body}"))).unwrap();
        let value = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, mac);
        let headers = [("webhook-id", "id".to_owned()), ("webhook-timestamp", moment.to_string())];
        let request =
            headers.into_iter().fold(to("/hooks/team", body), |request, (name, value)| request.header(name, value));
        request.header("webhook-signature", format!("v1,{value}"))
    };
    world.send(&standard(now - 3600)).expect(401);
    world.send(&standard(now)).expect(202);
    world.expect_answer("hello", "/", "five");
    let log = world.log();
    assert!(!log.contains("s3cret-of-16-bytes"), "{log}");
}

#[test]
fn strangers_who_only_begin_a_webhook_keep_no_genuine_one_from_being_taken() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    forge.code("hello", "one");
    follow(&world, &[format!("name: team, url: '{}', every: 1d, webhook: {{ env: A_HOOK }}", forge.url())]);
    world.expect_answer("hello", "/", "one");
    let begin = |from: [u8; 4], headers: &str| {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
        socket.connect(&world.address().into()).unwrap();
        let mut socket = TcpStream::from(socket);
        write!(socket, "POST /hooks/team HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n{headers}\r\n").unwrap();
        socket
    };
    // Of one that shows nothing, nothing is waited for.
    for mut stranger in (0..64).map(|_| begin([127, 0, 0, 1], "")) {
        read_until(&mut stranger, "HTTP/1.1 401 ");
    }
    // Those who show something and send nothing; who send next to nothing, from elsewhere; and the few who do so from here.
    let shown = format!("X-Hub-Signature-256: sha256={}\r\n", "0".repeat(64));
    let silent = (0..64).map(|_| begin([127, 0, 0, 1], &shown));
    let slow = |from| {
        let mut socket = begin(from, &shown);
        socket.write_all(b"{").unwrap();
        socket
    };
    let elsewhere = (0..64).map(|_| slow([127, 0, 0, 2]));
    let here = (0..8).map(|_| slow([127, 0, 0, 1]));
    let strangers: Vec<TcpStream> = silent.chain(elsewhere).chain(here).collect();
    forge.code("hello", "two");
    let body = r#"{"ref":"refs/heads/main"}"#;
    let signed = Request::post("/hooks/team", body)
        .header("x-hub-signature-256", format!("sha256={}", signature("s3cret-of-16-bytes", body)));
    world.send(&signed).expect(202);
    world.expect_answer("hello", "/", "two");
    drop(strangers);
}

#[test]
fn a_token_opens_a_remote_over_http_and_is_shown_to_nobody() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    forge.code("hello", "one");
    // `ada:t0ken`.
    let server = Server::start(world.aside(), "Basic YWRhOnQwa2Vu");
    let url = |path: &str| format!("http://127.0.0.1:{}/{path}team.git", server.port);
    let file = world.aside().join("token");
    std::fs::write(&file, "wrong\n").unwrap();
    let token = format!("user: ada, token: {{ file: '{}' }}, every: 1h", file.display());
    let open = format!("name: open, url: '{}', branch: none, every: 1h", url(""));
    let moved = format!("name: moved, url: '{}', branch: none, user: ada, token: {{ env: A_TOKEN }}", url("moved/"));
    follow(&world, &[format!("name: team, url: '{}', {token}", url("")), open, moved]);
    let refused = expect_trouble(&world, "team", "unreachable", "");
    assert!(!refused.contains("wrong"), "{refused}");
    expect_trouble(&world, "open", "unreachable", "");
    // A token goes to the address that it is for, wherever that sends us.
    expect_trouble(&world, "moved", "unreachable", "");
    assert!(server.asked.lock().unwrap().iter().any(|line| line.contains("/moved/") && line.ends_with("false")));

    std::fs::write(&file, "t0ken\n").unwrap();
    look(&world);
    world.expect_answer("hello", "/", "one");
    forge.code("hello", "two");
    look(&world);
    world.expect_answer("hello", "/", "two");
    for (name, text) in [("log", world.log()), ("events", world.run(&["events", "-n", "200"]).expect(0).out)] {
        assert!(!text.contains("t0ken") && !text.contains("wrong"), "the {name} has it:\n{text}");
    }
    let store = world.state().join("pull/team");
    let grep = Command::new("grep").args(["-r", "t0ken"]).arg(store).output().unwrap();
    assert_eq!(grep.status.code(), Some(1), "nothing of it is kept, where things are: {grep:?}");
}

#[test]
fn a_remote_that_does_not_let_us_in_says_what_to_do_about_it() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    forge.code("hello", "one");
    let server = Server::start(world.aside(), "Basic nobody");
    let web = |name: &str, path: &str, rest: &str| {
        format!("name: {name}, url: 'http://127.0.0.1:{}/{path}team.git', every: 1h{rest}", server.port)
    };
    let ssh = Ssh::start(&world, "git-upload-pack 'nothing'");
    let make = |name: &str, phrase: &str| {
        let key = world.aside().join(name);
        let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", phrase, "-f"]).arg(&key).status();
        assert!(made.unwrap().success());
        key.display().to_string()
    };
    let hosts = |name: &str, key: &str| {
        let public = std::fs::read_to_string(key).unwrap();
        let file = world.aside().join(name);
        std::fs::write(&file, format!("[127.0.0.1]:{} {public}", ssh.port)).unwrap();
        file.display().to_string()
    };
    let (ours, sealed) = (ssh.folder.join("key").display().to_string(), make("sealed", "secret"));
    let other = make("other", "");
    let right = hosts("right", &ssh.folder.join("host.pub").display().to_string());
    let (changed, nobody) = (hosts("changed", &format!("{other}.pub")), world.aside().join("nobody"));
    std::fs::write(&nobody, "").unwrap();
    let by_key = |name: &str, key: &str, hosts: &str| {
        let url = format!("ssh://{}@127.0.0.1:{}/team.git", ssh.user, ssh.port);
        format!("name: {name}, url: '{url}', every: 1h, key: '{key}', known_hosts: '{hosts}'")
    };
    let nobody = nobody.display().to_string();
    follow(
        &world,
        &[
            web("open", "", ""),
            web("token", "", ", token: { env: A_TOKEN }"),
            web("moved", "moved/", ""),
            web("page", "page/", ""),
            by_key("no-key", "/nowhere/key", &right),
            by_key("sealed", &sealed, &right),
            by_key("no-hosts", &ours, "/nowhere/hosts"),
            by_key("unknown-host", &ours, &nobody),
            by_key("changed-host", &ours, &changed),
            by_key("other-key", &other, &right),
            "name: gone, url: 'file:///nowhere/team.git', every: 1h".to_owned(),
        ],
    );
    let at = format!("127.0.0.1:{}", ssh.port);
    for (name, kind, says) in [
        ("open", "unreachable", "it wants a login, and none is set; make a token".to_owned()),
        ("token", "unreachable", "it does not take the token".to_owned()),
        (
            "moved",
            "unreachable",
            "it sends us elsewhere (301), to /team.git, and redirects are not followed".to_owned(),
        ),
        ("page", "unreachable", "a web page answers there, and no git repository".to_owned()),
        ("no-key", "failed", "make it with: ssh-keygen -t ed25519 -N '' -f /nowhere/key".to_owned()),
        (
            "sealed",
            "failed",
            format!(
                "has a passphrase, and nobody is there to type it; take that off with: ssh-keygen -p -N '' -f {sealed}"
            ),
        ),
        (
            "no-hosts",
            "failed",
            format!("write them there with: ssh-keyscan -p {} 127.0.0.1 > /nowhere/hosts", ssh.port),
        ),
        (
            "unknown-host",
            "unreachable",
            format!("the key that {at} shows is not in {nobody}; get it with: ssh-keyscan -p {}", ssh.port),
        ),
        (
            "changed-host",
            "unreachable",
            format!("{at} shows another key than the one of it in {changed}; ask whoever runs it"),
        ),
        ("other-key", "unreachable", format!("{at} does not take the deploy key {other}; add {other}.pub")),
        ("gone", "unreachable", "there is no repository at that path".to_owned()),
    ] {
        let said = expect_trouble(&world, name, kind, &says);
        assert!(!said.contains("ssh-keygen -R") && !said.contains("-f \"") && !said.contains("@@@"), "{said}");
    }
}

#[test]
fn a_repository_of_another_user_of_this_host_is_followed_where_the_settings_name_it() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    forge.code("hello", "one");
    let given = Command::new("chown").args(["-R", "nobody"]).arg(&forge.bare).status().unwrap();
    assert!(given.success(), "tests that give files away run as root");
    follow(&world, &[format!("name: team, url: '{}', every: 1h", forge.url())]);
    world.expect_answer("hello", "/", "one");
    let trusted = std::fs::read_to_string(world.state().join("pull/team/safe.gitconfig")).unwrap();
    assert_eq!(trusted, format!("[safe]\n\tdirectory = \"{}\"\n", forge.bare.canonicalize().unwrap().display()));
}

#[test]
fn a_deploy_key_opens_a_remote_over_ssh_whose_host_shows_a_known_key() {
    let world = World::new();
    let forge = Forge::new(&world, "team");
    forge.set("uploadpack.allowFilter", "true");
    forge.code("hello", "one");
    // The key may read one repository, and do nothing else.
    let server = Ssh::start(&world, &format!("git-upload-pack '{}'", forge.bare.display()));
    let known = |key: &str| {
        let public = std::fs::read_to_string(server.folder.join(key)).unwrap();
        let file = world.aside().join("known hosts");
        std::fs::write(file, format!("[127.0.0.1]:{} {public}", server.port)).unwrap();
    };
    known("key.pub");
    let url = format!("ssh://{}@127.0.0.1:{}/team.git", server.user, server.port);
    let (key, hosts) = (server.folder.join("key"), world.aside().join("known hosts"));
    let access = format!("key: '{}', known_hosts: '{}'", key.display(), hosts.display());
    follow(&world, &[format!("name: team, url: '{url}', every: 1h, {access}")]);
    expect_trouble(&world, "team", "unreachable", "Host key verification failed");
    known("host.pub");
    look(&world);
    world.expect_answer("hello", "/", "one");
    forge.code("hello", "two");
    look(&world);
    world.expect_answer("hello", "/", "two");
}

#[test]
fn a_commit_is_served_only_where_one_of_the_named_signers_has_signed_it() {
    let world = World::new();
    let mut forge = Forge::new(&world, "team");
    let keys = world.aside().join("keys");
    std::fs::create_dir_all(&keys).unwrap();
    for name in ["ada", "eve"] {
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(keys.join(name)).status();
        assert!(made.unwrap().success());
    }
    let public = std::fs::read_to_string(keys.join("ada.pub")).unwrap();
    let signers = keys.join("allowed");
    std::fs::write(&signers, format!("ada@example.com namespaces=\"git\" {public}")).unwrap();
    let gpg = Gpg::new(&keys);
    let ring = keys.join("ring.asc");
    std::fs::write(&ring, gpg.export("grace@example.com")).unwrap();
    let by = |forge: &mut Forge, key: &str| {
        let key = keys.join(key).display().to_string();
        forge.with = vec!["gpg.format=ssh".into(), format!("user.signingKey={key}"), "commit.gpgSign=true".into()];
    };

    by(&mut forge, "ada");
    forge.code("hello", "one");
    let signed_by = format!("signed_by: {{ ssh: '{}', gpg: '{}' }}", signers.display(), ring.display());
    follow(&world, &[format!("name: team, url: '{}', every: 1h, {signed_by}", forge.url())]);
    world.expect_answer("hello", "/", "one");
    assert_eq!(expect_placed(&world, "team", "hello says one")["placed"]["signed_by"], "ada@example.com");

    forge.with.clear();
    forge.code("hello", "two");
    look(&world);
    expect_trouble(&world, "team", "unsigned", "it is not signed");
    by(&mut forge, "eve");
    forge.code("hello", "three");
    look(&world);
    expect_trouble(&world, "team", "unsigned", "is not among those of signed_by.ssh");
    // The signature of one commit on another.
    let stolen = forge.ask(&["cat-file", "commit", "HEAD~2"]).replace("hello says one", "hello says none");
    let file = forge.folder.join(".git/stolen");
    std::fs::write(&file, format!("{stolen}\n")).unwrap();
    let commit = forge.ask(&["hash-object", "-t", "commit", "-w", file.to_str().unwrap()]);
    forge.git(&["push", "--quiet", "--force", "origin", &format!("{commit}:main")]).expect(0);
    look(&world);
    expect_trouble(&world, "team", "unsigned", &commit[..10]);
    // What was placed last goes on being served, and events say why.
    assert_eq!(world.get("hello", "/").text(), "one");
    assert!(world.run(&["events", "-n", "100"]).expect(0).out.contains("unsigned"));

    gpg.sign_with(&mut forge, "mallory@example.com");
    forge.code("hello", "four");
    look(&world);
    expect_trouble(&world, "team", "unsigned", "is not among those of signed_by.gpg");
    gpg.sign_with(&mut forge, "grace@example.com");
    forge.code("hello", "five");
    look(&world);
    world.expect_answer("hello", "/", "five");
    let signer = expect_placed(&world, "team", "hello says five")["placed"]["signed_by"].clone();
    assert!(signer.as_str().unwrap().contains("grace@example.com"), "{signer}");
    // A signer who is added counts with the next look.
    by(&mut forge, "eve");
    forge.code("hello", "six");
    look(&world);
    expect_trouble(&world, "team", "unsigned", "is not among those");
    let eve = std::fs::read_to_string(keys.join("eve.pub")).unwrap();
    std::fs::write(&signers, format!("ada@example.com {public}eve@example.com {eve}")).unwrap();
    look(&world);
    world.expect_answer("hello", "/", "six");
}

#[test]
fn a_signer_who_is_taken_away_is_missed_though_the_remote_has_nothing_new() {
    let world = World::new();
    let mut forge = Forge::new(&world, "team");
    let (keys, public) = ada(&world, &mut forge);
    let allowed = keys.join("allowed");
    let allow = |who: &str| std::fs::write(&allowed, who).unwrap();
    let everybody = format!("ada@example.com {public}");
    forge.with.push("commit.gpgSign=true".to_owned());
    forge.write("tagged/other/main.py", &crate::apps::saying("other"));
    forge.code("hello", "one");
    // The commit that this tag is of is signed as well, and it is the tag that counts.
    forge.git(&["tag", "-s", "-m", "One", "v1.0"]).expect(0);
    forge.git(&["push", "--quiet", "origin", "refs/tags/v1.0"]).expect(0);
    let signed_by = format!("signed_by: {{ ssh: '{}' }}", allowed.display());
    let sources = [
        format!("name: team, url: '{}', every: 1h", forge.url()),
        format!("name: tags, url: '{}', tags: 'v*', folder: tagged, every: 1h", forge.url()),
    ];
    follow(&world, &sources);
    expect_placed(&world, "team", "hello says one");
    expect_placed(&world, "tags", "hello says one");
    world.expect_answer("hello", "/", "one");
    assert!(source(&world, "team")["placed"]["signed_by"].is_null());

    // Switched on later, it holds of what serves too.
    let settings = std::fs::read_to_string(world.root().join("skep.yaml")).unwrap();
    world.write("skep.yaml", &settings.replace("every: 1h", &format!("every: 1h, {signed_by}")));
    world.interrupt();
    allow("");
    follow_again(&world);
    for name in ["team", "tags"] {
        expect_trouble(&world, name, "unsigned", "is not among those of signed_by.ssh");
    }
    allow(&everybody);
    look(&world);
    for name in ["team", "tags"] {
        assert_eq!(expect_placed(&world, name, "hello says one")["placed"]["signed_by"], "ada@example.com");
    }
    // Taken out, she counts no more for what she has signed.
    allow("");
    let pulled = pull(&world, &["team"]).expect(1);
    assert!(pulled.out.contains("team  unsigned: ") && !pulled.out.contains("nothing new"), "{pulled:#?}");
    let said = expect_trouble(&world, "team", "unsigned", "is not among those of signed_by.ssh");
    assert!(said.contains("it serves, and "), "{said}");
    assert_eq!(world.get("hello", "/").expect(200).text(), "one", "it goes on being served");
    std::fs::remove_file(&allowed).unwrap();
    look(&world);
    expect_trouble(&world, "team", "failed", &format!("there is no file {}", allowed.display()));
    allow(&everybody);
    look(&world);
    expect_placed(&world, "team", "hello says one");
}

/// A key with which what is committed and tagged is signed, in a folder; and its public half.
fn ada(world: &World, forge: &mut Forge) -> (std::path::PathBuf, String) {
    let keys = world.aside().join("keys");
    std::fs::create_dir_all(&keys).unwrap();
    let key = keys.join("ada");
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
    assert!(made.unwrap().success());
    forge.with = vec!["gpg.format=ssh".into(), format!("user.signingKey={}", key.display())];
    (keys.clone(), std::fs::read_to_string(keys.join("ada.pub")).unwrap())
}

#[test]
fn a_signed_tag_counts_under_the_name_that_was_signed() {
    let world = World::new();
    let mut forge = Forge::new(&world, "team");
    let (keys, public) = ada(&world, &mut forge);
    let signers = keys.join("allowed");
    std::fs::write(&signers, format!("ada@example.com {public}")).unwrap();
    forge.code("hello", "one");
    forge.git(&["tag", "-s", "-m", "One", "v1.0"]).expect(0);
    forge.git(&["push", "--quiet", "origin", "refs/tags/v1.0"]).expect(0);
    let signed_by = format!("signed_by: {{ ssh: '{}' }}", signers.display());
    follow(&world, &[format!("name: team, url: '{}', tags: 'v*', every: 1h, {signed_by}", forge.url())]);
    world.expect_answer("hello", "/", "one");
    forge.code("hello", "two");
    forge.git(&["tag", "-s", "-m", "Two", "v2.0"]).expect(0);
    forge.git(&["push", "--quiet", "origin", "refs/tags/v2.0"]).expect(0);
    look(&world);
    world.expect_answer("hello", "/", "two");
    // The old one as if it were new.
    forge.git(&["push", "--quiet", "origin", "refs/tags/v1.0:refs/tags/v9.0"]).expect(0);
    look(&world);
    expect_trouble(&world, "team", "unsigned", "what was signed as tag v1.0 is given out as v9.0");
    assert_eq!(world.get("hello", "/").text(), "two");
}

/// Keys of `OpenPGP`, of which each test has its own.
struct Gpg {
    home: std::path::PathBuf,
}

impl Gpg {
    fn new(folder: &std::path::Path) -> Self {
        let gpg = Self { home: folder.join("gpg") };
        std::fs::create_dir_all(&gpg.home).unwrap();
        std::os::unix::fs::PermissionsExt::set_mode(&mut std::fs::metadata(&gpg.home).unwrap().permissions(), 0o700);
        for name in ["grace@example.com", "mallory@example.com"] {
            let made = gpg.run("gpg", &["--batch", "--quiet", "--passphrase", "", "--quick-gen-key", name, "ed25519"]);
            assert!(made.status.success(), "{made:?}");
        }
        gpg
    }

    fn run(&self, program: &str, arguments: &[&str]) -> std::process::Output {
        Command::new(program).args(arguments).env("GNUPGHOME", &self.home).output().unwrap()
    }

    fn export(&self, name: &str) -> Vec<u8> {
        self.run("gpg", &["--armor", "--export", name]).stdout
    }

    fn sign_with(&self, forge: &mut Forge, name: &str) {
        let program = self.home.join("sign");
        let text = format!("#!/bin/sh\nGNUPGHOME='{}' exec gpg \"$@\"\n", self.home.display());
        std::fs::write(&program, text).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, mode).unwrap();
        forge.with = vec![
            "gpg.format=openpgp".into(),
            format!("gpg.program={}", program.display()),
            format!("user.signingKey={name}"),
            "commit.gpgSign=true".into(),
        ];
    }
}

impl Drop for Gpg {
    fn drop(&mut self) {
        self.run("gpgconf", &["--kill", "all"]);
    }
}
