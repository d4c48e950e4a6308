//! What people do by hand, to containers, images, networks, records and the firewall. Each is noticed by an event of the
//! engine's within about a second, and without events by the periodic look; and it is put right.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::Context as _;
use bollard::models::{ContainerUpdateBody, NetworkDisconnectRequest};
use bollard::query_parameters::{
    KillContainerOptions, RemoveContainerOptions, RemoveImageOptions, RenameContainerOptions, StopContainerOptions,
};
use rustix::process::Signal;

use super::proxy::Events;
use super::scene::{APP, PATIENCE, Scene};
use super::table::Row;
use super::{Arena, arena};

/// What somebody does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Kill,
    Stop,
    Pause,
    Remove,
    Rename,
    Disconnect,
    Update,
    Hang,
    DeleteImage,
    RemoveNetwork,
    EditRow,
    EmptyRow,
    DeleteRow,
    FlushFirewall,
}

const DEEDS: [Deed; 14] = [
    Deed::Kill,
    Deed::Stop,
    Deed::Pause,
    Deed::Remove,
    Deed::Rename,
    Deed::Disconnect,
    Deed::Update,
    Deed::Hang,
    Deed::DeleteImage,
    Deed::RemoveNetwork,
    Deed::EditRow,
    Deed::EmptyRow,
    Deed::DeleteRow,
    Deed::FlushFirewall,
];

impl Deed {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "container killed",
            Self::Stop => "container stopped",
            Self::Pause => "container paused",
            Self::Remove => "container removed",
            Self::Rename => "container renamed",
            Self::Disconnect => "container disconnected",
            Self::Update => "limit altered with docker update",
            Self::Hang => "app frozen: it runs and answers nothing",
            Self::DeleteImage => "image deleted",
            Self::RemoveNetwork => "network removed",
            Self::EditRow => "status of a record edited",
            Self::EmptyRow => "what served deleted from a record",
            Self::DeleteRow => "record deleted",
            Self::FlushFirewall => "firewall chain flushed",
        }
    }

    /// Whether the engine has an event for it: without any, the others are noticed in the same way anyhow.
    fn has_event(self) -> bool {
        !matches!(self, Self::EditRow | Self::EmptyRow | Self::DeleteRow | Self::FlushFirewall | Self::Hang)
    }

    /// Whether callers of the other API are hit too.
    fn is_excused(self) -> bool {
        self == Self::RemoveNetwork
    }

    async fn perform(self, scene: &Scene) -> anyhow::Result<()> {
        let client = scene.site.engine.client()?;
        let instances = scene.site.instances(APP).await?;
        let id = instances.first().context("the API has an instance")?.as_str();
        match self {
            Self::Kill => client.kill_container(id, None::<KillContainerOptions>).await?,
            Self::Stop => client.stop_container(id, None::<StopContainerOptions>).await?,
            Self::Pause => client.pause_container(id).await?,
            Self::Remove => {
                let options = RemoveContainerOptions { force: true, v: true, link: false };
                client.remove_container(id, Some(options)).await?;
            }
            Self::Rename => {
                let name = format!("somebody-{:08x}", rand::random::<u32>());
                client.rename_container(id, RenameContainerOptions { name }).await?;
            }
            Self::Disconnect => {
                let network = format!("skep-{}-internet", scene.site.owner());
                disconnect(&client, &network, id).await?;
            }
            Self::Update => {
                let body = ContainerUpdateBody {
                    memory: Some(400 << 20),
                    memory_swap: Some(400 << 20),
                    ..ContainerUpdateBody::default()
                };
                client.update_container(id, body).await?;
            }
            Self::Hang => {
                let found = client.inspect_container(id, None).await?;
                let pid = found.state.and_then(|state| state.pid).context("it runs")?;
                // The first process only passes signals on; the app is its child.
                let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
                arena::signal(children.split_whitespace().next().context("it has a child")?.parse()?, Signal::STOP)?;
            }
            Self::DeleteImage => {
                let found = client.inspect_container(id, None).await?;
                let image = found.config.and_then(|config| config.image).context("it has an image")?;
                let options = RemoveImageOptions { force: true, ..RemoveImageOptions::default() };
                client.remove_image(&image, Some(options), None).await?;
            }
            Self::RemoveNetwork => {
                let network = format!("skep-{}-internet", scene.site.owner());
                // Whoever heals at once may be quicker with the first container than we with the second.
                let deadline = Instant::now() + PATIENCE;
                loop {
                    for container in scene.site.containers().await? {
                        let _ = disconnect(&client, &network, &container.id.unwrap_or_default()).await;
                    }
                    let removed = client.remove_network(&network).await;
                    if removed.is_ok() || Instant::now() > deadline {
                        break removed?;
                    }
                }
            }
            Self::EditRow => {
                let edit = "UPDATE apis SET sync = 'blocked', message = 'by hand' WHERE id = ?";
                scene.site.records()?.execute(edit, [APP])?;
            }
            Self::EmptyRow => drop(scene.site.records()?.execute("UPDATE apis SET served = NULL WHERE id = ?", [APP])?),
            Self::DeleteRow => drop(scene.site.records()?.execute("DELETE FROM apis WHERE id = ?", [APP])?),
            Self::FlushFirewall => {
                let chain = scene.site.chain();
                arena::run("iptables", &["-F", &chain])?;
                arena::run("iptables", &["-F", "INPUT"])?;
            }
        }
        Ok(())
    }
}

async fn disconnect(client: &bollard::Docker, network: &str, container: &str) -> anyhow::Result<()> {
    let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
    Ok(client.disconnect_network(network, request).await?)
}

pub async fn run(arena: &Arc<Arena>, tries: usize) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut scene = Scene::open(arena).await?;
    for deed in DEEDS {
        for events in [Events::Whole, Events::Dropped, Events::Doubled] {
            if events != Events::Whole && !deed.has_event() {
                continue;
            }
            let how = match events {
                Events::Whole => "",
                Events::Dropped => ", events lost",
                Events::Doubled => ", events doubled",
            };
            let mut row = Row::new(format!("{}{how}", deed.name()));
            let mut notes = Vec::new();
            for _ in 0..tries {
                scene.site.proxy.set_events(events);
                // Of a new revision, since a container that was killed before counts as one that crashed before.
                scene.change()?;
                scene.site.settled(&scene.wanted, PATIENCE).await.with_context(|| scene.site.story())?;
                let before = scene.last_event()?;
                scene.begin();
                let (from, clock) = (Instant::now(), SystemTime::now());
                deed.perform(&scene).await?;
                if deed.is_excused() {
                    scene.settle_excused(arena, &mut row, from).await?;
                } else {
                    scene.settle(arena, &mut row, from).await?;
                }
                match scene.event_after(before, clock)? {
                    Some((after, said)) => notes.push(format!("after {after:.1} s {said:?}")),
                    None => row.wrong.push("no event says what was found".to_owned()),
                }
                if !row.is_good() {
                    // The next one deserves a world without this one's ruins.
                    let worn = std::mem::replace(&mut scene, Scene::open(arena).await?);
                    worn.close().await?;
                }
            }
            row.note = notes.first().cloned().unwrap_or_default();
            rows.push(row);
        }
    }
    scene.close().await?;
    Ok(rows)
}
