//! Quantities as people write them: `512MiB`, `1.5` cores, `30s`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An amount of memory or of data, in bytes. Written `512MiB`, `100MB`, `64KiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(pub u64);

/// Processor time per wall-clock time, in thousandths of a core. Written as a number of cores: `0.5`, `2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cpu(pub u32);

/// A span of wall-clock time, exact to the millisecond. Written `500ms`, `2s`, `1m`, `1h`, `1d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub Duration);

impl Size {
    /// `n` mebibytes.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n * 1024 * 1024)
    }
}

impl Seconds {
    /// `n` seconds.
    #[must_use]
    pub const fn new(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// `n` milliseconds.
    #[must_use]
    pub const fn millis(n: u64) -> Self {
        Self(Duration::from_millis(n))
    }
}

/// The units of [`Size`], the longest names first so that a suffix is matched whole.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// The units of [`Seconds`] in milliseconds; `ms` stands before `s` and `m`.
const TIME_UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Splits `text` into its number and its unit, and gives the product; `None` where either is missing.
fn parse_scaled(text: &str, units: &[(&str, u64)]) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit.trim_start())?.1;
    #[expect(clippy::cast_precision_loss, reason = "unit factors are far below 2^52")]
    Some(number.parse::<f64>().ok()? * factor as f64)
}

/// Writes `value` in the largest unit that divides it.
fn write_scaled(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)]) -> fmt::Result {
    let best = units.iter().filter(|(_, factor)| value.is_multiple_of(*factor) && value >= *factor).max_by_key(|u| u.1);
    match best {
        Some((name, factor)) => f.pad(&format!("{}{name}", value / factor)),
        None => f.pad(&format!("0{}", units.iter().find(|(name, _)| matches!(*name, "B" | "s")).map_or("", |u| u.0))),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded just above")]
fn whole(value: f64) -> Option<u64> {
    (value.is_finite() && (0.0..9.0e15).contains(&value)).then_some(value.round() as u64)
}

impl std::str::FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse_scaled(text.trim(), &SIZE_UNITS)
            .and_then(whole)
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a size; write a number and a unit, as in 512MiB, 100MB or 64KiB"))
    }
}

impl std::str::FromStr for Seconds {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse_scaled(text.trim(), &TIME_UNITS)
            .and_then(whole)
            .map(|millis| Self(Duration::from_millis(millis)))
            .ok_or_else(|| format!("{text:?} is not a span of time; write a number and a unit, as in 500ms, 30s or 1m"))
    }
}

impl std::str::FromStr for Cpu {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let cores = text.trim().parse::<f64>().ok().and_then(|cores| whole(cores * 1000.0));
        cores
            .and_then(|milli| u32::try_from(milli).ok())
            .map(Self)
            .ok_or_else(|| format!("{text:?} is not a number of cores; write 0.5, 1 or 2"))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Binary units first: a limit that somebody wrote as 100MB still reads as 100MB, since no binary unit divides it.
        let units = if self.0.is_multiple_of(1024) { &SIZE_UNITS[..3] } else { &SIZE_UNITS[3..] };
        if self.0 == 0 { f.pad("0B") } else { write_scaled(f, self.0, units) }
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX), &TIME_UNITS)
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}", f64::from(self.0) / 1000.0))
    }
}

/// Serde as text, for quantities that are written as text.
macro_rules! serde_as_text {
    ($type:ty, $expecting:literal, $hint:literal) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$type, E> {
                        Err(E::custom(format!(concat!("{} has no unit; ", $hint), number)))
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    };
}
serde_as_text!(Size, "a size with a unit, as in 512MiB", "write it as in 512MiB or 100MB");
serde_as_text!(Seconds, "a span of time with a unit, as in 30s", "write it as in 500ms, 30s or 1m");

impl Serialize for Cpu {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(f64::from(self.0) / 1000.0)
    }
}

impl<'de> Deserialize<'de> for Cpu {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let cores = f64::deserialize(deserializer)?;
        cores.to_string().parse().map_err(serde::de::Error::custom)
    }
}

/// The schema of a text that is a number and one of `units`.
macro_rules! schema_as_text {
    ($type:ty, $name:literal, $pattern:literal) => {
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $name.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}
schema_as_text!(Size, "Size", r"^\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(KiB|MiB|GiB|kB|MB|GB|B)\s*$");
schema_as_text!(Seconds, "Seconds", r"^\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*(ms|s|m|h|d)\s*$");

impl schemars::JsonSchema for Cpu {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cpu".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "number" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_reads_back_as_it_was_written() {
        for text in ["512MiB", "100MB", "64KiB", "1GiB", "1500kB", "7B"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_span_reads_back_as_it_was_written() {
        for text in ["500ms", "2s", "1m", "36h", "1d", "0s"] {
            assert_eq!(text.parse::<Seconds>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_lacks_a_unit_or_has_a_wrong_one_is_refused() {
        for text in ["512", "MiB", "512Mib", "-1MiB", "1e400MiB", ""] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for text in ["30", "30sec", "s", "1.2.3s"] {
            assert!(text.parse::<Seconds>().is_err(), "{text}");
        }
    }
}
