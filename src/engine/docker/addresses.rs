//! An address is where an instance listens on its network. skep chooses it, so that none comes back soon after it was
//! freed: whoever still has the old instance's address in hand must meet nobody there, rather than a stranger.
//!
//! The engine left to itself gives the lowest free address, which is the one that was freed last.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// The addresses of one network: a lower quarter that the engine gives out by itself, to containers that build, and the
/// rest, which is ours for instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subnet {
    first: u32,
    prefix: u8,
}

/// Of a subnet, how many bits the part is smaller that the engine gives out by itself.
const ENGINE_PART: u8 = 2;

/// The smallest subnet that is worth dividing: 64 addresses, 47 of them for instances.
const SMALLEST: u8 = 26;

impl Subnet {
    /// Reads `172.18.0.0/16`; `None` where it is none, or too small to be divided.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix) = (address.parse::<Ipv4Addr>().ok()?, prefix.parse().ok()?);
        (8..=SMALLEST).contains(&prefix).then(|| Self { first: u32::from(address) & mask(prefix), prefix })
    }

    /// As the engine reads it.
    pub(super) fn text(self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.first), self.prefix)
    }

    /// The part that the engine gives out by itself.
    pub(super) fn engine_part(self) -> String {
        format!("{}/{}", Ipv4Addr::from(self.first), self.prefix + ENGINE_PART)
    }

    /// Whether an address is one of them.
    pub(super) fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.first
    }

    /// The host's own address on it.
    pub(super) fn gateway(self) -> String {
        Ipv4Addr::from(self.first + 1).to_string()
    }

    /// How many addresses are for instances; the last of a subnet is its broadcast address.
    fn len(self) -> u32 {
        let all = 1u32 << (32 - self.prefix);
        all - (all >> ENGINE_PART) - 1
    }

    fn at(self, place: u32) -> Ipv4Addr {
        let all = 1u32 << (32 - self.prefix);
        Ipv4Addr::from(self.first + (all >> ENGINE_PART) + place)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

/// Goes round the addresses of a network, so that each comes back as late as it can.
#[derive(Debug)]
pub(super) struct Cursor(u32);

impl Cursor {
    /// Begins anywhere: what an earlier process gave out last is not known.
    pub(super) fn anywhere() -> Self {
        Self(rand::random())
    }

    /// The next address that is not taken; `None` where all are.
    pub(super) fn next(&mut self, subnet: Subnet, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        let len = subnet.len();
        (0..len).find_map(|_| {
            self.0 = self.0.wrapping_add(1) % len;
            Some(subnet.at(self.0)).filter(|address| !taken.contains(address))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_and_skep_never_give_out_the_same_address() {
        for text in ["172.18.0.0/16", "10.0.0.0/8", "192.168.16.0/20", "192.168.3.64/26"] {
            let subnet = Subnet::parse(text).unwrap();
            assert_eq!(subnet.text(), text);
            let engine = subnet.engine_part();
            let (first, prefix) = engine.split_once('/').unwrap();
            let last = u32::from(first.parse::<Ipv4Addr>().unwrap()) | !mask(prefix.parse().unwrap());
            assert_eq!(u32::from(subnet.at(0)), last + 1, "{text}");
            let broadcast = subnet.first | !mask(subnet.prefix);
            assert_eq!(u32::from(subnet.at(subnet.len() - 1)), broadcast - 1, "{text}");
        }
    }

    #[test]
    fn an_address_comes_back_only_after_all_others() {
        let subnet = Subnet::parse("192.168.3.0/26").unwrap();
        let mut cursor = Cursor::anywhere();
        let round: BTreeSet<_> = (0..subnet.len()).map(|_| cursor.next(subnet, &BTreeSet::new()).unwrap()).collect();
        assert_eq!(round.len(), subnet.len() as usize);
        let freed = *round.iter().next().unwrap();
        let taken: BTreeSet<_> = round.iter().copied().filter(|address| *address != freed).collect();
        assert_eq!(cursor.next(subnet, &taken), Some(freed));
        assert_eq!(cursor.next(subnet, &round), None);
    }

    #[test]
    fn what_is_no_subnet_or_too_small_is_not_divided() {
        for text in ["", "172.18.0.0", "172.18.0.0/33", "192.168.3.0/29", "fd00::/64"] {
            assert_eq!(Subnet::parse(text), None, "{text}");
        }
    }
}
