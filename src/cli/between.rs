//! Two trees of one repository: what `skep plan --base` compares, with no engine and no daemon in reach.

mod changed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};

use super::boot::contracts;
use super::resolver::{self, Question};
use crate::contract::{Contract, FILE, looked_at};
use crate::git::export::Refusal;
use crate::git::scratch::Scratch;
use crate::git::store::WITHIN;
use crate::git::{Commit, GitError, Repository};
use crate::reconcile::between::between;
use crate::reconcile::plan::{Change, Plan};
use crate::report::diagnostics::Findings;
use crate::report::plan::{Basis, unified};
use crate::report::style::plain;
use crate::settings::{self, BuildSettings, Settings};
use crate::tree::folder::MANIFEST;
use crate::tree::scan::Scanner;
use crate::tree::{ApiId, Broken, Diagnostic, Folder, Tree, Versions, hosts};

/// Two trees, and what the second changes.
pub(super) struct Between {
    pub plan: Plan,
    /// Of the second tree.
    pub head: Arc<Tree>,
    /// Of the second tree's settings.
    pub settings: Vec<Diagnostic>,
    /// The commit that is compared with.
    base: Commit,
    /// What somebody named, where that is another commit.
    named: Option<String>,
    /// The first tree.
    before: Arc<Tree>,
    /// How either side has its requirements installed.
    builds: [BuildSettings; 2],
    /// Where the exported trees are, while they are needed.
    _scratch: Scratch,
}

/// What is compared, by the names of commits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends<'a> {
    pub base: &'a str,
    /// What lies in the folder, where none is named.
    pub head: Option<&'a str>,
    /// With `base` itself, and not with what both have in common.
    pub exact: bool,
}

/// A tree, and where it was read.
struct Side {
    tree: Arc<Tree>,
    findings: Vec<Diagnostic>,
    build: BuildSettings,
}

/// Where a side comes from.
enum From<'a> {
    Commit(&'a str),
    /// What lies in the folder now, committed or not.
    Folder,
}

impl Between {
    /// Compares with `head`, or with what lies in `root` now, the last commit that it has in common with `base`: so what
    /// came to `base` since then is no change, as a forge shows a pull request. Compares `base` itself where that is asked for.
    ///
    /// # Errors
    /// Where `root` is in no repository, or has no such commits, or these have none in common.
    pub(super) async fn of(root: &Path, Ends { base, head, exact }: Ends<'_>) -> anyhow::Result<Self> {
        let root = root.canonicalize().with_context(|| format!("cannot use {} as the root", root.display()))?;
        for (option, name) in [("--base", Some(base)), ("--head", head)] {
            match name {
                Some("") => bail!("{option} is empty, as a variable that is not set; name a commit"),
                Some(range) if range.contains("..") => bail!("{option} names a range, {range}; name one commit"),
                _ => {}
            }
        }
        let repository = Repository::at(&root);
        // Each run of git takes a few milliseconds, so that only those wait for each other that have to.
        let below = repository.ask(&["rev-parse", "--show-prefix"], WITHIN);
        let named = async {
            match head {
                Some(name) => commit(&repository, name).await.map(Some),
                None => Ok(None),
            }
        };
        let tip = head.unwrap_or("HEAD");
        let shared = async { if exact { Ok(None) } else { repository.merge_base(base, tip).await } };
        let (below, begun, head, shared) = tokio::join!(below, commit(&repository, base), named, shared);
        let below = below.map_err(|error| match &error {
            GitError::Failed { said, .. } if said.contains("not a git repository") => {
                anyhow!("{} is in no git repository", root.display())
            }
            _ => anyhow::Error::from(error).context(format!("git cannot use {}", root.display())),
        })?;
        let (begun, head) = (begun?, head?);
        let (base, named) = match shared? {
            Some(shared) if shared != begun.id => (commit(&repository, &shared).await?, Some(base.to_owned())),
            None if !exact => return Err(apart(&repository, base, tip).await),
            _ => (begun, None),
        };
        let below = String::from_utf8_lossy(&below).trim().to_owned();
        let (apis, file) = (format!("{below}apis"), format!("{below}{}", settings::FILE));
        let scratch = Scratch::new(&std::env::temp_dir(), "skep-plan-")?;
        let from = head.as_ref().map_or(From::Folder, |head| From::Commit(&head.id));
        let files = async {
            match &from {
                From::Commit(head) => {
                    tokio::try_join!(show(&repository, &base.id, &file), show(&repository, head, &file))
                }
                From::Folder => {
                    Ok((show(&repository, &base.id, &file).await?, std::fs::read(root.join(settings::FILE)).ok()))
                }
            }
        };
        let names = async {
            match &from {
                From::Commit(head) => changed::between_commits(&repository, &base.id, head, &apis).await,
                From::Folder => changed::in_folder(&repository, &root, &base.id, &apis).await,
            }
        };
        let (files, names) = tokio::join!(files, names);
        let ((old_file, new_file), (after, mut changed)) = (files?, names?);
        // What holds for all changes all.
        if old_file != new_file {
            changed.extend(repository.folders(&base.id, &apis).await?.into_keys().chain(after.iter().cloned()));
        }
        let ids: BTreeSet<ApiId> = changed.iter().filter_map(|name| ApiId::new(name).ok()).collect();
        let unchanged = after.iter().filter(|name| !changed.contains(*name) && ApiId::new(name).is_ok()).count();
        let folder = if head.is_some() { scratch.path().join("head") } else { root.clone() };
        let (before, settings) = (From::Commit(&base.id), old_file.as_deref());
        let old = Wanted { from: &before, folder: &scratch.path().join("base"), is_base: true, apis: &apis, settings };
        let new = Wanted { from: &from, folder: &folder, is_base: false, settings: new_file.as_deref(), ..old };
        let (old, new) =
            tokio::try_join!(side(&repository, old, (&changed, &ids)), side(&repository, new, (&changed, &ids)))?;
        let mut plan = between(&old.tree, &new.tree, &ids, unchanged);
        add_diffs(&mut plan, &old.tree, &new.tree);
        let before = old.tree;
        let mut between = Self {
            plan,
            head: Arc::new(looked_at(&new.tree)),
            settings: new.findings,
            base,
            named,
            before,
            builds: [old.build, new.build],
            _scratch: scratch,
        };
        between.add_contracts(&BTreeMap::new(), &BTreeMap::new());
        Ok(between)
    }

    /// Tries what has no OpenAPI document in its folder, on both sides, and compares what is said of it.
    ///
    /// # Errors
    /// Where somebody has interrupted it.
    pub(super) async fn boot(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let ids = || self.plan.apis.iter().filter(|api| api.is_replaced() && api.contract.is_none()).map(|api| &api.id);
        let new = contracts(settings, &self.head, ids()).await?;
        // Without the one there is no use for the other.
        let is_known =
            |id: &&ApiId| new.contains_key(*id) || self.head.sound(id).is_some_and(|api| Contract::of(api).is_some());
        let old = contracts(settings, &self.before, ids().filter(is_known)).await?;
        self.add_contracts(&old, &new);
        Ok(())
    }

    /// Adds which packages move where no lock says it, by the word of the resolver on this host.
    pub(super) async fn resolve(&mut self) {
        let index = std::env::var("SKEP_INDEX_URL").ok().filter(|url| !url.is_empty());
        let sides = [(&self.before, &self.builds[0]), (&self.head, &self.builds[1])];
        let side = |(tree, build): (&Arc<Tree>, &BuildSettings), id| {
            let requirements = &tree.sound(id)?.requirements;
            let open = || Question::new(requirements, build, index.as_ref());
            Some(Versions::of_lock(requirements).ok_or_else(open))
        };
        let mut wanted = BTreeMap::new();
        for api in self.plan.apis.iter().filter(|api| api.may_move_packages()) {
            if let [Some(old), Some(new)] = sides.map(|known| side(known, &api.id)) {
                wanted.insert(api.id.clone(), [old, new]);
            }
        }
        let questions = wanted.values().flatten().filter_map(|side| side.as_ref().err().cloned());
        let answers = resolver::ask(questions.collect()).await;
        for api in &mut self.plan.apis {
            let Some(sides) = wanted.remove(&api.id) else { continue };
            let [old, new] = sides.map(|side| side.or_else(|question| answers[&question].clone()));
            api.move_packages(old, new);
        }
    }

    /// Compares the OpenAPI documents that lie in both trees, or were had otherwise.
    fn add_contracts(&mut self, old: &BTreeMap<ApiId, Contract>, new: &BTreeMap<ApiId, Contract>) {
        for api in self.plan.apis.iter_mut().filter(|api| api.is_replaced() && api.contract.is_none()) {
            let of = |tree: &Tree, others: &BTreeMap<ApiId, Contract>| {
                tree.sound(&api.id).and_then(|folder| Contract::of(folder)).or_else(|| others.get(&api.id).cloned())
            };
            match (of(&self.before, old), of(&self.head, new)) {
                (Some(old), Some(new)) => api.promise(&old, &new),
                (Some(_), None) if self.head.sound(&api.id).is_some_and(|it| !it.files.contains_key(FILE)) => {
                    api.miss_document();
                }
                _ => {}
            }
        }
    }

    /// Everything that is wrong with the second tree's changed folders. `prefix` leads from where the reader is to the root.
    pub(super) fn findings(&self, prefix: &str) -> Findings<'_> {
        Findings::new(&self.settings, &self.head, None, prefix)
    }

    /// What is compared with.
    pub(super) fn basis(&self) -> Basis<'_> {
        Basis { commit: &self.base, of: self.named.as_deref() }
    }
}

/// Why there is nothing to compare with.
async fn apart(repository: &Repository, base: &str, head: &str) -> anyhow::Error {
    let shallow = repository.ask(&["rev-parse", "--is-shallow-repository"], WITHIN).await;
    if shallow.is_ok_and(|said| said.starts_with(b"true")) {
        anyhow!(
            "{base} and {head} have no commit in common among those that are here, and this is a shallow clone; fetch the \
             others: with fetch-depth: 0 for actions/checkout, GIT_DEPTH: 0 on GitLab, else `git fetch --unshallow`"
        )
    } else {
        anyhow!("{base} and {head} have no commit in common; --exact compares with {base} itself")
    }
}

async fn commit(repository: &Repository, name: &str) -> anyhow::Result<Commit> {
    match repository.commit(name).await? {
        Some(commit) => Ok(commit),
        None => bail!("there is no commit {name} here; in CI, fetch it first, as with fetch-depth: 0"),
    }
}

/// The bytes of a file of a commit, where it has one.
async fn show(repository: &Repository, commit: &str, path: &str) -> Result<Option<Vec<u8>>, GitError> {
    match repository.ask(&["show", "--no-textconv", "--end-of-options", &format!("{commit}:{path}")], WITHIN).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(GitError::Failed { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A side that is to be read.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    from: &'a From<'a>,
    /// Where it is, or comes to be.
    folder: &'a Path,
    is_base: bool,
    /// The folder of API folders, from the root of the repository.
    apis: &'a str,
    /// The bytes of its settings, where it has some.
    settings: Option<&'a [u8]>,
}

/// Reads the changed folders of one side, with that side's settings.
async fn side(
    repository: &Repository,
    wanted: Wanted<'_>,
    (changed, ids): (&BTreeSet<String>, &BTreeSet<ApiId>),
) -> anyhow::Result<Side> {
    let Wanted { from, folder, is_base, apis, settings: text } = wanted;
    if let From::Commit(_) = from {
        std::fs::create_dir_all(folder.join("apis")).with_context(|| format!("cannot make {}", folder.display()))?;
        if let Some(bytes) = text {
            std::fs::write(folder.join(settings::FILE), bytes)?;
        }
    }
    // A tree is as right or wrong on any other host.
    let (settings, mut findings) = Settings::read(folder, |_| None)?;
    let mut refused = Vec::new();
    if let From::Commit(commit) = from {
        refused = repository.export(commit, apis, changed, &settings.policy, &folder.join("apis")).await?;
        let mut sound = changed.clone();
        sound.retain(|name| refused.iter().all(|refusal| refusal.folder != *name));
        if let Some(refusal) = refused.iter().find(|refusal| refusal.folder.is_empty()) {
            // Names that others chose, which may hold anything.
            bail!("{}", plain(&refusal.to_string()));
        }
        if !refused.is_empty() {
            repository.export(commit, apis, &sound, &settings.policy, &folder.join("apis")).await?;
        }
    }
    let mut scanner = Scanner::new(&settings)?;
    let mut tree = scanner.read_folders(ids)?.tree;
    if !is_base {
        let (strays, taken) = (scanner.strays(changed)?, taken(repository, wanted, &settings, &tree, changed).await?);
        let tree = Arc::make_mut(&mut tree);
        tree.findings.extend(strays.into_iter().chain(taken));
        // What was no folder of an API is as if it had not been there; what would be none is one that cannot be served.
        add_refused(tree, &refused, apis);
    }
    findings.retain(Diagnostic::is_error);
    Ok(Side { tree, findings, build: settings.build })
}

/// The hosts that changed folders claim and unchanged ones have. Of those, only the ones are read that name such a host.
async fn taken(
    repository: &Repository,
    wanted: Wanted<'_>,
    settings: &Settings,
    tree: &Tree,
    changed: &BTreeSet<String>,
) -> anyhow::Result<Vec<Diagnostic>> {
    let hosts = hosts::claimed(tree);
    let From::Commit(commit) = wanted.from else { return Ok(hosts::taken_beside(tree, settings, changed)?) };
    if hosts.is_empty() {
        return Ok(Vec::new());
    }
    let mut names = repository.holding(commit, wanted.apis, MANIFEST, &hosts).await?;
    names.retain(|name| !changed.contains(name));
    let root = wanted.folder.join("unchanged");
    let settings = Settings { apis: root.join("apis"), root, ..settings.clone() };
    let export = async |names| repository.export(commit, wanted.apis, names, &settings.policy, &settings.apis).await;
    let refused = export(&names).await?;
    if !refused.is_empty() {
        // What cannot be served has no hosts.
        let is_sound = |name: &&String| refused.iter().all(|refusal| refusal.folder != **name);
        let sound = names.iter().filter(is_sound).cloned().collect();
        export(&sound).await?;
    }
    Ok(hosts::taken_beside(tree, &settings, changed)?)
}

/// Takes in what is no file that an API may have, where a tree that lies in a folder says the same.
fn add_refused(tree: &mut Tree, refused: &[Refusal], apis: &str) {
    let mut broken: BTreeMap<ApiId, Vec<Diagnostic>> = BTreeMap::new();
    for refusal in refused {
        let path = format!("apis{}", refusal.path.strip_prefix(apis).unwrap_or_default());
        let finding = Diagnostic::error(refusal.code, path, refusal.why.clone(), refusal.hint);
        match ApiId::new(&refusal.folder) {
            Ok(id) => broken.entry(id).or_default().push(finding),
            Err(_) => tree.findings.push(finding),
        }
    }
    for (id, findings) in broken {
        tree.folders.insert(id.clone(), Folder::Broken(Arc::new(Broken { id, findings })));
    }
}

fn add_diffs(plan: &mut Plan, old: &Tree, new: &Tree) {
    for api in &mut plan.apis {
        let id = api.id.clone();
        for change in &mut api.changes {
            let Change::File { path, diff, .. } = change else { continue };
            let read = |tree: &Tree| tree.sound(&id).and_then(|api| api.read(path).ok());
            *diff = unified(read(old).as_deref(), read(new).as_deref());
        }
    }
}
