//! Pools are the ranges that an engine takes the addresses of new networks from; they run out sooner than people think.

use std::net::Ipv4Addr;

/// What an engine has unless `default-address-pools` says otherwise: 31 networks in all. Source: the defaults of its
/// `ipamutils`.
const DEFAULTS: [(&str, u8); 5] = [
    ("172.17.0.0/16", 16),
    ("172.18.0.0/15", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/13", 16),
    ("192.168.0.0/16", 20),
];

/// More pieces than this are not counted out one by one; nobody runs out of them.
const ENOUGH: u32 = 4096;

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    last: u32,
}

impl Range {
    /// Reads `172.17.0.0/16`; `None` for what is no IPv4 range.
    fn read(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let length = length.parse().ok().filter(|length| *length <= 32)?;
        Some(Self::of(address.parse::<Ipv4Addr>().ok()?.to_bits(), length))
    }

    fn of(address: u32, length: u8) -> Self {
        let rest = u32::MAX.checked_shr(u32::from(length)).unwrap_or(0);
        Self { first: address & !rest, last: address | rest }
    }

    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// How many networks can still be made, and how many there could be in all. `pools` are those of the engine, empty for
/// its defaults; `taken` are the subnets of its networks and what else the host has routes to.
pub(super) fn left<'a>(pools: &[(String, u8)], taken: impl Iterator<Item = &'a String>) -> (usize, usize) {
    let own: Vec<(&str, u8)> = pools.iter().map(|(base, length)| (base.as_str(), *length)).collect();
    let pools = if own.is_empty() { &DEFAULTS[..] } else { &own[..] };
    let taken: Vec<Range> = taken.filter_map(|text| Range::read(text)).collect();
    let pieces: Vec<Range> = pools.iter().flat_map(|(base, length)| cut(base, *length)).collect();
    let free = pieces.iter().filter(|piece| !taken.iter().any(|range| range.overlaps(**piece))).count();
    (free, pieces.len())
}

/// The pieces of a pool.
fn cut(base: &str, length: u8) -> Vec<Range> {
    let Some(whole) = Range::read(base).filter(|_| (1..=32).contains(&length)) else { return Vec::new() };
    let step = 1_u64 << (32 - length);
    let starts = (u64::from(whole.first)..=u64::from(whole.last)).step_by(usize::try_from(step).unwrap_or(usize::MAX));
    starts.take(ENOUGH as usize).filter_map(|first| Some(Range::of(u32::try_from(first).ok()?, length))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_of(pools: &[(&str, u8)], taken: &[&str]) -> (usize, usize) {
        let pools: Vec<_> = pools.iter().map(|&(base, length)| (base.to_owned(), length)).collect();
        let taken: Vec<_> = taken.iter().map(|&text| text.to_owned()).collect();
        left(&pools, taken.iter())
    }

    #[test]
    fn an_engine_as_it_comes_has_addresses_for_thirty_one_networks() {
        assert_eq!(left_of(&[], &[]), (31, 31));
        assert_eq!(left_of(&[], &["172.17.0.0/16"]), (30, 31));
        assert_eq!(left_of(&[], &["172.17.0.0/16", "172.19.0.0/16", "192.168.32.0/20"]), (28, 31));
    }

    #[test]
    fn a_network_of_the_house_takes_all_pools_that_it_overlaps() {
        assert_eq!(left_of(&[], &["192.168.0.0/16"]), (15, 31));
        assert_eq!(left_of(&[], &["192.168.1.0/24"]), (30, 31));
        assert_eq!(left_of(&[], &["172.16.0.0/12", "192.168.0.0/16"]), (0, 31));
        assert_eq!(left_of(&[], &["10.0.0.0/8", "fd00::/64", "nonsense"]), (31, 31));
    }

    #[test]
    fn pools_of_the_house_are_cut_as_it_says() {
        assert_eq!(left_of(&[("10.10.0.0/16", 24)], &["10.10.3.0/24"]), (255, 256));
        assert_eq!(left_of(&[("10.0.0.0/8", 28)], &[]).1, ENOUGH as usize);
        assert_eq!(left_of(&[("10.0.0.0/8", 0), ("nonsense", 24)], &[]), (0, 0));
    }
}
