//! Judges the host itself: settings, disks, clock, records, who is at work, the port, open files.

use super::engine::{NO_ENGINE, list};
use super::facts::{Daemon, Port, Space, State};
use super::finding::Finding;
use super::{Blank, Found};
use crate::engine::docker::examine::{EngineFacts, Visit};
use crate::tree::Size;

/// Below the first a disk is a warning, below the second a problem: an install of pandas takes some 300 MB while it is
/// made, and SQLite, logs and the engine need their share.
const FREE: (Size, Size) = (Size::mib(5 * 1024), Size::mib(1024));

/// The same of inodes: an environment with pandas has some 5,000 files.
const FREE_INODES: (u64, u64) = (100_000, 10_000);

/// Seconds that clocks may differ by: above the first some logins and caches go wrong, above the second certificates.
const SKEW: (f64, f64) = (5.0, 60.0);

/// Open files below which a busy gateway is short of them, and below which an idle one is. A request holds two.
const OPEN_FILES: (u64, u64) = (4096, 1024);

/// Whether `skep.yaml` and the environment can be used; silent where they can.
pub(super) fn settings(errors: &[String]) -> Option<Finding> {
    let first = errors.first()?;
    let more = if errors.len() > 1 { format!(" (and {} more)", errors.len() - 1) } else { String::new() };
    let means = "No command but `skep check` works with these. What follows was looked at with what of them is sound.";
    Some(
        Finding::problem("settings", format!("{first}{more}"), means).next("skep check    # shows each with its place"),
    )
}

/// How much room the engine and the state folder have; one finding where both are on one disk.
pub(super) fn disks(engine: &Found<Space>, state: &Found<Space>) -> Vec<Finding> {
    match (engine, state) {
        (Ok(engine), Ok(state)) if engine.device == state.device => vec![disk("disk", engine)],
        (engine, state) => [("disk", engine), ("state-disk", state)]
            .into_iter()
            .map(|(check, space)| match space {
                Ok(space) => disk(check, space),
                Err(blank) => Finding::unknown(check, blank.to_string()),
            })
            .collect(),
    }
}

fn disk(check: &'static str, space: &Space) -> Finding {
    let place = space.path.display();
    let share = space.free.saturating_mul(100) / space.size.max(1);
    let mut found = format!("{} free of {} ({share} %) at {place}", gib(space.free), gib(space.size));
    if space.is_read_only {
        let means = "Nothing can be written there: no image, no record, no log.";
        return Finding::problem(check, format!("{place} is mounted read-only"), means).next(format!(
            "sudo mount -o remount,rw $(findmnt -n -o TARGET --target {place})    # `dmesg` says why it became so"
        ));
    }
    let is_short_of_inodes = space.inodes > 0 && space.free_inodes < FREE_INODES.0;
    if is_short_of_inodes {
        found = format!("{} of {} inodes free at {place}", space.free_inodes, space.inodes);
    }
    let means = "Installs and builds fail first; then the engine can start nothing, and records cannot be written.";
    let finding = if space.free < FREE.1.0 || space.inodes > 0 && space.free_inodes < FREE_INODES.1 {
        Finding::problem(check, found, means)
    } else if space.free < FREE.0.0 || is_short_of_inodes {
        Finding::warning(check, found, means)
    } else {
        return Finding::ok(check, found);
    };
    finding
        .next("docker system df    # what the engine keeps; `docker image prune` and `docker builder prune` free what nobody needs")
        .next(format!("sudo du -xh --max-depth=2 {place} | sort -h | tail"))
}

/// Whether this host, the engine and the package index agree on the time.
pub(super) fn clock(engine: &Found<EngineFacts>, visit: &Found<Visit>) -> Finding {
    const CHECK: &str = "clock";
    let engine_ahead = engine.as_ref().ok().and_then(|engine| {
        // What is within the exactness of the question is no difference.
        let ahead = engine.ahead?.as_secs_f64();
        let slack = engine.precision.as_secs_f64();
        Some(if ahead.abs() <= slack { 0.0 } else { ahead })
    });
    // The container's clock is its engine's. A `Date` has no fractions, so half a second is its middle.
    let index_ahead = visit.as_ref().ok().and_then(|visit| Some(visit.date? + 0.5 - visit.received?));
    let compared = [
        ("the engine", engine_ahead),
        ("the package index", index_ahead.map(|ahead| ahead + engine_ahead.unwrap_or(0.0))),
    ];
    let known: Vec<(&str, f64)> = compared.into_iter().filter_map(|(who, ahead)| Some((who, ahead?))).collect();
    if known.is_empty() {
        let why = if engine.is_err() { NO_ENGINE } else { "nobody's clock was there to compare with" };
        return Finding::unknown(CHECK, Blank::Skipped(why).to_string());
    }
    let say = |(who, ahead): &(&str, f64)| match *ahead {
        ahead if ahead.abs() < 1.0 => format!("within a second of {who}"),
        ahead if ahead < 0.0 => format!("{:.0} s ahead of {who}", -ahead),
        ahead => format!("{ahead:.0} s behind {who}"),
    };
    let told: Vec<String> = known.iter().map(say).collect();
    let found = list(told.iter().map(String::as_str));
    let worst = known.iter().map(|(_, ahead)| ahead.abs()).fold(0.0, f64::max);
    let set = "sudo timedatectl set-ntp true    # `timedatectl` shows whether it keeps time";
    if worst > SKEW.1 {
        let means = "Certificates are taken for expired or not yet good, and times in events and keys are wrong.";
        Finding::problem(CHECK, found, means).next(set)
    } else if worst > SKEW.0 {
        let means = "Times in events and logs of this host and of others do not fit together.";
        Finding::warning(CHECK, found, means).next(set)
    } else {
        Finding::ok(CHECK, found)
    }
}

/// Whether there is a state folder, and whether its records are sound.
pub(super) fn state(state: &Found<State>) -> Finding {
    const CHECK: &str = "records";
    match state {
        Ok(State::None(path)) => Finding::ok(CHECK, format!("none yet; `skep apply` makes {}", path.display())),
        Ok(State::WithoutRecords(path)) => Finding::ok(CHECK, format!("none yet in {}", path.display())),
        Ok(State::Database(condition, owner)) => super::database::database(condition, owner.as_deref()),
        Ok(State::Away(why)) => {
            let means = "What serves goes on, by the keys that are known; nothing is deployed, and a daemon starts only with \
                         `records: { offline: serve }`.";
            Finding::problem(CHECK, why.clone(), means).next("See to SKEP_DB_URL (or SUPABASE_DB_URL) and the server.")
        }
        Ok(State::Records(path, condition)) => {
            let place = path.display();
            let aside = format!(
                "mv {place} {place}.damaged    # with no daemon at work; APIs are adopted anew, keys and events are lost"
            );
            if let Some(complaint) = condition.complaints.first() {
                let means = "SQLite finds the file damaged, as a bad disk or a copy of a file in use leaves it.";
                return Finding::problem(CHECK, format!("{place}: {complaint}"), means)
                    .next("Restore the file from a backup.")
                    .next(aside);
            }
            if !condition.is_ours {
                let means = "It is a database of another program, so skep leaves it alone and does not start.";
                return Finding::problem(CHECK, format!("{place} was not made by skep"), means)
                    .next("Set SKEP_STATE_DIR to another folder.");
            }
            let (schema, known) = (condition.schema, condition.known);
            if schema > known {
                let means = "A newer skep has written them, and this one does not start.";
                return Finding::problem(
                    CHECK,
                    format!("{place} is of schema {schema}; this skep knows up to {known}"),
                    means,
                )
                .next("Run the newer skep.");
            }
            let apis = if condition.apis == 1 { "1 API".to_owned() } else { format!("{} APIs", condition.apis) };
            let found = format!("{apis}, {}, sound, schema {schema}", mib(condition.bytes));
            if schema < known {
                return Finding::note(CHECK, found, format!("The next start brings them to schema {known}."));
            }
            Finding::ok(CHECK, found)
        }
        Err(Blank::Failed(why)) => {
            let means = "Nothing can be remembered: no command that looks at the world works, and no daemon starts.";
            let finding = Finding::problem(CHECK, why.clone(), means);
            if why.to_lowercase().contains("permission denied") {
                finding.next("Run skep as the user that owns the state folder, or set SKEP_STATE_DIR to another.")
            } else {
                finding.next("Restore the state folder from a backup, or move it away to begin anew.")
            }
        }
        Err(blank) => Finding::unknown(CHECK, blank.to_string()),
    }
}

/// Whether somebody is at work.
pub(super) fn daemon(daemon: &Daemon) -> Finding {
    const CHECK: &str = "daemon";
    match daemon {
        Daemon::None => Finding::note(CHECK, "none at work", "Nothing is routed, healed or updated until one is.")
            .next("skep serve"),
        Daemon::AtWork { holder, answers } => {
            let mut found = format!("`skep {}` is at work, process {}", holder.command, holder.pid);
            if let Some(address) = holder.address {
                found += &format!(", at {address}");
            }
            match answers {
                Some(Err(why)) => Finding::problem(
                    CHECK,
                    format!("{found}, and does not answer: {why}"),
                    "It holds the lock and serves nobody; another cannot take over while it does.",
                )
                .next(format!("kill {}    # then `skep serve`; containers go on running meanwhile", holder.pid)),
                _ => Finding::ok(CHECK, found),
            }
        }
    }
}

/// Whether the gateway can listen.
pub(super) fn port(port: &Port) -> Finding {
    const CHECK: &str = "port";
    match port {
        Port::Free(address) => Finding::ok(CHECK, format!("{address} is free")),
        Port::Ours(address) => Finding::ok(CHECK, format!("{address} is our daemon's")),
        Port::Taken(address) => Finding::problem(
            CHECK,
            format!("{address} is another program's"),
            "`skep serve` cannot listen there, so it does not start.",
        )
        .next(format!("sudo ss -ltnp 'sport = :{}'    # names that program", address.port()))
        .next("SKEP_LISTEN=127.0.0.1:8664 skep serve"),
        Port::Refused(address, why) => {
            let finding = Finding::problem(
                CHECK,
                format!("{address}: {why}"),
                "`skep serve` cannot listen there, so it does not start.",
            );
            if address.port() < 1024 && address.port() != 0 {
                finding.next("Set SKEP_LISTEN to a port from 1024 on; those below are root's.")
            } else {
                finding.next("ip -brief address    # lists this host's own; set SKEP_LISTEN to one of them")
            }
        }
    }
}

/// Whether the gateway may hold enough connections.
pub(super) fn open_files((current, maximum): (Option<u64>, Option<u64>)) -> Finding {
    const CHECK: &str = "open-files";
    let Some(maximum) = maximum else { return Finding::ok(CHECK, "no limit") };
    let current = current.unwrap_or(maximum);
    let found = format!("up to {maximum}, {current} unless asked for; skep asks");
    let means =
        format!("Each request holds two, so some {} at a time are served, and others wait or fail.", maximum / 2);
    let step = "Set LimitNOFILE=65536 in the unit of the daemon, or `ulimit -Hn 65536` before `skep serve`.";
    if maximum < OPEN_FILES.1 {
        Finding::problem(CHECK, found, means).next(step)
    } else if maximum < OPEN_FILES.0 {
        Finding::warning(CHECK, found, means).next(step)
    } else {
        Finding::ok(CHECK, found)
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn gib(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(super) fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use jiff::SignedDuration;

    use super::super::Outcome;
    use super::*;
    use crate::installation::Holder;
    use crate::records::sqlite::examine::Condition;

    fn space(free_mib: u64, free_inodes: u64) -> Space {
        Space {
            path: PathBuf::from("/var/lib/docker"),
            device: 1,
            free: free_mib << 20,
            size: 100 << 30,
            free_inodes,
            inodes: 6_000_000,
            is_read_only: false,
        }
    }

    #[test]
    fn a_disk_is_measured_by_what_an_install_takes() {
        let of = |space: Space| disk("disk", &space).outcome;
        assert_eq!(of(space(5 * 1024, 100_000)), Outcome::Ok);
        assert_eq!(of(space(5 * 1024 - 1, 100_000)), Outcome::Warning);
        assert_eq!(of(space(1023, 100_000)), Outcome::Problem);
        assert_eq!(of(space(50_000, 99_999)), Outcome::Warning);
        assert_eq!(of(space(50_000, 9_999)), Outcome::Problem);
        assert_eq!(of(Space { inodes: 0, ..space(50_000, 0) }), Outcome::Ok);
        assert_eq!(of(Space { is_read_only: true, ..space(50_000, 100_000) }), Outcome::Problem);
        assert!(disk("disk", &space(2048, 100_000)).found.starts_with("2.0 GiB free of 100.0 GiB (2 %)"));
    }

    #[test]
    fn two_folders_on_one_disk_are_one_finding() {
        let (one, other) = (Ok(space(9000, 200_000)), Ok(Space { device: 2, ..space(9000, 200_000) }));
        assert_eq!(disks(&one, &one).len(), 1);
        assert_eq!(disks(&one, &other).len(), 2);
        let apart = disks(&Err(Blank::Skipped(NO_ENGINE)), &one);
        assert_eq!([apart[0].outcome, apart[1].outcome], [Outcome::Unknown, Outcome::Ok]);
    }

    #[test]
    fn clocks_are_compared_with_the_engine_and_with_the_index() {
        let engine = |millis| {
            Ok(EngineFacts {
                ahead: Some(SignedDuration::from_millis(millis)),
                precision: SignedDuration::from_millis(20),
                ..EngineFacts::default()
            })
        };
        let index = |ahead: f64| Ok(Visit { date: Some(1e9 + ahead - 0.5), received: Some(1e9), ..Visit::default() });
        let nobody = || Err(Blank::Skipped(NO_ENGINE));
        assert_eq!(clock(&engine(300), &index(0.2)).outcome, Outcome::Ok);
        assert_eq!(clock(&engine(5_500), &nobody()).outcome, Outcome::Warning);
        assert_eq!(clock(&engine(-61_000), &nobody()).outcome, Outcome::Problem);
        let behind = clock(&engine(0), &index(600.0));
        assert_eq!(behind.outcome, Outcome::Problem);
        assert!(behind.found.contains("600 s behind the package index"), "{behind:?}");
        // An engine elsewhere is as wrong as the index says, and this host is right.
        let elsewhere = clock(&engine(-100_000), &index(100.0));
        assert!(
            elsewhere.found.contains("100 s ahead of the engine and within a second of the package index"),
            "{elsewhere:?}"
        );
        assert_eq!(clock(&Err(Blank::Skipped(NO_ENGINE)), &nobody()).outcome, Outcome::Unknown);
    }

    #[test]
    fn records_that_are_not_sound_say_how() {
        let sound = Condition { schema: 1, known: 1, is_ours: true, apis: 8, bytes: 1 << 20, complaints: Vec::new() };
        let of = |condition: Condition| state(&Ok(State::Records(PathBuf::from("/s/records.db"), condition)));
        assert_eq!(of(sound.clone()).found, "8 APIs, 1.0 MiB, sound, schema 1");
        assert_eq!(of(Condition { known: 2, ..sound.clone() }).outcome, Outcome::Note);
        assert_eq!(of(Condition { schema: 3, ..sound.clone() }).outcome, Outcome::Problem);
        assert_eq!(of(Condition { is_ours: false, ..sound.clone() }).outcome, Outcome::Problem);
        let damaged = of(Condition { complaints: vec!["Tree 4 page 4: btreeInitPage".to_owned()], ..sound });
        assert_eq!(damaged.outcome, Outcome::Problem);
        assert!(damaged.found.contains("Tree 4") && damaged.next.len() == 2, "{damaged:?}");
        assert_eq!(state(&Err(Blank::Late(Duration::from_secs(30)))).outcome, Outcome::Unknown);
        assert_eq!(state(&Err(Blank::Failed("cannot use /s: Permission denied".to_owned()))).outcome, Outcome::Problem);
    }

    #[test]
    fn a_daemon_that_holds_the_lock_and_is_silent_is_a_problem() {
        let address = "127.0.0.1:8663".parse().unwrap();
        let holder = Holder {
            pid: 7,
            command: "serve".to_owned(),
            address: Some(address),
            root: PathBuf::from("/srv"),
            base: None,
            records: None,
        };
        let of = |answers| daemon(&Daemon::AtWork { holder: holder.clone(), answers });
        assert_eq!(of(Some(Ok(()))).found, "`skep serve` is at work, process 7, at 127.0.0.1:8663");
        assert_eq!(of(Some(Err("silence".to_owned()))).outcome, Outcome::Problem);
        assert_eq!(daemon(&Daemon::None).outcome, Outcome::Note);
        assert_eq!(port(&Port::Ours(address)).outcome, Outcome::Ok);
        assert!(port(&Port::Taken(address)).next[0].contains("sport = :8663"));
        let low = port(&Port::Refused("127.0.0.1:80".parse().unwrap(), "permission denied".to_owned()));
        assert!(low.next[0].contains("1024"), "{low:?}");
    }

    #[test]
    fn what_counts_is_how_many_files_skep_may_ask_for() {
        assert_eq!(open_files((Some(1024), Some(1_048_576))).outcome, Outcome::Ok);
        assert_eq!(open_files((Some(1024), Some(1024))).outcome, Outcome::Warning);
        assert_eq!(open_files((Some(256), Some(256))).outcome, Outcome::Problem);
        assert_eq!(open_files((Some(1024), None)).outcome, Outcome::Ok);
    }
}
