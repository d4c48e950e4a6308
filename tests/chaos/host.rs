//! What happens to the host around skep: its tree, its clock, its file descriptors, its port, and its own process.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use rand::Rng as _;
use rustix::process::Signal;
use tokio::net::{TcpListener, TcpStream};

use super::Arena;
use super::engine::tail;
use super::scene::{APP, PATIENCE, Scene};
use super::site::Site;
use super::table::Row;

/// For how long the tree is rewritten without a rest.
const REWRITTEN: Duration = Duration::from_secs(10);

pub async fn rewritten(arena: &Arc<Arena>, tries: usize) -> anyhow::Result<Vec<Row>> {
    let mut row =
        Row::noted("tree rewritten for 10 s by git checkout, back and forth", "seconds are from the last checkout");
    for _ in 0..tries {
        let mut scene = Scene::open(arena).await?;
        let root = scene.site.root();
        let git = |words: &[&str]| {
            let mut command = Command::new("git");
            command.current_dir(&root).args(["-c", "user.name=chaos", "-c", "user.email=chaos@chaos.test"]).args(words);
            let output = command.output().context("cannot run git")?;
            ensure!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
            Ok::<_, anyhow::Error>(())
        };
        git(&["init", "--quiet", "--initial-branch", "one"])?;
        git(&["add", "."])?;
        git(&["commit", "--quiet", "--message", "one"])?;
        git(&["checkout", "--quiet", "-b", "two"])?;
        // Another file everywhere, one API that is new, and many files that make a checkout take its time.
        for file in 0..200 {
            scene.site.write(&format!("apis/{APP}/part{file}.py"), &format!("PART = {file}\n"))?;
        }
        scene.site.code("fleeting", "fleeting")?;
        scene.change()?;
        git(&["add", "."])?;
        git(&["commit", "--quiet", "--message", "two"])?;
        scene.begin();
        let deadline = Instant::now() + REWRITTEN;
        while Instant::now() < deadline {
            for branch in ["one", "two"] {
                git(&["checkout", "--quiet", branch])?;
                tokio::time::sleep(Duration::from_millis(rand::rng().random_range(0..80))).await;
            }
        }
        scene.wanted.insert("fleeting".to_owned(), ("fleeting".to_owned(), 1));
        scene.settle(arena, &mut row, Instant::now()).await?;
        scene.close().await?;
    }
    Ok(vec![row])
}

pub async fn overflow(arena: &Arc<Arena>, tries: usize) -> anyhow::Result<Vec<Row>> {
    let most: u64 = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")?.trim().parse()?;
    let note = format!("the queue holds {most}; skep is stopped meanwhile, since it would read them");
    let mut row = Row::noted("more file events than the queue holds", note);
    for _ in 0..tries {
        let mut scene = Scene::open(arena).await?;
        scene.begin();
        scene.site.signal(Signal::STOP)?;
        let path = scene.site.root().join("apis").join(APP).join("notes.txt");
        // Each write is at least two events: opened for it and closed, or changed.
        for round in 0..most {
            fs::write(&path, round.to_string())?;
        }
        // The queue is full: of this change nothing tells.
        scene.change()?;
        scene.site.signal(Signal::CONT)?;
        // Callers had to wait for a frozen gateway, and none may be refused.
        scene.settle(arena, &mut row, Instant::now()).await?;
        scene.close().await?;
    }
    Ok(vec![row])
}

pub async fn clock(arena: &Arc<Arena>, tries: usize) -> anyhow::Result<Vec<Row>> {
    let mut folders = fs::read_dir("/usr/lib")?.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    let library =
        folders.find(|path| path.exists()).context("libfaketime is not there; `scripts/setup test` installs it")?;
    let library = library.display().to_string();
    let mut rows = Vec::new();
    for (step, name) in [
        ("+3600", "an hour ahead"),
        ("-3600", "an hour back"),
        ("+864000", "ten days ahead"),
        ("-864000", "ten days back"),
    ] {
        let mut row = Row::noted(
            format!("clock steps {name}, then an instance dies and a push comes"),
            "the clock of skep alone, by libfaketime",
        );
        for _ in 0..tries {
            let offset = tempfile::NamedTempFile::new()?;
            fs::write(&offset, "+0\n")?;
            let mut scene = Scene::open_with(arena, |site| {
                let path = offset.path().display().to_string();
                let variables = [("LD_PRELOAD", &library), ("FAKETIME_TIMESTAMP_FILE", &path)];
                site.environment.extend(variables.map(|(name, value)| (name.to_owned(), value.clone())));
                for name in ["FAKETIME_NO_CACHE", "FAKETIME_DONT_FAKE_MONOTONIC"] {
                    site.environment.push((name.to_owned(), "1".to_owned()));
                }
                Ok(())
            })
            .await?;
            scene.begin();
            fs::write(&offset, format!("{step}\n"))?;
            let instances = scene.site.instances(APP).await?;
            let id = instances.first().context("the API has an instance")?;
            scene
                .site
                .engine
                .client()?
                .kill_container(id, None::<bollard::query_parameters::KillContainerOptions>)
                .await?;
            scene.settle(arena, &mut row, Instant::now()).await?;
            scene.begin();
            scene.change()?;
            scene.settle(arena, &mut row, Instant::now()).await?;
            scene.close().await?;
        }
        rows.push(row);
    }
    Ok(rows)
}

pub async fn descriptors(arena: &Arc<Arena>, tries: usize) -> anyhow::Result<Vec<Row>> {
    const MOST: usize = 128;
    let mut row = Row::noted(
        "no file descriptors left for 5 s, with a push meanwhile",
        format!(
            "skep may open {MOST}, and {} callers connect and say nothing; seconds are from their leaving",
            MOST * 2
        ),
    );
    for _ in 0..tries {
        let mut scene = Scene::open_with(arena, |site| {
            site.wrapper = ["prlimit", &format!("--nofile={MOST}:{MOST}"), "--"].map(str::to_owned).to_vec();
            Ok(())
        })
        .await?;
        scene.begin();
        let mut idle = Vec::new();
        for _ in 0..MOST * 2 {
            // Those that nobody takes up any more need not be waited for.
            let connected =
                tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(scene.site.address)).await;
            idle.extend(connected.ok().transpose()?);
        }
        scene.change()?;
        tokio::time::sleep(Duration::from_secs(5)).await;
        drop(idle);
        // New callers cannot but wait meanwhile.
        scene.settle_excused(arena, &mut row, Instant::now()).await?;
        scene.close().await?;
    }
    Ok(vec![row])
}

pub async fn port(arena: &Arc<Arena>, tries: usize) -> anyhow::Result<Vec<Row>> {
    let mut row =
        Row::noted("port taken at the start, then free", "skep must say so and end; seconds are from the next start");
    for _ in 0..tries {
        let scene = Scene::open(arena).await?;
        scene.site.end(Signal::TERM).await?;
        let taken = TcpListener::bind(scene.site.address).await?;
        scene.site.serve().await?;
        let status = scene.site.buried().await?;
        let said = tail(&scene.site.log(), 3);
        if status.success() || !said.contains("cannot listen on") {
            row.wrong.push(format!("with its port taken it ended with {status} and said: {said}"));
        }
        drop(taken);
        scene.site.serve().await?;
        scene.settle_excused(arena, &mut row, Instant::now()).await?;
        scene.close().await?;
    }
    Ok(vec![row])
}

/// Ends the daemon at random moments of a deploy.
pub async fn ended(arena: &Arc<Arena>, tries: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (signal, name) in [(Signal::TERM, "SIGTERM"), (Signal::KILL, "kill -9")] {
        let mut row = Row::noted(format!("{name} at a random moment of a deploy"), "seconds are from the restart");
        let mut chance = arena.chance();
        let mut scene = Scene::open(arena).await?;
        for _ in 0..tries {
            scene.begin();
            scene.change()?;
            tokio::time::sleep(Duration::from_millis(chance.random_range(0..2500))).await;
            let before = Instant::now();
            scene.site.end(signal).await?;
            let from = Instant::now();
            scene.site.serve().await?;
            scene.settle_excused(arena, &mut row, from).await?;
            // Whoever connects to the new one waits, and is served.
            let failed = scene.callers.failed_after_kill(from);
            row.failed += failed.len();
            row.wrong.extend(failed.first().map(|first| format!("the new daemon failed a caller: {}", first.what)));
            if before.elapsed() > PATIENCE {
                row.wrong.push("it took a minute and more to end".to_owned());
            }
            if !row.is_good() {
                let worn = std::mem::replace(&mut scene, Scene::open(arena).await?);
                worn.close().await?;
            }
        }
        scene.close().await?;
        rows.push(row);
    }
    Ok(rows)
}

/// Two daemons on one installation: one is at work, and the other takes over when it is gone.
pub async fn two(arena: &Arc<Arena>, tries: usize) -> anyhow::Result<Vec<Row>> {
    const AIM: Duration = Duration::from_secs(15);
    let mut rows = Vec::new();
    for (signal, name) in [(Signal::KILL, "killed"), (Signal::STOP, "frozen for 25 s")] {
        let mut row = Row::noted(
            format!("two daemons, the first {name}, with a push then"),
            "seconds are from the push to the second's having done all of it; the aim is 15 s",
        );
        for _ in 0..tries {
            let mut scene = Scene::open(arena).await?;
            let second = scene.site.second()?;
            second.serve().await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            if second.has_ended().await {
                row.bad(format!("the second does not stay: {}", tail(&second.log(), 2)));
                scene.close().await?;
                continue;
            }
            scene.begin();
            scene.site.signal(signal)?;
            let (begun, deadline) = (Instant::now(), Instant::now() + Duration::from_secs(25));
            scene.change()?;
            match second.settled(&scene.wanted, PATIENCE).await {
                Ok((at, _)) => {
                    if at - begun > AIM {
                        row.wrong.push(format!("it took {:?} to take over", at - begun));
                    }
                    row.good(at - begun);
                }
                Err(error) => {
                    let file = arena.tell(
                        &row.fault,
                        &format!("{error:#}\n--- second\n{}\n{}", tail(&second.log(), 100), scene.site.story()),
                    )?;
                    row.bad(format!("{error:#} ({})", file.display()));
                }
            }
            if signal == Signal::STOP {
                // The old one wakes up, believes that it is at work, and must do no harm.
                tokio::time::sleep_until(deadline.into()).await;
                let before = container_ids(&scene.site).await?;
                scene.site.signal(Signal::CONT)?;
                tokio::time::sleep(Duration::from_secs(8)).await;
                let after = container_ids(&scene.site).await?;
                if before != after {
                    row.wrong.push(format!("the old one changed the world: {before:?} to {after:?}"));
                }
            } else {
                scene.site.buried().await?;
            }
            second.close_daemon().await?;
            scene.close().await?;
        }
        rows.push(row);
    }
    Ok(rows)
}

async fn container_ids(site: &Site) -> anyhow::Result<Vec<String>> {
    let mut ids: Vec<String> = site.containers().await?.into_iter().filter_map(|container| container.id).collect();
    ids.sort();
    Ok(ids)
}
