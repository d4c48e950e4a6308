//! `skep keys`: makes, lists, rotates and revokes callers' keys.

use std::io::Read as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use jiff::Timestamp;

use super::Output;
use super::context::Context;
use crate::callers::{KeyWish, Rotation, expiry, keys_in_force, make_key, revoke_key, rotate_key};
use crate::records::{Key, KeyScope, NewKey};
use crate::report::style::{BOLD, NAME, paint, plain};
use crate::tree::{ApiId, Digest, KeyMethod, KeyPath, KeyTerms, RateLimit, Seconds};

/// By when a daemon has heard of a key that was made beside it.
const TAKEN_IN: Duration = Duration::from_millis(700);

/// Arguments of `skep keys`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skep keys create --name website --api thumbnails --expires 90d\n  skep keys create --name reader --method GET --path /items --limit 60/1m\n  skep keys create --name ada --push\n  skep keys create --name ci --plans\n  skep keys list\n  skep keys rotate k_3f9a1c7e --overlap 24h\n  skep keys revoke k_3f9a1c7e\n  skep keys hash < key.txt"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key, and show it, once
    Create(Create),
    /// List the keys that are in force; not the keys themselves, which nobody keeps
    List {
        /// How to print them.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Make a new key in the place of another, which goes on opening for a while
    Rotate {
        /// The id of the other, from `skep keys list`.
        id: String,
        /// How long the other goes on opening.
        #[arg(long, value_name = "SPAN", default_value = "24h")]
        overlap: Seconds,
        /// When the new key opens nothing any more; when the other would have, where nothing is said.
        #[arg(long, value_name = "SPAN|DAY", value_parser = expiry)]
        expires: Option<Timestamp>,
        /// How to print it; text is the key alone, for scripts.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Revoke a key; it opens nothing within a second
    Revoke {
        /// Its id, from `skep keys list`.
        id: String,
    },
    /// Read a key on standard input, and print its hash, for `keys` in skep.yaml
    Hash,
}

#[derive(Debug, clap::Args)]
struct Create {
    /// What to call it.
    #[arg(long)]
    name: String,
    /// Which API it opens; may stand several times. Without it, the key opens all.
    #[arg(long = "api", value_name = "ID")]
    apis: Vec<ApiId>,
    /// It opens no API, and lets its holder push: the password of `git push`, for one person.
    #[arg(long, conflicts_with_all = ["apis", "methods", "paths", "limit", "plan"])]
    push: bool,
    /// It opens no API, and lets its holder push pull requests to be previewed, and nothing else: for CI, see previews.md.
    #[arg(long, conflicts_with_all = ["push", "plans", "apis", "methods", "paths", "limit", "plan"])]
    previews: bool,
    /// It opens no API and changes nothing, and lets its holder ask what a tree would change: for `skep plan --remote` in CI.
    #[arg(long, conflicts_with_all = ["push", "apis", "methods", "paths", "limit", "plan"])]
    plans: bool,
    /// When it opens nothing any more: after a span, as in 90d, or from a day on, as in 2027-01-31.
    #[arg(long, value_name = "SPAN|DAY", value_parser = expiry)]
    expires: Option<Timestamp>,
    /// Which method it may be used with; may stand several times. Without it, all.
    #[arg(long = "method", value_name = "METHOD")]
    methods: Vec<KeyMethod>,
    /// How a path begins that it may be used for, as in /items; may stand several times. Without it, all.
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<KeyPath>,
    /// How many requests it may make, as in 60/1m.
    #[arg(long, value_name = "REQUESTS/SPAN", conflicts_with = "plan")]
    limit: Option<RateLimit>,
    /// The plan of skep.yaml that says how many requests it may make.
    #[arg(long)]
    plan: Option<String>,
    /// How to print it; text is the key alone, for scripts.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Runs `skep keys`.
///
/// # Errors
/// Where the records cannot be read or written, or there is no such key.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = match &args.command {
        Command::Hash => return hash(),
        Command::Create(_) => Context::open(root)?,
        // A key that has leaked is revoked whatever else is wrong.
        Command::List { .. } | Command::Revoke { .. } => Context::open_in_spite(root)?,
        Command::Rotate { .. } => Context::open_existing(root)?,
    };
    let (records, settings) = (context.records().await?, &context.settings);
    match &args.command {
        Command::Create(create) => {
            let made = make_key(&*records, settings, create.wish()).await?;
            show(&made, &context, create.output).await;
        }
        Command::List { output } => list(&keys_in_force(&*records, settings).await?, *output)?,
        Command::Rotate { id, overlap, expires, output } => {
            let rotation = Rotation { overlap: *overlap, expires: *expires };
            let (made, until) = rotate_key(&*records, settings, id, &rotation).await?;
            show(&made, &context, *output).await;
            anstream::eprintln!("Key {id} opens what it did until {until:.0}.");
        }
        Command::Revoke { id } => {
            revoke_key(&*records, settings, id).await?;
            anstream::eprintln!("Key {id} opens nothing from now on.");
        }
        Command::Hash => {}
    }
    Ok(ExitCode::SUCCESS)
}

impl Create {
    fn wish(&self) -> KeyWish {
        KeyWish {
            name: self.name.clone(),
            push: self.push,
            previews: self.previews,
            plans: self.plans,
            apis: (!self.apis.is_empty()).then(|| self.apis.clone()),
            expires: self.expires,
            methods: self.methods.clone(),
            paths: self.paths.clone(),
            plan: self.plan.clone(),
            limit: self.limit,
        }
    }
}

/// Prints a key, once it opens.
async fn show(made: &NewKey, context: &Context, output: Output) {
    if context.installation.holder().is_some() {
        // A key that is shown must open: the daemon has asked the records by then.
        tokio::time::sleep(TAKEN_IN).await;
    }
    match output {
        Output::Text => {
            anstream::println!("{}", made.secret);
            anstream::eprintln!("This is key {}. It is shown this once; only its hash is kept.", made.key.id);
        }
        Output::Json => {
            anstream::println!("{:#}", serde_json::json!({ "secret": made.secret, "key": made.key }));
        }
    }
}

fn list(keys: &[Key], output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        anstream::println!("{}", serde_json::to_string_pretty(keys)?);
        return Ok(());
    }
    let head = format!("{:<12}  {:<20}  {:<20}  {:<20}  OPENS", "ID", "NAME", "CREATED", "LAST USED");
    anstream::println!("{}", paint(head, BOLD));
    for key in keys {
        let created = if key.declared { "in skep.yaml".to_owned() } else { format!("{:.0}", key.created) };
        let used = key.last_used.map_or("never".to_owned(), |at| format!("{at:.0}"));
        let id = paint(format!("{:<12}", key.id), NAME);
        anstream::println!("{id}  {:<20}  {created:<20}  {used:<20}  {}", plain(&key.name), opens(key));
    }
    Ok(())
}

/// What a key opens, on which terms.
fn opens(key: &Key) -> String {
    let KeyTerms { expires, methods, paths, plan, limit } = &key.terms;
    let mut text = match &key.scope {
        KeyScope::All => "all".to_owned(),
        KeyScope::Apis(apis) => words(apis),
        KeyScope::Push => "pushes".to_owned(),
        KeyScope::Previews => "pushes previews".to_owned(),
        KeyScope::Plan => "plans".to_owned(),
    };
    if !methods.is_empty() || !paths.is_empty() {
        let scope = [words(methods), words(paths)].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>();
        text.push_str(&format!(" ({})", scope.join(" ")));
    }
    if let Some(limit) = limit {
        text.push_str(&format!(", {limit}"));
    } else if let Some(plan) = plan {
        text.push_str(&format!(", plan {}", plain(plan)));
    }
    let end = [*expires, key.revoked].into_iter().flatten().min();
    if let Some(end) = end {
        text.push_str(&format!(", until {end:.0}"));
    }
    text
}

fn words(items: &[impl ToString]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Prints the hash of the key on standard input.
fn hash() -> anyhow::Result<ExitCode> {
    let mut text = String::new();
    std::io::stdin().take(4096).read_to_string(&mut text).context("cannot read a key on standard input")?;
    // An editor or `echo` ends a line; a key has no blanks, and callers cannot send any.
    let key = text.trim();
    if key.is_empty() || key.contains(char::is_whitespace) {
        bail!("there is no key on standard input; write it there, as in `skep keys hash < key.txt`");
    }
    if key.len() < 32 {
        bail!("a key of fewer than 32 characters can be guessed; `skep keys create` makes good ones");
    }
    anstream::println!("{}", Digest::of(key.as_bytes()));
    Ok(ExitCode::SUCCESS)
}
