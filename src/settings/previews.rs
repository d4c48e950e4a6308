//! What holds for previews: how many there are at once, how long they stay, and what each may use.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Settings;
use crate::tree::settle::Settler;
use crate::tree::yaml::At;
use crate::tree::{Cpu, Egress, RateLimit, Resources, Seconds, Size};

/// What holds for previews. Of what they say of themselves, the lower counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewSettings {
    /// How many APIs are previewed at once.
    pub max: u16,
    /// How long a preview stays after its pull request was last heard of.
    pub keep: Seconds,
    /// The most that the one instance of each may use.
    pub resources: Resources,
    /// The most requests that all callers together may make of each.
    pub requests: RateLimit,
    /// The most requests that each answers at once.
    pub in_flight: u32,
    /// What they may reach.
    pub egress: Egress,
}

/// Has pull requests served beside what they would change.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PreviewsFile {
    /// How many APIs are previewed at once. What would be one more is refused until another ends.
    #[schemars(range(min = 1, max = 1000), extend("default" = 10))]
    pub max: Option<At<u16>>,
    /// How long a preview stays after its pull request was last pushed, or heard of.
    #[schemars(extend("default" = "72h", "x-bounds" = "1m to 365d"))]
    pub keep: Option<At<Seconds>>,
    /// The most processor time of each, in cores.
    #[schemars(range(min = 0.01, max = 64), extend("default" = 0.5))]
    pub cpu: Option<At<Cpu>>,
    /// The most memory of each, swap and `/tmp` included.
    #[schemars(extend("default" = "256MiB", "x-bounds" = "16MiB to 1024GiB"))]
    pub memory: Option<At<Size>>,
    /// The most processes and threads of each.
    #[schemars(range(min = 16, max = 32768), extend("default" = 64))]
    pub pids: Option<At<u32>>,
    /// The most requests a minute of each, by all callers together.
    #[schemars(range(min = 1, max = 1_000_000), extend("default" = 60))]
    pub requests: Option<At<u32>>,
    /// The most requests that each answers at once.
    #[schemars(range(min = 1, max = 10_000), extend("default" = 10))]
    pub max_in_flight: Option<At<u32>>,
    /// What they may reach from inside their containers: nothing, or with `internet` what APIs may that do not say `none` themselves.
    #[schemars(extend("default" = "none"))]
    pub egress: Option<Egress>,
}

impl Default for PreviewSettings {
    fn default() -> Self {
        Self {
            max: 10,
            keep: Seconds::new(72 * 3600),
            resources: Resources { cpu: Cpu(500), memory: Size::mib(256), pids: 64, tmp: Size::mib(64) },
            requests: RateLimit { requests: 60, per: Seconds::new(60), burst: 60 },
            in_flight: 10,
            egress: Egress::None,
        }
    }
}

/// Lays a file over settings.
pub(super) fn lay_over(settler: &mut Settler<'_, '_>, file: &PreviewsFile, settings: &mut Settings) {
    let mut previews = PreviewSettings::default();
    let resources = &mut previews.resources;
    settler.within(file.max.as_ref(), 1..=1000, &mut previews.max);
    settler.within(file.keep.as_ref(), Seconds::new(60)..=Seconds::new(365 * 86_400), &mut previews.keep);
    settler.within(file.cpu.as_ref(), Cpu(10)..=Cpu(64_000), &mut resources.cpu);
    settler.within(file.memory.as_ref(), Size::mib(16)..=Size::mib(1024 * 1024), &mut resources.memory);
    settler.within(file.pids.as_ref(), 16..=32_768, &mut resources.pids);
    // What is in there counts as memory anyway.
    resources.tmp = resources.memory;
    settler.within(file.requests.as_ref(), 1..=1_000_000, &mut previews.requests.requests);
    previews.requests.burst = previews.requests.requests;
    settler.within(file.max_in_flight.as_ref(), 1..=10_000, &mut previews.in_flight);
    previews.egress = file.egress.unwrap_or(previews.egress);
    settings.previews = Some(previews);
}
