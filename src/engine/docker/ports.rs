//! A port is a loopback port of the host that an instance is published on, where its own address cannot be dialled.

use std::collections::BTreeSet;

use crate::tree::Digest;

/// The port for `name` within `range`, both ends included: the one that its digest says, or the next free one after
/// it, round the end. `None` where all are taken.
///
/// The same name gets the same port for as long as nobody else has it, so that a restart moves nothing; two names
/// never share one, which hashing alone cannot promise.
#[must_use]
pub fn choose(name: &str, taken: &BTreeSet<u16>, range: (u16, u16)) -> Option<u16> {
    let (first, last) = range;
    let count = u64::from(last.checked_sub(first)?) + 1;
    let wish = u64::from_str_radix(&Digest::of(name.as_bytes()).short(), 16).unwrap_or_default() % count;
    (0..count)
        .filter_map(|step| u16::try_from(u64::from(first) + (wish + step) % count).ok())
        .find(|port| !taken.contains(port))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn names_get_ports_within_the_range_and_never_share_one(
            names in proptest::collection::btree_set("[a-z]{1,12}", 0..60),
            first in 1u16..65_000,
            width in 0u16..100,
        ) {
            let range = (first, first.saturating_add(width));
            let room = usize::from(range.1 - range.0) + 1;
            let mut taken = BTreeSet::new();
            for (index, name) in names.iter().enumerate() {
                match choose(name, &taken, range) {
                    Some(port) => {
                        prop_assert!((range.0..=range.1).contains(&port));
                        prop_assert!(taken.insert(port), "{port} was given twice");
                    }
                    None => prop_assert!(index >= room, "refused with {} of {room} taken", taken.len()),
                }
            }
        }

        #[test]
        fn a_name_keeps_its_port_whoever_else_comes(name in "[a-z]{1,12}", others in proptest::collection::btree_set(1000u16..2000, 0..50)) {
            let alone = choose(&name, &BTreeSet::new(), (1000, 1999)).unwrap();
            let mut others = others;
            others.remove(&alone);
            prop_assert_eq!(choose(&name, &others, (1000, 1999)), Some(alone));
        }
    }

    #[test]
    fn a_range_that_is_upside_down_has_no_ports() {
        assert_eq!(choose("a", &BTreeSet::new(), (2000, 1000)), None);
    }
}
