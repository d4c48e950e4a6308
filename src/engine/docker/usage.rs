//! Usage is what a container uses now, as the engine measures it.

use bollard::models::{ContainerCpuStats, ContainerStatsResponse};
use bollard::query_parameters::StatsOptions;
use futures_util::StreamExt;

use super::Docker;
use super::call::QUICK;
use crate::engine::{EngineError, Usage};

impl Docker {
    /// The engine measures twice, a second apart.
    pub(super) async fn read_usage(&self, container: &str) -> Result<Usage, EngineError> {
        let options = StatsOptions { stream: false, one_shot: false };
        let ask = |client: bollard::Docker| async move {
            let mut stats = client.stats(container, Some(options));
            stats.next().await.transpose()
        };
        let found = self.call("measure a container", QUICK, ask).await?;
        Ok(found.as_ref().map(usage).unwrap_or_default())
    }
}

fn usage(stats: &ContainerStatsResponse) -> Usage {
    let cpu_percent = match (&stats.cpu_stats, &stats.precpu_stats) {
        (Some(now), Some(before)) => percent(now, before),
        _ => 0.0,
    };
    let memory = stats.memory_stats.as_ref();
    let used = memory.and_then(|memory| memory.usage).unwrap_or_default();
    // As `docker stats` has it: files that could be dropped are no need of the app's. The first name is of cgroup 2.
    let files = memory
        .and_then(|memory| memory.stats.as_ref())
        .and_then(|stats| ["inactive_file", "total_inactive_file"].iter().find_map(|name| stats.get(*name).copied()));
    Usage {
        cpu_percent,
        memory: used.saturating_sub(files.unwrap_or_default()),
        memory_limit: memory.and_then(|memory| memory.limit).unwrap_or_default(),
    }
}

/// The share of all processors' time, times their number.
#[expect(clippy::cast_precision_loss, reason = "a percentage is no exact number")]
fn percent(now: &ContainerCpuStats, before: &ContainerCpuStats) -> f64 {
    let total = |stats: &ContainerCpuStats| stats.cpu_usage.as_ref().and_then(|usage| usage.total_usage);
    let used = total(now).unwrap_or_default().saturating_sub(total(before).unwrap_or_default());
    let passed = now.system_cpu_usage.unwrap_or_default().saturating_sub(before.system_cpu_usage.unwrap_or_default());
    if passed == 0 {
        return 0.0;
    }
    used as f64 / passed as f64 * f64::from(now.online_cpus.unwrap_or(1)) * 100.0
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerCpuUsage, ContainerMemoryStats};

    use super::*;

    fn cpu(total: u64, system: u64) -> ContainerCpuStats {
        ContainerCpuStats {
            cpu_usage: Some(ContainerCpuUsage { total_usage: Some(total), ..ContainerCpuUsage::default() }),
            system_cpu_usage: Some(system),
            online_cpus: Some(4),
            ..ContainerCpuStats::default()
        }
    }

    #[test]
    fn one_busy_processor_of_four_is_a_hundred_percent() {
        // In a second, four processors have four seconds.
        let stats = ContainerStatsResponse {
            precpu_stats: Some(cpu(7_000_000_000, 100_000_000_000)),
            cpu_stats: Some(cpu(8_000_000_000, 104_000_000_000)),
            memory_stats: Some(ContainerMemoryStats {
                usage: Some(100),
                limit: Some(400),
                stats: Some([("inactive_file".to_owned(), 40)].into()),
                ..ContainerMemoryStats::default()
            }),
            ..ContainerStatsResponse::default()
        };
        let found = usage(&stats);
        assert!((found.cpu_percent - 100.0).abs() < 0.001, "{found:?}");
        assert_eq!((found.memory, found.memory_limit), (60, 400));
    }
}
