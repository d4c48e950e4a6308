//! The watcher on a real file system.

use std::fs;
use std::io::Write;

use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

/// Far longer than anything here may take; only there so that a mistake ends a test.
const LIMIT: Duration = Duration::from_secs(20);

/// A root with `apis/hello/main.py` in it, and its watcher.
struct Scene {
    folder: TempDir,
    watcher: Watcher,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("apis/hello")).unwrap();
        fs::write(folder.path().join("apis/hello/main.py"), "1").unwrap();
        let watcher = Watcher::start(folder.path(), &folder.path().join("apis")).unwrap();
        Self { folder, watcher }
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    async fn next(&mut self) -> Hints {
        timeout(LIMIT, self.watcher.next()).await.expect("a hint")
    }

    /// Everything that is said until it has been still for a good while.
    async fn rest(&mut self) -> Hints {
        let mut all = self.next().await;
        while let Ok(more) = timeout(Duration::from_millis(300), self.watcher.next()).await {
            all.folders.extend(more.folders);
            all.everything |= more.everything;
            all.settings |= more.settings;
        }
        all
    }

    /// Waits for a hint that says that everything may have changed.
    async fn everything(&mut self) {
        while !self.next().await.everything {}
    }
}

fn folders(names: &[&str]) -> Hints {
    Hints { folders: names.iter().map(ToString::to_string).collect(), ..Hints::default() }
}

#[tokio::test]
async fn a_save_is_reported_once_for_its_folder() {
    let mut scene = Scene::new();
    for n in 0..5 {
        let path = scene.path("apis/hello/main.py");
        fs::write(path, n.to_string()).unwrap();
        let saved = Instant::now();
        assert_eq!(scene.next().await, folders(&["hello"]));
        println!("a save settled after {:?}", saved.elapsed());
        assert!(timeout(Duration::from_millis(200), scene.watcher.next()).await.is_err(), "it is reported once");
    }
}

#[tokio::test]
async fn reading_is_no_change() {
    let mut scene = Scene::new();
    fs::read(scene.path("apis/hello/main.py")).unwrap();
    fs::read_dir(scene.path("apis/hello")).unwrap().for_each(drop);
    assert!(timeout(Duration::from_millis(300), scene.watcher.next()).await.is_err());
}

#[tokio::test]
async fn a_file_written_in_two_halves_is_not_reported_between_them() {
    let mut scene = Scene::new();
    for name in ["main.py", "new.py"] {
        let mut file = fs::File::create(scene.path("apis/hello").join(name)).unwrap();
        file.write_all(b"app = Fast").unwrap();
        fs::write(scene.path("skep.yaml"), name).unwrap();
        let between = scene.next().await;
        assert!(between.settings && between.folders.is_empty(), "other places do not wait: {between:?}");
        assert!(timeout(Duration::from_millis(500), scene.watcher.next()).await.is_err());
        file.write_all(b"API()").unwrap();
        drop(file);
        assert_eq!(scene.next().await, folders(&["hello"]));
    }
}

#[tokio::test]
async fn a_file_replaced_by_a_rename_is_reported() {
    let mut scene = Scene::new();
    fs::write(scene.path("outside"), "2").unwrap();
    fs::rename(scene.path("outside"), scene.path("apis/hello/main.py")).unwrap();
    assert_eq!(scene.rest().await, folders(&["hello"]));
    fs::write(scene.path("apis/hello/.main.py.part"), "3").unwrap();
    fs::rename(scene.path("apis/hello/.main.py.part"), scene.path("apis/hello/main.py")).unwrap();
    assert_eq!(scene.rest().await, folders(&["hello"]));
}

#[tokio::test]
async fn an_editors_hidden_file_left_open_holds_nothing_back() {
    let mut scene = Scene::new();
    let mut swap = fs::File::create(scene.path("apis/hello/.main.py.swp")).unwrap();
    swap.write_all(b"swap").unwrap();
    fs::write(scene.path("apis/hello/main.py"), "2").unwrap();
    let begun = Instant::now();
    assert_eq!(scene.next().await, folders(&["hello"]));
    assert!(begun.elapsed() < HOLD);
    drop(swap);
}

#[tokio::test]
async fn new_folders_with_files_and_removed_ones_are_reported_and_watched() {
    let mut scene = Scene::new();
    fs::create_dir_all(scene.path("apis/new/deep/er")).unwrap();
    fs::write(scene.path("apis/new/deep/er/data.py"), "1").unwrap();
    assert_eq!(scene.rest().await, folders(&["new"]));
    fs::write(scene.path("apis/new/deep/er/data.py"), "2").unwrap();
    assert_eq!(scene.rest().await, folders(&["new"]));
    fs::remove_dir_all(scene.path("apis/hello")).unwrap();
    assert_eq!(scene.rest().await, folders(&["hello"]));
    fs::rename(scene.path("apis/new"), scene.path("apis/newer")).unwrap();
    assert_eq!(scene.rest().await, folders(&["new", "newer"]));
    fs::write(scene.path("apis/newer/deep/er/data.py"), "3").unwrap();
    assert_eq!(scene.rest().await, folders(&["newer"]));
}

#[tokio::test]
async fn settings_are_reported_by_themselves_and_their_neighbours_not_at_all() {
    let mut scene = Scene::new();
    fs::write(scene.path("README.md"), "1").unwrap();
    fs::write(scene.path("skep.yaml.new"), "1").unwrap();
    fs::rename(scene.path("skep.yaml.new"), scene.path("skep.yaml")).unwrap();
    assert_eq!(scene.rest().await, Hints { settings: true, ..Hints::default() });
}

#[tokio::test]
async fn a_replaced_folder_is_everything_and_the_new_one_is_watched() {
    let mut scene = Scene::new();
    // As a checkout of another branch may do it.
    fs::remove_dir_all(scene.path("apis")).unwrap();
    scene.everything().await;
    fs::create_dir_all(scene.path("apis/other")).unwrap();
    scene.everything().await;
    scene.rest_if_any().await;
    fs::write(scene.path("apis/other/main.py"), "1").unwrap();
    assert_eq!(scene.next().await, folders(&["other"]));
    // Away and back: the same folder, which the system has stopped watching.
    fs::rename(scene.path("apis"), scene.path("away")).unwrap();
    fs::rename(scene.path("away"), scene.path("apis")).unwrap();
    scene.everything().await;
    scene.rest_if_any().await;
    fs::write(scene.path("apis/other/main.py"), "2").unwrap();
    assert_eq!(scene.next().await, folders(&["other"]));
}

#[tokio::test]
async fn a_link_that_points_elsewhere_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |below: &str| folder.path().join(below);
    for release in ["one", "two"] {
        fs::create_dir_all(path(release).join("apis/hello")).unwrap();
    }
    std::os::unix::fs::symlink("one", path("current")).unwrap();
    let watcher = Watcher::start(&path("current"), &path("current/apis")).unwrap();
    std::os::unix::fs::symlink("two", path("next")).unwrap();
    fs::rename(path("next"), path("current")).unwrap();
    let mut scene = Scene { folder, watcher };
    scene.everything().await;
    scene.rest_if_any().await;
    fs::write(scene.path("two/apis/hello/main.py"), "1").unwrap();
    assert_eq!(scene.next().await, folders(&["hello"]));
}

#[tokio::test]
async fn lost_events_are_everything() {
    let mut scene = Scene::new();
    let lost = notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
    scene.watcher.shared.note(Ok(lost));
    assert_eq!(scene.next().await, Hints { everything: true, ..Hints::default() });
    scene.watcher.shared.note(Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)));
    assert_eq!(scene.next().await, Hints { everything: true, ..Hints::default() });
}

#[test]
fn a_missing_folder_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let error = Watcher::start(folder.path(), &folder.path().join("apis")).unwrap_err();
    assert!(matches!(&error, WatchError::Missing { path, .. } if path.ends_with("/apis")), "{error}");
    fs::write(folder.path().join("apis"), "a file").unwrap();
    let error = Watcher::start(folder.path(), &folder.path().join("apis")).unwrap_err();
    assert!(error.to_string().contains("not a directory"), "{error}");
}

#[test]
fn reached_limits_say_what_to_set() {
    let error = notify::Error::new(notify::ErrorKind::MaxFilesWatch);
    let text = WatchError::from_notify(Path::new("apis"), &error).to_string();
    assert!(text.contains("fs.inotify.max_user_watches=") && text.contains("periodic look"), "{text}");
    let error = notify::Error::io(std::io::Error::from_raw_os_error(TOO_MANY_OPEN));
    let text = WatchError::from_notify(Path::new("apis"), &error).to_string();
    assert!(text.contains("fs.inotify.max_user_instances=") && text.contains("periodic look"), "{text}");
}

impl Scene {
    /// Lets pass what is still on its way.
    async fn rest_if_any(&mut self) {
        while timeout(Duration::from_millis(300), self.watcher.next()).await.is_ok() {}
    }
}
