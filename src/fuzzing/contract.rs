//! What must be true of two OpenAPI documents, whatever they are: the bytes before and after the first NUL.

use crate::contract::{Contract, compare};
use crate::tree::diagnostic::is_treacherous;

/// The most characters of a sentence: a few names and values, each of them cut.
const LONGEST: usize = 12_000;

/// Shows bytes to the comparison of contracts.
pub fn contract(data: &[u8]) {
    let place = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (old, new) = (&data[..place], data.get(place + 1..).unwrap_or_default());
    let (Ok(old), Ok(new)) = (Contract::read(old), Contract::read(new)) else { return };
    for same in [&old, &new] {
        assert_eq!(compare(same, same).list, [], "a document differs from itself");
    }
    for differences in [compare(&old, &new), compare(&new, &old)] {
        let first_other = differences.list.iter().position(|it| !it.breaking).unwrap_or(differences.list.len());
        assert!(differences.list[first_other..].iter().all(|it| !it.breaking), "what breaks comes first");
        for difference in &differences.list {
            let told = difference.to_string();
            assert!(told.chars().count() < LONGEST && !told.contains(is_treacherous), "{told:?}");
            assert!(serde_json::to_string(difference).is_ok());
        }
    }
}
