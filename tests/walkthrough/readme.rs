//! The first ten minutes with the README of this repository, in a terminal: its commands are read from it and run as they
//! stand, so that it says nothing that is not so.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use skep::engine::Engine as _;
use skep::engine::docker::Docker;
use skep::settings::Settings;

use crate::terminal::{INTERRUPT, Ran, Terminal};
use crate::{PORT, copy, dismantle};

const README: &str = include_str!("../../README.md");
const PUSHING: &str = include_str!("../../docs/push.md");

/// What `docs/push.md` calls the host.
const HOST: &str = "apis.example.com";

#[test]
fn trying_it_goes_as_the_readme_says() {
    let (command, comment) = commands(block(README, "## Try it", "sh")).swap_remove(0);
    assert_eq!(command, "make run");
    let place = Place::new();
    copy(&repository().join("apis"), &place.root().join("apis"));
    fs::copy(repository().join("skep.yaml"), place.root().join("skep.yaml")).expect("a file can be copied");
    let mut serve = place.terminal();
    // What it does once all is set up and built, with this build of the program.
    let recipe = serve.run(&format!("make --no-print-directory -C {} -n run", repository().display())).good();
    let last = recipe.text.lines().rfind(|line| !line.is_empty()).expect("a recipe has lines").to_owned();
    let script = repository().join("scripts/with-engine");
    let last = last.replace("target/release/skep", "skep").replace("scripts/with-engine", &script.to_string_lossy());
    serve.begin(last.strip_prefix("exec ").expect("the program takes the recipe's place"));
    serve.wait_for("Ctrl-C stops skep");
    let shown = serve.screen();
    let curls: Vec<&str> = shown.lines().map(str::trim).filter(|line| line.starts_with("curl ")).collect();
    assert_eq!(curls.len(), 3, "{comment}:\n{shown}");
    let apis = fs::read_dir(place.root().join("apis")).expect("it is there").count();
    assert!(comment.contains("eight APIs of apis/") && apis == 8, "{comment}, and there are {apis}");
    assert!(shown.contains("skep serves 8 APIs"), "{shown}");
    let mut user = place.terminal();
    for curl in &curls {
        user.run(&format!("{curl} --silent --show-error --fail-with-body")).good();
    }

    // A line of the code is changed, saved, and called again.
    let file = place.root().join("apis/hello/main.py");
    let code = fs::read_to_string(&file).expect("the API is there");
    let changed = code.replacen("Hello", "Good morning", usize::MAX);
    assert_ne!(code, changed, "{}", file.display());
    fs::write(file, changed).expect("it can be written");
    let_in(&mut user);
    user.run(&place.until_it_says("Good morning")).good();

    // Ctrl-C ends the daemon, and nothing that it runs.
    // Once what served before has gone.
    let of_hello = |all: &[String]| all.iter().filter(|name| name.starts_with("skep-hello-")).count();
    let begun = std::time::Instant::now();
    let mut before = place.instances();
    while of_hello(&before) > 1 {
        assert!(begun.elapsed().as_secs() < 60, "{before:?}");
        std::thread::sleep(std::time::Duration::from_millis(100));
        before = place.instances();
    }
    serve.press(INTERRUPT);
    serve.end("skep serve").good().says(&["containers go on running"]);
    assert!(!before.is_empty() && place.instances() == before, "{before:?}");
    serve.begin("skep serve");
    user.run(&place.until_it_says("Good morning")).good();
    assert_eq!(place.instances(), before, "the next start takes them over");
}

#[test]
fn a_tree_of_ones_own_goes_as_the_readme_says() {
    let place = Place::new();
    let main = place.root().join("apis/hello/main.py");
    let code = block(README, "## Your own tree", "python");
    write(&main, code);
    write(&place.root().join("skep.yaml"), "push: {}\n");
    let (mut user, mut serve, mut dev) = (place.terminal(), place.terminal(), Dev::new(&place, code));
    let mut played = 0;
    for (command, comment) in commands(block(README, "## Your own tree", "sh")) {
        let command = command.replace(PORT, &place.port.to_string());
        match command.split(" -H ").next().expect("a command has a word") {
            "skep check" => {
                write(&main, &code.replacen("FastAPI()", "FastAPI(", 1));
                let found = user.run(&without_engine(&command)).ends_with(1).in_colour();
                found.says(&["apis/hello/main.py:", "^"]);
                write(&main, code);
                user.run(&without_engine(&command)).good().says(&["1 API, no findings"]);
            }
            "skep plan" => {
                let planned = user.run(&command).good().in_colour();
                planned.says(&["+ hello  create", "callers   /run/hello answers", "Plan: 1 to create"]);
            }
            "skep apply" => {
                let applied = user.run(&command).good().in_colour();
                let (moved, end) = (applied.raw.contains('\r'), "The one API is as the tree says.");
                // A line that changes in place, and goes when all is done.
                assert!(moved && applied.text.contains("installing its requirements"), "{}", applied.text);
                let screen = user.screen();
                assert!(screen.contains(end) && !screen.contains("installing its requirements"), "{screen}");
                applied.says(&["hello  serving, synced", end]);
            }
            "skep serve" => {
                serve.begin(&command);
                let_in(&mut user);
                user.run(&place.until_it_says("Hello, world!")).good();
            }
            "git push skep main" => dev.pushes(&place, &mut user, &command),
            // This tree follows nothing, and is told how to.
            "skep pull" => drop(user.run(&command).ends_with(1).says(&["`pull` in skep.yaml names what it follows"])),
            "skep explain hello" => {
                let explained = user.run(&command).good().in_colour();
                explained.says(&["pushed to main", "commit", "callers reach it", "answers callers"]);
            }
            "skep plan --base origin/main" => {
                let planned = dev.terminal.run(&without_engine(&command)).good().in_colour();
                planned.says(&["~ hello  update", "Plan: 1 to update; 0 unchanged."]);
            }
            "skep check --boot" => drop(user.run(&command).good().says(&["hello boots in ", "1 API, no findings"])),
            "skep lock" => {
                user.run(&command).good().says(&["hello: ", "fastapi "]);
                assert!(place.root().join("apis/hello/requirements.lock").is_file());
                user.run("skep apply").good();
            }
            "skep secrets set hello TOKEN" => {
                user.begin(&command);
                user.wait_for("TOKEN (nothing is shown): ");
                user.wait_until_hidden();
                user.press("hush-hush\r");
                user.end(&command).good().says(&["TOKEN of hello is set"]);
                assert!(!user.screen().contains("hush-hush"), "{}", user.screen());
                user.run("skep apply").good();
            }
            // What it finds is this host's, and not ours to say.
            "skep doctor" => drop(user.run(&command).in_colour().says(&["engine", "storage", "index"])),
            "skep rollback hello" => {
                user.run(&command).good().says(&["hello is as it was asked to be"]);
                user.run("skep status").good().says(&["hello", "held"]);
            }
            "skep keys create --name website" => {
                let made = user.run(&command).good().says(&["It is shown this once"]);
                let key = made.text.split_whitespace().find(|word| word.starts_with("skep_")).expect("it is shown");
                user.run(&format!("KEY={key}")).good();
            }
            "skep adopt" => drop(user.run(&command).good()),
            "skep usage --by key" => drop(user.run(&command).good().says(&["KEY", "me"])),
            "curl" => {
                user.run(&command).good().says(&["\"message\"", "world"]);
                // It is written down within a second.
                user.run("until skep usage --by key | grep website; do sleep 0.2; done").good();
            }
            _ => panic!("the README has a command that is not played here: {command} # {comment}"),
        }
        played += 1;
    }
    assert_eq!(played, 17, "a command that was played is in the README no more");

    // What an API needs, in its own file.
    write(&place.root().join("apis/hello/api.yaml"), block(README, "## Your own tree", "yaml"));
    user.run("skep check").good().says(&["1 API, no findings"]);
    user.run("skep apply").good().says(&["The one API is as the tree says."]);
    user.run("skep status").good().says(&["hello", "2/2"]);

    // Keys that save typing.
    user.run("source <(skep completions bash)").good();
    user.begin("");
    user.press("skep rollb\t");
    user.wait_for("skep rollback ");
    user.press(INTERRUPT);
    serve.press(INTERRUPT);
    serve.end("skep serve").good();
}

/// Somebody who pushes from a checkout of their own, to the host and to where the team's repository lies.
struct Dev {
    folder: PathBuf,
    terminal: Terminal,
}

impl Dev {
    fn new(place: &Place, code: &str) -> Self {
        let folder = place.folder.path().join("checkout");
        write(&folder.join("apis/hello/main.py"), code);
        let mut terminal = Terminal::open(&folder, &place.home(), &[]);
        let origin = place.folder.path().join("origin.git");
        for git in [
            "git config --global user.name Ada",
            "git config --global user.email ada@example.com",
            "git init --quiet --initial-branch main",
            &format!("git init --quiet --bare {}", origin.display()),
            &format!("git remote add origin {}", origin.display()),
            "git add --all",
            "git commit --quiet --message 'Say hello'",
            "git push --quiet origin main",
        ] {
            terminal.run(git).good();
        }
        Self { folder, terminal }
    }

    /// As `docs/push.md` says, whose commands are read from it.
    fn pushes(&mut self, place: &Place, user: &mut Terminal, command: &str) {
        let told = commands(block(PUSHING, "### Over HTTP", "sh"));
        let [(create, _), (add, _), (push, _)] = &told[..] else { panic!("docs/push.md: {told:?}") };
        assert_eq!(push, command);
        let made = user.run(create).good();
        let key = made.text.split_whitespace().find(|word| word.starts_with("skep_")).expect("it is shown");
        let here = format!("127.0.0.1:{}", place.port);
        self.terminal.run(&add.replace(HOST, &here)).good();
        // What is there already, and once more with a change.
        self.push(command, key).good();
        self.say("Good morning");
        let pushed = self.push(command, key).good();
        let url = format!("hello  http://{here}/run/hello/");
        pushed.says(&["remote: ~ hello  update", "remote: hello  serving, synced", &url, "main -> main"]);
        user.run(&place.until_it_says("Good morning, world!")).good();

        // What is broken is refused, with its place.
        let main = self.folder.join("apis/hello/main.py");
        let code = fs::read_to_string(&main).expect("it is there");
        write(&main, &code.replacen("FastAPI()", "FastAPI(", 1));
        self.commit("Break it");
        let refused = self.push(command, key).ends_with(1);
        refused.says(&["remote: error[python-syntax]", "^", "This push is refused, and nothing has changed."]);
        self.terminal.run("git reset --quiet --hard HEAD~1").good();

        // Whoever looks no longer stops nothing.
        self.say("Good evening");
        self.begin(command, key);
        self.terminal.wait_for("remote: ~ hello  update");
        self.terminal.press(INTERRUPT);
        self.terminal.end(command).interrupted();
        user.run(&place.until_it_says("Good evening, world!")).good();
    }

    fn say(&self, greeting: &str) {
        let main = self.folder.join("apis/hello/main.py");
        let code = fs::read_to_string(&main).expect("it is there");
        let line = code.lines().find(|line| line.contains("message")).expect("it says something");
        write(&main, &code.replace(line, &format!("    return {{\"message\": f\"{greeting}, {{name}}!\"}}")));
    }

    fn commit(&mut self, subject: &str) {
        self.terminal.run(&format!("git commit --quiet --all --message '{subject}'")).good();
    }

    fn push(&mut self, command: &str, key: &str) -> Ran {
        self.begin(command, key);
        self.terminal.end(command)
    }

    /// Commits what has changed, pushes, and answers the question for the password.
    fn begin(&mut self, command: &str, key: &str) {
        self.terminal.run("git diff --quiet || git commit --quiet --all --message 'Say it otherwise'").good();
        self.terminal.begin(command);
        self.terminal.wait_for("Password for 'http://ada@");
        self.terminal.wait_until_hidden();
        self.terminal.press(&format!("{key}\r"));
    }
}

/// A host with a tree, a home and a port of its own.
struct Place {
    folder: tempfile::TempDir,
    port: u16,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        for name in ["host", "home"] {
            fs::create_dir(folder.path().join(name)).expect("a folder can be made");
        }
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        Self { folder, port }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("host")
    }

    fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    fn terminal(&self) -> Terminal {
        Terminal::open(&self.root(), &self.home(), &[("SKEP_LISTEN", &format!("127.0.0.1:{}", self.port))])
    }

    /// A command that ends once the API says that.
    fn until_it_says(&self, text: &str) -> String {
        let url = format!("http://127.0.0.1:{}/run/hello/", self.port);
        format!("until curl --silent -H \"Authorization: Bearer $ME\" {url} | grep '{text}'; do sleep 0.1; done")
    }

    /// The names of all that runs.
    fn instances(&self) -> Vec<String> {
        let owner = fs::read_to_string(self.root().join(".skep/installation")).expect("there is an installation");
        let engine = Docker::connect(&Settings::built_in(&self.root()), owner.trim()).expect("the owner mark is whole");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("threads can be had");
        let all = runtime.block_on(engine.instances(None)).expect("the engine answers");
        let mut names: Vec<String> = all.into_iter().map(|instance| instance.name.to_string()).collect();
        names.sort();
        names
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        dismantle(&self.root(), &self.root().join(".skep"));
    }
}

/// Lets the tests themselves in.
fn let_in(user: &mut Terminal) {
    user.run("ME=$(skep keys create --name me)").good();
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file stands in a folder")).expect("a folder can be made");
    fs::write(path, text).expect("a file can be written");
}

/// The same command where no engine answers.
fn without_engine(command: &str) -> String {
    format!("DOCKER_HOST=tcp://127.0.0.1:1 {command}")
}

/// The first block in that language below a heading.
fn block<'a>(text: &'a str, heading: &str, language: &str) -> &'a str {
    let (_, below) = text.split_once(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no {heading}"));
    let block = below.split_once(&format!("\n```{language}\n")).and_then(|(_, rest)| rest.split_once("```"));
    block.unwrap_or_else(|| panic!("below {heading} there is no block of {language}")).0
}

/// The commands of a block, each with what is said of it.
fn commands(block: &str) -> Vec<(String, String)> {
    let command = |line: &str| {
        let (command, comment) = line.split_once(" #").unwrap_or((line, ""));
        (command.trim().to_owned(), comment.trim().to_owned())
    };
    block.lines().filter(|line| !line.trim().is_empty()).map(command).collect()
}
