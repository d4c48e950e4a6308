//! A trial is the plan of a tree that somebody shows: what it would change here, with nothing of it kept.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::fault::Fault;
use super::versions::add_versions;
use super::whole::whole;
use crate::git::scratch::Scratch;
use crate::reconcile::{Controller, Desired};
use crate::report::plan::{PlanJson, Summary, breaks};
use crate::report::{self, diagnostics::Findings};
use crate::settings::Settings;
use crate::tree::{ApiId, Scanner, Tree, TreeError};

/// The most bytes of one as it comes in.
const MOST: usize = 64 << 20;

/// The most bytes of its files, and the most files: what unpacks to more is none.
const MOST_UNPACKED: (u64, usize) = (512 << 20, 200_000);

/// The header of a request that says what leads from where its sender is to the root of the tree, for the paths of findings.
pub const PREFIX: &str = "skep-prefix";

/// The longest path, and how deep: far more than an API folder may hold.
const MOST_PATH: (usize, usize) = (400, 16);

/// How long one may take to come in.
const WITHIN: Duration = Duration::from_secs(60);

/// One at a time: each may be large.
static TURN: Semaphore = Semaphore::const_new(1);

/// Why a tree is not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It cannot be read, or is being changed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// It is more than one may be of.
    #[error("the tree is too large: {packed} bytes, packed; {MOST} are taken")]
    TooLarge {
        /// How many bytes there are so far.
        packed: usize,
    },
    /// An archive cannot hold it.
    #[error("the tree cannot be packed")]
    Io(#[from] io::Error),
}

/// Packs a tree as a trial wants it: as a tar of `ID/…`, gzipped. `scanner` has read it, and found no error: what it would not
/// read is not packed, least of all what a link leads to.
///
/// # Errors
/// Where a file cannot be read any more, or all of it is too large.
pub fn pack(scanner: &Scanner) -> Result<Bytes, PackError> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for id in scanner.tree().folders.keys() {
        for (path, bytes) in scanner.files(id)? {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, Path::new(id.as_str()).join(path), &bytes[..])?;
        }
        let packed = archive.get_ref().get_ref().len();
        if packed > MOST {
            return Err(PackError::TooLarge { packed });
        }
    }
    let packed = archive.into_inner()?.finish()?;
    match packed.len() {
        ..=MOST => Ok(packed.into()),
        packed => Err(PackError::TooLarge { packed }),
    }
}

/// `POST /admin/plan`: what a tree would change here. Answers with the plan, its findings, and both as text.
pub(super) async fn planned(
    controller: &Arc<Controller>,
    settings: &Settings,
    headers: &HeaderMap,
    body: Incoming,
) -> Result<Value, Fault> {
    let prefix = prefix(headers)?;
    let busy = |_| Fault::Unavailable("another tree is being looked at; ask again".to_owned());
    let turn = TURN.try_acquire().map_err(busy)?;
    let read = tokio::time::timeout(WITHIN, Limited::new(body, MOST).collect()).await;
    let read = read.map_err(|_| Fault::Bad(format!("the tree did not come in within {} s", WITHIN.as_secs())))?;
    let packed = read.map_err(|error| Fault::Bad(format!("{error}; at most {MOST} bytes are taken")))?.to_bytes();
    let settings = settings.clone();
    // The turn is over when that is, also where whoever asked has gone. The folder goes when the findings are told.
    let unpacked =
        tokio::task::spawn_blocking(move || tree_of(&packed, settings).map(|(tree, folder)| (tree, folder, turn)));
    let (tree, folder, turn) = unpacked.await.map_err(|error| Fault::Unavailable(error.to_string()))??;
    let controller = Arc::clone(controller);
    let planned = tokio::spawn(async move {
        let _until_then = (folder, turn);
        plan_of(&controller, &tree, &prefix).await
    });
    planned.await.map_err(|error| Fault::Unavailable(error.to_string()))?
}

/// What leads from where the reader is to the root of the tree; nothing where nobody says it.
fn prefix(headers: &HeaderMap) -> Result<String, Fault> {
    let given = headers.get(PREFIX).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_sane = |text: &&str| text.len() <= MOST_PATH.0 && !text.chars().any(char::is_control);
    let text = std::str::from_utf8(given).ok().filter(is_sane);
    text.map(ToOwned::to_owned).ok_or_else(|| Fault::Bad(format!("{PREFIX} is no path")))
}

/// What the daemon would do for a tree, in all the words in which it may be asked for.
async fn plan_of(controller: &Controller, tree: &Arc<Tree>, prefix: &str) -> Result<Value, Fault> {
    let world = controller.world();
    let look = world.look().await?;
    let goals = controller.would(&look, tree);
    let observe = |(id, desired): (ApiId, Desired)| {
        let observed = world.observed(&look, &desired);
        (id, (desired, observed))
    };
    let apis = goals.into_iter().map(observe).collect();
    let mut plan = whole(world, tree, &apis, &BTreeMap::new()).await;
    add_versions(world, &apis, &mut plan).await;
    let findings = Findings::new(&[], tree, None, prefix);
    let breaks = breaks(&plan);
    let with_breaks = Findings::new(&breaks, tree, None, prefix);
    let (summary, all) = (Summary::of(&plan), tree.all_findings().collect());
    let json = PlanJson { plan: &plan, summary, findings: all, base: None };
    Ok(json!({
        "plan": json,
        "errors": findings.summary().errors,
        "text": {
            "text": report::plan::text(&plan, false),
            "steps": report::plan::text(&plan, true),
            "markdown": report::markdown::markdown(&plan, &findings, None),
            "github": findings.github() + &report::markdown::github(&plan, prefix),
            "findings": findings.text(true),
            "sarif": with_breaks.sarif(),
        },
    }))
}

/// Unpacks a tree, and reads it with the settings of this host.
fn tree_of(packed: &[u8], settings: Settings) -> Result<(Arc<Tree>, Scratch), Fault> {
    let here = |error: io::Error| Fault::Unavailable(format!("cannot unpack the tree here: {error}"));
    let scratch = Scratch::new(&settings.state, "trial-").map_err(here)?;
    let settings = Settings { apis: scratch.path().join("apis"), root: scratch.path().to_owned(), ..settings };
    std::fs::create_dir(&settings.apis).map_err(here)?;
    unpack(packed, &settings.apis)
        .map_err(|error| Fault::Bad(format!("this is no tree, as a gzipped tar: {error}")))?;
    let scanner = Scanner::new(&settings).and_then(|mut scanner| scanner.read());
    Ok((scanner.map_err(|error| Fault::Unavailable(error.to_string()))?.tree, scratch))
}

/// Writes the plain files of an archive, and refuses everything else: whoever packed it may be anybody with a key.
fn unpack(packed: &[u8], into: &Path) -> io::Result<()> {
    let refuse = |why: String| Err(io::Error::other(why));
    let mut made = BTreeSet::new();
    let (mut bytes, mut files, mut long_name) = (0_u64, 0, None);
    // What a small archive unpacks to may be without end. Raw, since what stands for a long name is read whole otherwise.
    let unpacked = GzDecoder::new(packed).take(MOST_UNPACKED.0 * 2);
    for entry in tar::Archive::new(unpacked).entries()?.raw(true) {
        let mut entry = entry?;
        bytes = bytes.saturating_add(entry.size());
        files += 1;
        if bytes > MOST_UNPACKED.0 || files > MOST_UNPACKED.1 {
            return refuse("it is too large".to_owned());
        }
        if entry.header().entry_type() == tar::EntryType::GNULongName && entry.size() <= MOST_PATH.0 as u64 {
            let mut name = String::new();
            entry.read_to_string(&mut name)?;
            long_name = Some(PathBuf::from(name.trim_end_matches('\0')));
            continue;
        }
        let path = match long_name.take() {
            Some(path) => path,
            None => entry.path()?.into_owned(),
        };
        let is_plain = path.components().all(|part| matches!(part, Component::Normal(_)));
        let is_sane = path.as_os_str().len() <= MOST_PATH.0 && path.components().count() <= MOST_PATH.1;
        let folder = path.iter().next().and_then(|name| ApiId::new(name.to_str()?).ok());
        let is_file = entry.header().entry_type() == tar::EntryType::Regular;
        if !is_file || !is_plain || !is_sane || folder.is_none() {
            let shown: String = path.display().to_string().chars().take(MOST_PATH.0).collect();
            return refuse(format!("{shown}: only plain files of API folders are taken"));
        }
        let target = into.join(&path);
        if let Some(parent) = target.parent()
            && made.insert(parent.to_owned())
        {
            std::fs::create_dir_all(parent)?;
        }
        // A name twice would be the later one to some, and the earlier to others.
        let mut file = std::fs::File::create_new(&target)?;
        io::copy(&mut entry, &mut file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(add: impl FnOnce(&mut tar::Builder<GzEncoder<Vec<u8>>>)) -> Vec<u8> {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        add(&mut archive);
        archive.into_inner().unwrap().finish().unwrap()
    }

    fn read(root: &Path) -> Scanner {
        let mut scanner = Scanner::new(&Settings::built_in(root)).unwrap();
        scanner.read().unwrap();
        scanner
    }

    #[test]
    fn a_link_that_takes_the_place_of_what_was_read_gives_nothing_of_what_it_leads_to() {
        let (from, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = from.path().join("apis/a");
        for folder in [&folder.join("inner"), &outside.path().to_owned()] {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("main.py"), "app = 1").unwrap();
        }
        std::fs::write(folder.join("main.py"), "app = 1").unwrap();
        let link = |path: &Path| std::os::unix::fs::symlink(outside.path(), path).unwrap();
        let scanner = read(from.path());
        assert!(pack(&scanner).is_ok());
        std::fs::remove_dir_all(folder.join("inner")).unwrap();
        link(&folder.join("inner"));
        assert!(matches!(pack(&scanner), Err(PackError::Tree(TreeError::Changing(_)))));
        std::fs::remove_dir_all(&folder).unwrap();
        link(&folder);
        assert!(matches!(pack(&scanner), Err(PackError::Tree(TreeError::Io { .. }))));
    }

    #[test]
    fn what_is_packed_unpacks_to_the_same_and_nothing_but_plain_files_does() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let apis = from.path().join("apis");
        std::fs::create_dir_all(apis.join("a/inner")).unwrap();
        std::fs::create_dir(apis.join(".cache")).unwrap();
        let long = format!("a/{}.txt", "long".repeat(40));
        std::fs::write(apis.join(&long), "three").unwrap();
        for (path, text) in [
            ("a/main.py", "app = 1"),
            ("a/api.yaml", "replicas: 2"),
            ("a/inner/x.py", "two"),
            ("a/.hidden", "no"),
            ("stray", "no"),
            (".cache/x", "no"),
        ] {
            std::fs::write(apis.join(path), text).unwrap();
        }
        unpack(&pack(&read(from.path())).unwrap(), to.path()).unwrap();
        assert_eq!(std::fs::read_to_string(to.path().join("a/inner/x.py")).unwrap(), "two");
        assert_eq!(std::fs::read_to_string(to.path().join(&long)).unwrap(), "three");
        assert_eq!(std::fs::read_to_string(to.path().join("a/api.yaml")).unwrap(), "replicas: 2");
        assert!(to.path().join("a/main.py").exists() && !to.path().join("a/.hidden").exists());
        assert!(!to.path().join(".cache").exists());
        assert!(!to.path().join("stray").exists());

        let link = archive(|archive| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            archive.append_link(&mut header, "b/link", "/etc/passwd").unwrap();
        });
        // The crate itself refuses to write such a path.
        let outside = archive(|archive| {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..11].copy_from_slice(b"b/../../esc");
            header.set_size(0);
            header.set_cksum();
            archive.append(&header, &b""[..]).unwrap();
        });
        let twice = archive(|archive| {
            for _ in 0..2 {
                let mut header = tar::Header::new_gnu();
                header.set_size(0);
                archive.append_data(&mut header, "b/main.py", &b""[..]).unwrap();
            }
        });
        let odd = archive(|archive| {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            archive.append_data(&mut header, "Not An Id/main.py", &b""[..]).unwrap();
        });
        let empty = |path: &str| {
            archive(|archive| {
                let mut header = tar::Header::new_gnu();
                header.set_size(0);
                archive.append_data(&mut header, path, &b""[..]).unwrap();
            })
        };
        let (deep, long) = (empty(&format!("b/{}x", "d/".repeat(20))), empty(&format!("b/{}", "x".repeat(500))));
        let endless = archive(|archive| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::GNULongName);
            header.set_size(1 << 28);
            header.set_cksum();
            archive.append(&header, io::repeat(b'x').take(1 << 20)).unwrap();
        });
        let plain = b"no".to_vec();
        for (bad, name) in [
            (link, "link"),
            (outside, "outside"),
            (twice, "twice"),
            (odd, "odd"),
            (deep, "deep"),
            (long, "long"),
            (endless, "a name without end"),
            (plain, "no archive"),
        ] {
            let to = tempfile::tempdir().unwrap();
            unpack(&bad, to.path()).expect_err(name);
            assert!(!to.path().parent().unwrap().join("esc").exists());
        }
    }
}
