//! Previews on a real file system, of commits of a real git.

use super::*;

/// A repository with one commit that holds these files; and its name.
fn repository(folder: &Path, files: &[(&str, &str)]) -> (Repository, String) {
    let git = |arguments: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.current_dir(folder).args(["-c", "user.name=Ada", "-c", "user.email=a@example.com"]);
        let ran = git.args(arguments).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    };
    git(&["init", "--quiet", "-b", "main"]);
    for (path, text) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    git(&["add", "-A", "--force"]);
    git(&["commit", "--quiet", "-m", "x"]);
    (Repository::at(folder), git(&["rev-parse", "HEAD"]))
}

fn settings(state: &Path) -> Settings {
    let mut settings = Settings::built_in(Path::new("/srv"));
    settings.state = state.to_owned();
    settings.push = Some(crate::settings::PushSettings {
        branch: "main".to_owned(),
        max_size: crate::tree::Size::mib(1),
        report: None,
    });
    settings.previews = Some(PreviewSettings { max: 2, ..PreviewSettings::default() });
    settings
}

fn ids(names: &[&str]) -> BTreeSet<ApiId> {
    names.iter().map(|name| ApiId::new(name).unwrap()).collect()
}

#[tokio::test]
async fn previews_come_whole_say_of_what_they_are_and_end_when_nobody_speaks_of_them() {
    let (state, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = settings(state.path());
    // What a stranger says of it is not what it is.
    let forged = r#"{"of":"a","pull_request":1,"commit":"x","source":"other","updated":"2999-01-01T00:00:00Z"}"#;
    let files = [
        ("apis/a/main.py", "1"),
        ("apis/a/.preview.json", forged),
        ("apis/b/main.py", "1"),
        ("apis/b/.preview.json/x", "a folder"),
        ("apis/c/main.py", "1"),
    ];
    let (repository, commit) = repository(work.path(), &files);
    let previews = Previews::of(&settings);
    assert!(previews.list().unwrap().is_empty());
    let whose = |number, source: Option<&str>| Whose {
        source: source.map(ToOwned::to_owned),
        pull_request: PullRequest::new(number).unwrap(),
    };
    let place = async |whose: &Whose, names: &[&str]| {
        let changed = ids(names);
        let offer = Offer {
            whose,
            repository: &repository,
            commit: &commit,
            prefix: "apis",
            changed: &changed,
            policy: &settings.policy,
            settings: settings.previews.as_ref().unwrap(),
        };
        previews.place(&offer).await
    };
    let there = || previews.list().unwrap().into_iter().map(|(id, _)| id).collect::<BTreeSet<_>>();
    let (one, theirs) = (whose(1, None), whose(1, Some("team")));
    let placed = place(&one, &["a", "b"]).await.unwrap();
    assert_eq!((placed.there, placed.gone), (ids(&["a--pr-1", "b--pr-1"]), ids(&[])));
    let all = previews.list().unwrap();
    assert!(all.iter().all(|(_, preview)| preview.commit == commit && preview.source.is_none()), "{all:?}");
    assert!(all.iter().all(|(_, preview)| preview.updated <= Timestamp::now()), "{all:?}");
    // There are so many, and each is of one pull request alone.
    assert!(matches!(place(&whose(2, None), &["c"]).await, Err(PreviewError::Full { there: 2, wanted: 1, most: 2 })));
    assert!(matches!(place(&theirs, &["a"]).await, Err(PreviewError::Taken { .. })));
    assert!(matches!(place(&one, &["a--pr-1"]).await, Err(PreviewError::Reserved(_))));
    let placed = place(&one, &["b"]).await.unwrap();
    assert_eq!((placed.there, placed.gone, there()), (ids(&["b--pr-1"]), ids(&["a--pr-1"]), ids(&["b--pr-1"])));
    assert!(previews.end(&theirs).await.unwrap().is_empty());

    let now = Timestamp::now();
    assert!(sweep::sweep(&settings, now).await.unwrap().is_empty());
    let later = now + jiff::SignedDuration::from_hours(73);
    let ended = sweep::sweep(&settings, later).await.unwrap();
    assert!(ended[0].why.contains("previews.keep") && ended[0].ids == ["b--pr-1".parse().unwrap()], "{ended:?}");
    assert!(there().is_empty());
    // Whoever cannot wait for another one does not.
    place(&one, &["a"]).await.unwrap();
    let busy = previews.lock().await.unwrap();
    assert!(sweep::sweep_at_once(&settings, later).await.unwrap_err().is_busy());
    drop(busy);
    assert_eq!(sweep::sweep_at_once(&settings, later).await.unwrap().len(), 1);
    // Of a source that is followed no more, and without the setting.
    // Another host has reconciled, or this one again; and where records are a file there is no other.
    place(&one, &["a", "b"]).await.unwrap();
    let mut shared = settings.clone();
    assert!(!term::is_behind(&shared, 4));
    shared.records.url = Some(crate::settings::DatabaseUrl("postgres://h/d".to_owned()));
    assert!(!term::is_behind(&shared, 0) && term::is_behind(&shared, 4));
    let ended = term::give_up(&shared).await.unwrap();
    assert!(ended[0].ids.len() == 2 && there().is_empty(), "{ended:?}");
    term::sign(&shared, 5).unwrap();
    assert!(!term::is_behind(&shared, 5) && term::is_behind(&shared, 6));
    fs::remove_file(state.path().join("previews.term")).unwrap();
    place(&theirs, &["a"]).await.unwrap();
    assert!(sweep::sweep(&settings, now).await.unwrap()[0].why.contains("served no more"));
    place(&one, &["a"]).await.unwrap();
    let without = Settings { previews: None, ..settings.clone() };
    assert!(sweep::sweep(&without, now).await.unwrap()[0].why.contains("no `previews`"));
    assert!(there().is_empty());
    let left: Vec<_> = fs::read_dir(state.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["previews"], "nothing lies about");
}

#[tokio::test]
async fn what_no_folder_may_hold_changes_nothing() {
    let (state, work) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::os::unix::fs::symlink("/etc/passwd", work.path().join("link")).unwrap();
    fs::create_dir_all(work.path().join("apis/a")).unwrap();
    fs::rename(work.path().join("link"), work.path().join("apis/a/main.py")).unwrap();
    let settings = settings(state.path());
    let (repository, commit) = repository(work.path(), &[]);
    let (previews, changed) = (Previews::of(&settings), ids(&["a"]));
    let whose = Whose { source: None, pull_request: PullRequest::new(1).unwrap() };
    let offer = Offer {
        whose: &whose,
        repository: &repository,
        commit: &commit,
        prefix: "apis",
        changed: &changed,
        policy: &settings.policy,
        settings: settings.previews.as_ref().unwrap(),
    };
    assert!(matches!(previews.place(&offer).await, Err(PreviewError::Refused(_))));
    assert!(previews.list().unwrap().is_empty());
}
