//! A boot is a throw-away installation in which APIs are only tried. A mark on its network says whose it is: the network is
//! there before anything else of it and goes last, so that what a crash has left is found whole.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bollard::query_parameters::ListNetworksOptions;
use jiff::Timestamp;

use super::call::QUICK;
use super::labels;
use super::{Docker, is_owner};
use crate::engine::EngineError;
use crate::settings::Settings;
use crate::tree::Egress;

/// How long a boot may take. What is older is a leftover, whoever has made it.
pub const LONGEST: Duration = Duration::from_secs(2 * 3600);

/// Until a boot is a leftover for those who cannot see its process: it is over by then, and has cleaned up after itself.
const GRACE: Duration = Duration::from_secs(600);

/// Whose a boot is: until when at the latest, and by which process of which host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    /// Seconds since 1970.
    until: i64,
    /// The host, and the process ids in it, as they are named since it was started.
    place: String,
    process: u32,
    /// When the process began, in the kernel's own count.
    began: String,
}

impl Mark {
    fn own(now: Timestamp) -> Self {
        let process = std::process::id();
        let until = now.as_second() + (LONGEST + GRACE).as_secs().cast_signed();
        Self { until, place: place(), process, began: began(process).unwrap_or_default() }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let (until, place) = (words.next()?.parse().ok()?, words.next()?.to_owned());
        Some(Self { until, place, process: words.next()?.parse().ok()?, began: words.next()?.to_owned() })
    }

    fn text(&self) -> String {
        format!("{} {} {} {}", self.until, self.place, self.process, self.began)
    }

    /// Whether nobody is at work in it any more.
    fn is_left(&self, now: Timestamp) -> bool {
        let is_gone = || began(self.process).as_ref() != Some(&self.began);
        self.until < now.as_second() || (self.place == place() && is_gone())
    }
}

/// This host since it was started, and which of its processes this one sees.
fn place() -> String {
    let host = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let processes = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{}/{}", host.trim(), processes.display())
}

/// When a process began, where there is one (proc(5): the 22nd field of its `stat`).
fn began(process: u32) -> Option<String> {
    let stat = fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat")).ok()?;
    // The second field is its name in brackets, and may hold anything; the third says whether it has ended already.
    let fields = stat.rsplit_once(')')?.1;
    let has_ended = fields.trim_start().starts_with(['Z', 'X']);
    fields.split_whitespace().nth(19).filter(|_| !has_ended).map(ToOwned::to_owned)
}

impl Docker {
    /// An engine for a boot: everything that it makes there is of the throw-away installation `owner`.
    ///
    /// # Errors
    /// As [`Docker::connect`].
    pub fn to_boot(settings: &Settings, owner: &str) -> Result<Self, EngineError> {
        Ok(Self::connect(settings, owner)?.marked(Mark::own(Timestamp::now()).text()))
    }

    /// Begins a boot: from here on it is found, whatever becomes of this process.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub async fn begin_boot(&self) -> Result<(), EngineError> {
        self.network(Egress::Internet).await.map(drop)
    }

    /// Takes away what boots have left whose process is no more.
    ///
    /// # Errors
    /// Where the engine cannot be asked.
    pub async fn sweep_boots(&self) -> Result<(), EngineError> {
        let options = ListNetworksOptions { filters: Some(labels::filter(&[(labels::BOOT, "")])) };
        let list = |client: bollard::Docker| async move { client.list_networks(Some(options)).await };
        for network in self.call("list networks", QUICK, list).await? {
            let Some(labels) = network.labels else { continue };
            let mark = labels.get(labels::BOOT).and_then(|mark| Mark::parse(mark));
            let (Some(mark), Some(owner)) = (mark, labels.get(labels::OWNER)) else { continue };
            if is_owner(owner) && owner != self.owner() && mark.is_left(Timestamp::now()) {
                tracing::info!(%owner, "removing what a boot has left that was ended");
                self.of(owner).dismantle().await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_left_when_its_process_is_no_more_or_its_time_is_over() {
        let now = Timestamp::now();
        let own = Mark::own(now);
        assert_eq!(Mark::parse(&own.text()).as_ref(), Some(&own));
        assert!(!own.is_left(now));
        assert!(Mark { began: "1".to_owned(), ..own.clone() }.is_left(now), "another process has its number by now");
        let elsewhere = Mark { place: "elsewhere/pid:[1]".to_owned(), process: 1, ..own.clone() };
        assert!(!elsewhere.is_left(now), "whose processes nobody here sees");
        assert!(elsewhere.is_left(now + LONGEST + GRACE + Duration::from_secs(2)));
        for bad in ["", "x y 1 2", "1 place", "1 place x 2"] {
            assert_eq!(Mark::parse(bad), None);
        }
    }
}
