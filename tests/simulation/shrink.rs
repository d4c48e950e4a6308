//! Shrinking leaves out of a list whatever it still fails without.

/// The shortest list found, none of whose elements can be left out. `fails` says whether a list still does.
pub fn shrink<T: Clone>(mut list: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut size = list.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        let mut is_shorter = false;
        while start < list.len() {
            let end = (start + size).min(list.len());
            let rest = [&list[..start], &list[end..]].concat();
            if fails(&rest) {
                list = rest;
                is_shorter = true;
            } else {
                start = end;
            }
        }
        // Of single ones, each may have become needless since it was tried.
        if size > 1 {
            size /= 2;
        } else if !is_shorter {
            break;
        }
    }
    list
}

#[test]
fn a_list_is_shrunk_to_what_it_fails_by() {
    let fails = |list: &[u32]| list.contains(&7) && list.contains(&40);
    assert_eq!(shrink((0..100).collect(), fails), [7, 40]);
}
