//! Text that a container printed, made safe for a terminal, a log and a web page: nothing in it can move a cursor, hide
//! a line or turn one around.

/// The longest line that is kept whole, in bytes. What is longer is cut, since one line must not fill a page or a
/// daemon's memory.
const LONGEST: usize = 8 * 1024;

/// Cuts bytes into lines as they come.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pending: Vec<u8>,
    dropped: bool,
}

impl Lines {
    /// Takes bytes, and hands each line that they complete to `sink`.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut sink: impl FnMut(String)) {
        while let Some(end) = bytes.iter().position(|&byte| byte == b'\n') {
            self.keep(&bytes[..end]);
            sink(self.take());
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// Whether a line has begun and not ended.
    pub(super) fn is_within_line(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The last line, where it had no end.
    pub(super) fn finish(&mut self) -> Option<String> {
        self.is_within_line().then(|| self.take())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LONGEST - self.pending.len().min(LONGEST);
        self.dropped |= bytes.len() > room;
        self.pending.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn take(&mut self) -> String {
        let mut line = clean(&self.pending);
        if self.dropped {
            line.push_str(" … (cut)");
        }
        self.pending.clear();
        self.dropped = false;
        line
    }
}

/// One line of output, with escape sequences taken out and everything else that does not print replaced by `�`.
pub(super) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_end_matches('\r');
    // A progress bar writes over its own line: what counts is what it wrote last.
    let text = text.rsplit('\r').next().unwrap_or_default();
    let mut clean = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => skip_escape(&mut characters),
            '\t' => clean.push('\t'),
            c if c.is_control() || turns_text(c) => clean.push('\u{fffd}'),
            c => clean.push(c),
        }
    }
    clean
}

/// Skips the rest of an escape sequence (ECMA-48, sections 5.4 and 5.6): a control sequence up to its final byte, a
/// string up to its terminator, or a single character.
fn skip_escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match characters.next() {
        Some('[') => {
            while let Some(character) = characters.next() {
                if ('\u{40}'..='\u{7e}').contains(&character) {
                    break;
                }
            }
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            while let Some(character) = characters.next() {
                if character == '\u{7}' {
                    break;
                }
                if character == '\u{1b}' {
                    characters.next_if_eq(&'\\');
                    break;
                }
            }
        }
        _ => {}
    }
}

/// The characters that turn the direction of text, and so can make a line read as another.
fn turns_text(character: char) -> bool {
    matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let mut lines = Lines::default();
        let mut all = Vec::new();
        for chunk in chunks {
            lines.push(chunk, |line| all.push(line));
        }
        all.extend(lines.finish());
        all
    }

    #[test]
    fn a_line_may_come_in_pieces_and_pieces_in_one_line() {
        assert_eq!(lines(&[b"on", b"e\ntwo\r\n\nfo", b"ur"]), ["one", "two", "", "four"]);
    }

    #[test]
    fn colours_and_titles_go_and_other_controls_show() {
        assert_eq!(clean(b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07plain \x1b]8;;x\x1b\\link"), "red plain link");
        assert_eq!(clean(b"a\x00b\x7fc\td"), "a\u{fffd}b\u{fffd}c\td");
        assert_eq!(clean("x\u{202e}y\u{9b}z".as_bytes()), "x\u{fffd}y\u{fffd}z");
        assert_eq!(clean(b"bad \xff\xfe utf"), "bad \u{fffd}\u{fffd} utf");
        assert_eq!(clean(b"10 %\r20 %\r30 %"), "30 %");
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_one_is_whole() {
        let long = vec![b'x'; 3 * LONGEST];
        let lines = lines(&[&long, &long, b"\nnext\n"]);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].len() < LONGEST + 20 && lines[0].ends_with("(cut)"), "{}", lines[0].len());
        assert_eq!(lines[1], "next");
    }
}
