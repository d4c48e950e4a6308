//! Values that are told one by one, each of which has to fit into what the other document says of such values.

use std::net::{Ipv4Addr, Ipv6Addr};

use regex::{Regex, RegexBuilder};
use serde_json::Value;

use super::{Fit, Misfit, Side, Why, refuses, tightly};
use crate::contract::bound::{self, Tighter};
use crate::contract::schema::{Kind, Shape, text};

/// The longest pattern that is tried, and how large it may become.
const PATTERN: (usize, usize) = (1 << 10, 1 << 18);

/// How many steps it takes to make one of it.
const PATTERN_STEPS: usize = 20_000;

/// Words for yes and no in a text, as pydantic takes them.
const YES: [&str; 6] = ["true", "1", "yes", "on", "t", "y"];
const NO: [&str; 6] = ["false", "0", "no", "off", "f", "n"];

impl<'a> Fit<'a, '_> {
    /// What of the values of `one` does not fit into `other`.
    pub(super) fn values(&mut self, ours: &[&'a Value], one: &Shape<'a>, other: &Shape<'a>) -> Vec<Misfit> {
        let mut lacking: Vec<String> = Vec::new();
        let mut left = Vec::new();
        for value in ours {
            match &other.values {
                Some(theirs) if !theirs.contains(value) => lacking.push(text(value)),
                // What its own bounds refuse has never been one.
                _ if self.way.side == Side::Request && bound::holds(value, one) && !bound::holds(value, other) => {
                    lacking.push(text(value));
                }
                _ => left.push((*value).clone()),
            }
        }
        let mut misfits = self.texts(&left, (one, other), &mut lacking);
        if other.values.is_none() && is_nested(other) && matches!(one.kind, Kind::List | Kind::Object) {
            misfits.push(Misfit::unsure(Why::Kind { from: one.word(), to: other.word() }));
        }
        if !lacking.is_empty() {
            misfits.push(Misfit::sure(Why::Values(lacking)));
        }
        misfits
    }

    /// The pattern and the format of `other`, as far as it is known what they refuse.
    fn texts(
        &mut self,
        values: &[Value],
        (one, other): (&Shape<'a>, &Shape<'a>),
        lacking: &mut Vec<String>,
    ) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
        let pattern = other.bounds.get("pattern").and_then(|pattern| pattern.as_str());
        let is_same = one.bounds.get("pattern").and_then(|pattern| pattern.as_str()) == pattern;
        let mut refused: Vec<&str> = Vec::new();
        if let Some(pattern) = pattern
            && self.way.side == Side::Request
            && !is_same
            && !texts.is_empty()
        {
            match self.pattern(pattern) {
                Some(known) => refused.extend(texts.iter().filter(|text| !known.is_match(text))),
                None => {
                    let tighter = Tighter {
                        name: "pattern",
                        from: String::new(),
                        to: text(&Value::from(pattern)),
                        is_unsure: true,
                    };
                    misfits.push(Misfit::unsure(Why::Bound(tighter)));
                }
            }
        }
        if let Some(format) = other.format
            && one.format != other.format
            && refuses(other.format)
        {
            let mut is_unsure = false;
            for text in &texts {
                match is_of(text, format) {
                    Some(true) => {}
                    Some(false) => refused.push(text),
                    None => is_unsure = true,
                }
            }
            if is_unsure {
                misfits.push(Misfit::unsure(Why::Kind { from: one.word(), to: other.word() }));
            }
        }
        for refused in refused {
            let refused = text(&Value::from(refused));
            if !lacking.contains(&refused) {
                lacking.push(refused);
            }
        }
        misfits
    }

    /// One that is written as text where another kind of value, or any text, is taken.
    pub(super) fn as_text(&mut self, one: &Shape<'a>, other: &Shape<'a>) -> Vec<Misfit> {
        let mut misfits = Vec::new();
        if let Some(values) = &one.values {
            if !self.fuel.burn(one.weight() + other.weight() + one.pairs(other)) {
                return misfits;
            }
            let (mut lacking, mut left) = (Vec::new(), Vec::new());
            for value in values {
                let told = written(value);
                let is_one_of = |theirs: &Vec<&Value>| theirs.iter().any(|their| written(their) == told);
                match (read_as(&told, other.kind), &other.values) {
                    (_, Some(theirs)) if is_one_of(theirs) => {}
                    (Some(read), None) if bound::holds(&read, other) => left.push(read),
                    _ => lacking.push(text(value)),
                }
            }
            misfits = self.texts(&left, (one, other), &mut lacking);
            if !lacking.is_empty() {
                misfits.push(Misfit::sure(Why::Values(lacking)));
            }
        } else {
            let most = other.bounds.get("maxLength").and_then(|most| most.as_u64());
            let is_short = bound::longest(one).zip(most).is_some_and(|(longest, most)| longest <= most);
            let fits = |it: &Misfit| is_short && matches!(&it.why, Why::Bound(bound) if bound.name == "maxLength");
            misfits.extend(tightly(one, other).into_iter().filter(|it| !fits(it)));
        }
        misfits.extend(self.aside(one, other));
        misfits
    }

    /// What a pattern takes: as pydantic understands it by default, which is as this crate does.
    fn pattern(&mut self, pattern: &str) -> Option<Regex> {
        if pattern.len() > PATTERN.0 || !self.fuel.burn(PATTERN_STEPS) {
            return None;
        }
        RegexBuilder::new(pattern).size_limit(PATTERN.1).dfa_size_limit(PATTERN.1).build().ok()
    }
}

fn is_nested(shape: &Shape<'_>) -> bool {
    let is_list = !shape.first.is_empty() || !shape.items.is_empty();
    is_list || shape.is_closed || !shape.others.is_empty() || !shape.properties.is_empty() || !shape.required.is_empty()
}

/// A value as a parameter or a form has it.
fn written(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// A text as a value of that kind.
fn read_as(told: &str, kind: Kind) -> Option<Value> {
    match kind {
        Kind::Integer => told.parse::<i64>().ok().map(Value::from),
        Kind::Number => told.parse::<f64>().ok().map(Value::from),
        Kind::Boolean => {
            let told = told.to_lowercase();
            let is_yes = YES.contains(&told.as_str());
            (is_yes || NO.contains(&told.as_str())).then_some(Value::Bool(is_yes))
        }
        Kind::Text => Some(Value::from(told)),
        _ => None,
    }
}

/// Whether a text is of a format, where that is known.
fn is_of(text: &str, format: &str) -> Option<bool> {
    let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
    // Apps take more than the document says, as seconds for a time; but no words.
    let perhaps = |is_one: bool| if is_one { Some(true) } else { (!has_digit).then_some(false) };
    match format {
        "uuid" => Some(uuid::Uuid::try_parse(text).is_ok()),
        "date" => perhaps(text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok()),
        "date-time" => perhaps(text.parse::<jiff::Timestamp>().is_ok()),
        "time" => perhaps(text.parse::<jiff::civil::Time>().is_ok()),
        "duration" => perhaps(false),
        "ipv4" => Some(text.parse::<Ipv4Addr>().is_ok()),
        "ipv6" => Some(text.parse::<Ipv6Addr>().is_ok()),
        "email" => (!text.contains('@')).then_some(false),
        "uri" => (!text.contains(':')).then_some(false),
        _ => None,
    }
}
