//! A suggestion is the word that somebody probably meant.

/// The candidate nearest to `word`, where one is near enough to be worth a hint.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        // A third of the letters may be wrong; of a short word, one.
        .filter(|(distance, candidate)| *distance <= (word.chars().count().max(candidate.chars().count()) / 3).max(1))
        .min()
        .map(|(_, candidate)| candidate)
}

/// A hint for an unknown word: the nearest candidate, else all of them.
#[must_use]
pub fn hint(word: &str, candidates: &[&str]) -> String {
    match nearest(word, candidates.iter().copied()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None if candidates.is_empty() => String::new(),
        None => format!("one of: {}", candidates.join(", ")),
    }
}

/// A word for a message: the first 60 characters of what may be a whole file.
#[must_use]
pub fn shorten(word: &str) -> String {
    match word.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &word[..end]),
        None => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_a_stranger_none() {
        assert_eq!(nearest("memroy", ["cpu", "memory", "pids"]), Some("memory"));
        assert_eq!(nearest("CPU", ["cpu", "memory"]), Some("cpu"));
        assert_eq!(nearest("volumes", ["cpu", "memory"]), None);
        assert_eq!(hint("volumes", &["cpu", "memory"]), "one of: cpu, memory");
    }
}
