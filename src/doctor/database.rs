//! Judges the Postgres that keeps the records.

use std::time::Duration;

use super::finding::Finding;
use crate::records::postgres::examine::Condition;

const CHECK: &str = "records";

/// How long a trip there and back may take before every look and every deploy is slower for it.
const FAR: Duration = Duration::from_millis(30);

/// How the database is, and our tables in it.
pub(super) fn database(condition: &Condition, owner: Option<&str>) -> Finding {
    let place = format!("PostgreSQL {} at {}", condition.version, condition.place);
    if let Some(schema) = condition.schema.filter(|schema| *schema > condition.known) {
        let found = format!("{place} has records of schema {schema}; this skep knows up to {}", condition.known);
        let means = "A newer skep has written them, and this one does not start.";
        return Finding::problem(CHECK, found, means).next("Run the newer skep.");
    }
    if let (Some(theirs), Some(ours)) = (&condition.owner, owner)
        && theirs != ours
    {
        let found = format!("{place} has the records of installation {theirs}; this one is {ours}");
        let means = "Two installations would take each other's APIs for their own, so skep does not start.";
        return Finding::problem(CHECK, found, means)
            .next("Name another schema in skep.yaml: records: { schema: skep_two }")
            .next(format!(
                "Where this host takes the other's place: echo {theirs} > installation    # in the state folder"
            ));
    }
    if !condition.is_writable {
        let means =
            "It takes no writes, as a standby does. What serves goes on; nothing is deployed or counted meanwhile.";
        return Finding::problem(CHECK, format!("{place} is read-only"), means)
            .next("Name the primary; with several hosts in the address, add target_session_attrs=read-write.");
    }
    if let Some(trouble) = &condition.trouble {
        let means = "The tables that skep needs cannot be made or brought up to date.";
        return Finding::problem(CHECK, format!("{place}: {trouble}"), means)
            .next("docs/postgres.md has the few rights that the role needs.");
    }
    let apis = if condition.apis == 1 { "1 API".to_owned() } else { format!("{} APIs", condition.apis) };
    let tables =
        condition.schema.map_or_else(|| "no tables yet".to_owned(), |schema| format!("{apis}, schema {schema}"));
    let way = if condition.is_encrypted { "by TLS" } else { "in plain text" };
    let (most, open) = condition.connections;
    let millis = condition.trip.as_secs_f64() * 1e3;
    let found = format!("{place}, {tables}, {way}, {millis:.1} ms there and back, {open} of {most} connections");
    if condition.trip > FAR {
        let means = "Callers notice nothing; every look and every deploy waits for some ten such trips.";
        return Finding::warning(CHECK, found, means).next("Run skep in the region of the database.");
    }
    if open * 10 >= most * 9 {
        let means = "Others may soon find no connection, and so may skep.";
        return Finding::warning(CHECK, found, means).next("Raise max_connections, or find out who holds them.");
    }
    if condition.schema.is_none_or(|schema| schema < condition.known) {
        return Finding::note(CHECK, found, format!("The next start brings them to schema {}.", condition.known));
    }
    Finding::ok(CHECK, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Outcome;

    #[test]
    fn each_trouble_of_a_database_is_told_apart() {
        let sound = Condition {
            place: "db.test:5432/postgres".to_owned(),
            version: "15.18".to_owned(),
            is_encrypted: true,
            is_writable: true,
            schema: Some(1),
            known: 1,
            owner: Some("ab".to_owned()),
            trouble: None,
            connections: (100, 7),
            apis: 1,
            trip: Duration::from_millis(2),
        };
        let of = |condition: &Condition| database(condition, Some("ab"));
        let good = of(&sound);
        assert_eq!(good.outcome, Outcome::Ok);
        let text = "PostgreSQL 15.18 at db.test:5432/postgres, 1 API, schema 1, by TLS, 2.0 ms there and back, 7 of 100 connections";
        assert_eq!(good.found, text);
        for (condition, outcome, word) in [
            (Condition { schema: Some(2), ..sound.clone() }, Outcome::Problem, "knows up to 1"),
            (Condition { owner: Some("cd".to_owned()), ..sound.clone() }, Outcome::Problem, "installation cd"),
            (Condition { is_writable: false, ..sound.clone() }, Outcome::Problem, "read-only"),
            (Condition { trouble: Some("no right".to_owned()), ..sound.clone() }, Outcome::Problem, "no right"),
            (Condition { trip: Duration::from_millis(80), ..sound.clone() }, Outcome::Warning, "80.0 ms"),
            (Condition { connections: (100, 95), ..sound.clone() }, Outcome::Warning, "95 of 100"),
            (Condition { schema: None, owner: None, apis: 0, ..sound }, Outcome::Note, "no tables yet"),
        ] {
            let finding = of(&condition);
            assert_eq!(finding.outcome, outcome, "{finding:?}");
            assert!(finding.found.contains(word), "{finding:?}");
        }
    }
}
