//! A crowd is all who have a connection open, by address, so that no one address takes all there are.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rate::Caller;

/// All who have a connection open.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    open: Mutex<HashMap<Caller, usize>>,
}

/// One connection; counted out again when it is dropped.
#[derive(Debug)]
pub(crate) struct Member {
    crowd: Arc<Crowd>,
    caller: Caller,
}

impl Crowd {
    /// Counts in one more connection from there, unless `most` are open already.
    pub(crate) fn join(crowd: &Arc<Self>, address: IpAddr, most: usize) -> Option<Member> {
        let caller = Caller::at(address);
        let mut open = crowd.lock();
        let count = open.entry(caller).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Member { crowd: Arc::clone(crowd), caller })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Caller, usize>> {
        // No code under this lock panics halfway through a change.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut open = self.crowd.lock();
        if let Some(count) = open.get_mut(&self.caller) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_own_count_and_the_neighbours_of_one_household_share_it() {
        let crowd = Arc::new(Crowd::default());
        let join = |address: &str| Crowd::join(&crowd, address.parse().unwrap(), 2);
        let (one, two) = (join("10.0.0.1").unwrap(), join("::ffff:10.0.0.1").unwrap());
        assert!(join("10.0.0.1").is_none());
        let _other = join("10.0.0.2").unwrap();
        drop(one);
        let again = join("10.0.0.1").unwrap();
        let (_first, _second) = (join("2001:db8::1").unwrap(), join("2001:db8::2").unwrap());
        assert!(join("2001:db8::3").is_none());
        drop((again, two));
        assert_eq!(crowd.lock().len(), 2, "who has left is forgotten");
    }
}
