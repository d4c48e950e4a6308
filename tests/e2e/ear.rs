//! An ear: a server that others are told things at. It keeps what it hears, and checks it against what they publish.
//!
//! The shapes are those of github/rest-api-description (`repos/create-commit-status`, `repos/create-deployment`,
//! `repos/create-deployment-status`), of GitLab's docs (`api/commits`: set the status of a commit; `api/deployments`), of
//! `CreateStatusOption` in Gitea's and Forgejo's `swagger.v1.json`, and of Slack's reference of blocks.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::forge::read_head;
use crate::world::World;

/// What somebody was told.
#[derive(Debug, Clone)]
pub struct Heard {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub text: String,
    pub body: Value,
    /// What was answered.
    pub code: u16,
}

impl Heard {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// What is wrong with something, by what is published; else what a server answers.
pub type Check = fn(&Heard) -> Result<(u16, Value), String>;

/// A server that hears.
#[derive(Clone)]
pub struct Ear {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    heard: Vec<Heard>,
    /// What is wrong with what was heard.
    faults: Vec<String>,
    /// What is answered to the next ones, in place of what would be: the head, without its first word.
    next: Vec<String>,
    is_down: bool,
    /// The next one to a path that ends so is taken, and its answer is lost on the way.
    lost: Option<String>,
}

impl Ear {
    pub fn open(check: Check) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ear = Self { port: listener.local_addr().unwrap().port(), state: Arc::default() };
        let inner = ear.clone();
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let inner = inner.clone();
                std::thread::spawn(move || inner.hear(socket, check));
            }
        });
        ear
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Answers the next ones so, whatever they are.
    pub fn answer_next(&self, heads: &[&str]) {
        self.state.lock().unwrap().next.extend(heads.iter().map(ToString::to_string));
    }

    /// Takes nothing, or does again.
    pub fn set_down(&self, is_down: bool) {
        self.state.lock().unwrap().is_down = is_down;
    }

    /// Takes the next one to a path that ends so, and hangs up before it is answered.
    pub fn lose_next(&self, path: &str) {
        self.state.lock().unwrap().lost = Some(path.to_owned());
    }

    /// What was heard and taken.
    pub fn taken(&self) -> Vec<Heard> {
        let state = self.state.lock().unwrap();
        state.heard.iter().filter(|heard| (200..300).contains(&heard.code)).cloned().collect()
    }

    /// All of it.
    pub fn heard(&self) -> Vec<Heard> {
        self.state.lock().unwrap().heard.clone()
    }

    /// The states that a commit was said to be in, one after the other, and what was said of the last.
    pub fn states(&self, commit: &str) -> (Vec<String>, String) {
        let taken = self.taken();
        let of = taken.iter().filter(|heard| heard.path.ends_with(&format!("/statuses/{commit}")));
        let (mut states, mut last) = (Vec::new(), String::new());
        for heard in of {
            states.push(heard.body["state"].as_str().unwrap().to_owned());
            heard.body["description"].as_str().unwrap().clone_into(&mut last);
        }
        (states, last)
    }

    /// Waits until a commit is said to be in a state, with these words; answers with all the states that it was in.
    #[track_caller]
    pub fn expect_state(&self, world: &World, commit: &str, state: &str, text: &str) -> Vec<String> {
        world.wait(&format!("{commit} is told as {state}: {text}; so far {:?}", self.states(commit)), || {
            let (states, last) = self.states(commit);
            (states.last().is_some_and(|last| last == state) && last.contains(text)).then_some(states)
        })
    }

    #[track_caller]
    pub fn expect_no_faults(&self) {
        let state = self.state.lock().unwrap();
        assert!(state.faults.is_empty(), "{:#?}", state.faults);
    }

    fn hear(&self, mut socket: TcpStream, check: Check) {
        if self.state.lock().unwrap().is_down {
            return;
        }
        let mut reader = BufReader::new(socket.try_clone().unwrap());
        let Some(lines) = read_head(&mut reader) else { return };
        let mut first = lines[0].split(' ');
        let (method, path) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
        let headers = lines[1..].iter().filter_map(|line| line.split_once(':'));
        let headers: Vec<_> = headers.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        let mut heard = Heard { method, path, headers, text: String::new(), body: Value::Null, code: 0 };
        let mut body = vec![0; heard.header("content-length").parse().unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        heard.text = String::from_utf8(body).unwrap();
        heard.body = serde_json::from_str(&heard.text).unwrap_or_default();
        let mut state = self.state.lock().unwrap();
        let (head, answer) = if state.next.is_empty() {
            let checked = check(&heard).unwrap_or_else(|fault| {
                state.faults.push(format!("{fault}: {heard:?}"));
                (422, json!({ "message": fault }))
            });
            (format!("{} Word", checked.0), checked.1)
        } else {
            // As some servers do: whoever repeats that has to see to what it gives away.
            let shown: Vec<&str> = ["authorization", "private-token"].iter().map(|name| heard.header(name)).collect();
            let message = format!("Cannot {} {} for {}", heard.method, heard.path, shown.concat());
            (state.next.remove(0), json!({ "message": message }))
        };
        heard.code = head[..3].parse().unwrap();
        let is_lost = state.lost.take_if(|lost| heard.path.ends_with(lost.as_str())).is_some();
        state.heard.push(heard);
        drop(state);
        if is_lost {
            return;
        }
        let answer = answer.to_string();
        let length = answer.len();
        let head = format!("HTTP/1.1 {head}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
        write!(socket, "{head}Connection: close\r\n\r\n{answer}").ok();
    }
}

/// Whether a body has these keys and no others, the first of them in any case.
fn keys(body: &Value, required: &[&str], optional: &[&str]) -> Result<(), String> {
    let body = body.as_object().ok_or("the body is no object")?;
    let missing = required.iter().find(|key| !body.contains_key(**key));
    let strange = body.keys().find(|key| !required.contains(&key.as_str()) && !optional.contains(&key.as_str()));
    match (missing, strange) {
        (Some(key), _) => Err(format!("{key} is missing")),
        (_, Some(key)) => Err(format!("{key} is no key")),
        _ => Ok(()),
    }
}

fn one_of(value: &Value, words: &[&str]) -> Result<(), String> {
    let is_one = value.as_str().is_some_and(|value| words.contains(&value));
    if is_one { Ok(()) } else { Err(format!("{value} is none of {words:?}")) }
}

fn text(value: &Value, most: usize) -> Result<(), String> {
    let is_text = value.is_null() || value.as_str().is_some_and(|value| value.chars().count() <= most);
    if is_text { Ok(()) } else { Err(format!("{value} is no text of {most} characters")) }
}

fn is(what: bool, otherwise: &str) -> Result<(), String> {
    if what { Ok(()) } else { Err(otherwise.to_owned()) }
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// GitHub, to whoever shows the token `t0ken`.
pub fn github(heard: &Heard) -> Result<(u16, Value), String> {
    if heard.header("authorization") != "Bearer t0ken" {
        return Ok((401, json!({ "message": "Bad credentials", "documentation_url": "https://docs.github.com/rest" })));
    }
    is(heard.header("accept") == "application/vnd.github+json", "another media type")?;
    is(heard.header("x-github-api-version") == "2022-11-28", "another version")?;
    is(!heard.header("user-agent").is_empty(), "GitHub refuses whoever does not say what it is")?;
    let path = heard.path.strip_prefix("/repos/team/apis/").ok_or("another repository")?;
    if heard.method == "GET" {
        let sha = path.strip_prefix("deployments?sha=").and_then(|rest| rest.split('&').next());
        is(sha.is_some_and(is_commit) && path.contains("&environment=production"), "it asks for something else")?;
        return Ok((200, json!([{ "id": 77, "sha": sha, "environment": "production" }])));
    }
    is(heard.method == "POST", "another method")?;
    let body = &heard.body;
    match path.split('/').collect::<Vec<_>>().as_slice() {
        ["statuses", commit] if is_commit(commit) => {
            keys(body, &["state"], &["target_url", "description", "context"])?;
            one_of(&body["state"], &["error", "failure", "pending", "success"])?;
            text(&body["description"], 140)?;
            text(&body["context"], 255)?;
            text(&body["target_url"], 1000)?;
            Ok((201, json!({ "id": 1, "state": body["state"], "context": body["context"] })))
        }
        ["deployments"] => {
            let optional = [
                "task",
                "auto_merge",
                "required_contexts",
                "payload",
                "environment",
                "description",
                "production_environment",
            ];
            keys(body, &["ref"], &optional)?;
            is(body["ref"].as_str().is_some_and(is_commit), "the ref is no commit")?;
            is(body["auto_merge"] == false && body["required_contexts"] == json!([]), "it would be merged, or wait")?;
            text(&body["environment"], 255)?;
            Ok((201, json!({ "id": 77, "sha": body["ref"], "environment": body["environment"] })))
        }
        ["deployments", "77", "statuses"] => {
            let optional = ["target_url", "log_url", "description", "environment", "environment_url", "auto_inactive"];
            keys(body, &["state"], &optional)?;
            let states = ["error", "failure", "inactive", "in_progress", "queued", "pending", "success"];
            one_of(&body["state"], &states)?;
            text(&body["description"], 140)?;
            Ok((201, json!({ "id": 5, "state": body["state"] })))
        }
        _ => Err("there is no such path".to_owned()),
    }
}

/// GitLab, to whoever shows the token `t0ken`.
pub fn gitlab(heard: &Heard) -> Result<(u16, Value), String> {
    if heard.header("private-token") != "t0ken" {
        return Ok((401, json!({ "message": "401 Unauthorized" })));
    }
    let path = heard.path.strip_prefix("/api/v4/projects/group%2Fteam%2Fapis/").ok_or("another project")?;
    let body = &heard.body;
    let states = ["pending", "running", "success", "failed", "canceled", "skipped"];
    match (heard.method.as_str(), path.split('/').collect::<Vec<_>>().as_slice()) {
        ("POST", ["statuses", commit]) if is_commit(commit) => {
            keys(
                body,
                &["state"],
                &["ref", "name", "context", "target_url", "description", "coverage", "pipeline_id"],
            )?;
            one_of(&body["state"], &states)?;
            text(&body["description"], 255)?;
            text(&body["ref"], 255)?;
            Ok((201, json!({ "id": 93, "status": body["state"], "name": body["name"] })))
        }
        ("POST", ["deployments"]) => {
            keys(body, &["environment", "sha", "ref", "tag", "status"], &[])?;
            is(
                body["sha"].as_str().is_some_and(is_commit) && body["tag"].is_boolean(),
                "no commit, or no word on tags",
            )?;
            one_of(&body["status"], &states[1..5])?;
            Ok((201, json!({ "id": 42, "iid": 2, "status": body["status"] })))
        }
        ("PUT", ["deployments", "42"]) => {
            keys(body, &["status"], &[])?;
            one_of(&body["status"], &states[1..5])?;
            Ok((200, json!({ "id": 42, "status": body["status"] })))
        }
        _ => Err("there is no such path".to_owned()),
    }
}

/// Gitea and Forgejo, to whoever shows the token `t0ken`.
pub fn gitea(heard: &Heard) -> Result<(u16, Value), String> {
    if heard.header("authorization") != "token t0ken" {
        return Ok((401, json!({ "message": "invalid username, password or token" })));
    }
    is(heard.method == "POST" && heard.header("content-type") == "application/json", "another method or type")?;
    let commit = heard.path.strip_prefix("/api/v1/repos/team/apis/statuses/").ok_or("there is no such path")?;
    is(is_commit(commit), "no commit")?;
    keys(&heard.body, &["state"], &["context", "description", "target_url"])?;
    one_of(&heard.body["state"], &["pending", "success", "error", "failure", "warning", "skipped"])?;
    text(&heard.body["context"], 255)?;
    Ok((201, json!({ "id": 1, "status": heard.body["state"], "context": heard.body["context"] })))
}

/// What webhooks are signed with.
pub const SECRET: &str = "whsec_c2lnbmVkLWJ5LWEtdGVzdC1hbmQtbm9ib2R5LWVsc2U=";

/// Whoever takes webhooks as the Standard Webhooks specification has it.
pub fn hook(heard: &Heard) -> Result<(u16, Value), String> {
    is(heard.method == "POST" && heard.path == "/hook", "another method or path")?;
    let key = base64::engine::general_purpose::STANDARD.decode(SECRET.trim_start_matches("whsec_")).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let (id, second) = (heard.header("webhook-id"), heard.header("webhook-timestamp"));
    mac.update(format!("{id}.{second}.{}", heard.text).as_bytes());
    let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
    is(heard.header("webhook-signature") == format!("v1,{signature}"), "the signature is another")?;
    let sent: i64 = second.parse().map_err(|_| "no time")?;
    is((jiff::Timestamp::now().as_second() - sent).abs() < 300, "it is replayed")?;
    keys(&heard.body, &["type", "timestamp", "data"], &[])?;
    one_of(&heard.body["type"], &["deployed", "failed", "healed", "held"])?;
    Ok((204, Value::Null))
}

/// Slack's incoming webhooks.
pub fn slack(heard: &Heard) -> Result<(u16, Value), String> {
    is(heard.path == "/services/T0/B0/s3cret", "another path")?;
    keys(&heard.body, &["text", "blocks"], &[])?;
    let blocks = heard.body["blocks"].as_array().ok_or("no blocks")?;
    is(!blocks.is_empty() && blocks.len() <= 50, "too many blocks")?;
    for block in blocks {
        one_of(&block["type"], &["section"])?;
        one_of(&block["text"]["type"], &["mrkdwn"])?;
        text(&block["text"]["text"], 3000)?;
        is(!block["text"]["text"].as_str().unwrap_or("<").contains('<'), "it could call somebody")?;
    }
    Ok((200, Value::Null))
}
