//! The rooms of ARCHITECTURE.md, held by a test: which file may name what.
//!
//! Sources are read as tokens, so that comments, strings and `use a::{b, c}` cannot mislead, and without what is
//! compiled for tests only.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

/// A file past this many lines is asking to be two.
const MAX_LINES: usize = 400;

/// What may not be named, where, and why.
struct Rule {
    /// Paths as the source writes them, in full or by their ends; macros with their `!`.
    names: &'static [&'static str],
    /// Files and folders below `src` that the rule holds for; empty for all.
    within: &'static [&'static str],
    /// Files and folders below `src` that it does not hold for.
    except: &'static [&'static str],
    reason: &'static str,
}

/// The modules that decide. They take values and give values.
const PURE: &[&str] = &[
    "contract",
    "world",
    "doctor",
    "reconcile/step.rs",
    "reconcile/plan.rs",
    "reconcile/plan",
    "reconcile/model.rs",
    "reconcile/status.rs",
    "report",
];

const RULES: &[Rule] = &[
    Rule {
        names: &["bollard"],
        within: &[],
        except: &["engine/docker"],
        reason: "the engine is a trait to everybody else, so that another kind of engine is one more folder",
    },
    Rule {
        names: &["rusqlite", "tokio_postgres", "deadpool_postgres"],
        within: &[],
        except: &["records"],
        reason: "records are a trait to everybody else, so that another database is one more folder",
    },
    Rule {
        names: &["hyper", "hyper_util"],
        within: &[],
        except: &["gateway", "admin", "reconcile/prober.rs", "reconcile/prober", "web.rs", "web/proxy.rs"],
        reason: "HTTP is spoken by those who serve it, by the prober, and by `web` for all who ask others",
    },
    Rule {
        names: &["tokio_rustls", "rustls"],
        within: &[],
        except: &["gateway/tls.rs", "gateway/connection.rs", "web.rs", "records/postgres"],
        reason: "TLS is spoken with callers, with the database and, by `web`, with others, and only there",
    },
    Rule {
        names: &["opentelemetry", "opentelemetry_sdk", "opentelemetry_otlp", "sentry"],
        within: &[],
        except: &["telemetry"],
        reason: "who collects spans and errors is a matter of one room",
    },
    Rule {
        names: &["age::Encryptor", "age::Decryptor", "age::x25519", "age::armor"],
        within: &[],
        except: &["secrets", "tree/sealed.rs"],
        reason: "who encrypts and opens is a matter of one room; the tree sees only whether a file is encrypted",
    },
    Rule {
        names: &["std::fs", "std::net::TcpStream", "std::process", "std::env", "tokio", "rand", "reqwest"],
        within: PURE,
        except: &[],
        reason: "what decides does no I/O and knows no chance, so that it can be simulated and replayed",
    },
    Rule {
        names: &["Timestamp::now", "Zoned::now", "SystemTime::now", "Instant::now"],
        within: PURE,
        except: &[],
        reason: "what decides knows only the time of the look that it is handed",
    },
    Rule {
        names: &["println!", "print!", "eprintln!", "eprint!", "dbg!"],
        within: &[],
        except: &["cli", "report", "main.rs"],
        reason: "a library does not speak to a terminal that may not be there; trace, or answer with a value",
    },
    Rule {
        names: &["process::exit", "process::abort"],
        within: &[],
        except: &[],
        reason: "an exit code is returned to main, so that what is open is closed first",
    },
    Rule {
        names: &["mpsc::unbounded_channel"],
        within: &[],
        except: &[],
        reason: "a queue without a bound is a leak under load",
    },
    Rule {
        names: &["anyhow"],
        within: &[],
        except: &["cli", "report", "main.rs"],
        reason: "an error of the library is an enum that its caller can match on",
    },
    Rule {
        names: &[
            "crate::gateway",
            "crate::admin",
            "crate::reconcile",
            "crate::records",
            "crate::engine",
            "crate::secrets",
            "crate::cli",
        ],
        within: &["tree", "settings.rs", "settings"],
        except: &[],
        reason: "what should be does not know how it comes about",
    },
    Rule {
        names: &[
            "crate::engine",
            "records::Records",
            "records::sqlite",
            "records::postgres",
            "tree::Scanner",
            "crate::reconcile",
            "crate::admin",
        ],
        within: &["gateway"],
        except: &[],
        reason: "the gateway reads only its own snapshot, and serves with everything else down",
    },
];

#[test]
fn every_name_stays_in_its_room() {
    let mut found = Vec::new();
    for source in sources() {
        for Name { path, line } in source.names() {
            for rule in RULES.iter().filter(|rule| rule.holds_for(&source.path)) {
                if rule.names.iter().any(|name| is_named_by(name, &path)) {
                    found.push(format!("src/{}:{line}: names {path}: {}", source.path, rule.reason));
                }
            }
        }
    }
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_file_is_short_enough_to_be_one_noun() {
    let long: Vec<String> = sources()
        .iter()
        .map(|source| (source.text.lines().count(), &source.path))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, path)| format!("src/{path} has {lines} lines; past {MAX_LINES} it is asking to be two"))
        .collect();
    assert!(long.is_empty(), "\n{}\n", long.join("\n"));
}

#[test]
fn every_file_begins_by_saying_what_it_is() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|source| !source.is_for_tests() && !source.text.starts_with("//! "))
        .map(|source| format!("src/{} does not begin with a `//!` line", source.path))
        .collect();
    assert!(silent.is_empty(), "\n{}\n", silent.join("\n"));
}

#[test]
fn a_rule_speaks_of_files_that_are_there() {
    for path in RULES.iter().flat_map(|rule| rule.within.iter().chain(rule.except)) {
        assert!(src().join(path).exists(), "a rule names src/{path}, which does not exist");
    }
}

#[test]
fn names_are_seen_through_groups_and_not_in_comments_strings_or_tests() {
    let text = r#"
        //! std::fs is only spoken of here.
        use std::{fs::{self, File}, io};
        use a::b as c;
        fn f() { println!("tokio::fs"); jiff::Timestamp::now(); /* rand::rng() */ }
        #[cfg(test)]
        mod tests { use rand::rng; }
        #[test]
        fn g() { rand::rng(); }
    "#;
    let source = Source { path: "x.rs".to_owned(), text: text.to_owned() };
    let names: Vec<String> = source.names().into_iter().map(|name| name.path).collect();
    for named in ["std::fs", "std::io", "std::fs::File", "a::b", "println!", "Timestamp::now"] {
        assert!(names.iter().any(|path| is_named_by(named, path)), "{named} is not among {names:?}");
    }
    for unnamed in ["tokio", "rand", "fs::io"] {
        assert!(!names.iter().any(|path| is_named_by(unnamed, path)), "{unnamed} is among {names:?}");
    }
}

impl Rule {
    fn holds_for(&self, path: &str) -> bool {
        let is_below =
            |room: &&str| path == *room || path.strip_prefix(*room).is_some_and(|rest| rest.starts_with('/'));
        (self.within.is_empty() || self.within.iter().any(is_below)) && !self.except.iter().any(is_below)
    }
}

/// Whether the segments of `name` stand side by side in `path`; a crate's name only at its beginning.
fn is_named_by(name: &str, path: &str) -> bool {
    let wanted: Vec<&str> = name.split("::").collect();
    let segments: Vec<&str> = path.split("::").collect();
    if wanted.len() == 1 && !name.ends_with('!') {
        return segments.first() == wanted.first() && (segments.len() > 1 || path == name);
    }
    segments.windows(wanted.len()).any(|window| window == wanted)
}

/// One file of ours.
struct Source {
    /// Below `src`, with `/` between segments.
    path: String,
    text: String,
}

/// A path that a source names, as in `std::fs::read` or `println!`.
struct Name {
    path: String,
    line: usize,
}

impl Source {
    /// Whether it is compiled for tests only, by the name that we give such files.
    fn is_for_tests(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// Every path that it names outside of tests.
    fn names(&self) -> Vec<Name> {
        if self.is_for_tests() {
            return Vec::new();
        }
        let tokens = TokenStream::from_str(&self.text).unwrap_or_else(|error| panic!("src/{}: {error}", self.path));
        let mut names = Vec::new();
        collect(tokens, "", &mut names);
        names
    }
}

/// Collects the paths in `tokens`, each behind `prefix`.
fn collect(tokens: TokenStream, prefix: &str, names: &mut Vec<Name>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        match token {
            TokenTree::Punct(sign) if sign.as_char() == '#' => at = after_attribute(&tokens, at),
            TokenTree::Ident(first) => {
                let line = first.span().start().line;
                let mut path = format!("{prefix}{first}");
                at += 1;
                while is_path_separator(&tokens[at..]) {
                    match tokens.get(at + 2) {
                        Some(TokenTree::Ident(next)) => {
                            path = format!("{path}::{next}");
                            at += 3;
                        }
                        Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                            collect(group.stream(), &format!("{path}::"), names);
                            at += 3;
                        }
                        _ => at += 2,
                    }
                }
                if matches!(tokens.get(at), Some(TokenTree::Punct(sign)) if sign.as_char() == '!')
                    && matches!(tokens.get(at + 1), Some(TokenTree::Group(_)))
                {
                    path.push('!');
                }
                names.push(Name { path, line });
            }
            TokenTree::Group(group) => {
                collect(group.stream(), "", names);
                at += 1;
            }
            _ => at += 1,
        }
    }
}

/// The place after the attribute at `at`, and after the item that it is on where that is for tests only.
fn after_attribute(tokens: &[TokenTree], at: usize) -> usize {
    let is_inner = matches!(tokens.get(at + 1), Some(TokenTree::Punct(sign)) if sign.as_char() == '!');
    let body = at + 1 + usize::from(is_inner);
    let Some(TokenTree::Group(attribute)) = tokens.get(body) else { return at + 1 };
    if is_inner || !is_for_tests(attribute) {
        return body + 1;
    }
    // An item ends with its body, or with a semicolon where it has none.
    let end = tokens[body + 1..].iter().position(|token| match token {
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        TokenTree::Punct(sign) => sign.as_char() == ';',
        _ => false,
    });
    end.map_or(tokens.len(), |end| body + 1 + end + 1)
}

/// Whether an attribute is `#[cfg(test)]`, `#[test]`, `#[tokio::test]` or of that kind.
fn is_for_tests(attribute: &Group) -> bool {
    let text: String = attribute.stream().to_string().split_whitespace().collect();
    text == "cfg(test)" || text == "test" || text.starts_with("cfg(all(test,") || text.starts_with("tokio::test")
}

/// Whether the tokens begin with `::`.
fn is_path_separator(tokens: &[TokenTree]) -> bool {
    let is_colon = |token: &TokenTree| matches!(token, TokenTree::Punct(sign) if sign.as_char() == ':');
    matches!(tokens, [first, second, ..] if is_colon(first) && is_colon(second))
}

fn src() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// All files of ours, in order of path.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    let mut folders = vec![src()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let below = path.strip_prefix(src()).unwrap().to_str().unwrap().to_owned();
                sources.push(Source { path: below, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    assert!(!sources.is_empty(), "there is no source to hold to anything");
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    sources
}
