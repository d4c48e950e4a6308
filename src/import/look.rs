//! A look at the old system and at the tree, which makes an import of the two. Writes nothing but drafts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use futures_util::{StreamExt as _, pin_mut};
use jiff::Timestamp;

use super::draft::{self, Draft, Drafts, There};
use super::keys::{KeyRow, Sources, keys};
use super::manifest::one_line;
use super::plans::plans;
use super::{ApiImport, Import, Verdict};
use crate::records::old_system::{OldApi, OldSystem};
use crate::records::{Records, RecordsError};
use crate::settings::{self, Settings, SettingsError};
use crate::tree::{ApiId, Diagnostic, Folder, RateLimit, Scanner, TreeError};

/// What somebody wants of an import.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// These rows alone; all where none is named.
    pub only: BTreeSet<String>,
    /// Replace folders that somebody has edited.
    pub overwrite: bool,
    /// Take rows whose folder `skep check` refuses.
    pub keep_broken: bool,
    /// The limits of plans.
    pub plans: BTreeMap<String, RateLimit>,
}

/// Why there is no import.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The old system or the records cannot be read or written.
    #[error(transparent)]
    Records(#[from] RecordsError),
    /// The drafts cannot be checked.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The settings cannot be read.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// No row can be seen.
    #[error(
        "public.apis shows no row to this role, since row level security is on; connect as the owner of the table, or as a \
         role that a policy lets read all rows"
    )]
    Hidden,
    /// The operating system refused.
    #[error("cannot use {path}")]
    Io {
        /// What was to be read or written.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// Looks at the old system, writes drafts of its APIs, checks them, and says what is to be done.
///
/// # Errors
/// Where anything cannot be read. A row that cannot be taken is none: it is in the import, with the reason.
pub async fn look(
    old: OldSystem<'_>,
    from: String,
    records: &dyn Records,
    settings: &Settings,
    wish: &Wish,
    drafts: &Drafts,
) -> Result<Import, ImportError> {
    let users = old.users().await?;
    let consumers = old.consumer_keys().await?;
    let mut notes = missing(&old);
    let hidden = old.hidden().await?;
    let (mut apis, mut rows) = (Vec::new(), Vec::new());
    {
        let stream = old.apis(settings.policy.max_file.0).await?;
        pin_mut!(stream);
        while let Some(row) = stream.next().await {
            let row = row?;
            if wish.only.is_empty() || wish.only.contains(&row.id) {
                let (api, key) = draft(&row, settings, wish, drafts)?;
                apis.push(api);
                rows.extend(key);
            }
        }
    }
    old.end().await?;
    if apis.is_empty() && wish.only.is_empty() && hidden.iter().any(|table| table == "apis") {
        return Err(ImportError::Hidden);
    }
    for table in &hidden {
        notes.push(format!(
            "row level security is on for public.{table}: rows that it hides from this role are not seen"
        ));
    }
    let there: BTreeSet<&str> = apis.iter().map(|api: &ApiImport| api.id.as_str()).collect();
    let strangers: Vec<String> =
        wish.only.iter().filter(|id| !there.contains(id.as_str())).map(|id| format!("there is no row {id}")).collect();
    notes.extend(strangers);
    check(&mut apis, &mut rows, settings, wish, drafts)?;

    let consumers: Vec<_> = consumers
        .into_iter()
        .filter(|key| wish.only.is_empty() || key.api.as_ref().is_some_and(|api| wish.only.contains(api)))
        .collect();
    let known = records.every_key().await?;
    let declared = settings.keys.iter().map(|key| key.hash).collect();
    let now = Timestamp::now();
    let sources =
        Sources { rows: &rows, users: &users, consumers: &consumers, known: &known, declared: &declared, now };
    let (keys, new_keys) = keys(&sources);
    let used = new_keys.iter().chain(&known).filter_map(|key| key.terms.plan.clone()).collect();
    let plans = plans(&used, &wish.plans, settings, read_settings(&settings.root)?.as_deref());
    Ok(Import { from, apis, keys, plans, notes, new_keys })
}

/// What stands in `skep.yaml` now; `None` where it is not there.
///
/// # Errors
/// Where it cannot be read.
pub fn read_settings(root: &Path) -> Result<Option<Vec<u8>>, ImportError> {
    let path = root.join(settings::FILE);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ImportError::Io { path: path.display().to_string(), source }),
    }
}

fn missing(old: &OldSystem<'_>) -> Vec<String> {
    let means = |what: &str| match what {
        "public.users" | "public.users.id" => "every key gets the plan free",
        "public.users.plan" => "keys without a limit of their own get the plan free",
        "public.users.custom_rate_limit" => "no key has a limit of its own",
        "public.consumer_api_keys" => "there are no keys of consumers",
        "public.apis.user_id" => "whose an API is, is not known: its key gets the plan free",
        "public.apis.api_key" => "there are no keys of APIs",
        "public.apis.code_snapshot" => "there is no code",
        _ => "it is left out",
    };
    old.missing()
        .iter()
        .map(|what| format!("{what} is not there, or this role may not read it: {}", means(what)))
        .collect()
}

/// Drafts the folder of a row, and says what becomes of it, as far as the row and the tree say.
fn draft(
    row: &OldApi,
    settings: &Settings,
    wish: &Wish,
    drafts: &Drafts,
) -> Result<(ApiImport, Option<KeyRow>), ImportError> {
    let (id, _) = one_line(&row.id, 100);
    let name = row.name.as_deref().map(|name| one_line(name, 100).0).filter(|name| !name.is_empty());
    let name = name.unwrap_or_else(|| id.clone());
    let mut import = ApiImport {
        id,
        name: name.clone(),
        verdict: Verdict::Skipped,
        reason: String::new(),
        notes: Vec::new(),
        left_out: Vec::new(),
        findings: Vec::new(),
    };
    let draft = match Draft::of(row) {
        Ok(draft) => draft,
        Err(reason) => return Ok((ApiImport { reason, ..import }, None)),
    };
    let folder = settings.apis.join(draft.id.as_str());
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |source| ImportError::Io { path, source }
    };
    (import.verdict, import.reason) = match draft::compare(&folder, &draft.content).map_err(failed(&folder))? {
        There::Nothing => (Verdict::Create, String::new()),
        There::Same => (Verdict::Unchanged, String::new()),
        There::Imported => (Verdict::Update, String::new()),
        There::Edited(extra) if wish.overwrite => {
            import.notes.extend((!extra.is_empty()).then(|| format!("it loses {}", extra.join(", "))));
            (Verdict::Replace, String::new())
        }
        There::Edited(_) => (Verdict::Edited, "edited since, left as it is; --overwrite replaces it".to_owned()),
        There::Other => {
            let reason = format!("{} is there and is no folder; move it away", folder.display());
            return Ok((ApiImport { reason, ..import }, None));
        }
    };
    if import.verdict.writes() {
        let aside = drafts.folder(draft.id.as_str());
        draft::write(&aside, &draft.content).map_err(failed(&aside))?;
        import.notes.extend(draft.notes);
        import.left_out = draft.left_out;
    }
    let key = KeyRow { api: draft.id, name, user: row.user.clone(), key: row.key };
    Ok((import, Some(key)))
}

/// Has the drafts read as `skep check` reads the tree, and takes out what it refuses.
fn check(
    apis: &mut [ApiImport],
    rows: &mut Vec<KeyRow>,
    settings: &Settings,
    wish: &Wish,
    drafts: &Drafts,
) -> Result<(), ImportError> {
    let (root, below) = (drafts.root().to_owned(), drafts.root().join("apis"));
    let look = Scanner::new(&Settings { root, apis: below, ..settings.clone() })?.read()?;
    for api in apis.iter_mut().filter(|api| api.verdict.writes()) {
        let Some(folder) = ApiId::new(&api.id).ok().and_then(|id| look.tree.folders.get(&id)) else { continue };
        api.findings = folder.findings().to_vec();
        if !matches!(folder, Folder::Broken(_)) {
            continue;
        }
        if wish.keep_broken {
            api.notes.push("`skep check` refuses it: it is written all the same, and not served".to_owned());
        } else {
            let first = api.findings.iter().find(|finding| finding.is_error()).map(Diagnostic::to_string);
            api.reason = format!("{}; --keep-broken takes it all the same", first.unwrap_or_default());
            api.verdict = Verdict::Skipped;
            rows.retain(|row| row.api.as_str() != api.id);
        }
    }
    Ok(())
}
