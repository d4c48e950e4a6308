//! `skep man`: manual pages, from the command line's own definition.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// Arguments of `skep man`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  skep man | man -l -\n  skep man keys create | man -l -\n  skep man --write ~/.local/share/man/man1\n\nPackages bring the pages along; then it is `man skep-plan`."
)]
pub struct Args {
    /// Of which command; of skep itself where none is named.
    #[arg(value_name = "COMMAND")]
    words: Vec<String>,

    /// Write the pages of all commands into this folder, which is made where it is missing.
    #[arg(long, value_name = "DIR", conflicts_with = "words")]
    write: Option<PathBuf>,
}

/// Prints one page, or writes all.
///
/// # Errors
/// Where there is no such command, or a file cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let root = definition();
    match &args.write {
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            write(&root, folder)?;
        }
        None => {
            let mut command = &root;
            for word in &args.words {
                let Some(found) = visible(command).find(|known| known.get_name() == word) else {
                    bail!("there is no command `{} {word}`; `skep help` lists them", name(command).replace('-', " "));
                };
                command = found;
            }
            std::io::stdout().write_all(&page(command)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The command line, complete: each command knows its full name.
fn definition() -> Command {
    let mut root = super::Arguments::command().disable_help_subcommand(true);
    root.build();
    root
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|one| !one.is_hide_set())
}

fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

/// Writes the pages of a command and of all below it.
fn write(command: &Command, folder: &Path) -> anyhow::Result<()> {
    let path = folder.join(format!("{}.1", name(command)));
    fs::write(&path, page(command)?).with_context(|| format!("cannot write {}", path.display()))?;
    visible(command).try_for_each(|below| write(below, folder))
}

/// One page, as `man` reads it.
fn page(command: &Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    // Written here, since a date that is left out must still be there, empty: else the version is read as one.
    let version = env!("CARGO_PKG_VERSION");
    writeln!(page, ".TH {} 1 \"\" \"skep {version}\" \"skep\"", name(command).to_uppercase())?;
    let man = Man::new(command.clone());
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if visible(command).next().is_some() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(text) = command.get_after_help() {
        after(&text.to_string()).to_writer(&mut page)?;
    }
    Ok(page)
}

/// What `--help` prints below the options: a line that stands at the margin and ends with a colon is a heading, what is
/// indented stays as it stands, and the rest is prose.
fn after(text: &str) -> Roff {
    let mut page = Roff::new();
    let (mut has_heading, mut is_as_it_stands, mut is_apart) = (false, false, false);
    for line in text.lines() {
        if is_as_it_stands && !line.starts_with(' ') {
            page.control("fi", []);
            is_as_it_stands = false;
        }
        let heading = line.strip_suffix(':').filter(|heading| is_heading(heading));
        if let Some(heading) = heading {
            page.control("SH", [heading.to_uppercase().as_str()]);
            (has_heading, is_apart) = (true, false);
            continue;
        }
        if !has_heading {
            page.control("SH", ["NOTES"]);
            has_heading = true;
        }
        if line.is_empty() {
            is_apart = true;
            continue;
        }
        if is_apart {
            page.control("PP", []);
            is_apart = false;
        }
        if line.starts_with(' ') && !is_as_it_stands {
            page.control("nf", []);
            is_as_it_stands = true;
        }
        page.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    if is_as_it_stands {
        page.control("fi", []);
    }
    page
}

/// `Exit codes`, and not the end of a sentence that leads to a list.
fn is_heading(text: &str) -> bool {
    !text.starts_with(' ') && text.split(' ').count() <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_help_says_below_the_options_keeps_its_shape() {
        let text = "Takes no caller down.\n\nExit codes:\n  0  done\n  1  not done\n\nExamples:\n  skep plan";
        let page = after(text).to_roff();
        let lines: Vec<&str> =
            page.lines().filter(|line| !line.starts_with(".ie") && !line.starts_with(".el")).collect();
        assert_eq!(
            lines,
            [
                ".SH NOTES",
                "Takes no caller down.",
                ".SH \"EXIT CODES\"",
                ".nf",
                "0  done",
                "1  not done",
                ".fi",
                ".SH EXAMPLES",
                ".nf",
                "skep plan",
                ".fi"
            ]
        );
    }
}
