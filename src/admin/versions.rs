//! The versions that a plan's packages move from and to, where no lock names them: what is installed in the images that
//! serve, and what the index would give now.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout_at};

use crate::engine::{Engine, ImageTag};
use crate::reconcile::plan::Plan;
use crate::reconcile::{Desired, World};
use crate::tree::{ApiId, Requirements, Versions};
use crate::world::Observed;

/// How long all of it may take: whoever asks for a plan waits for it.
const WITHIN: Duration = Duration::from_secs(15);

/// How many containers are at it at once, each with what a build may use.
const AT_ONCE: usize = 2;

/// Where versions can be had.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// In an image, installed.
    Image(ImageTag),
    /// From the index, by its requirements.
    Index(Requirements),
    /// Nowhere any more.
    Gone,
}

/// The versions of a source, or why there are none.
type Found = BTreeMap<Source, Result<Versions, String>>;

/// Adds to a plan which packages move where no lock says it.
pub async fn add_versions(world: &World, apis: &BTreeMap<ApiId, (Desired, Observed)>, plan: &mut Plan) {
    let mut wanted = BTreeMap::new();
    for api in plan.all().filter(|api| api.may_move_packages()) {
        if let Some(sides) = apis.get(&api.id).and_then(|(desired, observed)| sides(desired, observed)) {
            wanted.insert(api.id.clone(), sides);
        }
    }
    let open = wanted.values().flatten().filter_map(|side| side.as_ref().err());
    let found = find(&*world.engine, open.cloned().collect()).await;
    for api in plan.all_mut() {
        let Some([old, new]) = wanted.remove(&api.id) else { continue };
        api.move_packages(known(old, &found), known(new, &found));
    }
}

/// What serves, and what will: known, or where to find it.
fn sides(desired: &Desired, observed: &Observed) -> Option<[Result<Versions, Source>; 2]> {
    let (served, target) = (desired.served.as_ref()?, desired.target()?);
    let is_there = |tag: &&ImageTag| observed.images.contains(*tag);
    let old = Versions::of_lock(&served.requirements).ok_or_else(|| {
        let images = [&served.images.code, &served.images.dependencies];
        images.into_iter().find(is_there).map_or(Source::Gone, |image| Source::Image(image.clone()))
    });
    let new = Versions::of_lock(&target.requirements).ok_or_else(|| {
        let image = Some(&target.images.dependencies).filter(is_there);
        image.map_or_else(|| Source::Index(target.requirements.clone()), |image| Source::Image(image.clone()))
    });
    Some([old, new])
}

/// Asks each source once.
async fn find(engine: &dyn Engine, sources: BTreeSet<Source>) -> Found {
    let until = Instant::now() + WITHIN;
    let ask = |source: Source| async move {
        let asked = async {
            match &source {
                Source::Image(image) => engine.installed(image).await,
                Source::Index(requirements) => engine.resolve(requirements).await,
                Source::Gone => return Err("the image that serves is gone, and with it what is installed".to_owned()),
            }
            .map_err(|error| error.to_string())
        };
        let late = || format!("they could not be had within {} s", WITHIN.as_secs());
        let found = timeout_at(until, asked).await.unwrap_or_else(|_| Err(late()));
        (source, found)
    };
    stream::iter(sources).map(ask).buffer_unordered(AT_ONCE).collect().await
}

fn known(side: Result<Versions, Source>, found: &Found) -> Result<Versions, String> {
    side.or_else(|source| found.get(&source).cloned().unwrap_or_else(|| Err("nobody was asked".to_owned())))
}
