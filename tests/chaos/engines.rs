//! What happens to the engine itself, and to its disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::Arena;
use super::scene::Scene;
use super::table::Row;

/// For how long the engine is away, frozen, or without room.
const AWAY: Duration = Duration::from_secs(3);
const FROZEN: Duration = Duration::from_secs(20);
const FULL: Duration = Duration::from_secs(4);

/// What is left of a full disk.
const ROOM: u64 = 16 << 10;

pub async fn restarts(arena: &Arc<Arena>, tries: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for outlives in [false, true] {
        arena.engine.outlives.store(outlives, Ordering::SeqCst);
        arena.engine.end(Signal::TERM).await?;
        arena.engine.start().await?;
        for (signal, name) in [(Signal::KILL, "kill -9"), (Signal::TERM, "SIGTERM")] {
            let how = if outlives { "containers outlive it (live-restore)" } else { "containers end with it" };
            let mut row = Row::noted(format!("engine restarted by {name}; {how}"), format!("away for {AWAY:?}"));
            for _ in 0..tries {
                let mut scene = Scene::open(arena).await?;
                scene.begin();
                arena.engine.end(signal).await?;
                // A push while nothing can be done about it.
                scene.change()?;
                tokio::time::sleep(AWAY).await;
                arena.engine.start().await?;
                let from = Instant::now();
                if outlives {
                    scene.settle(arena, &mut row, from).await?;
                } else {
                    scene.settle_excused(arena, &mut row, from).await?;
                }
                scene.close().await?;
            }
            rows.push(row);
        }
    }
    arena.engine.outlives.store(false, Ordering::SeqCst);
    arena.engine.end(Signal::TERM).await?;
    arena.engine.start().await?;
    Ok(rows)
}

pub async fn frozen(arena: &Arc<Arena>, tries: usize) -> anyhow::Result<Vec<Row>> {
    let mut row = Row::noted("engine frozen for 20 s, with a push meanwhile", "seconds are from its thaw");
    for _ in 0..tries {
        let mut scene = Scene::open(arena).await?;
        scene.begin();
        arena.engine.signal(Signal::STOP).await?;
        scene.change()?;
        tokio::time::sleep(FROZEN).await;
        arena.engine.signal(Signal::CONT).await?;
        scene.settle(arena, &mut row, Instant::now()).await?;
        scene.close().await?;
    }
    Ok(vec![row])
}

pub async fn full(arena: &Arc<Arena>, tries: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for installs in [false, true] {
        let what = if installs { "an install" } else { "a build" };
        let mut row = Row::noted(format!("disk full during {what}, then freed"), "seconds are from the freeing");
        for round in 0..tries {
            let mut scene = Scene::open(arena).await?;
            scene.begin();
            let old = scene.wanted.clone();
            let filled = arena.engine.fill(ROOM)?;
            scene.change()?;
            if installs {
                scene.site.require("app", &format!("7.{}.{round}", scene.site.address.port()))?;
            }
            tokio::time::sleep(FULL).await;
            // What served goes on serving while there is no room for anything new.
            for (id, (text, _)) in &old {
                match scene.site.answer(id).await {
                    Ok(answer) if answer == *text => {}
                    other => row.wrong.push(format!("with the disk full {id} answers {other:?}")),
                }
            }
            drop(filled);
            scene.settle(arena, &mut row, Instant::now()).await?;
            scene.close().await?;
        }
        rows.push(row);
    }
    Ok(rows)
}
