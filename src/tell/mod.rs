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

pub use state::{Told, Trouble};
pub use teller::Teller;

/// A text of somebody else's in one line, cut to that many characters.
fn line(text: &str, most: usize) -> String {
    let plain = |c: char| {
        if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') { ' ' } else { c }
    };
    let mut cut: String = text.trim().chars().map(plain).take(most + 1).collect();
    if cut.chars().count() > most {
        cut = cut.chars().take(most.saturating_sub(1)).collect();
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_text_of_others_is_one_line_of_a_length() {
        assert_eq!(line(" a\nb\u{1b}[31m\u{202e}c ", 20), "a b [31m c");
        assert_eq!(line("äöüß", 4), "äöüß");
        assert_eq!(line("äöüßx", 4), "äöü…");
    }
}
