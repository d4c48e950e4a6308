//! Settings: `skep.yaml` for what a team shares in git, the environment for what belongs to one host. Opens nothing.

mod callers;
mod environment;
mod file;
mod jwt;
mod notifications;
mod previews;
mod pull;
mod push;
mod records;
mod remote;
mod report;
mod source;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use callers::DeclaredKey;
pub(crate) use callers::{is_key_name, moment};
pub use file::SettingsFile;
pub use jwt::{JwksPlace, JwtSecret, JwtSettings};
pub use notifications::{Address, Format, NewsKind, Notified};
pub use previews::PreviewSettings;
pub use push::PushSettings;
pub use records::{DatabaseUrl, Offline, RecordsSettings};
pub use remote::Protocol;
pub(crate) use remote::is_web;
pub use report::{ForgeKind, ReportSettings};
pub use source::{Access, Follows, PullSource, SecretPlace, SignedBy, SourcePreviews};

use crate::tree::diagnostic::code;
use crate::tree::source::Source;
use crate::tree::{Cpu, Diagnostic, RateLimit, Seconds, Size, Spec};

/// The name of the file at the root of the tree's repository.
pub const FILE: &str = "skep.yaml";

/// All settings of one installation, none left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder that holds `skep.yaml`; diagnostics name files relative to it.
    pub root: PathBuf,
    /// The folder of API folders, `apis` below the root.
    pub apis: PathBuf,
    /// Where skep keeps its records, keys of this host and lock; `.skep` below the root, or `SKEP_STATE_DIR`.
    pub state: PathBuf,
    /// What holds for an API where its `api.yaml` says nothing; the name is empty, each API's own id takes its place.
    pub defaults: Spec,
    /// How images are built.
    pub build: BuildSettings,
    /// What is allowed.
    pub policy: Policy,
    /// Where the gateway listens: `SKEP_LISTEN`, else 127.0.0.1:8663.
    pub listen: SocketAddr,
    /// Where the control surface listens: `SKEP_ADMIN_LISTEN`, else with the gateway.
    pub admin_listen: Option<SocketAddr>,
    /// How callers are served.
    pub gateway: GatewaySettings,
    /// How the engine is reached.
    pub engine: EngineSettings,
    /// `ADMIN_API_KEY` (or `SKEP_ADMIN_KEY`); where neither is set, one is made and kept in the state folder.
    pub admin_key: Option<String>,
    /// The longest time between two full looks at tree and world.
    pub look_every: Seconds,
    /// Whether containers of the system before may answer callers while nothing of ours does.
    pub adopt: bool,
    /// How many requests the keys of each plan may make.
    pub plans: BTreeMap<String, RateLimit>,
    /// Callers' keys that are declared by their hashes.
    pub keys: Vec<DeclaredKey>,
    /// How the tokens of callers are checked.
    pub jwt: JwtSettings,
    /// Where records are kept.
    pub records: RecordsSettings,
    /// Which pushes are taken; `None` takes none.
    pub push: Option<PushSettings>,
    /// The remote repositories that the tree is pulled from.
    pub pull: Vec<PullSource>,
    /// Who is told what happens.
    pub notifications: Vec<Notified>,
    /// What holds for previews of pull requests; `None` serves none.
    pub previews: Option<PreviewSettings>,
}

/// How images are built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSettings {
    /// The image that all stand on: `python:3.11-slim`.
    pub base_image: String,
    /// Which CA certificates installs and apps trust besides those of the image.
    pub ca_bundle: CaBundle,
    /// The package index (`SKEP_INDEX_URL` overrides, as it may hold a secret); `None` is the installer's default.
    pub index_url: Option<String>,
    /// How many installs and builds run at once.
    pub concurrency: u16,
    /// For one install or build.
    pub timeout: Seconds,
    /// For one install.
    pub memory: Size,
    /// For one install.
    pub cpu: Cpu,
}

/// Which CA certificates installs and apps trust besides those of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaBundle {
    /// The host's bundle, where there is one.
    Auto,
    /// None.
    Image,
    /// This file.
    File(PathBuf),
}

/// What is allowed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// How many APIs may be removed in one go, counted: the larger of the two holds.
    pub max_deletes: u32,
    /// How many APIs may be removed in one go, in percent of those that there are.
    pub max_deletes_percent: u8,
    /// The largest file of an API.
    pub max_file: Size,
    /// The largest folder of an API, all files together.
    pub max_folder: Size,
    /// The most files of an API.
    pub max_files: u32,
    /// How many revisions of each API that have served are kept to roll back to, images included.
    pub keep_revisions: usize,
    /// How long events are kept.
    pub keep_events: Seconds,
    /// How long usage is kept.
    pub keep_usage: Seconds,
    /// Nothing is built while less than this is free where the engine keeps its images.
    pub min_free_disk: Size,
}

/// How callers are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewaySettings {
    /// What TLS is spoken with: `SKEP_TLS_CERTIFICATE` and `SKEP_TLS_KEY`, else what `skep.yaml` says; `None` is plain HTTP.
    pub tls: Option<TlsFiles>,
    /// Open connections. Those beyond wait to be accepted.
    pub connections: u32,
    /// Open connections of one address. Those beyond are closed at once.
    pub connections_per_address: u32,
}

/// The files of a certificate and its key, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate, with those that lead to its root behind it.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How the engine is reached, and how apps are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineSettings {
    /// `DOCKER_HOST`, or the engine's default socket.
    pub host: Option<String>,
    /// How the gateway dials instances.
    pub dial: Dial,
    /// The first and last loopback port that [`Dial::Loopback`] may use.
    pub ports: (u16, u16),
}

/// How the gateway dials instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dial {
    /// The container's own address where the host can reach it, else a published loopback port.
    Auto,
    /// The container's own address.
    Address,
    /// A port published on loopback.
    Loopback,
}

/// Why there are no settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// `skep.yaml` or the environment says something that cannot be; at least one finding is an error.
    #[error("{}", summary(.0))]
    Findings(Vec<Diagnostic>),
    /// `skep.yaml` is there and cannot be read.
    #[error("cannot read {path}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

/// The first error, and how many more there are, for where the findings are not rendered.
fn summary(findings: &[Diagnostic]) -> String {
    let mut errors = findings.iter().filter(|finding| finding.is_error());
    let first = errors.next().map_or_else(String::new, |finding| match finding.span {
        Some(span) => format!("{}:{}:{}: {}", finding.path, span.line, span.column, finding.message),
        None => format!("{}: {}", finding.path, finding.message),
    });
    match errors.count() {
        0 => first,
        more => format!("{first} (and {more} more)"),
    }
}

impl Settings {
    /// The built-in settings of an installation at that root.
    #[must_use]
    pub fn built_in(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            apis: root.join("apis"),
            state: root.join(".skep"),
            defaults: Spec::built_in(""),
            build: BuildSettings {
                base_image: "python:3.11-slim".to_owned(),
                ca_bundle: CaBundle::Auto,
                index_url: None,
                concurrency: 2,
                timeout: Seconds::new(600),
                memory: Size::mib(1024),
                cpu: Cpu(1000),
            },
            policy: Policy {
                max_deletes: 3,
                max_deletes_percent: 30,
                max_file: Size::mib(25),
                max_folder: Size::mib(100),
                max_files: 1000,
                keep_revisions: 5,
                keep_events: Seconds::new(90 * 86_400),
                keep_usage: Seconds::new(400 * 86_400),
                min_free_disk: Size::mib(1024),
            },
            listen: SocketAddr::from(([127, 0, 0, 1], 8663)),
            admin_listen: None,
            gateway: GatewaySettings { tls: None, connections: 10_000, connections_per_address: 5000 },
            engine: EngineSettings { host: None, dial: Dial::Auto, ports: (20_000, 29_999) },
            admin_key: None,
            look_every: Seconds::new(30),
            adopt: false,
            push: None,
            previews: None,
            pull: Vec::new(),
            notifications: Vec::new(),
            plans: BTreeMap::new(),
            keys: Vec::new(),
            jwt: JwtSettings::default(),
            records: RecordsSettings::default(),
        }
    }

    /// What the gateway speaks to who comes from elsewhere.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.gateway.tls.is_some() { "https" } else { "http" }
    }

    /// What the folder of API folders is called.
    #[must_use]
    pub fn apis_name(&self) -> String {
        self.apis.file_name().map_or_else(|| "apis".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// Reads `skep.yaml` below `root`, if there is one, and the environment.
    ///
    /// # Errors
    /// All that is wrong with either, in one go.
    pub fn load(root: &Path, environment: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let (settings, findings) = Self::read(root, environment)?;
        if findings.iter().any(Diagnostic::is_error) { Err(SettingsError::Findings(findings)) } else { Ok(settings) }
    }

    /// Reads as [`Settings::load`] does, and gives what is sound beside the findings: enough to check a tree with.
    ///
    /// # Errors
    /// [`SettingsError::Io`] only.
    pub fn read(
        root: &Path,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<(Self, Vec<Diagnostic>), SettingsError> {
        let path = root.join(FILE);
        let read = || match std::fs::metadata(&path)? {
            kind if kind.is_file() => std::fs::read(&path),
            // A FIFO would keep us waiting for ever.
            _ => Err(std::io::Error::other("it is no file")),
        };
        let bytes = match read() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(SettingsError::Io { path, source }),
        };
        Ok(Self::settle(root, &bytes, environment))
    }

    /// Settles the bytes of a `skep.yaml` and the environment. Opens nothing. With findings that are errors, the
    /// settings are good for checking a tree and nothing else.
    #[must_use]
    pub fn settle(root: &Path, file: &[u8], environment: impl Fn(&str) -> Option<String>) -> (Self, Vec<Diagnostic>) {
        let mut settings = Self::built_in(root);
        let mut findings = Vec::new();
        match std::str::from_utf8(file) {
            Ok(text) => file::lay_over(&mut settings, Source::new(FILE, text), &mut findings),
            Err(error) => {
                let sound = String::from_utf8_lossy(&file[..error.valid_up_to()]);
                let at = error.valid_up_to()..error.valid_up_to();
                let (message, hint) = ("a byte here is not UTF-8", "save the file as UTF-8");
                findings.push(Source::new(FILE, &sound).error(code::NOT_TEXT, at, message, hint));
            }
        }
        environment::lay_over(&mut settings, environment, &mut findings);
        (settings, findings)
    }
}
