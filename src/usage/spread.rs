//! A spread is how many requests took how long, closely enough to say what 99 of 100 took at most.

use std::time::Duration;

/// What is faster than this is all the same: 64 µs.
const FIRST_OCTAVE: u32 = 6;

/// What is slower than twice this is all the same: 2^31 µs are 36 minutes.
const LAST_OCTAVE: u32 = 31;

/// How many requests took how long: counts in classes of time, each a quarter of an octave wide, so that a time that is
/// read back is off by an eighth at most. Only classes that something fell into take memory, eight bytes each; past four
/// billion a class counts no more, which nobody sees in what 99 of 100 took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spread(Vec<(u8, u32)>);

impl Spread {
    /// Counts one that took so long.
    pub fn count(&mut self, took: Duration) {
        self.add_to(class(micros(took)), 1);
    }

    /// Adds all that another one has counted.
    pub fn add(&mut self, other: &Self) {
        for (class, count) in &other.0 {
            self.add_to(*class, *count);
        }
    }

    /// Each class of time that something fell into, by its number, and how many did; the fastest first.
    pub fn classes(&self) -> impl Iterator<Item = (u8, u32)> {
        self.0.iter().copied()
    }

    /// Adds so many of a class.
    pub fn add_class(&mut self, class: u8, count: u32) {
        self.add_to(class, count);
    }

    fn add_to(&mut self, class: u8, count: u32) {
        match self.0.binary_search_by_key(&class, |(known, _)| *known) {
            Ok(place) => self.0[place].1 = self.0[place].1.saturating_add(count),
            Err(place) => self.0.insert(place, (class, count)),
        }
    }

    /// What so many of 1000 took at most; nothing where nothing was counted.
    #[must_use]
    pub fn within(&self, per_mille: u32) -> Duration {
        let all: u128 = self.0.iter().map(|(_, count)| u128::from(*count)).sum();
        let rank = (all * u128::from(per_mille)).div_ceil(1000);
        let mut seen = 0;
        let found = self.0.iter().find(|(_, count)| {
            seen += u128::from(*count);
            seen >= rank
        });
        Duration::from_micros(found.map_or(0, |(class, _)| middle(*class)))
    }

    /// As bytes: of each class its number, and its count in groups of seven bits, the lowest first.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.0.len() * 3);
        for (class, count) in &self.0 {
            bytes.push(*class);
            let mut left = *count;
            while left > 0x7f {
                bytes.push(low(left) | 0x80);
                left >>= 7;
            }
            bytes.push(low(left));
        }
        bytes
    }

    /// Reads what [`Spread::to_bytes`] has written; `None` where it has not.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let mut spread = Self::default();
        let mut bytes = bytes.iter();
        while let Some(class) = bytes.next() {
            let mut count = 0_u32;
            for shift in (0..).step_by(7) {
                let byte = bytes.next()?;
                count |= u32::from(byte & 0x7f).checked_shl(shift)?;
                if byte & 0x80 == 0 {
                    break;
                }
            }
            spread.add_to(*class, count);
        }
        Some(spread)
    }
}

/// The low seven bits.
fn low(count: u32) -> u8 {
    u8::try_from(count & 0x7f).unwrap_or_default()
}

/// A span in whole microseconds.
pub(super) fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// The class that a time in microseconds falls into.
fn class(micros: u64) -> u8 {
    let octave = (micros | 1).ilog2().min(LAST_OCTAVE);
    if octave < FIRST_OCTAVE {
        return 0;
    }
    let quarter = if micros >> LAST_OCTAVE > 1 { 3 } else { (micros >> (octave - 2)) & 3 };
    u8::try_from(1 + u64::from(octave - FIRST_OCTAVE) * 4 + quarter).unwrap_or(u8::MAX)
}

/// The middle of a class, in microseconds.
fn middle(class: u8) -> u64 {
    let Some(place) = class.checked_sub(1).map(u64::from) else { return 1 << (FIRST_OCTAVE - 1) };
    let quarter_of_octave = 1_u64 << ((u64::from(FIRST_OCTAVE) + place / 4).min(u64::from(LAST_OCTAVE)) - 2);
    quarter_of_octave * (4 + place % 4) + quarter_of_octave / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_read_back_within_an_eighth() {
        for exponent in 60..310 {
            let time = Duration::from_secs_f64(2_f64.powf(f64::from(exponent) / 10.0) / 1e6);
            let mut spread = Spread::default();
            spread.count(time);
            let off = spread.within(500).as_secs_f64() / time.as_secs_f64();
            assert!((0.875..=1.125).contains(&off), "{time:?} is read back as {:?}", spread.within(500));
        }
    }

    #[test]
    fn classes_follow_each_other_from_the_fastest_to_what_never_ends() {
        let mut before = 0;
        for micros in (0..40).map(|exponent| 1_u64 << exponent).chain([u64::MAX]) {
            let now = class(micros);
            assert!(now >= before, "{micros} µs are of class {now}, after {before}");
            before = now;
        }
        assert_eq!((class(0), class(63), class(64), class(u64::MAX)), (0, 0, 1, 104));
    }

    #[test]
    fn ninety_nine_of_a_hundred_are_told_from_the_one_that_was_slow() {
        let mut spread = Spread::default();
        for _ in 0..99 {
            spread.count(Duration::from_millis(2));
        }
        spread.count(Duration::from_secs(2));
        assert!(spread.within(990) < Duration::from_millis(3));
        assert!(spread.within(991) > Duration::from_secs(1));
        assert_eq!(Spread::default().within(990), Duration::ZERO);
    }

    #[test]
    fn what_is_written_is_read_and_sums_are_those_of_one_who_counted_all() {
        let (mut all, mut one, mut two) = (Spread::default(), Spread::default(), Spread::default());
        for n in 0..3000_u64 {
            let took = Duration::from_micros(n * n);
            all.count(took);
            if n % 3 == 0 { one.count(took) } else { two.count(took) }
        }
        one.add(&two);
        assert_eq!(one, all);
        assert_eq!(Spread::of_bytes(&all.to_bytes()), Some(all));
        let huge = Spread(vec![(3, u32::MAX), (104, 1)]);
        assert_eq!(Spread::of_bytes(&huge.to_bytes()), Some(huge.clone()));
        one.add(&huge);
        one.add(&huge);
        assert!(one.0.contains(&(3, u32::MAX)));
        for bad in [&[1][..], &[1, 0x80], &[1, 0xff, 0xff, 0xff, 0xff, 0xff, 1]] {
            assert_eq!(Spread::of_bytes(bad), None);
        }
    }
}
