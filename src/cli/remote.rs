//! The daemon elsewhere that `skep plan --remote` asks.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode, Uri};
use serde_json::Value;

use crate::admin::trial::{PREFIX, pack};
use crate::report::diagnostics::Findings;
use crate::settings::Settings;
use crate::tree::{Diagnostic, Scanner, Size};
use crate::web;

/// How long it may take to look at a tree and at the world.
const PATIENCE: Duration = Duration::from_secs(120);

/// The most bytes of its answer: of a plan of ten thousand APIs.
const MOST: usize = 256 << 20;

/// How large a folder and each of its files may be here, and of how many files: as much as a daemon ever takes.
const LARGEST: Size = Size(512 << 20);
const MOST_FILES: u32 = 200_000;

/// The tree that lies here.
pub(super) struct Here {
    scanner: Scanner,
    /// Of its settings.
    findings: Vec<Diagnostic>,
    /// What leads from where the reader is to its root.
    prefix: String,
}

impl Here {
    /// Reads the tree below `root`, as `skep check` does; but how large a file may be is for the other host to say.
    ///
    /// # Errors
    /// Where there is none, or it cannot be read.
    pub(super) fn read(root: &Path) -> anyhow::Result<Self> {
        let prefix = super::check::prefix(root);
        let root = root.canonicalize().with_context(|| format!("cannot use {} as the root", root.display()))?;
        // The environment belongs to a host, and the daemon has its own.
        let (mut settings, findings) = Settings::read(&root, |_| None)?;
        // What is changed by a pull request must not choose what is read here and told there.
        if settings.apis.symlink_metadata().is_ok_and(|apis| apis.is_symlink()) {
            bail!("{}: apis is a symbolic link, which skep does not follow for another host", root.display());
        }
        (settings.policy.max_file, settings.policy.max_folder) = (LARGEST, LARGEST);
        settings.policy.max_files = MOST_FILES;
        let mut scanner = Scanner::new(&settings)?;
        scanner.read()?;
        Ok(Self { scanner, findings, prefix })
    }

    /// What is wrong with it, wherever it is.
    pub(super) fn findings(&self) -> Findings<'_> {
        Findings::new(&self.findings, self.scanner.tree(), None, &self.prefix)
    }
}

/// What a tree that has no errors would change there.
///
/// # Errors
/// Where there is no such daemon, or it does not let us in.
pub(super) async fn ask(url: &str, token: &str, here: &Here) -> anyhow::Result<Value> {
    let uri: Uri = format!("{}/admin/plan", url.trim_end_matches('/')).parse().context("this is no URL")?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        // Not shown: it may be a password.
        bail!("the URL has a login in it, which nobody asks for; leave it out, and set SKEP_TOKEN to the key");
    }
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_here => {}
        Some("http") => bail!("a key goes to {host} by https:// alone: by http:// anybody on the way could read it"),
        _ => bail!("write the URL as in https://apis.example.com:8664"),
    }
    let packed = pack(&here.scanner)?;
    let prefix = HeaderValue::from_bytes(here.prefix.as_bytes());
    let request = Request::post(uri)
        .header(PREFIX, prefix.unwrap_or(HeaderValue::from_static("")))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .header(CONTENT_TYPE, "application/gzip")
        .body(packed)
        .context("this is no key, or no URL")?;
    let answer = tokio::time::timeout(PATIENCE, web::send_for(request, MOST)).await;
    let Ok(answer) = answer else { bail!("{url} does not answer within {} s", PATIENCE.as_secs()) };
    let answer = answer.map_err(|cause| anyhow::anyhow!("cannot ask {url}: {cause}"))?;
    let status = answer.status();
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    match status {
        StatusCode::OK => Ok(body),
        StatusCode::UNAUTHORIZED => {
            bail!("{url} does not know this key; make one there: skep keys create --name ci --plans")
        }
        StatusCode::NOT_FOUND => {
            bail!("{url} knows no plans: is it the address of skep's control surface, and of this version?")
        }
        _ => bail!("{url} answers {status}: {}", body["error"].as_str().unwrap_or("no reason given")),
    }
}
