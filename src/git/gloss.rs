//! A gloss is a sentence of ours behind one of git's, in what git answers to a push: git knows a limit, and we know its setting.

use std::mem;

use crate::tree::Size;

/// What git says of a push that is too large, as messages to whoever pushes.
const TOO_LARGE: &[u8] = b"pack exceeds maximum allowed size";

/// The channel of messages to whoever pushes, among those that git's answer has.
const MESSAGES: u8 = 2;

/// Reads along what git answers, packet by packet.
#[derive(Debug)]
pub struct Gloss {
    /// The part of a packet that has come.
    part: Vec<u8>,
    /// To be said, once.
    sentence: Option<String>,
    /// Whether what comes is packets.
    is_packets: bool,
}

impl Gloss {
    /// For a push that may be so large.
    #[must_use]
    pub fn new(most: Size) -> Self {
        let sentence =
            format!("push.max_size of skep.yaml is {most}: leave out what is large, or have it raised there\n");
        Self { part: Vec::new(), sentence: Some(sentence), is_packets: true }
    }

    /// What is to be passed on of what has come.
    #[must_use]
    pub fn pass(&mut self, more: &[u8]) -> Vec<u8> {
        self.part.extend_from_slice(more);
        let mut whole = Vec::with_capacity(self.part.len());
        while let Some(digits) = self.part.get(..4).filter(|_| self.is_packets) {
            let length = std::str::from_utf8(digits).ok().and_then(|digits| usize::from_str_radix(digits, 16).ok());
            let Some(length) = length else {
                self.is_packets = false;
                break;
            };
            // Those below four are marks without anything in them.
            if self.part.len() < length.max(4) {
                return whole;
            }
            let rest = self.part.split_off(length.max(4));
            let packet = mem::replace(&mut self.part, rest);
            whole.extend_from_slice(&packet);
            let is_said = packet.get(4) == Some(&MESSAGES) && packet.windows(TOO_LARGE.len()).any(|it| it == TOO_LARGE);
            if let Some(sentence) = self.sentence.take_if(|_| is_said) {
                whole.extend(format!("{:04x}", sentence.len() + 5).into_bytes());
                whole.push(MESSAGES);
                whole.extend(sentence.into_bytes());
            }
        }
        if !self.is_packets {
            whole.append(&mut self.part);
        }
        whole
    }

    /// What is left at the end.
    #[must_use]
    pub fn rest(self) -> Vec<u8> {
        self.part
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(bytes: &[u8], step: usize) -> Vec<u8> {
        let mut gloss = Gloss::new(Size::mib(1));
        let mut out: Vec<u8> = bytes.chunks(step).flat_map(|chunk| gloss.pass(chunk)).collect();
        out.extend(gloss.rest());
        out
    }

    #[test]
    fn a_sentence_stands_once_behind_that_of_git_and_nothing_else_changes() {
        let packet = |text: &str| format!("{:04x}{text}", text.len() + 4);
        let said = packet("\u{2}fatal: pack exceeds maximum allowed size (1.00 MiB)\n");
        let before = packet("\u{2}Resolving") + &packet("\u{1}pack exceeds maximum allowed size");
        let answer = format!("{before}{said}{said}0000");
        for step in [1, 3, 7, 4096] {
            let out = String::from_utf8(passed(answer.as_bytes(), step)).unwrap();
            let added =
                out.strip_prefix(&format!("{before}{said}")).and_then(|rest| rest.strip_suffix(&format!("{said}0000")));
            let added = added.unwrap_or_else(|| panic!("{out}"));
            assert_eq!(usize::from_str_radix(&added[..4], 16).unwrap(), added.len());
            assert!(added[4..].starts_with("\u{2}push.max_size of skep.yaml is 1MiB"), "{added}");
        }
        for other in
            ["no packets, though it says: pack exceeds maximum allowed size", "0010short", "00010002000000", ""]
        {
            assert_eq!(passed(other.as_bytes(), 2), other.as_bytes());
        }
    }
}
