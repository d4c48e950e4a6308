//! `skep keys`: makes, lists and revokes callers' keys.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;

use super::Output;
use super::context::Context;
use super::serve::REFRESH_EVERY;
use crate::records::{KeyScope, NewKey, Records};
use crate::report::style::{BOLD, NAME, paint, plain};
use crate::tree::ApiId;

/// Arguments of `skep keys`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skep keys create --name website --api thumbnails\n  skep keys list\n  skep keys revoke k_3f9a1c7e"
)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a key, and show it, once
    Create {
        /// What to call it.
        #[arg(long)]
        name: String,
        /// Which API it opens; may stand several times. Without it, the key opens all.
        #[arg(long = "api", value_name = "ID")]
        apis: Vec<ApiId>,
        /// How to print it; text is the key alone, for scripts.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// List the keys that are in force; not the keys themselves, which nobody keeps
    List {
        /// How to print them.
        #[arg(long, value_enum, default_value_t)]
        output: Output,
    },
    /// Revoke a key; it opens nothing within a second
    Revoke {
        /// Its id, from `skep keys list`.
        id: String,
    },
}

/// Runs `skep keys`.
///
/// # Errors
/// Where the records cannot be read or written, or there is no such key.
pub async fn run(args: &Args, root: &Path) -> anyhow::Result<ExitCode> {
    let context = match args.command {
        Command::Create { .. } => Context::open(root)?,
        Command::List { .. } | Command::Revoke { .. } => Context::open_existing(root)?,
    };
    let records = context.records()?;
    match &args.command {
        Command::Create { name, apis, output } => {
            let scope = if apis.is_empty() { KeyScope::All } else { KeyScope::Apis(apis.clone()) };
            let made = NewKey::generate(name, scope, Timestamp::now());
            records.add_key(&made.key).await?;
            if context.installation.holder().is_some() {
                // A key that is shown must open: the daemon has asked the records by then.
                tokio::time::sleep(REFRESH_EVERY * 3).await;
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
        Command::List { output: Output::Json } => {
            anstream::println!("{}", serde_json::to_string_pretty(&records.keys().await?)?);
        }
        Command::List { output: Output::Text } => {
            anstream::println!("{}", paint(format!("{:<12}  {:<20}  {:<20}  OPENS", "ID", "NAME", "CREATED"), BOLD));
            for key in records.keys().await? {
                let opens = match &key.scope {
                    KeyScope::All => "all".to_owned(),
                    KeyScope::Apis(apis) => apis.iter().map(ApiId::as_str).collect::<Vec<_>>().join(", "),
                };
                let id = paint(format!("{:<12}", key.id), NAME);
                anstream::println!("{id}  {:<20}  {:<20.0}  {opens}", plain(&key.name), key.created);
            }
        }
        Command::Revoke { id } => {
            if !records.revoke_key(id, Timestamp::now()).await? {
                bail!("there is no key {id}; `skep keys list` lists all");
            }
            anstream::eprintln!("Key {id} opens nothing from now on.");
        }
    }
    Ok(ExitCode::SUCCESS)
}
