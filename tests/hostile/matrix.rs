//! The matrix of what was tried: what came of it with each egress, beside what is meant.

use std::fmt::Write as _;

use serde_json::Value;

use crate::scene::{Scene, TRIERS};

/// Something that an API may try.
pub struct Target {
    pub what: String,
    /// What holds it.
    pub by: &'static str,
    /// The wishes of the API with egress `internet` and of that with `none`.
    pub wishes: [Value; 2],
    /// Whether it is meant to be reached, by each.
    pub meant: [bool; 2],
    /// Whether nothing but rules keeps the API with egress from it, so that it is reached without them.
    pub is_held_by_rules: bool,
}

/// What came of all targets, by egress.
pub type Came = [Vec<String>; 2];

/// Has both try all.
pub fn measure(scene: &Scene, targets: &[Target], round: &str) -> Came {
    [0, 1].map(|egress| {
        let wishes: Vec<Value> = targets
            .iter()
            .map(|target| {
                let mut wish = target.wishes[egress].clone();
                if let Some(token) = wish["token"].as_str() {
                    wish["token"] = format!("{token}-{egress}-{round}").into();
                }
                wish
            })
            .collect();
        scene.attempt(TRIERS[egress], &wishes)
    })
}

pub fn is_reached(came: &str) -> bool {
    came.starts_with("reached")
}

/// Where what came is not what is meant.
pub fn surprises(targets: &[Target], came: &Came) -> Vec<String> {
    let mut surprises = Vec::new();
    for (at, target) in targets.iter().enumerate() {
        for egress in [0, 1] {
            if is_reached(&came[egress][at]) != target.meant[egress] {
                surprises.push(format!("{}, by {}: {}", target.what, TRIERS[egress], came[egress][at]));
            }
        }
    }
    surprises
}

/// A table for people, as Markdown.
pub fn table(targets: &[Target], rounds: &[(&str, &Came)]) -> String {
    let mut text = "| what | meant |".to_owned();
    for (name, _) in rounds {
        write!(text, " {name}: internet | {name}: none |").unwrap();
    }
    writeln!(text, " held by |\n| --- | --- |{} --- |", " --- | --- |".repeat(rounds.len())).unwrap();
    for (at, target) in targets.iter().enumerate() {
        let meant = match target.meant {
            [true, true] => "both",
            [true, false] => "internet",
            [false, true] => "none",
            [false, false] => "nobody",
        };
        write!(text, "| {} | {meant} |", target.what).unwrap();
        for (_, came) in rounds {
            write!(text, " {} | {} |", came[0][at], came[1][at]).unwrap();
        }
        writeln!(text, " {} |", target.by).unwrap();
    }
    text
}
