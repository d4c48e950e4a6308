//! Telling is what skep says to others of its work: to forges what became of commits, to people what happened.
//!
//! What is to be told is what is so, compared with what was told last; the latter is in the records. So nothing that a crash
//! takes away is missed, and nobody who reconciles waits for it, or fails by it.

mod answer;
mod commit;
mod forge;
mod letter;
mod news;
mod pace;
mod parcel;
mod placed;
mod standing;
mod state;
mod teller;
mod turn;

use std::path::Path;

use crate::report::style::is_steering;

pub use state::{Told, Trouble};
pub use teller::Teller;

/// A text of somebody else's in one line, cut to that many characters.
fn line(text: &str, most: usize) -> String {
    let plain = |c: char| if is_steering(c) { ' ' } else { c };
    let mut cut: String = text.trim().chars().map(plain).take(most + 1).collect();
    if cut.chars().count() > most {
        cut = cut.chars().take(most.saturating_sub(1)).collect();
        cut.push('…');
    }
    cut
}

/// A text that names files of these folders without saying where those lie.
fn without_folders(text: &str, folders: &[&Path]) -> String {
    let is_of_path = |c: char| c.is_alphanumeric() || "/._-".contains(c);
    let mut left = text.to_owned();
    for folder in folders.iter().filter_map(|folder| folder.to_str()).filter(|folder| folder.len() > 1) {
        let folder = format!("{folder}/");
        let mut text = String::with_capacity(left.len());
        for part in left.split_inclusive(folder.as_str()) {
            // Where it stands in the middle of another path, it is not this folder.
            let before = part.strip_suffix(folder.as_str()).filter(|before| !before.ends_with(is_of_path));
            text.push_str(before.unwrap_or(part));
        }
        left = text;
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_others_is_one_line_of_a_length() {
        assert_eq!(line(" a\nb\u{1b}[31m\u{202e}c ", 20), "a b [31m c");
        assert_eq!(line("äöüß", 4), "äöüß");
        assert_eq!(line("äöüßx", 4), "äöü…");
    }

    #[test]
    fn where_a_host_has_its_folders_is_left_out_of_what_strangers_read() {
        let folders = [Path::new("/srv/apis/.skep"), Path::new("/srv/apis"), Path::new("/")];
        let of = |text: &str| without_folders(text, &folders);
        assert_eq!(
            of("no key at /srv/apis/.skep/secrets.key; see '/srv/apis/apis/a'"),
            "no key at secrets.key; see 'apis/a'"
        );
        assert_eq!(of("/srv/apis/.skep/secrets.key"), "secrets.key");
        assert_eq!(
            of("/data/srv/apis/x and /srv/apis2/x and /app/main.py"),
            "/data/srv/apis/x and /srv/apis2/x and /app/main.py"
        );
    }
}
