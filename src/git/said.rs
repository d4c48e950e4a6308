//! What git and ssh said of a failure, as far as it is worth telling.

/// Whether git says that something is short here, which no other way to ask would change; the remote's own words count not.
pub(super) fn is_of_here(said: &str) -> bool {
    const SHORT: [&str; 6] = [
        "no space left",
        "disk quota exceeded",
        "read-only file system",
        "out of memory",
        "cannot allocate memory",
        "unable to write",
    ];
    said.lines().filter(|line| !line.starts_with("remote:")).map(str::to_lowercase).any(|line| {
        // What cannot be written to the remote is not written here.
        SHORT.iter().any(|word| line.contains(word)) && !line.contains("packet") && !line.contains("broken pipe")
    })
}

/// The last line of what git and ssh said that is worth telling.
pub(super) fn last_word(said: &str) -> String {
    shown(said, 1)
}

/// What is worth telling of what git and ssh said: not their advice, in one line.
pub(super) fn gist(said: &str) -> String {
    shown(said, 3)
}

fn shown(said: &str, lines: usize) -> String {
    const ADVICE: [&str; 4] = [
        "Please make sure you have the correct access rights",
        "and the repository exists.",
        "fatal: Could not read from remote repository.",
        "warning: filtering not recognized by server",
    ];
    const LONGEST: usize = 400;
    let is_news = |line: &&str| !line.is_empty() && !ADVICE.iter().any(|advice| line.starts_with(advice));
    let all: Vec<&str> = said.lines().map(str::trim).filter(is_news).collect();
    let mut text = all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("; ");
    if text.is_empty() {
        text.push_str("it gave no answer");
    }
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(plain).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_here_is_told_from_what_the_remote_says() {
        assert!(is_of_here("fatal: write error: No space left on device\nfatal: index-pack failed\n"));
        assert!(is_of_here("fatal: Out of memory, malloc failed (tried to allocate 8 bytes)\n"));
        assert!(is_of_here("error: unable to write file /srv/x/objects/aa\n"));
        assert!(!is_of_here("remote: fatal: Out of memory, malloc failed\nfatal: early EOF\n"));
        assert!(!is_of_here("fatal: unable to write flush packet: Broken pipe\n"));
        assert!(!is_of_here("ssh: connect to host h port 22: Connection refused\n"));
    }

    #[test]
    fn what_is_told_of_a_failure_is_its_reason() {
        let said = "ssh: connect to host h port 22: Connection refused\nfatal: Could not read from remote repository.\n\n\
                    Please make sure you have the correct access rights\nand the repository exists.\n";
        assert_eq!(gist(said), "ssh: connect to host h port 22: Connection refused");
        assert_eq!(gist("\n"), "it gave no answer");
        assert_eq!(gist("a\u{1b}[31m"), "a [31m");
    }
}
